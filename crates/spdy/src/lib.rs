//! SPDY/3.1 frames, as far as `kubectl exec`, `attach` and `port-forward` speak it (spec kubectl-and-api §13.3, §13.6).
//!
//! Pure: bytes in, frames out, and back. What streams mean, and who reads and writes them, is left to others. Clients of the Kubernetes
//! API keep no flow-control windows, so nothing here counts them.
//!
//! Invariant: both directions compress headers with one zlib stream each, for the life of a connection; so frames must be encoded in
//! the order they are sent, and an [`Error`] from a [`Decoder`] ends its connection.

mod decode;
mod dictionary;
mod encode;

pub use decode::{Decoder, Error};
pub use encode::Encoder;

/// Names and values in order; names in lower case.
pub type Headers = Vec<(String, String)>;

/// Bytes of data one frame may carry.
pub const MOST_DATA: usize = (1 << 24) - 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

const VERSION: u16 = 3;
const FIN: u8 = 1;
/// Bytes before a frame's payload.
const HEAD: usize = 8;

/// Status of [`Frame::Reset`]: the stream is not wanted.
pub const REFUSED_STREAM: u32 = 3;

/// A frame (SPDY/3.1 §2.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream; a client's have odd numbers.
    SynStream {
        /// The stream.
        stream: u32,
        /// Whether the sender will send no data on it.
        fin: bool,
        /// What it is for.
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// The stream.
        stream: u32,
        /// Whether the sender will send no data on it.
        fin: bool,
        /// Usually none.
        headers: Headers,
    },
    /// Ends a stream in both directions.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// Is to be sent back as it is.
    Ping(u32),
    /// The sender accepts no more streams.
    GoAway,
    /// Data of a stream.
    Data {
        /// The stream.
        stream: u32,
        /// Whether it is the last.
        fin: bool,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Settings, window updates and late headers, which ask for nothing.
    Other,
}

#[cfg(test)]
mod tests;
