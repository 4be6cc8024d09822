//! Unpacking layers that nobody vouches for into directories that overlayfs stacks.
//!
//! Every path is resolved with `openat2(RESOLVE_IN_ROOT)`, so a symbolic link in a layer leads where it would lead inside
//! the container and never out of the layer. Whiteouts become overlayfs's own (character device 0:0 and
//! `trusted.overlay.opaque`). Device nodes, entry names that are absolute or hold `..`, and overlayfs's private
//! attributes are refused: the whole layer is then refused, and its caller removes the directory.
//!
//! A layer may lean on those below it: it may name `lib/x` where `lib` is a link in a lower layer, or hard-link to a file
//! only a lower layer has. Layers unpack in parallel, so the first attempt works without a view of the lower ones and
//! reports [`Unpacked::leans_on_lower`]; the caller then unpacks again with that view.

mod attributes;
mod limits;
mod lower;
pub(crate) mod reader;
mod stream;
mod tree;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use limits::Limits;

use crate::digest::Digest;
use reader::Reader;
pub(crate) use stream::Hashed;
use tree::Tree;

/// Why a layer did not unpack.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// The archive is malformed or hostile.
    #[error("{0}")]
    Refused(String),
    /// The stream below failed: the network, or the disk the archive is on.
    #[error("read")]
    Read(#[source] io::Error),
    /// The disk unpacked to failed.
    #[error("{what}")]
    Write {
        what: String,
        #[source]
        source: io::Error,
    },
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// Something was missing that a lower layer may have.
    pub(crate) leans_on_lower: bool,
}

/// Unpacks the archive `source` (tar, plain or compressed) into the existing empty directory `target`.
/// `lower` are the layers below, uppermost first, when they are known.
pub(crate) fn unpack(
    source: impl Read,
    target: &Path,
    lower: Option<&[PathBuf]>,
    limits: Limits,
) -> Result<Unpacked, UnpackError> {
    let plain = stream::plain(source, limits).map_err(classify)?;
    let mut reader = Reader::new(Hashed::new(plain));
    let mut tree = Tree::open(target, lower)?;
    let mut entries = 0;
    while let Some(entry) = reader.next_entry().map_err(classify)? {
        entries += 1;
        if entries > limits.entries {
            return Err(UnpackError::Refused(format!(
                "more than {} entries",
                limits.entries
            )));
        }
        tree.apply(&entry, &mut reader)?;
    }
    let leans_on_lower = tree.finish()?;
    let diff_id = reader.into_inner().finish().map_err(classify)?;
    Ok(Unpacked {
        diff_id,
        leans_on_lower,
    })
}

/// Decoders and the tar reader report bad data through these kinds; everything else is the source failing. A source must
/// not use them for failures of its own.
pub(crate) fn classify(error: io::Error) -> UnpackError {
    let malformed = match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            true
        }
        // zstd reports a corrupt frame as `Other`; so does no system call.
        io::ErrorKind::Other => error.raw_os_error().is_none(),
        _ => false,
    };
    if malformed {
        UnpackError::Refused(error.to_string())
    } else {
        UnpackError::Read(error)
    }
}
