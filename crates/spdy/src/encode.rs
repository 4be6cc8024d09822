//! Frames to bytes.

use flate2::{Compress, Compression, FlushCompress};

use crate::dictionary::DICTIONARY;
use crate::{
    FIN, Frame, GOAWAY, Headers, MOST_DATA, PING, RST_STREAM, SYN_REPLY, SYN_STREAM, VERSION,
};

/// Encodes what one end of a connection sends.
#[derive(Debug)]
pub struct Encoder {
    deflate: Compress,
}

impl Default for Encoder {
    fn default() -> Self {
        let mut deflate = Compress::new(Compression::fast(), true);
        // Refused only by a stream that has begun.
        let _ = deflate.set_dictionary(&DICTIONARY);
        Encoder { deflate }
    }
}

impl Encoder {
    /// Appends `frame` to `out`. Data longer than [`MOST_DATA`] becomes several frames.
    pub fn encode(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match frame {
            Frame::SynStream {
                stream,
                fin,
                headers,
            } => {
                let mut payload = stream.to_be_bytes().to_vec();
                // Associated stream, priority and slot.
                payload.extend([0; 6]);
                self.headers(headers, &mut payload);
                control(out, SYN_STREAM, *fin, &payload);
            }
            Frame::SynReply {
                stream,
                fin,
                headers,
            } => {
                let mut payload = stream.to_be_bytes().to_vec();
                self.headers(headers, &mut payload);
                control(out, SYN_REPLY, *fin, &payload);
            }
            Frame::Reset { stream, status } => {
                control(out, RST_STREAM, false, &pair(*stream, *status))
            }
            Frame::Ping(id) => control(out, PING, false, &id.to_be_bytes()),
            Frame::GoAway => control(out, GOAWAY, false, &pair(0, 0)),
            Frame::Data { stream, fin, data } => self.data(out, *stream, *fin, data),
            Frame::Other => {}
        }
    }

    /// As [`Encoder::encode`] with [`Frame::Data`], for borrowed bytes.
    pub fn data(&mut self, out: &mut Vec<u8>, stream: u32, fin: bool, data: &[u8]) {
        let mut rest = data;
        loop {
            let (now, later) = rest.split_at(rest.len().min(MOST_DATA));
            out.extend((stream & 0x7fff_ffff).to_be_bytes());
            head(out, fin && later.is_empty(), now.len());
            out.extend_from_slice(now);
            rest = later;
            if rest.is_empty() {
                return;
            }
        }
    }

    fn headers(&mut self, headers: &Headers, out: &mut Vec<u8>) {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend((text.len() as u32).to_be_bytes());
            block.extend(text.bytes());
        }
        let before = self.deflate.total_in();
        loop {
            out.reserve(block.len() + 64);
            let done = (self.deflate.total_in() - before) as usize;
            let room = out.capacity() - out.len();
            let written = out.len();
            // Fails only on a stream that was finished, which this one never is.
            let _ = self
                .deflate
                .compress_vec(&block[done..], out, FlushCompress::Sync);
            if out.len() - written < room {
                return;
            }
        }
    }
}

fn pair(a: u32, b: u32) -> [u8; 8] {
    (u64::from(a) << 32 | u64::from(b)).to_be_bytes()
}

fn head(out: &mut Vec<u8>, fin: bool, length: usize) {
    let flags = if fin { FIN } else { 0 };
    out.extend((u32::from(flags) << 24 | length as u32).to_be_bytes());
}

fn control(out: &mut Vec<u8>, kind: u16, fin: bool, payload: &[u8]) {
    out.extend((VERSION | 0x8000).to_be_bytes());
    out.extend(kind.to_be_bytes());
    head(out, fin, payload.len());
    out.extend_from_slice(payload);
}
