//! Bytes to frames.

use flate2::{Decompress, FlushDecompress};
use thiserror::Error;

use crate::dictionary::DICTIONARY;
use crate::{
    FIN, Frame, GOAWAY, HEAD, HEADERS, Headers, PING, RST_STREAM, SETTINGS, SYN_REPLY, SYN_STREAM,
    VERSION, WINDOW_UPDATE,
};

/// Bytes one frame may have: kubectl sends at most 32 KiB at once.
const MOST: usize = 1 << 20;
/// Bytes the headers of one frame may have.
const MOST_HEADERS: usize = 64 * 1024;

/// What no connection recovers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// Another protocol, or another version.
    #[error("frame of version {0} instead of {VERSION}")]
    Version(u16),
    /// A frame type SPDY/3.1 has not.
    #[error("frame of unknown type {0}")]
    Kind(u16),
    /// More bytes in a frame, or in its headers, than anyone needs.
    #[error("frame too large")]
    Large,
    /// A payload that ends early.
    #[error("frame truncated")]
    Truncated,
    /// Headers that are no zlib stream or no text.
    #[error("headers malformed")]
    Headers,
}

/// Decodes what one end of a connection receives.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    read: usize,
    inflate: Decompress,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            buffer: Vec::new(),
            read: 0,
            inflate: Decompress::new(true),
        }
    }
}

impl Decoder {
    /// Takes bytes as they arrive.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// [`Error`], after which no frame can be told from another.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        let rest = &self.buffer[self.read..];
        let Some((head, rest)) = rest.split_at_checked(HEAD) else {
            return Ok(None);
        };
        let (first, second) = (word(head, 0)?, word(head, 4)?);
        let length = (second & 0x00ff_ffff) as usize;
        if length > MOST {
            return Err(Error::Large);
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.read += HEAD + length;
        let fin = (second >> 24) as u8 & FIN != 0;
        if first & 0x8000_0000 == 0 {
            let (stream, data) = (first, payload);
            return Ok(Some(Frame::Data { stream, fin, data }));
        }
        let version = (first >> 16) as u16 & 0x7fff;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        self.control(first as u16, fin, &payload).map(Some)
    }

    fn control(&mut self, kind: u16, fin: bool, payload: &[u8]) -> Result<Frame, Error> {
        let stream = || word(payload, 0).map(|id| id & 0x7fff_ffff);
        Ok(match kind {
            SYN_STREAM => Frame::SynStream {
                stream: stream()?,
                fin,
                headers: self.headers(payload.get(10..))?,
            },
            SYN_REPLY => Frame::SynReply {
                stream: stream()?,
                fin,
                headers: self.headers(payload.get(4..))?,
            },
            HEADERS => {
                // Not needed, but part of the zlib stream.
                self.headers(payload.get(4..))?;
                Frame::Other
            }
            RST_STREAM => Frame::Reset {
                stream: stream()?,
                status: word(payload, 4)?,
            },
            PING => Frame::Ping(word(payload, 0)?),
            GOAWAY => Frame::GoAway,
            SETTINGS | WINDOW_UPDATE => Frame::Other,
            other => return Err(Error::Kind(other)),
        })
    }

    fn headers(&mut self, block: Option<&[u8]>) -> Result<Headers, Error> {
        let plain = self.inflate(block.ok_or(Error::Truncated)?)?;
        let mut rest = plain.as_slice();
        let count = number(&mut rest)?;
        let mut out = Vec::new();
        for _ in 0..count {
            out.push((text(&mut rest)?, text(&mut rest)?));
        }
        Ok(out)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, Error> {
        let begin = self.inflate.total_in();
        let mut out = Vec::new();
        loop {
            let done = (self.inflate.total_in() - begin) as usize;
            let before = (done, out.len());
            out.reserve(1024);
            let result =
                self.inflate
                    .decompress_vec(&block[done..], &mut out, FlushDecompress::Sync);
            if let Err(error) = result {
                // The first headers of a connection ask for the dictionary.
                error.needs_dictionary().ok_or(Error::Headers)?;
                let set = self.inflate.set_dictionary(&DICTIONARY);
                set.map_err(|_| Error::Headers)?;
                continue;
            }
            if out.len() > MOST_HEADERS {
                return Err(Error::Large);
            }
            let done = (self.inflate.total_in() - begin) as usize;
            // A full buffer may hide more output.
            if out.len() < out.capacity() && (done == block.len() || (done, out.len()) == before) {
                return Ok(out);
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let bytes = bytes.get(at..at + 4).ok_or(Error::Truncated)?;
    let bytes = bytes.try_into().map_err(|_| Error::Truncated)?;
    Ok(u32::from_be_bytes(bytes))
}

fn number(rest: &mut &[u8]) -> Result<u32, Error> {
    let value = word(rest, 0)?;
    *rest = &rest[4..];
    Ok(value)
}

fn text(rest: &mut &[u8]) -> Result<String, Error> {
    let length = number(rest)? as usize;
    let (text, after) = rest.split_at_checked(length).ok_or(Error::Truncated)?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| Error::Headers)
}
