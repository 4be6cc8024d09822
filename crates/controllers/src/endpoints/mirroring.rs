//! Mirrors the Endpoints that users keep for Services without a selector into EndpointSlices, as upstream's endpointslicemirroring
//! controller does: who looks at slices alone, as the proxy does, knows those addresses, too.
//!
//! What slices there should be follows from the Endpoints alone ([`mirrored`]); a slice that is there for the same family and ports is
//! changed, and what is left over deleted. There are few such Endpoints: each event looks at all of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::StreamExt;
use informer::{Key, Mirror, Watch, watch};
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::slices::{self, Family, MANAGED_BY, PortSet, SERVICE_NAME};
use super::{AGAIN, hear, is_ending, legacy};

/// Who keeps these slices.
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints with this label are not mirrored when it is `true`.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints with this annotation are a lock of somebody's.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that mean the object they are on.
const OWN: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];
/// Most addresses of a subset that are mirrored.
const MOST_ADDRESSES: usize = 1000;

/// Mirrors until `shutdown`.
pub(crate) async fn run(client: Client, shutdown: CancellationToken) {
    let of = |label: &str, is: &str, manager: &str| {
        Config::default().labels(&format!("{label}{is}{manager}"))
    };
    let mut services = informer::watch_services(&client);
    let foreign = of(legacy::MANAGED_BY, "!=", legacy::MANAGER);
    let mut endpoints: Watch<Endpoints> = watch(Api::all(client.clone()), foreign);
    let ours = of(MANAGED_BY, "=", MANAGER);
    let mut slices: Watch<EndpointSlice> = watch(Api::all(client.clone()), ours);
    let mut state = State::default();
    loop {
        let again = tokio::select! {
            again = state.settle(&client) => again,
            () = shutdown.cancelled() => return,
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = services.next() => hear("Services", event, |event| {
                state.services.hear(event, |found| {
                    let spec = informer::service_of(found).spec;
                    spec.is_some_and(|spec| spec.selector.is_none())
                });
            }),
            Some(event) = endpoints.next() => hear("Endpoints", event, |event| {
                state.endpoints.hear(event, |endpoints| endpoints);
            }),
            Some(event) = slices.next() => hear("EndpointSlices", event, |event| {
                state.slices.hear(event, |slice| slice);
            }),
            () = tokio::time::sleep(AGAIN), if again => {}
        }
    }
}

/// What the watches have told.
#[derive(Default)]
struct State {
    /// Whether a Service has no selector.
    services: Mirror<bool>,
    endpoints: Mirror<Endpoints>,
    slices: Mirror<EndpointSlice>,
}

impl State {
    /// What has to be written.
    fn work(&self) -> Vec<Write> {
        let is_synced = self.services.is_synced() && self.endpoints.is_synced();
        if !is_synced || !self.slices.is_synced() {
            return Vec::new();
        }
        let live = self.slices.iter().map(|(_, slice)| slice);
        let live = live.filter(|slice| slice.metadata.deletion_timestamp.is_none());
        let mut existing: BTreeMap<Key, Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in live {
            let service = slice.labels().get(SERVICE_NAME).cloned();
            let key = (slice.namespace().unwrap_or_default(), service);
            let key = (key.0, key.1.unwrap_or_default());
            existing.entry(key).or_default().push(slice);
        }
        let mut work = Vec::new();
        for (key, endpoints) in self.endpoints.iter() {
            let is_wanted = self.services.get(key) == Some(&true) && is_to_be_mirrored(endpoints);
            if is_wanted {
                let has = existing.remove(key).unwrap_or_default();
                work.extend(changes(mirrored(endpoints), has));
            }
        }
        let left = existing.into_values().flatten().cloned();
        work.extend(left.map(Write::Delete));
        work
    }

    /// Writes what has to be written; whether something has to be tried again.
    async fn settle(&mut self, client: &Client) -> bool {
        let mut again = false;
        for write in self.work() {
            again |= match self.write(client, write).await {
                Ok(()) => false,
                // Who ends the namespace empties it.
                Err(error) if is_ending(&error) => false,
                Err(error) => {
                    tracing::warn!(%error, "mirroring Endpoints");
                    true
                }
            };
        }
        again
    }

