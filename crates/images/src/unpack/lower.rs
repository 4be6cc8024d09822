//! The merged view of the layers below, for the few layers that lean on them.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// What the lower layers, stacked, show at `path` (relative, without links on the way). The path returned is within
/// whichever layer has it uppermost.
pub(crate) fn look_up(lower: &[PathBuf], path: &Path) -> Option<(PathBuf, Metadata)> {
    for layer in lower {
        match look_in(layer, path) {
            Seen::Found(at, metadata) => return Some((at, metadata)),
            Seen::Hidden => return None,
            Seen::NotHere => {}
        }
    }
    None
}

enum Seen {
    Found(PathBuf, Metadata),
    /// Whited out, below an opaque directory, or below something that is no directory.
    Hidden,
    NotHere,
}

fn look_in(layer: &Path, path: &Path) -> Seen {
    let mut at = layer.to_owned();
    let mut opaque = false;
    let mut rest = path.components().peekable();
    while let Some(Component::Normal(name)) = rest.next() {
        at.push(name);
        let metadata = match fs::symlink_metadata(&at) {
            Ok(metadata) => metadata,
            Err(_) if opaque => return Seen::Hidden,
            Err(_) => return Seen::NotHere,
        };
        if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
            return Seen::Hidden;
        }
        if rest.peek().is_none() {
            return Seen::Found(at, metadata);
        }
        if !metadata.is_dir() {
            return Seen::Hidden;
        }
        opaque |= is_opaque(&at);
    }
    Seen::NotHere
}

fn is_opaque(directory: &Path) -> bool {
    let mut value = [0_u8; 1];
    rustix::fs::lgetxattr(directory, super::tree::OPAQUE, &mut value) == Ok(1) && value == *b"y"
}
