//! Loading: an archive is first unpacked below the store's `tmp`, as carefully as a layer, and then read like a directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ports::images::{Image, ImageError};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::digest::Digest;
use crate::error::{io as io_error, refused, sys};
use crate::manifest::{self, ConfigFile, Descriptor, Document, Index, Manifest};
use crate::pull::assemble::{Assembly, Source};
use crate::pull::ingest::image_error;
use crate::reference::Reference;
use crate::registry::DOCUMENT_MAX;
use crate::store::{Inner, Store};
use crate::unpack::unpack;

const IMAGE_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Images in one archive.
const IMAGES_MAX: usize = 1000;

/// An entry of Docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An image found in an archive, ready to be taken in.
struct Found {
    assembly: Assembly,
    names: Vec<Reference>,
    /// Where each blob is.
    files: BTreeMap<Digest, String>,
}

impl Store {
    /// Loads every image of a `docker save` archive or OCI image layout: a tar file (plain, gzip or zstd) or a directory.
    /// `name` names an archive's only image when it brings no name of its own.
    ///
    /// # Errors
    /// [`ImageError::Refused`] for what is no such archive, or is damaged or hostile; nothing of it is kept then.
    pub async fn load(&self, path: &Path, name: Option<&str>) -> Result<Vec<Image>, ImageError> {
        let metadata =
            std::fs::metadata(path).map_err(io_error(format!("open {}", path.display())))?;
        if metadata.is_dir() {
            return self.load_directory(path, name).await;
        }
        let file = File::open(path).map_err(io_error(format!("open {}", path.display())))?;
        self.load_stream(file, name).await
    }

    /// The same from a stream, such as standard input.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub async fn load_stream(
        &self,
        archive: impl Read + Send + 'static,
        name: Option<&str>,
    ) -> Result<Vec<Image>, ImageError> {
        let extract = |inner: &Arc<Inner>| -> Result<TempDir, ImageError> {
            let directory = inner.layout.temporary_directory()?;
            unpack(archive, directory.path(), Some(&[]), inner.limits)
                .map_err(|e| image_error("archive", e))?;
            Ok(directory)
        };
        let directory = self.blocking(extract).await?;
        self.load_directory(directory.path(), name).await
    }

    async fn load_directory(
        &self,
        path: &Path,
        name: Option<&str>,
    ) -> Result<Vec<Image>, ImageError> {
        let directory = Arc::new(Directory::open(path)?);
        let name = name.map(Reference::parse).transpose()?;
        let reading = directory.clone();
        let mut found = self.blocking(move |_| reading.images()).await?;
        if let ([only], Some(name)) = (found.as_mut_slice(), name)
            && only.names.is_empty()
        {
            only.names.push(name);
        }
        let mut images = Vec::with_capacity(found.len());
        for Found {
            assembly,
            names,
            files,
        } in found
        {
            let directory = directory.clone();
            let open = move |digest: &Digest| match files.get(digest) {
                Some(path) => directory.file(path),
                None => Err(refused("archive", format!("{digest} is missing"))),
            };
            let loaded = assembly
                .complete(
                    &self.inner,
                    &Source::Archive(Arc::new(open)),
                    names,
                    Arc::new(|_| {}),
                )
                .await;
            match loaded {
                Ok(image) => images.push(image),
                Err(error) => {
                    self.undo(&images).await;
                    return Err(error);
                }
            }
        }
        Ok(images)
    }

    /// A refused archive leaves nothing behind, not even its good images.
    async fn undo(&self, images: &[Image]) {
        for image in images {
            let id = image.id.clone();
            if let Err(error) = ports::images::Images::remove_image(self, &id).await {
                tracing::warn!(image = id, %error, "cannot take back an image of a refused archive");
            }
        }
    }
}

/// A directory whose files are opened without ever leaving it.
struct Directory(OwnedFd);

