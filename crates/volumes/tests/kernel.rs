//! Volumes on the real kernel; needs root. Whatever is made is removed, and that is checked.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use ports::clock::SystemClock;
use ports::volumes::{File, HostPathKind, Medium, NfsExport, VolumeError, VolumeSpec, Volumes};
use rustix::fs::inotify;
use volumes::LocalVolumes;

fn files(data: &str) -> VolumeSpec {
    let file = File {
        data: data.into(),
        mode: 0o400,
        uid: None,
    };
    let files = BTreeMap::from([("k".to_owned(), file.clone()), ("d/f".to_owned(), file)]);
    VolumeSpec::Files {
        files,
        is_secret: true,
        fs_group: Some(77),
    }
}

fn empty(medium: Medium) -> VolumeSpec {
    VolumeSpec::EmptyDir {
        medium,
        size_limit_bytes: Some(1 << 20),
        fs_group: None,
    }
}

/// An engine that is killed at any moment leaves either nothing in a volume's place or all of it.
#[tokio::test]
async fn directories_are_in_their_place_with_their_group_at_once() {
    let root = tempfile::tempdir().unwrap();
    let above = root.path().join("pods/u/volumes/kubernetes.io~empty-dir");
    // What a crash left.
    std::fs::create_dir_all(above.join(".disk")).unwrap();
    std::fs::set_permissions(above.join(".disk"), Permissions::from_mode(0o700)).unwrap();
    let seen = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let appears = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&seen, &above, appears).unwrap();
    let volumes = LocalVolumes::new(root.path(), Arc::new(SystemClock));
    let mut spec = empty(Medium::Disk);
    if let VolumeSpec::EmptyDir { fs_group, .. } = &mut spec {
        *fs_group = Some(77);
    }
    let dir = volumes.ensure("u", "disk", &spec).await.unwrap();
    let meta = dir.metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o2777, 77));
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut events = inotify::Reader::new(&seen, &mut buffer);
    let mut in_place = Vec::new();
    while let Ok(event) = events.next() {
        if event.file_name() == Some(c"disk") {
            in_place.push(event.events() & !inotify::ReadFlags::ISDIR);
        }
    }
    assert_eq!(in_place, [inotify::ReadFlags::MOVED_TO]);
    std::fs::write(dir.join("kept"), "x").unwrap();
    volumes.ensure("u", "disk", &spec).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(&above).unwrap().flatten().collect();
    assert_eq!((left.len(), dir.join("kept").exists()), (1, true));

    if let VolumeSpec::EmptyDir { medium, .. } = &mut spec {
        *medium = Medium::Memory;
    }
    let memory = volumes.ensure("u", "memory", &spec).await.unwrap();
    let meta = memory.metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o2777, 77));
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts
        .lines()
        .find(|mount| mount.contains(memory.to_str().unwrap()));
    assert!(mount.unwrap().contains("gid=77"), "{mount:?}");
    volumes.teardown("u").await.unwrap();
    volumes.remove().await.unwrap();
}

