//! An engine killed with SIGKILL at moments of chance, over a workload of twenty Pods with init containers and sidecars.
//!
//! Whatever the moment: no Pod that was accepted is lost, no init container and no container runs twice, no exit code, no
//! line of a log and nothing in a volume is lost, and nothing is mounted twice. Every Pod that has come to its end is looked at ([`workload`]), deleted and followed by another, so that
//! at any moment Pods are at all stages of their lives.
//!
//! `--moments N` kills N times (30 unless told), `--seed S` repeats the chances of an earlier run; what the machine makes of them
//! may differ.

mod workload;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use e2e::client::Api;
use e2e::engine::{Engine, Outside};
use e2e::foreground::Foreground;

use crate::workload::{Begin, Workload};

/// Kills without `--moments`.
const MOMENTS: usize = 30;
/// When the last engine is left alone, every Pod comes to its end within this.
const PATIENCE: Duration = Duration::from_secs(120);
/// For an answer of an engine that a Pod has come to no end under.
const ANSWER: Duration = Duration::from_secs(10);

struct Args {
    moments: usize,
    seed: u64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        println!("an_engine_may_be_killed_at_any_moment: test");
        return;
    }
    let outcome = parse(&args).and_then(|args| {
        println!("seed {}: {} kills", args.seed, args.moments);
        run(&args)
    });
    let passed = outcome.is_ok();
    if let Err(error) = outcome {
        println!("{error:#}");
    }
    println!(
        "test an_engine_may_be_killed_at_any_moment ... {}\n\ntest result: {}. {} passed; {} failed; 0 ignored",
        if passed { "ok" } else { "FAILED" },
        if passed { "ok" } else { "FAILED" },
        u8::from(passed),
        u8::from(!passed),
    );
    std::process::exit(i32::from(!passed));
}

fn parse(args: &[String]) -> anyhow::Result<Args> {
    let mut parsed = Args {
        moments: MOMENTS,
        seed: fastrand::u64(..),
    };
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        let mut number = || -> anyhow::Result<u64> {
            let value = args
                .next()
                .with_context(|| format!("{flag} wants a number"))?;
            value
                .parse()
                .with_context(|| format!("{flag} wants a number, not {value:?}"))
        };
        match flag.as_str() {
            "--moments" => parsed.moments = usize::try_from(number()?)?,
            "--seed" => parsed.seed = number()?,
            other if other.starts_with('-') => bail!("unknown flag {other}"),
            // A filter of the test runner; there is one test.
            _ => {}
        }
    }
    Ok(parsed)
}

fn run(args: &Args) -> anyhow::Result<()> {
    let outside = Outside::from_env()?;
    let engine = Engine::start(&outside)?;
    // The workload pulls nothing: pulls are another test's.
    engine.carob(["image", "pull", workload::IMAGE])?;
    engine.stop()?;
    let records = tempfile::tempdir().context("make a directory for records")?;
    let mut workload = Workload::new(records.path(), args.seed);
    tokio::runtime::Runtime::new()?.block_on(async {
        kill_again_and_again(args, &engine, &mut workload).await?;
        come_to_the_end(&engine, &mut workload).await
    })?;
    println!(
        "{} Pods came to their ends over {} kills",
        workload.ended(),
        args.moments
    );
    engine.down()
}

async fn kill_again_and_again(
    args: &Args,
    engine: &Engine,
    workload: &mut Workload,
) -> anyhow::Result<()> {
    let mut chance = fastrand::Rng::with_seed(args.seed);
    for kill in 0..args.moments {
        let delay = moment(&mut chance);
        let mut victim = Foreground::start(engine)?;
        let served = tokio::time::timeout(delay, serve(&mut victim, workload)).await;
        victim.kill().await?;
        mounted_once(engine)?;
        if let Ok(ended) = served {
            let when = format!(
                "before kill {kill}, at most {} ms after the start",
                delay.as_millis()
            );
            ended.context(when)?;
        }
    }
    Ok(())
}

/// That nothing of the engine's is mounted on top of something else of its own.
fn mounted_once(engine: &Engine) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    let root = engine.root().display().to_string();
    let mut places = BTreeSet::new();
    for place in mounts.lines().filter_map(|mount| mount.split(' ').nth(4)) {
        let is_own = place.starts_with(&root);
        ensure!(!is_own || places.insert(place), "{place} is mounted twice");
    }
    Ok(())
}

/// Half of the kills hit an engine that is about to start or has just taken its Pods over.
fn moment(chance: &mut fastrand::Rng) -> Duration {
    let range = if chance.bool() { 0..300 } else { 300..2000 };
    Duration::from_millis(chance.u64(range))
}

/// Keeps the workload going until the engine is killed. Ends only with what must not be.
async fn serve(victim: &mut Foreground, workload: &mut Workload) -> anyhow::Result<()> {
    let api = victim.api().await?;
    loop {
        let seen = workload.step(&api, Begin::More).await?;
        changed_since(&api, &seen.revision).await;
    }
}

/// Lets every Pod come to its end under an engine that is left alone.
async fn come_to_the_end(engine: &Engine, workload: &mut Workload) -> anyhow::Result<()> {
    let mut victim = Foreground::start(engine)?;
    let all = async {
        let api = victim.api().await?;
        loop {
            let seen = workload.step(&api, Begin::NoMore).await?;
            if seen.pods == 0 {
                return anyhow::Ok(());
            }
            changed_since(&api, &seen.revision).await;
        }
    };
    match tokio::time::timeout(PATIENCE, all).await {
        Ok(ended) => ended?,
        Err(_) => bail!(
            "a Pod did not come to its end\n{}\n{}",
            left(engine)
                .await
                .unwrap_or_else(|error| format!("{error:#}")),
            victim.said(40)
        ),
    }
    victim.stop().await
}

/// The Pods that are left, as the API shows them.
async fn left(engine: &Engine) -> anyhow::Result<String> {
    let api = Api::from_kubeconfig(&engine.kubeconfig()).await?;
    let list = tokio::time::timeout(ANSWER, api.get(workload::PODS)).await??;
    Ok(format!("{:#}", list["items"]))
}

/// Returns when a Pod has changed since, or the engine has gone.
async fn changed_since(api: &Api, revision: &str) {
    let (sender, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let path = format!("{}?watch=true&resourceVersion={revision}", workload::PODS);
    let watch = api.watch(&path, "application/json", move |event| {
        // Nobody waits any more once the first has come.
        let _ = sender.send(event);
    });
    tokio::select! {
        _ = watch => {}
        _ = changes.recv() => {}
    }
}
