//! Firewalls of others on the same node, which drop what they do not know.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use nat::{Outside, Protocol, Redirect};
use network::{Config, Network};

use crate::node::*;
use crate::outside::{Neighbours, on, on_node};
use crate::services::*;

/// Runs a program on this thread's node, and returns what it prints.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.expect("runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {told}");
    String::from_utf8(output.stdout).expect("text")
}

/// As Docker and firewalls for desktops have it.
fn close_with_iptables(config: &Config) {
    let program = by_family(config, "iptables", "ip6tables");
    let known = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    for rule in [
        "-P FORWARD DROP",
        "-A INPUT -i lo -j ACCEPT",
        known,
        "-P INPUT DROP",
    ] {
        run(program, &rule.split(' ').collect::<Vec<_>>());
    }
}

/// As people write it who use nft.
fn close_with_nft(_: &Config) {
    run(
        "nft",
        &["table inet machine {
            chain passed_on { type filter hook forward priority 0; policy drop; }
            chain taken {
                type filter hook input priority 0; policy drop;
                iif lo accept
                ct state { established, related } accept
            }
        }"],
    );
}

/// What iptables shows of its chains: nothing of one that has what it does not understand.
fn shown_by_iptables(config: &Config) -> String {
    run(by_family(config, "iptables", "ip6tables"), &["-S"])
}

fn shown_by_nft(_: &Config) -> String {
    run("nft", &["list", "ruleset"])
}

/// Less than it takes until what was dropped is sent again.
const PATIENCE: Duration = Duration::from_millis(800);

/// Asks from a Pod.
fn ask_from(world: &World, pod: usize, to: IpAddr) -> Result<usize, Error> {
    let asked = inside(&world.pods[pod].0, move || {
        let stream = TcpStream::connect_timeout(&SocketAddr::new(to, HTTP), PATIENCE)?;
        Ok(greeting(&stream).0)
    });
    asked.join().expect("asks")
}

fn is_dropped<T>(asked: Result<T, Error>) -> bool {
    asked.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
}

fn pods_pass(config: &Config, close: fn(&Config), show: fn(&Config) -> String) {
    let world = World::new(config, 2);
    let neighbours = Neighbours::new(config);
    let gateway = world.network.gateways()[0];
    let mark = format!("\"Pods of {}\"", world.network.bridge());
    let ways = || show(config).matches(&mark).count();
    answer(&own_netns(), SocketAddr::new(gateway, HTTP), 7);
    let (open_to_all, cluster) = (on_node(config, Protocol::Tcp), world.front(80));
    let of_node = Redirect {
        backends: [SocketAddr::new(gateway, HTTP)].into(),
        ..Redirect::default()
    };
    world.all([
        (open_to_all, world.open_to(&[0], Outside::Same)),
        (cluster, of_node),
    ]);
    let (pod, neighbour) = (world.pods[1].1, neighbours.machines[1].1);
    assert_eq!(ask_from(&world, 0, pod).expect("is answered"), 1);
    assert_eq!(ways(), 0, "nothing is in the way");

    close(config);
    assert!(is_dropped(ask_from(&world, 0, pod)));
    let opened = || drop(Network::open(config).expect("opens again"));
    opened();
    assert_eq!(ask_from(&world, 0, pod).expect("a Pod"), 1);
    assert_eq!(ask_from(&world, 0, neighbour).expect("a neighbour"), 11);
    let node = on(neighbours.node);
    assert_eq!(neighbours.ask(node).expect("a port of the node").0, 0);
    assert_eq!(world.ask_in(0, cluster).0, 7, "a Service on the node");
    let others = "what nobody let through is dropped as before";
    assert!(is_dropped(ask_from(&world, 0, gateway)), "{others}");
    let direct = neighbours.ask_within(SocketAddr::new(pod, HTTP), PATIENCE);
    assert!(is_dropped(direct), "{others}");

    let made = ways();
    assert!(made > 0);
    opened();
    assert_eq!(ways(), made, "those that are there are enough");
    world.network.remove(config).expect("removes");
    assert_eq!(ways(), 0);
}

#[test]
fn pods_pass_chains_of_iptables() {
    on_nodes(|config| pods_pass(config, close_with_iptables, shown_by_iptables));
}

#[test]
fn pods_pass_chains_of_nft() {
    on_nodes(|config| pods_pass(config, close_with_nft, shown_by_nft));
}

#[test]
fn ways_are_opened_anew_when_a_firewall_comes_or_is_emptied() {
    on_a_node(|config| {
        let world = World::new(config, 2);
        block_on(async {
            let following = tokio::spawn(world.network.firewalls().expect("follows").run());
            for change in ["-P FORWARD DROP", "-F FORWARD"] {
                run("iptables", &change.split(' ').collect::<Vec<_>>());
                // What is dropped before the way is open is sent again.
                let pod = SocketAddr::new(world.pods[1].1, HTTP);
                let asked = inside(&world.pods[0].0, move || {
                    TcpStream::connect_timeout(&pod, Duration::from_secs(10)).map(drop)
                });
                asked.join().expect("asks").expect("is answered");
                let shown = run("iptables", &["-S", "FORWARD"]);
                let comment = format!("--comment \"Pods of {}\"", world.network.bridge());
                assert_eq!(shown.matches(&comment).count(), 2, "{shown}");
            }
            following.abort();
        });
    });
}
