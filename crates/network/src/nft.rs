//! Firewall rules as nf_tables messages: what leaves the Pod range for elsewhere takes the node's address.
//!
//! A change is one batch, carried out whole or not at all. Each engine has a table of its own, named after its bridge; other
//! tables are never touched.

use crate::netlink::Message;
use crate::range::Ipv4Range;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_IPV4: u8 = 2;
const HOOK_POST_ROUTING: u32 = 4;
/// Where source addresses are rewritten (`NF_IP_PRI_NAT_SRC`).
const PRIORITY_SRCNAT: u32 = 100;
const REGISTER: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const IPV4_SOURCE: u32 = 12;
const IPV4_DESTINATION: u32 = 16;
const CHAIN: &str = "postrouting";

/// Makes the engine's table, in place of an older one of that name.
pub(crate) fn masquerade(table: &str, pods: Ipv4Range) -> Vec<Message> {
    vec![
        batch(BATCH_BEGIN),
        new_table(table),
        delete_table(table),
        new_table(table),
        request("add chain postrouting", NEW_CHAIN, NLM_F_CREATE)
            .attr_str(1, table)
            .attr_str(3, CHAIN)
            .nest(4, |hook| {
                hook.attr_be32(1, HOOK_POST_ROUTING)
                    .attr_be32(2, PRIORITY_SRCNAT)
            })
            .attr_str(7, "nat"),
        request("add masquerade rule", NEW_RULE, NLM_F_CREATE | NLM_F_APPEND)
            .attr_str(1, table)
            .attr_str(2, CHAIN)
            .nest(4, |rule| {
                let from_pods = within(rule, IPV4_SOURCE, pods, true);
                let to_elsewhere = within(from_pods, IPV4_DESTINATION, pods, false);
                expression(to_elsewhere, "masq", |m| m)
            }),
        batch(BATCH_END),
    ]
}

/// Removes the engine's table; refused with `ENOENT` if there is none.
pub(crate) fn remove(table: &str) -> Vec<Message> {
    vec![batch(BATCH_BEGIN), delete_table(table), batch(BATCH_END)]
}

/// Goes on only if the address at `offset` of the IPv4 header is (`inside`), or is not, in the range.
fn within(rule: Message, offset: u32, range: Ipv4Range, inside: bool) -> Message {
    let loaded = expression(rule, "payload", |m| {
        m.attr_be32(1, REGISTER)
            .attr_be32(2, NETWORK_HEADER)
            .attr_be32(3, offset)
            .attr_be32(4, 4)
    });
    let masked = expression(loaded, "bitwise", |m| {
        m.attr_be32(1, REGISTER)
            .attr_be32(2, REGISTER)
            .attr_be32(3, 4)
            .nest(4, |mask| mask.attr(1, &range.mask().octets()))
            .nest(5, |xor| xor.attr(1, &[0; 4]))
    });
    expression(masked, "cmp", |m| {
        m.attr_be32(1, REGISTER)
            .attr_be32(2, u32::from(!inside))
            .nest(3, |value| value.attr(1, &range.base().octets()))
    })
}

fn expression(rule: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    rule.nest(1, |element| element.attr_str(1, name).nest(2, data))
}

fn new_table(table: &str) -> Message {
    request(&format!("add table {table}"), NEW_TABLE, NLM_F_CREATE).attr_str(1, table)
}

fn delete_table(table: &str) -> Message {
    request(&format!("delete table {table}"), DELETE_TABLE, 0).attr_str(1, table)
}

fn request(what: &str, kind: u16, flags: u16) -> Message {
    Message::new(what, kind, flags, &[NFPROTO_IPV4, 0, 0, 0])
}

fn batch(kind: u16) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::bare("nf_tables batch", kind, 0, &[NFPROTO_UNSPEC, 0, high, low])
}
