//! Every kind of peer with every kind of port, each way; who is isolated; and what events change.

use std::net::{IpAddr, Ipv4Addr};

use nat::Protocol;
use nat::policy::Change;
use netplan::Key;
use netplan::policy::State;
use serde_json::{Value, json};

use crate::plan::{Connection, Plan};

const SERVER: (&str, &str, u8) = ("a", "server", 1);
const CLIENT: (&str, &str, u8) = ("a", "client", 2);
const OTHER: (&str, &str, u8) = ("b", "client", 3);
/// Of `kube-system`, which has no labels of the users'.
const SYSTEM: (&str, &str, u8) = ("c", "dns", 4);
const PODS: [(&str, &str, u8); 4] = [SERVER, CLIENT, OTHER, SYSTEM];
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));

fn ip((.., n): (&str, &str, u8)) -> IpAddr {
    Ipv4Addr::new(10, 244, 0, n).into()
}

fn key((namespace, app, _): (&str, &str, u8)) -> Key {
    (namespace.into(), app.into())
}

fn pod(of: (&str, &str, u8)) -> Value {
    let (namespace, app, n) = of;
    let ports = json!([
        {"name": "http", "containerPort": 8000 + u16::from(n)},
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "containerPort": 53},
    ]);
    json!({
        "metadata": {"name": app, "namespace": namespace, "uid": format!("{namespace}{n}"), "labels": {"app": app}},
        "spec": {"containers": [{"name": "c", "ports": ports}]},
        "status": {"phase": "Running", "podIP": ip(of).to_string()},
    })
}

fn hear(state: &mut State, of: (&str, &str, u8), pod: &Value) {
    let pod = serde_json::from_value(pod.clone()).expect("a Pod");
    state.pod(key(of), Some(&pod));
}

fn label(state: &mut State, namespace: &str, labels: Value) {
    let namespace_object = json!({"metadata": {"name": namespace, "labels": labels}});
    let object = serde_json::from_value(namespace_object).expect("a namespace");
    state.namespace(namespace, Some(&object));
}

/// Three namespaces with a Pod or two each.
fn state() -> State {
    let mut state = State::new();
    for namespace in ["a", "b", "c"] {
        let labels = match namespace {
            "c" => json!({}),
            _ => json!({"team": namespace}),
        };
        label(&mut state, namespace, labels);
    }
    PODS.iter().for_each(|of| hear(&mut state, *of, &pod(*of)));
    state
}

fn policy(state: &mut State, name: &str, spec: Value) {
    let object = json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec});
    let object = serde_json::from_value(object).expect("a policy");
    state.policy(("a".into(), name.into()), Some(&object));
}

fn connection(from: IpAddr, to: IpAddr, (protocol, port): (Protocol, u16)) -> Connection {
    Connection {
        from,
        to,
        protocol,
        port,
    }
}

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;
const SCTP: Protocol = Protocol::Sctp;
/// `http` of the server is 8001, and that of the other client 8003.
const TRIED: [(Protocol, u16); 8] = [
    (TCP, 80),
    (TCP, 8001),
    (TCP, 8003),
    (TCP, 53),
    (UDP, 53),
    (UDP, 80),
    (SCTP, 80),
    (TCP, 9000),
];

