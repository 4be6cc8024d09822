//! Rows of what a Service and its Pods give.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::super::backend::Backend;
use super::super::{legacy, slices};
use super::{backend, carried_out, endpoints_of, fresh, service, subsets};

fn ending() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
}

fn unready() -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
}

fn both(mut a: Value, b: Value) -> Value {
    super::merge(&mut a, b);
    a
}

#[test]
fn conditions_follow_the_pod() {
    // Changes of the Pod, whether unready ones are published: ready, serving, terminating; none: no endpoint.
    let rows = [
        (json!({}), false, Some([true, true, false])),
        (unready(), false, Some([false, false, false])),
        (unready(), true, Some([true, false, false])),
        (ending(), false, Some([false, true, true])),
        (ending(), true, Some([true, true, true])),
        (both(ending(), unready()), false, Some([false, false, true])),
        (
            json!({"status": {"conditions": null}}),
            false,
            Some([false, false, false]),
        ),
        (json!({"status": {"phase": "Succeeded"}}), true, None),
        (json!({"status": {"phase": "Failed"}}), false, None),
        (
            json!({"status": {"podIP": null, "podIPs": null}}),
            true,
            None,
        ),
        (
            json!({"status": {"podIPs": [{"ip": "fd00::7"}]}}),
            false,
            None,
        ),
    ];
    for (changes, publishes, wanted) in rows {
        let service = service(json!({"publishNotReadyAddresses": publishes}));
        let slices = fresh(&service, &[backend("a", "10.1.0.7", changes.clone())]);
        let [slice] = slices.as_slice() else {
            panic!("{changes}: {slices:?}");
        };
        let seen = endpoints_of(slice).first().map(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap();
            let all = [conditions.ready, conditions.serving, conditions.terminating];
            all.map(Option::unwrap)
        });
        assert_eq!(seen, wanted, "{changes} {publishes}");
    }
}

#[test]
fn a_slice_says_whose_it_is() {
    let slices = fresh(&service(json!({})), &[backend("a", "10.1.0.7", json!({}))]);
    assert_eq!(
        serde_json::to_value(&slices).unwrap(),
        json!([{
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "web-001", "generateName": "web-", "namespace": "ns",
                "labels": {
                    "team": "a", "kubernetes.io/service-name": "web",
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": "web", "uid": "service",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": ["10.1.0.7"],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "node",
                "targetRef": {"kind": "Pod", "namespace": "ns", "name": "a", "uid": "uid-a"},
            }],
        }])
    );
    let headless = service(json!({"clusterIP": "None"}));
    let labels = fresh(&headless, &[])[0].metadata.labels.clone().unwrap();
    assert_eq!(
        labels.get("service.kubernetes.io/headless"),
        Some(&String::new())
    );
    let near = service(json!({"trafficDistribution": "PreferSameNode"}));
    let slices = fresh(&near, &[backend("a", "10.1.0.7", json!({}))]);
    let hints = endpoints_of(&slices[0])[0].hints.clone().unwrap();
    assert_eq!(hints.for_nodes.unwrap()[0].name, "node");
}

#[test]
fn a_hostname_is_told_where_the_subdomain_is_the_service() {
    for (spec, wanted) in [
        (json!({"hostname": "h", "subdomain": "web"}), Some("h")),
        (json!({"hostname": "h", "subdomain": "other"}), None),
        (json!({"subdomain": "web"}), None),
        (json!({"hostname": "h"}), None),
    ] {
        let backends = [backend("a", "10.1.0.7", json!({"spec": spec}))];
        let slices = fresh(&service(json!({"clusterIP": "None"})), &backends);
        let seen = endpoints_of(&slices[0])[0].hostname.as_deref();
        assert_eq!(seen, wanted, "{spec}");
    }
}

