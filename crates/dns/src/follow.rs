//! What the API tells of names.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use futures::StreamExt;
use informer::{FoundService, Mirror, Watch, hear_each, watch};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ApiResource;
use kube::core::Object;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use netplan::names::{Names, PodAt};
use serde::{Deserialize, Serialize};

/// Slices without a Service name nobody.
const SLICES: &str = "kubernetes.io/service-name";

/// A Pod but for nearly everything: its status changes often and is long.
type PodHead = Object<HeadSpec, HeadStatus>;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadSpec {
    #[serde(default)]
    host_network: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct HeadStatus {
    #[serde(default)]
    phase: String,
    #[serde(rename = "podIPs", default)]
    pod_ips: Vec<HeadIp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct HeadIp {
    #[serde(default)]
    ip: String,
}

/// Watches, and what they keep right.
pub(crate) struct Follow {
    names: Arc<RwLock<Names>>,
    services: Watch<FoundService>,
    slices: Watch<EndpointSlice>,
    pods: Watch<PodHead>,
    known_services: Mirror<()>,
    known_slices: Mirror<()>,
    known_pods: Mirror<()>,
}

impl Follow {
    pub(crate) fn new(client: &Client, names: Arc<RwLock<Names>>) -> Self {
        let slices = Api::all(client.clone());
        let pods = Api::all_with(client.clone(), &ApiResource::erase::<Pod>(&()));
        Follow {
            names,
            services: informer::watch_services(client),
            slices: watch::<EndpointSlice>(slices, Config::default().labels(SLICES)),
            pods: watch(pods, Config::default()),
            known_services: Mirror::default(),
            known_slices: Mirror::default(),
            known_pods: Mirror::default(),
        }
    }

    /// Returns once every watch has told all there is.
    pub(crate) async fn until_all_is_known(&mut self) {
        while !(self.known_services.is_synced()
            && self.known_slices.is_synced()
            && self.known_pods.is_synced())
        {
            self.next().await;
        }
    }

    /// Keeps the names right; never returns.
    pub(crate) async fn on(&mut self) {
        loop {
            self.next().await;
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            Some(event) = self.services.next() => {
                let mut names = write(&self.names);
                hear_each("Services", &mut self.known_services, event, |key, service| {
                    names.service(key, service.map(informer::service_of).as_ref());
                });
            }
            Some(event) = self.slices.next() => {
                let mut names = write(&self.names);
                hear_each("EndpointSlices", &mut self.known_slices, event, |key, slice| {
                    names.slice(key, slice.as_ref());
                });
            }
            Some(event) = self.pods.next() => {
                let mut names = write(&self.names);
                hear_each("Pods", &mut self.known_pods, event, |key, pod| {
                    names.pod(key, pod.map(place));
                });
            }
        }
    }
}

/// Each change leaves the names whole, so a poisoned lock is still good.
fn write(names: &RwLock<Names>) -> RwLockWriteGuard<'_, Names> {
    names.write().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of a Pod that is over may be another's by now.
fn place(pod: PodHead) -> PodAt {
    let status = pod.status.unwrap_or_default();
    let is_over = matches!(status.phase.as_str(), "Succeeded" | "Failed");
    let addresses = status.pod_ips.iter().filter_map(|at| at.ip.parse().ok());
    let addresses: Vec<IpAddr> = addresses.filter(|_| !is_over).collect();
    PodAt {
        addresses,
        on_host: pod.spec.host_network,
    }
}
