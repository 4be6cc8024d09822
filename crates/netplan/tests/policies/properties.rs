//! Whatever is heard in whatever order, the plan lets through what the documentation's words do. `PROPTEST_CASES` sets how many are
//! tried.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::PodIP;
use nat::Protocol;
use netplan::Key;
use netplan::policy::State;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::naive::World;
use crate::plan::{Connection, Plan};

/// Something that is heard.
#[derive(Debug, Clone)]
enum Heard {
    Namespace(String, Option<Value>),
    Pod(Key, Option<Value>),
    Policy(Key, Option<Value>),
    /// A Pod that was heard of gets its address before it reports it.
    Tell(Key),
    /// What has changed is asked for; carried out, or not.
    Take(bool),
}

fn namespace() -> impl Strategy<Value = String> {
    prop_oneof!["one", "two"]
}

fn label() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"app": "x"})),
        Just(json!({"app": "y"}))
    ]
}

fn selector() -> impl Strategy<Value = Value> {
    let other = json!([{"key": "app", "operator": "NotIn", "values": ["x"]}]);
    prop_oneof![
        3 => label().prop_map(|labels| json!({"matchLabels": labels})),
        1 => Just(json!({"matchExpressions": other})),
    ]
}

/// Each of four has an address of its own.
fn pod() -> impl Strategy<Value = (Key, Value)> {
    let phase = prop_oneof![6 => Just("Running"), 1 => Just("Succeeded")];
    let port = (
        prop_oneof!["http", "dns"],
        80..82u16,
        prop_oneof!["TCP", "UDP"],
    );
    let host = prop_oneof![6 => Just(false), 1 => Just(true)];
    (namespace(), 0..2u8, label(), phase, vec(port, 0..3), host, any::<bool>()).prop_map(
        |(namespace, n, labels, phase, ports, host, has_address)| {
            let ports: Vec<Value> = ports
                .into_iter()
                .map(|(name, port, protocol)| json!({"name": name, "containerPort": port, "protocol": protocol}))
                .collect();
            let name = format!("p{n}");
            let ips = addresses(&namespace, n).map(|ip| json!({"ip": ip}));
            let ips = if has_address { json!(ips) } else { json!([]) };
            let pod = json!({
                "metadata": {"name": name, "namespace": namespace, "uid": format!("{namespace}/{name}"), "labels": labels},
                "spec": {"containers": [{"name": "c", "ports": ports}], "hostNetwork": host},
                "status": {"phase": phase, "podIP": ips[0]["ip"], "podIPs": ips},
            });
            ((namespace, name), pod)
        },
    )
}

/// One of each family.
fn addresses(namespace: &str, n: u8) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::new(10, 244, u8::from(namespace == "two"), n);
    let v6 = Ipv6Addr::new(
        0xfd00,
        0,
        0,
        0,
        0,
        0,
        u16::from(namespace == "two"),
        n.into(),
    );
    [v4.into(), v6.into()]
}

fn peer() -> impl Strategy<Value = Value> {
    let ranges = prop_oneof![
        "10.244.0.0/16",
        "10.244.1.0/24",
        "0.0.0.0/0",
        "fd00::/8",
        "fd00::1:0/112",
        "::/0"
    ];
    let except = prop_oneof![
        "10.244.0.0/24",
        "10.244.1.1/32",
        "10.244.0.0/31",
        "fd00::1:1/128"
    ];
    prop_oneof![
        selector().prop_map(|pods| json!({"podSelector": pods})),
        selector().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (selector(), selector())
            .prop_map(|(a, b)| json!({"podSelector": a, "namespaceSelector": b})),
        (ranges, vec(except, 0..3))
            .prop_map(|(cidr, except)| json!({"ipBlock": {"cidr": cidr, "except": except}})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        Just(json!({})),
        Just(json!({"port": 80})),
        Just(json!({"port": 79, "endPort": 81})),
        Just(json!({"port": "http"})),
        Just(json!({"port": "dns"})),
    ];
    (port, prop_oneof!["TCP", "UDP", "SCTP"]).prop_map(|(mut port, protocol)| {
        port["protocol"] = protocol.into();
        port
    })
}

fn policy() -> impl Strategy<Value = (Key, Value)> {
    let rules = || vec((vec(peer(), 0..3), vec(port(), 0..3)), 0..3);
    let types = prop_oneof![
        Just(json!(["Ingress"])),
        Just(json!(["Egress"])),
        Just(json!(["Ingress", "Egress"])),
    ];
    (namespace(), 0..3u8, selector(), rules(), rules(), types).prop_map(
        |(namespace, n, pods, ingress, egress, types)| {
            let name = format!("policy{n}");
            let ingress: Vec<Value> = ingress
                .into_iter()
                .map(|(peers, ports)| json!({"from": peers, "ports": ports}))
                .collect();
            let egress: Vec<Value> = egress
                .into_iter()
                .map(|(peers, ports)| json!({"to": peers, "ports": ports}))
                .collect();
            let policy = json!({
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"podSelector": pods, "ingress": ingress, "egress": egress, "policyTypes": types},
            });
            ((namespace, name), policy)
        },
    )
}

