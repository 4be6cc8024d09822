//! How much of the node's disk files take.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lifecycle::storage::Usage;

/// Bytes of a block, as `st_blocks` counts them (stat(3type)).
const BLOCK: u64 = 512;

/// What a Pod uses: volumes by name, containers by name with where they write, and logs, a directory a container.
pub(crate) fn usage(
    volumes: BTreeMap<String, PathBuf>,
    layers: Vec<(String, PathBuf)>,
    logs: &Path,
) -> Usage {
    let mut usage = Usage::default();
    for (name, path) in volumes {
        usage.volumes.insert(name, taken(&path));
    }
    for (name, layer) in layers {
        // Ended runs are on the disk, too.
        *usage.containers.entry(name).or_default() += taken(&layer);
    }
    for (name, used) in &mut usage.containers {
        *used += taken(&logs.join(name));
    }
    usage
}

/// Bytes that all of these take.
pub(crate) fn together(paths: &[PathBuf]) -> u64 {
    paths.iter().map(|path| taken(path)).sum()
}

/// Bytes that a file or a directory with all that is in it takes, on its own file system. What cannot be read, or vanishes
/// meanwhile, takes nothing.
fn taken(path: &Path) -> u64 {
    let Ok(top) = path.symlink_metadata() else {
        return 0;
    };
    let mut files = HashSet::new();
    let mut total = top.blocks() * BLOCK;
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.filter_map(io::Result::ok) {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.dev() != top.dev() {
                continue;
            }
            if meta.is_dir() {
                left.push(entry.path());
            } else if meta.nlink() > 1 && !files.insert(meta.ino()) {
                // Counted under another name.
                continue;
            }
            total += meta.blocks() * BLOCK;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_once_and_holes_not_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let empty = taken(dir.path());
        let sub = dir.path().join("sub");
        fs::create_dir(&sub).expect("makes");
        let with_sub = taken(dir.path());
        fs::write(sub.join("a"), vec![1; 100_000]).expect("writes");
        fs::hard_link(sub.join("a"), dir.path().join("b")).expect("links");
        std::os::unix::fs::symlink("/", dir.path().join("root")).expect("links");
        let hole = fs::File::create(dir.path().join("hole")).expect("makes");
        hole.set_len(1 << 30).expect("grows");
        let all = taken(dir.path());
        assert!(with_sub >= empty);
        assert!(
            (100_000..120_000).contains(&(all - with_sub)),
            "{all} {with_sub}"
        );
        assert_eq!(taken(&dir.path().join("none")), 0);
    }
}
