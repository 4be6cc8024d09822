//! One question to one server: by datagram, and by connection where the answer does not fit into one (RFC 7766 section 5).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_server::proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_server::proto::rr::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::Asked;
use crate::answer::DATAGRAM;

/// Asks, and waits for the answer as long as the caller does.
pub(super) async fn exchange(server: SocketAddr, asked: &Asked) -> io::Result<Message> {
    let query = query(asked);
    let reply = by_datagram(server, &query).await?;
    match reply.metadata.truncation {
        true => by_connection(server, &query).await,
        false => Ok(reply),
    }
}

/// The number and the port, which the kernel chooses, are all that keeps others from answering (RFC 5452).
fn query(asked: &Asked) -> Message {
    let mut query = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.metadata.checking_disabled = asked.checking_disabled;
    query.add_query(Query::query(Name::from(&asked.name), asked.kind));
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM);
    edns.set_dnssec_ok(asked.dnssec_ok);
    query.set_edns(edns);
    query
}

async fn by_datagram(server: SocketAddr, query: &Message) -> io::Result<Message> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket
        .send(&query.to_vec().map_err(io::Error::other)?)
        .await?;
    let mut buffer = [0; DATAGRAM as usize];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let reply = buffer.get(..length).map(Message::from_vec);
        if let Some(Ok(reply)) = reply
            && answers(query, &reply)
        {
            return Ok(reply);
        }
    }
}

async fn by_connection(server: SocketAddr, query: &Message) -> io::Result<Message> {
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(server).await?;
    stream
        .write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat())
        .await?;
    let mut bytes = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut bytes).await?;
    let reply = Message::from_vec(&bytes).map_err(io::Error::other)?;
    match answers(query, &reply) {
        true => Ok(reply),
        false => Err(io::Error::other("the answer is to another question")),
    }
}

/// Whether this is the response to the query (RFC 5452 section 9.1).
fn answers(query: &Message, reply: &Message) -> bool {
    reply.metadata.message_type == MessageType::Response
        && reply.metadata.id == query.metadata.id
        && reply.queries == query.queries
}
