//! Images mounted beside the root (volumes of kind `image`).

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use ports::images::ImageConfig;
use ports::runtime::{ContainerConfig, ContainerRuntime, ImageMount, NamespaceMode};
use rustix::fs::{CWD, FileType, Mode};

use crate::scenarios;
use crate::scenarios::Scenario;
use crate::users;
use crate::world::{FakeImages, World, container, within};

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![
        images_are_mounted_beside_the_root,
        what_an_image_lacks_makes_no_container,
        images_keep_their_owners_inside_a_pods_users,
    ]
}

/// A world with images of two layers and of one, the lower of the two.
fn world() -> World {
    let world = World::new(ImageConfig::default());
    let (upper, lower) = (world.path("data-upper"), world.path("data-lower"));
    for layer in [&upper, &lower] {
        fs::create_dir_all(layer.join("deep/er")).expect("mkdir");
    }
    fs::write(lower.join("deep/one"), "one\n").expect("write");
    fs::write(lower.join("hidden"), "seen\n").expect("write");
    fs::write(upper.join("deep/er/two"), "two\n").expect("write");
    chown(upper.join("deep/er/two"), Some(1000), Some(1001)).expect("chown");
    symlink("/deep", upper.join("link")).expect("link");
    for (layer, name) in [(&upper, "hidden"), (&lower, "nothing")] {
        let (path, mode) = (layer.join(name), Mode::empty());
        rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, mode, 0).expect("whiteout");
    }
    world
}

fn mount(image_id: &str, sub_path: &str, at: &str) -> ImageMount {
    ImageMount {
        container_path: at.into(),
        image_id: image_id.into(),
        image: "data:1".into(),
        sub_path: sub_path.into(),
    }
}

fn config(name: &str, script: &str, image_mounts: Vec<ImageMount>) -> ContainerConfig {
    ContainerConfig {
        command: vec!["sh".into(), "-c".into(), script.into()],
        image_mounts,
        ..container(name)
    }
}

async fn images_are_mounted_beside_the_root() {
    let mut world = world();
    let sandbox = world.sandbox().await;
    let script = "cat /all/deep/one /all/deep/er/two /part/one /file /inner/two; ls /all /single; \
                  for d in /all /part /single; do touch $d/x 2> /dev/null || echo refused; done; echo x 2> /dev/null > /file || echo refused; \
                  grep -cE ' /(all|part|file|single|inner) ro,' /proc/self/mountinfo";
    let (two, one) = (FakeImages::TWO_LAYERS, FakeImages::ONE_LAYER);
    let mounts = || {
        vec![
            mount(two, "link/er", "/inner"),
            mount(two, "", "/all"),
            mount(two, "../link/", "/part"),
            mount(two, "deep/er/two", "/file"),
            mount(one, "", "/single"),
        ]
    };
    let expected = [
        "one", "two", "one", "two", "two", "/all:", "deep", "link", "", "/single:", "deep",
        "hidden", "refused", "refused", "refused", "refused", "5",
    ];
    let first = world
        .start(&sandbox, config("first", script, mounts()))
        .await;
    assert_eq!(users::said(&world, &first).await, expected);
    // What is not started yet is what it was made from, whatever engine starts it.
    let runtime = world.runtime();
    let second = config("second", script, mounts());
    let second = within(runtime.create_container(&sandbox, second)).await;
    let second = second.expect("create");
    world.restart_engine().await;
    let used = runtime::image_users(&world.path("state")).expect("records");
    for image in [two, one, FakeImages::ID] {
        let user = used.get(image).map(String::as_str).unwrap_or_default();
        assert!(user.contains("of Pod"), "{image}: {used:?}");
    }
    let started = within(world.runtime().start_container(&second)).await;
    started.expect("start");
    assert_eq!(users::said(&world, &second).await, expected);
    world.finish().await;
}

async fn what_an_image_lacks_makes_no_container() {
    let world = world();
    let sandbox = world.sandbox().await;
    let two = FakeImages::TWO_LAYERS;
    let no_part = |path: &str| {
        format!(
            "ImageVolumeMountFailed: subPath {path:?} of image \"data:1\": no such file or directory"
        )
    };
    let no_image = "ImageVolumeMountFailed: sha256:0: not found".to_owned();
    let rows = [
        (mount(two, "nowhere", "/data"), no_part("nowhere")),
        (mount(two, "../../etc", "/data"), no_part("../../etc")),
        (mount(two, "hidden", "/data"), no_part("hidden")),
        (mount("sha256:0", "", "/data"), no_image),
    ];
    for (mount, expected) in rows {
        let runtime = world.runtime();
        let made = within(runtime.create_container(&sandbox, config("c", "true", vec![mount])));
        assert_eq!(made.await.expect_err("refused").to_string(), expected);
        assert_eq!(runtime.list_containers(None).await, []);
        let left = |path: &Path| {
            fs::read_dir(path)
                .expect("list")
                .flatten()
                .any(|e| e.path().is_dir())
        };
        assert!(!left(&world.path("state").join(&sandbox)), "{expected}");
    }
    world.finish().await;
}

async fn images_keep_their_owners_inside_a_pods_users() {
    let world = world();
    let sandbox = users::sandbox(&world, NamespaceMode::Container).await;
    let script = "stat -c '%u:%g %n' /all/deep /all/deep/er/two /part/two /single/deep/one; touch /all/x 2> /dev/null || echo refused";
    let mounts = vec![
        mount(FakeImages::TWO_LAYERS, "", "/all"),
        mount(FakeImages::TWO_LAYERS, "deep/er", "/part"),
        mount(FakeImages::ONE_LAYER, "", "/single"),
    ];
    let id = world.start(&sandbox, config("app", script, mounts)).await;
    assert_eq!(
        users::said(&world, &id).await,
        [
            "0:0 /all/deep",
            "1000:1001 /all/deep/er/two",
            "1000:1001 /part/two",
            "0:0 /single/deep/one",
            "refused"
        ]
    );
    world.finish().await;
}
