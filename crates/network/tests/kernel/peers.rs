//! Pods of other nodes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use nat::{IpRange, Redirect};
use network::{Config, Network};
use ports::network::Ways;

use crate::node::*;
use crate::services::*;

/// A machine on a link of the node, which has a range for Pods of its own.
struct Other {
    machine: OwnedFd,
    /// Where it is on the link.
    via: IpAddr,
    range: IpRange,
    /// One of its Pods, which answers on the port of all.
    pod: SocketAddr,
    _link: Network,
}

impl Other {
    fn new(config: &Config) -> Other {
        let link = Network::open(&Config {
            state_dir: config.state_dir.join("link"),
            bridge: Some("link0".into()),
            is_taken: |_| false,
            node_ip: None,
            pod_ranges: Some(
                by_family(config, "10.9.0.0/24", "fd00:9::/64")
                    .parse()
                    .expect("a range"),
            ),
        })
        .expect("opens");
        let machine = new_netns();
        let via = attach(&link, "othermachine", &machine);
        let range = by_family(config, "10.88.0.0/24", "fd00:88::/64");
        let range: IpRange = range.parse().expect("a range");
        let ip = range.nth(9).expect("an address");
        let added = inside(&machine, move || {
            let address = format!("{ip}/{}", range.family().bits());
            let arguments = ["addr", "add", &address, "dev", "eth0", "nodad"];
            let all = if ip.is_ipv6() { 6 } else { 5 };
            Command::new("ip").args(&arguments[..all]).status()
        });
        assert!(added.join().expect("adds").expect("starts ip").success());
        let pod = SocketAddr::new(ip, HTTP);
        answer(&machine, pod, 5);
        Other {
            machine,
            via,
            range,
            pod,
            _link: link,
        }
    }

    fn way(&self) -> BTreeMap<IpRange, IpAddr> {
        BTreeMap::from([(self.range, self.via)])
    }

    /// Whether its Pod reaches this end.
    fn reaches(&self, end: SocketAddr) -> bool {
        let listening = UdpSocket::bind(end).expect("listens");
        let patience = Some(Duration::from_secs(2));
        listening.set_read_timeout(patience).expect("sets");
        let from = SocketAddr::new(self.pod.ip(), 0);
        let sent = inside(&self.machine, move || {
            UdpSocket::bind(from)?.send_to(b"?", end)
        });
        sent.join().expect("sends").expect("sends");
        listening.recv_from(&mut [0; 8]).is_ok()
    }
}

fn lay(network: &Network, ways: BTreeMap<IpRange, IpAddr>) {
    block_on(network.routes().lay(ways)).expect("lays");
}

/// Who answers a Pod at this end, and whom it saw.
fn ask_from(pod: &OwnedFd, end: SocketAddr) -> Option<(usize, IpAddr)> {
    let asked = inside(pod, move || {
        let stream = TcpStream::connect_timeout(&end, Duration::from_secs(3)).ok()?;
        Some(greeting(&stream))
    });
    asked.join().expect("asks")
}

#[test]
fn pods_of_another_node_are_reached_and_see_who_asks() {
    on_nodes(|config| {
        let world = World::new(config, 1);
        let other = Other::new(config);
        let (pod, ip) = (&world.pods[0].0, world.pods[0].1);
        let front = world.front(80);
        let there = Redirect {
            backends: [other.pod].into(),
            ..Redirect::default()
        };
        world.all([(front, there)]);
        let gateway = SocketAddr::new(world.network.gateways()[0], 7000);
        assert_eq!(ask_from(pod, other.pod), None, "nobody knows the way");
        lay(&world.network, other.way());
        assert_eq!(ask_from(pod, other.pod), Some((5, ip)), "by its address");
        assert_eq!(ask_from(pod, at(front)), Some((5, ip)), "behind a Service");
        assert!(
            other.reaches(gateway),
            "the node is for Pods of others, too"
        );
        lay(&world.network, BTreeMap::new());
        assert_eq!(ask_from(pod, other.pod), None, "the way is gone");
        assert!(!other.reaches(gateway), "a stranger");
    });
}

#[test]
fn ways_outlive_the_engine_and_go_with_the_network() {
    on_nodes(|config| {
        let world = World::new(config, 1);
        let other = Other::new(config);
        let (pod, ip) = (&world.pods[0].0, world.pods[0].1);
        lay(&world.network, other.way());
        let again = Network::open(config).expect("opens again");
        assert_eq!(ask_from(pod, other.pod), Some((5, ip)));
        // What is there is laid again without a word.
        lay(&again, other.way());
        assert_eq!(ask_from(pod, other.pod), Some((5, ip)));
        let routed = || network::routed().expect("lists");
        assert!(routed().contains(&other.range));
        again.remove(config).expect("removes");
        assert!(!routed().contains(&other.range));
    });
}

#[test]
fn a_way_that_cannot_be_laid_keeps_no_other_from_being_laid() {
    on_nodes(|config| {
        let world = World::new(config, 1);
        let other = Other::new(config);
        let (pod, ip) = (&world.pods[0].0, world.pods[0].1);
        let ranges = by_family(
            config,
            ["10.77.0.0/24", "10.9.0.0/24"],
            ["fd00:77::/64", "fd00:9::/64"],
        );
        let [far, taken] = ranges.map(|range| range.parse::<IpRange>().expect("a range"));
        let mut ways = other.way();
        ways.insert(far, far.nth(1).expect("an address"));
        ways.insert(taken, other.via);
        lay(&world.network, ways);
        assert_eq!(ask_from(pod, other.pod), Some((5, ip)));
        assert!(!network::routed().expect("lists").contains(&far));
        lay(&world.network, BTreeMap::new());
        let routed = network::routed().expect("lists");
        assert!(routed.contains(&taken), "that of the link was not ours");
    });
}
