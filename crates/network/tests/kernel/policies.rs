//! What Pods may receive and send.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Result};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nat::Protocol;
use nat::policy::{
    Block, Bonds, Change, Door, GroupId, Peers, PortRange, Ports, Rule, RuleId, Turn, Way,
};
use network::{Config, Network, Policies};
use ports::network::Filter;

use crate::node::*;
use crate::services::{
    HTTP, World, answer, datagrams_to, greeting, with_and_without_bridge_filter,
};

const RULE: RuleId = RuleId(7);
const GROUP: GroupId = GroupId(3);
/// A port that Pods answer at, beside [`HTTP`].
const OTHER: u16 = 9090;

fn members(way: Way) -> Rule {
    Rule {
        way,
        peers: Peers::Some(BTreeSet::new()),
        ports: Ports::Any,
    }
}

fn ports(ranges: &[(Protocol, u16, u16)]) -> Ports {
    let range = |&(protocol, first, last): &_| PortRange {
        protocol,
        first,
        last,
    };
    Ports::Some(ranges.iter().map(range).collect())
}

fn bonds(ways: &[Way]) -> Bonds {
    let bound = |way| ways.contains(&way).then_some(GROUP);
    Bonds {
        ingress: bound(Way::In),
        egress: bound(Way::Out),
    }
}

/// Pod 0 is bound to one rule with these members, in place of whatever there was.
fn bind(world: &World, rule: Rule, members: &[usize]) -> Change {
    let way = rule.way;
    let address = |n: &usize| ((RULE, world.pods[*n].1), true);
    Change {
        anew: true,
        rules: [(RULE, Turn::New(rule))].into(),
        members: members.iter().map(address).collect(),
        groups: [(GROUP, Turn::New([RULE].into()))].into(),
        pods: [(world.pods[0].1, (Bonds::default(), bonds(&[way])))].into(),
        ..Change::default()
    }
}

fn carry_out(policies: &Policies, change: Change) {
    block_on(policies.change(change)).expect("carries out");
}

/// What becomes of a connection from a Pod: the number of who answers.
fn reach(world: &World, from: usize, to: IpAddr, port: u16) -> Result<usize> {
    let to = SocketAddr::new(to, port);
    let asked = inside(&world.pods[from].0, move || {
        TcpStream::connect(to).map(|stream| greeting(&stream).0)
    });
    asked.join().expect("asks")
}

#[track_caller]
fn is_refused(result: Result<usize>) {
    let error = result.expect_err("is refused");
    // What programs are told by ICMP and by ICMPv6.
    let told = [ErrorKind::HostUnreachable, ErrorKind::PermissionDenied];
    assert!(told.contains(&error.kind()), "{error}");
}

/// Pods that answer at a second port as well.
fn world(config: &Config, pods: usize) -> (World, Policies) {
    let world = World::new(config, pods);
    for (n, (netns, address)) in world.pods.iter().enumerate() {
        answer(netns, SocketAddr::new(*address, OTHER), n);
    }
    let policies = world.network.policies().expect("is ready");
    (world, policies)
}

#[test]
fn a_bound_pod_receives_what_rules_let_in() {
    with_and_without_bridge_filter(|config| {
        let (world, policies) = world(config, 3);
        let (front, bound) = (world.front(80), world.pods[0].1);
        world.all([(front, world.to(&[0]))]);
        let change = bind(&world, members(Way::In), &[1]);
        carry_out(&policies, change);

        assert_eq!(reach(&world, 1, bound, HTTP).expect("is let in"), 0);
        is_refused(reach(&world, 2, bound, HTTP));
        let asked = TcpStream::connect((bound, HTTP)).expect("the node is let in");
        assert_eq!(greeting(&asked).0, 0);
        assert_eq!(reach(&world, 0, world.pods[2].1, HTTP).expect("is free"), 2);
        assert_eq!(reach(&world, 1, world.pods[2].1, HTTP).expect("is free"), 2);
        // As the backend of a front, by the client's own address.
        let nat::Address::Ip(address) = front.address else {
            panic!("no address");
        };
        assert_eq!(reach(&world, 1, address, 80).expect("is let in"), 0);
        is_refused(reach(&world, 2, address, 80));
        assert_eq!(reach(&world, 0, address, 80).expect("reaches itself"), 0);
    });
}

#[test]
fn a_bound_pod_sends_what_rules_let_out() {
    with_and_without_bridge_filter(|config| {
        let (world, policies) = world(config, 3);
        let front = world.front(80);
        world.all([(front, world.to(&[2]))]);
        let change = bind(&world, members(Way::Out), &[1]);
        carry_out(&policies, change);

        let [bound, one, two] = [0, 1, 2].map(|n: usize| world.pods[n].1);
        assert_eq!(reach(&world, 0, one, HTTP).expect("is let out"), 1);
        is_refused(reach(&world, 0, two, HTTP));
        let nat::Address::Ip(address) = front.address else {
            panic!("no address");
        };
        is_refused(reach(&world, 0, address, 80));
        assert_eq!(reach(&world, 2, bound, HTTP).expect("is let in"), 0);
        let gateway = world.network.gateways()[0];
        answer(&own_netns(), SocketAddr::new(gateway, 6443), 9);
        let node = reach(&world, 0, gateway, 6443);
        assert_eq!(node.expect("its node is always reached"), 9);
    });
}

