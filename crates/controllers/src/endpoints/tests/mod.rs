//! Rules as tables and as properties; what is written after which events.

mod properties;
mod states;
mod tables;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use serde_json::{Value, json};

use super::backend::Backend;
use super::slices::{self, Changes};

/// A Service `web` that selects `app: web`, with this merged into its spec.
fn service(spec: Value) -> Service {
    let mut all = json!({
        "selector": {"app": "web"}, "clusterIP": "10.96.0.10", "ipFamilies": ["IPv4"],
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    let metadata =
        json!({"name": "web", "namespace": "ns", "uid": "service", "labels": {"team": "a"}});
    serde_json::from_value(json!({"metadata": metadata, "spec": all})).unwrap()
}

/// A ready Pod with the label `app: web` and this address, with `changes` merged into it.
fn pod(name: &str, ip: &str, changes: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "labels": {"app": "web"}, "resourceVersion": "1"},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]},
    });
    merge(&mut pod, changes);
    serde_json::from_value(pod).unwrap()
}

fn backend(name: &str, ip: &str, changes: Value) -> Backend {
    Backend::of(&pod(name, ip, changes))
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, value) => *into = value,
    }
}

/// What the server has after the changes; new slices are named by a counter.
fn carried_out(
    mut existing: Vec<EndpointSlice>,
    changes: Changes,
    names: &mut u32,
) -> Vec<EndpointSlice> {
    for gone in &changes.delete {
        existing.retain(|slice| slice.metadata.name != gone.metadata.name);
    }
    for changed in changes.change {
        let mut same = existing
            .iter_mut()
            .filter(|slice| slice.metadata.name == changed.metadata.name);
        let slice = same.next().expect("a slice that exists is changed");
        assert_eq!(slice.address_type, changed.address_type);
        *slice = changed;
    }
    for mut new in changes.create {
        *names += 1;
        let prefix = new.metadata.generate_name.clone().unwrap();
        new.metadata.name = Some(format!("{prefix}{names:03}"));
        existing.push(new);
    }
    existing
}

/// The slices of a Service that had none.
fn fresh(service: &Service, backends: &[Backend]) -> Vec<EndpointSlice> {
    let backends: Vec<&Backend> = backends.iter().collect();
    let changes = slices::changes(service, &backends, &[]);
    carried_out(Vec::new(), changes, &mut 0)
}

fn endpoints_of(slice: &EndpointSlice) -> &[Endpoint] {
    slice.endpoints.as_deref().unwrap_or_default()
}

/// Subsets as `ready ! not ready : ports`.
fn subsets(endpoints: &Endpoints) -> Vec<String> {
    let subsets = endpoints.subsets.iter().flatten();
    subsets
        .map(|subset| {
            let ips = |list: &Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| {
                let ips: Vec<String> = list.iter().flatten().map(|a| a.ip.clone()).collect();
                ips.join(",")
            };
            let ports = subset.ports.iter().flatten();
            let ports: Vec<String> = ports.map(|p| p.port.to_string()).collect();
            format!(
                "{} ! {} : {}",
                ips(&subset.addresses),
                ips(&subset.not_ready_addresses),
                ports.join(",")
            )
        })
        .collect()
}
