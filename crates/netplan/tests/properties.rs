//! What holds of every table. `PROPTEST_CASES` sets how many are tried.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use nat::{Family, IpRange, Ranges, Table};
use netplan::nodes::next;
use netplan::{Key, State};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

/// Something that is heard.
#[derive(Debug, Clone)]
enum Heard {
    Service(Key, Option<Box<Service>>),
    Slice(Key, Option<Box<EndpointSlice>>),
    Pod(Key, Option<Box<Pod>>),
    /// The table is asked for.
    Take,
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["a", "b", "c"].prop_map(|name| name.to_owned())
}

fn key() -> impl Strategy<Value = Key> {
    (prop_oneof!["one", "two"], name())
}

/// One of few, so that Services meet at an address; endpoints tell by their addresses whose they are and whether they are ready.
fn service() -> impl Strategy<Value = Service> {
    (
        0..4u8,
        vec((1..4u16, prop_oneof!["TCP", "UDP"]), 0..3),
        any::<bool>(),
    )
        .prop_map(|(address, ports, sticks)| {
            let ports: Vec<_> = ports
                .into_iter()
                .map(|(port, protocol)| json!({"port": port, "protocol": protocol, "nodePort": 30000 + port}))
                .collect();
            let addresses = match address {
                0 => vec!["None".to_owned()],
                1 => vec!["10.96.0.1".to_owned()],
                2 => vec!["fd00::96".to_owned()],
                _ => vec!["10.96.0.2".to_owned(), "fd00::96".to_owned()],
            };
            let affinity = if sticks { "ClientIP" } else { "None" };
            serde_json::from_value(json!({
                "spec": {"clusterIP": addresses[0], "clusterIPs": addresses, "ports": ports, "sessionAffinity": affinity},
            }))
            .expect("a Service")
        })
}

/// The address of a family with these last four bytes.
fn address(is_v6: bool, octets: [u8; 4]) -> IpAddr {
    match is_v6 {
        false => Ipv4Addr::from(octets).into(),
        true => Family::V6.address(0xfd << 120 | u128::from(u32::from_be_bytes(octets))),
    }
}

fn slice(namespace: String) -> impl Strategy<Value = EndpointSlice> {
    let endpoint = (0..4u8, any::<bool>(), any::<bool>());
    let kind = (any::<bool>(), prop_oneof!["TCP", "UDP"]);
    (name(), vec(endpoint, 0..4), kind).prop_map(move |(of, endpoints, (is_v6, protocol))| {
        let endpoints: Vec<_> = endpoints
            .into_iter()
            .map(|(n, serving, terminating)| {
                let whose = u8::from(namespace == "one") * 100 + of.as_bytes()[0];
                let ready = serving && !terminating;
                let state = u8::from(ready) * 2 + u8::from(serving && terminating);
                json!({
                    "addresses": [address(is_v6, [10, whose, state, n])],
                    "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                })
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": {"labels": {"kubernetes.io/service-name": of}},
            "addressType": if is_v6 { "IPv6" } else { "IPv4" }, "ports": [{"port": 80, "protocol": protocol}], "endpoints": endpoints,
        }))
        .expect("a slice")
    })
}

/// With a port that Services have as well; it serves.
fn pod() -> impl Strategy<Value = Pod> {
    let families = vec(any::<bool>(), 1..3);
    (30001..30004u16, any::<bool>(), 0..4u8, families).prop_map(|(port, is_running, n, families)| {
        let ips = families.iter().map(|is_v6| address(*is_v6, [10, 250, 1, n]));
        let ips: Vec<_> = ips.map(|ip| json!({"ip": ip})).collect();
        let phase = if is_running { "Running" } else { "Failed" };
        serde_json::from_value(json!({
            "spec": {"nodeName": "here", "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": port}]}]},
            "status": {"phase": phase, "podIP": ips[0]["ip"], "podIPs": ips},
        }))
        .expect("a Pod")
    })
}

fn heard() -> impl Strategy<Value = Heard> {
    let boxed = |s: Service| Box::new(s);
    prop_oneof![
        4 => (key(), prop::option::weighted(0.8, service()))
            .prop_map(move |(key, service)| Heard::Service(key, service.map(boxed))),
        4 => key().prop_flat_map(|key| {
            let slice = prop::option::weighted(0.8, slice(key.0.clone()));
            (Just(key), slice)
        }).prop_map(|(key, slice)| Heard::Slice(key, slice.map(Box::new))),
        2 => (key(), prop::option::weighted(0.8, pod()))
            .prop_map(|(key, pod)| Heard::Pod(key, pod.map(Box::new))),
        1 => Just(Heard::Take),
    ]
}

