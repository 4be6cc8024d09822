//! Pods on the network.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use network::{Config, Network};
use ports::network::PodNetwork;

use crate::node::*;

#[test]
fn pods_reach_each_other_and_the_node_reaches_them() {
    on_nodes(|config| {
        let network = Network::open(config).expect("opens");
        let (one, two) = (new_netns(), new_netns());
        let first = attach(&network, "1111111111111111", &one);
        let second = attach(&network, "2222222222222222", &two);
        assert_ne!(first, second);
        assert_eq!(
            attach(&network, "1111111111111111", &one),
            first,
            "a second call changes nothing"
        );

        let served = echo_once(&one, SocketAddr::new(first, 8080));
        assert_eq!(
            read_from(SocketAddr::new(first, 8080)),
            "hello",
            "the node reaches a Pod"
        );
        served.join().expect("served");

        let served = echo_once(&one, SocketAddr::new(first, 8080));
        let read = inside(&two, move || read_from(SocketAddr::new(first, 8080)));
        assert_eq!(
            read.join().expect("reads"),
            "hello",
            "a Pod reaches another"
        );
        assert_eq!(
            served.join().expect("served").ip(),
            second,
            "under its own address"
        );

        let node = own_netns();
        let gateway = network.gateways()[0];
        let served = echo_once(&node, SocketAddr::new(gateway, 9090));
        let read = inside(&one, move || read_from(SocketAddr::new(gateway, 9090)));
        assert_eq!(
            read.join().expect("reads"),
            "hello",
            "a Pod reaches the node"
        );
        assert_eq!(served.join().expect("served").ip(), first);
        let own = inside(&one, || {
            std::fs::read_to_string("/proc/thread-self/net/if_inet6").expect("reads")
        });
        let own = own.join().expect("reads");
        assert!(!own.contains("fe80"), "a way past the node: {own}");
        network.remove(config).expect("removes");
    });
}

#[test]
fn traffic_to_elsewhere_takes_the_nodes_address_and_none_comes_to_the_gateway() {
    on_nodes(|config| {
        // A neighbour behind a second link of the node that knows no route to the Pod range.
        let outside = new_netns();
        let far = Network::open(&Config {
            state_dir: config.state_dir.join("outside"),
            bridge: Some("outside0".into()),
            is_taken: |_| false,
            node_ip: None,
            pod_ranges: Some(
                by_family(config, "192.168.77.0/24", "fd00:77::/64")
                    .parse()
                    .expect("a range"),
            ),
        })
        .expect("opens");
        let far_ip = attach(&far, "ffffffffffffffff", &outside);

        let network = Network::open(config).expect("opens");
        let pod = new_netns();
        attach(&network, "1111111111111111", &pod);
        let served = echo_once(&outside, SocketAddr::new(far_ip, 80));
        let read = inside(&pod, move || read_from(SocketAddr::new(far_ip, 80)));
        assert_eq!(read.join().expect("reads"), "hello");
        assert_eq!(served.join().expect("served").ip(), far.gateways()[0]);

        let gateway = SocketAddr::new(network.gateways()[0], 6443);
        let listener = TcpListener::bind(gateway).expect("listens");
        TcpStream::connect(gateway).expect("the node is let in");
        let asked = inside(&pod, move || TcpStream::connect(gateway).map(drop));
        asked.join().expect("asks").expect("Pods are let in");
        let asked = inside(&outside, move || TcpStream::connect(gateway).map(drop));
        let refused = asked.join().expect("asks").expect_err("others are not");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        drop(listener);
    });
}

#[test]
fn a_second_engine_takes_another_bridge_and_range_and_both_leave_nothing() {
    on_nodes(|config| {
        let links = || -> Vec<String> {
            let mut names: Vec<_> = link_names();
            names.retain(|name| name != "lo");
            names
        };
        let first = Network::open(config).expect("opens");
        let other = Config {
            state_dir: config.state_dir.join("other"),
            bridge: None,
            is_taken: |_| false,
            node_ip: None,
            pod_ranges: None,
        };
        let second = Network::open(&other).expect("opens");
        assert_eq!((first.bridge(), second.bridge()), ("carob0", "carob1"));
        assert!(!first.pod_ranges().overlaps(second.pod_ranges()));

        let pod = new_netns();
        let address = attach(&first, "1111111111111111", &pod);
        drop(first);
        let again = Network::open(config).expect("opens again");
        assert_eq!(
            block_on(again.status("1111111111111111"))
                .expect("known")
                .ips,
            [address]
        );
        assert_eq!(block_on(again.holders()), ["1111111111111111"]);
        block_on(again.detach("1111111111111111")).expect("detaches");
        block_on(again.detach("1111111111111111")).expect("detaches again");
        assert_eq!(block_on(again.status("1111111111111111")), None);
        again.remove(config).expect("removes");
        assert_eq!(links(), ["carob1"], "the other engine's bridge stays");
        second.remove(&other).expect("removes");
        assert_eq!(links(), Vec::<String>::new());
        assert!(!config.state_dir.join("network.json").exists());
    });
}

