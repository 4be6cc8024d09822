//! Traffic to addresses of the node: from others, from Pods and from the node itself.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nat::{Address, Change, Family, Front, Outside, Protocol, Redirect};
use network::{Config, Network};

use crate::node::*;
use crate::services::*;

const PORT: u16 = 30080;

/// Machines of a network that the node has a foot in.
pub(crate) struct Neighbours {
    /// The node's address there.
    pub(crate) node: IpAddr,
    pub(crate) machines: Vec<(OwnedFd, IpAddr)>,
    _network: Network,
}

impl Neighbours {
    /// A second bridge of a node whose own is there. As that range is part of this one, the neighbours keep their addresses.
    pub(crate) fn new(config: &Config) -> Neighbours {
        let network = Network::open(&Config {
            state_dir: config.state_dir.join("neighbours"),
            bridge: Some("neighbours0".into()),
            is_taken: |_| false,
            node_ip: None,
            pod_ranges: Some(
                by_family(config, "10.0.0.0/8", "fd00:10::/32")
                    .parse()
                    .expect("a range"),
            ),
        })
        .expect("opens");
        let machines = (0..2).map(|n| {
            let netns = new_netns();
            let ip = attach(&network, &format!("neighbour{n}"), &netns);
            answer(&netns, SocketAddr::new(ip, HTTP), 10 + n);
            (netns, ip)
        });
        Neighbours {
            machines: machines.collect(),
            node: network.gateways()[0],
            _network: network,
        }
    }

    /// Asks from the first: who answers, and whom it saw.
    pub(crate) fn ask(&self, front: Front) -> Result<(usize, IpAddr), Error> {
        // What a new link loses is sent again after a second.
        self.ask_within(at(front), Duration::from_secs(3))
    }

    /// The same with an end to its patience.
    pub(crate) fn ask_within(
        &self,
        to: SocketAddr,
        patience: Duration,
    ) -> Result<(usize, IpAddr), Error> {
        let asked = inside(&self.machines[0].0, move || {
            let stream = TcpStream::connect_timeout(&to, patience)?;
            Ok(greeting(&stream))
        });
        asked.join().expect("asks")
    }
}

pub(crate) fn on_node(config: &Config, protocol: Protocol) -> Front {
    Front {
        address: Address::Node(by_family(config, Family::V4, Family::V6)),
        protocol,
        port: PORT,
    }
}

pub(crate) fn on(ip: IpAddr) -> Front {
    Front {
        address: ip.into(),
        protocol: Protocol::Tcp,
        port: PORT,
    }
}

impl World {
    pub(crate) fn open_to(&self, pods: &[usize], outside: Outside) -> Redirect {
        Redirect {
            outside,
            ..self.to(pods)
        }
    }
}

