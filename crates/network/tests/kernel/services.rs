//! Traffic that is sent elsewhere than it is addressed to.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nat::{Address, Change, Family, Front, Protocol, Redirect, Table};
use network::{Config, Network, Services};
use ports::network::Redirects;

use crate::node::*;

pub(crate) const HTTP: u16 = 8080;

/// Nodes of a test, each a Pod that answers each connection with its number and the client's address.
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) services: Services,
    pub(crate) pods: Vec<(OwnedFd, IpAddr)>,
}

impl World {
    pub(crate) fn new(config: &Config, pods: usize) -> World {
        let network = Network::open(config).expect("opens");
        let services = network.services(None).expect("serves");
        let pods = (0..pods).map(|n| {
            let netns = new_netns();
            let address = attach(&network, &format!("{n}{}pod", network.bridge()), &netns);
            answer(&netns, SocketAddr::new(address, HTTP), n);
            (netns, address)
        });
        World {
            pods: pods.collect(),
            network,
            services,
        }
    }

    pub(crate) fn front(&self, port: u16) -> Front {
        Front {
            address: self
                .services
                .ranges()
                .primary()
                .nth(300)
                .expect("an address")
                .into(),
            protocol: Protocol::Tcp,
            port,
        }
    }

    pub(crate) fn to(&self, pods: &[usize]) -> Redirect {
        let backends = pods.iter().map(|n| SocketAddr::new(self.pods[*n].1, HTTP));
        Redirect {
            backends: backends.collect(),
            ..Redirect::default()
        }
    }

    pub(crate) fn all(&self, table: impl Into<Table>) {
        self.change(Change::All(table.into()));
    }

    pub(crate) fn set(&self, front: Front, redirect: Redirect) {
        self.change(Change::Some {
            set: [(front, redirect)].into(),
            gone: BTreeSet::new(),
        });
    }

    pub(crate) fn change(&self, change: Change) {
        block_on(self.services.change(change)).expect("changes");
    }

    /// Each Pod answers datagrams with its number.
    pub(crate) fn answer_datagrams(&self) {
        for (number, (netns, address)) in self.pods.iter().enumerate() {
            let listen = SocketAddr::new(*address, HTTP);
            let socket = inside(netns, move || UdpSocket::bind(listen).expect("binds"));
            let socket = socket.join().expect("binds");
            std::thread::spawn(move || {
                while let Ok((_, peer)) = socket.recv_from(&mut [0; 8]) {
                    let _ = socket.send_to(&[number as u8], peer);
                }
            });
        }
    }

    /// Asks from a Pod: which one answers, and whom it saw.
    pub(crate) fn ask_in(&self, pod: usize, front: Front) -> (usize, IpAddr) {
        let asked = inside(&self.pods[pod].0, move || ask(front));
        asked.join().expect("asks").expect("is answered")
    }
}

pub(crate) fn answer(netns: &OwnedFd, listen: SocketAddr, number: usize) {
    let (ready, listening) = std::sync::mpsc::channel();
    inside(netns, move || {
        let listener = TcpListener::bind(listen).expect("listens");
        ready.send(()).expect("tells");
        while let Ok((mut stream, peer)) = listener.accept() {
            // Each client is served until it has gone, whatever becomes of the others.
            std::thread::spawn(move || {
                let _ = writeln!(stream, "{number} {}", peer.ip());
                let _ = std::io::copy(&mut stream.try_clone().expect("a stream"), &mut stream);
            });
        }
    });
    listening.recv().expect("listens");
}

pub(crate) fn at(front: Front) -> SocketAddr {
    match front.address {
        Address::Ip(ip) => SocketAddr::new(ip, front.port),
        Address::Node(_) => panic!("any address of the node"),
    }
}

pub(crate) fn ask(front: Front) -> std::io::Result<(usize, IpAddr)> {
    let stream = TcpStream::connect(at(front))?;
    Ok(greeting(&stream))
}

