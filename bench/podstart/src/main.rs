//! How fast and how small Carob is, in one command: it starts an engine of its own, measures it, and beside it a peer (any
//! other Kubernetes server on this machine) when one is named, in the same run and in turn, and prints figures and ratios.
//!
//! It leaves judging to whoever reads: no figure makes it fail. It fails when something could not be measured at all, or when
//! the engine left something behind. Everything is bounded in count and time.
//!
//! One thread: the engine under measurement needs the cores more than we do.

mod api;
mod figures;
mod kubeconfig;
mod measure;
mod pods;
mod proc;
mod report;
mod target;
mod tls;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use e2e::engine::{Engine, Outside};

use crate::figures::Measure;
use crate::kubeconfig::Access;
use crate::measure::{Bench, boot, exit, idle, many, podman, start};
use crate::pods::{Recipe, Shape};
use crate::report::Report;
use crate::target::{Processes, Target};

/// Measures Carob, and a peer beside it. Needs root, and a registry that has the image.
#[derive(Debug, Parser)]
struct Args {
    /// The `carob` binary to measure; a release build
    #[arg(long, value_name = "PATH")]
    carob: PathBuf,
    /// Registry that stands in for all others, over plain HTTP
    #[arg(long, value_name = "HOST:PORT")]
    registry: String,
    /// Measure this running server too, on the same machine
    #[arg(long, value_name = "KUBECONFIG")]
    peer: Option<PathBuf>,
    /// Processes of the peer that count towards its memory
    #[arg(long, value_name = "PID", value_delimiter = ',', requires = "peer")]
    peer_processes: Vec<u32>,
    /// What to measure; everything unless given
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<What>,
    /// Image of every container; needs `sh` and `sleep`
    #[arg(long, default_value = "docker.io/library/busybox:1.36")]
    image: String,
    /// Pods of each shape, and exits, in serial
    #[arg(long, default_value_t = 30)]
    runs: usize,
    /// Milliseconds of rest before each of these: what servers do after a Pod's end is not to slow the next one's start
    #[arg(long, default_value_t = 100)]
    rest: u64,
    /// Boots of an engine
    #[arg(long, default_value_t = 10)]
    boots: usize,
    /// Seconds without requests
    #[arg(long, default_value_t = 30)]
    idle: u64,
    /// Pods that memory is divided among
    #[arg(long, default_value_t = 50)]
    pods: usize,
    /// Pods made at once
    #[arg(long, default_value_t = 100)]
    burst: usize,
    /// Seconds to wait for one thing to happen
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What can be measured, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// carob up -d
    Boot,
    /// Memory, disk and CPU with nothing to do
    Idle,
    /// Created to running, one container
    One,
    /// Created to running, init container and sidecar
    Multi,
    /// Exit of a container to its status
    Exit,
    /// Memory a Pod
    Memory,
    /// Many Pods at once
    Burst,
    /// podman kube play
    Podman,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(is_complete) if is_complete => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, prints, and says whether everything asked for could be measured.
fn run(args: &Args) -> anyhow::Result<bool> {
    let report = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            tokio::select! {
                report = measure_all(args) => report,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            }
        })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(report.failed.is_empty())
}

async fn measure_all(args: &Args) -> anyhow::Result<Report> {
    let carob = std::path::absolute(&args.carob)?;
    let mut report = Report {
        machine: proc::machine(),
        load: [proc::load(); 2],
        binary_bytes: std::fs::metadata(&carob)
            .with_context(|| format!("find {}", carob.display()))?
            .len(),
        measures: Vec::new(),
        skipped: Vec::new(),
        failed: Vec::new(),
    };
    let outside = Outside {
        carob,
        kubectl: "kubectl".into(),
        older_kubectl: "kubectl".into(),
        registry: args.registry.clone(),
    };
    if args.wants(What::Boot) {
        report.add("boot", boot::measure(&outside, args.boots));
    }
    let engine = Engine::start(&outside)?;
    let bench = bench(args, &engine)?;
    for what in What::value_variants() {
        if args.wants(*what) {
            measure(args, *what, &bench, &engine, &mut report).await;
        }
    }
    if let Some(peer) = &bench.peer {
        peer.clear(&bench.recipe).await?;
    }
    report.load[1] = proc::load();
    engine.down()?;
    Ok(report)
}

