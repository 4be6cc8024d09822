//! Names that are not the cluster's: asked of the node's own name servers, one after another, and kept for a while.

mod cache;
mod exchange;
mod upstreams;

use std::net::SocketAddr;
use std::time::Duration;

use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::{LowerName, Name, RecordType};
use hickory_server::server::Request;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use self::cache::Cache;
use self::exchange::exchange;
pub use self::upstreams::Upstreams;
use crate::answer::Said;

/// How long one server is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long all of them are: the resolvers of glibc and musl give up after five seconds (resolv.conf(5)).
const ALL_PATIENCE: Duration = Duration::from_millis(4500);
/// Datagrams get lost, so even the only server is asked twice.
const LEAST_ATTEMPTS: usize = 2;
/// Questions under way at once.
const AT_ONCE: usize = 1000;

/// A question to others, and what its answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    name: LowerName,
    kind: RecordType,
    /// Records of DNSSEC are wanted (RFC 3225).
    dnssec_ok: bool,
    /// They will be checked by who asks (RFC 4035 section 3.2.2).
    checking_disabled: bool,
}

impl Asked {
    /// A question that comes up in answering a request.
    pub(crate) fn of(request: &Request, name: Name, kind: RecordType) -> Self {
        let edns = request.edns.as_ref();
        Asked {
            name: LowerName::from(name),
            kind,
            dnssec_ok: edns.is_some_and(|edns| edns.flags().dnssec_ok),
            checking_disabled: request.metadata.checking_disabled,
        }
    }
}

/// Asks others.
pub(crate) struct Forwarder {
    own: Vec<SocketAddr>,
    upstreams: Box<dyn Fn() -> Upstreams + Send + Sync>,
    cache: Cache,
    room: Semaphore,
}

impl Forwarder {
    pub(crate) fn new(
        own: Vec<SocketAddr>,
        upstreams: Box<dyn Fn() -> Upstreams + Send + Sync>,
    ) -> Self {
        Forwarder {
            own,
            upstreams,
            cache: Cache::default(),
            room: Semaphore::new(AT_ONCE),
        }
    }

    /// What is found, or the code that says why nothing is: REFUSED if there is nobody to ask, SERVFAIL if nobody answers.
    pub(crate) async fn ask(&self, asked: &Asked) -> Said {
        self.cache.get(asked, self.fetch(asked)).await
    }

    /// Whether this is a domain that the node itself looks names up in.
    pub(crate) fn is_searched(&self, domain: &str) -> bool {
        let searches = (self.upstreams)().searches;
        searches.iter().any(|of| of.eq_ignore_ascii_case(domain))
    }

    async fn fetch(&self, asked: &Asked) -> Said {
        let Ok(_room) = self.room.try_acquire() else {
            return Said::only(ResponseCode::ServFail);
        };
        let mut servers = (self.upstreams)().servers;
        servers.retain(|server| !self.own.contains(server));
        if servers.is_empty() {
            return Said::only(ResponseCode::Refused);
        }
        let end = Instant::now() + ALL_PATIENCE;
        let attempts = servers.len().max(LEAST_ATTEMPTS);
        let mut worst = Said::only(ResponseCode::ServFail);
        for server in servers.iter().cycle().take(attempts) {
            let attempt = timeout(PATIENCE, exchange(*server, asked));
            match timeout_at(end, attempt).await {
                Ok(Ok(Ok(message))) if is_answer(message.metadata.response_code) => {
                    return said(message);
                }
                Ok(Ok(Ok(message))) => worst = said(message),
                Ok(Ok(Err(error))) => tracing::debug!(%error, "asking {server}"),
                Ok(Err(_)) => tracing::debug!("{server} does not answer"),
                Err(_) => break,
            }
        }
        worst
    }
}

/// Another server would not say anything else.
fn is_answer(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

fn said(message: Message) -> Said {
    Said {
        code: message.metadata.response_code,
        is_ours: false,
        answers: message.answers,
        authorities: message.authorities,
        more: message.additionals,
    }
}
