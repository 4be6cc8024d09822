//! Volumes of Pods as directories of the node, in upstream's layout (spec `§10.1`):
//!
//! ```text
//! <root>/pods/<uid>/volumes/kubernetes.io~empty-dir/<volume>
//! <root>/pods/<uid>/volumes/kubernetes.io~nfs/<volume>
//! <root>/pods/<uid>/volume-subpaths/<volume>/<container>/<index>
//! ```
//!
//! Files whose contents are known are in memory, below `<root>/files` ([`memory`]).
//!
//! Contents come as bytes; which ConfigMap they are from is the node agent's business. Nothing runs in the background: each call
//! does its work, on a blocking thread if it may wait for a disk, and returns. Invariants: a path given by a user is resolved without leaving its volume, and
//! [`Volumes::teardown`] removes nothing that another file system or a link leads to.

mod directories;
mod drivers;
mod empty_dir;
mod files;
mod host_path;
mod kernel;
mod layout;
mod memory;
mod nfs;
mod ownership;
mod places;
mod quota;
mod sub_path;
mod teardown;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ports::clock::Clock;
use ports::volumes::{HostPathKind, Space, VolumeError, VolumeSpec, Volumes};

pub use crate::directories::LocalDirectories;
use crate::layout::Layout;
use crate::memory::Memory;
use crate::places::{Known, Places};

/// Volumes below one directory of this machine. Needs root for mounts and ownership.
pub struct LocalVolumes {
    layout: Layout,
    memory: Arc<Memory>,
    clock: Arc<dyn Clock>,
    places: Places,
    drivers: drivers::Known,
    asking: nfs::Asking,
    /// Directories of Pods whose processes do not end.
    given_up: Mutex<BTreeSet<PathBuf>>,
}

impl LocalVolumes {
    /// Keeps Pods' directories below `root` (upstream's `/var/lib/kubelet`). `clock` names the versions of file volumes.
    pub fn new(root: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        let root = root.into();
        LocalVolumes {
            memory: Arc::new(Memory::new(root.join("files"))),
            layout: Layout::new(root),
            clock,
            places: Places::default(),
            drivers: drivers::Known::default(),
            asking: nfs::Asking::default(),
            given_up: Mutex::default(),
        }
    }

    /// Unmounts and removes what is no single Pod's: what drivers have brought to the node, without asking them, and where files are kept.
    /// For an engine that goes for good.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn remove(&self) -> Result<(), VolumeError> {
        let (staged, memory) = (self.layout.staged().to_owned(), self.memory.clone());
        blocking(move || {
            teardown::remove(&staged)?;
            memory.remove()
        })
        .await
    }
}

