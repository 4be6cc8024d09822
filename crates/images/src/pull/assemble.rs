//! From a verified manifest and configuration to an image in the store, wherever the layers come from.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use ports::images::{Image, ImageError, PullProgress, PullStage};

use super::feed::feed;
use super::ingest::{Expected, ingest, unpack_blob};
use crate::digest::Digest;
use crate::error::io as io_error;
use crate::manifest::{self, ConfigFile, Descriptor, Manifest};
use crate::reference::Reference;
use crate::registry::Registry;
use crate::registry::blob::BlobReader;
use crate::store::{Inner, LayerRecord, Record, inner_image};

/// Layers fetched and unpacked at once for one image.
const PARALLEL: usize = 3;
/// A progress message at most every so many bytes.
const PROGRESS_STEP: u64 = 512 << 10;

/// Receives progress of all layers.
pub(crate) type Report = Arc<dyn Fn(PullProgress) + Send + Sync>;

/// An image about to be: both documents, verified.
pub(crate) struct Assembly {
    manifest: Manifest,
    manifest_media_type: String,
    manifest_digest: Digest,
    manifest_bytes: Bytes,
    config: ConfigFile,
    config_bytes: Bytes,
    layers: Vec<Layer>,
}

#[derive(Clone)]
struct Layer {
    descriptor: Descriptor,
    diff_id: Digest,
    chain_id: Digest,
    bottom: bool,
}

/// Opens the file that holds a blob.
pub(crate) type OpenBlob = Arc<dyn Fn(&Digest) -> Result<File, ImageError> + Send + Sync>;

/// Where layers come from.
#[derive(Clone)]
pub(crate) enum Source {
    Registry(Arc<Registry>),
    Archive(OpenBlob),
}

impl Assembly {
    /// Checks that manifest, configuration and machine belong together.
    pub(crate) fn new(
        shown: &str,
        manifest: Manifest,
        manifest_bytes: Bytes,
        config_bytes: Bytes,
    ) -> Result<Self, ImageError> {
        let config = ConfigFile::parse(shown, &config_bytes)?;
        config.check(shown, manifest.layers.len())?;
        let chain = manifest::chain_ids(&config.rootfs.diff_ids);
        let parts = manifest
            .layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .zip(chain)
            .enumerate();
        let layer =
            |(i, ((descriptor, diff_id), chain_id)): (usize, ((&Descriptor, &Digest), Digest))| {
                Layer {
                    descriptor: descriptor.clone(),
                    diff_id: diff_id.clone(),
                    chain_id,
                    bottom: i == 0,
                }
            };
        let layers = parts.map(layer).collect();
        let manifest_media_type = if manifest.media_type.is_empty() {
            manifest::OCI_MANIFEST.to_owned()
        } else {
            manifest.media_type.clone()
        };
        let manifest_digest = Digest::of(&manifest_bytes);
        Ok(Self {
            manifest,
            manifest_media_type,
            manifest_digest,
            manifest_bytes,
            config,
            config_bytes,
            layers,
        })
    }

    /// Brings all layers in and enters the image under `names`.
    pub(crate) async fn complete(
        self,
        inner: &Arc<Inner>,
        source: &Source,
        names: Vec<Reference>,
        report: Report,
    ) -> Result<Image, ImageError> {
        let refused = {
            let record = self.record();
            let _lease = inner.lease(record.keys(&self.manifest.config.digest));
            match self.bring_layers(inner, source, &report).await {
                Ok(()) => return self.enter(inner, record, names).await,
                Err(error) => error,
            }
        };
        // Layers that came whole stay for another try, but not those of an image that is never taken.
        if matches!(refused, ImageError::Refused { .. }) {
            inner.blocking(|inner| inner.sweep()).await?;
        }
        Err(refused)
    }

    async fn enter(
        self,
        inner: &Arc<Inner>,
        record: Record,
        names: Vec<Reference>,
    ) -> Result<Image, ImageError> {
        let id = self.manifest.config.digest.clone();
        let documents = [
            (self.manifest_digest, self.manifest_bytes),
            (id.clone(), self.config_bytes),
        ];
        let entering = move |inner: &Arc<Inner>| {
            for (digest, bytes) in &documents {
                write_blob(inner, digest, bytes)?;
            }
            inner.change(|index| {
                let known = index.images.remove(&id);
                let mut record = record;
                if let Some(known) = known {
                    (record.tags, record.digests) = (known.tags, known.digests);
                }
                index.images.insert(id.clone(), record);
                for name in &names {
                    index.name(&id, name);
                }
                inner_image(index, &id)
            })
        };
        inner.blocking(entering).await
    }

    fn record(&self) -> Record {
        let layers = self.layers.iter().map(|l| LayerRecord {
            digest: l.descriptor.digest.clone(),
            chain_id: l.chain_id.clone(),
        });
        Record {
            manifest: self.manifest_digest.clone(),
            manifest_media_type: self.manifest_media_type.clone(),
            layers: layers.collect(),
            tags: Default::default(),
            digests: Default::default(),
            size_bytes: self.manifest.size_bytes(),
            config: self.config.config.clone().into(),
        }
    }

