//! Gives Services of type LoadBalancer the address of the node, where their traffic is redirected (the place of a cloud's service
//! controller). Those of a `loadBalancerClass` are somebody else's.
//!
//! The address is one, so a port on it is for one Service: the oldest has it. The others stay without an address and an Event says who
//! has the port; when that Service is gone, the next has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use events::{Recorder, Words};
use futures::StreamExt;
use informer::{FoundService, Key, Mirror, Watch, watch_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, ObjectReference, Service};
use kube::api::{ApiResource, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Who the events are from, as upstream names it.
const COMPONENT: &str = "service-controller";
/// A Service that could not be changed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// What matters of a Service that is to be balanced here.
#[derive(Debug, Clone, PartialEq)]
struct Balanced {
    /// Families it has addresses of, as the API names them.
    families: Vec<String>,
    created: Option<Timestamp>,
    uid: Option<String>,
    ports: BTreeSet<Port>,
    /// Where its traffic is taken, as its status says.
    ingress: Vec<LoadBalancerIngress>,
}

/// Number and protocol.
type Port = (i32, String);

/// Who has a port that a Service asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    port: Port,
    by: Key,
}

/// Gives addresses until `shutdown`.
pub(crate) async fn run(client: Client, recorder: &Recorder, shutdown: CancellationToken) {
    let recorder = recorder.of(COMPONENT);
    let mut services = informer::watch_services(&client);
    let mut nodes: Watch<Node> = watch_all(&client);
    let (mut balanced, mut addresses) = (Mirror::default(), Mirror::default());
    let mut waiting = BTreeMap::new();
    loop {
        let again = tokio::select! {
            again = settle(&client, &recorder, &mut balanced, &addresses, &mut waiting) => again,
            () = shutdown.cancelled() => return,
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = services.next() => match event {
                Ok(event) => drop(balanced.hear(event, |found| {
                    Balanced::of(&informer::service_of(found))
                })),
                Err(error) => tracing::warn!(%error, "watching Services"),
            },
            Some(event) = nodes.next() => match event {
                Ok(event) => drop(addresses.hear(event, |node| {
                    let made = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
                    (made, addresses_of(&node))
                })),
                Err(error) => tracing::warn!(%error, "watching nodes"),
            },
            () = tokio::time::sleep(AGAIN), if again => {}
        }
    }
}

impl Balanced {
    fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() != Some("LoadBalancer") || spec.load_balancer_class.is_some() {
            return None;
        }
        let ports = spec.ports.iter().flatten();
        let protocol = |protocol: &Option<String>| protocol.clone().unwrap_or("TCP".into());
        let status = service
            .status
            .as_ref()
            .and_then(|s| s.load_balancer.as_ref());
        Some(Balanced {
            families: spec.ip_families.clone().unwrap_or_default(),
            created: service.metadata.creation_timestamp.as_ref().map(|t| t.0),
            uid: service.metadata.uid.clone(),
            ports: ports.map(|p| (p.port, protocol(&p.protocol))).collect(),
            ingress: status.and_then(|s| s.ingress.clone()).unwrap_or_default(),
        })
    }
}

impl Balanced {
    /// Where it is reached: at an address of the node for each of its families.
    fn ingress_at(&self, node: &[IpAddr]) -> Vec<LoadBalancerIngress> {
        let of = |family: &String| {
            let is_v6 = family == "IPv6";
            node.iter().find(move |ip| ip.is_ipv6() == is_v6)
        };
        let addresses = self.families.iter().filter_map(of);
        let points = addresses.map(|ip| LoadBalancerIngress {
            ip: Some(ip.to_string()),
            ip_mode: Some("VIP".into()),
            ..LoadBalancerIngress::default()
        });
        points.collect()
    }
}

/// The addresses others reach a node by, one of a family.
fn addresses_of(node: &Node) -> Vec<IpAddr> {
    let status = node.status.as_ref();
    let all = status.and_then(|status| status.addresses.as_ref());
    let internal = all
        .into_iter()
        .flatten()
        .filter(|a| a.type_ == "InternalIP");
    let mut found: Vec<IpAddr> = Vec::new();
    for ip in internal.filter_map(|address| address.address.parse::<IpAddr>().ok()) {
        if found.iter().all(|known| known.is_ipv6() != ip.is_ipv6()) {
            found.push(ip);
        }
    }
    found
}

/// Who has to wait for another.
fn waiting<'a>(services: impl Iterator<Item = (&'a Key, &'a Balanced)>) -> BTreeMap<Key, Taken> {
    let mut by_age: Vec<_> = services.collect();
    by_age.sort_by_key(|(key, service)| (service.created, *key));
    let mut owners: BTreeMap<&Port, &Key> = BTreeMap::new();
    let mut waiting = BTreeMap::new();
    for (key, service) in by_age {
        let taken = service
            .ports
            .iter()
            .find_map(|port| Some((port, *owners.get(port)?)));
        match taken {
            Some((port, by)) => {
                let (port, by) = (port.clone(), by.clone());
                waiting.insert(key.clone(), Taken { port, by });
            }
            None => owners.extend(service.ports.iter().map(|port| (port, key))),
        }
    }
    waiting
}

