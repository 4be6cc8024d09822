//! What the node and its containers use: measured when somebody asks, over a short window; nothing is gathered ahead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ports::node::{NodeError, Usage, Used};
use ports::runtime::{ContainerState, Id, Stats};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::pull;

/// What is measured over: long enough for a processor's ticks, short enough to wait for.
const WINDOW: Duration = Duration::from_millis(500);

/// The kernel's figures at one moment.
struct Sample {
    node: Stats,
    containers: BTreeMap<Id, Stats>,
}

/// Measures the machine and these Pods, by UID.
///
/// # Errors
/// The machine's own figures cannot be read.
pub(crate) async fn measure(agent: &Agent, pods: &BTreeSet<String>) -> Result<Usage, NodeError> {
    let places = places(agent, pods);
    let first = sample(agent, &places).await?;
    let began = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let second = sample(agent, &places).await?;
    let window = began.elapsed();
    let mut measured: BTreeMap<String, BTreeMap<String, Used>> = BTreeMap::new();
    for (id, after) in &second.containers {
        if let (Some((uid, name)), Some(before)) = (places.get(id), first.containers.get(id)) {
            let used = used(before, after, window);
            measured
                .entry(uid.clone())
                .or_default()
                .insert(name.clone(), used);
        }
    }
    Ok(Usage {
        at: agent.now(),
        window,
        node_name: agent.config.node_name.clone(),
        node: used(&first.node, &second.node, window),
        pods: measured,
    })
}

/// Running containers of these Pods: whose they are, and their names.
fn places(agent: &Agent, pods: &BTreeSet<String>) -> BTreeMap<Id, (String, String)> {
    let mut places = BTreeMap::new();
    for uid in pods {
        let views = &agent.views;
        let mirrored = || views.follow(&views.mirrored_by(uid)?);
        let Some(view) = views.follow(uid).or_else(mirrored) else {
            continue;
        };
        for container in &view.borrow().containers {
            if matches!(container.state, ContainerState::Running { .. }) {
                places.insert(container.id.clone(), (uid.clone(), container.name.clone()));
            }
        }
    }
    places
}

async fn sample(
    agent: &Agent,
    places: &BTreeMap<Id, (String, String)>,
) -> Result<Sample, NodeError> {
    let node = agent
        .runtime
        .node_stats()
        .await
        .map_err(|error| NodeError {
            code: 500,
            message: pull::chain(&error),
        })?;
    let mut containers = BTreeMap::new();
    for id in places.keys() {
        // One that has just ended has no figures any more.
        if let Ok(stats) = agent.runtime.container_stats(id).await {
            containers.insert(id.clone(), stats);
        }
    }
    Ok(Sample { node, containers })
}

fn used(before: &Stats, after: &Stats, window: Duration) -> Used {
    let cpu = u128::from(after.cpu_usage_ns.saturating_sub(before.cpu_usage_ns));
    let per_second = cpu * 1_000_000_000 / window.as_nanos().max(1);
    Used {
        nano_cpus: u64::try_from(per_second).unwrap_or(u64::MAX),
        cpu_ns: after.cpu_usage_ns,
        memory_bytes: after.memory_working_set_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_averaged_over_the_window() {
        let at = |cpu_usage_ns| Stats {
            cpu_usage_ns,
            memory_working_set_bytes: 7,
            ..Stats::default()
        };
        for (before, after, millis, nano_cpus) in [
            (0, 250_000_000, 500, 500_000_000),
            (5, 5, 500, 0),
            // A counter that was set back.
            (9, 5, 500, 0),
            (0, 2_000_000_000, 1000, 2_000_000_000),
            (0, 1, 0, 1_000_000_000),
        ] {
            let used = used(&at(before), &at(after), Duration::from_millis(millis));
            assert_eq!((used.nano_cpus, used.memory_bytes), (nano_cpus, 7));
            assert_eq!(used.cpu_ns, after);
        }
    }
}