fn tell(state: &mut State, heard: &Heard) {
    match heard {
        Heard::Service(key, service) => state.service(key.clone(), service.as_deref()),
        Heard::Slice(key, slice) => state.slice(key.clone(), slice.as_deref()),
        Heard::Pod(key, pod) => state.pod(key.clone(), pod.as_deref()),
        Heard::Take => {}
    }
}

/// The table of what is known at the end, and nothing else.
fn anew(story: &[Heard]) -> Table {
    let (mut services, mut slices) = (BTreeMap::new(), BTreeMap::new());
    let mut pods = BTreeMap::new();
    for heard in story {
        match heard {
            Heard::Service(key, _) => services.insert(key, heard),
            Heard::Slice(key, _) => slices.insert(key, heard),
            Heard::Pod(key, _) => pods.insert(key, heard),
            Heard::Take => None,
        };
    }
    let mut state = State::new("here");
    let known = slices.values().chain(services.values());
    for heard in known.chain(pods.values()).rev() {
        tell(&mut state, heard);
    }
    let mut table = Table::new();
    state.take().apply_to(&mut table);
    table
}

proptest! {
    #![proptest_config(testkit::cases(2_000, 5))]

    #[test]
    fn changes_lead_where_building_anew_leads(story in vec(heard(), 1..30)) {
        let mut state = State::new("here");
        let mut table = Table::new();
        for heard in &story {
            tell(&mut state, heard);
            if matches!(heard, Heard::Take) {
                state.take().apply_to(&mut table);
            }
        }
        state.take().apply_to(&mut table);
        prop_assert_eq!(table, anew(&story));
        prop_assert!(state.take().is_empty());
    }

    #[test]
    fn traffic_goes_to_endpoints_of_one_service_that_serve(story in vec(heard(), 1..30)) {
        for (front, redirect) in anew(&story) {
            // The last four bytes of an address of IPv6 are one of IPv4.
            let backends = redirect.backends.iter();
            prop_assert!(backends.clone().all(|b| Family::of(b.ip()) == front.address.family()));
            let octets: Vec<[u8; 4]> = backends.map(|b| (nat::number(b.ip()) as u32).to_be_bytes()).collect();
            for [_, whose, state, _] in &octets {
                prop_assert_eq!(*whose, octets[0][1], "{} mixes Services", front);
                prop_assert_ne!(*state, 0, "{} sends to one that does not serve", front);
                prop_assert_eq!(*state, octets[0][2], "{} mixes ready ones with others", front);
            }
        }
    }

    #[test]
    fn nodes_never_have_an_address_in_common(
        first in first_ranges(),
        services in (0..4u8).prop_map(|n| IpRange::new(Ipv4Addr::new(10, 244 + n, 0, 0), 17)),
        joined in 1..20_usize,
        gone in vec(0..20_usize, 0..6),
    ) {
        let mut taken: Vec<IpRange> = first.iter().chain(services).collect();
        for n in 0..joined {
            let Some(new) = next(first, &taken) else {
                break;
            };
            let sizes = |ranges: Ranges| ranges.iter().map(|r| (r.family(), r.prefix())).collect::<Vec<_>>();
            prop_assert_eq!(sizes(new), sizes(first));
            for range in new.iter() {
                prop_assert!(taken.iter().all(|other| !other.overlaps(range)), "{} among {:?}", range, taken);
            }
            taken.extend(new.iter());
            if gone.contains(&n) {
                taken.pop();
            }
        }
    }
}

/// Ranges of the first node, of all sizes.
fn first_ranges() -> impl Strategy<Value = Ranges> {
    let v4 = (any::<u32>(), 8..=29_u8, any::<bool>()).prop_map(|(bits, prefix, is_private)| {
        let bits = if is_private {
            bits >> 8 | 10 << 24
        } else {
            bits
        };
        IpRange::new(Ipv4Addr::from(bits), prefix).expect("a range")
    });
    let v6 = (any::<u128>(), 48..=125_u8).prop_map(|(bits, prefix)| {
        IpRange::new(Family::V6.address(bits), prefix).expect("a range")
    });
    (v4, v6, 0..3_u8).prop_map(|(v4, v6, which)| match which {
        0 => v4.into(),
        1 => v6.into(),
        _ => Ranges::new(v6, Some(v4)).expect("of both families"),
    })
}