#[test]
fn rules_tell_ports_apart() {
    on_nodes(|config| {
        let (world, policies) = world(config, 2);
        world.answer_datagrams();
        let bound = world.pods[0].1;
        let udp = |port| {
            let front = nat::Front {
                address: bound.into(),
                protocol: Protocol::Udp,
                port,
            };
            let asked = inside(&world.pods[1].0, move || {
                let socket = datagrams_to(front);
                // The kernel does not tell of every datagram that it refuses.
                socket.set_read_timeout(Some(Duration::from_millis(300)))?;
                socket.send(b"hello")?;
                socket.recv(&mut [0; 8])
            });
            asked.join().expect("asks")
        };
        let door = Door {
            address: bound,
            protocol: Protocol::Tcp,
            port: OTHER,
        };
        for (given, doors, http, other, datagrams) in [
            (Ports::Any, &[][..], true, true, true),
            (ports(&[]), &[], false, false, false),
            (
                ports(&[(Protocol::Tcp, HTTP, HTTP)]),
                &[],
                true,
                false,
                false,
            ),
            (
                ports(&[(Protocol::Tcp, HTTP + 1, u16::MAX)]),
                &[],
                false,
                true,
                false,
            ),
            (
                ports(&[(Protocol::Tcp, 0, u16::MAX)]),
                &[],
                true,
                true,
                false,
            ),
            (
                ports(&[(Protocol::Udp, HTTP, HTTP)]),
                &[],
                false,
                false,
                true,
            ),
            (
                ports(&[(Protocol::Sctp, 0, u16::MAX)]),
                &[],
                false,
                false,
                false,
            ),
            (
                ports(&[
                    (Protocol::Tcp, 1, HTTP - 1),
                    (Protocol::Tcp, HTTP, HTTP),
                    (Protocol::Udp, 1, u16::MAX),
                ]),
                &[],
                true,
                false,
                true,
            ),
            (ports(&[]), &[door], false, true, false),
        ] {
            for peers in [Peers::Any, Peers::Some(BTreeSet::new())] {
                let rule = Rule {
                    way: Way::In,
                    ports: given.clone(),
                    peers,
                };
                let case = format!("{rule:?} {doors:?}");
                let is_any = rule.peers == Peers::Any;
                let change = Change {
                    doors: doors.iter().map(|door| ((RULE, *door), true)).collect(),
                    ..bind(&world, rule, if is_any { &[] } else { &[1] })
                };
                carry_out(&policies, change);
                assert_eq!(reach(&world, 1, bound, HTTP).is_ok(), http, "{case}");
                assert_eq!(reach(&world, 1, bound, OTHER).is_ok(), other, "{case}");
                assert_eq!(udp(HTTP).is_ok(), datagrams, "{case}");
            }
        }
    });
}

#[test]
fn blocks_are_without_their_exceptions() {
    on_nodes(|config| {
        let (world, policies) = world(config, 2);
        let (bound, client) = (world.pods[0].1, world.pods[1].1);
        let alone =
            |ip: IpAddr| nat::IpRange::new(ip, by_family(config, 32, 128)).expect("a range");
        let all = by_family(config, "0.0.0.0/0", "::/0")
            .parse()
            .expect("a range");
        for (blocks, is_in) in [
            (vec![(all, vec![])], true),
            (vec![(alone(client), vec![])], true),
            (vec![(alone(bound), vec![])], false),
            (vec![(all, vec![alone(client)])], false),
            (
                vec![(all, vec![alone(client)]), (alone(client), vec![])],
                true,
            ),
            (
                vec![(
                    by_family(config, "192.0.2.0/24", "2001:db8::/32")
                        .parse()
                        .expect("a range"),
                    vec![],
                )],
                false,
            ),
        ] {
            let block = |(range, except): &(nat::IpRange, Vec<nat::IpRange>)| Block {
                range: *range,
                except: except.iter().copied().collect(),
            };
            let rule = Rule {
                peers: Peers::Some(blocks.iter().map(block).collect()),
                ..members(Way::In)
            };
            let change = bind(&world, rule, &[]);
            carry_out(&policies, change);
            assert_eq!(reach(&world, 1, bound, HTTP).is_ok(), is_in, "{blocks:?}");
        }
    });
}