#[tokio::test]
async fn volumes_are_made_updated_and_taken_down() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("kept"), "x").unwrap();
    let volumes = LocalVolumes::new(root.path(), Arc::new(SystemClock));

    let dir = volumes
        .ensure("u", "disk", &empty(Medium::Disk))
        .await
        .unwrap();
    assert!(dir.ends_with("pods/u/volumes/kubernetes.io~empty-dir/disk"));
    assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o777);
    let memory = volumes
        .ensure("u", "memory", &empty(Medium::Memory))
        .await
        .unwrap();
    assert_ne!(
        memory.metadata().unwrap().dev(),
        dir.metadata().unwrap().dev()
    );

    let made = volumes.ensure("u", "files", &files("1")).await.unwrap();
    let version = std::fs::read_link(made.join("..data")).unwrap();
    assert_eq!(
        std::fs::read_link(made.join("d")).unwrap(),
        Path::new("..data/d")
    );
    let meta = made.join("k").metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o440, 77));
    volumes.ensure("u", "files", &files("1")).await.unwrap();
    assert_eq!(std::fs::read_link(made.join("..data")).unwrap(), version);
    volumes.ensure("u", "files", &files("2")).await.unwrap();
    assert_eq!(std::fs::read_to_string(made.join("d/f")).unwrap(), "2");
    assert!(!made.join(version).exists());

    let pinned = volumes
        .ensure_sub_path("u", "disk", "a/b", "c", 0)
        .await
        .unwrap();
    std::fs::write(dir.join("a/b/x"), "y").unwrap();
    assert_eq!(std::fs::read_to_string(pinned.join("x")).unwrap(), "y");
    symlink(outside.path(), dir.join("out")).unwrap();
    let escape = volumes
        .ensure_sub_path("u", "disk", "out/kept", "c", 1)
        .await;
    assert!(
        matches!(escape, Err(VolumeError::Escapes { .. })),
        "{escape:?}"
    );

    assert_eq!(volumes.pods().await.unwrap(), ["u"]);
    volumes.teardown("u").await.unwrap();
    volumes.teardown("u").await.unwrap();
    assert!(volumes.pods().await.unwrap().is_empty());
    assert!(!made.parent().unwrap().exists());
    volumes.remove().await.unwrap();
    assert!(outside.path().join("kept").exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(root.path().to_str().unwrap()));
}

#[tokio::test]
async fn local_volumes_are_given_to_groups() {
    let root = tempfile::tempdir().unwrap();
    let volumes = LocalVolumes::new(root.path().join("kubelet"), Arc::new(SystemClock));
    let path = root.path().join("disk");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("file"), "x").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", path.join("link")).unwrap();
    let outside = std::fs::metadata("/etc/hostname")
        .map(|m| (m.gid(), m.mode()))
        .ok();
    let group_of = |path: &Path| std::fs::symlink_metadata(path).unwrap().gid();
    for (pod, group, trusts_root, expected) in [
        ("a", None, false, 0),
        ("b", Some(7), true, 7),
        ("c", Some(8), false, 8),
    ] {
        let local = VolumeSpec::Local {
            path: path.clone(),
            fs_group: group,
            trusts_root,
        };
        assert_eq!(volumes.ensure(pod, "v", &local).await.unwrap(), path);
        assert_eq!(group_of(&path.join("file")), expected, "{pod}");
        assert_eq!(group_of(&path.join("link")), expected, "{pod}");
        std::fs::write(path.join(pod), "x").unwrap();
        std::os::unix::fs::lchown(path.join(pod), None, Some(0)).unwrap();
        // What the Pod does with it later is its own business, and what is at the top tells the next.
        for next in [pod, "next"] {
            let again = VolumeSpec::Local {
                path: path.clone(),
                fs_group: group,
                trusts_root: next != pod,
            };
            volumes.ensure(next, "v", &again).await.unwrap();
            assert_eq!(group_of(&path.join(pod)), 0, "{next}");
        }
        volumes.teardown("next").await.unwrap();
    }
    let still = std::fs::metadata("/etc/hostname")
        .map(|m| (m.gid(), m.mode()))
        .ok();
    assert_eq!(outside, still, "links are not followed");
}

