//! Just enough netlink to wire Pods and write firewall rules: messages are built as bytes, sent in one go and acknowledged.
//!
//! A netlink request is a 16-byte header, a family-specific fixed part and a list of attributes, each a length, a type and a
//! payload padded to four bytes (netlink(7)). [`Message`] builds one; [`Socket::transact`] sends a list of them in a single
//! datagram and waits for each acknowledgement, so a Pod's wiring costs two system calls per namespace. Calls block for
//! microseconds and are made from blocking threads.

mod message;
mod notices;
mod socket;

pub(crate) use message::{
    Attributes, Message, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE,
    Received, find,
};
pub(crate) use notices::Notices;
pub(crate) use socket::{Part, Refused, Socket};

/// Connection tracking, a subsystem of netfilter (`NFNL_SUBSYS_*`, linux/netfilter/nfnetlink.h).
pub(crate) const CONNTRACK: u16 = 1;
/// nf_tables, another.
pub(crate) const NF_TABLES: u16 = 10;

/// The type of a message of a subsystem of netfilter.
pub(crate) const fn netfilter(subsystem: u16, kind: u16) -> u16 {
    subsystem << 8 | kind
}
