//! What was asked of drivers, on disk in upstream's layout:
//!
//! ```text
//! <root>/pods/<uid>/volumes/kubernetes.io~csi/<name>/{vol_data.json,mount}
//! <root>/plugins/kubernetes.io/csi/<driver>/<hash of the handle>/{vol_data.json,globalmount}
//! ```
//!
//! A record is there before the driver is asked, and until all of it was taken back.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use ports::volumes::VolumeError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::io;
use crate::layout::{Layout, component, make_dir};

const FILE: &str = "vol_data.json";
/// Where upstream has what it escapes the plugin's name to.
const OF_POD: &str = "kubernetes.io~csi";

/// What is recorded of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(rename = "specVolID", default)]
    pub(super) name: String,
    #[serde(rename = "volumeHandle")]
    pub(super) handle: String,
    #[serde(rename = "driverName")]
    pub(super) driver: String,
    /// `Ephemeral` or `Persistent`.
    #[serde(rename = "volumeLifecycleMode", default)]
    pub(super) lifecycle: String,
}

/// A place where a driver mounts something, and the record of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    directory: PathBuf,
    /// Where the driver mounts.
    pub(super) target: PathBuf,
}

impl Place {
    /// Of a Pod's volume.
    pub(super) fn of_pod(layout: &Layout, uid: &str, name: &str) -> Result<Place, VolumeError> {
        let above = layout.pod_path(uid)?.join("volumes").join(OF_POD);
        let directory = above.join(component(name)?);
        let target = directory.join("mount");
        Ok(Place { directory, target })
    }

    /// Of a volume on the node.
    pub(super) fn of_node(
        layout: &Layout,
        driver: &str,
        handle: &str,
    ) -> Result<Place, VolumeError> {
        let hash = Sha256::digest(handle.as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let directory = layout.staged().join(component(driver)?).join(hash);
        let target = directory.join("globalmount");
        Ok(Place { directory, target })
    }

    /// Writes the record, and makes the directories around it.
    pub(super) fn write(&self, record: &Record) -> Result<(), VolumeError> {
        make_dir(&self.directory, 0o750)?;
        let file = self.directory.join(FILE);
        let failed = || format!("failed to save volume data file {}", file.display());
        let text = serde_json::to_vec(record).map_err(|error| io(failed)(error.into()))?;
        if fs::read(&file).is_ok_and(|there| there == text) {
            return Ok(());
        }
        // It is whole or not there at all.
        let draft = self.directory.join(format!(".{FILE}"));
        let mut opened = fs::File::create(&draft).map_err(io(failed))?;
        opened.write_all(&text).map_err(io(failed))?;
        opened.sync_all().map_err(io(failed))?;
        fs::rename(&draft, &file).map_err(io(failed))
    }

    /// Makes the directory the driver mounts on.
    pub(super) fn make_target(&self) -> Result<(), VolumeError> {
        make_dir(&self.target, 0o750)
    }

    /// The record, if something was asked here.
    pub(super) fn read(&self) -> Result<Option<Record>, VolumeError> {
        let file = self.directory.join(FILE);
        let failed = || format!("read {}", file.display());
        match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| io(failed)(error.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io(failed)(error)),
        }
    }

    /// Removes what the driver has left of its target. Whatever is mounted there, or in it, stays.
    pub(super) fn clear_target(&self) -> Result<(), VolumeError> {
        let removed = match self.target.symlink_metadata() {
            Ok(found) if found.is_dir() => fs::remove_dir(&self.target),
            Ok(_) => fs::remove_file(&self.target),
            Err(error) => Err(error),
        };
        gone(removed, &self.target)
    }

    /// Removes target and record.
    pub(super) fn remove(&self) -> Result<(), VolumeError> {
        self.clear_target()?;
        let file = self.directory.join(FILE);
        gone(fs::remove_file(&file), &file)?;
        gone(fs::remove_dir(&self.directory), &self.directory)
    }
}

/// What is not there need not be removed.
fn gone(removed: std::io::Result<()>, path: &Path) -> Result<(), VolumeError> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(io(|| format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// What drivers were asked for a Pod.
pub(super) fn of_pod(layout: &Layout, uid: &str) -> Result<Vec<(Place, Record)>, VolumeError> {
    let above = layout.pod_path(uid)?.join("volumes").join(OF_POD);
    let entries = match fs::read_dir(&above) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(|| format!("read {}", above.display()))(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io(|| format!("read {}", above.display())))?;
        let directory = entry.path();
        let target = directory.join("mount");
        let place = Place { directory, target };
        if let Some(record) = place.read()? {
            found.push((place, record));
        }
    }
    found.sort_by(|a, b| a.0.directory.cmp(&b.0.directory));
    Ok(found)
}

/// What drivers were asked for all Pods: drivers and handles.
pub(super) fn all(layout: &Layout) -> Result<BTreeSet<(String, String)>, VolumeError> {
    let mut all = BTreeSet::new();
    for uid in layout.pods()? {
        let records = of_pod(layout, &uid)?.into_iter();
        all.extend(records.map(|(_, record)| (record.driver, record.handle)));
    }
    Ok(all)
}

/// Whether another Pod uses a volume.
pub(super) fn is_used_besides(
    layout: &Layout,
    uid: &str,
    volume: &Record,
) -> Result<bool, VolumeError> {
    for other in layout.pods()?.iter().filter(|other| *other != uid) {
        let records = of_pod(layout, other)?;
        let is_it =
            |record: &Record| (&record.driver, &record.handle) == (&volume.driver, &volume.handle);
        if records.iter().any(|(_, record)| is_it(record)) {
            return Ok(true);
        }
    }
    Ok(false)
}
