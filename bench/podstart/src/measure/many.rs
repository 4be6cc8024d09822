//! Many Pods: how long until all run, and what each costs in memory.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::Bench;
use super::idle::{SETTLE, knows_processes};
use crate::figures::{Figures, Measure, Unit};
use crate::pods::Shape;
use crate::proc::Memory;
use crate::target::Target;

const HOW_BURST: &str = "one-container Pods made on 10 connections at once; from the first POST to the watch event that tells the \
     last of them runs";
const HOW_CLEARED: &str = "the same Pods deleted on one connection, grace period 0; from the first DELETE to the last DELETED event";
const HOW_PER_POD: &str = "private memory of the processes that exist per Pod (not its containers') plus the growth of the lasting \
     ones, divided by the number of one-container Pods; after a rest, and after the same Pods had been there once before";
const HOW_PAUSE: &str =
    "private memory of the processes that exist per Pod, divided by the number of Pods";

/// Starts `count` Pods at once on each server, and ends them.
pub(crate) async fn burst(bench: &Bench, count: usize) -> anyhow::Result<Vec<Measure>> {
    let pods = pods(bench, "burst", count);
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for target in bench.targets() {
        let mut session = target.session().await?;
        started.push(session.start_all(&pods).await?);
        ended.push(session.end_all(&pods).await?);
    }
    let line = |id: &str, what: String, how, times: &[Duration]| {
        let mut all = times.iter().filter_map(|time| Figures::of_times(&[*time]));
        let carob = all.next().context("no runs")?;
        anyhow::Ok(Measure::new(id, what, how, Unit::Milliseconds, carob).beside(all.next()))
    };
    Ok(vec![
        line(
            "burst",
            format!("{count} Pods at once to all running"),
            HOW_BURST,
            &started,
        )?,
        line(
            "burst-gone",
            format!("{count} Pods deleted to all gone"),
            HOW_CLEARED,
            &ended,
        )?,
    ])
}

/// What Pods cost beyond their own processes, and what stays when they are gone.
pub(crate) async fn memory(bench: &Bench, count: usize) -> anyhow::Result<Vec<Measure>> {
    let pods = pods(bench, "memory", count);
    let mut costs = Vec::new();
    for target in bench.targets() {
        costs.push(cost(target, &pods).await?);
    }
    let line = |id: &str, what: String, how, unit, pick: fn(&Cost) -> f64| {
        let mut all = costs.iter().filter_map(|cost| Figures::of(&[pick(cost)]));
        let carob = all.next().context("no runs")?;
        let peer = all.next().filter(|_| knows_processes(bench.peer.as_ref()));
        anyhow::Ok(Measure::new(id, what, how, unit, carob).beside(peer))
    };
    Ok(vec![
        line(
            "pod-memory",
            format!("memory a Pod ({count} Pods)"),
            HOW_PER_POD,
            Unit::Kibibytes,
            |cost| cost.whole,
        )?
        .goal(512.0),
        line(
            "pause-memory",
            format!("  of which the Pod's pause ({count} Pods)"),
            HOW_PAUSE,
            Unit::Kibibytes,
            |cost| cost.per_pod,
        )?,
    ])
}

/// KiB a Pod.
struct Cost {
    per_pod: f64,
    whole: f64,
}

async fn cost(target: &Target, pods: &[Value]) -> anyhow::Result<Cost> {
    let mut session = target.session().await?;
    // Once that does not count: what is allocated once, by the first Pods, is not a cost of each.
    session.start_all(pods).await?;
    session.end_all(pods).await?;
    tokio::time::sleep(SETTLE).await;
    let others = Memory::of_all(&target.processes.per_pod());
    let before = Memory::of_all(&target.processes.lasting());
    session.start_all(pods).await?;
    tokio::time::sleep(SETTLE).await;
    let after = Memory::of_all(&target.processes.lasting());
    let own = Memory::of_all(&target.processes.per_pod());
    session.end_all(pods).await?;
    let each = |kib: f64| kib / pods.len() as f64;
    let per_pod = own.private as f64 - others.private as f64;
    let growth = after.private as f64 - before.private as f64;
    Ok(Cost {
        per_pod: each(per_pod),
        whole: each(per_pod + growth),
    })
}

fn pods(bench: &Bench, measure: &str, count: usize) -> Vec<Value> {
    let pod = |index| {
        bench
            .recipe
            .pod(&bench.recipe.name(measure, index), Shape::One)
    };
    (0..count).map(pod).collect()
}
