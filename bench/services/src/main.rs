//! What Services cost, in one run: how soon a change of endpoints is in force and how long a first packet takes, with few Services and
//! with many, and how much goes through a cluster address against the Pod's own.
//!
//! It starts an engine of its own, and leaves judging to whoever reads: no figure makes it fail. Servers and clients in Pods are this
//! same binary, mounted from the node.

mod peer;
mod site;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand};
use e2e::engine::{Engine, Outside};
use e2e::figures;

use crate::site::Site;

/// Measures Services. Needs root, and a registry that has the image.
#[derive(Debug, Parser)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Args {
    /// The `carob` binary to measure; a release build
    #[arg(long, value_name = "PATH", required = true)]
    carob: Option<PathBuf>,
    /// Registry that stands in for all others, over plain HTTP
    #[arg(long, value_name = "HOST:PORT", required = true)]
    registry: Option<String>,
    /// Image of every container; nothing of it runs
    #[arg(long, default_value = "docker.io/library/busybox:1.36")]
    image: String,
    /// Services when there are few
    #[arg(long, default_value_t = 10)]
    few: usize,
    /// Services when there are many
    #[arg(long, default_value_t = 1000)]
    many: usize,
    /// Pods behind each
    #[arg(long, default_value_t = 5)]
    endpoints: usize,
    /// Changes that are timed, each with its end
    #[arg(long, default_value_t = 30)]
    changes: usize,
    /// Connections that are timed, of each kind
    #[arg(long, default_value_t = 500)]
    connections: usize,
    /// Seconds of each of three transfers, of each kind
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this binary is in a Pod.
#[derive(Debug, Subcommand)]
enum Role {
    /// Sends whoever asks as much as they take
    #[command(hide = true)]
    Serve {
        /// Where it listens
        port: u16,
    },
    /// Takes as much as it gets and prints the bytes in a second
    #[command(hide = true)]
    Pull {
        /// From whom
        server: SocketAddr,
        /// For how long
        seconds: u64,
    },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.role {
        Some(Role::Serve { port }) => peer::serve(port),
        Some(Role::Pull { server, seconds }) => {
            println!("{}", peer::pull(server, Duration::from_secs(seconds))?);
            Ok(())
        }
        None => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(measure(&args)),
    }
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let outside = Outside {
        carob: std::path::absolute(args.carob.as_ref().context("--carob")?)?,
        kubectl: "kubectl".into(),
        older_kubectl: "kubectl".into(),
        registry: args.registry.clone().context("--registry")?,
    };
    let engine = Engine::start(&outside)?;
    let mut site = Site::build(&engine, &args.image, args.endpoints).await?;
    println!(
        "{:52}{:>10}{:>10}{:>10}",
        "milliseconds", "p50", "p99", "longest"
    );
    let mut medians = Vec::new();
    for count in [args.few, args.many] {
        let began = Instant::now();
        site.grow(count).await?;
        let took = began.elapsed().as_secs_f64();
        println!(
            "{count} Services of {} endpoints each, after {took:.2} s",
            args.endpoints
        );
        let (begun, ended) = site.changes(args.changes).await?;
        let (service, pod) = site.connections(args.connections)?;
        medians.push([
            figures::line("  endpoints appear, to the first connection", &begun)?,
            figures::line("  endpoints vanish, to the first refusal", &ended)?,
            figures::line("  a connection to a cluster address", &service)?,
            figures::line("  a connection to the Pod itself", &pod)?,
        ]);
    }
    if let [few, many] = &medians[..] {
        let ratios = few.iter().zip(many).map(|(few, many)| many / few);
        let ratios: Vec<String> = ratios.map(|r| format!("{r:.2}")).collect();
        println!("medians with many against few: {}", ratios.join(", "));
    }
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (rates, address) in rates.iter_mut().zip(site.ways()) {
            rates.push(site.transfer(address, args.seconds)?);
        }
    }
    let [service, pod] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!(
        "from Pod to Pod: {:.0} MB/s through a cluster address, {:.0} MB/s without, ratio {:.2}",
        service / 1e6,
        pod / 1e6,
        service / pod
    );
    drop(site);
    engine.down()
}

/// Where servers are reached.
fn at(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, peer::PORT)
}
