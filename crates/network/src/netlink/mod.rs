//! Just enough netlink to wire Pods and write firewall rules: messages are built as bytes, sent in one go and acknowledged.
//!
//! A netlink request is a 16-byte header, a family-specific fixed part and a list of attributes, each a length, a type and a
//! payload padded to four bytes (netlink(7)). [`Message`] builds one; [`Socket::transact`] sends a list of them in a single
//! datagram and waits for each acknowledgement, so a Pod's wiring costs two system calls per namespace. Calls block for
//! microseconds and are made from blocking threads.

mod message;
mod socket;

pub(crate) use message::{Attributes, Message};
pub(crate) use socket::{Family, Refused, Socket};
