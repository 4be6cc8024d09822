//! What runs in Pods: a server that sends zeros, and a client that counts them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Where servers listen.
pub(crate) const PORT: u16 = 8080;
/// Bytes of one read or write.
const CHUNK: usize = 256 << 10;

/// Sends to every connection that asks, until it is closed.
pub(crate) fn serve(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || send(stream));
    }
    Ok(())
}

/// Whoever sends a byte wants all there is; others only connect.
fn send(mut stream: TcpStream) {
    let zeros = vec![0; CHUNK];
    if matches!(stream.read(&mut [0]), Ok(1)) {
        // Until the client has enough.
        while stream.write_all(&zeros).is_ok() {}
    }
}

/// Bytes in a second that come from a server.
pub(crate) fn pull(server: SocketAddr, window: Duration) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(b"g")?;
    let mut buffer = vec![0; CHUNK];
    let (began, mut bytes) = (Instant::now(), 0);
    while began.elapsed() < window {
        bytes += stream.read(&mut buffer)?;
    }
    Ok(bytes as f64 / began.elapsed().as_secs_f64())
}
