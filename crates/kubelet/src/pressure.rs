//! Looks at what the node has left, says so in the node's conditions, and names who has to go when it is too little (spec `§2.9`).
//!
//! The kernel does not tell of this, so it is looked at every ten seconds, as upstream does: while Pods are here or a pressure lasts,
//! and when the first Pod comes. One Pod goes at a time; the next look waits until it has left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use lifecycle::node_events;
use lifecycle::pressure::{self, Level, Met, Pressure, Signal, Usage, Watch};
use ports::runtime::ContainerState;
use ports::volumes::Space;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, View};
use crate::dispatch::Evicted;
use crate::{blocking, disk, leaving, node, pull, reclaim};

/// How often (upstream's monitoring interval).
const PERIOD: Duration = Duration::from_secs(10);
/// A report that failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Looks until `shutdown`, if there is a threshold.
pub(crate) async fn run(
    agent: Arc<Agent>,
    evictor: mpsc::UnboundedSender<Evicted>,
    shutdown: CancellationToken,
) {
    if agent.config.evictions.thresholds.is_empty() {
        return;
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = look(&agent, &evictor) => {}
    }
}

async fn look(agent: &Agent, evictor: &mpsc::UnboundedSender<Evicted>) {
    let mut watch = Watch::default();
    // The node is registered with the pressures that are found first.
    let mut told: Option<BTreeSet<Pressure>> = None;
    let mut changes = agent.allocations.changes();
    // What images have left since all was well.
    let mut freed = 0;
    loop {
        changes.mark_unchanged();
        let levels = levels(agent).await;
        let found = watch.look(&agent.config.evictions, &levels, agent.now());
        let pressures = found.pressures;
        agent.pressures.send_replace(Some(pressures.clone()));
        let told = told.get_or_insert_with(|| {
            tell(agent, &pressures, &pressures);
            pressures.clone()
        });
        let is_told = report(agent, told, &pressures).await;
        let relief = relieve(agent, evictor, &found.met).await;
        if found.met.is_empty() {
            freed = 0;
        }
        match relief {
            Relief::None => {}
            Relief::Images { bytes } => {
                freed += bytes;
                continue;
            }
            Relief::Pod { uid, grace_seconds } => {
                tell_disk(agent, &found.met, &levels, freed);
                leaving::in_time(agent, &uid, grace_seconds).await;
                continue;
            }
        }
        let is_idle = pressures.is_empty() && agent.allocations.holders().is_empty();
        let period = if is_told { PERIOD } else { AGAIN };
        let next = found.next.map(|next| next.duration_since(agent.now()));
        let next = next.map(|next| Duration::try_from(next).unwrap_or_default());
        let period = next.map_or(period, |next| next.min(period));
        tokio::select! {
            () = tokio::time::sleep(period), if !is_idle || !is_told => {}
            // It never closes: the agent holds the other side.
            _ = changes.changed(), if is_idle || !found.met.is_empty() => {}
        }
    }
}

/// Brings the node's conditions up to date; whether they are.
async fn report(
    agent: &Agent,
    told: &mut BTreeSet<Pressure>,
    pressures: &BTreeSet<Pressure>,
) -> bool {
    let changed: BTreeSet<Pressure> = told.symmetric_difference(pressures).copied().collect();
    if changed.is_empty() {
        return true;
    }
    let api: Api<Node> = Api::all(agent.client.clone());
    let name = &agent.config.node_name;
    match node::report_pressures(&api, name, &changed, pressures, agent.now()).await {
        Ok(()) => {
            tell(agent, &changed, pressures);
            told.clone_from(pressures);
            true
        }
        Err(error) => {
            tracing::warn!(%error, "reporting the node's pressures");
            false
        }
    }
}

/// Tells of pressures that have begun or, where they are none of `pressures`, ended.
fn tell(agent: &Agent, changed: &BTreeSet<Pressure>, pressures: &BTreeSet<Pressure>) {
    let node = &agent.config.node_name;
    for pressure in changed {
        let event = pressure.event(node, pressures.contains(pressure));
        agent.recorder.record_node(node, event);
    }
}

/// Tells that a Pod has to go because images did not leave enough of the disk.
fn tell_disk(agent: &Agent, met: &[Met], levels: &BTreeMap<Signal, Level>, freed: u64) {
    let disk = levels.get(&Signal::ImageDisk);
    if let Some(disk) = disk.filter(|_| met.first().is_some_and(Met::is_of_room)) {
        let event = node_events::disk_not_freed(disk, freed);
        agent.recorder.record_node(&agent.config.node_name, event);
    }
}

/// What the node has, and has left; without what cannot be read.
async fn levels(agent: &Agent) -> BTreeMap<Signal, Level> {
    let mut levels = BTreeMap::new();
    let capacity = &agent.config.capacity;
    match agent.runtime.node_stats().await {
        Ok(stats) => {
            let mut used = |signal, capacity: u64, used| {
                let available = capacity.saturating_sub(used);
                levels.insert(
                    signal,
                    Level {
                        capacity,
                        available,
                    },
                );
            };
            let memory = stats.memory_working_set_bytes;
            used(Signal::Memory, capacity.memory_bytes, memory);
            used(Signal::Pids, capacity.pids, stats.pids);
        }
        Err(error) => tracing::warn!(error = pull::chain(&error), "measuring the node"),
    }
    match agent.volumes.space().await {
        Ok(space) => levels.extend(of_disk(agent, &space)),
        Err(error) => tracing::warn!(error = pull::chain(&error), "measuring the disk"),
    }
    levels
}