    async fn bring_layers(
        &self,
        inner: &Arc<Inner>,
        source: &Source,
        report: &Report,
    ) -> Result<(), ImageError> {
        let fetches = self.layers.iter().map(|layer| {
            let (inner, layer, source, report) =
                (inner.clone(), layer.clone(), source.clone(), report.clone());
            async move { bring(&inner, &layer, &source, &report).await }.boxed()
        });
        let fetches: Vec<BoxFuture<'static, Result<bool, ImageError>>> = fetches.collect();
        // Leaning layers wait until all others have come, and then go in order, bottom first.
        let leaning: Vec<bool> = stream::iter(fetches)
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        for (i, layer) in self.layers.iter().enumerate().filter(|(i, _)| leaning[*i]) {
            let lower: Vec<PathBuf> = self.layers[..i]
                .iter()
                .rev()
                .map(|l| inner.layout.layer(&l.chain_id))
                .collect();
            let _turn = inner.flight(&layer.descriptor.digest).await;
            let layer = layer.clone();
            let again = move |inner: &Arc<Inner>| {
                if inner.layout.layer(&layer.chain_id).exists() {
                    return Ok(false);
                }
                unpack_blob(
                    inner,
                    &layer.descriptor.digest,
                    &layer.diff_id,
                    &layer.chain_id,
                    Some(&lower),
                )
            };
            inner.blocking(again).await?;
        }
        Ok(())
    }
}

/// Brings one layer in. True when it leans on those below and has to be unpacked again when they are there.
async fn bring(
    inner: &Arc<Inner>,
    layer: &Layer,
    source: &Source,
    report: &Report,
) -> Result<bool, ImageError> {
    let descriptor = &layer.descriptor;
    let say = |stage, done_bytes| {
        report(PullProgress {
            digest: descriptor.digest.to_string(),
            done_bytes,
            total_bytes: descriptor.size,
            stage,
        });
    };
    let _turn = inner.flight(&descriptor.digest).await;
    let blob_here = inner.layout.blob(&descriptor.digest).exists();
    if blob_here && inner.layout.layer(&layer.chain_id).exists() {
        say(PullStage::Exists, descriptor.size);
        return Ok(false);
    }
    let leaning = if blob_here {
        let layer = layer.clone();
        let lower: Option<&'static [PathBuf]> = if layer.bottom { Some(&[]) } else { None };
        let here = move |inner: &Arc<Inner>| {
            unpack_blob(
                inner,
                &layer.descriptor.digest,
                &layer.diff_id,
                &layer.chain_id,
                lower,
            )
        };
        inner.blocking(here).await?
    } else {
        match source {
            Source::Registry(registry) => download(inner, registry, layer, &say).await?,
            Source::Archive(open) => {
                let (open, layer) = (open.clone(), layer.clone());
                inner
                    .blocking(move |inner| take(inner, open(&layer.descriptor.digest)?, &layer))
                    .await?
            }
        }
    };
    say(PullStage::Done, descriptor.size);
    Ok(leaning)
}

/// Streams a layer from the registry into the unpacker.
async fn download(
    inner: &Arc<Inner>,
    registry: &Registry,
    layer: &Layer,
    say: &(impl Fn(PullStage, u64) + Sync),
) -> Result<bool, ImageError> {
    let (sender, reader) = feed();
    let unpacking = {
        let (inner, layer) = (inner.clone(), layer.clone());
        tokio::task::spawn_blocking(move || take(&inner, reader, &layer))
    };
    let joined = |e: tokio::task::JoinError| io_error("unpack a layer")(std::io::Error::other(e));
    let mut blob = BlobReader::new(registry, &layer.descriptor);
    let mut said = 0;
    say(PullStage::Downloading, 0);
    loop {
        match blob.next().await {
            Ok(Some(chunk)) => {
                if sender.send(Some(chunk)).await.is_err() {
                    break;
                }
                if blob.offset() >= said + PROGRESS_STEP {
                    said = blob.offset();
                    say(PullStage::Downloading, said);
                }
            }
            Ok(None) => {
                // A reader that is gone has its own error to tell.
                let _told = sender.send(None).await;
                break;
            }
            Err(error) => {
                drop(sender);
                let _abandoned = unpacking.await;
                return Err(error);
            }
        }
    }
    unpacking.await.map_err(joined)?
}

/// Takes a layer in and keeps it; true when it leans on those below.
fn take(inner: &Arc<Inner>, source: impl std::io::Read, layer: &Layer) -> Result<bool, ImageError> {
    let expected = Expected {
        digest: Some(layer.descriptor.digest.clone()),
        size: Some(layer.descriptor.size),
        diff_id: Some(layer.diff_id.clone()),
    };
    let ingested = ingest(inner, source, &expected, layer.bottom)?;
    let leaning = ingested.leans_on_lower;
    ingested.keep(inner, &layer.chain_id)?;
    Ok(leaning)
}

pub(crate) fn write_blob(inner: &Inner, digest: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
    let target = inner.layout.blob(digest);
    if target.exists() {
        return Ok(());
    }
    let mut file = inner.layout.temporary_file()?;
    file.write_all(bytes)
        .map_err(io_error(format!("write {}", target.display())))?;
    inner.layout.keep_file(file, &target)
}