/// What peers are, and who they are.
fn peers() -> Vec<(Value, Vec<IpAddr>)> {
    let block = |cidr: &str, except: Value| json!([{"ipBlock": {"cidr": cidr, "except": except}}]);
    let team = |team: &str| json!({"matchLabels": {"team": team}});
    let app = |app: &str| json!({"matchLabels": {"app": app}});
    let [client, other, system] = [ip(CLIENT), ip(OTHER), ip(SYSTEM)];
    let not_a =
        json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]});
    vec![
        (Value::Null, vec![client, other, system, OUTSIDE]),
        (json!([]), vec![client, other, system, OUTSIDE]),
        (json!([{"podSelector": {}}]), vec![client]),
        (json!([{"podSelector": app("client")}]), vec![client]),
        (json!([{"podSelector": app("nobody")}]), vec![]),
        (
            json!([{"namespaceSelector": {}}]),
            vec![client, other, system],
        ),
        (json!([{"namespaceSelector": team("b")}]), vec![other]),
        (json!([{"namespaceSelector": not_a}]), vec![other, system]),
        (
            json!([{"namespaceSelector": {}, "podSelector": app("client")}]),
            vec![client, other],
        ),
        (
            json!([{"namespaceSelector": team("b"), "podSelector": app("client")}]),
            vec![other],
        ),
        (
            json!([{"namespaceSelector": team("b"), "podSelector": app("dns")}]),
            vec![],
        ),
        // Two peers are either.
        (
            json!([{"namespaceSelector": team("b")}, {"podSelector": app("client")}]),
            vec![client, other],
        ),
        (
            block("0.0.0.0/0", Value::Null),
            vec![client, other, system, OUTSIDE],
        ),
        (block("0.0.0.0/0", json!(["10.244.0.0/16"])), vec![OUTSIDE]),
        (block("192.0.2.0/24", Value::Null), vec![OUTSIDE]),
        (block("192.0.2.0/24", json!(["192.0.2.8/31"])), vec![]),
        (block("10.244.0.3/32", Value::Null), vec![other]),
        (block("fd00::/8", Value::Null), vec![]),
    ]
}

type Tried = Vec<(Protocol, u16)>;

/// What ports are, and which they are at the server and at the other client.
fn ports() -> Vec<(Value, Tried, Tried)> {
    let same = |given: Value, are: &[(Protocol, u16)]| (given, are.to_vec(), are.to_vec());
    vec![
        same(Value::Null, &TRIED),
        same(json!([]), &TRIED),
        same(json!([{"port": 80}]), &[(TCP, 80)]),
        same(json!([{"port": 80, "protocol": "UDP"}]), &[(UDP, 80)]),
        same(json!([{"port": 80, "protocol": "SCTP"}]), &[(SCTP, 80)]),
        same(json!([{"protocol": "UDP"}]), &[(UDP, 53), (UDP, 80)]),
        same(json!([{"protocol": "SCTP"}]), &[(SCTP, 80)]),
        same(
            json!([{"port": 53, "endPort": 80}]),
            &[(TCP, 80), (TCP, 53)],
        ),
        same(
            json!([{"port": 8002, "endPort": 65535}]),
            &[(TCP, 8003), (TCP, 9000)],
        ),
        same(
            json!([{"port": 80}, {"port": 53, "protocol": "UDP"}]),
            &[(TCP, 80), (UDP, 53)],
        ),
        same(json!([{"port": "dns", "protocol": "UDP"}]), &[(UDP, 53)]),
        // The name of a port with another protocol.
        same(json!([{"port": "dns"}]), &[]),
        same(json!([{"port": "dns-tcp"}]), &[(TCP, 53)]),
        same(json!([{"port": "nothing"}]), &[]),
        (
            json!([{"port": "http"}]),
            vec![(TCP, 8001)],
            vec![(TCP, 8003)],
        ),
    ]
}