/// What there is of the disk. Images are on the same file system as all else. Of what has none at all, nothing can run out.
fn of_disk(agent: &Agent, space: &Space) -> impl Iterator<Item = (Signal, Level)> + use<> {
    let disk = Level {
        capacity: space.capacity_bytes,
        available: space.available_bytes,
    };
    let inodes = Level {
        capacity: space.inodes,
        available: space.inodes_free,
    };
    if disk.capacity == 0 {
        let event = node_events::invalid_disk_capacity(disk.capacity);
        agent.recorder.record_node(&agent.config.node_name, event);
    }
    let levels = [
        (Signal::Disk, disk),
        (Signal::ImageDisk, disk),
        (Signal::Inodes, inodes),
        (Signal::ImageInodes, inodes),
    ];
    levels.into_iter().filter(|(_, level)| level.capacity > 0)
}

/// What was done about a threshold that is not kept.
enum Relief {
    None,
    /// Images were removed that took so much; it may have been enough.
    Images {
        bytes: u64,
    },
    /// A Pod has to go, within so many seconds.
    Pod {
        uid: String,
        grace_seconds: i64,
    },
}

/// Removes images that are not needed if the disk is short, else has one Pod go.
async fn relieve(agent: &Agent, evictor: &mpsc::UnboundedSender<Evicted>, met: &[Met]) -> Relief {
    let Some(first) = met.first() else {
        return Relief::None;
    };
    let node = &agent.config.node_name;
    agent.recorder.record_node(node, first.event());
    if first.is_of_disk()
        && let Some(bytes) = reclaim::images(agent).await
    {
        return Relief::Images { bytes };
    }
    match evict(agent, evictor, met).await {
        Some((uid, grace_seconds)) => Relief::Pod { uid, grace_seconds },
        None => Relief::None,
    }
}

/// Has one Pod go; its UID, and the seconds it has.
async fn evict(
    agent: &Agent,
    evictor: &mpsc::UnboundedSender<Evicted>,
    met: &[Met],
) -> Option<(String, i64)> {
    let views = agent.allocations.holders().into_iter().filter_map(|uid| {
        let view = agent.views.follow(&uid)?;
        let view = view.borrow().clone();
        Some(view)
    });
    let with_disk = met.iter().any(Met::is_of_disk);
    let mut pods: Vec<(Arc<Pod>, Usage)> = Vec::new();
    for view in views.collect::<Vec<_>>() {
        let mut used = usage(agent, &view).await;
        if with_disk {
            measure_disk(agent, &view, &mut used).await;
        }
        pods.push((view.pod.clone(), used));
    }
    let (pod, eviction) = met.iter().find_map(|met| {
        let pods = pods.iter().map(|(pod, usage)| (&**pod, Some(usage)));
        pressure::evict(met, pods)
    })?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    tracing::warn!(pod = uid, "{}", eviction.verdict.message);
    let grace = eviction.grace_seconds;
    let grace = grace.unwrap_or_else(|| lifecycle::termination::spec_grace(pod));
    // Nobody listens when the agent ends.
    let _ = evictor.send((uid.clone(), eviction));
    Some((uid, grace))
}

/// What a Pod's containers use; nothing of the disk.
async fn usage(agent: &Agent, view: &View) -> Usage {
    let mut usage = Usage::default();
    let is_running = |state: &ContainerState| matches!(state, ContainerState::Running { .. });
    for container in view.containers.iter().filter(|c| is_running(&c.state)) {
        // One that has just ended uses nothing.
        if let Ok(stats) = agent.runtime.container_stats(&container.id).await {
            let name = container.name.clone();
            usage.memory.insert(name, stats.memory_working_set_bytes);
            usage.pids += stats.pids;
        }
    }
    usage
}

/// Measures a Pod's volumes, and the logs and writable layers of its containers.
async fn measure_disk(agent: &Agent, view: &View, usage: &mut Usage) {
    let uid = view.pod.metadata.uid.as_deref().unwrap_or_default();
    let logs = agent.log_directory(&view.pod);
    let mut paths: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for container in &view.containers {
        let name = &container.name;
        let of_it = paths
            .entry(name.clone())
            .or_insert_with(|| vec![logs.join(name)]);
        // One that was removed meanwhile uses nothing.
        of_it.extend(agent.runtime.writable_layer(&container.id).await);
    }
    let volumes: Vec<PathBuf> = agent.volumes.pod_dir(uid).await.into_iter().collect();
    let measured = blocking::run(move || {
        let containers = paths.into_iter();
        let containers = containers.map(|(name, paths)| (name, disk::together(&paths)));
        (containers.collect(), disk::together(&volumes))
    });
    let (containers, volumes): (BTreeMap<String, u64>, u64) = measured.await;
    usage.disk = containers.values().sum::<u64>() + volumes;
    usage.disk_of = containers;
}
