//! Gives nodes the ranges their Pods have their addresses from (the place of upstream's node-ipam controller). A node that comes with
//! ranges of its own keeps them.

use std::time::Duration;

use events::{Recorder, Words};
use futures::StreamExt;
use informer::{Mirror, Watch, watch_all};
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use nat::{Family, IpRange, Ranges};
use netplan::nodes::{self, Place};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::pods::is_moot;

/// Who the events are from, as upstream names it.
const COMPONENT: &str = "cidrAllocator";
/// A Node that could not be changed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// What ranges are given out beside.
#[derive(Debug, Clone)]
pub struct PodRanges {
    /// The node beside the API server, which has its own.
    pub node: String,
    /// Its ranges: those of others are of the same families and sizes.
    pub own: Ranges,
    /// Those of Services.
    pub services: Ranges,
    /// What else is not to be given out.
    pub avoid: Vec<IpRange>,
}

/// A Node without ranges for which there are none is told once.
#[derive(Debug, Clone, Default)]
struct Seen {
    place: Place,
    uid: Option<String>,
    is_told: bool,
}

/// Gives ranges out until `shutdown`.
pub(crate) async fn run(
    client: Client,
    recorder: &Recorder,
    known: PodRanges,
    shutdown: CancellationToken,
) {
    let recorder = recorder.of(COMPONENT);
    let mut watch: Watch<Node> = watch_all(&client);
    let mut nodes: Mirror<Seen> = Mirror::default();
    loop {
        let again = tokio::select! {
            again = settle(&client, &recorder, &known, &mut nodes) => again,
            () = shutdown.cancelled() => return,
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = watch.next() => match event {
                Ok(event) => drop(nodes.hear(event, |node| Seen {
                    place: Place::of(&node),
                    uid: node.metadata.uid,
                    is_told: false,
                })),
                Err(error) => tracing::warn!(%error, "watching nodes"),
            },
            () = tokio::time::sleep(AGAIN), if again => {}
        }
    }
}

/// Gives every node without ranges its own. Whether something has to be tried again.
async fn settle(
    client: &Client,
    recorder: &Recorder,
    known: &PodRanges,
    nodes: &mut Mirror<Seen>,
) -> bool {
    if !nodes.is_synced() {
        return false;
    }
    let lacking = nodes.iter().filter(|((_, name), seen)| {
        *name != known.node && seen.place.ranges.is_empty() && !seen.is_told
    });
    let lacking: Vec<_> = lacking.map(|(k, seen)| (k.clone(), seen.clone())).collect();
    let mut again = false;
    for (key, mut seen) in lacking {
        let places = nodes.iter().map(|(_, seen)| &seen.place);
        let Some(ranges) = nodes::next(known.own, &taken(known, places)) else {
            recorder.record(reference(&key.1, &seen), none_left(&key.1));
            seen.is_told = true;
            nodes.wrote(key, seen);
            continue;
        };
        match give(client, &key.1, &seen, ranges).await {
            Ok(()) => {
                seen.place.ranges = ranges.iter().collect();
                nodes.wrote(key, seen);
            }
            // It is gone, or another by now: the watch tells.
            Err(error) if is_moot(&error) => {}
            Err(error) => {
                tracing::warn!(%error, node = key.1, "giving a range for Pods");
                again = true;
            }
        }
    }
    again
}

/// What nobody new may have: what nodes have, and the addresses they are reached at.
fn taken<'a>(known: &PodRanges, places: impl Iterator<Item = &'a Place>) -> Vec<IpRange> {
    let mut taken: Vec<IpRange> = known.own.iter().chain(known.services.iter()).collect();
    taken.extend(&known.avoid);
    for place in places {
        taken.extend(&place.ranges);
        let addresses = place.addresses.iter();
        taken.extend(addresses.filter_map(|ip| IpRange::new(*ip, Family::of(*ip).bits())));
    }
    taken
}

async fn give(client: &Client, name: &str, seen: &Seen, ranges: Ranges) -> Result<(), kube::Error> {
    let cidrs: Vec<String> = ranges.iter().map(|range| range.to_string()).collect();
    let patch = json!({
        "metadata": {"uid": seen.uid},
        "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs},
    });
    let api: Api<Node> = Api::all(client.clone());
    let patch = Patch::Merge(&patch);
    api.patch(name, &PatchParams::default(), &patch)
        .await
        .map(drop)
}

fn reference(name: &str, seen: &Seen) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Node".into()),
        name: Some(name.to_owned()),
        uid: seen.uid.clone(),
        ..ObjectReference::default()
    }
}

fn none_left(name: &str) -> Words {
    let message = format!("Node {name} status is now: CIDRNotAvailable");
    Words::normal("CIDRNotAvailable", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_have_and_are_reached_at_is_taken() {
        let ranges = |text: &str| text.parse::<Ranges>().expect("ranges");
        let known = PodRanges {
            node: "own".into(),
            own: ranges("10.244.0.0/16"),
            services: ranges("10.245.0.0/16"),
            avoid: ranges("10.246.0.0/24").iter().collect(),
        };
        let place = Place {
            ranges: ranges("10.247.0.0/16").iter().collect(),
            addresses: vec!["10.248.0.9".parse().expect("an address")],
        };
        let taken = taken(&known, [&place].into_iter());
        let next = nodes::next(known.own, &taken).expect("a range");
        assert_eq!(next.to_string(), "10.249.0.0/16");
    }
}
