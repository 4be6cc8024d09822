//! Where questions come in.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, UdpSocket};

/// The port of name servers.
const PORT: u16 = 53;

/// A socket for datagrams and one for connections; their ports may differ.
#[derive(Debug)]
pub struct Sockets {
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
    udp_address: SocketAddr,
    tcp_address: SocketAddr,
}

impl Sockets {
    /// Listens at port 53 of an address, or where somebody else has that port (a name server for all addresses of the machine), at
    /// one of the kernel's choice: those who ask are led there by a Service.
    pub async fn bind(ip: IpAddr) -> io::Result<Self> {
        let udp = match UdpSocket::bind((ip, PORT)).await {
            Err(error) if is_taken(&error, ip, "UDP") => UdpSocket::bind((ip, 0)).await?,
            bound => bound?,
        };
        let tcp = match TcpListener::bind((ip, PORT)).await {
            Err(error) if is_taken(&error, ip, "TCP") => TcpListener::bind((ip, 0)).await?,
            bound => bound?,
        };
        Sockets::of(udp, tcp)
    }

    /// Uses sockets that are bound.
    pub fn of(udp: UdpSocket, tcp: TcpListener) -> io::Result<Self> {
        Ok(Sockets {
            udp_address: udp.local_addr()?,
            tcp_address: tcp.local_addr()?,
            udp,
            tcp,
        })
    }

    /// Where datagrams are received.
    pub fn udp_address(&self) -> SocketAddr {
        self.udp_address
    }

    /// Where connections are accepted.
    pub fn tcp_address(&self) -> SocketAddr {
        self.tcp_address
    }
}

fn is_taken(error: &io::Error, ip: IpAddr, protocol: &str) -> bool {
    let is_taken = error.kind() == io::ErrorKind::AddrInUse;
    if is_taken {
        tracing::warn!(
            "another name server has {protocol} port {PORT} at {ip}: Pods reach the cluster's at its Service alone"
        );
    }
    is_taken
}
