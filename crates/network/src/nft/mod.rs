//! Firewall rules as nf_tables messages (linux/netfilter/nf_tables.h); pure builders.
//!
//! A change is one batch, carried out whole or not at all. Each engine has tables of its own, named after its bridge; in those of others it
//! adds nothing but ways for Pods through chains that would drop their packets ([`barrier`]). There is one of a name for each family of the
//! Pod network, with the same chains and maps.

pub(crate) mod barrier;
pub(crate) mod guests;
pub(crate) mod peers;
pub(crate) mod pods;
pub(crate) mod policies;
pub(crate) mod services;

mod expression;
mod front;
mod interval;
mod set;

use nat::Family;

use crate::netlink::{Message, NF_TABLES, NLM_F_APPEND, NLM_F_CREATE, netfilter};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = netfilter(NF_TABLES, 0);
const DELETE_TABLE: u16 = netfilter(NF_TABLES, 2);
const NEW_CHAIN: u16 = netfilter(NF_TABLES, 3);
const DELETE_CHAIN: u16 = netfilter(NF_TABLES, 5);
const NEW_RULE: u16 = netfilter(NF_TABLES, 6);
const DELETE_RULE: u16 = netfilter(NF_TABLES, 8);

/// Index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

const NFPROTO_UNSPEC: u8 = 0;
/// Packets of both families.
const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// A table: its name, and of whose packets it hears.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) family: Family,
    pub(crate) name: &'a str,
}

impl Table<'_> {
    /// The kernel's number of the family.
    fn number(self) -> u8 {
        match self.family {
            Family::V4 => NFPROTO_IPV4,
            Family::V6 => NFPROTO_IPV6,
        }
    }
}

/// Where a chain is entered, what it may do, and its place among others (`NF_INET_*`, `NF_IP_PRI_*`).
#[derive(Debug, Clone, Copy)]
struct Hook {
    number: u32,
    kind: &'static str,
    priority: i32,
}

/// What arrives, before it is routed; destinations may be rewritten.
const PREROUTING: Hook = Hook {
    number: 0,
    kind: "nat",
    priority: -100,
};
/// What arrives, as it came.
const ARRIVING: Hook = Hook {
    number: 0,
    kind: "filter",
    priority: -300,
};
/// What is for this machine.
const INPUT: Hook = Hook {
    number: 1,
    kind: "filter",
    priority: 0,
};
/// What is passed on.
const FORWARD: Hook = Hook {
    number: 2,
    kind: "filter",
    priority: 0,
};
/// What this machine sends; destinations may be rewritten.
const OUTPUT: Hook = Hook {
    number: 3,
    kind: "nat",
    priority: -100,
};
/// What this machine sends, when destinations are settled.
const SENT: Hook = Hook {
    number: 3,
    kind: "filter",
    priority: 0,
};
/// What leaves; sources may be rewritten.
const POSTROUTING: Hook = Hook {
    number: 4,
    kind: "nat",
    priority: 100,
};

impl Hook {
    /// The same after those of engines whose bridge is older. Of two that redirect one front, the older engine does it, however
    /// often either starts anew: the kernel numbers links in the order they are made.
    fn after_older(self, bridge: u32) -> Self {
        let age = i32::try_from(bridge).unwrap_or(i32::MAX);
        Hook {
            priority: self.priority.saturating_add(age),
            ..self
        }
    }
}

/// Removes a table; refused with `ENOENT` if there is none.
pub(crate) fn remove(table: Table<'_>) -> Vec<Message> {
    in_batch(vec![delete_table(table)])
}

/// The messages as one batch. Only the last is acknowledged: one word is enough for all or nothing, and thousands would not fit into the
/// socket's buffer.
fn in_batch(mut messages: Vec<Message>) -> Vec<Message> {
    if let Some(last) = messages.pop() {
        messages.push(last.acknowledged());
    }
    messages.insert(0, mark(BATCH_BEGIN));
    messages.push(mark(BATCH_END));
    messages
}

/// An empty table, in place of an older one of that name.
fn fresh_table(table: Table<'_>) -> [Message; 3] {
    let new = || {
        request(
            table,
            format!("add table {}", table.name),
            NEW_TABLE,
            NLM_F_CREATE,
        )
        .attr_str(1, table.name)
    };
    [new(), delete_table(table), new()]
}

fn delete_table(table: Table<'_>) -> Message {
    request(
        table,
        format!("delete table {}", table.name),
        DELETE_TABLE,
        0,
    )
    .attr_str(1, table.name)
}

/// A chain that packets enter at a hook.
fn base_chain(table: Table<'_>, name: &str, hook: Hook) -> Message {
    chain(table, name)
        .nest(4, |m| {
            m.attr_be32(1, hook.number)
                .attr_be32(2, hook.priority as u32)
        })
        .attr_str(7, hook.kind)
}

/// A chain that others lead to.
fn chain(table: Table<'_>, name: &str) -> Message {
    request(table, format!("add chain {name}"), NEW_CHAIN, NLM_F_CREATE)
        .attr_str(1, table.name)
        .attr_str(3, name)
}

fn delete_chain(table: Table<'_>, name: &str) -> Message {
    request(table, format!("delete chain {name}"), DELETE_CHAIN, 0)
        .attr_str(1, table.name)
        .attr_str(3, name)
}

/// A rule at the end of a chain; `fill` adds its expressions.
fn rule(table: Table<'_>, chain: &str, fill: impl FnOnce(Message) -> Message) -> Message {
    request(
        table,
        format!("add a rule to chain {chain}"),
        NEW_RULE,
        NLM_F_CREATE | NLM_F_APPEND,
    )
    .attr_str(1, table.name)
    .attr_str(2, chain)
    .nest(4, fill)
}

/// Removes every rule of a chain.
fn empty_chain(table: Table<'_>, chain: &str) -> Message {
    request(table, format!("empty chain {chain}"), DELETE_RULE, 0)
        .attr_str(1, table.name)
        .attr_str(2, chain)
}

fn request(table: Table<'_>, what: impl Into<String>, kind: u16, flags: u16) -> Message {
    Message::bare(what, kind, flags, &[table.number(), 0, 0, 0])
}

fn mark(kind: u16) -> Message {
    let [high, low] = NF_TABLES.to_be_bytes();
    Message::bare("nf_tables batch", kind, 0, &[NFPROTO_UNSPEC, 0, high, low])
}