/// One measure on running servers.
async fn measure(args: &Args, what: What, bench: &Bench, engine: &Engine, report: &mut Report) {
    let (name, measured) = match what {
        What::Boot => return,
        What::Idle => {
            let window = Duration::from_secs(args.idle);
            let state = engine.root().join("state");
            ("idle", idle::measure(bench, &state, window).await)
        }
        What::One => ("one", start::measure(bench, Shape::One, args.runs).await),
        What::Multi => (
            "multi",
            start::measure(bench, Shape::Multi, args.runs).await,
        ),
        What::Exit => ("exit", exit::measure(bench, args.runs).await),
        What::Memory => ("memory", many::memory(bench, args.pods).await),
        What::Burst => ("burst", many::burst(bench, args.burst).await),
        What::Podman => return report.podman(args, &bench.recipe),
    };
    let failed = measured.is_err();
    report.add(name, measured);
    if failed {
        // What a broken measure left would count in the next.
        for target in bench.targets() {
            if let Err(error) = target.clear(&bench.recipe).await {
                report.failed.push(format!("clearing up: {error:#}"));
            }
        }
    }
}

/// The servers: the engine just started, and the peer.
fn bench(args: &Args, engine: &Engine) -> anyhow::Result<Bench> {
    let patience = Duration::from_secs(args.patience);
    let processes = Processes::Engine {
        pid: engine.pid()?,
        root: engine.root().to_string_lossy().into_owned(),
    };
    let access = Access::read(&engine.kubeconfig())?;
    let carob = Target::new("carob", access, patience, processes)?;
    let peer = args.peer.as_deref().map(|kubeconfig| {
        let processes = Processes::Named(args.peer_processes.clone());
        Target::new("the peer", Access::read(kubeconfig)?, patience, processes)
    });
    Ok(Bench {
        carob,
        peer: peer.transpose()?,
        recipe: Recipe {
            image: args.image.clone(),
            mark: std::process::id().to_string(),
        },
        rest: Duration::from_millis(args.rest),
    })
}

impl Args {
    fn wants(&self, what: What) -> bool {
        self.only.is_empty() || self.only.contains(&what)
    }
}

impl Report {
    fn add(&mut self, name: &str, measured: anyhow::Result<Vec<Measure>>) {
        match measured {
            Ok(lines) => self.measures.extend(lines),
            Err(error) => self.failed.push(format!("{name}: {error:#}")),
        }
    }

    /// Podman's line stands beside Carob's figure for the same Pod.
    fn podman(&mut self, args: &Args, recipe: &Recipe) {
        let multi = self.measures.iter().find(|line| line.id == "running-multi");
        let Some(carob) = multi.map(|line| line.carob) else {
            self.skipped
                .push("podman: needs Carob's figure for the same Pod (multi)".into());
            return;
        };
        match podman::measure(recipe, &args.registry, args.boots, carob) {
            Ok(Some(line)) => self.measures.push(line),
            Ok(None) => self.skipped.push("podman: not installed".into()),
            Err(error) => self.failed.push(format!("podman: {error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_measured_unless_some_is_named() {
        let parse = |more: &[&str]| {
            let fixed = ["bench-podstart", "--carob", "c", "--registry", "h:1"];
            Args::try_parse_from(fixed.iter().chain(more)).expect("parses")
        };
        let all = parse(&[]);
        assert!(What::value_variants().iter().all(|what| all.wants(*what)));
        let some = parse(&["--only", "one,exit"]);
        assert!(some.wants(What::Exit) && !some.wants(What::Boot));
        let peers = parse(&["--peer", "k", "--peer-processes", "1,2"]);
        assert_eq!(peers.peer_processes, [1, 2]);
    }
}
