//! Port forwarding: connections to a Pod's ports over streams of SPDY, plain or inside a WebSocket, and over the channels of a
//! WebSocket (spec kubectl-and-api §13.6, §13.7).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::status::{self, StatusError};
use futures::stream::FuturesUnordered;
use futures::{SinkExt, StreamExt};
use http::Response;
use http::request::Parts;
use ports::node::{NodeServer, Target};
use ports::streams::{Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tokio_tungstenite::tungstenite::Message;

use super::channels::{CHUNK, Sink, message, parse};
use super::spdy::{self, Handshake, Received, Stream};
use super::upgrade::{self, Protocol, Socket, Upgrade};

/// Streams that may wait for their partners.
const UNPAIRED: usize = 256;
/// Ports of one request for channels: a channel is one byte, and a port has two.
const MOST_PORTS: usize = 127;

/// Where connections go.
pub struct Destination {
    /// Whose Pod it is.
    pub node: Arc<dyn NodeServer>,
    /// The Pod.
    pub target: Target,
}

/// How connections to ports are carried.
pub enum Ports {
    /// As pairs of streams.
    Spdy(Handshake),
    /// As pairs of streams inside messages.
    Tunnel(Upgrade),
    /// As pairs of channels, to these ports.
    Channels(Upgrade, Vec<u16>),
}

impl Ports {
    /// What is spoken inside SPDY.
    pub const PROTOCOLS: [&'static str; 1] = ["portforward.k8s.io"];

    /// What the client asks for, with the ports its URL names; `None` when there is no protocol of SPDY in common.
    ///
    /// # Errors
    /// What the client is to be told: it asks for no upgrade, or for one that is not to be had, or for ports that are none.
    pub fn prepare<'a>(
        parts: &Parts,
        named: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Ports>, StatusError> {
        if spdy::is_wanted(parts) {
            return Ok(spdy::prepare(parts, &Ports::PROTOCOLS)?.map(Ports::Spdy));
        }
        let upgrade = upgrade::prepare_ports(parts)?;
        if upgrade.is_tunnel() {
            return Ok(Some(Ports::Tunnel(upgrade)));
        }
        Ok(Some(Ports::Channels(upgrade, ports(named)?)))
    }

    /// Answers 101, and connects the client to the ports it names.
    pub fn accept(self, destination: Destination) -> Response<()> {
        match self {
            Ports::Spdy(handshake) => handshake.accept(|streams| serve(streams, destination)),
            Ports::Tunnel(upgrade) => upgrade.accept(|socket, _| tunnel(socket, destination)),
            Ports::Channels(upgrade, ports) => {
                upgrade.accept(|socket, protocol| channels(socket, protocol, ports, destination))
            }
        }
    }
}

fn ports<'a>(named: impl Iterator<Item = &'a str>) -> Result<Vec<u16>, StatusError> {
    let texts = named.flat_map(|list| list.split(','));
    let port = |text: &str| {
        let number = text.parse().ok().filter(|port| *port != 0);
        number.ok_or_else(|| {
            let text = api::gotext::quote(text);
            status::bad_request(format!("unable to parse {text} as a port"))
        })
    };
    let ports: Vec<u16> = texts.map(port).collect::<Result<_, _>>()?;
    match ports.len() {
        0 => Err(status::bad_request("query parameter \"ports\" is required")),
        1..=MOST_PORTS => Ok(ports),
        _ => Err(status::bad_request("too many ports")),
    }
}

/// Messages are pieces of one stream of bytes, in which SPDY is spoken.
async fn tunnel(socket: Socket, destination: Destination) {
    let (sink, stream) = socket.split();
    let data = |message: Result<Message, _>| async move {
        match message {
            Ok(Message::Binary(data)) => Some(data),
            _ => None,
        }
    };
    let source = stream.filter_map(data).boxed();
    let sink = sink.with(|bytes| async {
        Ok::<_, tokio_tungstenite::tungstenite::Error>(Message::Binary(bytes))
    });
    spdy::converse(source, Box::pin(sink), |streams| {
        serve(streams, destination)
    })
    .await;
}

/// Pairs data and error streams by their request, and connects each pair.
async fn serve(mut streams: mpsc::Receiver<Stream>, destination: Destination) {
    let mut waiting: BTreeMap<String, Stream> = BTreeMap::new();
    let mut connections = FuturesUnordered::new();
    loop {
        let stream = tokio::select! {
            stream = streams.recv() => stream,
            Some(()) = connections.next() => continue,
        };
        let Some(stream) = stream else { return };
        let request = stream.header("requestid").to_owned();
        match waiting.remove(&request) {
            Some(other) if other.header("streamtype") != stream.header("streamtype") => {
                let is_data = stream.header("streamtype") == "data";
                let (data, error) = if is_data {
                    (stream, other)
                } else {
                    (other, stream)
                };
                connections.push(forward(data, error, &destination));
            }
            _ if waiting.len() < UNPAIRED => {
                waiting.insert(request, stream);
            }
            _ => return tracing::debug!("client pairs no streams"),
        }
    }
}

/// One connection. The client waits for the end of the error stream.
async fn forward(mut data: Stream, error: Stream, destination: &Destination) {
    let connected = match data.header("port").parse() {
        Ok(port) => {
            let connected = destination.node.port_forward(&destination.target, port);
            connected.await.map_err(|e| e.message)
        }
        Err(_) => Err(format!("no port in {:?}", data.header("port"))),
    };
    match connected {
        Ok((mut reader, mut writer)) => {
            let inbound = async {
                loop {
                    match data.received.recv().await {
                        Some(Received::Data(bytes)) => writer.write_all(&bytes).await.ok()?,
                        Some(Received::Reset) => return None,
                        // The other side may have gone; its own end tells.
                        None => {
                            let _ = writer.shutdown().await;
                            return Some(());
                        }
                    }
                }
            };
            let outbound = async {
                let mut buffer = vec![0; CHUNK];
                while let Ok(n @ 1..) = reader.read(&mut buffer).await {
                    if !data.sender.data(&buffer[..n]).await {
                        return None;
                    }
                }
                data.sender.finish().await.then_some(())
            };
            let inbound = async {
                match inbound.await {
                    // Half-closed: what comes back still goes on.
                    Some(()) => std::future::pending().await,
                    None => None,
                }
            };
            tokio::select! {
                _ = outbound => {}
                None::<()> = inbound => {}
            }
        }
        Err(message) => {
            error.sender.data(message.as_bytes()).await;
            data.sender.finish().await;
        }
    }
    error.sender.finish().await;
}

/// Port number i has channel 2i for its data and 2i+1 for its errors.
async fn channels(socket: Socket, protocol: Protocol, ports: Vec<u16>, destination: Destination) {
    let (sink, mut stream) = socket.split();
    let sink: Sink = Mutex::new(sink);
    let mut writers: Vec<Option<Writer>> = Vec::new();
    let mut readers = FuturesUnordered::new();
    for (channel, port) in (0u8..).step_by(2).zip(ports) {
        for channel in [channel, channel + 1] {
            let hello = message(protocol, channel, &port.to_le_bytes());
            if sink.lock().await.send(hello).await.is_err() {
                return;
            }
        }
        match destination
            .node
            .port_forward(&destination.target, port)
            .await
        {
            Ok((reader, writer)) => {
                writers.push(Some(writer));
                readers.push(read(&sink, protocol, channel, reader));
            }
            Err(error) => {
                writers.push(None);
                let text = message(protocol, channel + 1, error.message.as_bytes());
                // The client may have gone already.
                let _ = sink.lock().await.send(text).await;
            }
        }
    }
    let inbound = async {
        while let Some(Ok(received)) = stream.next().await {
            if received.is_close() {
                return;
            }
            if let Some((channel, data)) = parse(protocol, received)
                && channel % 2 == 0
                && let Some(place) = writers.get_mut(usize::from(channel / 2))
                && let Some(writer) = place
                && writer.write_all(&data).await.is_err()
            {
                *place = None;
            }
        }
    };
    let outbound = async { while readers.next().await.is_some() {} };
    tokio::select! {
        () = inbound => {}
        () = outbound => {}
    }
    // Likewise.
    let _ = sink.lock().await.close().await;
}

async fn read(sink: &Sink, protocol: Protocol, channel: u8, mut reader: Reader) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        let data = message(protocol, channel, &buffer[..n]);
        if sink.lock().await.send(data).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
