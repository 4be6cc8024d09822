//! What names stand for, as tables: objects and a question in, the answer as text out.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use netplan::names::{Answer, Data, Kind, Names, PodAt, Question, Record};
use serde_json::{Value, json};

/// Who asks unless a test says otherwise: nobody that is known.
const NOBODY: &str = "10.9.9.9";
const POD: &str = "10.0.0.9";

fn key(name: &str) -> netplan::Key {
    let (namespace, name) = name.split_once('/').expect("a namespace and a name");
    (namespace.into(), name.into())
}

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"spec": spec})).expect("a Service")
}

fn slice(service: &str, ports: Value, endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    }))
    .expect("a slice")
}

fn at(address: &str) -> PodAt {
    PodAt {
        addresses: vec![address.parse().expect("an address")],
        on_host: false,
    }
}

/// A Service of each kind, its endpoints, and two Pods.
fn town() -> Names {
    let mut names = Names::new("cluster.local");
    let http = json!({"name": "http", "port": 80});
    let dns = json!({"name": "dns", "port": 53, "protocol": "UDP"});
    for (name, spec) in [
        (
            "default/web",
            json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"], "ports": [http, dns]}),
        ),
        (
            "default/plain",
            json!({"clusterIP": "10.96.0.8", "ports": [{"port": 80}]}),
        ),
        (
            "default/db",
            json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [http]}),
        ),
        ("default/empty", json!({"clusterIP": "None"})),
        (
            "default/out",
            json!({"type": "ExternalName", "externalName": "www.Example.org."}),
        ),
        (
            "default/in",
            json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}),
        ),
        (
            "default/lost",
            json!({"type": "ExternalName", "externalName": "no.default.svc.cluster.local"}),
        ),
        (
            "default/circle",
            json!({"type": "ExternalName", "externalName": "circle.default.svc.cluster.local"}),
        ),
        (
            "default/number",
            json!({"type": "ExternalName", "externalName": "192.0.2.1"}),
        ),
        ("default/pending", json!({"ports": [http]})),
        (
            "kube-system/kube-dns",
            json!({"clusterIP": "10.96.0.10", "ports": [dns]}),
        ),
    ] {
        names.service(key(name), Some(&service(spec)));
    }
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let endpoints = json!([
        {"addresses": ["10.0.0.2"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.0.0.3"]},
        {"addresses": ["10.0.0.4"], "hostname": "db-2", "conditions": {"ready": false, "serving": true}},
    ]);
    names.slice(
        key("default/db-x"),
        Some(&slice("db", ports.clone(), endpoints)),
    );
    let endpoints = json!([{"addresses": ["10.0.0.5"], "hostname": "first"}]);
    names.slice(key("default/web-x"), Some(&slice("web", ports, endpoints)));
    names.pod(key("default/client"), Some(at(POD)));
    names.pod(key("other/client"), Some(at("10.0.0.8")));
    let on_host = PodAt {
        on_host: true,
        ..at("192.0.2.7")
    };
    names.pod(key("default/agent"), Some(on_host));
    names
}

fn kind(text: &str) -> Kind {
    match text {
        "A" => Kind::A,
        "AAAA" => Kind::Aaaa,
        "CNAME" => Kind::Cname,
        "NS" => Kind::Ns,
        "PTR" => Kind::Ptr,
        "SOA" => Kind::Soa,
        "SRV" => Kind::Srv,
        "TXT" => Kind::Txt,
        "ANY" => Kind::Any,
        "MX" => Kind::Other,
        other => panic!("{other} is no type"),
    }
}

fn line(record: &Record) -> String {
    let Record { name, data } = record;
    match data {
        Data::A(ip) => format!("{name} A {ip}"),
        Data::Aaaa(ip) => format!("{name} AAAA {ip}"),
        Data::Cname(target) => format!("{name} CNAME {target}"),
        Data::Ns(server) => format!("{name} NS {server}"),
        Data::Ptr(target) => format!("{name} PTR {target}"),
        Data::Soa { .. } => format!("{name} SOA"),
        Data::Srv { port, target } => format!("{name} SRV {port} {target}"),
        Data::Txt(text) => format!("{name} TXT {text}"),
    }
}

/// `NAME TYPE` asked by someone: a line for each record of the answer, `+` before additional ones, what an alias leads to, and last
/// what is said when there is nothing.
fn ask(names: &Names, question: &str, from: &str) -> Vec<String> {
    let (name, of) = question.split_once(' ').expect("a name and a type");
    let from = from.parse().expect("an address");
    let reply = match names.answer(&Question::of(name, kind(of)), from) {
        Answer::Elsewhere => return vec!["elsewhere".into()],
        Answer::Ours(reply) => reply,
    };
    let mut lines: Vec<String> = reply.records.iter().map(line).collect();
    lines.extend(
        reply
            .more
            .iter()
            .map(|record| format!("+ {}", line(record))),
    );
    lines.extend(reply.follow.map(|name| format!("-> {name}")));
    let nothing = if reply.exists { "no data" } else { "NXDOMAIN" };
    lines.extend(
        reply
            .zone
            .map(|zone| format!("{nothing} by {}", line(&zone))),
    );
    lines
}

#[track_caller]
fn check(names: &Names, from: &str, rows: &[(&str, &[&str])]) {
    for (question, expected) in rows {
        assert_eq!(ask(names, question, from), *expected, "{question}");
    }
}

const NO_DATA: &[&str] = &["no data by cluster.local SOA"];
const NXDOMAIN: &[&str] = &["NXDOMAIN by cluster.local SOA"];
const ELSEWHERE: &[&str] = &["elsewhere"];

#[test]
fn services_have_the_records_of_their_kind() {
    let web = "web.default.svc.cluster.local";
    check(
        &town(),
        NOBODY,
        &[
            (
                "web.default.svc.cluster.local A",
                &["web.default.svc.cluster.local A 10.96.0.9"],
            ),
            (
                "Web.DEFAULT.svc.Cluster.local. A",
                &[&format!("{web} A 10.96.0.9")],
            ),
            (
                "web.default.svc.cluster.local AAAA",
                &[&format!("{web} AAAA fd00::9")],
            ),
            ("plain.default.svc.cluster.local AAAA", NO_DATA),
            ("web.default.svc.cluster.local MX", NO_DATA),
            ("pending.default.svc.cluster.local A", NXDOMAIN),
            ("no.default.svc.cluster.local A", NXDOMAIN),
            ("web.other.svc.cluster.local A", NXDOMAIN),
            (
                "db.default.svc.cluster.local A",
                &[
                    "db.default.svc.cluster.local A 10.0.0.2",
                    "db.default.svc.cluster.local A 10.0.0.3",
                ],
            ),
            ("empty.default.svc.cluster.local A", NO_DATA),
        ],
    );
}

#[test]
fn endpoints_that_are_ready_have_names_below_their_service() {
    check(
        &town(),
        NOBODY,
        &[
            (
                "db-0.db.default.svc.cluster.local A",
                &["db-0.db.default.svc.cluster.local A 10.0.0.2"],
            ),
            (
                "10-0-0-3.db.default.svc.cluster.local A",
                &["10-0-0-3.db.default.svc.cluster.local A 10.0.0.3"],
            ),
            ("10-0-0-2.db.default.svc.cluster.local A", NXDOMAIN),
            ("db-2.db.default.svc.cluster.local A", NXDOMAIN),
            // CoreDNS has them of Services with an address, too.
            (
                "first.web.default.svc.cluster.local A",
                &["first.web.default.svc.cluster.local A 10.0.0.5"],
            ),
            ("a.db-0.db.default.svc.cluster.local A", NXDOMAIN),
        ],
    );
}

#[test]
fn named_ports_have_hosts_and_numbers() {
    let web = "web.default.svc.cluster.local";
    check(
        &town(),
        NOBODY,
        &[
            (
                "_http._tcp.web.default.svc.cluster.local SRV",
                &[
                    &format!("_http._tcp.{web} SRV 80 {web}"),
                    &format!("+ {web} A 10.96.0.9"),
                    &format!("+ {web} AAAA fd00::9"),
                ],
            ),
            (
                "_dns._udp.web.default.svc.cluster.local SRV",
                &[
                    &format!("_dns._udp.{web} SRV 53 {web}"),
                    &format!("+ {web} A 10.96.0.9"),
                    &format!("+ {web} AAAA fd00::9"),
                ],
            ),
            ("_dns._tcp.web.default.svc.cluster.local SRV", NXDOMAIN),
            ("http.tcp.web.default.svc.cluster.local SRV", NXDOMAIN),
            ("_tcp.web.default.svc.cluster.local SRV", NO_DATA),
            ("_sctp.web.default.svc.cluster.local SRV", NXDOMAIN),
            ("plain.default.svc.cluster.local SRV", NO_DATA),
            (
                "_http._tcp.db.default.svc.cluster.local SRV",
                &[
                    "_http._tcp.db.default.svc.cluster.local SRV 8080 10-0-0-3.db.default.svc.cluster.local",
                    "_http._tcp.db.default.svc.cluster.local SRV 8080 db-0.db.default.svc.cluster.local",
                    "+ 10-0-0-3.db.default.svc.cluster.local A 10.0.0.3",
                    "+ db-0.db.default.svc.cluster.local A 10.0.0.2",
                ],
            ),
            (
                "web.default.svc.cluster.local SRV",
                &[
                    &format!("{web} SRV 53 {web}"),
                    &format!("{web} SRV 80 {web}"),
                    &format!("+ {web} A 10.96.0.9"),
                    &format!("+ {web} AAAA fd00::9"),
                ],
            ),
        ],
    );
}

#[test]
fn aliases_are_followed_as_far_as_the_cluster_goes() {
    let out = "out.default.svc.cluster.local CNAME www.example.org";
    let circle = "circle.default.svc.cluster.local CNAME circle.default.svc.cluster.local";
    check(
        &town(),
        NOBODY,
        &[
            (
                "out.default.svc.cluster.local A",
                &[out, "-> www.example.org"],
            ),
            (
                "out.default.svc.cluster.local MX",
                &[out, "-> www.example.org"],
            ),
            ("out.default.svc.cluster.local CNAME", &[out]),
            ("out.default.svc.cluster.local ANY", &[out]),
            (
                "in.default.svc.cluster.local A",
                &[
                    "in.default.svc.cluster.local CNAME web.default.svc.cluster.local",
                    "web.default.svc.cluster.local A 10.96.0.9",
                ],
            ),
            (
                "lost.default.svc.cluster.local A",
                &[
                    "lost.default.svc.cluster.local CNAME no.default.svc.cluster.local",
                    "NXDOMAIN by cluster.local SOA",
                ],
            ),
            ("number.default.svc.cluster.local A", NO_DATA),
        ],
    );
    let lines = ask(&town(), "circle.default.svc.cluster.local A", NOBODY);
    assert_eq!(lines.len(), 9, "{lines:?}");
    assert!(lines[..8].iter().all(|line| line == circle), "{lines:?}");
}

#[test]
fn addresses_have_the_names_of_services_or_of_headless_endpoints() {
    let names = town();
    check(
        &names,
        NOBODY,
        &[
            (
                "9.0.96.10.in-addr.arpa PTR",
                &["9.0.96.10.in-addr.arpa PTR web.default.svc.cluster.local"],
            ),
            (
                "9.0.96.10.in-addr.arpa A",
                &["no data by 9.0.96.10.in-addr.arpa SOA"],
            ),
            (
                "2.0.0.10.in-addr.arpa PTR",
                &["2.0.0.10.in-addr.arpa PTR db-0.db.default.svc.cluster.local"],
            ),
            (
                "3.0.0.10.in-addr.arpa PTR",
                &["3.0.0.10.in-addr.arpa PTR 10-0-0-3.db.default.svc.cluster.local"],
            ),
            ("4.0.0.10.in-addr.arpa PTR", ELSEWHERE),
            ("5.0.0.10.in-addr.arpa PTR", ELSEWHERE),
            ("0.0.10.in-addr.arpa PTR", ELSEWHERE),
            ("1.2.0.0.10.in-addr.arpa PTR", ELSEWHERE),
            ("256.0.0.10.in-addr.arpa PTR", ELSEWHERE),
            ("arpa PTR", ELSEWHERE),
        ],
    );
    let six = "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    assert_eq!(
        ask(&names, &format!("{six} PTR"), NOBODY),
        [format!("{six} PTR web.default.svc.cluster.local")]
    );
    let not_hex = six.replacen('9', "19", 1);
    assert_eq!(
        ask(&names, &format!("{not_hex} PTR"), NOBODY),
        ["elsewhere"]
    );
}