pub(crate) fn greeting(mut stream: &TcpStream) -> (usize, IpAddr) {
    let (mut line, mut byte) = (String::new(), [0]);
    while !line.ends_with('\n') && stream.read(&mut byte).expect("reads") == 1 {
        line.push(byte[0].into());
    }
    let (number, peer) = line.trim().split_once(' ').expect("a greeting");
    (
        number.parse().expect("a number"),
        peer.parse().expect("an address"),
    )
}

/// A sender of datagrams that does not wait for ever.
pub(crate) fn datagrams_to(front: Front) -> UdpSocket {
    let any = match front.address.family() {
        Family::V4 => "0.0.0.0:0",
        Family::V6 => "[::]:0",
    };
    let socket = UdpSocket::bind(any).expect("binds");
    let patience = Some(Duration::from_secs(5));
    socket.set_read_timeout(patience).expect("sets a time-out");
    socket.connect(at(front)).expect("connects");
    socket
}

/// What a sender is told of its datagram, which it sends again while it hears nothing: a new link loses what comes too soon.
pub(crate) fn refusal(socket: &UdpSocket) -> ErrorKind {
    let patience = Some(Duration::from_millis(500));
    socket.set_read_timeout(patience).expect("sets a time-out");
    let ask = || {
        let sent = socket.send(b"hello");
        let received = sent.and_then(|_| socket.recv(&mut [0; 8]));
        received.expect_err("is refused").kind()
    };
    let mut told = (0..10).map(|_| ask());
    told.find(|kind| *kind != ErrorKind::WouldBlock)
        .expect("is told")
}

/// What the stream's other end sends back.
pub(crate) fn echo(mut stream: &TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).expect("writes");
    let mut bytes = vec![0; text.len()];
    stream.read_exact(&mut bytes).expect("reads");
    String::from_utf8(bytes).expect("text")
}

/// On a node whose bridges let their frames through the firewall (br_netfilter), where the kernel can, and on one where they do not.
pub(crate) fn with_and_without_bridge_filter(test: fn(&Config)) {
    for setting in ["0", "1"] {
        on_nodes(move |config| {
            let name = by_family(config, "iptables", "ip6tables");
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{name}");
            let set = std::fs::write(path, setting);
            // Without that module they do not.
            if set.is_ok() || setting == "0" {
                test(config);
            }
        });
    }
}

#[test]
fn pods_and_the_node_reach_the_pods_behind_a_front() {
    with_and_without_bridge_filter(|config| {
        let world = World::new(config, 3);
        let front = world.front(80);
        world.all([(front, world.to(&[0, 1]))]);
        let chosen = |n: &mut dyn FnMut() -> usize| (0..40).map(|_| n()).collect::<BTreeSet<_>>();

        let client = world.pods[2].1;
        let from_pod = chosen(&mut || {
            let (pod, seen) = world.ask_in(2, front);
            assert_eq!(seen, client, "a Pod is seen under its own address");
            pod
        });
        assert_eq!(from_pod, [0, 1].into(), "chosen by chance");
        let from_node = chosen(&mut || ask(front).expect("is answered").0);
        assert_eq!(from_node, [0, 1].into(), "from the node");
    });
}

#[test]
fn a_pod_reaches_itself_through_a_front() {
    with_and_without_bridge_filter(|config| {
        let world = World::new(config, 1);
        let front = world.front(80);
        world.all([(front, world.to(&[0]))]);
        let (pod, seen) = world.ask_in(0, front);
        assert_eq!((pod, seen), (0, world.network.gateways()[0]));
    });
}

#[test]
fn programs_of_the_node_can_be_behind_a_front() {
    on_nodes(|config| {
        let world = World::new(config, 1);
        let gateway = world.network.gateways()[0];
        answer(&own_netns(), SocketAddr::new(gateway, 6443), 7);
        let front = world.front(443);
        let to = Redirect {
            backends: [SocketAddr::new(gateway, 6443)].into(),
            ..Redirect::default()
        };
        world.all([(front, to)]);
        assert_eq!(world.ask_in(0, front), (7, world.pods[0].1));
        assert_eq!(ask(front).expect("is answered").0, 7);
    });
}

