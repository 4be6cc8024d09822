//! Links, addresses and routes as netlink messages (rtnetlink(7)); pure builders, and the one dump the engine needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nat::{Family, IpRange, octets};

use crate::netlink::{
    Attributes, Message, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Refused, Socket,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

const IFF_UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const RTNH_F_ONLINK: u32 = 4;

/// Name of the Pod's interface, as every CNI plugin calls it.
pub(crate) const POD_INTERFACE: &str = "eth0";

/// Flags of an address of IPv6 (`IFA_F_*`): nobody is asked whether it is free,
const IFA_F_NODAD: u8 = 0x02;
/// and those of one that is not to be used: temporary, somebody else's, on its way out, not known to be free.
const UNUSABLE: u8 = 0x01 | 0x08 | 0x20 | 0x40;

/// The kernel's number of a family (`AF_INET`, `AF_INET6`).
pub(crate) const fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// A hardware address derived from an address (`0a:58` and its last four bytes), so that an address that is given out again does
/// not meet stale neighbour entries.
pub(crate) fn hardware_address(ip: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = (nat::number(ip) as u32).to_be_bytes();
    [0x0a, 0x58, a, b, c, d]
}

/// The bridge all Pods hang on. Fails with `EEXIST` when the name is taken.
pub(crate) fn create_bridge(name: &str, gateway: IpAddr) -> Message {
    Message::new(
        format!("create bridge {name}"),
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &link_header(0, IFF_UP),
    )
    .attr_str(IFLA_IFNAME, name)
    .attr(IFLA_ADDRESS, &hardware_address(gateway))
    .nest(IFLA_LINKINFO, |m| m.attr_str(IFLA_INFO_KIND, "bridge"))
}

/// Brings a link up.
pub(crate) fn set_up(index: u32) -> Message {
    Message::new(
        format!("bring link {index} up"),
        RTM_NEWLINK,
        0,
        &link_header(index, IFF_UP),
    )
}

/// A veth pair: `host` here, up and a port of the bridge; [`POD_INTERFACE`] in the namespace behind `netns`.
pub(crate) fn create_veth(host: &str, bridge: u32, netns: i32, pod_address: [u8; 6]) -> Message {
    Message::new(
        format!("create veth {host}"),
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &link_header(0, IFF_UP),
    )
    .attr_str(IFLA_IFNAME, host)
    .attr_u32(IFLA_MASTER, bridge)
    .nest(IFLA_LINKINFO, |info| {
        info.attr_str(IFLA_INFO_KIND, "veth")
            .nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&link_header(0, 0))
                        .attr_str(IFLA_IFNAME, POD_INTERFACE)
                        .attr(IFLA_ADDRESS, &pod_address)
                        .attr(IFLA_NET_NS_FD, &netns.to_ne_bytes())
                })
            })
    })
}

/// Lets a port of a bridge send a frame back where it came from: a Pod reaching itself through a Service, where the kernel redirects
/// frames on the bridge (br_netfilter).
pub(crate) fn set_hairpin(host: &str) -> Message {
    Message::new(
        format!("set hairpin mode of {host}"),
        RTM_NEWLINK,
        0,
        &link_header(0, 0),
    )
    .attr_str(IFLA_IFNAME, host)
    .nest(IFLA_LINKINFO, |info| {
        info.attr_str(IFLA_INFO_SLAVE_KIND, "bridge")
            .nest(IFLA_INFO_SLAVE_DATA, |data| {
                data.attr(IFLA_BRPORT_MODE, &[1])
            })
    })
}

/// Removes a link by name; the other end of a veth goes with it.
pub(crate) fn delete(name: &str) -> Message {
    Message::new(
        format!("delete link {name}"),
        RTM_DELLINK,
        0,
        &link_header(0, 0),
    )
    .attr_str(IFLA_IFNAME, name)
}

/// Asks for a link by name; [`parse_index`] reads the answer.
pub(crate) fn get(name: &str) -> Message {
    Message::bare(
        format!("find link {name}"),
        RTM_GETLINK,
        0,
        &link_header(0, 0),
    )
    .attr_str(IFLA_IFNAME, name)
}

/// Index of the link an answer is about.
pub(crate) fn parse_index(body: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?))
}

/// Keeps a link from having an address of IPv6 nobody gave it: Pods would reach each other by those, past the node.
pub(crate) fn without_own_addresses(index: u32) -> Message {
    Message::new(
        format!("keep link {index} from making up addresses"),
        RTM_NEWLINK,
        0,
        &link_header(index, 0),
    )
    .nest(IFLA_AF_SPEC, |families| {
        families.nest(number(Family::V6).into(), |inet6| {
            inet6.attr(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE])
        })
    })
}

/// Where a neighbour behind a link is, for good: nobody is asked.
pub(crate) fn add_neighbour(index: u32, ip: IpAddr, hardware: [u8; 6]) -> Message {
    let what = format!("add neighbour {ip}");
    let how = NLM_F_CREATE | NLM_F_REPLACE;
    neighbour(what, RTM_NEWNEIGH, how, index, ip).attr(NDA_LLADDR, &hardware)
}

/// Forgets it; refused with `ENOENT` if it is not known.
pub(crate) fn delete_neighbour(index: u32, ip: IpAddr) -> Message {
    neighbour(format!("delete neighbour {ip}"), RTM_DELNEIGH, 0, index, ip)
}

