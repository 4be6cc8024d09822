//! Builds images byte by byte and serves them from a small registry that stumbles on demand.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses its own part"
)]

pub mod image;
pub mod registry;
pub mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use images::{HostsConfig, Retry, Store};

/// A store in a directory of its own, quick to try again.
pub fn open(root: &Path) -> Store {
    Store::open(
        root,
        HostsConfig {
            retry: quick(),
            ..HostsConfig::default()
        },
    )
    .unwrap()
}

pub fn quick() -> Retry {
    Retry {
        attempts: 4,
        first_delay: Duration::from_millis(1),
        idle: Duration::from_secs(20),
    }
}

/// Everything below a directory: type, mode, owner and content or target, by path.
pub fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let what = if kind.is_dir() {
                todo.push(path.clone());
                "dir".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if kind.is_char_device() {
                format!("char {}", metadata.rdev())
            } else if kind.is_fifo() {
                "fifo".to_owned()
            } else {
                format!(
                    "file {:?}",
                    String::from_utf8_lossy(&fs::read(&path).unwrap())
                )
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let mode = if kind.is_symlink() {
                String::new()
            } else {
                format!(" {:o}", metadata.mode() & 0o7777)
            };
            found.insert(
                name,
                format!("{what}{mode} {}:{}", metadata.uid(), metadata.gid()),
            );
        }
    }
    found
}

/// What the store holds beyond its fixed furniture; empty when nothing was kept.
pub fn remains(root: &Path) -> Vec<String> {
    let mut found: Vec<String> = ["tmp", "layers", "blobs/sha256", "empty"]
        .iter()
        .flat_map(|d| {
            fs::read_dir(root.join(d))
                .unwrap()
                .map(move |e| format!("{d}/{}", e.unwrap().file_name().display()))
        })
        .collect();
    found.sort();
    found
}