/// Slices as `family ports: Pods`.
fn shapes(slices: &[EndpointSlice]) -> Vec<String> {
    let mut shapes: Vec<String> = slices
        .iter()
        .map(|slice| {
            let ports = slice.ports.iter().flatten();
            let ports: Vec<String> = ports
                .map(|p| {
                    let name = p.name.as_deref().unwrap_or_default();
                    let app = p.app_protocol.as_deref().unwrap_or_default();
                    format!("{name}{app}{}", p.port.unwrap())
                })
                .collect();
            let pods = endpoints_of(slice).iter();
            let pods: Vec<String> = pods
                .map(|e| e.target_ref.clone().unwrap().name.unwrap())
                .collect();
            format!(
                "{} {}: {}",
                slice.address_type,
                ports.join("+"),
                pods.join(",")
            )
        })
        .collect();
    shapes.sort();
    shapes
}

#[test]
fn ports_are_those_of_each_pod() {
    let port = |name: &str, number: u16| json!({"spec": {"containers": [{"name": "c", "ports": [{"name": name, "containerPort": number, "protocol": "TCP"}]}]}});
    let sidecar = json!({"spec": {"containers": [{"name": "c"}], "initContainers": [
        {"name": "init", "ports": [{"name": "http", "containerPort": 1, "protocol": "TCP"}]},
        {"name": "side", "restartPolicy": "Always", "ports": [{"name": "http", "containerPort": 9000, "protocol": "TCP"}]},
    ]}});
    let backends = [
        backend("a", "10.1.0.7", port("http", 8080)),
        backend("b", "10.1.0.8", port("http", 8081)),
        backend("c", "10.1.0.9", port("http", 8080)),
        backend("d", "10.1.0.10", port("other", 8080)),
        backend("e", "10.1.0.11", sidecar),
    ];
    let named =
        json!({"ports": [{"name": "w", "port": 80, "protocol": "TCP", "targetPort": "http"}]});
    let rows = [
        (
            named,
            vec![
                "IPv4 : d",
                "IPv4 w8080: a,c",
                "IPv4 w8081: b",
                "IPv4 w9000: e",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "UDP", "targetPort": "http"}]}),
            vec!["IPv4 : a,b,c,d,e"],
        ),
        (
            json!({"ports": [
                {"name": "one", "port": 80, "protocol": "TCP", "targetPort": 1, "appProtocol": "h2c"},
                {"name": "two", "port": 81, "protocol": "TCP"},
            ]}),
            vec!["IPv4 oneh2c1+two81: a,b,c,d,e"],
        ),
        (
            json!({"clusterIP": "None", "ports": null}),
            vec!["IPv4 : a,b,c,d,e"],
        ),
    ];
    for (spec, wanted) in rows {
        assert_eq!(
            shapes(&fresh(&service(spec.clone()), &backends)),
            wanted,
            "{spec}"
        );
    }
}

#[test]
fn each_family_has_its_slices() {
    let dual = json!({"status": {"podIPs": [{"ip": "10.1.0.7"}, {"ip": "fd00::7"}]}});
    let backends = [
        backend("a", "10.1.0.7", dual),
        backend("b", "10.1.0.8", json!({})),
    ];
    let rows: [(Value, &[&str]); 6] = [
        (json!({"ipFamilies": ["IPv4"]}), &["IPv4 8080: a,b"]),
        (json!({"ipFamilies": ["IPv6"]}), &["IPv6 8080: a"]),
        (
            json!({"ipFamilies": ["IPv6", "IPv4"]}),
            &["IPv4 8080: a,b", "IPv6 8080: a"],
        ),
        (json!({"ipFamilies": null}), &["IPv4 8080: a,b"]),
        (
            json!({"ipFamilies": null, "clusterIP": "fd00::1"}),
            &["IPv6 8080: a"],
        ),
        (
            json!({"ipFamilies": null, "clusterIP": "None"}),
            &["IPv4 8080: a,b", "IPv6 8080: a"],
        ),
    ];
    for (spec, wanted) in rows {
        let service = service(spec.clone());
        assert_eq!(shapes(&fresh(&service, &backends)), wanted, "{spec}");
    }
    // Without an endpoint there is an empty slice of each.
    let both = service(json!({"ipFamilies": ["IPv4", "IPv6"]}));
    assert_eq!(shapes(&fresh(&both, &[])), ["IPv4 : ", "IPv6 : "]);
}

