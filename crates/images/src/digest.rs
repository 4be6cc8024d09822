//! Content digests, `sha256:<64 hex>`. Only sha256 names content here: it is what every registry serves.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A sha256 digest in its canonical spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

const PREFIX: &str = "sha256:";
const HEX_LENGTH: usize = 64;

impl Digest {
    /// Digest of bytes in hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    /// Digest of all that `hasher` was fed.
    pub(crate) fn finish(hasher: Sha256) -> Self {
        let mut text = String::with_capacity(PREFIX.len() + HEX_LENGTH);
        text.push_str(PREFIX);
        for byte in hasher.finalize() {
            text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        }
        Self(text)
    }

    /// Reads `sha256:<64 hex>`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix(PREFIX)?;
        is_hex(hex).then(|| Self(text.to_owned()))
    }

    /// Reads the digest of a reference, with the words of upstream's `digest` package for what is wrong.
    pub(crate) fn parse_in_reference(text: &str) -> Result<Self, String> {
        let (algorithm, hex) = text.split_once(':').ok_or("invalid reference format")?;
        let algorithm_ok = !algorithm.is_empty()
            && algorithm
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_+.".contains(&b));
        if !algorithm_ok || hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("invalid reference format".to_owned());
        }
        match algorithm {
            "sha256" if hex.len() != HEX_LENGTH => Err("invalid checksum digest length".to_owned()),
            "sha256" => {
                Self::parse(text).ok_or_else(|| "invalid checksum digest format".to_owned())
            }
            _ => Err("unsupported digest algorithm".to_owned()),
        }
    }

    /// The part after `sha256:`; safe as a file name.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_hex(text: &str) -> bool {
    text.len() == HEX_LENGTH
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("unsupported digest {text:?}"))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}