#[test]
fn every_kind_of_peer_goes_with_every_kind_of_port() {
    let strangers = [ip(CLIENT), ip(OTHER), ip(SYSTEM), OUTSIDE];
    for (peer, who) in peers() {
        for (port, at_server, at_other) in ports() {
            let is_by_name = port[0]["port"].is_string();
            for types in [vec!["Ingress"], vec!["Egress"], vec!["Ingress", "Egress"]] {
                let mut state = state();
                let spec = json!({
                    "podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": types,
                    "ingress": [{"from": peer, "ports": port}], "egress": [{"to": peer, "ports": port}],
                });
                policy(&mut state, "p", spec.clone());
                let mut plan = Plan::default();
                plan.apply(&state.take());
                for stranger in strangers {
                    for tried in TRIED {
                        let into = connection(stranger, ip(SERVER), tried);
                        let is_in = !types.contains(&"Ingress")
                            || (who.contains(&stranger) && at_server.contains(&tried));
                        assert_eq!(plan.lets_through(&into), is_in, "{into:?} {spec}");
                        // What a port is called, each Pod says for itself.
                        if stranger != ip(OTHER) && at_server != at_other {
                            continue;
                        }
                        let out = connection(ip(SERVER), stranger, tried);
                        let is_called = !is_by_name || stranger != OUTSIDE;
                        let is_out = !types.contains(&"Egress")
                            || (who.contains(&stranger) && at_other.contains(&tried) && is_called);
                        assert_eq!(plan.lets_through(&out), is_out, "{out:?} {spec}");
                        let beside = connection(ip(CLIENT), stranger, tried);
                        assert!(plan.lets_through(&beside), "{beside:?} {spec}");
                    }
                }
            }
        }
    }
}

/// Whether the client, the other client and the outside reach the server, and whether it reaches the client.
fn reached(state: &mut State, plan: &mut Plan) -> [bool; 4] {
    plan.apply(&state.take());
    let server = ip(SERVER);
    [
        (ip(CLIENT), server),
        (ip(OTHER), server),
        (OUTSIDE, server),
        (server, ip(CLIENT)),
    ]
    .map(|(from, to)| plan.lets_through(&connection(from, to, (TCP, 80))))
}

#[test]
fn policies_add_up_and_defaults_deny() {
    let app = |app: &str| json!({"podSelector": {"matchLabels": {"app": app}}});
    let deny = |types: Value| json!({"podSelector": {}, "policyTypes": types});
    let from_b = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}]});
    let from_client = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [app("client")]}]});
    let all_in = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]});
    let all_out = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]});
    let client_out =
        json!({"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"]});
    let of_none = json!({"podSelector": {"matchLabels": {"app": "nobody"}}, "policyTypes": ["Ingress", "Egress"]});
    for (policies, expected) in [
        (vec![], [true; 4]),
        (vec![of_none], [true; 4]),
        // The client is selected, too: it neither sends nor receives.
        (vec![deny(json!(["Ingress"]))], [false; 4]),
        (vec![deny(json!(["Egress"]))], [false, true, true, false]),
        (vec![deny(json!(["Ingress", "Egress"]))], [false; 4]),
        (vec![from_b.clone()], [false, true, false, false]),
        (
            vec![from_b, from_client.clone()],
            [true, true, false, false],
        ),
        (vec![deny(json!(["Ingress"])), all_in.clone()], [true; 4]),
        (vec![deny(json!(["Egress"])), all_out], [true; 4]),
        (vec![all_in], [true; 4]),
        // Both ends have to agree.
        (vec![from_client, client_out], [false; 4]),
    ] {
        let mut state = state();
        for (n, spec) in policies.iter().enumerate() {
            policy(&mut state, &format!("p{n}"), spec.clone());
        }
        let found = reached(&mut state, &mut Plan::default());
        assert_eq!(found, expected, "{policies:?}");
    }
}

