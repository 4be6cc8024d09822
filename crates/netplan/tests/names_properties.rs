//! What holds of every answer. `PROPTEST_CASES` sets how many are tried.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use netplan::Key;
use netplan::names::{Answer, Data, Kind, Names, PodAt, Question, Record, Reply};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

/// Something that is heard.
#[derive(Debug, Clone)]
enum Heard {
    Service(Key, Option<Box<Service>>),
    Slice(Key, Option<Box<EndpointSlice>>),
    Pod(Key, Option<PodAt>),
}

const NAMESPACES: [&str; 2] = ["one", "two"];
const NAMES: [&str; 2] = ["a", "b"];
/// Last octets of the few addresses, so that many share one.
const HOSTS: std::ops::Range<u8> = 0..3;

fn key() -> impl Strategy<Value = Key> {
    let namespace = prop::sample::select(&NAMESPACES);
    (namespace, prop::sample::select(&NAMES)).prop_map(|(a, b)| (a.to_owned(), b.to_owned()))
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    HOSTS.prop_map(|n| Ipv4Addr::new(10, 0, 0, n))
}

fn service() -> impl Strategy<Value = Service> {
    let target = (key(), any::<bool>()).prop_map(|((namespace, name), inside)| match inside {
        true => format!("{name}.{namespace}.svc.c.l"),
        false => "a.example".to_owned(),
    });
    let ports = json!([{"name": "http", "port": 80}]);
    let of_cluster = ports.clone();
    let spec = prop_oneof![
        address().prop_map(move |ip| json!({"clusterIP": ip.to_string(), "ports": of_cluster})),
        Just(json!({"clusterIP": "None", "ports": ports})),
        target.prop_map(|target| json!({"type": "ExternalName", "externalName": target})),
    ];
    spec.prop_map(|spec| serde_json::from_value(json!({"spec": spec})).expect("a Service"))
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let endpoint = (address(), any::<bool>(), any::<bool>());
    (prop::sample::select(&NAMES), vec(endpoint, 0..4)).prop_map(|(of, endpoints)| {
        let endpoints: Vec<_> = endpoints
            .into_iter()
            .map(|(ip, ready, named)| {
                json!({
                    "addresses": [ip.to_string()], "conditions": {"ready": ready},
                    "hostname": named.then(|| format!("host-{}", ip.octets()[3])),
                })
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": {"labels": {"kubernetes.io/service-name": of}}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
        }))
        .expect("a slice")
    })
}

fn pod() -> impl Strategy<Value = PodAt> {
    (vec(address(), 0..2), any::<bool>()).prop_map(|(addresses, on_host)| PodAt {
        addresses: addresses.into_iter().map(IpAddr::from).collect(),
        on_host,
    })
}

