//! Keeps the ways to the Pods of other nodes right.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{Fuse, FutureExt};
use informer::{Mirror, Watch, watch_all};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use nat::IpRange;
use netplan::nodes::{self, Place};
use ports::network::Ways;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::AGAIN;

/// Finds the ways of one node.
pub struct Pathfinder {
    client: Client,
    ways: Arc<dyn Ways>,
    node: String,
}

impl Pathfinder {
    /// One that learns from the API through `client`, for the node of this name.
    pub fn new(client: Client, ways: Arc<dyn Ways>, node: impl Into<String>) -> Self {
        Pathfinder {
            client,
            ways,
            node: node.into(),
        }
    }

    /// Keeps the ways right until `shutdown`. They stay then: Pods go on without the engine.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut nodes: Watch<Node> = watch_all(&self.client);
        let mut places = Mirror::default();
        let mut laid: Option<BTreeMap<IpRange, IpAddr>> = None;
        let mut laying = std::pin::pin!(Fuse::terminated());
        let mut is_idle = true;
        loop {
            if is_idle && places.is_synced() {
                let wanted = self.wanted(&places);
                if laid.as_ref() != Some(&wanted) {
                    is_idle = false;
                    laid = Some(wanted.clone());
                    laying.set(lay(&*self.ways, wanted).fuse());
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(event) = nodes.next() => match event {
                    Ok(event) => drop(places.hear(event, |node| Place::of(&node))),
                    Err(error) => tracing::warn!(%error, "watching Nodes"),
                },
                is_done = &mut laying => {
                    is_idle = true;
                    if !is_done {
                        laid = None;
                    }
                }
            }
        }
    }

    fn wanted(&self, places: &Mirror<Place>) -> BTreeMap<IpRange, IpAddr> {
        let places = places
            .iter()
            .map(|((_, name), place)| (name.as_str(), place));
        nodes::ways(places, &self.node)
    }
}

/// Whether the ways were laid; if they were not, some time has passed.
async fn lay(ways: &dyn Ways, wanted: BTreeMap<IpRange, IpAddr>) -> bool {
    let Err(error) = ways.lay(wanted).await else {
        return true;
    };
    tracing::warn!(
        error = &error as &dyn std::error::Error,
        "leading to the Pods of other nodes"
    );
    sleep(AGAIN).await;
    false
}