#[test]
fn pods_have_names_while_they_have_addresses() {
    let mut names = town();
    check(
        &names,
        NOBODY,
        &[
            (
                "10-0-0-9.default.pod.cluster.local A",
                &["10-0-0-9.default.pod.cluster.local A 10.0.0.9"],
            ),
            ("10-0-0-9.other.pod.cluster.local A", NXDOMAIN),
            ("10-0-0-7.default.pod.cluster.local A", NXDOMAIN),
            ("client.default.pod.cluster.local A", NXDOMAIN),
            ("default.pod.cluster.local A", NO_DATA),
            ("none.pod.cluster.local A", NXDOMAIN),
        ],
    );
    names.pod(key("default/client"), Some(at("fd00::1:2")));
    let six = "fd00--1-2.default.pod.cluster.local";
    let lines = ask(&names, &format!("{six} AAAA"), NOBODY);
    assert_eq!(lines, [format!("{six} AAAA fd00::1:2")]);
    let other = "fd00-0-0-0-0-0-1-2.default.pod.cluster.local AAAA";
    assert_eq!(ask(&names, other, NOBODY), NXDOMAIN);
}

#[test]
fn the_zone_has_what_every_zone_has() {
    check(
        &town(),
        NOBODY,
        &[
            ("cluster.local SOA", &["cluster.local SOA"]),
            (
                "cluster.local NS",
                &["cluster.local NS kube-dns.kube-system.svc.cluster.local"],
            ),
            ("cluster.local A", NO_DATA),
            (
                "dns-version.cluster.local TXT",
                &["dns-version.cluster.local TXT 1.1.0"],
            ),
            ("svc.cluster.local A", NO_DATA),
            ("pod.cluster.local A", NO_DATA),
            ("default.svc.cluster.local A", NO_DATA),
            ("none.svc.cluster.local A", NXDOMAIN),
            ("none.cluster.local A", NXDOMAIN),
            ("local A", ELSEWHERE),
            ("www.example.org A", ELSEWHERE),
            ("xcluster.local A", ELSEWHERE),
        ],
    );
}