fn heard() -> impl Strategy<Value = Heard> {
    fn there<T: std::fmt::Debug>(
        what: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Option<T>> {
        prop::option::weighted(0.8, what)
    }
    prop_oneof![
        (key(), there(service())).prop_map(|(key, s)| Heard::Service(key, s.map(Box::new))),
        (key(), there(slice())).prop_map(|(key, s)| Heard::Slice(key, s.map(Box::new))),
        (key(), there(pod())).prop_map(|(key, pod)| Heard::Pod(key, pod)),
    ]
}

fn tell(names: &mut Names, heard: &Heard) {
    match heard {
        Heard::Service(key, service) => names.service(key.clone(), service.as_deref()),
        Heard::Slice(key, slice) => names.slice(key.clone(), slice.as_deref()),
        Heard::Pod(key, pod) => names.pod(key.clone(), pod.clone()),
    }
}

fn heard_all(story: &[Heard]) -> Names {
    let mut names = Names::new("c.l");
    story.iter().for_each(|heard| tell(&mut names, heard));
    names
}

/// The last that was heard of everything, the other way round.
fn in_short(story: &[Heard]) -> Vec<Heard> {
    let (mut services, mut slices, mut pods) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for heard in story {
        match heard {
            Heard::Service(key, _) => services.insert(key, heard),
            Heard::Slice(key, _) => slices.insert(key, heard),
            Heard::Pod(key, _) => pods.insert(key, heard),
        };
    }
    let last = services
        .values()
        .chain(slices.values())
        .chain(pods.values());
    last.rev().map(|heard| (*heard).clone()).collect()
}

/// Every name that there can be, and some that there cannot.
static QUESTIONS: LazyLock<Vec<Question>> = LazyLock::new(|| {
    let mut names = vec!["c.l".to_owned(), "svc.c.l".into(), "pod.c.l".into()];
    for n in HOSTS {
        names.push(format!("{n}.0.0.10.in-addr.arpa"));
    }
    for namespace in NAMESPACES {
        names.push(format!("{namespace}.svc.c.l"));
        names.push(format!("{namespace}.pod.c.l"));
        names.extend(HOSTS.map(|n| format!("10-0-0-{n}.{namespace}.pod.c.l")));
        for name in NAMES {
            let service = format!("{name}.{namespace}.svc.c.l");
            names.extend(HOSTS.map(|n| format!("10-0-0-{n}.{service}")));
            names.extend(HOSTS.map(|n| format!("host-{n}.{service}")));
            names.push(format!("_tcp.{service}"));
            names.push(format!("_http._tcp.{service}"));
            names.push(service);
        }
    }
    names.extend(NAMES.map(|name| format!("{name}.svc.c.l")));
    names.extend(NAMES.map(|name| format!("{name}.c.l")));
    let kinds = [Kind::A, Kind::Srv, Kind::Ptr, Kind::Cname];
    let of = |name: String| kinds.map(|kind| Question::of(&name, kind));
    names.into_iter().flat_map(of).collect()
});

fn addresses() -> [IpAddr; 2] {
    [0, 1].map(|n| Ipv4Addr::new(10, 0, 0, n).into())
}

fn ask(names: &Names, name: &str, kind: Kind) -> Option<Reply> {
    let nobody = Ipv4Addr::BROADCAST.into();
    match names.answer(&Question::of(name, kind), nobody) {
        Answer::Ours(reply) => Some(reply),
        Answer::Elsewhere => None,
    }
}

fn records(names: &Names) -> Vec<Record> {
    let nobody = Ipv4Addr::BROADCAST.into();
    let replies = QUESTIONS
        .iter()
        .filter_map(|question| match names.answer(question, nobody) {
            Answer::Ours(reply) => Some(reply.records),
            Answer::Elsewhere => None,
        });
    replies.flatten().collect()
}

proptest! {
    #![proptest_config(testkit::cases(2_000, 5))]

    #[test]
    fn answers_depend_on_what_is_known_and_not_on_how_it_was_heard(story in vec(heard(), 1..20)) {
        let (names, anew) = (heard_all(&story), heard_all(&in_short(&story)));
        for question in QUESTIONS.iter() {
            for from in addresses() {
                prop_assert_eq!(names.answer(question, from), anew.answer(question, from), "{:?}", question);
            }
        }
    }

    #[test]
    fn what_answers_name_exists(story in vec(heard(), 1..20)) {
        let names = heard_all(&story);
        for Record { name, data } in records(&names) {
            let (Data::Srv { target, .. } | Data::Ptr(target)) = &data else {
                continue;
            };
            let found = ask(&names, target, Kind::A).map(|reply| reply.records).unwrap_or_default();
            prop_assert!(!found.is_empty(), "{name} has {data:?}, which has no address");
        }
    }

    #[test]
    fn nothing_is_below_a_name_that_does_not_exist(story in vec(heard(), 1..20)) {
        let names = heard_all(&story);
        for Record { name, .. } in records(&names) {
            for (dot, _) in name.match_indices('.') {
                let exists = ask(&names, &name[dot + 1..], Kind::A).is_none_or(|reply| reply.exists || !reply.records.is_empty());
                prop_assert!(exists, "{} is above {name}", &name[dot + 1..]);
            }
        }
    }
}
