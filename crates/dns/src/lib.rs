//! The cluster's name server (the place of upstream's CoreDNS): UDP and TCP (RFC 1035), EDNS (RFC 6891).
//!
//! [`netplan::names`] decides what a name of the cluster stands for, from watches of Services, EndpointSlices and Pods; nothing of
//! that is cached, so an answer is new as soon as its cause is heard. Every other name is forwarded to the node's own name servers
//! and their answers are kept for as long as they say. Before the watches have told all there is nobody is answered: questions
//! wait in the sockets.

mod answer;
mod follow;
mod forward;
mod records;
mod sockets;

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hickory_server::Server;
use kube::Client;
use netplan::names::Names;
use tokio_util::sync::CancellationToken;

use crate::answer::Answerer;
use crate::follow::Follow;
use crate::forward::Forwarder;
pub use crate::forward::Upstreams;
pub use crate::sockets::Sockets;

/// Who says nothing for so long on a connection is not waited for (RFC 7766 section 6.2.3 has a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// Answers that may wait on a connection.
const ANSWERS: usize = 32;

/// What a name server is told.
pub struct Config {
    /// Domain of the cluster's names, such as `cluster.local`.
    pub domain: String,
    /// Where the server is reached besides its sockets: it does not ask there.
    pub own: Vec<SocketAddr>,
    /// Whom to ask about other names, looked up each time.
    pub upstreams: Box<dyn Fn() -> Upstreams + Send + Sync>,
}

/// A name server.
pub struct Dns {
    client: Client,
    sockets: Sockets,
    config: Config,
}

impl Dns {
    /// A name server that learns from the API through `client` and answers at `sockets`.
    pub fn new(client: Client, sockets: Sockets, mut config: Config) -> Self {
        config
            .own
            .extend([sockets.udp_address(), sockets.tcp_address()]);
        Dns {
            client,
            sockets,
            config,
        }
    }

    /// Answers until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let names = Arc::new(RwLock::new(Names::new(&self.config.domain)));
        let mut follow = Follow::new(&self.client, names.clone());
        tokio::select! {
            () = follow.until_all_is_known() => {}
            () = shutdown.cancelled() => return,
        }
        let forwarder = Forwarder::new(self.config.own, self.config.upstreams);
        let mut server = Server::new(Answerer::new(names, forwarder));
        server.register_socket(self.sockets.udp);
        server.register_listener(self.sockets.tcp, IDLE, ANSWERS);
        tokio::select! {
            () = follow.on() => {}
            ended = server.block_until_done() => {
                tracing::error!(error = ?ended.err(), "the name server ended");
            }
            () = shutdown.cancelled() => {}
        }
        if let Err(error) = server.shutdown_gracefully().await {
            tracing::warn!(%error, "ending the name server");
        }
    }
}
