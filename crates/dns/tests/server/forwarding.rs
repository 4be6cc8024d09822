//! Names that others know.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::rdata::{A, SOA};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::support::{World, code, pod, service, shown, sockets, upstream, upstreams};

fn nothing() -> [Value; 3] {
    [json!([]), json!([]), json!([])]
}

/// The question's name has this address, for so many seconds.
fn found(mut query: Message, seconds: u32) -> Message {
    let name = query.queries[0].name().clone();
    let address = RData::A(A(Ipv4Addr::new(192, 0, 2, 1)));
    query.add_answer(Record::from_rdata(name, seconds, address));
    query
}

/// There is no such name, and that may be believed for so many seconds.
fn absent(mut query: Message, seconds: u32) -> Message {
    let name = |text| Name::from_ascii(text).expect("a name");
    let soa = SOA::new(
        name("ns.example."),
        name("me.example."),
        1,
        1,
        1,
        1,
        seconds,
    );
    query.add_authority(Record::from_rdata(name("example."), 3600, RData::SOA(soa)));
    query.metadata.response_code = ResponseCode::NXDomain;
    query
}

#[tokio::test]
async fn answers_of_others_are_passed_on_and_kept_for_a_while() {
    let (address, mut asked) = upstream(|_, query| match query.queries[0].name().to_ascii() {
        name if name == "www.example." => found(query, 300),
        name if name == "brief.example." => found(query, 0),
        _ => absent(query, 60),
    })
    .await;
    let world = World::with(nothing(), upstreams(&[address], &[])).await;
    for (name, expected) in [
        ("www.example.", ResponseCode::NoError),
        ("WWW.example.", ResponseCode::NoError),
        ("no.example.", ResponseCode::NXDomain),
        ("no.example.", ResponseCode::NXDomain),
        ("brief.example.", ResponseCode::NoError),
        ("brief.example.", ResponseCode::NoError),
        ("1.2.0.192.in-addr.arpa.", ResponseCode::NXDomain),
    ] {
        let answer = world.ask(name, RecordType::A).await;
        assert_eq!(code(&answer), expected, "{name}");
        assert!(!answer.metadata.authoritative);
        // Nothing is passed on as good for longer than it is kept.
        assert!(
            answer.answers.iter().all(|record| record.ttl <= 30),
            "{answer}"
        );
    }
    world.ask("www.example.", RecordType::AAAA).await;
    let mut seen = Vec::new();
    while let Ok(question) = asked.try_recv() {
        seen.push(question);
    }
    let expected = [
        "udp www.example. IN A",
        "udp no.example. IN A",
        "udp brief.example. IN A",
        "udp brief.example. IN A",
        "udp 1.2.0.192.in-addr.arpa. IN A",
        "udp www.example. IN AAAA",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn what_others_cut_off_is_asked_for_by_connection() {
    let (address, mut asked) = upstream(|how, query| {
        let mut reply = found(query, 30);
        reply.metadata.truncation = how == "udp";
        reply
    })
    .await;
    let world = World::with(nothing(), upstreams(&[address], &[])).await;
    let answer = world.ask("www.example.", RecordType::A).await;
    assert_eq!(
        (shown(&answer), answer.metadata.truncation),
        (vec!["A 192.0.2.1".to_owned()], false)
    );
    let seen = [asked.recv().await, asked.recv().await].map(Option::unwrap_or_default);
    assert_eq!(seen, ["udp www.example. IN A", "tcp www.example. IN A"]);
}

#[tokio::test]
async fn who_does_not_help_is_passed_over() {
    let (refusing, _asked) = upstream(|_, mut query| {
        query.metadata.response_code = ResponseCode::Refused;
        query
    })
    .await;
    let (helping, _asked_too) = upstream(|_, query| found(query, 30)).await;
    let world = World::with(
        nothing(),
        upstreams(&[nobody().await, refusing, helping], &[]),
    )
    .await;
    let answer = world.ask("www.example.", RecordType::A).await;
    assert_eq!(shown(&answer), ["A 192.0.2.1"]);
    let world = World::with(nothing(), upstreams(&[refusing], &[])).await;
    let answer = world.ask("www.example.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::Refused);
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a socket");
    socket.local_addr().expect("is bound")
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_resolvers_wait() {
    let world = World::with(nothing(), upstreams(&[nobody().await], &[])).await;
    let start = Instant::now();
    let answer = world.ask("www.example.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::ServFail);
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "the kernel says at once that nobody listens"
    );

    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a socket");
    let address = silent.local_addr().expect("is bound");
    let world = World::with(nothing(), upstreams(&[address], &[])).await;
    let start = Instant::now();
    let both = [
        world.ask("www.example.", RecordType::A),
        world.ask("www.example.", RecordType::A),
    ];
    for answer in futures::future::join_all(both).await {
        assert_eq!(code(&answer), ResponseCode::ServFail);
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "resolvers have given up"
    );
    let again = Instant::now();
    world.ask("www.example.", RecordType::A).await;
    assert!(
        again.elapsed() < Duration::from_secs(1),
        "a failure is kept, too"
    );
}

#[tokio::test]
async fn a_server_that_is_its_own_upstream_does_not_ask_itself() {
    let sockets = sockets().await;
    let own = sockets.0.local_addr().expect("is bound");
    let world = World::start_at(sockets, upstreams(&[own], &[]));
    world.list(nothing());
    let answer = world.ask("www.example.", RecordType::A).await;
    assert_eq!(code(&answer), ResponseCode::Refused);
}

#[tokio::test]
async fn an_alias_is_answered_with_what_it_stands_for() {
    let (address, _asked) = upstream(|_, query| match query.queries[0].name().to_ascii() {
        name if name == "www.example." => found(query, 30),
        _ => absent(query, 60),
    })
    .await;
    let alias = |name: &str, target: &str| {
        service(
            name,
            json!({"type": "ExternalName", "externalName": target}),
        )
    };
    let lists = [
        json!([alias("out", "www.example"), alias("lost", "no.example")]),
        json!([]),
        json!([]),
    ];
    let world = World::with(lists, upstreams(&[address], &[])).await;
    let answer = world.ask("out.n.svc.cluster.local.", RecordType::A).await;
    assert_eq!(shown(&answer), ["A 192.0.2.1", "CNAME www.example."]);
    assert_eq!(answer.answers[0].record_type(), RecordType::CNAME);
    let answer = world.ask("lost.n.svc.cluster.local.", RecordType::A).await;
    assert_eq!(
        (code(&answer), shown(&answer)),
        (ResponseCode::NXDomain, vec!["CNAME no.example.".to_owned()])
    );
}

#[tokio::test]
async fn the_nodes_own_search_list_does_not_hide_services_either() {
    let (address, _asked) = upstream(|_, query| absent(query, 60)).await;
    let lists = [
        json!([service("web", json!({"clusterIP": "10.96.0.9"}))]),
        json!([]),
        json!([pod("client", "127.0.0.1", "Running")]),
    ];
    let world = World::with(lists, upstreams(&[address], &["corp.example"])).await;
    for (name, expected) in [
        ("web.corp.example.", ResponseCode::NoError),
        ("no.corp.example.", ResponseCode::NXDomain),
        ("web.other.example.", ResponseCode::NXDomain),
    ] {
        assert_eq!(
            code(&world.ask(name, RecordType::A).await),
            expected,
            "{name}"
        );
    }
}
