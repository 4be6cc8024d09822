//! Which Pods go first when there are too many.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use api::selector::Selector;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod;

/// What a user says a deletion costs.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// How many active Pods of these selectors are on each node.
pub(super) fn nodes<'a>(
    selectors: impl Iterator<Item = Selector>,
    pods: &[&'a Pod],
) -> BTreeMap<&'a str, usize> {
    let selectors: Vec<Selector> = selectors.collect();
    let mut nodes = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod::is_active(pod)) {
        if selectors.iter().any(|s| s.matches(&pod.metadata.labels)) {
            *nodes.entry(node(pod)).or_default() += 1;
        }
    }
    nodes
}

/// Which of two goes first: what is without a node, then what has come less far, is not ready, costs less, shares its node with more,
/// is ready for less time, restarted more often, or is younger. Of times only the magnitude counts, so that not always the youngest
/// go. Upstream lets the UID decide as soon as two times are of one magnitude, which is no order of three; here it does last.
pub(crate) fn compare(a: &Pod, b: &Pod, nodes: &BTreeMap<&str, usize>, now: Timestamp) -> Ordering {
    let rank = |pod: &Pod| {
        let neighbours = nodes.get(node(pod)).copied().unwrap_or(0);
        let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (
            !node(pod).is_empty(),
            progress(pod),
            pod::is_ready(pod),
            cost(pod),
            Reverse(neighbours),
            pod::ready_since(pod).map(|since| magnitude(since, now)),
            Reverse(restarts(pod)),
            created.map(|since| magnitude(since, now)),
        )
    };
    let by_uid = || a.metadata.uid.cmp(&b.metadata.uid);
    rank(a).cmp(&rank(b)).then_with(by_uid)
}

fn node(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.node_name.as_deref())
        .unwrap_or_default()
}

/// Pending, unknown, running.
fn progress(pod: &Pod) -> u8 {
    match pod::phase(pod) {
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

/// No sign but a minus, no zeros ahead; anything else counts as nothing.
fn cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let text = annotations.and_then(|a| a.get(COST)).map(String::as_str);
    let text = text.filter(|t| *t == "0" || t.starts_with(|c| matches!(c, '-' | '1'..='9')));
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// How often the container that restarted most did: of the app's, then of the sidecars.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else {
        return (0, 0);
    };
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref());
    let is_sidecar = |name: &str| {
        let mut containers = init.into_iter().flatten();
        containers.any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
    };
    let apps = status.container_statuses.iter().flatten();
    let sidecars = status.init_container_statuses.iter().flatten();
    let sidecars = sidecars.filter(|c| is_sidecar(&c.name));
    (
        apps.map(|c| c.restart_count).max().unwrap_or(0),
        sidecars.map(|c| c.restart_count).max().unwrap_or(0),
    )
}

/// How long ago that was, as a power of two of nanoseconds.
fn magnitude(since: Timestamp, now: Timestamp) -> Option<u32> {
    let nanoseconds = u128::try_from(now.duration_since(since).as_nanos());
    nanoseconds.ok().and_then(u128::checked_ilog2)
}