#[test]
fn what_events_change_and_no_more() {
    let mut state = state();
    let mut plan = Plan::default();
    assert!(state.take().opens_all(), "at first");
    label(&mut state, "a", json!({"team": "x"}));
    assert!(state.take().is_empty(), "nothing matters without policies");

    let from = json!([{"podSelector": {"matchLabels": {"app": "client"}}, "namespaceSelector": {"matchLabels": {"team": "b"}}}]);
    let spec = json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"], "ingress": [{"from": from}]});
    policy(&mut state, "p", spec.clone());
    assert_eq!(reached(&mut state, &mut plan), [false, true, false, true]);
    // The same again, and what policies do not look at.
    policy(&mut state, "p", spec);
    let mut changed = pod(OTHER);
    changed["status"]["message"] = "hello".into();
    hear(&mut state, OTHER, &changed);
    assert!(state.take().is_empty());

    label(&mut state, "a", json!({"team": "b"}));
    let change = state.take();
    assert_eq!(
        (change.members.len(), change.rules.len()),
        (1, 0),
        "{change:?}"
    );
    plan.apply(&change);
    assert_eq!(reached(&mut state, &mut plan), [true, true, false, true]);
    changed["metadata"]["labels"]["app"] = "gone".into();
    hear(&mut state, OTHER, &changed);
    let one = Change {
        members: [(*change.members.keys().next().expect("one"), false)]
            .into_iter()
            .map(|((rule, _), is_in)| ((rule, ip(OTHER)), is_in))
            .collect(),
        ..Change::default()
    };
    let change = state.take();
    assert_eq!(change, one);
    plan.apply(&change);

    // The selected Pod is selected no more, and again.
    let mut server = pod(SERVER);
    server["metadata"]["labels"] = json!({});
    hear(&mut state, SERVER, &server);
    assert_eq!(reached(&mut state, &mut plan), [true; 4]);
    hear(&mut state, SERVER, &pod(SERVER));
    assert_eq!(reached(&mut state, &mut plan), [true, false, false, true]);
    state.policy(("a".into(), "p".into()), None);
    assert_eq!(reached(&mut state, &mut plan), [true; 4]);
}

#[test]
fn an_address_is_that_of_who_was_told_last() {
    let mut state = state();
    let mut plan = Plan::default();
    policy(
        &mut state,
        "p",
        json!({"podSelector": {"matchLabels": {"app": "new"}}, "policyTypes": ["Ingress"]}),
    );
    assert_eq!(reached(&mut state, &mut plan), [true; 4]);
    // It has the address before anybody is told, and the one that had it has not gone yet.
    let mut new = pod(("a", "new", 1));
    new["status"] = json!({"phase": "Pending"});
    hear(&mut state, ("a", "new", 1), &new);
    assert!(state.knows(&key(("a", "new", 1)), "a1"));
    assert!(!state.knows(&key(("a", "new", 1)), "another"));
    // Its node knows a static Pod by the hash of its manifest.
    let mut mirror = new.clone();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    hear(&mut state, ("a", "new", 1), &mirror);
    assert!(state.knows(&key(("a", "new", 1)), "hash"));
    hear(&mut state, ("a", "new", 1), &new);
    let mut server = pod(SERVER);
    server["metadata"]["uid"] = "old".into();
    hear(&mut state, SERVER, &server);
    state.tell(&key(("a", "new", 1)), "a1", &[ip(SERVER)]);
    assert_eq!(reached(&mut state, &mut plan), [false, false, false, true]);
    // The other is told to have another, and the first one back.
    state.tell(&key(SERVER), "old", &[Ipv4Addr::new(10, 244, 0, 77).into()]);
    assert_eq!(reached(&mut state, &mut plan), [false, false, false, true]);
    state.tell(&key(SERVER), "old", &[ip(SERVER)]);
    assert_eq!(reached(&mut state, &mut plan), [true; 4]);
    state.pod(key(("a", "new", 1)), None);
    assert_eq!(reached(&mut state, &mut plan), [true; 4]);
}

#[test]
fn pods_on_the_nodes_network_and_those_that_have_ended_are_exempt() {
    for (field, value) in [
        ("/spec/hostNetwork", json!(true)),
        ("/status/phase", json!("Succeeded")),
        ("/status/phase", json!("Failed")),
    ] {
        let mut state = state();
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]});
        policy(&mut state, "p", spec);
        let mut plan = Plan::default();
        assert_eq!(reached(&mut state, &mut plan), [true, false, false, true]);
        let mut client = pod(CLIENT);
        client["spec"]["hostNetwork"] = json!(false);
        *client.pointer_mut(field).expect("a field") = value;
        hear(&mut state, CLIENT, &client);
        assert_eq!(reached(&mut state, &mut plan), [false, false, false, true]);
    }
}
