//! One connection to a port of a Pod: an upgraded HTTP connection of its own in which SPDY/3.1 is spoken (§13.6), with a stream
//! for the data and one for the reason of a failure.
//!
//! A connection each, so that a program which does not read holds up nobody but itself: SPDY's windows are not kept here.

use anyhow::{Context, bail};
use http::header::{CONNECTION, UPGRADE};
use http::{Request, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use spdy::{Decoder, Encoder, Frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::connect::Server;

const PROTOCOL: &str = "x-stream-protocol-version";
const ERROR: u32 = 1;
const DATA: u32 = 3;
/// Most bytes read at once.
const CHUNK: usize = 32 * 1024;

/// Opens a connection to a Pod, by its path; the server's refusals come as they are.
pub(crate) async fn open(server: &Server, pod: &str) -> anyhow::Result<Upgraded> {
    let request = Request::post(format!("{pod}/portforward"))
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "SPDY/3.1")
        .header(PROTOCOL, "portforward.k8s.io")
        .body(kube::client::Body::empty())?;
    let response = server.client.send(request).await?;
    let code = response.status();
    if code == StatusCode::SWITCHING_PROTOCOLS {
        return hyper::upgrade::on(response)
            .await
            .context("error upgrading connection");
    }
    let body = response.into_body().collect_bytes().await?;
    Err(crate::connect::refusal(code.as_u16(), &body).into())
}

/// Carries bytes between a connection and the port until both have ended; what the server says of a failure, if it does.
pub(crate) async fn carry(
    tunnel: Upgraded,
    port: u16,
    local: impl AsyncRead + AsyncWrite + Unpin,
) -> anyhow::Result<Option<String>> {
    let (from_server, mut to_server) = tokio::io::split(TokioIo::new(tunnel));
    let (from_local, to_local) = tokio::io::split(local);
    let mut encoder = Encoder::default();
    let mut opening = Vec::new();
    for (stream, kind) in [(ERROR, "error"), (DATA, "data")] {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = vec![
            header("streamtype", kind),
            header("port", &port.to_string()),
            header("requestid", "0"),
        ];
        let fin = stream == ERROR;
        encoder.encode(
            &Frame::SynStream {
                stream,
                fin,
                headers,
            },
            &mut opening,
        );
    }
    to_server.write_all(&opening).await?;
    to_server.flush().await?;
    let (ping, pings) = mpsc::channel(1);
    tokio::select! {
        ended = receive(from_server, to_local, ping) => ended,
        failed = send(from_local, to_server, encoder, pings) => failed.map(|()| None),
    }
}

/// Sends what the local side says and then its end; ends itself only when a side is gone.
async fn send(
    mut local: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
    mut encoder: Encoder,
    mut pings: mpsc::Receiver<u32>,
) -> anyhow::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut is_open = true;
    loop {
        let mut frame = Vec::new();
        tokio::select! {
            read = local.read(&mut chunk), if is_open => match read {
                Ok(length) => {
                    is_open = length > 0;
                    encoder.data(&mut frame, DATA, !is_open, &chunk[..length]);
                }
                // Whoever connected broke off.
                Err(_) => return Ok(()),
            },
            Some(id) = pings.recv() => encoder.encode(&Frame::Ping(id), &mut frame),
        }
        server.write_all(&frame).await?;
        server.flush().await?;
    }
}

/// Hands on what the server says, until it ends the stream for errors.
async fn receive(
    mut server: impl AsyncRead + Unpin,
    mut local: impl AsyncWrite + Unpin,
    pings: mpsc::Sender<u32>,
) -> anyhow::Result<Option<String>> {
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; CHUNK];
    let mut reason = Vec::new();
    loop {
        let length = server.read(&mut chunk).await?;
        if length == 0 {
            bail!("the server closed the connection");
        }
        decoder.feed(&chunk[..length]);
        while let Some(frame) = decoder.next_frame()? {
            match frame {
                Frame::Data {
                    stream: DATA,
                    fin,
                    data,
                } => {
                    if local.write_all(&data).await.is_err() {
                        // Nobody wants the rest.
                        return Ok(None);
                    }
                    if fin {
                        // A side that has gone needs no end.
                        let _ = local.shutdown().await;
                    }
                }
                Frame::Data {
                    stream: ERROR,
                    fin,
                    data,
                } => {
                    reason.extend(data);
                    if fin {
                        let text = String::from_utf8_lossy(&reason).into_owned();
                        return Ok((!text.is_empty()).then_some(text));
                    }
                }
                Frame::Reset { .. } => return Ok(None),
                Frame::GoAway => bail!("the server closed the connection"),
                // One that is not answered yet is as good as the next.
                Frame::Ping(id) => drop(pings.try_send(id)),
                _ => {}
            }
        }
    }
}
