//! Mount points that an image lacks.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ports::images::ImageConfig;
use ports::runtime::{ContainerConfig, ContainerRuntime, Mount, MountPropagation};

use crate::scenarios;
use crate::scenarios::Scenario;
use crate::world::{World, container, within};

pub(crate) fn all() -> Vec<Scenario> {
    scenarios![containers_share_mount_points]
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("list").flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

async fn containers_share_mount_points() {
    let mut world = World::new(ImageConfig::default());
    symlink("/else/where", world.path("layer/link")).expect("link");
    let (directory, file) = (world.path("given"), world.path("given/file"));
    fs::create_dir(&directory).expect("mkdir");
    fs::write(&file, "text\n").expect("write");
    let mount = |host_path: &Path, at: &str| Mount {
        container_path: at.into(),
        host_path: host_path.to_path_buf(),
        readonly: false,
        recursive_readonly: false,
        propagation: MountPropagation::Private,
    };
    let config = |name: &str| ContainerConfig {
        command: [
            "sh",
            "-c",
            "cat /new/dir/file /own/file /else/where/dir/file",
        ]
        .map(str::to_owned)
        .to_vec(),
        mounts: vec![
            mount(&directory, "/new/dir"),
            mount(&file, "/own/file"),
            // The image leads elsewhere.
            mount(&directory, "/link/dir"),
        ],
        ..container(name)
    };
    let sandbox = world.sandbox().await;
    let mut made = Vec::new();
    for name in ["one", "two"] {
        let id = world.start(&sandbox, config(name)).await;
        assert_eq!(world.exit(&id).await, (0, "Completed".into()), "{name}");
        assert_eq!(world.log(&id).await, ["stdout F text"; 3], "{name}");
        let own = world.path(&format!("state/{sandbox}/{id}/upper"));
        assert_eq!(names(&own), ["else"], "{name} made no more by itself");
        made.push(id);
    }
    let shared = world.path("state/mount-points");
    let before = names(&shared);
    assert_eq!(before.len(), 1, "one for both: {before:?}");
    world.restart_engine().await;
    assert_eq!(names(&shared), before, "containers have it");
    for id in made {
        within(world.runtime().remove_container(&id, false))
            .await
            .expect("remove");
    }
    world.restart_engine().await;
    assert_eq!(names(&shared), Vec::<String>::new(), "nobody has it");
    world.finish().await;
}
