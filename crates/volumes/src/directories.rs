//! Directories that are volumes of the cluster: `<root>/<volume>`, for everyone to write to, below a root that only root enters.

use std::path::PathBuf;

use async_trait::async_trait;
use ports::volumes::{Directories, VolumeError};

use crate::layout::{component, make_dir};
use crate::{blocking, teardown};

/// Volumes of the cluster below one directory of this machine.
pub struct LocalDirectories {
    root: PathBuf,
}

impl LocalDirectories {
    /// Keeps directories below `root`, which is made with the first.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        LocalDirectories { root: root.into() }
    }

    /// Where the directory is, if the name is one that stays below the root.
    fn below(&self, volume: &str) -> Result<PathBuf, VolumeError> {
        Ok(self.root.join(component(volume)?))
    }
}

#[async_trait]
impl Directories for LocalDirectories {
    fn path(&self, volume: &str) -> PathBuf {
        self.root.join(volume)
    }

    async fn make(&self, volume: &str) -> Result<PathBuf, VolumeError> {
        let (root, place) = (self.root.clone(), self.below(volume)?);
        blocking(move || {
            make_dir(&root, 0o700)?;
            make_dir(&place, 0o777)?;
            Ok(place)
        })
        .await
    }

    async fn remove(&self, volume: &str) -> Result<(), VolumeError> {
        let place = self.below(volume)?;
        blocking(move || match place.symlink_metadata() {
            // What a link leads to is not ours.
            Ok(found) if found.is_symlink() => Err(VolumeError::Escapes {
                reason: format!("{} is a link", place.display()),
            }),
            _ => teardown::remove(&place),
        })
        .await
    }
}