#[test]
fn a_label_with_a_dot_is_no_two_labels() {
    let question = Question::new(["web.default", "svc", "cluster", "local"], Kind::A);
    let Answer::Ours(reply) = town().answer(&question, NOBODY.parse().unwrap()) else {
        panic!("it is below the cluster's domain");
    };
    assert!(!reply.exists && reply.records.is_empty());
}

/// BusyBox asks for all of these, in this order or any other, and fails if one of them does not exist.
#[test]
fn a_service_of_the_askers_namespace_is_absent_nowhere() {
    let searched = [
        ("web.svc.cluster.local A", NO_DATA),
        ("web.svc.cluster.local AAAA", NO_DATA),
        ("web.cluster.local A", NO_DATA),
        ("db.svc.cluster.local A", NO_DATA),
        ("out.cluster.local A", NO_DATA),
        // Not what the search list makes, or no Service.
        ("web.pod.cluster.local A", NXDOMAIN),
        ("web.default.cluster.local A", NXDOMAIN),
        ("no.svc.cluster.local A", NXDOMAIN),
        ("no.cluster.local A", NXDOMAIN),
        ("web.other.svc.cluster.local A", NXDOMAIN),
    ];
    check(&town(), POD, &searched);
    // Others have no such Service: a Pod of another namespace, somebody on the node, nobody known.
    for from in ["10.0.0.8", "192.0.2.7", NOBODY] {
        for (question, _) in &searched {
            assert_eq!(
                ask(&town(), question, from),
                NXDOMAIN,
                "{question} from {from}"
            );
        }
    }
    let mut names = town();
    names.service(key("default/web"), None);
    assert_eq!(ask(&names, "web.svc.cluster.local A", POD), NXDOMAIN);
}
