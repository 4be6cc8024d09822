//! Pulls from a registry that behaves, and from one that does not.

mod common;

use std::sync::{Arc, Mutex};

use common::image::{Tar, TestImage, descriptor, gzip, plain, sample};
use common::registry::{Fault, TestRegistry};
use common::{open, quick, remains, tree};
use images::{Digest, HostsConfig, Store};
use ports::images::{AuthConfig, ImageError, Images, PullProgress, PullStage};
use serde_json::json;
use tokio::sync::Semaphore;

#[tokio::test]
async fn an_image_is_pulled_unpacked_and_described() {
    let registry = TestRegistry::start().await;
    let image = sample();
    registry.put("team/app", "1.0", &image);
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let name = registry.name("team/app:1.0");
    let heard: Arc<Mutex<Vec<PullProgress>>> = Arc::default();
    let sink = {
        let heard = heard.clone();
        Arc::new(move |p| heard.lock().unwrap().push(p))
    };

    let pulled = store.pull_image(&name, None, Some(sink)).await.unwrap();

    assert_eq!(pulled.id, image.id());
    assert_eq!(pulled.repo_tags, std::slice::from_ref(&name));
    assert_eq!(
        pulled.repo_digests,
        [registry.name(&format!("team/app@{}", Digest::of(&image.manifest)))]
    );
    assert_eq!(pulled.size_bytes, image.size());
    assert_eq!(
        (pulled.config.env, pulled.config.cmd, pulled.config.volumes),
        (vec!["A=1".into()], vec!["sh".into()], vec!["/data".into()])
    );
    let layers = store.rootfs(&pulled.id).await.unwrap().layers;
    assert_eq!(
        tree(&layers[0])
            .into_iter()
            .map(|(k, v)| format!("{k}: {v}"))
            .collect::<Vec<_>>(),
        [
            "etc: dir 755 0:0",
            "etc/passwd: char 0 0 0:0",
            "new: file \"n\" 644 0:0",
        ]
    );
    assert_eq!(tree(&layers[1])["etc/passwd"], "file \"root\" 600 12:12");
    assert_eq!(tree(&layers[2])["bin/sh"], "file \"#!\" 4755 0:0");
    assert_eq!(tree(&layers[2])["tmp"], "dir 1777 0:0");
    let done = heard
        .lock()
        .unwrap()
        .iter()
        .filter(|p| p.stage == PullStage::Done && p.done_bytes == p.total_bytes)
        .count();
    assert_eq!(done, 3);

    // Found by every name it has, and after the store is opened anew.
    drop(store);
    let store = open(root.path());
    let short = &pulled.id["sha256:".len()..][..12];
    for name in [name.as_str(), &pulled.id, short, &pulled.repo_digests[0]] {
        assert_eq!(
            store
                .image_status(name)
                .await
                .unwrap()
                .map(|i| i.id)
                .as_ref(),
            Some(&pulled.id),
            "{name}"
        );
    }
    assert!(store.image_status("busybox").await.unwrap().is_none());
}

#[tokio::test]
async fn a_second_pull_asks_only_for_the_digest_and_a_moved_tag_moves() {
    let registry = TestRegistry::start().await;
    let (old, new) = (
        sample(),
        TestImage::new(&[(Tar::new().file("v2", "2").bytes(), gzip)]),
    );
    registry.put("app", "latest", &old);
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let name = registry.name("app");
    store.pull_image(&name, None, None).await.unwrap();
    let before = registry.asked("").len();

    store.pull_image(&name, None, None).await.unwrap();
    assert_eq!(
        registry.asked("")[before..],
        ["HEAD /v2/app/manifests/latest"]
    );

    registry.put("app", "latest", &new);
    let moved = store.pull_image(&name, None, None).await.unwrap();
    assert_eq!(
        (moved.id, moved.repo_tags),
        (new.id(), vec![registry.name("app:latest")])
    );
    let left = store.image_status(&old.id()).await.unwrap().unwrap();
    assert_eq!(left.repo_tags, Vec::<String>::new());
    assert_eq!(left.repo_digests.len(), 1);
}