#[test]
fn who_has_no_selector_is_left_alone() {
    for (spec, selects) in [
        (json!({}), true),
        (json!({"selector": null}), false),
        (json!({"selector": {}}), false),
        (json!({"type": "ExternalName"}), false),
        (json!({"clusterIP": "None"}), true),
    ] {
        let service = service(spec.clone());
        assert_eq!(slices::selector(&service).is_some(), selects, "{spec}");
    }
}

fn many(numbers: std::ops::Range<usize>) -> Vec<Backend> {
    let one = |n: usize| {
        let ip = format!("10.1.{}.{}", n / 250, n % 250 + 1);
        backend(&format!("p{n:04}"), &ip, json!({}))
    };
    numbers.map(one).collect()
}

fn step(
    existing: &[EndpointSlice],
    backends: &[Backend],
    names: &mut u32,
) -> (Vec<EndpointSlice>, [usize; 3]) {
    let backends: Vec<&Backend> = backends.iter().collect();
    let changes = slices::changes(&service(json!({})), &backends, existing);
    let counts = [
        changes.create.len(),
        changes.change.len(),
        changes.delete.len(),
    ];
    (carried_out(existing.to_vec(), changes, names), counts)
}

fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
    slices.iter().map(|s| endpoints_of(s).len()).collect()
}

#[test]
fn slices_are_filled_with_few_changes() {
    let mut names = 0;
    let (slices, counts) = step(&[], &many(0..250), &mut names);
    assert_eq!((sizes(&slices), counts), (vec![100, 100, 50], [3, 0, 0]));
    // A few more fit in the one with room.
    let (slices, counts) = step(&slices, &many(0..290), &mut names);
    assert_eq!((sizes(&slices), counts), (vec![100, 100, 90], [0, 1, 0]));
    // Of many, none is put into a slice that has no room for all of them.
    let (slices, counts) = step(&slices, &many(0..310), &mut names);
    assert_eq!(
        (sizes(&slices), counts),
        (vec![100, 100, 90, 20], [1, 0, 0])
    );
    // A slice that changes anyway is filled up first.
    let (slices, counts) = step(&slices, &many(10..320), &mut names);
    assert_eq!(
        (sizes(&slices), counts),
        (vec![100, 100, 90, 20], [0, 1, 0])
    );
    // Nothing is moved because others go.
    let (slices, counts) = step(&slices, &many(150..320), &mut names);
    assert_eq!((sizes(&slices), counts), (vec![10, 50, 90, 20], [0, 2, 0]));
    // The last one goes: one slice stays, empty.
    let (slices, counts) = step(&slices, &[], &mut names);
    assert_eq!((sizes(&slices), counts), (vec![0], [0, 1, 3]));
    let (slices, counts) = step(&slices, &[], &mut names);
    assert_eq!((sizes(&slices), counts), (vec![0], [0, 0, 0]));
    // And is used for the first of another time.
    let (slices, counts) = step(&slices, &many(0..1), &mut names);
    assert_eq!((sizes(&slices), counts), (vec![1], [0, 1, 0]));
}

#[test]
fn slices_of_an_earlier_service_go() {
    let old = fresh(&service(json!({})), &many(0..2));
    let mut new = service(json!({}));
    new.metadata.uid = Some("another".into());
    let backends = many(0..2);
    let backends: Vec<&Backend> = backends.iter().collect();
    let changes = slices::changes(&new, &backends, &old);
    assert_eq!(
        (&changes.delete, changes.create.len(), changes.change.len()),
        (&old, 1, 0)
    );
    // None are made for one that is being deleted.
    let ended = super::pod("x", "10.1.0.1", ending()).metadata;
    new.metadata.deletion_timestamp = ended.deletion_timestamp;
    assert_eq!(
        slices::changes(&new, &backends, &[]),
        slices::Changes::default()
    );
    // Where the Service is gone, what it owned goes, and nothing else.
    let mut foreign = old[0].clone();
    foreign.metadata.owner_references = None;
    assert_eq!(slices::orphans([&old[0], &foreign]), old);
}

