//! Saving, loading and importing, with skopeo and a real registry as judges.

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::image::{Tar, gzip, plain, sample, zstd};
use common::registry::TestRegistry;
use common::{open, quick, remains, tree};
use images::{Digest, HostsConfig, Store};
use ports::images::{ImageConfig, Images};
use serde_json::json;

fn skopeo(arguments: &[&str]) -> String {
    let done = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "skopeo {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).unwrap()
}

async fn pulled(root: &Path, name: &str) -> (TestRegistry, Store, String) {
    let registry = TestRegistry::start().await;
    registry.put("team/app", "1", &sample());
    let store = open(root);
    let id = store
        .pull_image(&registry.name("team/app:1"), None, None)
        .await
        .unwrap()
        .id;
    store.tag(&id, name).await.unwrap();
    (registry, store, id)
}

#[tokio::test]
async fn what_is_saved_loads_again_here_and_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let (_registry, store, id) = pulled(&root.path().join("a"), "app:saved").await;
    let file = root.path().join("app.tar");
    store
        .save(&["app:saved".to_owned()], File::create(&file).unwrap())
        .await
        .unwrap();
    let again = root.path().join("again.tar");
    store
        .save(&["app:saved".to_owned()], File::create(&again).unwrap())
        .await
        .unwrap();
    assert!(
        fs::read(&file).unwrap() == fs::read(&again).unwrap(),
        "the same image gives the same bytes"
    );

    let other = open(&root.path().join("b"));
    let loaded = other.load(&file, None).await.unwrap();
    assert_eq!(
        (loaded[0].id.as_str(), loaded[0].repo_tags.as_slice()),
        (
            id.as_str(),
            ["docker.io/library/app:saved".to_owned()].as_slice()
        )
    );
    let (ours, theirs) = (
        store.rootfs(&id).await.unwrap(),
        other.rootfs(&id).await.unwrap(),
    );
    for (a, b) in ours.layers.iter().zip(&theirs.layers) {
        assert_eq!(tree(a), tree(b));
    }

    // Other tools agree on what is in it, read either way.
    let expected = Digest::of(&sample().manifest).to_string();
    for transport in ["oci-archive", "docker-archive"] {
        let inspected: serde_json::Value = serde_json::from_str(&skopeo(&[
            "inspect",
            &format!("{transport}:{}", file.display()),
        ]))
        .unwrap();
        assert_eq!(
            inspected["Layers"].as_array().unwrap().len(),
            3,
            "{transport}"
        );
        assert_eq!(inspected["Env"], json!(["A=1"]), "{transport}");
        if transport == "oci-archive" {
            assert_eq!(inspected["Digest"], expected);
        }
    }
    assert!(
        store
            .save(&["nothing:here".to_owned()], std::io::sink())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn archives_and_directories_of_other_tools_load() {
    let root = tempfile::tempdir().unwrap();
    let (_registry, store, id) = pulled(&root.path().join("a"), "app:1").await;
    let saved = root.path().join("saved.tar");
    store
        .save(&["app:1".to_owned()], File::create(&saved).unwrap())
        .await
        .unwrap();
    let source = format!("oci-archive:{}", saved.display());
    let at = |name: &str| root.path().join(name).display().to_string();
    skopeo(&[
        "copy",
        &source,
        &format!("docker-archive:{}:app:docker", at("docker.tar")),
    ]);
    skopeo(&["copy", &source, &format!("oci:{}:app:layout", at("layout"))]);
    fs::write(
        at("docker.tar.gz"),
        gzip(&fs::read(at("docker.tar")).unwrap()),
    )
    .unwrap();
    fs::write(
        at("docker.tar.zst"),
        zstd(&fs::read(at("docker.tar")).unwrap()),
    )
    .unwrap();
    let rows = [
        ("docker.tar", "docker.io/library/app:docker"),
        ("docker.tar.gz", "docker.io/library/app:docker"),
        ("docker.tar.zst", "docker.io/library/app:docker"),
        ("layout", "docker.io/library/app:layout"),
    ];
    for (file, name) in rows {
        let directory = root.path().join(format!("store-{file}"));
        let other = open(&directory);
        let loaded = other.load(&root.path().join(file), None).await.unwrap();
        assert_eq!(
            (loaded.len(), loaded[0].repo_tags.as_slice()),
            (1, [name.to_owned()].as_slice()),
            "{file}"
        );
        assert_eq!(loaded[0].config.env, ["A=1"], "{file}");
        let top = &other.rootfs(&loaded[0].id).await.unwrap().layers[0];
        assert_eq!(
            tree(top),
            tree(&store.rootfs(&id).await.unwrap().layers[0]),
            "{file}"
        );
        other.remove_image(name).await.unwrap();
        assert_eq!(remains(&directory), Vec::<String>::new(), "{file}");
    }
}

#[tokio::test]
async fn a_root_file_system_becomes_an_image_and_prune_takes_it() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let config = ImageConfig {
        cmd: vec!["/init".into()],
        user: "7:8".into(),
        volumes: vec!["/v".into()],
        ..ImageConfig::default()
    };
    for compress in [plain, gzip, zstd] as [fn(&[u8]) -> Vec<u8>; 3] {
        let archive = compress(&Tar::new().dir("./", 0o755).file("init", "#!").bytes());
        let image = store
            .import_stream(std::io::Cursor::new(archive), "mine", config.clone())
            .await
            .unwrap();
        assert_eq!(
            (&image.config, image.repo_tags.as_slice()),
            (
                &config,
                ["docker.io/library/mine:latest".to_owned()].as_slice()
            )
        );
    }
    // The same files make the same image, however they are packed.
    assert_eq!(store.list_images().await.unwrap().len(), 1);
    let scratch = Tar::new().file("other", "").bytes();
    let other = store
        .import_stream(std::io::Cursor::new(scratch), "mine", config.clone())
        .await
        .unwrap();
    let pruned = store.prune(false, BTreeSet::new()).await.unwrap();
    assert_eq!((pruned.images.len(), pruned.freed_bytes > 0), (1, true));
    assert!(store.disk_usage().await.unwrap() > 0);
    assert_eq!(
        store
            .prune(true, BTreeSet::from([other.id.clone()]))
            .await
            .unwrap()
            .images,
        []
    );
    assert_eq!(
        store
            .prune(true, BTreeSet::new())
            .await
            .unwrap()
            .images
            .len(),
        1
    );
    assert_eq!(remains(root.path()), Vec::<String>::new());
}