#[test]
fn an_exhausted_range_says_so() {
    on_a_node(|config| {
        let small = Config {
            is_taken: |_| false,
            node_ip: None,
            pod_ranges: Some("10.77.0.0/30".parse().expect("a range")),
            ..config.clone()
        };
        let network = Network::open(&small).expect("opens");
        let (one, two) = (new_netns(), new_netns());
        attach(&network, "1111111111111111", &one);
        let refused = block_on(network.attach("2222222222222222", None, two.as_fd()))
            .expect_err("no address is left");
        assert_eq!(refused.to_string(), "no free address left in 10.77.0.0/30");
    });
}

/// Names of this namespace's links. /sys shows the namespace it was mounted in, /proc/thread-self/net the thread's.
fn link_names() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").expect("reads");
    table
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
}

#[test]
fn engines_that_start_at_once_choose_different_networks() {
    on_a_node(|config| {
        let node = own_netns();
        let start = |n: u32| {
            let config = Config {
                state_dir: config.state_dir.join(n.to_string()),
                bridge: None,
                is_taken: |_| false,
                node_ip: None,
                pod_ranges: None,
            };
            inside(&node, move || {
                Network::open(&config)
                    .map(|network| {
                        (
                            network.bridge().to_owned(),
                            network.pod_ranges().to_string(),
                        )
                    })
                    .expect("opens")
            })
        };
        let opened: Vec<_> = (0..4).map(start).collect();
        let chosen: std::collections::BTreeSet<_> = opened
            .into_iter()
            .map(|thread| thread.join().expect("opens"))
            .collect();
        assert_eq!(
            chosen
                .iter()
                .map(|(bridge, _)| bridge)
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            4,
            "{chosen:?}"
        );
        assert_eq!(
            chosen
                .iter()
                .map(|(_, range)| range)
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            4,
            "{chosen:?}"
        );
    });
}

/// Names of the links of this thread's namespace.
fn links() -> Vec<String> {
    let dev = std::fs::read_to_string("/proc/thread-self/net/dev").expect("links");
    let names = dev
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next());
    names.map(|name| name.trim().to_owned()).collect()
}

#[test]
fn what_cannot_be_brought_up_is_taken_down() {
    on_a_node(|config| {
        for bridge in ["lo", "a-name-that-is-too-long-for-a-link", "a/b"] {
            let config = Config {
                bridge: Some(bridge.into()),
                ..config.clone()
            };
            let refused = Network::open(&config).expect_err(bridge);
            assert!(
                refused.to_string().contains(bridge),
                "{refused} does not name it"
            );
            assert_eq!(links(), ["lo"]);
            assert!(!config.state_dir.join("network.json").exists());
        }
        // The next attempt is not bound to the failed one's choice.
        let network = Network::open(config).expect("opens");
        assert_eq!(network.bridge(), "carob0");
    });
}

#[test]
fn giving_up_takes_back_what_opening_made() {
    on_a_node(|config| {
        let network = Network::open(config).expect("opens");
        network.give_up(config).expect("gives up");
        assert_eq!(links(), ["lo"]);
        assert!(!config.state_dir.join("network.json").exists());

        let first = Network::open(config).expect("opens");
        let range = first.pod_ranges();
        drop(first);
        let second = Network::open(config).expect("opens again");
        second.give_up(config).expect("gives up");
        assert_eq!(links(), ["lo", "carob0"], "what was found stays");
        let third = Network::open(config).expect("opens again");
        assert_eq!(third.pod_ranges(), range);
    });
}

#[test]
fn a_second_family_is_for_pods_that_come_after_it() {
    on_a_node_with(Some("10.9.0.0/16"), |config| {
        let network = Network::open(config).expect("opens");
        let (one, two) = (new_netns(), new_netns());
        let first = attach(&network, "1111111111111111", &one);
        drop(network);
        let both = Config {
            is_taken: |_| false,
            node_ip: None,
            pod_ranges: Some("10.9.0.0/16,fd00:9::/64".parse().expect("ranges")),
            ..config.clone()
        };
        let network = Network::open(&both).expect("opens");
        assert_eq!(attach(&network, "1111111111111111", &one), first);
        let known = block_on(network.status("1111111111111111")).expect("known");
        assert_eq!(known.ips, [first], "it stays as it was");
        let attached = block_on(network.attach("2222222222222222", None, two.as_fd()));
        let ips = attached.expect("attaches").ips;
        let shown: Vec<String> = ips.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.9.0.3", "fd00:9::2"]);
        for ip in ips {
            let served = echo_once(&two, SocketAddr::new(ip, 8080));
            assert_eq!(read_from(SocketAddr::new(ip, 8080)), "hello");
            let gateways = network.gateways();
            let seen = served.join().expect("served").ip();
            assert!(gateways.contains(&seen), "{seen} is the node");
        }
        let own = inside(&two, || {
            std::fs::read_to_string("/proc/thread-self/net/if_inet6").expect("reads")
        });
        let own = own.join().expect("reads");
        assert!(own.contains("fd000009") && !own.contains("fe80"), "{own}");
        let node_ips: Vec<bool> = network.node_ips().iter().map(|ip| ip.is_ipv6()).collect();
        assert_eq!(node_ips, [false, true]);

        let other_way_round = Config {
            is_taken: |_| false,
            node_ip: None,
            pod_ranges: Some("fd00:9::/64,10.9.0.0/16".parse().expect("ranges")),
            ..config.clone()
        };
        Network::open(&other_way_round).expect_err("the primary family stays");
        network.remove(&both).expect("removes");
    });
}
