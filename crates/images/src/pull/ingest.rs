//! One layer on its way in: kept compressed and unpacked at the same time, and believed only when both digests agree.
//!
//! The compressed blob stays in the store: `save` then writes the very bytes a registry served, digests and all, and a
//! layer can be unpacked again without the network. That costs its compressed size on disk, as it does in containerd.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use ports::images::ImageError;
use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempDir};

use crate::digest::Digest;
use crate::error::{io as io_error, refused};
use crate::store::Inner;
use crate::unpack::{UnpackError, Unpacked, unpack};

/// What is known of a layer before it comes; what is `None` is found out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    pub(crate) digest: Option<Digest>,
    pub(crate) size: Option<u64>,
    pub(crate) diff_id: Option<Digest>,
}

/// A layer that is whole and verified but has no names yet; dropping it removes it.
pub(crate) struct Ingested {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
    /// It has to be unpacked again when the layers below are there.
    pub(crate) leans_on_lower: bool,
    blob: NamedTempFile,
    layer: TempDir,
}

/// Copies what is read to a file, hashing and counting.
struct Tee<R> {
    source: R,
    copy: NamedTempFile,
    hasher: Sha256,
    count: u64,
    limit: u64,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.count += n as u64;
        if self.count > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("has more than the {} bytes its descriptor says", self.limit),
            ));
        }
        self.hasher.update(&buffer[..n]);
        // Not `InvalidData` and its like: a full disk is no fault of the layer.
        self.copy.write_all(&buffer[..n])?;
        Ok(n)
    }
}

/// Takes a layer in. `bottom` layers have nothing below to lean on.
pub(crate) fn ingest(
    inner: &Inner,
    source: impl Read,
    expected: &Expected,
    bottom: bool,
) -> Result<Ingested, ImageError> {
    let shown = expected
        .digest
        .as_ref()
        .map_or_else(|| "layer".to_owned(), Digest::to_string);
    let copy = inner.layout.temporary_file()?;
    let layer = inner.layout.temporary_directory()?;
    let limit = expected.size.unwrap_or(u64::MAX);
    let mut tee = Tee {
        source,
        copy,
        hasher: Sha256::new(),
        count: 0,
        limit,
    };
    let lower: Option<&[PathBuf]> = if bottom { Some(&[]) } else { None };
    let unpacked =
        unpack(&mut tee, layer.path(), lower, inner.limits).map_err(|e| image_error(&shown, e))?;
    // Padding after the archive's end belongs to the digest as well.
    io::copy(&mut tee, &mut io::sink())
        .map_err(|e| image_error(&shown, crate::unpack::classify(e)))?;
    let (digest, size) = (Digest::finish(tee.hasher), tee.count);
    if let Some(told) = expected.size.filter(|told| *told != size) {
        return Err(refused(
            shown,
            format!("has {size} bytes, its descriptor says {told}"),
        ));
    }
    check(&shown, expected.digest.as_ref(), &digest, "content")?;
    check(
        &shown,
        expected.diff_id.as_ref(),
        &unpacked.diff_id,
        "uncompressed content",
    )?;
    let Unpacked {
        diff_id,
        leans_on_lower,
    } = unpacked;
    Ok(Ingested {
        digest,
        size,
        diff_id,
        leans_on_lower,
        blob: tee.copy,
        layer,
    })
}

impl Ingested {
    /// Gives blob and layer their names. A layer that leans on others only keeps its blob.
    pub(crate) fn keep(self, inner: &Inner, chain_id: &Digest) -> Result<(), ImageError> {
        inner
            .layout
            .keep_file(self.blob, &inner.layout.blob(&self.digest))?;
        if self.leans_on_lower {
            return Ok(());
        }
        inner.layout.keep_layer(self.layer, chain_id)
    }
}

/// Unpacks a blob the store has. `lower`, uppermost first, when the layers below are there; true when they are needed
/// and were not given.
pub(crate) fn unpack_blob(
    inner: &Inner,
    digest: &Digest,
    diff_id: &Digest,
    chain_id: &Digest,
    lower: Option<&[PathBuf]>,
) -> Result<bool, ImageError> {
    let path = inner.layout.blob(digest);
    let blob = File::open(&path).map_err(io_error(format!("open {}", path.display())))?;
    let layer = inner.layout.temporary_directory()?;
    let shown = digest.to_string();
    let unpacked =
        unpack(blob, layer.path(), lower, inner.limits).map_err(|e| image_error(&shown, e))?;
    check(
        &shown,
        Some(diff_id),
        &unpacked.diff_id,
        "uncompressed content",
    )?;
    if unpacked.leans_on_lower {
        return Ok(true);
    }
    inner.layout.keep_layer(layer, chain_id).map(|()| false)
}

fn check(
    shown: &str,
    expected: Option<&Digest>,
    found: &Digest,
    what: &str,
) -> Result<(), ImageError> {
    match expected.filter(|e| *e != found) {
        Some(expected) => Err(refused(
            shown,
            format!("{what} has digest {found}, expected {expected}"),
        )),
        None => Ok(()),
    }
}

pub(crate) fn image_error(shown: &str, error: UnpackError) -> ImageError {
    match error {
        UnpackError::Refused(reason) => refused(shown, reason),
        UnpackError::Read(source) => ImageError::Io {
            what: format!("unpack {shown}"),
            source,
        },
        UnpackError::Write { what, source } => ImageError::Io {
            what: format!("unpack {shown}: {what}"),
            source,
        },
    }
}