/// Writes what has to be written, and tells of those that wait. Whether something has to be tried again.
async fn settle(
    client: &Client,
    recorder: &Recorder,
    services: &mut Mirror<Option<Balanced>>,
    nodes: &Mirror<(Option<Timestamp>, Vec<IpAddr>)>,
    known: &mut BTreeMap<Key, Taken>,
) -> bool {
    // Of several nodes it is the oldest, so that one that joins changes nothing.
    let nodes_known = nodes.iter().map(|(_, node)| node);
    let nodes_known = nodes_known.filter(|(_, addresses)| !addresses.is_empty());
    let oldest = nodes_known.min_by_key(|(made, _)| *made);
    let node = oldest.map(|(_, addresses)| addresses);
    let (true, Some(node)) = (services.is_synced() && nodes.is_synced(), node) else {
        return false;
    };
    let all = services.iter();
    let all: Vec<_> = all
        .filter_map(|(k, s)| Some((k.clone(), s.clone()?)))
        .collect();
    let waiting = waiting(all.iter().map(|(key, service)| (key, service)));
    let mut again = false;
    for (key, mut service) in all {
        let taken = waiting.get(&key);
        let ingress = match taken {
            None => service.ingress_at(node),
            Some(_) => Vec::new(),
        };
        if let Some(taken) = taken.filter(|taken| known.get(&key) != Some(*taken)) {
            recorder.record(reference(&key, &service), refusal(taken));
        }
        if service.ingress == ingress {
            continue;
        }
        match write(client, &key, &service, &ingress).await {
            Ok(()) => {
                if taken.is_none() {
                    recorder.record(reference(&key, &service), ensured());
                }
                service.ingress = ingress;
                services.wrote(key, Some(service));
            }
            // It is gone, or another by now: the watch tells.
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(%error, namespace = key.0, service = key.1, "giving an address");
                again = true;
            }
        }
    }
    *known = waiting;
    again
}

async fn write(
    client: &Client,
    (namespace, name): &Key,
    service: &Balanced,
    ingress: &[LoadBalancerIngress],
) -> Result<(), kube::Error> {
    // What else its status says may be unreadable, and is not needed.
    let kind = ApiResource::erase::<Service>(&());
    let api: Api<FoundService> = Api::namespaced_with(client.clone(), namespace, &kind);
    let patch = json!({
        "metadata": {"uid": service.uid},
        "status": {"loadBalancer": {"ingress": ingress}},
    });
    let params = PatchParams::default();
    let patch = Patch::Merge(&patch);
    api.patch_status(name, &params, &patch).await.map(drop)
}

fn reference((namespace, name): &Key, service: &Balanced) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Service".into()),
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        uid: service.uid.clone(),
        ..ObjectReference::default()
    }
}

fn ensured() -> Words {
    Words::normal("EnsuredLoadBalancer", "Ensured load balancer")
}

fn refusal(taken: &Taken) -> Words {
    let ((port, protocol), (namespace, name)) = (&taken.port, &taken.by);
    let message = format!(
        "Error syncing load balancer: failed to ensure load balancer: Service {namespace}/{name} has port {port}/{protocol} of the node"
    );
    Words::warning("SyncLoadBalancerFailed", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(created: &str, ports: &[i32], more: serde_json::Value) -> Service {
        let ports: Vec<_> = ports.iter().map(|port| json!({"port": port})).collect();
        let mut service = json!({
            "metadata": {"creationTimestamp": format!("2026-01-01T00:00:{created}Z")},
            "spec": {"type": "LoadBalancer", "ports": ports},
        });
        for (name, value) in more.as_object().expect("fields") {
            service["spec"][name] = value.clone();
        }
        serde_json::from_value(service).expect("a Service")
    }

    #[test]
    fn the_oldest_has_a_port() {
        let plain = json!({});
        let services = [
            ("young", service("03", &[80], plain.clone())),
            ("old", service("01", &[80, 443], plain.clone())),
            ("middle", service("02", &[443, 8080], plain.clone())),
            ("apart", service("04", &[8080], plain)),
        ];
        let key = |name: &str| -> Key { ("n".into(), name.into()) };
        let services: BTreeMap<Key, Balanced> = services
            .iter()
            .map(|(name, service)| (key(name), Balanced::of(service).expect("is balanced")))
            .collect();
        let shown: Vec<String> = waiting(services.iter())
            .iter()
            .map(|(key, taken)| format!("{} for {}: {}", key.1, taken.by.1, taken.port.0))
            .collect();
        assert_eq!(shown, ["middle for old: 443", "young for old: 80"]);
    }

    #[test]
    fn some_services_are_not_for_the_node() {
        for more in [
            json!({"type": "NodePort"}),
            json!({"type": "ClusterIP"}),
            json!({"loadBalancerClass": "example.com/mine"}),
        ] {
            assert_eq!(Balanced::of(&service("01", &[80], more)), None);
        }
    }

    #[test]
    fn a_service_is_reached_by_the_nodes_internal_addresses_of_its_families() {
        let node = json!({"status": {"addresses": [
            {"type": "Hostname", "address": "here"}, {"type": "InternalIP", "address": "fd00::1"},
            {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "ExternalIP", "address": "192.0.2.2"},
        ]}});
        let node: Node = serde_json::from_value(node).expect("a Node");
        let node = addresses_of(&node);
        let shown: Vec<String> = node.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["fd00::1", "192.0.2.1"]);
        assert_eq!(addresses_of(&Node::default()), [] as [IpAddr; 0]);
        for (families, expected) in [
            (json!(["IPv4"]), "192.0.2.1"),
            (json!(["IPv6", "IPv4"]), "fd00::1 192.0.2.1"),
            (json!(["IPv4", "IPv6"]), "192.0.2.1 fd00::1"),
        ] {
            let service = service("01", &[80], json!({"ipFamilies": families}));
            let service = Balanced::of(&service).expect("is balanced");
            let points = service.ingress_at(&node).into_iter();
            let ips: Vec<String> = points.filter_map(|point| point.ip).collect();
            assert_eq!(ips.join(" "), expected);
        }
    }
}
