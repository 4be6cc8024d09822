//! The expressions rules are made of. Each takes the rule's message and returns it longer by itself.

use nat::{Family, IpRange, octets};

use crate::netlink::Message;

use super::Table;

/// Where expressions keep what the next ones work on: the kernel's 32-bit registers, from `NFT_REG32_00`. Longer values take several.
#[derive(Debug, Clone, Copy)]
pub(super) struct Register(pub(super) u32);

impl Register {
    fn number(self) -> u32 {
        8 + self.0
    }

    /// The first behind an address that begins here.
    pub(super) fn after_address(self, family: Family) -> Self {
        Register(self.0 + u32::from(family.bits()) / 32)
    }
}

/// The register that ends or leads elsewhere (`NFT_REG_VERDICT`).
const VERDICT: u32 = 0;

/// A part of a packet: which header, offset and length there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    header: u32,
    offset: u32,
    length: u32,
}

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// The address a packet comes from.
pub(super) const fn source(family: Family) -> Field {
    let (offset, length) = match family {
        Family::V4 => (12, 4),
        Family::V6 => (8, 16),
    };
    Field {
        header: NETWORK_HEADER,
        offset,
        length,
    }
}

/// The address it goes to, which follows that.
pub(super) const fn destination(family: Family) -> Field {
    let before = source(family);
    Field {
        offset: before.offset + before.length,
        ..before
    }
}

/// What kind of message of ICMP it is.
pub(super) const ICMP_KIND: Field = Field {
    header: TRANSPORT_HEADER,
    offset: 0,
    length: 1,
};
/// Of TCP, UDP and SCTP alike.
pub(super) const DESTINATION_PORT: Field = Field {
    header: TRANSPORT_HEADER,
    offset: 2,
    length: 2,
};

/// What is known of a packet besides its bytes (`NFT_META_*`).
#[derive(Debug, Clone, Copy)]
pub(super) enum Meta {
    /// Index of the link it came by, 32 bits of the host.
    LinkIn = 4,
    /// Index of the link it leaves by.
    LinkOut = 5,
    /// Name of the link it came by ([`name`]).
    NameIn = 6,
    /// Name of the link it leaves by.
    NameOut = 7,
    /// Number of its protocol, one byte.
    Protocol = 16,
}

/// What is known of a packet's connection: the key of `NFT_CT_*`, and a bit of what is kept there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    key: u32,
    bit: u32,
}

/// It begins with this packet.
pub(super) const NEW: Connection = Connection {
    key: 0,
    bit: 1 << 3,
};
/// It was let through before, or belongs to one that was.
pub(super) const KNOWN: Connection = Connection {
    key: 0,
    bit: 1 << 1 | 1 << 2,
};
/// Its destination was rewritten (`IPS_DST_NAT`).
pub(super) const REDIRECTED: Connection = Connection {
    key: 2,
    bit: 1 << 5,
};

/// How a packet is refused.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reject {
    /// ICMP "port unreachable".
    Unreachable,
    /// ICMP "communication administratively prohibited" (RFC 1812, RFC 4443).
    Prohibited,
    /// A TCP reset.
    Reset,
}

/// What becomes of a set's element from within a rule (`NFT_DYNSET_OP_*`).
#[derive(Debug, Clone, Copy)]
pub(super) enum Learn {
    Add = 0,
    /// Its time begins anew.
    Update = 1,
    Delete = 2,
}

/// Reads a part of the packet.
pub(super) fn load(rule: Message, field: Field, to: Register) -> Message {
    expression(rule, "payload", |m| {
        m.attr_be32(1, to.number())
            .attr_be32(2, field.header)
            .attr_be32(3, field.offset)
            .attr_be32(4, field.length)
    })
}

/// Reads what is known of the packet.
pub(super) fn meta(rule: Message, what: Meta, to: Register) -> Message {
    expression(rule, "meta", |m| {
        m.attr_be32(1, to.number()).attr_be32(2, what as u32)
    })
}

