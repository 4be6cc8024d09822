//! Connections to a port inside a sandbox, for port forwarding.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ports::runtime::SandboxState;
use ports::streams::{Reader, StreamError, Writer};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::Inner;
use crate::launch::Errno;

/// A listener on the same machine answers at once, or its queue is full.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn connect(
    inner: &Inner,
    id: &str,
    port: u16,
) -> Result<(Reader, Writer), StreamError> {
    let not_running = || StreamError::NotRunning { id: id.to_owned() };
    let sandbox = inner.find_sandbox(id).map_err(|_| not_running())?;
    if sandbox.status().state != SandboxState::Ready {
        return Err(not_running());
    }
    let failed = |source| StreamError::Io {
        what: format!("failed to connect to localhost:{port} inside namespace {id:?}"),
        source: plain(source),
    };
    let (v4, v6) = sockets(sandbox.netns()).await.map_err(failed)?;
    let stream = match dial(v4, (Ipv4Addr::LOCALHOST, port).into()).await {
        Ok(stream) => stream,
        // What listens on the other address only; if nothing does, the first error is the one to tell.
        Err(first) => match v6 {
            Ok(v6) => dial(v6, (Ipv6Addr::LOCALHOST, port).into())
                .await
                .map_err(|_| failed(first))?,
            Err(_) => return Err(failed(first)),
        },
    };
    // Refused only on a connection that is over already.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    Ok((Box::pin(read), Box::pin(write)))
}

/// The kernel's words without its number: they go to users as they are.
fn plain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::new(error.kind(), Errno(number)),
        None => error,
    }
}

async fn dial(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpStream> {
    tokio::time::timeout(PATIENCE, socket.connect(address)).await?
}

type Sockets = (TcpSocket, io::Result<TcpSocket>);

/// Sockets stay in the namespace they were made in, so only the making needs a thread inside, and that thread ends with it.
/// Without a namespace of its own the sandbox is in this one. The kernel may lack IPv6.
async fn sockets(netns: Option<Arc<OwnedFd>>) -> io::Result<Sockets> {
    let make = || Ok((TcpSocket::new_v4()?, TcpSocket::new_v6()));
    let Some(netns) = netns else { return make() };
    let (made, sockets) = oneshot::channel();
    std::thread::Builder::new()
        .name("port-forward".into())
        .spawn(move || {
            let kind = Some(LinkNameSpaceType::Network);
            let inside = move_into_link_name_space(netns.as_fd(), kind);
            // Nobody waits any more when the client has left.
            let _ = made.send(inside.map_err(io::Error::from).and_then(|()| make()));
        })?;
    sockets.await.map_err(io::Error::other)?
}