impl Directory {
    fn open(path: &Path) -> Result<Self, ImageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map(Self)
            .map_err(sys(format!("open {}", path.display())))
    }

    /// Opens a regular file; links lead only within the directory.
    fn file(&self, path: &str) -> Result<File, ImageError> {
        // A FIFO must not make the open wait.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened = loop {
            match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => break other,
            }
        };
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return Err(refused("archive", format!("{path} is missing")));
            }
            Err(e) => return Err(sys(format!("open {path}"))(e)),
        };
        let metadata = file.metadata().map_err(io_error(format!("open {path}")))?;
        if metadata.is_file() {
            Ok(file)
        } else {
            Err(refused("archive", format!("{path} is not a file")))
        }
    }

    fn has(&self, path: &str) -> bool {
        self.file(path).is_ok()
    }

    fn document(&self, path: &str) -> Result<Bytes, ImageError> {
        let mut bytes = Vec::new();
        self.file(path)?
            .take(DOCUMENT_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(io_error(format!("read {path}")))?;
        if bytes.len() as u64 > DOCUMENT_MAX {
            Err(refused("archive", format!("{path} is too long")))
        } else {
            Ok(bytes.into())
        }
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, ImageError> {
        serde_json::from_slice(&self.document(path)?)
            .map_err(|e| refused("archive", format!("{path}: {e}")))
    }

    fn images(&self) -> Result<Vec<Found>, ImageError> {
        let found = if self.has("index.json") && self.has("oci-layout") {
            self.layout_images()?
        } else if self.has("manifest.json") {
            let listed: Vec<DockerImage> = self.json("manifest.json")?;
            listed
                .iter()
                .map(|image| self.docker_image(image))
                .collect::<Result<_, _>>()?
        } else {
            return Err(refused(
                "archive",
                "neither an OCI image layout nor a docker archive",
            ));
        };
        if found.is_empty() || found.len() > IMAGES_MAX {
            return Err(refused("archive", format!("holds {} images", found.len())));
        }
        Ok(found)
    }

    fn layout_images(&self) -> Result<Vec<Found>, ImageError> {
        let index: Index = self.json("index.json")?;
        let mut found: BTreeMap<Digest, Found> = BTreeMap::new();
        for descriptor in &index.manifests {
            let names = names(descriptor, index.manifests.len() == 1, self);
            if let Some(known) = found.get_mut(&descriptor.digest) {
                known.names.extend(names);
                continue;
            }
            let image = self.layout_image(descriptor, names)?;
            found.insert(descriptor.digest.clone(), image);
        }
        Ok(found.into_values().collect())
    }

    fn layout_image(
        &self,
        descriptor: &Descriptor,
        names: Vec<Reference>,
    ) -> Result<Found, ImageError> {
        let shown = descriptor.digest.to_string();
        let mut bytes = self.blob(descriptor)?;
        let manifest = match Document::parse(&shown, &bytes)? {
            Document::Manifest(manifest) => manifest,
            Document::Index(index) => {
                bytes = self.blob(index.choose(&shown)?)?;
                match Document::parse(&shown, &bytes)? {
                    Document::Manifest(manifest) => manifest,
                    Document::Index(_) => return Err(refused(shown, "an index within an index")),
                }
            }
        };
        let config = self.blob(&manifest.config)?;
        let files = manifest
            .layers
            .iter()
            .map(|l| (l.digest.clone(), blob_path(&l.digest)))
            .collect();
        Ok(Found {
            assembly: Assembly::new(&shown, manifest, bytes, config)?,
            names,
            files,
        })
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Bytes, ImageError> {
        let bytes = self.document(&blob_path(&descriptor.digest))?;
        if bytes.len() as u64 != descriptor.size {
            return Err(refused(
                &descriptor.digest,
                format!(
                    "has {} bytes, its descriptor says {}",
                    bytes.len(),
                    descriptor.size
                ),
            ));
        }
        let found = Digest::of(&bytes);
        if found == descriptor.digest {
            Ok(bytes)
        } else {
            Err(refused(
                &descriptor.digest,
                format!("content has digest {found}"),
            ))
        }
    }

    /// Docker's archive has no OCI manifest, so one is made of what it does have.
    fn docker_image(&self, listed: &DockerImage) -> Result<Found, ImageError> {
        let config_bytes = self.document(&listed.config)?;
        let _well_formed = ConfigFile::parse(&listed.config, &config_bytes)?;
        let tags = listed.repo_tags.iter().flatten();
        let names = tags
            .map(|tag| Reference::parse(tag))
            .collect::<Result<Vec<_>, _>>()?;
        let mut files = BTreeMap::new();
        let mut layers = Vec::new();
        for path in listed.layers.iter().flatten() {
            let (digest, size) = self.measure(path)?;
            layers.push(descriptor(manifest::OCI_LAYER, digest.clone(), size));
            files.insert(digest, path.clone());
        }
        let config = descriptor(
            manifest::OCI_CONFIG,
            Digest::of(&config_bytes),
            config_bytes.len() as u64,
        );
        let made = Manifest {
            schema_version: 2,
            media_type: manifest::OCI_MANIFEST.to_owned(),
            config,
            layers,
        };
        let bytes = Bytes::from(serde_json::to_vec(&made).map_err(|e| refused("archive", e))?);
        Ok(Found {
            assembly: Assembly::new(&listed.config, made, bytes, config_bytes)?,
            names,
            files,
        })
    }

    fn measure(&self, path: &str) -> Result<(Digest, u64), ImageError> {
        let mut file = self.file(path)?;
        let mut hasher = Sha256::new();
        let size = io::copy(&mut file, &mut hasher).map_err(io_error(format!("read {path}")))?;
        Ok((Digest::finish(hasher), size))
    }
}

pub(super) fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The names a layout gives an image: containerd's annotation, else the standard one when it is more than a tag, else,
/// for a lone image, what Docker's `manifest.json` beside it says.
fn names(descriptor: &Descriptor, alone: bool, directory: &Directory) -> Vec<Reference> {
    let annotation = |key: &str| {
        descriptor
            .annotations
            .get(key)
            .and_then(|v| Reference::parse(v).ok())
    };
    let whole = |v: &&String| v.contains([':', '/']);
    if let Some(name) = annotation(IMAGE_NAME) {
        return vec![name];
    }
    if descriptor
        .annotations
        .get(REF_NAME)
        .as_ref()
        .is_some_and(whole)
    {
        return annotation(REF_NAME).into_iter().collect();
    }
    if !alone || !directory.has("manifest.json") {
        return Vec::new();
    }
    let listed: Vec<DockerImage> = directory.json("manifest.json").unwrap_or_default();
    let tags = listed
        .into_iter()
        .take(1)
        .flat_map(|image| image.repo_tags.unwrap_or_default());
    tags.filter_map(|tag| Reference::parse(&tag).ok()).collect()
}