    async fn write(&mut self, client: &Client, write: Write) -> Result<(), kube::Error> {
        let (Write::Create(slice) | Write::Change(slice) | Write::Delete(slice)) = &write;
        let namespace = slice.namespace().unwrap_or_default();
        let api: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace);
        let params = PostParams::default();
        let written = match &write {
            Write::Create(slice) => api.create(&params, slice).await?,
            Write::Change(slice) => api.replace(&slice.name_any(), &params, slice).await?,
            Write::Delete(slice) => {
                return super::delete(&api, &slice.name_any(), slice.metadata.uid.clone()).await;
            }
        };
        self.slices.wrote(informer::key_of(&written), written);
        Ok(())
    }
}

/// Something that has to be done about a slice.
#[derive(Debug, Clone, PartialEq)]
enum Write {
    Create(EndpointSlice),
    Change(EndpointSlice),
    Delete(EndpointSlice),
}

fn is_to_be_mirrored(endpoints: &Endpoints) -> bool {
    let skips = endpoints.labels().get(SKIP).is_some_and(|s| s == "true");
    !skips
        && !endpoints.annotations().contains_key(LEADER)
        && endpoints.metadata.deletion_timestamp.is_none()
}

/// What makes the slices there are those that are wanted.
fn changes(wanted: Vec<EndpointSlice>, mut existing: Vec<&EndpointSlice>) -> Vec<Write> {
    let mut work = Vec::new();
    for wanted in wanted {
        let ports = |slice: &EndpointSlice| PortSet::of(slice.ports.as_deref().unwrap_or_default());
        let is_same = |has: &&EndpointSlice| {
            has.address_type == wanted.address_type && ports(has) == ports(&wanted)
        };
        let Some(at) = existing.iter().position(is_same) else {
            work.push(Write::Create(wanted));
            continue;
        };
        let has = existing.swap_remove(at);
        let mut changed = has.clone();
        changed.endpoints = wanted.endpoints;
        changed.metadata.labels = wanted.metadata.labels;
        changed.metadata.annotations = wanted.metadata.annotations;
        changed.metadata.owner_references = wanted.metadata.owner_references;
        if changed != *has {
            work.push(Write::Change(changed));
        }
    }
    let left = existing.into_iter().cloned();
    work.extend(left.map(Write::Delete));
    work
}

/// The slices of Endpoints: one for each family and set of ports.
fn mirrored(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    type Group = (Vec<EndpointPort>, BTreeMap<IpAddr, Endpoint>);
    let mut groups: BTreeMap<(Family, PortSet), Group> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = subset.ports.iter().flatten();
        let ports: Vec<EndpointPort> = ports
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(super::backend::protocol(port.protocol.as_deref()).into()),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let ready = subset.addresses.iter().flatten();
        let others = subset.not_ready_addresses.iter().flatten();
        let all = ready.map(|a| (a, true)).chain(others.map(|a| (a, false)));
        for (address, is_ready) in all.take(MOST_ADDRESSES) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                continue;
            };
            let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
            let group = groups.entry((family, PortSet::of(&ports)));
            let group = group.or_insert_with(|| (ports.clone(), BTreeMap::new()));
            let endpoint = endpoint(address, &ip, is_ready);
            group.1.entry(ip).or_insert(endpoint);
        }
    }
    let slice = |((family, _), (ports, found)): ((Family, PortSet), Group)| EndpointSlice {
        metadata: metadata(endpoints),
        address_type: family.name().into(),
        ports: Some(ports),
        endpoints: Some(found.into_values().collect()),
    };
    groups.into_iter().map(slice).collect()
}

