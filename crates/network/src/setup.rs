//! The node's side: choosing bridge and range, bringing them up, taking them down.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use nat::{Family, IpRange, Ranges};
use ports::network::NetworkError;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::link;
use crate::netlink::{Part, Socket};
use crate::nft::Table;
use crate::peers::Peers;
use crate::{firewalls, kernel, nft, pool_error};

/// How the network is to be; what is left open is chosen free and remembered.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the choice and the address pool are kept.
    pub state_dir: PathBuf,
    /// Bridge name, at most 15 characters.
    pub bridge: Option<String>,
    /// Whether a name that could be chosen for the bridge is in use on the machine as something else.
    pub is_taken: fn(&str) -> bool,
    /// Pod range, or one of each family.
    pub pod_ranges: Option<Ranges>,
    /// The node's address where that is known; the first of global scope of its family otherwise.
    pub node_ip: Option<IpAddr>,
}

/// What was chosen, as it is kept in `network.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) bridge: String,
    pub(crate) ranges: Ranges,
}

#[derive(Serialize, Deserialize)]
struct Record {
    bridge: String,
    /// Two are separated by a comma.
    range: String,
}

/// Held while an engine chooses and makes its bridge, so that two that start at once do not choose the same. The lock is on a
/// directory every machine has; nothing is made for it.
pub(crate) fn choose_alone() -> Result<fs::File, NetworkError> {
    let lock = || -> io::Result<fs::File> {
        let run = fs::File::open("/run")?;
        rustix::fs::flock(&run, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(run)
    };
    lock().map_err(|error| kernel("wait for other engines to choose their network", error))
}

/// The ranges that an earlier engine chose, if one did.
pub fn kept_ranges(config: &Config) -> Result<Option<Ranges>, NetworkError> {
    Ok(read(config)?.map(|chosen| chosen.ranges))
}

/// Every range that is routed somewhere on this machine.
pub fn routed() -> Result<Vec<IpRange>, NetworkError> {
    let mut route =
        Socket::open(Part::Route).map_err(|error| kernel("open a netlink socket", error))?;
    let mut ranges = Vec::new();
    for family in Family::ALL {
        ranges.extend(link::routed(family, &mut route)?);
    }
    Ok(ranges)
}

/// The earlier choice (then `true`) if there is one, else the settings, else the first name and range nobody uses. A link that is
/// there already is somebody else's.
pub(crate) fn choose(config: &Config, route: &mut Socket) -> Result<(Chosen, bool), NetworkError> {
    if let Some(mut chosen) = read(config)? {
        let ranges = widened(chosen.ranges, config.pod_ranges)?;
        if ranges != chosen.ranges {
            chosen.ranges = ranges;
            write(config, &chosen)?;
        }
        return Ok((chosen, true));
    }
    let bridge = match &config.bridge {
        Some(name) if find_link(route, name)?.is_some() => {
            return Err(kernel(&format!("make bridge {name}"), Errno::EXIST.into()));
        }
        Some(name) => name.clone(),
        None => free_bridge_name(config.is_taken, route)?,
    };
    let ranges = match config.pod_ranges {
        Some(ranges) => ranges,
        None => free_range(Family::V4, default_ranges, route)?.into(),
    };
    let chosen = Chosen { bridge, ranges };
    write(config, &chosen)?;
    Ok((chosen, false))
}

/// The ranges that are kept, and that of a family they lack. The primary family stays, as Services have addresses of it.
fn widened(kept: Ranges, asked: Option<Ranges>) -> Result<Ranges, NetworkError> {
    let Some(asked) = asked else {
        return Ok(kept);
    };
    if asked.primary().family() != kept.primary().family() {
        let what =
            format!("change the first Pod range to {asked}, which is {kept} since the first start");
        return Err(kernel(&what, Errno::INVAL.into()));
    }
    let second = kept.secondary().or(asked.secondary());
    Ok(Ranges::new(kept.primary(), second).unwrap_or(kept))
}

/// The first range of a family that is not routed anywhere.
pub(crate) fn free_range<I: Iterator<Item = IpRange>>(
    family: Family,
    ranges: fn(Family) -> I,
    route: &mut Socket,
) -> Result<IpRange, NetworkError> {
    let taken = link::routed(family, route)?;
    let is_free = |range: &IpRange| !taken.iter().any(|taken| taken.overlaps(*range));
    ranges(family)
        .find(is_free)
        .ok_or_else(|| NetworkError::Exhausted {
            range: match family {
                Family::V4 => "10.0.0.0/8",
                Family::V6 => "fd00:10::/32",
            }
            .into(),
        })
}

/// 10.244.0.0/16 as everyone's default, then its neighbours; of IPv6 those with the same numbers (unique local: RFC 4193).
fn default_ranges(family: Family) -> impl Iterator<Item = IpRange> {
    (0..=255u8).filter_map(move |n| default_range(family, 244u8.wrapping_add(n), 64))
}

/// A range of a family with a number, as wide as usual: 16 fixed bits in IPv4, `v6` in IPv6.
pub(crate) fn default_range(family: Family, n: u8, v6: u8) -> Option<IpRange> {
    match family {
        Family::V4 => IpRange::new(Ipv4Addr::new(10, n, 0, 0), 16),
        Family::V6 => {
            // Read as if it were decimal, as others write it: fd00:10:244::.
            let digits = u16::from(n / 100) << 8 | u16::from(n / 10 % 10) << 4 | u16::from(n % 10);
            IpRange::new(Ipv6Addr::new(0xfd00, 0x10, digits, 0, 0, 0, 0, 0), v6)
        }
    }
}

fn read(config: &Config) -> Result<Option<Chosen>, NetworkError> {
    let bytes = match fs::read(config.state_dir.join("network.json")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(pool_error("read network.json", error)),
    };
    let record: Record = serde_json::from_slice(&bytes)
        .map_err(|error| pool_error("read network.json", error.into()))?;
    let ranges = record
        .range
        .parse()
        .map_err(|error| pool_error("read network.json", io::Error::other(error)))?;
    Ok(Some(Chosen {
        bridge: record.bridge,
        ranges,
    }))
}

fn write(config: &Config, chosen: &Chosen) -> Result<(), NetworkError> {
    let record = Record {
        bridge: chosen.bridge.clone(),
        range: chosen.ranges.to_string(),
    };
    let save = || {
        fs::create_dir_all(&config.state_dir)?;
        let temporary = config.state_dir.join("network.json.tmp");
        fs::write(&temporary, serde_json::to_vec(&record)?)?;
        fs::rename(temporary, config.state_dir.join("network.json"))
    };
    save().map_err(|error| pool_error("write network.json", error))
}

/// Forgets the choice, after [`tear_down`].
pub(crate) fn forget(config: &Config) -> Result<(), NetworkError> {
    for gone in [
        fs::remove_file(config.state_dir.join("network.json")),
        fs::remove_dir_all(config.state_dir.join("addresses")),
    ] {
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(pool_error("remove", error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes what is missing of bridge, addresses, forwarding, masquerade and ways through firewalls, and returns the bridge's index.
/// `gateways` are those of the ranges, `peers` the ranges of other nodes that an earlier engine knew.
pub(crate) fn bring_up(
    chosen: &Chosen,
    gateways: &[IpAddr],
    peers: &Peers,
    route: &mut Socket,
) -> Result<u32, NetworkError> {
    let first = gateways.first().copied();
    let first = first.unwrap_or(chosen.ranges.primary().base());
    match route.transact(&[link::create_bridge(&chosen.bridge, first)]) {
        Err(refused) if !refused.is(Errno::EXIST) => return Err(refused.into()),
        _ => {}
    }
    let index = link_index(route, &chosen.bridge)?;
    for (range, gateway) in chosen.ranges.iter().zip(gateways) {
        if range.family() == Family::V6 {
            // A machine may have it off for new links. Nobody else is on this one, and Pods are not to wait until that was asked.
            for (name, value) in [("disable_ipv6", "0"), ("accept_dad", "0")] {
                let path = format!("ipv6/conf/{}/{name}", chosen.bridge);
                set(&path, value, "turn IPv6 of the bridge on")?;
            }
        }
        route.transact(&[
            link::add_address(index, *gateway, range.prefix()),
            link::set_up(index),
        ])?;
        forward(range.family(), &chosen.bridge)?;
    }
    let mut netfilter =
        Socket::open(Part::Netfilter).map_err(|error| kernel("open a netfilter socket", error))?;
    for (range, gateway) in chosen.ranges.iter().zip(gateways) {
        let table = Table {
            family: range.family(),
            name: &chosen.bridge,
        };
        let own = (range, *gateway);
        netfilter.transact(&nft::pods::table(table, index, own, peers.keys()))?;
        if range.family() == Family::V4 {
            // So that answers to what the node asks of itself by a redirected port find back; the table above keeps all else from there.
            let path = format!("ipv4/conf/{}/route_localnet", chosen.bridge);
            set(&path, "1", "let loopback be routed on the bridge")?;
        }
    }
    let families: Vec<Family> = chosen.ranges.families().collect();
    firewalls::open(&mut netfilter, &chosen.bridge, &families)?;
    Ok(index)
}

/// Lets the node pass packets of a family on.
fn forward(family: Family, bridge: &str) -> Result<(), NetworkError> {
    if family == Family::V6 {
        return set("ipv6/conf/all/forwarding", "1", "turn IPv6 forwarding on");
    }
    set("ipv4/ip_forward", "1", "turn IPv4 forwarding on")?;
    // Pods reach each other by the node on purpose. It is off only where it is off for all and for the link; other links have theirs on.
    for link in ["all", bridge] {
        let path = format!("ipv4/conf/{link}/send_redirects");
        set(&path, "0", &format!("turn ICMP redirects of {link} off"))?;
    }
    Ok(())
}

/// Sets one of the kernel's settings of the network.
fn set(path: &str, value: &str, what: &str) -> Result<(), NetworkError> {
    fs::write(format!("/proc/sys/net/{path}"), value).map_err(|error| kernel(what, error))
}

/// Removes bridge, firewall tables and ways through those of others, if they are there.
pub(crate) fn tear_down(bridge: &str, route: &mut Socket) -> Result<(), NetworkError> {
    match route.transact(&[link::delete(bridge)]) {
        Err(refused) if !refused.is(Errno::NODEV) => return Err(refused.into()),
        _ => {}
    }
    let mut netfilter =
        Socket::open(Part::Netfilter).map_err(|error| kernel("open a netfilter socket", error))?;
    for table in tables(bridge) {
        remove_tables(&mut netfilter, &table)?;
    }
    firewalls::close(&mut netfilter, bridge)
}

/// Removes the tables of a name, those that there are.
pub(crate) fn remove_tables(netfilter: &mut Socket, name: &str) -> Result<(), NetworkError> {
    for family in Family::ALL {
        match netfilter.transact(&nft::remove(Table { family, name })) {
            Err(refused) if !refused.is(Errno::NOENT) => return Err(refused.into()),
            _ => {}
        }
    }
    Ok(())
}

/// All firewall tables of the engine that has this bridge.
pub(crate) fn tables(bridge: &str) -> [String; 3] {
    [
        bridge.to_owned(),
        services_table(bridge),
        policies_table(bridge),
    ]
}

/// The firewall table of services, of the engine that has this bridge.
pub(crate) fn services_table(bridge: &str) -> String {
    format!("{bridge}-services")
}

/// The firewall table of policies, of the engine that has this bridge.
pub(crate) fn policies_table(bridge: &str) -> String {
    format!("{bridge}-policies")
}

/// Index of a link in the socket's namespace; `None` if there is no link of that name.
pub(crate) fn find_link(socket: &mut Socket, name: &str) -> Result<Option<u32>, NetworkError> {
    match socket.get(&link::get(name), link::parse_index) {
        Err(refused) if refused.is(Errno::NODEV) => Ok(None),
        found => Ok(found?),
    }
}

/// Index of a link that must be there.
pub(crate) fn link_index(socket: &mut Socket, name: &str) -> Result<u32, NetworkError> {
    find_link(socket, name)?
        .ok_or_else(|| kernel(&format!("find link {name}"), Errno::NODEV.into()))
}

fn free_bridge_name(
    is_taken: fn(&str) -> bool,
    route: &mut Socket,
) -> Result<String, NetworkError> {
    for name in (0..).map(|n| format!("carob{n}")) {
        if find_link(route, &name)?.is_none() && !is_taken(&name) {
            return Ok(name);
        }
    }
    unreachable!("there are more names than links")
}

/// Addresses of the node, one for each of the bridge's: the one that is known, or one of global scope that is not the engine's own, else
/// the bridge's.
pub(crate) fn node_ips(
    known: Option<IpAddr>,
    bridge: u32,
    gateways: &[IpAddr],
    route: &mut Socket,
) -> Result<Vec<IpAddr>, NetworkError> {
    let mut ips = Vec::new();
    for gateway in gateways {
        let addresses = link::addresses(Family::of(*gateway), route)?;
        let mut addresses = addresses.iter();
        let foreign = addresses.find(|a| a.global && a.link != bridge && !a.ip.is_loopback());
        let known = known.filter(|ip| Family::of(*ip) == Family::of(*gateway));
        let found = known.or(foreign.map(|address| address.ip));
        ips.push(found.unwrap_or(*gateway));
    }
    Ok(ips)
}
