//! 43 of the lifecycle specification's §16, over generated Services: an environment hears of none in other namespaces but
//! `default/kubernetes`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Namespace, name, whether it has an address.
type Made = (&'static str, &'static str, bool);

fn services() -> impl Strategy<Value = Vec<Made>> {
    let namespace = proptest::sample::select(&["n", "other", "default"]);
    let name = proptest::sample::select(&["kubernetes", "a", "b-c", "a-service"]);
    proptest::collection::vec((namespace, name, any::<bool>()), 0..8)
}

/// Each has an address of its own, by its place.
fn address(index: usize) -> String {
    format!("10.0.0.{}", index + 1)
}

fn service((index, (namespace, name, has_address)): (usize, &Made)) -> Service {
    let ip = if *has_address {
        address(index)
    } else {
        "None".to_owned()
    };
    let service = json!({"metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": ip, "ports": [{"name": "p", "port": 80, "protocol": "TCP"}]}});
    serde_json::from_value(service).expect("a service")
}

proptest! {
    #![proptest_config(testkit::cases(2_000, 16))]

    #[test]
    fn an_environment_hears_of_its_own_services(made in services(), namespace in proptest::sample::select(&["n", "default"]), links in any::<bool>()) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": namespace},
            "spec": {"enableServiceLinks": links, "containers": []}})).expect("a pod");
        let services: Vec<Service> = made.iter().enumerate().map(service).collect();
        let allocatable = BTreeMap::new();
        let source = Source { pod: &pod, pod_ips: &[], host_ips: &[], allocatable: &allocatable };
        let env = build(&Container::default(), &source, &Objects::default(), &services).expect("an environment");
        let heard: BTreeSet<String> = env.into_vec().into_iter()
            .filter_map(|(name, value)| name.ends_with("_SERVICE_HOST").then_some(value))
            .collect();
        let may = |(_, (of, name, _)): &(usize, &Made)| {
            (*of == namespace && links) || (*of, *name) == ("default", "kubernetes")
        };
        let of_others = made.iter().enumerate().filter(|made| !may(made));
        for (index, other) in of_others {
            prop_assert!(!heard.contains(&address(index)), "{other:?} in {heard:?}");
        }
        // Of those it may hear of, each name is there.
        let named: BTreeSet<&str> = made.iter().enumerate()
            .filter(|made| may(made) && made.1.2)
            .map(|(_, made)| made.1)
            .collect();
        prop_assert_eq!(heard.len(), named.len());
    }
}