#[test]
fn what_nobody_is_behind_is_refused_at_once() {
    with_and_without_bridge_filter(|config| {
        let world = World::new(config, 2);
        let (front, empty) = (world.front(80), world.front(81));
        let unknown = Front {
            address: world
                .services
                .ranges()
                .primary()
                .nth(999)
                .expect("an address")
                .into(),
            ..front
        };
        let refused = |front: Front| {
            let tcp = move || ask(front).expect_err("is refused").kind();
            let udp = move || refusal(&datagrams_to(front));
            let from_node = [tcp(), udp()];
            // What the node's own rules keep from leaving is told to the sender by the call.
            let told = [ErrorKind::ConnectionRefused, ErrorKind::PermissionDenied];
            assert_eq!(from_node, told, "{front}");
            let pod = &world.pods[0].0;
            let from_pod =
                [inside(pod, tcp), inside(pod, udp)].map(|asked| asked.join().expect("asks"));
            assert_eq!(from_pod, [ErrorKind::ConnectionRefused; 2], "{front}");
        };
        world.all([(front, world.to(&[1])), (empty, Redirect::default())]);
        refused(empty);
        refused(unknown);
        assert_eq!(world.ask_in(0, front).0, 1);

        world.set(front, Redirect::default());
        refused(front);
        world.set(front, world.to(&[0]));
        assert_eq!(world.ask_in(1, front).0, 0);
        world.change(Change::Some {
            set: Table::new(),
            gone: [front, empty].into(),
        });
        refused(front);
    });
}

#[test]
fn a_client_stays_with_its_backend_while_that_is_one() {
    on_nodes(|config| {
        let world = World::new(config, 4);
        let front = world.front(80);
        let sticky = |pods: &[usize]| Redirect {
            affinity: Some(60),
            ..world.to(pods)
        };
        let stays = |pod: usize| {
            let first = world.ask_in(pod, front).0;
            for _ in 0..10 {
                assert_eq!(world.ask_in(pod, front).0, first);
            }
            first
        };
        world.all([(front, sticky(&[0, 1, 2]))]);
        let first = stays(3);
        // More of them, then all but this one, change nothing for the client.
        world.set(front, sticky(&[0, 1, 2, 3]));
        assert_eq!(stays(3), first);
        world.set(front, sticky(&[first]));
        assert_eq!(stays(3), first);
        let others: Vec<usize> = (0..3).filter(|pod| *pod != first).collect();
        world.set(front, sticky(&others));
        let second = stays(3);
        assert!(others.contains(&second));
        world.set(front, sticky(&[0, 1, 2, 3]));
        assert_eq!(stays(3), second, "its new one is remembered too");

        world.set(front, world.to(&[0, 1, 2]));
        let chosen: BTreeSet<usize> = (0..40).map(|_| world.ask_in(3, front).0).collect();
        assert_eq!(chosen, [0, 1, 2].into(), "without affinity");
        world.change(Change::Some {
            set: [(front, sticky(&[0]))].into(),
            gone: BTreeSet::new(),
        });
        assert_eq!(stays(3), 0);
        world.set(front, Redirect::default());
    });
}