#[test]
fn labels_follow_the_service() {
    let mut service = service(json!({}));
    let slices = fresh(&service, &many(0..1));
    service.metadata.labels = Some([("team".to_owned(), "b".to_owned())].into());
    let backends = many(0..1);
    let backends: Vec<&Backend> = backends.iter().collect();
    let changes = slices::changes(&service, &backends, &slices);
    let labels = changes.change[0].metadata.labels.clone().unwrap();
    assert_eq!(labels["team"], "b");
    assert_eq!((changes.create.len(), changes.delete.len()), (0, 0));
}

#[test]
fn endpoints_of_the_older_form() {
    let backends = [
        backend("a", "10.1.0.7", json!({})),
        backend("b", "10.1.0.8", unready()),
        backend("c", "10.1.0.9", ending()),
        backend("d", "10.1.0.10", json!({"status": {"phase": "Succeeded"}})),
    ];
    let two_ports = json!([{"name": "a", "port": 80, "protocol": "TCP", "targetPort": 1}, {"name": "b", "port": 81, "protocol": "TCP", "targetPort": "http"}]);
    let rows: [(Value, &[&str]); 5] = [
        (json!({}), &["10.1.0.7 ! 10.1.0.8 : 8080"]),
        (
            json!({"publishNotReadyAddresses": true}),
            &["10.1.0.7,10.1.0.8,10.1.0.9 !  : 8080"],
        ),
        (
            json!({"ports": two_ports}),
            &["10.1.0.7 ! 10.1.0.8 : 1,8080"],
        ),
        (
            json!({"ports": null, "clusterIP": "None"}),
            &["10.1.0.7 ! 10.1.0.8 : "],
        ),
        (json!({"ipFamilies": ["IPv6"]}), &[]),
    ];
    let backends: Vec<&Backend> = backends.iter().collect();
    for (spec, wanted) in rows {
        let service = service(spec.clone());
        let made = legacy::change(&service, &backends, None).unwrap();
        assert_eq!(subsets(&made), wanted, "{spec}");
        let labels = made.metadata.labels.clone().unwrap();
        assert_eq!(
            labels["endpoints.kubernetes.io/managed-by"],
            "endpoint-controller"
        );
        assert_eq!(
            legacy::change(&service, &backends, Some(&made)),
            None,
            "{spec}"
        );
    }
}

#[test]
fn no_more_than_a_thousand_addresses() {
    let service = service(json!({}));
    let count = |backends: &[Backend]| {
        let backends: Vec<&Backend> = backends.iter().collect();
        let made = legacy::change(&service, &backends, None).unwrap();
        assert_eq!(legacy::change(&service, &backends, Some(&made)), None);
        let annotations = made.metadata.annotations.clone().unwrap_or_default();
        let subset = &made.subsets.unwrap()[0];
        (
            subset.addresses.as_ref().map_or(0, Vec::len),
            subset.not_ready_addresses.as_ref().map_or(0, Vec::len),
            annotations
                .get("endpoints.kubernetes.io/over-capacity")
                .cloned(),
        )
    };
    let unready_from = |first: usize, all: usize| {
        let mut backends = many(0..all);
        for backend in &mut backends[first..] {
            backend.is_ready = false;
        }
        backends
    };
    let truncated = Some("truncated".to_owned());
    assert_eq!(count(&unready_from(1000, 1000)), (1000, 0, None));
    assert_eq!(
        count(&unready_from(600, 1200)),
        (600, 400, truncated.clone())
    );
    assert_eq!(count(&unready_from(1100, 1200)), (1000, 0, truncated));
}

#[test]
fn endpoints_of_another_are_taken_over() {
    let found = serde_json::from_value(json!({
        "metadata": {"name": "web", "resourceVersion": "7", "labels": {"x": "y"}, "annotations": {"note": "mine"}},
        "subsets": [{"addresses": [{"ip": "1.2.3.4"}]}],
    }))
    .unwrap();
    let one = backend("a", "10.1.0.7", json!({}));
    let wanted = legacy::change(&service(json!({})), &[&one], None).unwrap();
    let taken = legacy::take_over(found, wanted.clone());
    assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(taken.metadata.labels, wanted.metadata.labels);
    assert_eq!(taken.metadata.annotations.unwrap()["note"], "mine");
    assert_eq!(taken.subsets, wanted.subsets);
}
