//! The rules as tables: a Service and its slices in, what traffic to it does out.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use nat::{Change, Outside, Table, Unserved};
use netplan::State;
use serde_json::{Value, json};

const NODE: &str = "here";

fn key(name: &str) -> netplan::Key {
    ("default".into(), name.into())
}

fn service(spec: Value) -> Service {
    let labels = spec.get("labels").cloned().unwrap_or_default();
    let status = json!({"loadBalancer": {"ingress": spec.get("ingress")}});
    let metadata = json!({"name": "web", "labels": labels});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status}))
        .expect("a Service")
}

/// A slice of Service `web` with port 8080 (named as its place says) and these endpoints.
fn slice(port: Value, endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [port], "endpoints": endpoints,
    }))
    .expect("a slice")
}

fn table(service: &Service, slices: &[EndpointSlice]) -> Table {
    let mut state = State::new(NODE);
    state.service(key("web"), Some(service));
    for (n, slice) in slices.iter().enumerate() {
        state.slice(key(&format!("web-{n}")), Some(slice));
    }
    match state.take() {
        Change::All(table) => table,
        some @ Change::Some { .. } => panic!("the first is not all: {some:?}"),
    }
}

/// One line for each front: `front -> backends (affinity) (where others go) (what becomes of the unserved)`.
fn shown(table: &Table) -> Vec<String> {
    let names = |backends: &BTreeSet<SocketAddr>| -> String {
        backends
            .iter()
            .map(|backend| format!(" {backend}"))
            .collect()
    };
    let lines = table.iter().map(|(front, redirect)| {
        let affinity = redirect.affinity.map(|s| format!(" ({s} s)"));
        let outside = match &redirect.outside {
            Outside::Untouched => String::new(),
            Outside::Same => " (all)".to_owned(),
            Outside::Only(backends) => format!(" (others:{})", names(backends)),
        };
        let unserved = match redirect.unserved {
            Unserved::Refuse => "",
            Unserved::Drop => " (dropped)",
        };
        let from = redirect
            .sources
            .iter()
            .map(|range| format!(" from {range}"));
        let from: String = from.collect();
        let to = names(&redirect.backends) + &affinity.unwrap_or_default();
        format!("{front} ->{to}{outside}{unserved}{from}")
    });
    lines.collect()
}

