//! The node's side: choosing bridge and range, bringing them up, taking them down.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use nat::Ipv4Range;
use ports::network::NetworkError;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::link::{self, addresses_and_ranges};
use crate::netlink::{Family, Socket};
use crate::{kernel, nft, pool_error};

/// How the network is to be; what is left open is chosen free and remembered.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the choice and the address pool are kept.
    pub state_dir: PathBuf,
    /// Bridge name, at most 15 characters.
    pub bridge: Option<String>,
    /// Pod range.
    pub pod_range: Option<Ipv4Range>,
}

/// What was chosen, as it is kept in `network.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) bridge: String,
    pub(crate) range: Ipv4Range,
}

#[derive(Serialize, Deserialize)]
struct Record {
    bridge: String,
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

/// The earlier choice (then `true`) if there is one, else the settings, else the first name and range nobody uses. A link that is
/// there already is somebody else's.
pub(crate) fn choose(config: &Config, route: &mut Socket) -> Result<(Chosen, bool), NetworkError> {
    if let Some(chosen) = read(config)? {
        return Ok((chosen, true));
    }
    let (_, taken) = addresses_and_ranges(route)?;
    let bridge = match &config.bridge {
        Some(name) if find_link(route, name)?.is_some() => {
            return Err(kernel(&format!("make bridge {name}"), Errno::EXIST.into()));
        }
        Some(name) => name.clone(),
        None => free_bridge_name(route)?,
    };
    let range = config
        .pod_range
        .or_else(|| default_ranges().find(|range| !taken.iter().any(|t| t.overlaps(*range))));
    let range = range.ok_or_else(|| NetworkError::Exhausted {
        range: "10.0.0.0/8".into(),
    })?;
    let chosen = Chosen { bridge, range };
    write(config, &chosen)?;
    Ok((chosen, false))
}

/// 10.244.0.0/16 as everyone's default, then its neighbours.
fn default_ranges() -> impl Iterator<Item = Ipv4Range> {
    (0..=255u8).filter_map(|n| Ipv4Range::new(Ipv4Addr::new(10, 244u8.wrapping_add(n), 0, 0), 16))
}

fn read(config: &Config) -> Result<Option<Chosen>, NetworkError> {
    let bytes = match fs::read(config.state_dir.join("network.json")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(pool_error("read network.json", error)),
    };
    let record: Record = serde_json::from_slice(&bytes)
        .map_err(|error| pool_error("read network.json", error.into()))?;
    let range = record
        .range
        .parse()
        .map_err(|error| pool_error("read network.json", io::Error::other(error)))?;
    Ok(Some(Chosen {
        bridge: record.bridge,
        range,
    }))
}

fn write(config: &Config, chosen: &Chosen) -> Result<(), NetworkError> {
    let record = Record {
        bridge: chosen.bridge.clone(),
        range: chosen.range.to_string(),
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

/// Makes what is missing of bridge, address, forwarding and masquerade, and returns the bridge's index.
pub(crate) fn bring_up(
    chosen: &Chosen,
    gateway: Ipv4Addr,
    route: &mut Socket,
) -> Result<u32, NetworkError> {
    match route.transact(&[link::create_bridge(&chosen.bridge, gateway)]) {
        Err(refused) if !refused.is(Errno::EXIST) => return Err(refused.into()),
        _ => {}
    }
    let index = link_index(route, &chosen.bridge)?;
    route.transact(&[
        link::add_address(index, gateway, chosen.range.prefix()),
        link::set_up(index),
    ])?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")
        .map_err(|error| kernel("turn IPv4 forwarding on", error))?;
    // Pods reach each other by the node on purpose. It is off only where it is off for all and for the link; other links have theirs on.
    for link in ["all", &chosen.bridge] {
        fs::write(
            format!("/proc/sys/net/ipv4/conf/{link}/send_redirects"),
            "0",
        )
        .map_err(|error| kernel(&format!("turn ICMP redirects of {link} off"), error))?;
    }
    let mut netfilter = Socket::open(Family::Netfilter)
        .map_err(|error| kernel("open a netfilter socket", error))?;
    netfilter.transact(&nft::pods::table(
        &chosen.bridge,
        index,
        chosen.range,
        gateway,
    ))?;
    // So that answers to what the node asks of itself by a redirected port find back; the table above keeps all else from there.
    fs::write(
        format!("/proc/sys/net/ipv4/conf/{}/route_localnet", chosen.bridge),
        "1",
    )
    .map_err(|error| kernel("let loopback be routed on the bridge", error))?;
    Ok(index)
}

/// Removes bridge and firewall tables, if they are there.
pub(crate) fn tear_down(bridge: &str, route: &mut Socket) -> Result<(), NetworkError> {
    match route.transact(&[link::delete(bridge)]) {
        Err(refused) if !refused.is(Errno::NODEV) => return Err(refused.into()),
        _ => {}
    }
    let mut netfilter = Socket::open(Family::Netfilter)
        .map_err(|error| kernel("open a netfilter socket", error))?;
    for table in [
        bridge.to_owned(),
        services_table(bridge),
        policies_table(bridge),
    ] {
        match netfilter.transact(&nft::remove(&table)) {
            Err(refused) if !refused.is(Errno::NOENT) => return Err(refused.into()),
            _ => {}
        }
    }
    Ok(())
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

fn free_bridge_name(route: &mut Socket) -> Result<String, NetworkError> {
    for name in (0..).map(|n| format!("carob{n}")) {
        if find_link(route, &name)?.is_none() {
            return Ok(name);
        }
    }
    unreachable!("there are more names than links")
}

/// Addresses of the node: those of global scope that are not the engine's own, else the bridge's.
pub(crate) fn node_ips(
    bridge: u32,
    gateway: Ipv4Addr,
    route: &mut Socket,
) -> Result<Vec<IpAddr>, NetworkError> {
    let (addresses, _) = addresses_and_ranges(route)?;
    let foreign = addresses
        .iter()
        .find(|a| a.global && a.link != bridge && !a.ip.is_loopback());
    Ok(vec![foreign.map_or(gateway, |a| a.ip).into()])
}