#[tokio::test]
async fn layers_are_shared_between_images_and_removed_with_the_last() {
    let registry = TestRegistry::start().await;
    let base = Tar::new().file("base", "b").bytes();
    let one = TestImage::with_config(&[(base.clone(), gzip)], json!({"Cmd": ["one"]}));
    let two = TestImage::with_config(
        &[(base, gzip), (Tar::new().file("two", "2").bytes(), gzip)],
        json!({}),
    );
    registry.put("one", "1", &one);
    registry.put("two", "2", &two);
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    store
        .pull_image(&registry.name("one:1"), None, None)
        .await
        .unwrap();
    store
        .pull_image(&registry.name("two:2"), None, None)
        .await
        .unwrap();
    let base_blob = format!("/blobs/{}", Digest::of(&one.layers[0]));
    assert_eq!(registry.asked(&base_blob).len(), 1);
    assert_eq!(
        store.rootfs(&one.id()).await.unwrap().layers[0],
        store.rootfs(&two.id()).await.unwrap().layers[1]
    );

    store.remove_image(&registry.name("one:1")).await.unwrap();
    assert!(store.image_status(&one.id()).await.unwrap().is_none());
    assert!(
        store
            .rootfs(&two.id())
            .await
            .unwrap()
            .layers
            .iter()
            .all(|l| l.is_dir())
    );
    store.tag(&two.id(), "other:x").await.unwrap();
    store.remove_image(&registry.name("two:2")).await.unwrap();
    assert_eq!(
        store
            .image_status("other:x")
            .await
            .unwrap()
            .unwrap()
            .repo_digests,
        Vec::<String>::new()
    );
    store.remove_image(&two.id()).await.unwrap();
    assert_eq!(remains(root.path()), Vec::<String>::new());
    assert!(matches!(
        store.remove_image("other:x").await,
        Err(ImageError::NotFound { .. })
    ));
}

#[tokio::test]
async fn interrupted_downloads_go_on_where_they_broke_off() {
    for ranges in [true, false] {
        let registry = TestRegistry::start().await;
        let text: String = (0..200_000_u32)
            .map(|i| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 27) as u8 % 26))
            .collect();
        let image = TestImage::new(&[(Tar::new().file("big", &text).bytes(), plain)]);
        registry.put("app", "1", &image);
        if !ranges {
            registry.forget_ranges();
        }
        registry.fault("/blobs/", Fault::Status(503), 1);
        registry.fault(Digest::of(&image.layers[0]).as_str(), Fault::Cut(40_000), 1);
        registry.fault(Digest::of(&image.layers[0]).as_str(), Fault::Cut(50_000), 1);
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        let pulled = store
            .pull_image(&registry.name("app:1"), None, None)
            .await
            .unwrap();
        let layer = &store.rootfs(&pulled.id).await.unwrap().layers[0];
        assert_eq!(std::fs::read_to_string(layer.join("big")).unwrap(), text);
        assert!(
            registry.asked(" from ").len() >= 2,
            "{:?}",
            registry.asked("")
        );
    }
}

