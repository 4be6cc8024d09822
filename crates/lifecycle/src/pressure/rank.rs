//! Who has to go.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::Pod;

use super::threshold::Signal;
use super::watch::{GRACE, Met};
use crate::kinds;
use crate::observed::{Eviction, Verdict};
use crate::plan::EventType;
use crate::preempt;
use crate::resources;
use crate::termination;

/// What a Pod uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in bytes, by container.
    pub memory: BTreeMap<String, u64>,
    /// Bytes on the disk: writable layers, logs and volumes.
    pub disk: u64,
    /// Of these, writable layers and logs, by container.
    pub disk_of: BTreeMap<String, u64>,
    /// Processes and threads.
    pub pids: u64,
}

/// Who has to go so that a threshold is kept again: the first of `pods` by rank that the cluster can do without. Of Pods whose use is
/// not known nothing is spared.
pub fn evict<'a>(
    met: &Met,
    pods: impl IntoIterator<Item = (&'a Pod, Option<&'a Usage>)>,
) -> Option<(&'a Pod, Eviction)> {
    let can_go = pods
        .into_iter()
        .filter(|(pod, _)| !preempt::is_critical(pod));
    let (pod, usage) = can_go.min_by_key(|(pod, usage)| rank(met.signal, pod, *usage))?;
    let (message, annotations) = words(met, pod, usage);
    let eviction = Eviction {
        verdict: Verdict {
            phase: "Failed".to_owned(),
            reason: "Evicted".to_owned(),
            message: message.clone(),
            event_type: EventType::Warning,
            annotations,
            disruption: Some(message),
        },
        grace_seconds: Some(grace_seconds(met, pod)),
    };
    Some((pod, eviction))
}

/// Seconds the Pod has to end: what the threshold leaves it, and no more than it asks for itself.
fn grace_seconds(met: &Met, pod: &Pod) -> i64 {
    termination::spec_grace(pod)
        .min(met.max_grace_seconds)
        .max(GRACE)
}

/// The lowest goes first: whether its use is known and within what it asked for, its priority, how much it uses beyond that.
fn rank(signal: Signal, pod: &Pod, usage: Option<&Usage>) -> (bool, bool, i32, Reverse<i64>) {
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    let Some(usage) = usage else {
        return (false, false, priority, Reverse(0));
    };
    let (used, asked) = match signal {
        Signal::Memory => (usage.memory.values().sum(), request(pod, "memory")),
        Signal::Disk | Signal::ImageDisk => (usage.disk, request(pod, "ephemeral-storage")),
        Signal::Inodes | Signal::ImageInodes => (usage.disk, 0),
        Signal::Pids => (usage.pids, 0),
    };
    let beyond = i64::try_from(used)
        .unwrap_or(i64::MAX)
        .saturating_sub(asked);
    // Nobody asks for process ids.
    let is_modest = signal != Signal::Pids && beyond <= 0;
    (true, is_modest, priority, Reverse(beyond))
}

fn request(pod: &Pod, resource: &str) -> i64 {
    resources::requests(pod)
        .get(resource)
        .map_or(0, Quantity::value)
}

/// What is said of it, and the annotations of the event that says so.
fn words(met: &Met, pod: &Pod, usage: Option<&Usage>) -> (String, BTreeMap<String, String>) {
    let resource = met.signal.resource();
    let mut message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        met.least, met.available
    );
    let by_container = usage.and_then(|usage| match met.signal {
        Signal::Memory => Some(&usage.memory),
        Signal::Disk | Signal::ImageDisk => Some(&usage.disk_of),
        Signal::Inodes | Signal::ImageInodes | Signal::Pids => None,
    });
    let (mut names, mut amounts) = (Vec::new(), Vec::new());
    for (name, used) in by_container.into_iter().flatten() {
        let members = kinds::members(pod);
        let Some(member) = members.iter().find(|m| m.name() == name) else {
            continue;
        };
        let requests = member
            .spec
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref());
        let asked = resources::amount(requests, resource);
        if i64::try_from(*used).is_ok_and(|used| used > asked.as_ref().map_or(0, Quantity::value)) {
            let asked = asked.map_or_else(|| "0".to_owned(), |asked| asked.to_string());
            let used = met.signal.shown(*used);
            message += &format!(
                "Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
            );
            names.push(name.as_str());
            amounts.push(used);
        }
    }
    let annotations = [
        ("offending_containers", names.join(",")),
        ("offending_containers_usage", amounts.join(",")),
        ("starved_resource", resource.to_owned()),
    ];
    let annotations = annotations.map(|(key, text)| (key.to_owned(), text));
    let annotations = usage.map(|_| BTreeMap::from(annotations));
    (message, annotations.unwrap_or_default())
}