#[test]
fn a_services_spec_says_what_is_redirected() {
    let port = json!({"name": "", "port": 8080, "protocol": "TCP"});
    let mut of_v6 = slice(port.clone(), json!([{"addresses": ["fd00::2"]}]));
    of_v6.address_type = "IPv6".into();
    let one = [slice(port, json!([{"addresses": ["10.0.0.2"]}])), of_v6];
    let http = json!([{"port": 80}]);
    let address = "10.96.0.9";
    for (what, spec, expected) in [
        (
            "an ordinary one",
            json!({"clusterIP": address, "clusterIPs": [address], "ports": http}),
            vec!["tcp/10.96.0.9/80 -> 10.0.0.2:8080"],
        ),
        (
            "a headless one",
            json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": http}),
            vec![],
        ),
        ("one without an address", json!({"ports": http}), vec![]),
        (
            "a name elsewhere",
            json!({"type": "ExternalName", "clusterIP": address, "externalName": "a.example", "ports": http}),
            vec![],
        ),
        (
            "another proxy's",
            json!({"clusterIP": address, "ports": http, "labels": {"service.kubernetes.io/service-proxy-name": "other"}}),
            vec![],
        ),
        (
            "an IPv6 address beside it",
            json!({"clusterIP": address, "clusterIPs": [address, "fd00::9"], "ports": http}),
            vec![
                "tcp/10.96.0.9/80 -> 10.0.0.2:8080",
                "tcp/fd00::9/80 -> [fd00::2]:8080",
            ],
        ),
        (
            "an IPv6 address alone, and what others have of both families",
            json!({"type": "LoadBalancer", "clusterIP": "fd00::9", "clusterIPs": ["fd00::9"],
                   "ports": [{"port": 80, "nodePort": 30080}], "externalIPs": ["192.0.2.1", "2001:db8::1"],
                   "loadBalancerSourceRanges": ["198.51.100.0/24", "2001:db8:1::/48"],
                   "ingress": [{"ip": "192.0.2.2"}, {"ip": "2001:db8::2"}]}),
            vec![
                "tcp/2001:db8::1/80 -> [fd00::2]:8080 (all)",
                "tcp/2001:db8::2/80 -> [fd00::2]:8080 (all) from 2001:db8:1::/48",
                "tcp/fd00::9/80 -> [fd00::2]:8080",
                "tcp/node6/30080 -> [fd00::2]:8080 (all)",
            ],
        ),
        (
            "node ports in both families",
            json!({"type": "NodePort", "clusterIP": "fd00::9", "clusterIPs": ["fd00::9", address],
                   "ports": [{"port": 80, "nodePort": 30080}]}),
            vec![
                "tcp/10.96.0.9/80 -> 10.0.0.2:8080",
                "tcp/fd00::9/80 -> [fd00::2]:8080",
                "tcp/node/30080 -> 10.0.0.2:8080 (all)",
                "tcp/node6/30080 -> [fd00::2]:8080 (all)",
            ],
        ),
        (
            "ports that no endpoint has: by name and by protocol",
            json!({"clusterIP": address, "ports": [{"port": 53, "protocol": "UDP"}, {"name": "other", "port": 81}]}),
            vec!["tcp/10.96.0.9/81 ->", "udp/10.96.0.9/53 ->"],
        ),
        (
            "session affinity, with upstream's three hours",
            json!({"clusterIP": address, "ports": http, "sessionAffinity": "ClientIP"}),
            vec!["tcp/10.96.0.9/80 -> 10.0.0.2:8080 (10800 s)"],
        ),
        (
            "session affinity, with its own time",
            json!({"clusterIP": address, "ports": http, "sessionAffinity": "ClientIP",
                   "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 7}}}),
            vec!["tcp/10.96.0.9/80 -> 10.0.0.2:8080 (7 s)"],
        ),
        (
            "local traffic, and an endpoint on no node",
            json!({"clusterIP": address, "ports": http, "internalTrafficPolicy": "Local"}),
            vec!["tcp/10.96.0.9/80 -> (dropped)"],
        ),
        (
            "a node port",
            json!({"type": "NodePort", "clusterIP": address, "sessionAffinity": "ClientIP",
                   "ports": [{"port": 80, "nodePort": 30080}, {"name": "other", "port": 81, "nodePort": 30081}]}),
            vec![
                "tcp/10.96.0.9/80 -> 10.0.0.2:8080 (10800 s)",
                "tcp/10.96.0.9/81 -> (10800 s)",
                "tcp/node/30080 -> 10.0.0.2:8080 (10800 s) (all)",
                "tcp/node/30081 -> (10800 s) (all)",
            ],
        ),
        (
            "addresses of others",
            json!({"clusterIP": address, "ports": http, "externalIPs": ["192.0.2.1", "fd00::1", "192.0.2.2"]}),
            vec![
                "tcp/10.96.0.9/80 -> 10.0.0.2:8080",
                "tcp/192.0.2.1/80 -> 10.0.0.2:8080 (all)",
                "tcp/192.0.2.2/80 -> 10.0.0.2:8080 (all)",
            ],
        ),
        (
            "a balancer, for some clients, without node ports",
            json!({"type": "LoadBalancer", "clusterIP": address, "ports": http, "externalIPs": ["192.0.2.1", "192.0.2.3"],
                   "loadBalancerSourceRanges": ["198.51.100.0/24", " 203.0.113.7/32", "fd00::/8"],
                   "ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}, {"hostname": "a.example"}]}),
            vec![
                "tcp/10.96.0.9/80 -> 10.0.0.2:8080",
                "tcp/192.0.2.1/80 -> 10.0.0.2:8080 (all) from 198.51.100.0/24 from 203.0.113.7/32",
                "tcp/192.0.2.3/80 -> 10.0.0.2:8080 (all)",
            ],
        ),
        (
            "what is left of a balancer",
            json!({"clusterIP": address, "ports": http, "ingress": [{"ip": "192.0.2.1"}]}),
            vec!["tcp/10.96.0.9/80 -> 10.0.0.2:8080"],
        ),
    ] {
        assert_eq!(shown(&table(&service(spec), &one)), expected, "{what}");
    }
}

#[test]
fn endpoints_are_chosen_by_their_conditions() {
    let at = |n: u8, conditions: Value| json!({"addresses": [format!("10.0.0.{n}")], "conditions": conditions});
    let ready = json!({"ready": true, "serving": true, "terminating": false});
    let unready = json!({"ready": false, "serving": false, "terminating": false});
    let leaving = json!({"ready": false, "serving": true, "terminating": true});
    let ending = json!({"ready": false, "serving": false, "terminating": true});
    let published = json!({"ready": true, "serving": false, "terminating": false});
    for (what, endpoints, expected) in [
        ("none", json!([]), ""),
        (
            "ready ones only",
            json!([
                at(2, ready.clone()),
                at(3, unready.clone()),
                at(4, leaving.clone()),
                at(5, ready)
            ]),
            " 10.0.0.2:8080 10.0.0.5:8080",
        ),
        (
            "those that leave, when none is ready",
            json!([
                at(2, unready.clone()),
                at(3, leaving),
                at(4, ending.clone())
            ]),
            " 10.0.0.3:8080",
        ),
        ("no unready one", json!([at(2, unready), at(3, ending)]), ""),
        (
            "published though not ready",
            json!([at(2, published)]),
            " 10.0.0.2:8080",
        ),
        (
            "of which nothing is said",
            json!([at(2, json!({})), {"addresses": ["10.0.0.3", "10.0.0.4"]}]),
            " 10.0.0.2:8080 10.0.0.3:8080",
        ),
        (
            "whose address cannot be read",
            json!([{"addresses": ["nowhere"]}, {"addresses": []}, {"addresses": ["fd00::1"]}]),
            "",
        ),
    ] {
        let port = json!({"port": 8080});
        let spec = json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]});
        let table = table(&service(spec), &[slice(port, endpoints)]);
        assert_eq!(
            shown(&table),
            [format!("tcp/10.96.0.9/80 ->{expected}")],
            "{what}"
        );
    }
}

#[test]
fn ports_are_found_by_name_in_every_slice() {
    let spec = json!({"clusterIP": "10.96.0.9", "ports": [
        {"name": "http", "port": 80, "targetPort": "web"}, {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "sig", "port": 5, "protocol": "SCTP"},
    ]});
    let slices = [
        slice(
            json!({"name": "http", "port": 8080}),
            json!([{"addresses": ["10.0.0.2"]}]),
        ),
        slice(
            json!({"name": "http", "port": 9090}),
            json!([{"addresses": ["10.0.0.3"]}]),
        ),
        slice(
            json!({"name": "dns", "port": 53, "protocol": "UDP"}),
            json!([{"addresses": ["10.0.0.4"]}]),
        ),
        slice(
            json!({"name": "sig", "port": 6, "protocol": "SCTP"}),
            json!([{"addresses": ["10.0.0.5"]}]),
        ),
        // Nobody listens where no port is known.
        slice(
            json!({"name": "http"}),
            json!([{"addresses": ["10.0.0.6"]}]),
        ),
    ];
    assert_eq!(
        shown(&table(&service(spec), &slices)),
        [
            "tcp/10.96.0.9/80 -> 10.0.0.2:8080 10.0.0.3:9090",
            "udp/10.96.0.9/53 -> 10.0.0.4:53",
            "sctp/10.96.0.9/5 -> 10.0.0.5:6",
        ]
    );
}

#[test]
fn local_traffic_stays_on_the_node() {
    let spec = json!({"clusterIP": "10.96.0.9", "internalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    let endpoints = json!([
        {"addresses": ["10.0.0.2"], "nodeName": NODE}, {"addresses": ["10.0.0.3"], "nodeName": "there"},
    ]);
    let table = table(&service(spec), &[slice(json!({"port": 8080}), endpoints)]);
    assert_eq!(shown(&table), ["tcp/10.96.0.9/80 -> 10.0.0.2:8080"]);
}

#[test]
fn policies_are_about_those_they_are_for() {
    let here = json!({"addresses": ["10.0.0.2"], "nodeName": NODE});
    let there = json!({"addresses": ["10.0.0.3"], "nodeName": "there"});
    let both = json!([here.clone(), there.clone()]);
    for (internal, external, endpoints, expected) in [
        (
            "Cluster",
            "Cluster",
            both.clone(),
            [
                " 10.0.0.2:8080 10.0.0.3:8080",
                " 10.0.0.2:8080 10.0.0.3:8080 (all)",
            ],
        ),
        (
            "Cluster",
            "Local",
            both.clone(),
            [
                " 10.0.0.2:8080 10.0.0.3:8080",
                " 10.0.0.2:8080 10.0.0.3:8080 (others: 10.0.0.2:8080)",
            ],
        ),
        (
            "Local",
            "Cluster",
            both,
            [" 10.0.0.2:8080", " 10.0.0.2:8080 10.0.0.3:8080 (all)"],
        ),
        (
            "Local",
            "Local",
            json!([there]),
            [" (dropped)", " 10.0.0.3:8080 (others:)"],
        ),
        ("Local", "Local", json!([]), ["", " (others:)"]),
    ] {
        let spec = json!({
            "type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}],
            "internalTrafficPolicy": internal, "externalTrafficPolicy": external,
        });
        let table = table(&service(spec), &[slice(json!({"port": 8080}), endpoints)]);
        let [cluster, node] = expected;
        assert_eq!(
            shown(&table),
            [
                format!("tcp/10.96.0.9/80 ->{cluster}"),
                format!("tcp/node/30080 ->{node}")
            ],
            "internal {internal}, external {external}"
        );
    }
}

#[test]
fn only_what_has_changed_is_told() {
    let with = |address: &str, port: u16| {
        service(json!({"clusterIP": address, "ports": [{"port": port}]}))
    };
    let endpoint = |n: u8| {
        slice(
            json!({"port": 8080}),
            json!([{"addresses": [format!("10.0.0.{n}")]}]),
        )
    };
    let told = |state: &mut State| match state.take() {
        Change::All(_) => panic!("all of it"),
        Change::Some { set, gone } => (
            shown(&set),
            gone.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ),
    };
    let none = Vec::<String>::new;
    let mut state = State::new(NODE);
    state.service(key("web"), Some(&with("10.96.0.9", 80)));
    state.service(key("other"), Some(&with("10.96.0.8", 80)));
    assert_eq!(
        shown(&{
            let mut table = Table::new();
            state.take().apply_to(&mut table);
            table
        }),
        ["tcp/10.96.0.8/80 ->", "tcp/10.96.0.9/80 ->"]
    );
    assert_eq!(told(&mut state), (none(), none()), "nothing new");

    state.slice(key("web-1"), Some(&endpoint(2)));
    let line = vec!["tcp/10.96.0.9/80 -> 10.0.0.2:8080".to_owned()];
    assert_eq!(told(&mut state), (line, none()));

    state.service(key("web"), Some(&with("10.96.0.9", 81)));
    let line = vec!["tcp/10.96.0.9/81 -> 10.0.0.2:8080".to_owned()];
    assert_eq!(
        told(&mut state),
        (line, vec!["tcp/10.96.0.9/80".to_owned()])
    );

    // Another Service gets the address before this one is heard to be gone.
    state.service(key("a"), Some(&with("10.96.0.9", 81)));
    assert_eq!(told(&mut state).0, ["tcp/10.96.0.9/81 ->"]);
    state.service(key("a"), None);
    state.service(key("web"), None);
    assert_eq!(
        told(&mut state),
        (none(), vec!["tcp/10.96.0.9/81".to_owned()])
    );

    state.again();
    assert!(matches!(state.take(), Change::All(table) if table.len() == 1));
}

#[test]
fn host_ports_lead_to_their_pod() {
    let pod = |spec: Value, status: Value| -> Pod {
        serde_json::from_value(json!({"spec": spec, "status": status})).expect("a Pod")
    };
    let running = json!({"phase": "Running", "podIP": "10.0.0.7"});
    let web = json!([{"name": "web", "ports": [{"containerPort": 8080, "hostPort": 80}]}]);
    let lines = [
        "tcp/127.0.0.1/80 -> 10.0.0.7:8080",
        "tcp/node/80 -> 10.0.0.7:8080 (all)",
    ];
    let ports = json!([
        {"containerPort": 1, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
        {"containerPort": 2, "hostPort": 54, "protocol": "SCTP", "hostIP": "127.0.0.1"},
        {"containerPort": 3, "hostPort": 55, "hostIP": "fd00::1"}, {"containerPort": 4},
    ]);
    for (what, spec, status, expected) in [
        (
            "on every address",
            json!({"containers": web}),
            &running,
            &lines[..],
        ),
        (
            "on every address of both families",
            json!({"containers": web}),
            &json!({"phase": "Running", "podIP": "fd00::7", "podIPs": [{"ip": "fd00::7"}, {"ip": "10.0.0.7"}]}),
            &[
                "tcp/127.0.0.1/80 -> 10.0.0.7:8080",
                "tcp/node/80 -> 10.0.0.7:8080 (all)",
                "tcp/node6/80 -> [fd00::7]:8080 (all)",
            ],
        ),
        (
            "on one address of IPv6, and on its loopback",
            json!({"containers": [{"name": "many", "ports": [
                {"containerPort": 3, "hostPort": 55, "hostIP": "fd00::1"}, {"containerPort": 4, "hostPort": 56, "hostIP": "::1"},
                {"containerPort": 5, "hostPort": 57, "hostIP": "::"},
            ]}]}),
            &json!({"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}]}),
            &[
                "tcp/fd00::1/55 -> [fd00::7]:3 (all)",
                "tcp/node6/57 -> [fd00::7]:5 (all)",
            ],
        ),
        (
            "on one address, and none",
            json!({"containers": [{"name": "many", "ports": ports}]}),
            &running,
            &[
                "sctp/127.0.0.1/54 -> 10.0.0.7:2",
                "udp/192.0.2.1/53 -> 10.0.0.7:1 (all)",
            ],
        ),
        (
            "of a sidecar",
            json!({"containers": [], "initContainers": [{"name": "s", "restartPolicy": "Always", "ports": web[0]["ports"]}]}),
            &running,
            &lines,
        ),
        (
            "of an init container",
            json!({"containers": [], "initContainers": [{"name": "i", "ports": web[0]["ports"]}]}),
            &running,
            &[],
        ),
        (
            "on the node's network",
            json!({"containers": web, "hostNetwork": true}),
            &running,
            &[],
        ),
        (
            "without an address",
            json!({"containers": web}),
            &json!({"phase": "Pending"}),
            &[],
        ),
        (
            "that has ended",
            json!({"containers": web}),
            &json!({"phase": "Succeeded", "podIP": "10.0.0.7"}),
            &[],
        ),
        (
            "elsewhere",
            json!({"containers": web, "nodeName": "there"}),
            &running,
            &[],
        ),
    ] {
        let mut spec = spec;
        if spec["nodeName"].is_null() {
            spec["nodeName"] = NODE.into();
        }
        let mut state = State::new(NODE);
        state.pod(key("p"), Some(&pod(spec, status.clone())));
        let mut table = Table::new();
        state.take().apply_to(&mut table);
        assert_eq!(shown(&table), expected, "{what}");
        state.pod(key("p"), None);
        state.take().apply_to(&mut table);
        assert_eq!(shown(&table), [""; 0], "{what}, gone");
    }
}

#[test]
fn a_services_port_comes_before_a_pods() {
    let pod: Pod = serde_json::from_value(json!({
        "spec": {"nodeName": NODE, "containers": [{"name": "web", "ports": [{"containerPort": 1, "hostPort": 30080}]}]},
        "status": {"podIP": "10.0.0.7"},
    }))
    .expect("a Pod");
    let mut state = State::new(NODE);
    let mut table = Table::new();
    state.pod(key("a"), Some(&pod));
    let spec = json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]});
    state.service(key("web"), Some(&service(spec)));
    state.take().apply_to(&mut table);
    assert_eq!(
        shown(&table).last().expect("a line"),
        "tcp/node/30080 -> (all)"
    );
    state.service(key("web"), None);
    state.take().apply_to(&mut table);
    let line = "tcp/node/30080 -> 10.0.0.7:1 (all)";
    assert_eq!(shown(&table).last().expect("a line"), line);
}