fn endpoint(address: &EndpointAddress, ip: &IpAddr, is_ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(is_ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn metadata(endpoints: &Endpoints) -> ObjectMeta {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_NAME.into(), name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|key, _| !OWN.contains(&key.as_str()));
    ObjectMeta {
        generate_name: Some(slices::prefix(&name)),
        namespace: meta.namespace.clone(),
        labels: Some(labels),
        annotations: Some(annotations).filter(|a| !a.is_empty()),
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Endpoints".into(),
            name,
            uid: meta.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoints(changes: serde_json::Value) -> Endpoints {
        let mut all = json!({
            "metadata": {"name": "db", "namespace": "ns", "uid": "e", "labels": {"team": "a"},
                "annotations": {"note": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "subsets": [{"addresses": [{"ip": "10.1.2.3", "hostname": "one"}], "notReadyAddresses": [{"ip": "10.1.2.4"}],
                "ports": [{"port": 80}]}],
        });
        for (key, value) in changes.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        serde_json::from_value(all).expect("Endpoints")
    }

    /// A slice in a line: family, ports, addresses.
    fn shown(slice: &EndpointSlice) -> String {
        let ports = slice.ports.iter().flatten();
        let ports: Vec<String> = ports
            .map(|p| p.port.unwrap_or_default().to_string())
            .collect();
        let found = slice.endpoints.iter().flatten().map(|endpoint| {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready);
            let mark = if ready == Some(true) { "" } else { "!" };
            format!("{mark}{}", endpoint.addresses.join("+"))
        });
        let found: Vec<String> = found.collect();
        format!(
            "{} {} {}",
            slice.address_type,
            ports.join(","),
            found.join(" ")
        )
    }

    #[test]
    fn a_slice_for_each_family_and_set_of_ports() {
        let address = |ip: &str| json!({"ip": ip});
        let table = [
            (json!({}), vec!["IPv4 80 10.1.2.3 !10.1.2.4"]),
            (json!({"subsets": null}), vec![]),
            (
                json!({"subsets": [
                    {"addresses": [address("fd00::1"), address("10.0.0.1"), address("nowhere")], "ports": [{"port": 1}, {"port": 2}]},
                    {"addresses": [address("10.0.0.2")], "ports": [{"port": 2}, {"port": 1}]},
                    {"addresses": [address("10.0.0.2")], "ports": [{"port": 2}]},
                ]}),
                vec![
                    "IPv4 1,2 10.0.0.1 10.0.0.2",
                    "IPv4 2 10.0.0.2",
                    "IPv6 1,2 fd00::1",
                ],
            ),
        ];
        for (changes, want) in table {
            let slices = mirrored(&endpoints(changes));
            assert_eq!(slices.iter().map(shown).collect::<Vec<_>>(), want);
        }
        let slice = mirrored(&endpoints(json!({}))).remove(0);
        let meta = serde_json::to_value(&slice.metadata).expect("JSON");
        assert_eq!(
            meta,
            json!({"generateName": "db-", "namespace": "ns", "annotations": {"note": "x"},
                "labels": {"team": "a", "kubernetes.io/service-name": "db",
                    "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Endpoints", "name": "db", "uid": "e", "controller": true,
                    "blockOwnerDeletion": true}]})
        );
    }

    #[test]
    fn what_is_there_is_changed_and_what_is_not_wanted_goes() {
        let named = |mut slice: EndpointSlice, name: &str| {
            slice.metadata.name = Some(name.into());
            slice
        };
        let old = named(mirrored(&endpoints(json!({}))).remove(0), "db-1");
        let other =
            json!({"subsets": [{"addresses": [{"ip": "10.9.9.9"}], "ports": [{"port": 9}]}]});
        let extra = named(mirrored(&endpoints(other)).remove(0), "db-2");
        let moved =
            json!({"subsets": [{"addresses": [{"ip": "10.2.3.4"}], "ports": [{"port": 80}]}]});
        let work = changes(mirrored(&endpoints(moved)), vec![&extra, &old]);
        let [Write::Change(changed), Write::Delete(deleted)] = work.as_slice() else {
            panic!("{work:?}");
        };
        assert_eq!(changed.metadata.name.as_deref(), Some("db-1"));
        assert_eq!(shown(changed), "IPv4 80 10.2.3.4");
        assert_eq!(deleted, &extra);
        assert_eq!(changes(mirrored(&endpoints(json!({}))), vec![&old]), []);
    }

    #[test]
    fn locks_and_what_says_so_are_not_mirrored() {
        let marked = |field: &str, key: &str, value: &str| {
            let mut endpoints = endpoints(json!({}));
            let map = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            match field {
                "labels" => endpoints.metadata.labels = Some(map),
                _ => endpoints.metadata.annotations = Some(map),
            }
            is_to_be_mirrored(&endpoints)
        };
        assert!(is_to_be_mirrored(&endpoints(json!({}))));
        assert!(marked("labels", SKIP, "false"));
        assert!(!marked("labels", SKIP, "true"));
        assert!(!marked("annotations", LEADER, "{}"));
    }
}
