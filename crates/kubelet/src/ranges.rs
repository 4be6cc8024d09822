//! Which addresses the Pods of a node may have, for whoever has to know before the node's network and its agent are there.

use std::pin::pin;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

/// The ranges of a node's Pods, as CIDR and primary first, when it has some: a Node that is not there is made, with nothing but its name, so
/// that nobody is placed there before the agent says what it has.
///
/// # Errors
/// Whatever the API answers when the Node is made.
pub async fn pod_ranges(client: &Client, node: &str) -> Result<Vec<String>, kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let mut seen = pin!(watcher::watch_object(api.clone(), node).default_backoff());
    loop {
        let found = match seen.next().await {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                tracing::warn!(%error, "watching the node");
                continue;
            }
            None => None,
        };
        let Some(found) = found else {
            make(&api, node).await?;
            continue;
        };
        let spec = found.spec.unwrap_or_default();
        if let Some(ranges) = spec.pod_cidrs.filter(|ranges| !ranges.is_empty()) {
            return Ok(ranges);
        }
        tracing::info!(node, "waiting for a range for the node's Pods");
    }
}

/// The first other node, with a range, that has an address in common with one of these.
///
/// # Errors
/// Whatever the API answers.
pub async fn rival(
    client: &Client,
    node: &str,
    overlaps: impl Fn(&str) -> bool,
) -> Result<Option<(String, String)>, kube::Error> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api.list(&ListParams::default()).await?;
    let others = nodes.items.into_iter();
    let others = others.filter(|other| other.name_any() != node);
    let mut pairs = others.flat_map(|other| {
        let name = other.name_any();
        let spec = other.spec.unwrap_or_default();
        let ranges = spec.pod_cidrs.unwrap_or_default().into_iter();
        ranges.map(move |range| (name.clone(), range))
    });
    Ok(pairs.find(|(_, range)| overlaps(range)))
}

async fn make(api: &Api<Node>, node: &str) -> Result<(), kube::Error> {
    let new = Node {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    match api.create(&PostParams::default(), &new).await {
        Err(kube::Error::Api(e)) if e.code == 409 => Ok(()),
        made => made.map(drop),
    }
}