#[async_trait]
impl Volumes for LocalVolumes {
    async fn ensure(
        &self,
        pod_uid: &str,
        volume: &str,
        spec: &VolumeSpec,
    ) -> Result<PathBuf, VolumeError> {
        let files = self.places.files(spec);
        match (self.places.with(pod_uid, volume, files), spec) {
            (Known::Same(place), _) => return Ok(place),
            (
                Known::Others(place),
                VolumeSpec::Files {
                    files: wanted,
                    fs_group,
                    ..
                },
            ) => {
                // In memory, where no disk is waited for: a thread would cost more, and hundreds of Pods may follow one object.
                let (before, now) = (files::Before::Others, self.clock.now());
                files::ensure(&place, wanted, *fs_group, before, now)?;
                let path = place.clone();
                self.places.remember(pod_uid, volume, path, files);
                return Ok(place);
            }
            _ => {}
        }
        let (layout, memory, uid, name, spec, now) = (
            self.layout.clone(),
            self.memory.clone(),
            pod_uid.to_owned(),
            volume.to_owned(),
            spec.clone(),
            self.clock.now(),
        );
        let is_new = self.places.find(pod_uid, volume).is_none();
        let export = match &spec {
            VolumeSpec::Nfs(export) => Some(export.clone()),
            _ => None,
        };
        let place = blocking(move || {
            layout.pod(&uid)?;
            match &spec {
                VolumeSpec::EmptyDir {
                    medium,
                    size_limit_bytes,
                    fs_group,
                } => empty_dir::ensure(
                    &layout.volume(&uid, "empty-dir", &name)?,
                    *medium,
                    *size_limit_bytes,
                    *fs_group,
                ),
                VolumeSpec::HostPath { path, kind } => host_path::ensure(path, *kind),
                VolumeSpec::Local {
                    path,
                    fs_group,
                    trusts_root,
                } => {
                    let place = host_path::ensure(path, HostPathKind::Directory)?;
                    if let Some(group) = fs_group.filter(|_| is_new) {
                        ownership::give_tree(&place, group, *trusts_root)?;
                    }
                    Ok(place)
                }
                VolumeSpec::Nfs(_) => layout.volume(&uid, "nfs", &name),
                VolumeSpec::Files {
                    files,
                    is_secret,
                    fs_group,
                } => {
                    let place = memory.volume(&uid, &name, *is_secret)?;
                    files::ensure(&place, files, *fs_group, files::Before::Unknown, now)?;
                    Ok(place)
                }
            }
        })
        .await?;
        let place = match export {
            Some(export) => nfs::ensure(place, &export, &self.asking).await?,
            None => place,
        };
        self.places.remember(pod_uid, volume, place.clone(), files);
        Ok(place)
    }

    async fn ensure_sub_path(
        &self,
        pod_uid: &str,
        volume: &str,
        sub_path: &str,
        container: &str,
        index: usize,
    ) -> Result<PathBuf, VolumeError> {
        let place = self
            .places
            .find(pod_uid, volume)
            .ok_or_else(|| VolumeError::Io {
                what: format!("volume {volume:?} is not set up"),
                source: std::io::ErrorKind::NotFound.into(),
            })?;
        let pin = self.layout.sub_path(pod_uid, volume, container, index)?;
        let sub_path = sub_path.to_owned();
        blocking(move || sub_path::ensure(&place, &sub_path, &pin)).await
    }

    async fn pod_dir(&self, pod_uid: &str) -> Result<PathBuf, VolumeError> {
        let (layout, uid) = (self.layout.clone(), pod_uid.to_owned());
        blocking(move || layout.pod(&uid)).await
    }

    async fn give_up(&self, pod_uid: &str) -> Result<(), VolumeError> {
        let dir = self.layout.pod_path(pod_uid)?;
        let given_up = {
            let mut dirs = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
            dirs.insert(dir.clone());
            dirs.clone()
        };
        blocking(move || nfs::fail(&dir, &given_up)).await
    }

    async fn teardown(&self, pod_uid: &str) -> Result<(), VolumeError> {
        let dir = self.layout.pod_path(pod_uid)?;
        self.given_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&dir);
        self.places.forget(pod_uid);
        let (memory, uid) = (self.memory.clone(), pod_uid.to_owned());
        blocking(move || {
            // By its directory the Pod is known until nothing of it is left.
            memory.forget(&uid)?;
            empty_dir::release(&dir.join("volumes/kubernetes.io~empty-dir"))?;
            teardown::remove(&dir)
        })
        .await
    }

    async fn pods(&self) -> Result<Vec<String>, VolumeError> {
        let layout = self.layout.clone();
        blocking(move || layout.pods()).await
    }

    async fn space(&self) -> Result<Space, VolumeError> {
        let layout = self.layout.clone();
        blocking(move || kernel::space(layout.root())).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(VolumeError::Io {
            what: "volume work was abandoned".into(),
            source: std::io::Error::other(error),
        }),
    }
}

/// Adds what was tried to a kernel error.
fn io(what: impl FnOnce() -> String) -> impl FnOnce(std::io::Error) -> VolumeError {
    move |source| VolumeError::Io {
        what: format!("{}: {source}", what()),
        source,
    }
}
