//! The body of an HTML page, rewritten as it arrives. Pages that are compressed are decompressed and compressed again.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzEncoder, MultiGzDecoder};
use hyper::body::{Body, Frame};

use super::html::Html;
use super::links::Links;
use crate::respond::BoxError;

/// So many bytes are looked at before what became of them is passed on: compressed, they are at most a thousand times as many.
const STEP: usize = 1 << 10;

/// Where coders put what they make, until it is taken.
type Buffer = Vec<u8>;
type Pair<D, E> = Box<(D, E)>;
type Rewrite = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send>;

/// How a body is encoded, both as it comes and as it goes.
pub(super) enum Codec {
    /// Not at all.
    Plain,
    /// `Content-Encoding: gzip`.
    Gzip(Pair<MultiGzDecoder<Buffer>, GzEncoder<Buffer>>),
    /// `Content-Encoding: deflate`, without the frame of zlib, as upstream has it.
    Deflate(Pair<DeflateDecoder<Buffer>, DeflateEncoder<Buffer>>),
}

impl Codec {
    /// The codec of a `Content-Encoding`, which is empty where there is none; `None` when the encoding is not understood.
    pub(super) fn of(encoding: &[u8]) -> Option<Codec> {
        let none = Buffer::new;
        match encoding {
            b"" => Some(Codec::Plain),
            b"gzip" => Some(Codec::Gzip(Box::new((
                MultiGzDecoder::new(none()),
                GzEncoder::new(none(), Compression::default()),
            )))),
            b"deflate" => Some(Codec::Deflate(Box::new((
                DeflateDecoder::new(none()),
                DeflateEncoder::new(none(), Compression::best()),
            )))),
            _ => None,
        }
    }

    fn decode(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Codec::Plain => Ok(bytes.to_vec()),
            Codec::Gzip(codec) => {
                write_some(&mut codec.0, bytes)?;
                Ok(std::mem::take(codec.0.get_mut()))
            }
            Codec::Deflate(codec) => {
                write_some(&mut codec.0, bytes)?;
                Ok(std::mem::take(codec.0.get_mut()))
            }
        }
    }

    /// The encoded text, all of it if it is to be `flushed`.
    fn encode(&mut self, text: Vec<u8>, flushed: bool) -> io::Result<Vec<u8>> {
        let flushed = flushed && !text.is_empty();
        match self {
            Codec::Plain => Ok(text),
            Codec::Gzip(codec) => {
                codec.1.write_all(&text)?;
                if flushed {
                    codec.1.flush()?;
                }
                Ok(std::mem::take(codec.1.get_mut()))
            }
            Codec::Deflate(codec) => {
                codec.1.write_all(&text)?;
                if flushed {
                    codec.1.flush()?;
                }
                Ok(std::mem::take(codec.1.get_mut()))
            }
        }
    }

    /// What is left to decode when the body ends, which fails if more should have come.
    fn decode_end(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Codec::Plain => Ok(Vec::new()),
            Codec::Gzip(codec) => {
                codec.0.try_finish()?;
                Ok(std::mem::take(codec.0.get_mut()))
            }
            Codec::Deflate(codec) => {
                codec.0.try_finish()?;
                Ok(std::mem::take(codec.0.get_mut()))
            }
        }
    }

    fn encode_end(&mut self, text: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = self.encode(text, false)?;
        match self {
            Codec::Plain => {}
            Codec::Gzip(codec) => {
                codec.1.try_finish()?;
                out.append(codec.1.get_mut());
            }
            Codec::Deflate(codec) => {
                codec.1.try_finish()?;
                out.append(codec.1.get_mut());
            }
        }
        Ok(out)
    }
}

/// Writes bytes until the decoder wants no more of them, because its stream has ended.
fn write_some(decoder: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match decoder.write(bytes)? {
            0 => break,
            taken => bytes = &bytes[taken..],
        }
    }
    decoder.flush()
}

/// A page whose links lead through the proxy.
pub(super) struct Page<B> {
    source: B,
    /// What came and was not looked at yet.
    pending: Bytes,
    html: Html<Rewrite>,
    codec: Codec,
    ended: bool,
}

impl<B> Page<B> {
    pub(super) fn new(source: B, codec: Codec, links: Links) -> Self {
        // What is no URL stays as it is.
        let rewrite: Rewrite = Box::new(move |url| links.rewrite(url).ok());
        Page {
            source,
            pending: Bytes::new(),
            html: Html::new(rewrite),
            codec,
            ended: false,
        }
    }

