//! Which images are here and what they are called: one small document.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};

use ports::images::{Image, ImageConfig, ImageError};
use serde::{Deserialize, Serialize};

use super::layout::{Key, Layout};
use crate::digest::Digest;
use crate::error::{io as io_error, refused};
use crate::reference::Reference;

const VERSION: u32 = 1;
/// A short id has at least this many digits, so that a word is not taken for one.
const SHORT_ID_MIN: usize = 12;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    version: u32,
    /// By id.
    pub(crate) images: BTreeMap<Digest, Record>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The manifest for this machine's platform.
    pub(crate) manifest: Digest,
    pub(crate) manifest_media_type: String,
    /// Bottom first.
    pub(crate) layers: Vec<LayerRecord>,
    /// Full names with tag.
    pub(crate) tags: BTreeSet<String>,
    /// Full names with digest: of the index or manifest that the registry was asked for.
    pub(crate) digests: BTreeSet<String>,
    pub(crate) size_bytes: u64,
    pub(crate) config: ImageConfig,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) digest: Digest,
    pub(crate) chain_id: Digest,
}

impl Record {
    /// What must be on disk for this image.
    pub(crate) fn keys<'a>(&'a self, id: &'a Digest) -> impl Iterator<Item = Key> + 'a {
        let layers = self
            .layers
            .iter()
            .flat_map(|l| [Key::Blob(l.digest.clone()), Key::Layer(l.chain_id.clone())]);
        [Key::Blob(id.clone()), Key::Blob(self.manifest.clone())]
            .into_iter()
            .chain(layers)
    }

    pub(crate) fn image(&self, id: &Digest) -> Image {
        Image {
            id: id.to_string(),
            repo_tags: self.tags.iter().cloned().collect(),
            repo_digests: self.digests.iter().cloned().collect(),
            size_bytes: self.size_bytes,
            config: self.config.clone(),
        }
    }
}

impl Index {
    /// Reads the document. One that cannot be read stops the store: guessing could delete layers that containers run on.
    pub(crate) fn read(layout: &Layout) -> Result<Self, ImageError> {
        let path = layout.index();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    version: VERSION,
                    images: BTreeMap::new(),
                });
            }
            Err(e) => return Err(io_error(format!("read {}", path.display()))(e)),
        };
        let index: Self = serde_json::from_slice(&bytes).map_err(|e| refused(path.display(), e))?;
        if index.version != VERSION {
            return Err(refused(
                path.display(),
                format!("version {} is not known", index.version),
            ));
        }
        Ok(index)
    }

    pub(crate) fn write(&self, layout: &Layout) -> Result<(), ImageError> {
        let mut file = layout.temporary_file()?;
        let bytes = serde_json::to_vec(self).map_err(|e| refused("image index", e))?;
        file.write_all(&bytes)
            .map_err(io_error("write the image index"))?;
        layout.keep_file(file, &layout.index())
    }

    /// Everything any image needs.
    pub(crate) fn keys(&self) -> BTreeSet<Key> {
        self.images
            .iter()
            .flat_map(|(id, record)| record.keys(id))
            .collect()
    }

    /// Finds by id, short id, tag or digest.
    ///
    /// # Errors
    /// [`ImageError::InvalidName`] for what could be none of these.
    pub(crate) fn find(&self, text: &str) -> Result<Option<(&Digest, &Record)>, ImageError> {
        if let Some(id) = as_id(text) {
            return Ok(self.images.get_key_value(&id));
        }
        let reference = Reference::parse(text)?;
        Ok(self.by_name(&reference).or_else(|| self.by_short_id(text)))
    }

    pub(crate) fn by_name(&self, reference: &Reference) -> Option<(&Digest, &Record)> {
        let name = reference.to_string();
        let repository = reference.repository();
        self.images
            .iter()
            .find(|(_, record)| match reference.digest() {
                None => record.tags.contains(&name),
                Some(digest) => {
                    record.digests.contains(&name)
                        || (record.manifest == *digest && record.is_of(&repository))
                }
            })
    }

    fn by_short_id(&self, text: &str) -> Option<(&Digest, &Record)> {
        if text.len() < SHORT_ID_MIN || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut found = self
            .images
            .iter()
            .filter(|(id, _)| id.hex().starts_with(text));
        found.next().filter(|_| found.next().is_none())
    }

    /// Gives a name to one image, taking it from any other.
    pub(crate) fn name(&mut self, id: &Digest, reference: &Reference) {
        let name = reference.to_string();
        for (other, record) in &mut self.images {
            let names = if reference.digest().is_some() {
                &mut record.digests
            } else {
                &mut record.tags
            };
            if other == id {
                names.insert(name.clone());
            } else {
                names.remove(&name);
            }
        }
    }
}

impl Record {
    fn is_of(&self, repository: &str) -> bool {
        let mut names = self.tags.iter().chain(&self.digests);
        names.any(|name| Reference::parse(name).is_ok_and(|r| r.repository() == repository))
    }
}

/// A full id, with or without `sha256:`.
pub(crate) fn as_id(text: &str) -> Option<Digest> {
    Digest::parse(text).or_else(|| Digest::parse(&format!("sha256:{text}")))
}