/// Goes on only if the register holds (or does not hold) these bytes.
fn compare(rule: Message, register: Register, is_same: bool, bytes: &[u8]) -> Message {
    expression(rule, "cmp", |m| {
        m.attr_be32(1, register.number())
            .attr_be32(2, u32::from(!is_same))
            .nest(3, |value| value.attr(1, bytes))
    })
}

/// Goes on only if the packet has these bytes there.
pub(super) fn has(rule: Message, field: Field, bytes: &[u8]) -> Message {
    compare(load(rule, field, Register(0)), Register(0), true, bytes)
}

/// Goes on only if this is so of the packet.
pub(super) fn is(rule: Message, what: Meta, bytes: &[u8]) -> Message {
    compare(meta(rule, what, Register(0)), Register(0), true, bytes)
}

/// A link's name as packets bear it, whatever link has it: 16 bytes.
pub(super) fn name(link: &str) -> Vec<u8> {
    let mut name = link.as_bytes().to_vec();
    name.resize(16, 0);
    name
}

/// Goes on only if an extension of iptables says so, given what it compares with.
pub(super) fn extension(rule: Message, name: &str, revision: u32, info: &[u8]) -> Message {
    expression(rule, "match", |m| {
        m.attr_str(1, name).attr_be32(2, revision).attr(3, info)
    })
}

/// Goes on only if this is not so of the packet.
pub(super) fn is_not(rule: Message, what: Meta, bytes: &[u8]) -> Message {
    compare(meta(rule, what, Register(0)), Register(0), false, bytes)
}

/// Goes on only if the address there is (`inside`), or is not, in the range.
pub(super) fn within(rule: Message, field: Field, range: IpRange, inside: bool) -> Message {
    let register = Register(0);
    let loaded = load(rule, field, register);
    let masked = mask(loaded, register, &octets(range.mask()));
    compare(masked, register, inside, &octets(range.base()))
}

/// Keeps the register's bits that are set in the mask.
fn mask(rule: Message, register: Register, mask: &[u8]) -> Message {
    expression(rule, "bitwise", |m| {
        m.attr_be32(1, register.number())
            .attr_be32(2, register.number())
            .attr_be32(3, mask.len() as u32)
            .nest(4, |bits| bits.attr(1, mask))
            .nest(5, |xor| xor.attr(1, &vec![0; mask.len()]))
    })
}

/// Goes on only if this is so of the packet's connection.
pub(super) fn connection(rule: Message, what: Connection) -> Message {
    let register = Register(0);
    let rule = expression(rule, "ct", |m| {
        m.attr_be32(1, register.number()).attr_be32(2, what.key)
    });
    let masked = mask(rule, register, &what.bit.to_ne_bytes());
    compare(masked, register, false, &[0; 4])
}

/// Goes on only if the packet is addressed to this machine, by an address other than those of loopback.
pub(super) fn to_node(rule: Message, family: Family) -> Message {
    const KIND_OF_ADDRESS: u32 = 3;
    const OF_DESTINATION: u32 = 2;
    /// The kernel's word for an address of this machine (`RTN_LOCAL`).
    const LOCAL: u32 = 2;
    let register = Register(0);
    let rule = expression(rule, "fib", |m| {
        m.attr_be32(1, register.number())
            .attr_be32(2, KIND_OF_ADDRESS)
            .attr_be32(3, OF_DESTINATION)
    });
    let local = compare(rule, register, true, &LOCAL.to_ne_bytes());
    within(local, destination(family), IpRange::loopback(family), false)
}

/// Goes on only if the set has what the register and its successors hold.
pub(super) fn find(rule: Message, set: &str, id: Option<u32>, key: Register) -> Message {
    lookup(rule, set, id, key, |m| m)
}

/// Goes on only if the set does not have it.
pub(super) fn miss(rule: Message, set: &str, id: Option<u32>, key: Register) -> Message {
    const INVERTED: u32 = 1;
    lookup(rule, set, id, key, |m| m.attr_be32(5, INVERTED))
}

/// Drops the packet.
pub(super) fn drop(rule: Message) -> Message {
    const DROP: u32 = 0;
    verdict(rule, |m| m.attr_be32(1, DROP))
}

