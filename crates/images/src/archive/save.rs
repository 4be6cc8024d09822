//! Saving: an OCI image layout in a tar file, with the `manifest.json` that makes it a `docker save` archive as well.
//!
//! Blobs are written as they are kept, so digests survive. Of an image that came through an index, the manifest for this
//! machine's platform is saved. The same images always give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use ports::images::ImageError;
use serde::Serialize;

use super::load::{blob_path, descriptor};
use crate::digest::Digest;
use crate::error::{io as io_error, refused};
use crate::manifest::{Index, OCI_INDEX};
use crate::reference::Reference;
use crate::store::{Inner, Lease, Record, Store};

const LAYOUT: &[u8] = b"{\"imageLayoutVersion\":\"1.0.0\"}";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

struct Chosen {
    id: Digest,
    record: Record,
    /// The tags asked for; all of them when it was asked for by id.
    tags: BTreeSet<String>,
}

impl Store {
    /// Writes images (names or ids) as one tar archive to `out`.
    ///
    /// # Errors
    /// [`ImageError::NotFound`] for an unknown image before anything is written; [`ImageError::Io`] when writing fails.
    pub async fn save(
        &self,
        references: &[String],
        out: impl Write + Send + 'static,
    ) -> Result<(), ImageError> {
        let references = references.to_vec();
        self.blocking(move |inner| {
            let (chosen, _lease) = choose(inner, &references)?;
            write(inner, &chosen, out)
        })
        .await
    }
}

fn choose(inner: &Arc<Inner>, references: &[String]) -> Result<(Vec<Chosen>, Lease), ImageError> {
    let index = inner.index();
    let mut chosen: BTreeMap<Digest, Chosen> = BTreeMap::new();
    for text in references {
        let (id, record) = index.find(text)?.ok_or_else(|| ImageError::NotFound {
            reference: text.clone(),
        })?;
        let entry = chosen.entry(id.clone());
        let entry = entry.or_insert_with(|| Chosen {
            id: id.clone(),
            record: record.clone(),
            tags: BTreeSet::new(),
        });
        match Reference::parse(text).map(|r| r.to_string()) {
            Ok(name) if record.tags.contains(&name) => {
                entry.tags.insert(name);
            }
            _ => entry.tags.extend(record.tags.iter().cloned()),
        }
    }
    let lease = inner.lease(chosen.values().flat_map(|c| c.record.keys(&c.id)));
    Ok((chosen.into_values().collect(), lease))
}

fn write(inner: &Inner, chosen: &[Chosen], out: impl Write) -> Result<(), ImageError> {
    let mut tar = Tar(tar::Builder::new(out));
    tar.bytes("oci-layout", LAYOUT)?;
    let mut manifests = Vec::new();
    let mut docker = Vec::new();
    let mut blobs = BTreeSet::new();
    for Chosen { id, record, tags } in chosen {
        blobs.extend([id, &record.manifest]);
        blobs.extend(record.layers.iter().map(|l| &l.digest));
        let size = size(inner, &record.manifest)?;
        let plain = descriptor(&record.manifest_media_type, record.manifest.clone(), size);
        if tags.is_empty() {
            manifests.push(plain.clone());
        }
        for tag in tags {
            let short = Reference::parse(tag)?.tag().unwrap_or_default().to_owned();
            let names = [
                ("io.containerd.image.name", tag.clone()),
                ("org.opencontainers.image.ref.name", short),
            ];
            let annotations = names.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            manifests.push(crate::manifest::Descriptor {
                annotations,
                ..plain.clone()
            });
        }
        docker.push(DockerImage {
            config: blob_path(id),
            repo_tags: tags.iter().cloned().collect(),
            layers: record.layers.iter().map(|l| blob_path(&l.digest)).collect(),
        });
    }
    let index = Index {
        schema_version: 2,
        media_type: OCI_INDEX.to_owned(),
        manifests,
    };
    tar.bytes("index.json", &json(&index)?)?;
    tar.bytes("manifest.json", &json(&docker)?)?;
    for digest in blobs {
        tar.file(&blob_path(digest), open(inner, digest)?)?;
    }
    let mut out = tar.0.into_inner().map_err(io_error("write the archive"))?;
    out.flush().map_err(io_error("write the archive"))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(value).map_err(|e| refused("archive", e))
}

fn open(inner: &Inner, digest: &Digest) -> Result<File, ImageError> {
    File::open(inner.layout.blob(digest)).map_err(io_error(format!("open {digest}")))
}

fn size(inner: &Inner, digest: &Digest) -> Result<u64, ImageError> {
    Ok(open(inner, digest)?
        .metadata()
        .map_err(io_error(format!("open {digest}")))?
        .len())
}

/// Writes files that all look alike but for name and content.
struct Tar<W: Write>(tar::Builder<W>);

impl<W: Write> Tar<W> {
    fn bytes(&mut self, path: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.entry(path, bytes.len() as u64, bytes)
    }

    fn file(&mut self, path: &str, file: File) -> Result<(), ImageError> {
        let size = file
            .metadata()
            .map_err(io_error(format!("read {path}")))?
            .len();
        self.entry(path, size, file)
    }

    fn entry(&mut self, path: &str, size: u64, content: impl io::Read) -> Result<(), ImageError> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.0
            .append_data(&mut header, path, content)
            .map_err(io_error(format!("write {path}")))
    }
}
