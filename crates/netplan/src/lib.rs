//! Where the traffic of Services goes, as upstream's kube-proxy decides it, and that of Pods' host ports: from Services, their
//! EndpointSlices and Pods to the table of redirects, and from one event to what changes in that table.
//!
//! [`redirects`] is the rule for one Service. [`State`] holds what is known and says what has changed since it was last asked; the
//! table it leads to depends on what is known only, not on the order in which it was heard. [`names`] is what they are called, and [`policy`] what is let through.

mod endpoints;
mod hostport;
pub mod names;
pub mod policy;
mod service;
mod state;

pub use endpoints::Slice;
pub use service::{Traffic, redirects};
pub use state::{Key, State};
