//! What the kernel remembers of datagrams that were redirected (nfnetlink_conntrack).
//!
//! A connection ends with its backend. Datagrams from one port are one flow, however long somebody sends them: a backend that is gone
//! would get them for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nat::{Family, Protocol};
use rustix::io::Errno;

use crate::link;
use crate::netlink::{CONNTRACK, Message, NLM_F_DUMP, Refused, Socket, find, netfilter};

const GET: u16 = netfilter(CONNTRACK, 1);
const DELETE: u16 = netfilter(CONNTRACK, 2);

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// Deletions in one go: each is acknowledged, and the answers have to fit into the socket's buffer.
const AT_ONCE: usize = 64;

/// The backends of addresses and ports of UDP.
type Backends = BTreeMap<SocketAddr, BTreeSet<SocketAddr>>;

/// Forgets the flows of datagrams to these addresses that lead to none of the backends given for them. Reads all the kernel remembers of
/// their families.
pub(crate) fn forget(socket: &mut Socket, fronts: &Backends) -> Result<(), Refused> {
    for family in Family::ALL {
        if fronts.keys().any(|front| Family::of(front.ip()) == family) {
            forget_of(family, socket, fronts)?;
        }
    }
    Ok(())
}

fn forget_of(family: Family, socket: &mut Socket, fronts: &Backends) -> Result<(), Refused> {
    let mut stale = Vec::new();
    let header = [link::number(family), 0, 0, 0];
    let all = Message::bare("list flows", GET, NLM_F_DUMP, &header);
    socket.dump(&all, |body| {
        let flow = body.get(4..).and_then(Flow::parse);
        let flow = flow.filter(|flow| flow.is_stale(fronts));
        stale.extend(flow.map(|flow| flow.delete(&header)));
    })?;
    for some in stale.chunks(AT_ONCE) {
        match socket.transact(some) {
            // It has ended by itself.
            Err(refused) if !refused.is(Errno::NOENT) => return Err(refused),
            _ => {}
        }
    }
    Ok(())
}

/// A flow: how it was addressed, as the kernel has it, and how its answers are.
struct Flow<'a> {
    original: &'a [u8],
    reply: &'a [u8],
}

impl<'a> Flow<'a> {
    fn parse(attributes: &'a [u8]) -> Option<Self> {
        Some(Flow {
            original: find(attributes, CTA_TUPLE_ORIG)?,
            reply: find(attributes, CTA_TUPLE_REPLY)?,
        })
    }

    fn is_stale(&self, fronts: &Backends) -> bool {
        let Some((protocol, to)) = end(self.original, DESTINATION) else {
            return false;
        };
        let backends = fronts.get(&to);
        let backends = backends.filter(|_| protocol == Protocol::Udp.number());
        let from = end(self.reply, SOURCE);
        backends.is_some_and(|backends| from.is_some_and(|(_, from)| !backends.contains(&from)))
    }

    fn delete(self, header: &[u8]) -> Message {
        Message::new("forget a flow", DELETE, 0, header)
            .nest(CTA_TUPLE_ORIG, |m| m.raw(self.original))
    }
}

/// The attributes of an end: its address by family, and its port.
type End = [u16; 3];

const SOURCE: End = [CTA_IP_V4_SRC, CTA_IP_V6_SRC, CTA_PROTO_SRC_PORT];
const DESTINATION: End = [CTA_IP_V4_DST, CTA_IP_V6_DST, CTA_PROTO_DST_PORT];

/// One end of a tuple, and its protocol.
fn end(tuple: &[u8], [v4, v6, port]: End) -> Option<(u8, SocketAddr)> {
    let (ip, transport) = (find(tuple, CTA_TUPLE_IP)?, find(tuple, CTA_TUPLE_PROTO)?);
    let address: IpAddr = match find(ip, v4) {
        Some(octets) => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into(),
        None => Ipv6Addr::from(<[u8; 16]>::try_from(find(ip, v6)?).ok()?).into(),
    };
    let port: [u8; 2] = find(transport, port)?.try_into().ok()?;
    let protocol = *find(transport, CTA_PROTO_NUM)?.first()?;
    Some((protocol, (address, u16::from_be_bytes(port)).into()))
}
