//! `cargo xtask conformance`: upstream's own end-to-end suite against an engine started for it.
//!
//! The suite is linked from the module in `conformance/`, pulls stand-in images from a registry on loopback, and runs with the
//! engine of this work tree (`CAROB_BIN` names another binary, `CAROB_REGISTRY` a registry that serves already). What passes is
//! kept in `conformance/passing.tsv`; a spec in there that fails makes the command fail.

mod cluster;
mod passing;
mod report;
mod suite;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{images, run, setup, tools};
use cluster::{Cluster, MOST_NODES};
use passing::Passing;
use report::{End, Outcome};
use suite::Choice;

/// The specs every node has to pass, and that may run beside others.
const DEFAULT_FILTER: &str = "NodeConformance && Conformance && !Serial";

/// A spec that takes less than so many seconds is fast.
const FAST: u64 = 10;

/// A spec that fills the node, and is over before its Pods are: the next one that asks how much room there is finds too little.
const FILLS_THE_NODE: &str = "[sig-scheduling] SchedulerPredicates [Serial] validates resource limits of pods that are allowed to run [Conformance]";

/// Specs that passed and failed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// `cargo xtask conformance [--nodes 2] [LABEL-FILTER | --fast]`.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (nodes, rest) = match &*arguments {
        ["--nodes", nodes, rest @ ..] => (nodes.parse().unwrap_or(0), rest),
        rest => (1, rest),
    };
    match rest {
        ["--fast"] if arguments.len() == 1 => fast(&mut Tally::default()),
        [] if (1..=MOST_NODES).contains(&nodes) => full(DEFAULT_FILTER, nodes),
        [filter] if !filter.starts_with('-') && (1..=MOST_NODES).contains(&nodes) => {
            full(filter, nodes)
        }
        _ => bail!("usage: cargo xtask conformance [--nodes 1|2] [LABEL-FILTER | --fast]"),
    }
}

/// Runs what the filter chooses, and adds what passed to the list.
fn full(filter: &str, nodes: u8) -> Result<()> {
    setup::install()?;
    let outcomes = against_a_cluster(&tools::suite()?, &Choice::Labels(filter), nodes, 120)?;
    let mut passing = Passing::read()?;
    let broken = count(&outcomes, |name| passing.contains(name, nodes));
    let new = passing.take(&outcomes, nodes);
    println!("{new} new in conformance/passing.tsv");
    passing.write()?;
    if broken > 0 {
        bail!("{broken} specs failed that passed before");
    }
    Ok(())
}

/// Runs the specs that passed before and are fast. Where the suite cannot be had, a line says that it is left out.
pub(crate) fn fast(tally: &mut Tally) -> Result<()> {
    if let Err(missing) = tools::can_have_suite() {
        println!("conformance: left out, as {missing}");
        return Ok(());
    }
    setup::install()?;
    let suite = tools::suite()?;
    let passing = Passing::read()?;
    for nodes in 1..=MOST_NODES {
        let mut names = passing.faster_than(FAST, nodes);
        names.retain(|name| *name != FILLS_THE_NODE);
        if names.is_empty() {
            continue;
        }
        let expected = names.len() as u64;
        let outcomes = against_a_cluster(&suite, &Choice::Names(names), nodes, 15)?;
        let passed = outcomes.iter().filter(|o| o.end == End::Passed).count() as u64;
        tally.passed += passed;
        // One that did not run at all has not passed either.
        tally.failed = (expected - passed.min(expected)).max(count(&outcomes, |_| true));
        if tally.failed > 0 {
            bail!("{} of {expected} fast specs did not pass", tally.failed);
        }
    }
    Ok(())
}

/// Failed outcomes among those whose name is wanted.
fn count(outcomes: &[Outcome], is_wanted: impl Fn(&str) -> bool) -> u64 {
    let failed = outcomes.iter().filter(|o| matches!(o.end, End::Failed(_)));
    failed.filter(|o| is_wanted(&o.name)).count() as u64
}

/// Starts an engine and what other nodes are asked for, runs the suite, takes all down, and prints what became of the specs.
fn against_a_cluster(
    suite: &tools::Suite,
    choice: &Choice<'_>,
    nodes: u8,
    minutes: u32,
) -> Result<Vec<Outcome>> {
    let tools = tools::build_all()?;
    let carob = run::engine()?;
    let named = std::env::var("CAROB_REGISTRY").ok();
    let filled = images::fill(named.as_deref(), &run::target_dir(), Some(&tools))?;
    let reports = run::target_dir().join("conformance");
    let cluster = Cluster::fresh(&carob, nodes, &filled.address)?;
    let started = Instant::now();
    let kubeconfig = cluster.kubeconfig();
    let ran = cluster
        .up()
        .and_then(|()| suite::run(suite, &tools, choice, minutes, &kubeconfig, &reports));
    // The engine's own words, for specs that failed.
    let kept = cluster.keep_logs(&reports);
    cluster.remove()?;
    let outcomes = ran?;
    kept?;
    summary(&outcomes, started);
    println!("report and logs: {}", reports.display());
    Ok(outcomes)
}

fn summary(outcomes: &[Outcome], started: Instant) {
    let mut passed = 0;
    for outcome in outcomes {
        match &outcome.end {
            End::Passed => passed += 1,
            End::Skipped(why) => println!("skipped: {}: {why}", outcome.name),
            End::Failed(why) => println!(
                "FAILED after {:.0} s: {}: {why}",
                outcome.seconds, outcome.name
            ),
        }
    }
    println!(
        "{passed} of {} specs passed in {} s",
        outcomes.len(),
        started.elapsed().as_secs()
    );
}
