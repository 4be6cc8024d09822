//! The content store: images, their blobs and their unpacked layers, shared between all names.
//!
//! One process has it open at a time. Writers of the index take turns (`commit`); readers see the last whole index.
//! While a pull or load works, it holds [`Lease`]s on what it needs, and nothing leased or indexed is ever removed.
//! The store has no tasks of its own; disk work runs on tokio's blocking threads.

mod index;
mod layout;
mod remove;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};

use async_trait::async_trait;
use ports::images::{AuthConfig, Image, ImageError, Images, ProgressSink, Rootfs};

pub(crate) use index::{Index, LayerRecord, Record};
pub(crate) use layout::{Key, Layout};
pub use remove::Pruned;

use crate::digest::Digest;
use crate::error::{io as io_error, refused};
use crate::hosts::HostsConfig;
use crate::pull::Pulls;
use crate::reference::Reference;
use crate::unpack::Limits;

/// The images on this machine. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) layout: Layout,
    pub(crate) hosts: HostsConfig,
    pub(crate) limits: Limits,
    pub(crate) pulls: Pulls,
    index: RwLock<Arc<Index>>,
    commit: Mutex<()>,
    leases: Mutex<BTreeMap<Key, usize>>,
    flights: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    _lock: File,
}

/// Locks whose holders leave nothing half-changed when they panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Store {
    /// Opens the store at `root`, making it if need be, and removes what a crash left over.
    ///
    /// # Errors
    /// [`ImageError::Io`] when another process has it open or the disk fails; [`ImageError::Refused`] when its index is
    /// damaged.
    pub fn open(root: &Path, hosts: HostsConfig) -> Result<Self, ImageError> {
        Self::open_with_limits(root, hosts, Limits::default())
    }

    /// The same with other bounds on what an archive may unpack to.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with_limits(
        root: &Path,
        hosts: HostsConfig,
        limits: Limits,
    ) -> Result<Self, ImageError> {
        let (layout, lock) = Layout::open(root)?;
        let mut index = Index::read(&layout)?;
        let whole =
            |id: &Digest, record: &Record| record.keys(id).all(|key| layout.path(&key).exists());
        let before = index.images.len();
        index.images.retain(|id, record| {
            let keep = whole(id, record);
            if !keep {
                tracing::warn!(image = %id, names = ?record.tags, "image is incomplete, forgetting it");
            }
            keep
        });
        if index.images.len() != before {
            index.write(&layout)?;
        }
        let inner = Inner {
            layout,
            hosts,
            limits,
            pulls: Pulls::default(),
            index: RwLock::new(Arc::new(index)),
            commit: Mutex::default(),
            leases: Mutex::default(),
            flights: Mutex::default(),
            _lock: lock,
        };
        inner.sweep()?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Gives the image `source` the further name `target` (a reference by tag), taking it from any other image.
    ///
    /// # Errors
    /// [`ImageError::NotFound`] for an unknown source, [`ImageError::InvalidName`] for a target that is no tag.
    pub async fn tag(&self, source: &str, target: &str) -> Result<Image, ImageError> {
        let reference = Reference::parse(target)?;
        if reference.digest().is_some() {
            let reason = "refusing to create a tag with a digest reference".to_owned();
            return Err(ImageError::InvalidName {
                reference: target.to_owned(),
                reason,
            });
        }
        let source = source.to_owned();
        self.blocking(move |inner| {
            inner.change(|index| {
                let id =
                    index
                        .find(&source)?
                        .map(|(id, _)| id.clone())
                        .ok_or(ImageError::NotFound {
                            reference: source.clone(),
                        })?;
                index.name(&id, &reference);
                inner_image(index, &id)
            })
        })
        .await
    }

    /// Runs disk work on a thread that may block.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Inner>) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        self.inner.blocking(work).await
    }
}

pub(crate) fn inner_image(index: &Index, id: &Digest) -> Result<Image, ImageError> {
    let record = index.images.get(id).ok_or_else(|| ImageError::NotFound {
        reference: id.to_string(),
    })?;
    Ok(record.image(id))
}

impl Inner {
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ImageError> {
        let inner = self.clone();
        let joined = tokio::task::spawn_blocking(move || work(&inner)).await;
        joined.map_err(|e| io_error("run disk work")(std::io::Error::other(e)))?
    }

    /// The index as it stands.
    pub(crate) fn index(&self) -> Arc<Index> {
        self.index
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    /// Changes the index, durably, before anyone sees the change.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let _turn = lock(&self.commit);
        let before = self.index();
        let mut after = Index::clone(&before);
        let result = change(&mut after)?;
        if after != *before {
            after.write(&self.layout)?;
            *self
                .index
                .write()
                .unwrap_or_else(|poisoned| poisoned.into_inner()) = Arc::new(after);
        }
        Ok(result)
    }

    /// Keeps `keys` from being removed while the lease lives, whether they are there yet or not.
    pub(crate) fn lease(self: &Arc<Self>, keys: impl IntoIterator<Item = Key>) -> Lease {
        let keys: BTreeSet<Key> = keys.into_iter().collect();
        let mut leases = lock(&self.leases);
        for key in &keys {
            *leases.entry(key.clone()).or_default() += 1;
        }
        Lease {
            inner: self.clone(),
            keys,
        }
    }

    /// Waits for its turn to fetch this blob, so that two pulls do not fetch it twice.
    pub(crate) async fn flight(&self, digest: &Digest) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut flights = lock(&self.flights);
            flights.retain(|_, turn| turn.strong_count() > 0);
            match flights.get(digest).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    let turn = Arc::new(tokio::sync::Mutex::new(()));
                    flights.insert(digest.clone(), Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }
}

/// A promise that some content stays; see [`Inner::lease`].
pub(crate) struct Lease {
    inner: Arc<Inner>,
    keys: BTreeSet<Key>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = lock(&self.inner.leases);
        for key in &self.keys {
            if let Some(count) = leases.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    leases.remove(key);
                }
            }
        }
    }
}

#[async_trait]
impl Images for Store {
    async fn image_status(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        Ok(self
            .inner
            .index()
            .find(reference)?
            .map(|(id, record)| record.image(id)))
    }

    async fn list_images(&self) -> Result<Vec<Image>, ImageError> {
        Ok(self
            .inner
            .index()
            .images
            .iter()
            .map(|(id, record)| record.image(id))
            .collect())
    }

    async fn pull_image(
        &self,
        reference: &str,
        auth: Option<AuthConfig>,
        progress: Option<ProgressSink>,
    ) -> Result<Image, ImageError> {
        let reference = Reference::parse(reference)?;
        crate::pull::pull(&self.inner, reference, auth, progress).await
    }

    async fn remove_image(&self, reference: &str) -> Result<(), ImageError> {
        let reference = reference.to_owned();
        self.blocking(move |inner| inner.remove(&reference)).await
    }

    async fn rootfs(&self, image_id: &str) -> Result<Rootfs, ImageError> {
        let index = self.inner.index();
        let not_found = || ImageError::NotFound {
            reference: image_id.to_owned(),
        };
        let id = index::as_id(image_id).ok_or_else(not_found)?;
        let record = index.images.get(&id).ok_or_else(not_found)?;
        let mut layers: Vec<_> = record
            .layers
            .iter()
            .rev()
            .map(|l| self.inner.layout.layer(&l.chain_id))
            .collect();
        if layers.is_empty() {
            layers.push(self.inner.layout.empty());
        }
        if layers.len() > crate::manifest::LAYERS_MAX {
            return Err(refused(image_id, "more layers than overlayfs takes"));
        }
        Ok(Rootfs { layers })
    }
}