fn neighbour(what: String, kind: u16, how: u16, index: u32, ip: IpAddr) -> Message {
    let mut header = vec![number(Family::of(ip)), 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(NUD_PERMANENT.to_ne_bytes());
    header.extend([0, 0]);
    Message::new(what, kind, how, &header).attr(NDA_DST, &octets(ip))
}

/// Gives a link an address, which is its own at once.
pub(crate) fn add_address(index: u32, ip: IpAddr, prefix: u8) -> Message {
    let family = Family::of(ip);
    let flags = match family {
        Family::V4 => 0,
        Family::V6 => IFA_F_NODAD,
    };
    let mut header = vec![number(family), prefix, flags, 0];
    header.extend(index.to_ne_bytes());
    Message::new(
        format!("add address {ip}/{prefix}"),
        RTM_NEWADDR,
        NLM_F_CREATE | NLM_F_REPLACE,
        &header,
    )
    .attr(IFA_LOCAL, &octets(ip))
    .attr(IFA_ADDRESS, &octets(ip))
}

/// The default route through a gateway behind a link, whether or not an address of the link is of the gateway's network.
pub(crate) fn add_default_route(gateway: IpAddr, link: u32) -> Message {
    Message::new(
        format!("add default route through {gateway}"),
        RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_REPLACE,
        &route_header(Family::of(gateway), 0, SCOPE_UNIVERSE, RTNH_F_ONLINK),
    )
    .attr(RTA_GATEWAY, &octets(gateway))
    .attr_u32(RTA_OIF, link)
}

/// A route to a range behind a link; this machine's packets there come from `source`. Fails with `EEXIST` when the range has a route.
pub(crate) fn add_route(range: IpRange, link: u32, source: IpAddr) -> Message {
    Message::new(
        format!("add route to {range}"),
        RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_EXCL,
        &route_header(range.family(), range.prefix(), SCOPE_LINK, 0),
    )
    .attr(RTA_DST, &octets(range.base()))
    .attr_u32(RTA_OIF, link)
    .attr(RTA_PREFSRC, &octets(source))
}

/// A route to a range through a neighbour, whichever link that is on. Fails with `EEXIST` when the range has a route, unless that is `ours`
/// and makes room.
pub(crate) fn add_way(range: IpRange, via: IpAddr, is_ours: bool) -> Message {
    let how = if is_ours { NLM_F_REPLACE } else { NLM_F_EXCL };
    way("add", RTM_NEWROUTE, NLM_F_CREATE | how, range, via)
}

/// Removes it; refused with `ESRCH` if there is none.
pub(crate) fn delete_way(range: IpRange, via: IpAddr) -> Message {
    way("delete", RTM_DELROUTE, 0, range, via)
}

fn way(verb: &str, kind: u16, how: u16, range: IpRange, via: IpAddr) -> Message {
    let header = route_header(range.family(), range.prefix(), SCOPE_UNIVERSE, 0);
    Message::new(
        format!("{verb} route to {range} by {via}"),
        kind,
        how,
        &header,
    )
    .attr(RTA_DST, &octets(range.base()))
    .attr(RTA_GATEWAY, &octets(via))
}

/// `struct rtmsg` of a unicast route of the main table, set by an administrator at run time (`RTPROT_BOOT`).
fn route_header(family: Family, prefix: u8, scope: u8, flags: u32) -> [u8; 12] {
    let mut header = [number(family), prefix, 0, 0, 254, 3, scope, 1, 0, 0, 0, 0];
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// An address of a link of this namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) link: u32,
    pub(crate) ip: IpAddr,
    /// Of global scope, and to be used.
    pub(crate) global: bool,
}

/// Every address of a family in this namespace.
pub(crate) fn addresses(family: Family, socket: &mut Socket) -> Result<Vec<Address>, Refused> {
    let mut addresses = Vec::new();
    socket.dump(
        &Message::bare(
            "list addresses",
            RTM_GETADDR,
            NLM_F_DUMP,
            &[number(family), 0, 0, 0, 0, 0, 0, 0],
        ),
        |body| addresses.extend(parse_address(body)),
    )?;
    Ok(addresses)
}

/// Every range of a family that is already routed somewhere (addresses' own networks included).
pub(crate) fn routed(family: Family, socket: &mut Socket) -> Result<Vec<IpRange>, Refused> {
    let mut ranges = Vec::new();
    let mut header = [0; 12];
    header[0] = number(family);
    socket.dump(
        &Message::bare("list routes", RTM_GETROUTE, NLM_F_DUMP, &header),
        |body| ranges.extend(parse_route(body)),
    )?;
    Ok(ranges)
}

fn parse_address(body: &[u8]) -> Option<Address> {
    let (header, attributes) = body.split_at_checked(8)?;
    let link = u32::from_ne_bytes(header[4..8].try_into().ok()?);
    let ip = find_ip(attributes, IFA_LOCAL).or_else(|| find_ip(attributes, IFA_ADDRESS))?;
    Some(Address {
        link,
        ip,
        global: header[3] == 0 && (ip.is_ipv4() || header[2] & UNUSABLE == 0),
    })
}

fn parse_route(body: &[u8]) -> Option<IpRange> {
    let (header, attributes) = body.split_at_checked(12)?;
    let prefix = header[1];
    (prefix > 0)
        .then(|| IpRange::new(find_ip(attributes, RTA_DST)?, prefix))
        .flatten()
}

fn find_ip(attributes: &[u8], kind: u16) -> Option<IpAddr> {
    let (_, payload) = Attributes(attributes).find(|(k, _)| *k == kind)?;
    let v4 = <[u8; 4]>::try_from(payload).map(|octets| Ipv4Addr::from(octets).into());
    let v6 = || <[u8; 16]>::try_from(payload).map(|octets| Ipv6Addr::from(octets).into());
    v4.or_else(|_| v6()).ok()
}

/// `struct ifinfomsg`: family, device type, index, flags and their mask.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}
