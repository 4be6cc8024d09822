//! The file systems in memory that all Pods' files are on: one for what is secret, which no swap device ever sees, and one for the rest.
//!
//! Files are small, and those of hundreds of Pods change at once: on a disk each costs a dozen entries in its journal. That all Pods share
//! one mount spares each a mount of its own at its start and at its end.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ports::volumes::VolumeError;

use crate::kernel::{self, Tmpfs};
use crate::layout::{component, make_dir};
use crate::{io, teardown};

/// Where they are, mounted when they are first needed.
#[derive(Debug)]
pub(crate) struct Memory {
    root: PathBuf,
    plain: Store,
    secret: Store,
}

#[derive(Debug)]
struct Store {
    top: PathBuf,
    is_secret: bool,
    is_mounted: Mutex<bool>,
}

impl Memory {
    pub(crate) fn new(root: PathBuf) -> Self {
        let store = |name, is_secret| Store {
            top: root.join(name),
            is_secret,
            is_mounted: Mutex::default(),
        };
        Memory {
            plain: store("plain", false),
            secret: store("secret", true),
            root,
        }
    }

    /// A volume's directory, which may not exist; the directories above it do.
    pub(crate) fn volume(
        &self,
        uid: &str,
        volume: &str,
        is_secret: bool,
    ) -> Result<PathBuf, VolumeError> {
        let store = match is_secret {
            true => &self.secret,
            false => &self.plain,
        };
        let pod = store.mounted()?.join(component(uid)?);
        make_dir(&pod, 0o750)?;
        Ok(pod.join(component(volume)?))
    }

    /// Removes what a Pod has.
    pub(crate) fn forget(&self, uid: &str) -> Result<(), VolumeError> {
        for store in [&self.plain, &self.secret] {
            let pod = store.top.join(component(uid)?);
            match std::fs::remove_dir_all(&pod) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io(|| format!("remove {}", pod.display()))(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Unmounts and removes everything.
    pub(crate) fn remove(&self) -> Result<(), VolumeError> {
        let stores = [&self.plain, &self.secret];
        let mut mounted = stores.map(|store| {
            let is_mounted = store.is_mounted.lock();
            is_mounted.unwrap_or_else(PoisonError::into_inner)
        });
        teardown::remove(&self.root)?;
        mounted
            .iter_mut()
            .for_each(|is_mounted| **is_mounted = false);
        Ok(())
    }
}

impl Store {
    /// Its top, where it is mounted now; an engine before this one may have done that.
    fn mounted(&self) -> Result<&Path, VolumeError> {
        let is_mounted = self.is_mounted.lock();
        let mut is_mounted = is_mounted.unwrap_or_else(PoisonError::into_inner);
        if !*is_mounted {
            make_dir(&self.top, 0o750)?;
            if !kernel::is_other_file_system(&self.top) {
                let tmpfs = Tmpfs {
                    mode: 0o750,
                    group: None,
                    size: None,
                    may_swap: !self.is_secret,
                };
                kernel::mount_tmpfs(&self.top, tmpfs)?;
            }
            *is_mounted = true;
        }
        Ok(&self.top)
    }
}
