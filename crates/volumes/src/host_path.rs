//! hostPath (spec `§10.3`): a path of the node, checked or made as its `type` asks.

use std::fs::{Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ports::volumes::{HostPathKind, VolumeError};

use crate::io;
use crate::layout::make_dir;

/// Checks the path, and makes it where `kind` says so. Links are followed: the path is the administrator's.
pub(crate) fn ensure(path: &Path, kind: HostPathKind) -> Result<PathBuf, VolumeError> {
    match kind {
        // The runtime makes a missing path a directory.
        HostPathKind::Unset | HostPathKind::DirectoryOrCreate if !path.exists() => {
            make_dir(path, 0o755)?
        }
        HostPathKind::FileOrCreate if !path.exists() => make_file(path)?,
        _ => {}
    }
    let meta = std::fs::metadata(path).ok();
    let is = |test: fn(&Metadata) -> bool| meta.as_ref().is_some_and(test);
    let (fits, what) = match kind {
        HostPathKind::Unset => return Ok(path.to_owned()),
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => {
            (is(Metadata::is_dir), "a directory")
        }
        HostPathKind::File | HostPathKind::FileOrCreate => (is(Metadata::is_file), "a file"),
        HostPathKind::Socket => (is(|m| m.file_type().is_socket()), "a socket file"),
        HostPathKind::CharDevice => (is(|m| m.file_type().is_char_device()), "a character device"),
        HostPathKind::BlockDevice => (is(|m| m.file_type().is_block_device()), "a block device"),
    };
    if fits {
        return Ok(path.to_owned());
    }
    Err(VolumeError::HostPathType {
        reason: format!(
            "hostPath type check failed: {} is not {what}",
            path.display()
        ),
    })
}

fn make_file(path: &Path) -> Result<(), VolumeError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .map(drop)
        .or_else(|e| {
            if e.kind() == std::io::ErrorKind::AlreadyExists {
                Ok(())
            } else {
                Err(e)
            }
        })
        .map_err(io(|| format!("open {}", path.display())))
}