    /// What becomes of the next step of what came.
    fn step(&mut self) -> io::Result<Vec<u8>> {
        let step = self.pending.split_to(self.pending.len().min(STEP));
        let text = self.codec.decode(&step)?;
        let mut out = Vec::with_capacity(text.len());
        self.html.feed(&text, &mut out);
        self.codec.encode(out, self.pending.is_empty())
    }

    fn end(&mut self) -> io::Result<Vec<u8>> {
        self.ended = true;
        let text = self.codec.decode_end()?;
        let mut out = Vec::new();
        self.html.feed(&text, &mut out);
        self.html.finish(&mut out);
        self.codec.encode_end(out)
    }
}

impl<B, E> Body for Page<B>
where
    B: Body<Data = Bytes, Error = E> + Unpin,
    E: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        while !this.ended {
            let done = if this.pending.is_empty() {
                match ready!(Pin::new(&mut this.source).poll_frame(context)) {
                    Some(Ok(frame)) => {
                        // Trailers are about the body as it was.
                        this.pending = frame.into_data().unwrap_or_default();
                        continue;
                    }
                    Some(Err(error)) => Err(error.into()),
                    None => this.end().map_err(BoxError::from),
                }
            } else {
                this.step().map_err(BoxError::from)
            };
            match done {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
                Err(error) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Read;

    use futures::{FutureExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use tokio::sync::mpsc;

    use super::*;

    const LINK: &str = "<a href=\"/x\">";
    const LED: &str = "<a href=\"/p/x\">";

    fn links() -> Links {
        Links {
            prefix: "/p".into(),
            ..Links::default()
        }
    }

    fn encoded(encoding: &str, text: &str) -> Vec<u8> {
        let mut codec = Codec::of(encoding.as_bytes()).unwrap();
        codec.encode_end(text.into()).unwrap()
    }

    fn decoded(encoding: &str, mut bytes: &[u8]) -> String {
        let mut text = String::new();
        let read = match encoding {
            "gzip" => flate2::read::GzDecoder::new(bytes).read_to_string(&mut text),
            "deflate" => flate2::read::DeflateDecoder::new(bytes).read_to_string(&mut text),
            _ => bytes.read_to_string(&mut text),
        };
        read.unwrap();
        text
    }

    /// What a body of these bytes becomes, if it comes so many at a time.
    async fn page(encoding: &str, bytes: &[u8], size: usize) -> Result<Vec<u8>, BoxError> {
        let frames = bytes
            .chunks(size)
            .map(|c| Frame::data(Bytes::copy_from_slice(c)));
        let frames: Vec<Result<_, Infallible>> = frames.map(Ok).collect();
        let source = StreamBody::new(stream::iter(frames));
        let codec = Codec::of(encoding.as_bytes()).unwrap();
        let page = Page::new(source, codec, links());
        Ok(page.collect().await?.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn pages_are_rewritten_in_every_encoding() {
        let long = LINK.repeat(50_000);
        for encoding in ["", "gzip", "deflate"] {
            for text in ["", "no links", LINK, &long] {
                for size in [1, 7, 1 << 14] {
                    if size == 1 && text.len() > 1000 && encoding.is_empty() {
                        continue;
                    }
                    let body = encoded(encoding, text);
                    let got = page(encoding, &body, size).await.unwrap();
                    let got = decoded(encoding, &got);
                    assert!(got == text.replace(LINK, LED), "{encoding} {size}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_is_not_what_it_says_breaks() {
        let whole = encoded("gzip", LINK);
        for body in [&whole[..whole.len() - 1], b"no gzip at all", b""] {
            assert!(page("gzip", body, 100).await.is_err());
        }
        assert!(Codec::of(b"br").is_none());
    }

    #[tokio::test]
    async fn what_came_goes_on_at_once() {
        for encoding in ["", "gzip", "deflate"] {
            let (sender, receiver) = mpsc::unbounded_channel::<Result<Frame<Bytes>, Infallible>>();
            let source = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
            let codec = Codec::of(encoding.as_bytes()).unwrap();
            let mut page = Page::new(StreamBody::new(source), codec, links());
            let mut far = Codec::of(encoding.as_bytes()).unwrap();
            let mut near = Codec::of(encoding.as_bytes()).unwrap();
            for _ in 0..3 {
                let bytes = far.encode(LINK.into(), true).unwrap();
                sender.send(Ok(Frame::data(bytes.into()))).unwrap();
                let mut got = Vec::new();
                while let Some(frame) = page.frame().now_or_never() {
                    let data = frame.unwrap().unwrap().into_data().unwrap();
                    got.extend(near.decode(&data).unwrap());
                }
                assert_eq!(String::from_utf8(got).unwrap(), LED, "{encoding}");
            }
        }
    }
}
