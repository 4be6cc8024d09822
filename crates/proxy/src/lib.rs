//! Sends the traffic of Services to their endpoints (the place of upstream's kube-proxy), and that of host ports to their Pods; and
//! lets through what policies do, and leads to the Pods of other nodes (the place of a network plugin).
//!
//! [`Proxy`] is one task with watches of Services, of the EndpointSlices that have one and of the node's Pods. [`netplan`] decides what an event
//! changes; [`Redirects`] carries it out, one change at a time, and what is heard meanwhile is taken together in the next. Nothing is
//! carried out before every watch has told all there is: until then traffic goes where an earlier engine has sent it. [`Guard`] is
//! another of the same kind, with watches of NetworkPolicies and, while there are any, of Pods and namespaces; and so is [`Pathfinder`],
//! with one of Nodes.

mod guard;
mod pathfinder;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Fuse, FutureExt};
use informer::{Mirror, hear_each, watch};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use nat::Change;
use netplan::State;
use ports::network::Redirects;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use guard::{Guard, Waiting};
pub use pathfinder::Pathfinder;

/// Slices of headless Services lead nowhere; those without a Service are nobody's (upstream's kube-proxy asks for the same).
const SLICES: &str = "kubernetes.io/service-name,!service.kubernetes.io/headless";
/// What could not be carried out is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// The proxy of one node.
pub struct Proxy {
    client: Client,
    redirects: Arc<dyn Redirects>,
    node: String,
}

impl Proxy {
    /// A proxy that learns from the API through `client` for the node of this name.
    pub fn new(client: Client, redirects: Arc<dyn Redirects>, node: impl Into<String>) -> Self {
        Proxy {
            client,
            redirects,
            node: node.into(),
        }
    }

    /// Keeps the redirects right until `shutdown`. They stay then: Pods go on without the engine.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut state = State::new(&self.node);
        let mut services = informer::watch_services(&self.client);
        let mut slices = watch::<EndpointSlice>(
            Api::all(self.client.clone()),
            Config::default().labels(SLICES),
        );
        let here = Config::default().fields(&format!("spec.nodeName={}", self.node));
        let mut pods = watch::<Pod>(Api::all(self.client.clone()), here);
        let (mut known_services, mut known_slices) = (Mirror::default(), Mirror::default());
        let mut known_pods = Mirror::default();
        let mut change = std::pin::pin!(Fuse::terminated());
        let mut is_idle = true;
        loop {
            let known = [&known_services, &known_slices, &known_pods];
            if is_idle && known.iter().all(|known| known.is_synced()) {
                let next = state.take();
                if !next.is_empty() {
                    is_idle = false;
                    change.set(carry_out(&*self.redirects, next).fuse());
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(event) = services.next() => {
                    hear_each("Services", &mut known_services, event, |key, service| {
                        state.service(key, service.map(informer::service_of).as_ref());
                    });
                }
                Some(event) = slices.next() => {
                    hear_each("EndpointSlices", &mut known_slices, event, |key, slice| {
                        state.slice(key, slice.as_ref());
                    });
                }
                Some(event) = pods.next() => {
                    hear_each("Pods", &mut known_pods, event, |key, pod| {
                        state.pod(key, pod.as_ref());
                    });
                }
                is_done = &mut change => {
                    is_idle = true;
                    if !is_done {
                        state.again();
                    }
                }
            }
        }
    }
}

/// Whether the change was carried out; if it was not, some time has passed.
async fn carry_out(redirects: &dyn Redirects, change: Change) -> bool {
    let Err(error) = redirects.change(change).await else {
        return true;
    };
    tracing::warn!(
        error = &error as &dyn std::error::Error,
        "redirecting the traffic of Services"
    );
    sleep(AGAIN).await;
    false
}
