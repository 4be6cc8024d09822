//! Names of the cluster.

use std::net::Ipv4Addr;

use dns::Sockets;
use hickory_server::proto::op::{Message, OpCode, ResponseCode};
use hickory_server::proto::rr::{DNSClass, RecordType};
use serde_json::json;

use crate::support::{World, code, edns, pod, query, service, shown, slice, upstreams};

const WEB: &str = "web.n.svc.cluster.local.";

fn web() -> serde_json::Value {
    service(
        "web",
        json!({"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}]}),
    )
}

#[tokio::test]
async fn questions_wait_until_all_is_known_and_answers_change_with_events() {
    let world = World::start(upstreams(&[], &[])).await;
    let early = world.ask(WEB, RecordType::A);
    let listed = async {
        tokio::task::yield_now().await;
        world.list([json!([web()]), json!([]), json!([])]);
    };
    let (early, ()) = tokio::join!(early, listed);
    assert_eq!(shown(&early), ["A 10.96.0.9"]);
    assert!(early.metadata.authoritative && early.metadata.recursion_available);
    assert_eq!(early.answers[0].ttl, 30);

    world.tell("services", "DELETED", web());
    let gone = world.until(WEB, |answer| answer.answers.is_empty()).await;
    assert_eq!(code(&gone), ResponseCode::NXDomain);
    assert_eq!(gone.authorities[0].record_type(), RecordType::SOA);
    assert_eq!(gone.authorities[0].ttl, 0);
    world.tell("services", "ADDED", web());
    world
        .until(WEB, |answer| code(answer) == ResponseCode::NoError)
        .await;
}

#[tokio::test]
async fn records_of_every_type_are_written() {
    let headless = service("db", json!({"clusterIP": "None"}));
    let lists = [
        json!([web(), headless]),
        json!([slice("db", &["10.0.0.2".to_owned()])]),
        json!([]),
    ];
    let world = World::with(lists, upstreams(&[], &[])).await;
    for (name, kind, expected) in [
        (
            "_http._tcp.web.n.svc.cluster.local.",
            RecordType::SRV,
            "SRV 0 100 80 web.n.svc.cluster.local.",
        ),
        (
            "_http._tcp.db.n.svc.cluster.local.",
            RecordType::SRV,
            "SRV 0 100 8080 10-0-0-2.db.n.svc.cluster.local.",
        ),
        (
            "2.0.0.10.in-addr.arpa.",
            RecordType::PTR,
            "PTR 10-0-0-2.db.n.svc.cluster.local.",
        ),
        ("dns-version.cluster.local.", RecordType::TXT, "TXT 1.1.0"),
    ] {
        assert_eq!(shown(&world.ask(name, kind).await), [expected], "{name}");
    }
    let srv = world
        .ask("_http._tcp.web.n.svc.cluster.local.", RecordType::SRV)
        .await;
    assert_eq!(srv.additionals[0].data.to_string(), "10.96.0.9");
    let absent = world.ask(WEB, RecordType::AAAA).await;
    assert_eq!(
        (code(&absent), absent.answers.len()),
        (ResponseCode::NoError, 0)
    );
}

/// The Service of 100 endpoints.
async fn crowd() -> World {
    let addresses: Vec<String> = (1..=100).map(|n| format!("10.0.0.{n}")).collect();
    let lists = [
        json!([service("db", json!({"clusterIP": "None"}))]),
        json!([slice("db", &addresses)]),
        json!([]),
    ];
    World::with(lists, upstreams(&[], &[])).await
}

#[tokio::test]
async fn what_does_not_fit_into_a_datagram_comes_by_connection() {
    let world = crowd().await;
    let plain = query("db.n.svc.cluster.local.", RecordType::A);
    let size = |asked: &Message| asked.to_vec().expect("is written");
    for (asked, most) in [
        (plain.clone(), 512),
        (edns(plain.clone(), 100), 512),
        (edns(plain.clone(), 900), 900),
        (edns(plain.clone(), 4096), 1232),
    ] {
        let bytes = world.send_bytes(&size(&asked)).await;
        let answer = Message::from_vec(&bytes).expect("a message");
        assert!(
            answer.metadata.truncation,
            "100 addresses do not fit into {most} bytes"
        );
        assert!(bytes.len() <= most, "{} bytes of {most}", bytes.len());
        assert_eq!(answer.edns.is_some(), asked.edns.is_some());
    }
    let web = query("none.n.svc.cluster.local.", RecordType::A);
    let answers = world.send_on_connection(&[plain, web]).await;
    assert_eq!(
        (answers[0].answers.len(), answers[0].metadata.truncation),
        (100, false)
    );
    assert_eq!(code(&answers[1]), ResponseCode::NXDomain);
}

#[tokio::test]
async fn each_answer_begins_with_another_address() {
    let world = crowd().await;
    let query = query("db.n.svc.cluster.local.", RecordType::A);
    let answers = world
        .send_on_connection(&[query.clone(), query.clone(), query])
        .await;
    let mut first: Vec<String> = answers
        .iter()
        .map(|a| a.answers[0].data.to_string())
        .collect();
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 3, "{first:?}");
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_the_code_for_it() {
    let world = World::with([json!([web()]), json!([]), json!([])], upstreams(&[], &[])).await;
    let plain = || query(WEB, RecordType::A);
    let mut chaos = plain();
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut two = plain();
    two.add_query(plain().queries[0].clone());
    let mut none = plain();
    none.queries.clear();
    let mut update = plain();
    update.metadata.op_code = OpCode::Status;
    let mut newer = edns(plain(), 1232);
    newer.edns.as_mut().expect("has EDNS").set_version(1);
    for (what, query, expected) in [
        ("another class", chaos, ResponseCode::Refused),
        ("two questions", two, ResponseCode::FormErr),
        ("no question", none, ResponseCode::FormErr),
        ("no query", update, ResponseCode::NotImp),
        (
            "a transfer",
            query("cluster.local.", RecordType::AXFR),
            ResponseCode::Refused,
        ),
        ("a newer EDNS", newer, ResponseCode::BADVERS),
        (
            "nobody to ask",
            query("www.example.", RecordType::A),
            ResponseCode::Refused,
        ),
    ] {
        // One number has two names, of EDNS and of signatures.
        let numbers = [code(&world.send(&query).await), expected].map(u16::from);
        assert_eq!(numbers[0], numbers[1], "{what}");
    }
    // A header that promises a question, and none.
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let answer = Message::from_vec(&world.send_bytes(&header).await).expect("a message");
    assert_eq!(
        (code(&answer), answer.metadata.id),
        (ResponseCode::FormErr, 0x1234)
    );
}

#[tokio::test]
async fn a_pod_misses_no_service_of_its_namespace() {
    // Tests ask from loopback: the Pod's address here.
    let client = |phase| json!([pod("client", "127.0.0.1", phase)]);
    let lists = [json!([web()]), json!([]), client("Running")];
    let world = World::with(lists, upstreams(&[], &[])).await;
    for (name, expected) in [
        ("web.svc.cluster.local.", ResponseCode::NoError),
        ("web.cluster.local.", ResponseCode::NoError),
        ("no.svc.cluster.local.", ResponseCode::NXDomain),
    ] {
        let answer = world.ask(name, RecordType::A).await;
        assert_eq!(
            (code(&answer), answer.answers.len()),
            (expected, 0),
            "{name}"
        );
    }
    // The address of a Pod that is over may be anybody's.
    world.tell("pods", "MODIFIED", pod("client", "127.0.0.1", "Succeeded"));
    let is_absent = |answer: &Message| code(answer) == ResponseCode::NXDomain;
    world.until("web.svc.cluster.local.", is_absent).await;
}

#[tokio::test]
async fn who_has_the_port_of_name_servers_does_not_keep_us_from_answering() {
    // Of this test alone.
    let ip = Ipv4Addr::new(127, 53, 53, 53).into();
    let first = Sockets::bind(ip).await.expect("are bound");
    let ports = |of: &Sockets| [of.udp_address().port(), of.tcp_address().port()];
    assert_eq!(ports(&first), [53, 53]);
    let second = Sockets::bind(ip).await.expect("are bound");
    assert!(ports(&second).iter().all(|port| ![0, 53].contains(port)));
    assert_eq!(second.udp_address().ip(), ip);
}
