//! How many questions a name server answers in a second, and how long the slowest hundredth waits. Any server will do: an engine's at
//! the address of its Service `kube-dns`, or CoreDNS beside it.
//!
//! Each client has a socket, and asks again as soon as it is answered; so the server always has as many questions as there are clients.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;

/// A question without an answer is lost after this.
const LOST: Duration = Duration::from_secs(1);
/// Bytes of a header (RFC 1035 section 4.1.1).
const HEADER: usize = 12;
/// Bits of the code in a header's fourth byte.
const CODE: u8 = 0x0f;

/// Asks a name server for addresses as fast as it answers.
#[derive(Debug, Parser)]
struct Args {
    /// The server
    #[arg(value_name = "ADDRESS:PORT")]
    server: SocketAddr,
    /// Names to ask for in turn; each must have an address
    #[arg(required = true)]
    names: Vec<String>,
    /// How many ask at once
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// For how many seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    waits: Vec<Duration>,
    lost: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let queries: Vec<Vec<u8>> = args
        .names
        .iter()
        .map(|name| query(name))
        .collect::<Result<_, _>>()?;
    let start = Instant::now();
    let end = start + Duration::from_secs(args.seconds);
    let seen = std::thread::scope(|scope| {
        let client = |first: usize| {
            let queries = &queries;
            scope.spawn(move || ask(args.server, queries, first, end))
        };
        let clients: Vec<_> = (0..args.clients).map(client).collect();
        let joined = clients.into_iter().map(|client| client.join());
        joined
            .map(|seen| seen.expect("a client panicked"))
            .collect::<anyhow::Result<Vec<Seen>>>()
    })?;
    let took = start.elapsed();
    let lost: usize = seen.iter().map(|seen| seen.lost).sum();
    let mut waits: Vec<Duration> = seen.into_iter().flat_map(|seen| seen.waits).collect();
    waits.sort_unstable();
    ensure!(!waits.is_empty(), "{} does not answer", args.server);
    #[allow(clippy::cast_precision_loss)]
    let rate = waits.len() as f64 / took.as_secs_f64();
    let quantile = |of: usize| waits[(waits.len() - 1) * of / 100];
    println!(
        "{rate:.0} answers a second to {} clients; p50 {:?}, p99 {:?}, longest {:?}; {lost} lost",
        args.clients,
        quantile(50),
        quantile(99),
        quantile(100),
    );
    Ok(())
}

/// Asks until the end, beginning with another name than the others do.
fn ask(
    server: SocketAddr,
    queries: &[Vec<u8>],
    first: usize,
    end: Instant,
) -> anyhow::Result<Seen> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("bind a socket")?;
    socket
        .connect(server)
        .with_context(|| format!("connect to {server}"))?;
    socket.set_read_timeout(Some(LOST))?;
    let (mut seen, mut buffer) = (Seen::default(), [0; 4096]);
    for (number, query) in (0..=u16::MAX)
        .cycle()
        .zip(queries.iter().cycle().skip(first))
    {
        let asked = Instant::now();
        if asked >= end {
            break;
        }
        let number = number.to_be_bytes();
        socket
            .send(&[&number, &query[2..]].concat())
            .with_context(|| format!("ask {server}"))?;
        match answer(&socket, number, &mut buffer) {
            Ok(code) => {
                ensure!(code == 0, "{server} answers with code {code}");
                seen.waits.push(asked.elapsed());
            }
            Err(_) => seen.lost += 1,
        }
    }
    Ok(seen)
}

/// The code of the answer with this number; those to questions that were given up are passed over.
fn answer(socket: &UdpSocket, number: [u8; 2], buffer: &mut [u8]) -> std::io::Result<u8> {
    loop {
        let length = socket.recv(buffer)?;
        if length >= HEADER && buffer[..2] == number {
            return Ok(buffer[3] & CODE);
        }
    }
}

/// A question about the addresses of a name (RFC 1035 section 4.1), with number 0.
fn query(name: &str) -> anyhow::Result<Vec<u8>> {
    let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|n| (1..64).contains(n));
        query.push(length.with_context(|| format!("{name} is no name"))?);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    Ok(query)
}