#[tokio::test]
async fn host_paths_are_checked_in_upstreams_words() {
    let root = tempfile::tempdir().unwrap();
    let volumes = LocalVolumes::new(root.path(), Arc::new(SystemClock));
    let host = |path: &str, kind| VolumeSpec::HostPath {
        path: path.into(),
        kind,
    };
    let rows = [
        (
            "/etc/hostname",
            HostPathKind::Directory,
            "/etc/hostname is not a directory",
        ),
        (
            "/no/such/dir",
            HostPathKind::Directory,
            "/no/such/dir is not a directory",
        ),
        ("/etc", HostPathKind::File, "/etc is not a file"),
        ("/etc", HostPathKind::Socket, "/etc is not a socket file"),
        (
            "/etc",
            HostPathKind::CharDevice,
            "/etc is not a character device",
        ),
        (
            "/dev/null",
            HostPathKind::BlockDevice,
            "/dev/null is not a block device",
        ),
    ];
    for (path, kind, want) in rows {
        let error = volumes
            .ensure("u", "v", &host(path, kind))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("hostPath type check failed: {want}")
        );
    }
    assert!(
        volumes
            .ensure("u", "v", &host("/dev/null", HostPathKind::CharDevice))
            .await
            .is_ok()
    );
    volumes.teardown("u").await.unwrap();
}

#[tokio::test]
async fn what_is_left_of_the_disk_is_known_before_anything_is_made() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("not/yet");
    let volumes = LocalVolumes::new(&path, Arc::new(SystemClock));
    let space = volumes.space().await.unwrap();
    assert!(space.capacity_bytes > 0 && space.available_bytes <= space.capacity_bytes);
    assert!(space.inodes_free <= space.inodes);
    assert!(!path.exists());
}

/// Sizes of huge pages that the kernel has, in bytes.
fn huge_pages() -> Vec<u64> {
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages");
    let sizes = sizes.into_iter().flatten().flatten();
    let kibibytes = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse::<u64>()
            .ok()
    };
    sizes.filter_map(kibibytes).map(|kib| kib * 1024).collect()
}

#[tokio::test]
async fn a_volume_of_huge_pages_has_pages_of_its_size() {
    let root = tempfile::tempdir().unwrap();
    let volumes = LocalVolumes::new(root.path(), Arc::new(SystemClock));
    for page_bytes in huge_pages() {
        let (uid, spec) = (
            page_bytes.to_string(),
            empty(Medium::HugePages { page_bytes }),
        );
        let dir = volumes.ensure(&uid, "huge", &spec).await.unwrap();
        let fs = rustix::fs::statvfs(&dir).unwrap();
        assert_eq!(fs.f_bsize, page_bytes);
        assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o777);
        let again = volumes.ensure(&uid, "huge", &spec).await.unwrap();
        assert_eq!(again, dir);
        volumes.teardown(&uid).await.unwrap();
        assert!(!dir.exists());
    }
    let spec = empty(Medium::HugePages { page_bytes: 12_288 });
    let refused = volumes.ensure("odd", "huge", &spec).await.unwrap_err();
    let said = refused.to_string();
    assert!(
        said.starts_with("mount huge pages of 12288 bytes on "),
        "{said}"
    );
    volumes.teardown("odd").await.unwrap();
}

#[tokio::test]
async fn exports_of_nobody_are_told_of_and_taken_down() {
    let root = tempfile::tempdir().unwrap();
    let volumes = LocalVolumes::new(root.path(), Arc::new(SystemClock));
    // A port that was free a moment ago, and that nobody is given soon.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    for (options, expected) in [
        (
            format!("vers=4.2,port={}", address.port()),
            format!("mount failed: 127.0.0.1:/x: {address} cannot be reached: Connection refused"),
        ),
        (
            "hard,remount".to_owned(),
            "mount failed: 127.0.0.1:/x: mount option \"remount\" is none of a volume".to_owned(),
        ),
    ] {
        let export = VolumeSpec::Nfs(NfsExport {
            server: "127.0.0.1".to_owned(),
            path: "/x".to_owned(),
            is_read_only: false,
            options: vec![options],
        });
        let error = volumes.ensure("u", "v", &export).await.unwrap_err();
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(
            volumes
                .ensure_sub_path("u", "v", "a", "c", 0)
                .await
                .is_err()
        );
    }
    volumes.teardown("u").await.unwrap();
    assert_eq!(volumes.pods().await.unwrap(), Vec::<String>::new());
}