#[test]
fn connections_outlive_changes_and_the_engine() {
    on_nodes(|config| {
        let world = World::new(config, 2);
        let (front, other) = (world.front(80), world.front(81));
        world.all([(front, world.to(&[0]))]);
        let node = own_netns();
        let stream = inside(&world.pods[1].0, move || {
            let stream = TcpStream::connect(at(front)).expect("connects");
            greeting(&stream);
            stream
        });
        let stream = stream.join().expect("connects");
        let goes_on = |when: &str| assert_eq!(echo(&stream, when), when);

        world.set(other, world.to(&[1]));
        world.set(front, world.to(&[1]));
        goes_on("the backend is another");

        // The engine ends; its table stays until another's first change.
        let World {
            network,
            services,
            pods,
        } = world;
        drop((network, services));
        goes_on("no engine");
        let asked = inside(&node, move || ask(other).expect("is answered").0);
        assert_eq!(asked.join().expect("asks"), 1, "without an engine");

        let network = Network::open(config).expect("opens again");
        let services = network.services(None).expect("serves");
        let known = block_on(services.change(Change::Some {
            set: Table::new(),
            gone: BTreeSet::new(),
        }));
        known.expect_err("the first change is all");
        let world = World {
            network,
            services,
            pods,
        };
        world.all([(front, world.to(&[1]))]);
        goes_on("another engine");
        assert_eq!(world.ask_in(0, front).0, 1);
        world.network.remove(config).expect("removes");
    });
}

#[test]
fn datagrams_of_one_sender_leave_a_backend_that_is_none_any_more() {
    on_nodes(|config| {
        let world = World::new(config, 3);
        world.answer_datagrams();
        let front = Front {
            protocol: Protocol::Udp,
            ..world.front(53)
        };
        world.all([(front, world.to(&[0]))]);
        let client = inside(&world.pods[2].0, move || datagrams_to(front));
        let client = client.join().expect("connects");
        let answered = || {
            client.send(b"who").expect("sends");
            let mut number = [9];
            client.recv(&mut number).map(|_| number[0])
        };
        assert_eq!(answered().expect("is answered"), 0);
        world.set(front, world.to(&[0, 1]));
        assert_eq!(answered().expect("is answered"), 0, "while it may");
        world.set(front, world.to(&[1]));
        assert_eq!(answered().expect("is answered"), 1);
        world.all([(front, world.to(&[0]))]);
        assert_eq!(answered().expect("is answered"), 0, "by another engine");
        world.set(front, Redirect::default());
        let refused = answered().expect_err("nobody is there");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn engines_serve_ranges_of_their_own() {
    on_nodes(|config| {
        let other = Config {
            state_dir: config.state_dir.join("other"),
            bridge: None,
            is_taken: |_| false,
            node_ip: None,
            pod_ranges: by_family(config, None, Some("fd00:10:245::/64"))
                .map(|ranges| ranges.parse().expect("a range")),
        };
        let (one, two) = (World::new(config, 1), World::new(&other, 1));
        let ranges = [one.services.ranges(), two.services.ranges()];
        assert_eq!(
            ranges.map(|r| r.to_string()),
            by_family(
                config,
                ["10.96.0.0/16", "10.97.0.0/16"],
                ["fd00:10:96::/112", "fd00:10:97::/112"]
            )
        );
        one.network
            .services(Some(one.network.pod_ranges()))
            .expect_err("Pods are there");

        let (first, second) = (one.front(80), two.front(80));
        one.all([(first, one.to(&[0]))]);
        two.all([(second, two.to(&[0]))]);
        one.ask_in(0, first);
        two.ask_in(0, second);
        two.network.remove(&other).expect("removes");
        one.ask_in(0, first);
        assert!(ask(second).is_err(), "the other's are gone");
    });
}

#[test]
fn a_thousand_fronts_fit() {
    on_nodes(|config| {
        let world = World::new(config, 2);
        let front = |n: u128| Front {
            address: world
                .services
                .ranges()
                .primary()
                .nth(1000 + n)
                .expect("an address")
                .into(),
            ..world.front(80)
        };
        let backends = (1..5u16).map(|n| SocketAddr::new(world.pods[0].1, HTTP + n));
        let mut full = world.to(&[0]);
        full.backends.extend(backends);
        let table: Table = (0..1000).map(|n| (front(n), full.clone())).collect();
        world.all(table);
        world.set(front(500), world.to(&[1]));
        assert_eq!(world.ask_in(0, front(500)).0, 1);
        world.network.remove(config).expect("removes");
    });
}
