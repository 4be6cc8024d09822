//! Where things are, and the making of the directories on the way.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ports::volumes::VolumeError;

use crate::io;

/// Paths below the agent's root.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pods: PathBuf,
    staged: PathBuf,
    registry: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Self {
        Layout {
            pods: root.join("pods"),
            staged: root.join("plugins/kubernetes.io/csi"),
            registry: root.join("plugins_registry"),
        }
    }

    /// Where Pods' directories are; it may not have been made yet.
    pub(crate) fn root(&self) -> &Path {
        &self.pods
    }

    /// Where drivers bring volumes to the node.
    pub(crate) fn staged(&self) -> &Path {
        &self.staged
    }

    /// Where drivers register.
    pub(crate) fn registry(&self) -> &Path {
        &self.registry
    }

    /// A Pod's directory, which may not exist.
    pub(crate) fn pod_path(&self, uid: &str) -> Result<PathBuf, VolumeError> {
        Ok(self.pods.join(component(uid)?))
    }

    /// A Pod's directory, made if absent, reachable for root only (0750).
    pub(crate) fn pod(&self, uid: &str) -> Result<PathBuf, VolumeError> {
        let path = self.pod_path(uid)?;
        make_dir(&path, 0o750)?;
        Ok(path)
    }

    /// A volume's directory, which may not exist; the directories above it do.
    pub(crate) fn volume(
        &self,
        uid: &str,
        plugin: &str,
        volume: &str,
    ) -> Result<PathBuf, VolumeError> {
        let above = self
            .pod_path(uid)?
            .join("volumes")
            .join(format!("kubernetes.io~{plugin}"));
        make_dir(&above, 0o750)?;
        Ok(above.join(component(volume)?))
    }

    /// Where the sub-path of a container's mount with this index is pinned.
    pub(crate) fn sub_path(
        &self,
        uid: &str,
        volume: &str,
        container: &str,
        index: usize,
    ) -> Result<PathBuf, VolumeError> {
        let above = self
            .pod_path(uid)?
            .join("volume-subpaths")
            .join(component(volume)?)
            .join(component(container)?);
        Ok(above.join(index.to_string()))
    }

    /// UIDs that have a directory.
    pub(crate) fn pods(&self) -> Result<Vec<String>, VolumeError> {
        let entries = match std::fs::read_dir(&self.pods) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io(|| format!("read {}", self.pods.display()))(e)),
        };
        let mut uids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io(|| format!("read {}", self.pods.display())))?;
            uids.extend(entry.file_name().into_string());
        }
        uids.sort();
        Ok(uids)
    }
}

/// Makes a directory and those above it. The mode is the directory's own whatever the umask; one that exists is left as it is.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), VolumeError> {
    if path.is_dir() {
        return Ok(());
    }
    let failed = || format!("mkdir {}", path.display());
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(io(failed))?;
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(io(failed))
}

/// Refuses names that are not one plain path component.
pub(crate) fn component(name: &str) -> Result<&str, VolumeError> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    plain.then_some(name).ok_or_else(|| VolumeError::Escapes {
        reason: format!("{name:?} is not a file name"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_stay_one_component() {
        for bad in ["", ".", "..", "a/b", "../x", "/etc", "a\0b"] {
            assert!(
                matches!(component(bad), Err(VolumeError::Escapes { .. })),
                "{bad:?}"
            );
        }
        for good in ["a", "..a", "b1f4-9", "kube-api-access-x"] {
            assert_eq!(component(good).ok(), Some(good));
        }
    }
}
