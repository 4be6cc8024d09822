//! Importing a bare root file system as an image of one layer.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ports::images::{Image, ImageConfig, ImageError};

use super::load::descriptor;
use crate::error::{io as io_error, refused};
use crate::manifest::{self, ConfigFile, Manifest, Platform, RootFs};
use crate::pull::assemble::{Assembly, Source};
use crate::pull::ingest::{Expected, ingest};
use crate::reference::Reference;
use crate::store::{Inner, Key, Lease, Store};

impl Store {
    /// Makes an image of a root file system in a tar file (plain, gzip or zstd), to be run as `config` says.
    ///
    /// # Errors
    /// [`ImageError::InvalidName`] for the name, [`ImageError::Refused`] for a damaged or hostile archive.
    pub async fn import(
        &self,
        archive: &Path,
        name: &str,
        config: ImageConfig,
    ) -> Result<Image, ImageError> {
        let file = File::open(archive).map_err(io_error(format!("open {}", archive.display())))?;
        self.import_stream(file, name, config).await
    }

    /// The same from a stream, such as standard input.
    ///
    /// # Errors
    /// As [`Store::import`].
    pub async fn import_stream(
        &self,
        archive: impl Read + Send + 'static,
        name: &str,
        config: ImageConfig,
    ) -> Result<Image, ImageError> {
        let reference = Reference::parse(name)?;
        if reference.digest().is_some() {
            let reason = "an import is named by tag".to_owned();
            return Err(ImageError::InvalidName {
                reference: name.to_owned(),
                reason,
            });
        }
        let (assembly, _lease) = self
            .blocking(move |inner| take(inner, archive, config))
            .await?;
        let nothing_more = |digest: &_| Err(refused("archive", format!("{digest} is missing")));
        assembly
            .complete(
                &self.inner,
                &Source::Archive(Arc::new(nothing_more)),
                vec![reference],
                Arc::new(|_| {}),
            )
            .await
    }
}

fn take(
    inner: &Arc<Inner>,
    archive: impl Read,
    config: ImageConfig,
) -> Result<(Assembly, Lease), ImageError> {
    let ingested = ingest(inner, archive, &Expected::default(), true)?;
    let host = Platform::host();
    let rootfs = RootFs {
        kind: "layers".to_owned(),
        diff_ids: vec![ingested.diff_id.clone()],
    };
    let file = ConfigFile {
        architecture: host.architecture,
        os: host.os,
        config: config.into(),
        rootfs,
    };
    let json = |e: serde_json::Error| refused("archive", e);
    let config_bytes = Bytes::from(serde_json::to_vec(&file).map_err(json)?);
    let made = Manifest {
        schema_version: 2,
        media_type: manifest::OCI_MANIFEST.to_owned(),
        config: descriptor(
            manifest::OCI_CONFIG,
            crate::Digest::of(&config_bytes),
            config_bytes.len() as u64,
        ),
        layers: vec![descriptor(
            manifest::OCI_LAYER,
            ingested.digest.clone(),
            ingested.size,
        )],
    };
    let bytes = Bytes::from(serde_json::to_vec(&made).map_err(json)?);
    // The chain id of a single layer is its diff id.
    let diff_id = ingested.diff_id.clone();
    let lease = inner.lease([
        Key::Blob(ingested.digest.clone()),
        Key::Layer(diff_id.clone()),
    ]);
    ingested.keep(inner, &diff_id)?;
    Ok((Assembly::new("import", made, bytes, config_bytes)?, lease))
}