#[tokio::test]
async fn what_a_registry_does_wrong_is_told_apart() {
    let swapped = gzip(&Tar::new().file("evil", "e").bytes());
    let rows: [(&str, &str, Fault, usize, &str); 9] = [
        (
            "404 for the tag",
            "/manifests/1",
            Fault::Status(404),
            9,
            "not found",
        ),
        (
            "broken server",
            "/manifests/1",
            Fault::Status(500),
            9,
            "failed to reach registry",
        ),
        (
            "403",
            "/manifests/1",
            Fault::Status(403),
            9,
            "pull access denied",
        ),
        (
            "a long 429",
            "/manifests/1",
            Fault::Busy(3600),
            1,
            "failed to reach registry",
        ),
        (
            "manifest of another digest",
            "/manifests/sha256",
            Fault::Swap(b"{}".to_vec()),
            9,
            "has digest",
        ),
        (
            "layer of another digest",
            "LAYER",
            Fault::Swap(swapped.clone()),
            9,
            "refused",
        ),
        (
            "garbage as layer",
            "LAYER",
            Fault::Swap(vec![7; 4096]),
            9,
            "refused",
        ),
        (
            "layer always cut",
            "LAYER",
            Fault::Cut(0),
            99,
            "failed to reach registry",
        ),
        ("layer gone", "LAYER", Fault::Status(404), 9, "not found"),
    ];
    for (name, part, fault, times, expected) in rows {
        let registry = TestRegistry::start().await;
        let image = TestImage::new(&[(Tar::new().file("good", &"g".repeat(5000)).bytes(), gzip)]);
        registry.put("app", "1", &image);
        let part = part.replace("LAYER", Digest::of(&image.layers[0]).as_str());
        registry.fault(&part, fault, times);
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path());
        let error = store
            .pull_image(&registry.name("app:1"), None, None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert_eq!(remains(root.path()), Vec::<String>::new(), "{name}");
        assert!(store.list_images().await.unwrap().is_empty(), "{name}");
        // And it works once the registry does.
        if times < 9 {
            store
                .pull_image(&registry.name("app:1"), None, None)
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn nobody_home_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let error = store
        .pull_image(&format!("{address}/app:1"), None, None)
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn credentials_come_from_secrets_and_from_docker_config() {
    let registry = TestRegistry::start().await;
    registry.put("app", "1", &sample());
    registry.require_login("me:secret");
    let root = tempfile::tempdir().unwrap();
    let store = open(&root.path().join("a"));
    let name = registry.name("app:1");
    let auth = |password: &str| {
        Some(AuthConfig {
            username: "me".into(),
            password: password.into(),
            identity_token: String::new(),
        })
    };
    for wrong in [None, auth("guess")] {
        let error = store.pull_image(&name, wrong, None).await.unwrap_err();
        assert!(matches!(error, ImageError::Unauthorized { .. }), "{error}");
    }
    store.pull_image(&name, auth("secret"), None).await.unwrap();
    assert!(
        registry
            .asked("/token")
            .last()
            .unwrap()
            .contains("scope=repository%3Ax%3Apull&service=test")
    );

    let file = root.path().join("config.json");
    std::fs::write(
        &file,
        json!({"auths": {&registry.address: {"auth": "bWU6c2VjcmV0"}}}).to_string(),
    )
    .unwrap();
    let hosts = HostsConfig {
        docker_config: Some(file),
        retry: quick(),
        ..HostsConfig::default()
    };
    Store::open(&root.path().join("b"), hosts)
        .unwrap()
        .pull_image(&name, None, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_default_mirror_serves_every_registry() {
    let (empty, full) = (TestRegistry::start().await, TestRegistry::start().await);
    full.put("library/busybox", "1.36", &sample());
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("certs.d/_default");
    std::fs::create_dir_all(&directory).unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        full.address, empty.address
    );
    std::fs::write(directory.join("hosts.toml"), text).unwrap();
    let hosts = HostsConfig {
        certs_dir: Some(root.path().join("certs.d")),
        retry: quick(),
        ..HostsConfig::default()
    };
    let store = Store::open(&root.path().join("store"), hosts).unwrap();
    let pulled = store.pull_image("busybox:1.36", None, None).await.unwrap();
    assert_eq!(pulled.repo_tags, ["docker.io/library/busybox:1.36"]);
    assert_eq!(
        empty.asked("").first().unwrap(),
        "HEAD /v2/library/busybox/manifests/1.36?ns=docker.io"
    );
    let missing = store
        .pull_image("busybox:no-such-tag", None, None)
        .await
        .unwrap_err();
    assert_eq!(
        missing.to_string(),
        "docker.io/library/busybox:no-such-tag: not found"
    );
}

#[tokio::test]
async fn an_index_gives_this_platform_and_keeps_its_own_digest() {
    let registry = TestRegistry::start().await;
    let (mine, other) = (sample(), TestImage::new(&[]));
    registry.put("app", "mine", &mine);
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let entry = |image: &TestImage, arch: &str| {
        let mut d = descriptor(
            "application/vnd.oci.image.manifest.v1+json",
            &image.manifest,
        );
        d["platform"] = json!({"os": "linux", "architecture": arch});
        d
    };
    let index =
        json!({"schemaVersion": 2, "manifests": [entry(&other, "s390x"), entry(&mine, arch)]})
            .to_string();
    let digest = registry.put_manifest("app", "1", index.as_bytes());
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let by_digest = registry.name(&format!("app@{digest}"));
    let pulled = store.pull_image(&by_digest, None, None).await.unwrap();
    assert_eq!(
        (pulled.id, pulled.repo_tags, pulled.repo_digests),
        (mine.id(), vec![], vec![by_digest])
    );

    let index = json!({"schemaVersion": 2, "manifests": [entry(&other, "s390x")]}).to_string();
    registry.put_manifest("app", "2", index.as_bytes());
    let error = store
        .pull_image(&registry.name("app:2"), None, None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("no match for platform linux/"),
        "{error}"
    );
}

#[tokio::test]
async fn pulls_at_the_same_time_share_the_work() {
    let registry = TestRegistry::start().await;
    registry.put("app", "1", &sample());
    registry.put("alias", "1", &sample());
    let gate = Arc::new(Semaphore::new(0));
    registry.fault("/v2/app/manifests/1", Fault::Hold(gate.clone()), 1);
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (name, alias) = (registry.name("app:1"), registry.name("alias:1"));
    let (a, b, c) = tokio::join!(
        store.pull_image(&name, None, None),
        store.pull_image(&name, None, None),
        async {
            let pulled = store.pull_image(&alias, None, None).await;
            gate.add_permits(1);
            pulled
        },
    );
    assert_eq!(a.unwrap().id, b.unwrap().id);
    assert_eq!(c.unwrap().repo_tags, [alias]);
    assert_eq!(registry.asked("HEAD /v2/app/manifests/1").len(), 1);
    let layer = format!("/blobs/{}", Digest::of(&sample().layers[0]));
    assert_eq!(registry.asked(&layer).len(), 1);
    assert_eq!(
        store
            .image_status(&name)
            .await
            .unwrap()
            .unwrap()
            .repo_tags
            .len(),
        2
    );
}

#[tokio::test]
async fn an_abandoned_pull_leaves_nothing_half_made() {
    let registry = TestRegistry::start().await;
    let image = TestImage::new(&[(Tar::new().file("f", "f").bytes(), gzip)]);
    registry.put("app", "1", &image);
    let gate = Arc::new(Semaphore::new(0));
    registry.fault(
        Digest::of(&image.layers[0]).as_str(),
        Fault::Hold(gate.clone()),
        1,
    );
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let name = registry.name("app:1");
    let (started, waiting) = tokio::sync::oneshot::channel();
    let started = Mutex::new(Some(started));
    let sink = Arc::new(move |p: PullProgress| {
        if p.stage == PullStage::Downloading
            && let Some(started) = started.lock().unwrap().take()
        {
            started.send(()).unwrap();
        }
    });
    tokio::select! {
        _ = store.pull_image(&name, None, Some(sink)) => panic!("the layer is held back"),
        told = waiting => told.unwrap(),
    }
    gate.add_permits(1);
    let pulled = store.pull_image(&name, None, None).await.unwrap();
    assert_eq!(pulled.id, image.id());
    // Opening anew removes what the abandoned thread may still have had in hand.
    drop(store);
    let _store = open(root.path());
    let kept = remains(root.path());
    assert_eq!(
        kept.iter().filter(|k| k.starts_with("layers/")).count(),
        1,
        "{kept:?}"
    );
    assert!(!kept.iter().any(|k| k.starts_with("tmp/")), "{kept:?}");
}

#[tokio::test]
async fn opening_clears_what_a_crash_left_and_only_one_may_open() {
    let registry = TestRegistry::start().await;
    registry.put("app", "1", &sample());
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let pulled = store
        .pull_image(&registry.name("app:1"), None, None)
        .await
        .unwrap();
    let whole = remains(root.path());
    let busy = Store::open(root.path(), HostsConfig::default())
        .map(drop)
        .unwrap_err();
    assert!(
        busy.to_string().contains("in use by another process"),
        "{busy}"
    );
    drop(store);

    let orphan = "0".repeat(64);
    std::fs::create_dir_all(root.path().join("layers").join(&orphan).join("deep")).unwrap();
    std::fs::write(root.path().join("blobs/sha256").join(&orphan), "x").unwrap();
    std::fs::write(root.path().join("tmp/half"), "x").unwrap();
    let store = open(root.path());
    assert_eq!(remains(root.path()), whole);
    drop(store);

    // A layer that went missing takes its image along, so that it is pulled again rather than run without it.
    let layer = whole.iter().find(|p| p.starts_with("layers/")).unwrap();
    std::fs::remove_dir_all(root.path().join(layer)).unwrap();
    let store = open(root.path());
    assert!(store.image_status(&pulled.id).await.unwrap().is_none());
    assert_eq!(remains(root.path()), Vec::<String>::new());
    drop(store);
    std::fs::write(root.path().join("index.json"), "{").unwrap();
    assert!(Store::open(root.path(), HostsConfig::default()).is_err());
}
