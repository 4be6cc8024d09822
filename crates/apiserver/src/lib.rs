//! The Kubernetes API server: HTTPS, identity, one generic REST path over the revisioned store, watches, and the streaming verbs.
//!
//! A request becomes a [`request::RequestInfo`], is attributed to a [`UserInfo`], authorised, and served by the generic path in
//! `rest`, which is driven by the resource registry of `api` and the rules of `admission`; what only one kind needs is in
//! `registry`. Objects are bytes: they are stored encoded, and get, list and watch hand those bytes on without decoding them.
//! Decoding happens on writes, for selectors (a small [`head::Head`] only) and for tables.
//!
//! The same [`Router`] serves sockets and, without one, in-process clients: `kube::Client::new(server.router().with_user(user), ns)`.
//!
//! Tasks: one per connection, one that expires Events, and none per watch: a watch is a response body that is polled.
//! What its own node does for logs, exec and attach is behind [`ports::node::NodeServer`], without a socket; other nodes' agents are asked
//! over HTTPS. How state is kept is behind [`ports::store::RevisionedStore`].

mod bootstrap;
mod config;
mod expire;
mod head;
mod identity;
mod impersonate;
mod kubeconfig;
mod negotiate;
mod pki;
mod registry;
mod request;
mod respond;
mod rest;
mod router;
mod server;
mod streaming;
mod system;
mod token;

pub use config::{Config, NameServer, ServiceRange};
pub use identity::UserInfo;
pub use respond::Body;
pub use router::Router;
pub use server::{ApiServer, Error};
