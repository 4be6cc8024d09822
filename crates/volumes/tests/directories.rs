//! Directories that are volumes of the cluster, on the real kernel.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use ports::volumes::Directories;
use volumes::LocalDirectories;

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o7777
}

#[tokio::test]
async fn a_directory_is_made_for_everyone_and_removed_with_all_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("volumes");
    let directories = LocalDirectories::new(&root);
    let place = directories.make("pvc-1").await.expect("it is made");
    assert_eq!(place, directories.path("pvc-1"));
    assert_eq!((mode(&root), mode(&place)), (0o700, 0o777));
    fs::create_dir_all(place.join("a/b")).expect("a directory in it");
    fs::write(place.join("a/b/f"), "x").expect("a file in it");
    assert_eq!(directories.make("pvc-1").await.expect("it stays"), place);
    assert!(place.join("a/b/f").exists(), "what is in it stays");
    for _ in 0..2 {
        directories.remove("pvc-1").await.expect("it goes");
        assert!(!place.exists() && root.exists());
    }
}

#[tokio::test]
async fn nothing_outside_is_touched() {
    let dir = tempfile::tempdir().expect("a directory");
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::write(outside.join("kept"), "x").expect("a file");
    let root = dir.path().join("volumes");
    let directories = LocalDirectories::new(&root);
    for name in ["", ".", "..", "../outside", "/outside", "a/b"] {
        assert!(directories.make(name).await.is_err(), "{name:?}");
        assert!(directories.remove(name).await.is_err(), "{name:?}");
    }
    let place = directories.make("v").await.expect("it is made");
    symlink(&outside, place.join("link")).expect("a link in it");
    symlink(&outside, root.join("w")).expect("a link in its place");
    directories.remove("v").await.expect("it goes");
    assert!(directories.remove("w").await.is_err());
    assert!(outside.join("kept").exists());
}
