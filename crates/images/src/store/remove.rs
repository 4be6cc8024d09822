//! Taking images and what only they needed away again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ports::images::{Image, ImageError};

use super::layout::{disk_bytes, remove_all};
use super::{Inner, Store, index, lock};
use crate::error::io as io_error;
use crate::reference::Reference;

/// What a prune took away.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The images, as they were.
    pub images: Vec<Image>,
    /// Disk space given back, in bytes.
    pub freed_bytes: u64,
}

impl Store {
    /// Removes images that have no tag, or with `all` every image, except those whose ids are in `keep` (the images of
    /// containers that exist).
    ///
    /// # Errors
    /// [`ImageError::Io`] when the disk fails.
    pub async fn prune(&self, all: bool, keep: BTreeSet<String>) -> Result<Pruned, ImageError> {
        self.blocking(move |inner| {
            let images = inner.change(|index| {
                let gone = |record: &super::Record, id: &str| {
                    (all || record.tags.is_empty()) && !keep.contains(id)
                };
                let ids: Vec<_> = index
                    .images
                    .iter()
                    .filter(|(id, r)| gone(r, id.as_str()))
                    .map(|(id, _)| id.clone())
                    .collect();
                Ok(ids
                    .iter()
                    .filter_map(|id| index.images.remove(id).map(|r| r.image(id)))
                    .collect())
            })?;
            Ok(Pruned {
                images,
                freed_bytes: inner.sweep()?,
            })
        })
        .await
    }

    /// Disk space the store takes, in bytes.
    ///
    /// # Errors
    /// [`ImageError::Io`] when the disk fails.
    pub async fn disk_usage(&self) -> Result<u64, ImageError> {
        self.blocking(|inner| {
            Ok(inner
                .layout
                .keys()?
                .iter()
                .map(|key| disk_bytes(&inner.layout.path(key)))
                .sum())
        })
        .await
    }
}

impl Inner {
    /// Removes a name, and with its last name the image. An id stands for all of its names. A tag takes the digests of
    /// its repository along when it was the repository's last.
    pub(super) fn remove(&self, text: &str) -> Result<(), ImageError> {
        self.change(|index| {
            let not_found = || ImageError::NotFound {
                reference: text.to_owned(),
            };
            let id = index
                .find(text)?
                .map(|(id, _)| id.clone())
                .ok_or_else(not_found)?;
            let record = index.images.get_mut(&id).ok_or_else(not_found)?;
            let named = index::as_id(text).is_none()
                && Reference::parse(text).is_ok_and(|name| record.unname(&name));
            if named && !(record.tags.is_empty() && record.digests.is_empty()) {
                return Ok(());
            }
            index.images.remove(&id);
            Ok(())
        })?;
        self.sweep().map(drop)
    }

    /// Removes all content no image and no lease needs; returns the bytes of disk freed. It is out of sight before the
    /// locks are let go, and deleted after.
    pub(crate) fn sweep(&self) -> Result<u64, ImageError> {
        let keys = self.layout.keys()?;
        let mut gone: Vec<PathBuf> = Vec::new();
        {
            let _turn = lock(&self.commit);
            let leases = lock(&self.leases);
            let needed = self.index().keys();
            for key in keys
                .iter()
                .filter(|key| !needed.contains(key) && !leases.contains_key(key))
            {
                gone.extend(self.layout.set_aside(key)?);
            }
        }
        let mut freed_bytes = 0;
        for path in gone {
            freed_bytes += disk_bytes(&path);
            remove_all(&path).map_err(io_error(format!("remove {}", path.display())))?;
        }
        Ok(freed_bytes)
    }
}

impl super::Record {
    /// Takes a name away; false when it was not one of its names.
    fn unname(&mut self, name: &Reference) -> bool {
        let text = name.to_string();
        let of_same =
            |n: &String| Reference::parse(n).is_ok_and(|r| r.repository() == name.repository());
        if let Some(digest) = name.digest() {
            // The manifest's own digest stands for the index it was found through.
            let by_manifest = self.manifest == *digest;
            self.digests
                .retain(|n| *n != text && !(by_manifest && of_same(n)));
            return true;
        }
        let was_there = self.tags.remove(&text);
        if was_there && !self.tags.iter().any(of_same) {
            self.digests.retain(|n| !of_same(n));
        }
        was_there
    }
}