fn heard() -> impl Strategy<Value = Heard> {
    let is_there = || option::weighted(0.8, Just(()));
    prop_oneof![
        1 => (namespace(), label(), is_there()).prop_map(|(name, labels, there)| {
            let namespace = json!({"metadata": {"name": name, "labels": labels}});
            Heard::Namespace(name, there.map(|()| namespace))
        }),
        4 => (pod(), is_there()).prop_map(|((key, pod), there)| Heard::Pod(key, there.map(|()| pod))),
        3 => (policy(), is_there())
            .prop_map(|((key, policy), there)| Heard::Policy(key, there.map(|()| policy))),
        1 => pod().prop_map(|(key, _)| Heard::Tell(key)),
        2 => option::weighted(0.9, Just(())).prop_map(|done| Heard::Take(done.is_some())),
    ]
}

fn read<T: k8s_openapi::serde::de::DeserializeOwned>(value: &Option<Value>) -> Option<T> {
    let value = value.clone()?;
    Some(serde_json::from_value(value).expect("an object"))
}

fn put<T>(map: &mut std::collections::BTreeMap<Key, T>, key: &Key, value: Option<T>) {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
}

fn play(events: &[Heard]) -> (World, Plan) {
    let (mut world, mut plan, mut state) = (World::default(), Plan::default(), State::new());
    let mut told = std::collections::BTreeSet::new();
    for event in events {
        match event {
            Heard::Namespace(name, value) => {
                state.namespace(name, read(value).as_ref());
                match read(value) {
                    Some(namespace) => world.namespaces.insert(name.clone(), namespace),
                    None => world.namespaces.remove(name),
                };
            }
            Heard::Pod(key, value) => {
                state.pod(key.clone(), read(value).as_ref());
                if value.is_none() {
                    told.remove(key);
                }
                put(&mut world.pods, key, read(value));
            }
            Heard::Policy(key, value) => {
                state.policy(key.clone(), read(value).as_ref());
                put(&mut world.policies, key, read(value));
            }
            Heard::Tell(key) => {
                let uid = format!("{}/{}", key.0, key.1);
                if state.knows(key, &uid) {
                    let n = key.1.as_bytes()[1] - b'0';
                    state.tell(key, &uid, &addresses(&key.0, n));
                    told.insert(key.clone());
                }
            }
            Heard::Take(true) => plan.apply(&state.take()),
            Heard::Take(false) => {
                state.take();
                state.again();
            }
        }
    }
    for key in &told {
        let n = key.1.as_bytes()[1] - b'0';
        let pod = world.pods.get_mut(key).expect("a Pod");
        let ips = addresses(&key.0, n).map(|ip| PodIP { ip: ip.to_string() });
        pod.status.as_mut().expect("a status").pod_ips = Some(ips.into());
    }
    plan.apply(&state.take());
    assert!(state.take().is_empty(), "nothing twice");
    (world, plan)
}

fn connections() -> Vec<Connection> {
    let mut ends: Vec<IpAddr> = ["one", "two"]
        .iter()
        .flat_map(|namespace| (0..2).flat_map(|n| addresses(namespace, n)))
        .collect();
    ends.push(Ipv4Addr::new(192, 0, 2, 1).into());
    ends.push(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    let mut found = Vec::new();
    for &from in &ends {
        for &to in ends.iter().filter(|to| to.is_ipv6() == from.is_ipv6()) {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                found.extend([79, 80, 81, 82].map(|port| Connection {
                    from,
                    to,
                    protocol,
                    port,
                }));
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(testkit::cases(2_000, 5))]

    #[test]
    fn plans_let_through_what_policies_say(events in vec(heard(), 0..40)) {
        let (world, plan) = play(&events);
        for connection in connections() {
            prop_assert_eq!(
                plan.lets_through(&connection),
                world.lets_through(&connection),
                "{:?}",
                connection
            );
        }
    }
}