/// Debian's `docker-registry` on a port of the kernel's choice.
struct RealRegistry {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl RealRegistry {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = json!({
            "version": "0.1", "log": {"level": "info"}, "http": {"addr": "127.0.0.1:0"},
            "storage": {"filesystem": {"rootdirectory": directory.path().join("data")}},
        });
        let file = directory.path().join("config.yml");
        fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        let mut child = command
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "docker-registry ended"
            );
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest.find(['"', ' ', '\n']).unwrap();
                break rest[..end].to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self {
            child,
            address,
            _directory: directory,
        }
    }
}

#[tokio::test]
async fn a_real_registry_serves_as_mirror_of_docker_io() {
    let registry = RealRegistry::start();
    let root = tempfile::tempdir().unwrap();
    let (_small, first, id) = pulled(&root.path().join("a"), "app:1").await;
    let file = root.path().join("app.tar");
    first
        .save(&["app:1".to_owned()], File::create(&file).unwrap())
        .await
        .unwrap();
    let target = format!("docker://{}/library/app:1", registry.address);
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        &format!("oci-archive:{}", file.display()),
        &target,
    ]);

    let certs = root.path().join("certs.d/_default");
    fs::create_dir_all(&certs).unwrap();
    fs::write(
        certs.join("hosts.toml"),
        format!("server = \"http://{}\"\n", registry.address),
    )
    .unwrap();
    let hosts = HostsConfig {
        certs_dir: Some(root.path().join("certs.d")),
        retry: quick(),
        ..HostsConfig::default()
    };
    let store = Store::open(&root.path().join("b"), hosts).unwrap();
    let image = store.pull_image("app:1", None, None).await.unwrap();
    assert_eq!(
        (image.id.as_str(), image.repo_tags.as_slice()),
        (
            id.as_str(),
            ["docker.io/library/app:1".to_owned()].as_slice()
        )
    );
    let again = store
        .pull_image("docker.io/library/app:1", None, None)
        .await
        .unwrap();
    assert_eq!(image, again);
    let missing = store.pull_image("app:2", None, None).await.unwrap_err();
    assert_eq!(missing.to_string(), "docker.io/library/app:2: not found");
}
