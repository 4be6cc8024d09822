//! What holds of the slices of every Service, whatever its Pods and the slices before were.
//!
//! `PROPTEST_CASES` sets how many are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::super::backend::Backend;
use super::super::slices::MOST_ENDPOINTS;
use super::super::{legacy, slices};
use super::{backend, carried_out, endpoints_of, service};

/// What a Pod is like at one moment: selected, ready, ending, over, its families, and the number of its named port.
type Looks = (bool, bool, bool, bool, u8, u16);

fn looks() -> impl Strategy<Value = Looks> {
    (
        prop::bool::weighted(0.9),
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
        select(vec![1, 1, 1, 2, 3, 0]),
        select(vec![8080, 8080, 8080, 8081, 0]),
    )
}

/// Pods by the number of their named port, to be changed.
static BY_PORT: LazyLock<BTreeMap<u16, Backend>> = LazyLock::new(|| {
    let with = |ports: Value| {
        let containers = json!({"spec": {"containers": [{"name": "c", "ports": ports}]}});
        backend("", "10.1.0.1", containers)
    };
    let named = |number: u16| with(json!([{"name": "http", "containerPort": number}]));
    BTreeMap::from([
        (8080, named(8080)),
        (8081, named(8081)),
        (0, with(json!([]))),
    ])
});

fn pod(number: usize, looks: Looks) -> Backend {
    let (is_selected, is_ready, is_terminating, is_over, families, port) = looks;
    let (high, low) = (number / 250, number % 250 + 1);
    let mut pod = BY_PORT[&port].clone();
    pod.name = format!("p{number:04}");
    pod.ips.clear();
    if families & 1 != 0 {
        pod.ips.push(format!("10.1.{high}.{low}").parse().unwrap());
    }
    if families & 2 != 0 {
        pod.ips.push(format!("fd00::{high}:{low}").parse().unwrap());
    }
    if !is_selected {
        pod.labels.insert("app".into(), "other".into());
    }
    (pod.is_ready, pod.is_terminating, pod.is_over) = (is_ready, is_terminating, is_over);
    pod
}

fn a_service() -> impl Strategy<Value = Service> {
    let families = vec![
        json!(["IPv4"]),
        json!(["IPv6"]),
        json!(["IPv4", "IPv6"]),
        Value::Null,
    ];
    let ports = vec![
        json!([{"port": 80, "targetPort": 8080}]),
        json!([{"name": "w", "port": 80, "targetPort": "http"}]),
        json!([{"name": "w", "port": 80, "targetPort": "http"}, {"name": "x", "port": 81, "targetPort": 1}]),
        Value::Null,
    ];
    let spec = (
        select(families),
        select(ports),
        any::<bool>(),
        any::<bool>(),
    );
    spec.prop_map(|(families, ports, publishes, headless)| {
        service(json!({
            "ipFamilies": families, "ports": ports, "publishNotReadyAddresses": publishes,
            "clusterIP": if headless { "None" } else { "10.96.0.10" },
        }))
    })
}

/// Moments of a Service's life: Pods by number, some of them there.
fn moments() -> impl Strategy<Value = Vec<Vec<Backend>>> {
    let moment = vec(prop::option::weighted(0.8, looks()), 0..260).prop_map(|pods| {
        let there = pods.into_iter().enumerate();
        there
            .filter_map(|(n, looks)| Some(pod(n, looks?)))
            .collect()
    });
    vec(moment, 1..5)
}

/// A family and a Pod.
type Place = (String, String);

/// Pods that are ready for the Service's traffic, by family.
fn wanted(service: &Service, backends: &[Backend]) -> BTreeSet<Place> {
    let publishes = service.spec.as_ref().unwrap().publish_not_ready_addresses == Some(true);
    let is_ready = |b: &&Backend| {
        b.labels["app"] == "web" && !b.is_over && (publishes || (b.is_ready && !b.is_terminating))
    };
    let mut wanted = BTreeSet::new();
    for backend in backends.iter().filter(is_ready) {
        for family in slices::families(service) {
            if backend.ips.iter().any(|ip| family.has(ip)) {
                wanted.insert((family.name().to_owned(), backend.name.clone()));
            }
        }
    }
    wanted
}

/// Endpoints that are ready, and how often each Pod is an endpoint of a family.
fn seen(slices: &[EndpointSlice]) -> (BTreeSet<Place>, BTreeMap<Place, u32>) {
    let (mut ready, mut counts) = (BTreeSet::new(), BTreeMap::new());
    for slice in slices {
        for endpoint in endpoints_of(slice) {
            let pod = endpoint.target_ref.clone().unwrap().name.unwrap();
            let at = (slice.address_type.clone(), pod);
            *counts.entry(at.clone()).or_default() += 1;
            if endpoint.conditions.clone().unwrap().ready == Some(true) {
                ready.insert(at);
            }
        }
    }
    (ready, counts)
}

proptest! {
    #![proptest_config(testkit::cases(300, 11))]

    #[test]
    fn slices_are_right_at_every_moment(service in a_service(), moments in moments()) {
        let (mut existing, mut names) = (Vec::new(), 0);
        let mut older: Option<Endpoints> = None;
        for backends in moments {
            let selector = slices::selector(&service).unwrap();
            let selected: Vec<&Backend> = backends.iter().filter(|b| b.matches(selector)).collect();
            let changes = slices::changes(&service, &selected, &existing);
            existing = carried_out(existing, changes, &mut names);

            let (ready, counts) = seen(&existing);
            prop_assert_eq!(ready, wanted(&service, &backends));
            prop_assert!(counts.values().all(|count| *count == 1), "{:?}", counts);
            prop_assert!(existing.iter().all(|s| endpoints_of(s).len() <= MOST_ENDPOINTS));
            for family in slices::families(&service) {
                prop_assert!(existing.iter().any(|s| s.address_type == family.name()));
            }
            // Nothing is left to do.
            prop_assert_eq!(slices::changes(&service, &selected, &existing), slices::Changes::default());

            if let Some(changed) = legacy::change(&service, &selected, older.as_ref()) {
                older = Some(changed);
            }
            prop_assert_eq!(legacy::change(&service, &selected, older.as_ref()), None);
        }
    }
}