#[test]
fn everybody_reaches_the_pods_behind_a_port_of_the_node() {
    on_nodes(|config| {
        let world = World::new(config, 2);
        let neighbours = Neighbours::new(config);
        let gateway = world.network.gateways()[0];
        world.all([(
            on_node(config, Protocol::Tcp),
            world.open_to(&[0], Outside::Same),
        )]);
        for ip in [neighbours.node, gateway] {
            let seen = neighbours.ask(on(ip)).expect("is answered");
            let neighbour = neighbours.machines[0].1;
            assert_eq!(seen, (0, neighbour), "a neighbour keeps its address");
            assert_eq!(world.ask_in(1, on(ip)), (0, world.pods[1].1), "and a Pod");
            assert_eq!(world.ask_in(0, on(ip)), (0, gateway), "a Pod asks itself");
            assert_eq!(ask(on(ip)).expect("is answered"), (0, ip), "from the node");
        }
        let refused = ask(on(Ipv4Addr::LOCALHOST.into())).expect_err("not on loopback");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let other = neighbours.machines[1].1;
        let refused = neighbours.ask(on(other)).expect_err("it is not the node");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_port_that_nobody_is_behind_is_refused_to_everybody() {
    on_nodes(|config| {
        let world = World::new(config, 1);
        let neighbours = Neighbours::new(config);
        let node = on(neighbours.node);
        // Somebody listens there, who is reached while the port is no front.
        answer(&own_netns(), at(node), 7);
        assert_eq!(neighbours.ask(node).expect("is answered").0, 7);
        let refused = || {
            let answers = [
                neighbours.ask(node),
                ask(node),
                inside(&world.pods[0].0, move || ask(node))
                    .join()
                    .expect("asks"),
            ];
            for answer in answers {
                let refused = answer.expect_err("is refused");
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            }
        };
        let front = on_node(config, Protocol::Tcp);
        world.all([(front, world.open_to(&[], Outside::Same))]);
        refused();
        world.set(front, world.open_to(&[0], Outside::Same));
        assert_eq!(neighbours.ask(node).expect("is answered").0, 0);
        world.set(front, world.open_to(&[], Outside::Only(BTreeSet::new())));
        refused();
        world.change(Change::Some {
            set: [].into(),
            gone: [front].into(),
        });
        assert_eq!(neighbours.ask(node).expect("is answered").0, 7);
    });
}

#[test]
fn others_are_sent_where_they_may_go_only() {
    on_nodes(|config| {
        let world = World::new(config, 3);
        let neighbours = Neighbours::new(config);
        let node = on(neighbours.node);
        let front = on_node(config, Protocol::Tcp);
        let only = |pods: &[usize]| Outside::Only(world.to(pods).backends);
        let chosen = |ask: &dyn Fn() -> usize| (0..30).map(|_| ask()).collect::<BTreeSet<_>>();
        let from_outside = || chosen(&|| neighbours.ask(node).expect("is answered").0);
        let from_pod = || chosen(&|| world.ask_in(2, node).0);

        world.all([(front, world.open_to(&[0, 1], only(&[1])))]);
        assert_eq!((from_outside(), from_pod()), ([1].into(), [0, 1].into()));
        world.set(front, world.open_to(&[0, 1], Outside::Same));
        assert_eq!((from_outside(), from_pod()), ([0, 1].into(), [0, 1].into()));
        world.set(front, world.open_to(&[0, 1], only(&[])));
        let silence = neighbours.ask(node).expect_err("no answer");
        assert_eq!(silence.kind(), ErrorKind::TimedOut);
        assert_eq!(from_pod(), [0, 1].into());
        assert_eq!(chosen(&|| ask(node).expect("is answered").0), [0, 1].into());

        let cluster = world.front(80);
        world.set(
            cluster,
            Redirect {
                unserved: nat::Unserved::Drop,
                ..Redirect::default()
            },
        );
        let silence = inside(&world.pods[0].0, move || {
            TcpStream::connect_timeout(&at(cluster), Duration::from_millis(300))
        });
        let silence = silence.join().expect("asks").expect_err("no answer");
        assert_eq!(silence.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn answers_of_backends_elsewhere_come_back_by_the_node() {
    on_nodes(|config| {
        let world = World::new(config, 1);
        let neighbours = Neighbours::new(config);
        let backend = SocketAddr::new(neighbours.machines[1].1, HTTP);
        let redirect = Redirect {
            backends: [backend].into(),
            outside: Outside::Same,
            ..Redirect::default()
        };
        let cluster = world.front(80);
        world.all([
            (on_node(config, Protocol::Tcp), redirect.clone()),
            (cluster, redirect),
        ]);
        let seen = (11, neighbours.node);
        let node = on(neighbours.node);
        assert_eq!(neighbours.ask(node).expect("is answered"), seen);
        for front in [node, cluster] {
            assert_eq!(world.ask_in(0, front), seen);
            assert_eq!(ask(front).expect("is answered"), seen);
        }
    });
}

#[test]
fn a_client_of_a_port_stays_with_its_backend() {
    on_nodes(|config| {
        let world = World::new(config, 4);
        let neighbours = Neighbours::new(config);
        let node = on(neighbours.node);
        for outside in [
            Outside::Same,
            Outside::Only(world.to(&[0, 1, 2, 3]).backends),
        ] {
            let sticky = Redirect {
                affinity: Some(60),
                ..world.open_to(&[0, 1, 2, 3], outside)
            };
            world.all([(on_node(config, Protocol::Tcp), sticky)]);
            let first = neighbours.ask(node).expect("is answered").0;
            for _ in 0..10 {
                assert_eq!(neighbours.ask(node).expect("is answered").0, first);
            }
        }
    });
}

#[test]
fn datagrams_that_went_to_the_node_itself_go_to_backends_once_there_are_some() {
    on_nodes(|config| {
        let world = World::new(config, 2);
        world.answer_datagrams();
        let neighbours = Neighbours::new(config);
        let front = on_node(config, Protocol::Udp);
        let to = Front {
            address: neighbours.node.into(),
            ..front
        };
        world.all([]);
        let client = inside(&neighbours.machines[0].0, move || datagrams_to(to));
        let client = client.join().expect("connects");
        let answered = || {
            client.send(b"who").expect("sends");
            let mut number = [9];
            client.recv(&mut number).map(|_| number[0])
        };
        assert_eq!(refusal(&client), ErrorKind::ConnectionRefused);
        let patience = Some(Duration::from_secs(5));
        client.set_read_timeout(patience).expect("sets a time-out");
        world.set(front, world.open_to(&[0], Outside::Same));
        assert_eq!(answered().expect("is answered"), 0);
        world.set(front, world.open_to(&[1], Outside::Same));
        assert_eq!(answered().expect("is answered"), 1);
        world.set(front, world.open_to(&[], Outside::Same));
        answered().expect_err("nobody is behind it");
    });
}

#[test]
fn of_two_engines_the_older_has_a_port_however_often_it_starts_anew() {
    on_nodes(|config| {
        let other = Config {
            state_dir: config.state_dir.join("other"),
            bridge: None,
            is_taken: |_| false,
            node_ip: None,
            pod_ranges: by_family(config, None, Some("fd00:10:245::/64"))
                .map(|ranges| ranges.parse().expect("a range")),
        };
        let (older, newer) = (World::new(config, 2), World::new(&other, 1));
        let node = on(newer.network.gateways()[0]);
        let front = on_node(config, Protocol::Tcp);
        let old = || [(front, older.open_to(&[0, 1], Outside::Same))];
        let new = || [(front, newer.open_to(&[0], Outside::Same))];
        newer.all(new());
        assert_eq!(ask(node).expect("is answered").1, at(node).ip().to_owned());
        let older_answers = || {
            // Only the older engine has a Pod of this number.
            let chosen: BTreeSet<usize> = (0..30).map(|_| ask(node).expect("answered").0).collect();
            assert_eq!(chosen, [0, 1].into());
        };
        older.all(old());
        older_answers();
        newer.all(new());
        older_answers();
        older.network.remove(config).expect("removes");
        let chosen: BTreeSet<usize> = (0..30).map(|_| ask(node).expect("answered").0).collect();
        assert_eq!(chosen, [0].into(), "the newer's, when the older is gone");
    });
}

#[test]
fn clients_of_some_ranges_are_served_and_others_get_no_answer() {
    on_nodes(|config| {
        let world = World::new(config, 2);
        let neighbours = Neighbours::new(config);
        let node = on(neighbours.node);
        let of = |ranges: &[String]| Redirect {
            sources: ranges.iter().map(|r| r.parse().expect("a range")).collect(),
            ..world.open_to(&[0], Outside::Same)
        };
        let alone = by_family(config, 32, 128);
        let neighbour = format!("{}/{alone}", neighbours.machines[0].1);
        let pods = world.network.pod_ranges().to_string();
        let from_pod = || {
            let asked = inside(&world.pods[1].0, move || {
                TcpStream::connect_timeout(&at(node), Duration::from_secs(1)).map(drop)
            });
            asked.join().expect("asks").map_err(|error| error.kind())
        };
        world.all([(
            node,
            of(&[
                neighbour.clone(),
                by_family(config, "192.0.2.0/24", "2001:db8::/32").into(),
            ]),
        )]);
        assert_eq!(neighbours.ask(node).expect("is answered").0, 0);
        assert_eq!(from_pod(), Err(ErrorKind::TimedOut));
        world.set(node, of(&[pods]));
        let silence = neighbours.ask(node).expect_err("no answer");
        assert_eq!(silence.kind(), ErrorKind::TimedOut);
        assert_eq!(from_pod(), Ok(()));
        world.set(
            node,
            of(&[
                by_family(config, "0.0.0.0/1", "::/1").into(),
                neighbour,
                by_family(config, "128.0.0.0/1", "8000::/1").into(),
            ]),
        );
        assert_eq!(neighbours.ask(node).expect("is answered").0, 0);
        assert_eq!(from_pod(), Ok(()));
    });
}

#[test]
fn addresses_nobody_has_lead_where_they_are_redirected() {
    on_nodes(|config| {
        let world = World::new(config, 2);
        let neighbours = Neighbours::new(config);
        let front = on(by_family(config, "10.200.0.9", "fd00:10:200::9")
            .parse()
            .expect("an address"));
        world.all([(front, world.open_to(&[0], Outside::Same))]);
        assert_eq!(neighbours.ask(front).expect("is answered").0, 0);
        assert_eq!(world.ask_in(1, front).0, 0);
        assert_eq!(ask(front).expect("is answered").0, 0);
        world.set(front, world.open_to(&[], Outside::Same));
        let refused = [
            neighbours.ask(front),
            ask(front),
            inside(&world.pods[0].0, move || ask(front))
                .join()
                .expect("asks"),
        ];
        for answer in refused {
            let refused = answer.expect_err("is refused");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn a_port_on_loopback_is_for_the_node_alone() {
    on_a_node(|config| {
        let world = World::new(config, 2);
        let loopback = on(Ipv4Addr::LOCALHOST.into());
        world.all([(loopback, world.to(&[0]))]);
        let gateway = world.network.gateways()[0];
        assert_eq!(ask(loopback).expect("is answered"), (0, gateway));
        // A Pod whose own loopback is down sends to the node what is for loopback, and takes answers from there if it wants to.
        let of_pod = inside(&world.pods[1].0, move || {
            let setting = "/proc/sys/net/ipv4/conf/all/route_localnet";
            std::fs::write(setting, "1").expect("is set");
            TcpStream::connect_timeout(&at(loopback), Duration::from_millis(300))
        });
        let silence = of_pod.join().expect("asks").expect_err("no answer");
        assert_eq!(silence.kind(), ErrorKind::TimedOut);
    });
}