#[test]
fn changes_touch_what_they_are_about() {
    on_nodes(|config| {
        let (world, policies) = world(config, 3);
        let bound = world.pods[0].1;
        let change = bind(&world, members(Way::In), &[]);
        carry_out(&policies, change);
        is_refused(reach(&world, 1, bound, HTTP));

        let member = |is_in| Change {
            members: [((RULE, world.pods[1].1), is_in)].into(),
            ..Change::default()
        };
        carry_out(&policies, member(true));
        reach(&world, 1, bound, HTTP).expect("is a member now");
        carry_out(&policies, member(false));
        is_refused(reach(&world, 1, bound, HTTP));

        // Another rule beside it, in a group of both.
        let (rule, group) = (RuleId(8), GroupId(4));
        let after = Bonds {
            ingress: Some(group),
            egress: None,
        };
        let change = Change {
            rules: [(rule, Turn::New(members(Way::In)))].into(),
            members: [((rule, world.pods[2].1), true)].into(),
            groups: BTreeMap::from([
                (GROUP, Turn::Gone([RULE].into())),
                (group, Turn::New([RULE, rule].into())),
            ]),
            pods: [(bound, (bonds(&[Way::In]), after))].into(),
            ..Change::default()
        };
        carry_out(&policies, change);
        is_refused(reach(&world, 1, bound, HTTP));
        reach(&world, 2, bound, HTTP).expect("is let in by the second rule");

        let gone = Change {
            rules: BTreeMap::from([
                (RULE, Turn::Gone(members(Way::In))),
                (rule, Turn::Gone(members(Way::In))),
            ]),
            groups: [(group, Turn::Gone([RULE, rule].into()))].into(),
            pods: [(bound, (after, Bonds::default()))].into(),
            ..Change::default()
        };
        carry_out(&policies, gone);
        reach(&world, 1, bound, HTTP).expect("all is open");
    });
}

#[test]
fn what_is_there_goes_on_and_an_engine_takes_over() {
    with_and_without_bridge_filter(|config| {
        let (world, policies) = world(config, 3);
        let bound = world.pods[0].1;
        let stream = inside(&world.pods[2].0, move || {
            let stream = TcpStream::connect((bound, HTTP)).expect("connects");
            greeting(&stream);
            stream
        });
        let stream = stream.join().expect("connects");
        let nothing = bind(&world, members(Way::In), &[]);
        carry_out(&policies, nothing.clone());
        is_refused(reach(&world, 2, bound, HTTP));
        assert_eq!(crate::services::echo(&stream, "still"), "still");

        // The engine ends, and the next one finds the table in force.
        drop(policies);
        let next = Network::open(config).expect("opens again");
        is_refused(reach(&world, 2, bound, HTTP));
        let policies = next.policies().expect("is ready");
        let unknown = block_on(policies.change(Change::default()));
        unknown.expect_err("nothing is known yet");
        carry_out(&policies, bind(&world, members(Way::In), &[1]));
        reach(&world, 1, bound, HTTP).expect("is let in");
        is_refused(reach(&world, 2, bound, HTTP));
        assert_eq!(crate::services::echo(&stream, "and on"), "and on");

        // The last policy goes, twice.
        for _ in 0..2 {
            let open = Change {
                anew: true,
                ..Change::default()
            };
            carry_out(&policies, open);
            reach(&world, 2, bound, HTTP).expect("all is open");
        }
        carry_out(&policies, nothing);
        next.remove(config).expect("removes");
    });
}

#[test]
fn a_change_that_cannot_be_is_not_carried_out_by_half() {
    on_nodes(|config| {
        let (world, policies) = world(config, 2);
        let bound = world.pods[0].1;
        carry_out(&policies, bind(&world, members(Way::In), &[]));
        let wrong = Change {
            members: BTreeMap::from([
                ((RULE, world.pods[1].1), true),
                ((RuleId(99), world.pods[1].1), true),
            ]),
            ..Change::default()
        };
        block_on(policies.change(wrong)).expect_err("no such rule");
        is_refused(reach(&world, 1, bound, HTTP));
        let one = Change {
            members: [((RULE, world.pods[1].1), true)].into(),
            ..Change::default()
        };
        block_on(policies.change(one)).expect_err("nothing is known any more");
        carry_out(&policies, bind(&world, members(Way::In), &[1]));
        reach(&world, 1, bound, HTTP).expect("is let in");
    });
}

#[test]
fn thousands_of_pods_fit_and_one_more_costs_little() {
    on_nodes(|config| {
        let (world, policies) = world(config, 2);
        let range = by_family(config, "10.9.0.0/16", "fd00:9::/64");
        let range: nat::IpRange = range.parse().expect("a range");
        let address = |n: u128| range.nth(n).expect("an address");
        let mut change = bind(&world, members(Way::In), &[1]);
        for n in 0..20_000 {
            change.members.insert((RULE, address(n)), true);
            let both = (Bonds::default(), bonds(&[Way::In, Way::Out]));
            change.pods.insert(address(n), both);
        }
        carry_out(&policies, change);
        reach(&world, 1, world.pods[0].1, HTTP).expect("is let in");
        let one = Change {
            members: [((RULE, address(20_000)), true)].into(),
            ..Change::default()
        };
        let since = Instant::now();
        carry_out(&policies, one);
        let took = since.elapsed();
        assert!(took.as_millis() < 500, "{took:?}");
        let front = SocketAddr::new(world.pods[0].1, HTTP);
        TcpStream::connect(front).expect("the node is let in");
    });
}