/// Lets the packet through, as far as this base chain goes.
pub(super) fn accept(rule: Message) -> Message {
    const ACCEPT: u32 = 1;
    verdict(rule, |m| m.attr_be32(1, ACCEPT))
}

/// Goes through another chain, and on from here if that says nothing.
pub(super) fn jump(rule: Message, chain: &str) -> Message {
    const JUMP: i32 = -3;
    verdict(rule, |m| m.attr_be32(1, JUMP as u32).attr_str(2, chain))
}

/// Goes on in another chain, and never comes back to this one.
pub(super) fn go_to(rule: Message, chain: &str) -> Message {
    const GOTO: i32 = -4;
    verdict(rule, |m| m.attr_be32(1, GOTO as u32).attr_str(2, chain))
}

fn verdict(rule: Message, what: impl FnOnce(Message) -> Message) -> Message {
    expression(rule, "immediate", |m| {
        m.attr_be32(1, VERDICT).nest(2, |data| data.nest(2, what))
    })
}

/// Goes on with what the map says of it, if it says anything.
pub(super) fn map(
    rule: Message,
    set: &str,
    id: Option<u32>,
    key: Register,
    to: Register,
) -> Message {
    lookup(rule, set, id, key, |m| m.attr_be32(3, to.number()))
}

/// Goes where the map says, if it says anything.
pub(super) fn branch(rule: Message, map: &str, key: Register) -> Message {
    lookup(rule, map, None, key, |m| m.attr_be32(3, VERDICT))
}

/// A set that is made in the same batch is known by its id there.
fn lookup(
    rule: Message,
    set: &str,
    id: Option<u32>,
    key: Register,
    to: impl FnOnce(Message) -> Message,
) -> Message {
    expression(rule, "lookup", |m| {
        let m = to(m.attr_str(1, set).attr_be32(2, key.number()));
        match id {
            Some(id) => m.attr_be32(4, id),
            None => m,
        }
    })
}

/// Changes a map by what the registers hold.
pub(super) fn learn(
    rule: Message,
    how: Learn,
    map: &str,
    key: Register,
    value: Register,
) -> Message {
    expression(rule, "dynset", |m| {
        m.attr_str(1, map)
            .attr_be32(3, how as u32)
            .attr_be32(4, key.number())
            .attr_be32(5, value.number())
    })
}

/// A random number below `modulus`, as 32 bits of the host.
pub(super) fn random(rule: Message, modulus: u32, to: Register) -> Message {
    const RANDOM: u32 = 1;
    expression(rule, "numgen", |m| {
        m.attr_be32(1, to.number())
            .attr_be32(2, modulus)
            .attr_be32(3, RANDOM)
    })
}

/// Sends the connection to the address in one register and the port in the next; ends the walk.
pub(super) fn redirect(rule: Message, to: Register, table: Table<'_>) -> Message {
    const DESTINATION: u32 = 1;
    let port = to.after_address(table.family);
    expression(rule, "nat", |m| {
        m.attr_be32(1, DESTINATION)
            .attr_be32(2, table.number().into())
            .attr_be32(3, to.number())
            .attr_be32(5, port.number())
    })
}

/// Gives the connection the address of the link it leaves by.
pub(super) fn masquerade(rule: Message) -> Message {
    expression(rule, "masq", |m| m)
}

/// Tells the sender that it gets no answer.
pub(super) fn reject(rule: Message, how: Reject, family: Family) -> Message {
    // `NFT_REJECT_ICMP_UNREACH` with a code of ICMP or ICMPv6, and `NFT_REJECT_TCP_RST`.
    let (kind, code) = match (how, family) {
        (Reject::Unreachable, Family::V4) => (0, 3u8),
        (Reject::Unreachable, Family::V6) => (0, 4),
        (Reject::Prohibited, Family::V4) => (0, 13),
        (Reject::Prohibited, Family::V6) => (0, 1),
        (Reject::Reset, _) => (1, 0),
    };
    expression(rule, "reject", |m| m.attr_be32(1, kind).attr(2, &[code]))
}

fn expression(rule: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    rule.nest(1, |element| element.attr_str(1, name).nest(2, data))
}
