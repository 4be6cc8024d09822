//! From a request to its response.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{
    Edns, Header, HeaderCounts, LowerQuery, Metadata, OpCode, ResponseCode,
};
use hickory_server::proto::rr::{DNSClass, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use netplan::names::{ABSENT_TTL, Answer, Names, Reply, TTL};

use crate::forward::{Asked, Forwarder};
use crate::records::{name, question, records};

/// Largest datagram that is sent, and asked for: no network cuts it up (RFC 9715 has the reasons).
pub(crate) const DATAGRAM: u16 = 1232;
/// What every resolver can receive (RFC 1035 section 2.3.4).
const LEAST_DATAGRAM: u16 = 512;
/// The EDNS version there is.
const EDNS_VERSION: u8 = 0;

/// What is said in a response.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) code: ResponseCode,
    pub(crate) is_ours: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) more: Vec<Record>,
}

impl Said {
    /// Nothing but a code.
    pub(crate) fn only(code: ResponseCode) -> Self {
        Said {
            code,
            is_ours: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            more: Vec::new(),
        }
    }
}

/// Answers requests.
pub(crate) struct Answerer {
    names: Arc<RwLock<Names>>,
    forwarder: Forwarder,
    /// Counts answers, so that each begins with another of several addresses.
    turn: AtomicUsize,
}

impl Answerer {
    pub(crate) fn new(names: Arc<RwLock<Names>>, forwarder: Forwarder) -> Self {
        Answerer {
            names,
            forwarder,
            turn: AtomicUsize::new(0),
        }
    }

    async fn say(&self, request: &Request) -> Said {
        let Ok(info) = request.request_info() else {
            return Said::only(ResponseCode::FormErr);
        };
        if info.metadata.op_code != OpCode::Query {
            return Said::only(ResponseCode::NotImp);
        }
        if request
            .edns
            .as_ref()
            .is_some_and(|e| e.version() > EDNS_VERSION)
        {
            return Said::only(ResponseCode::BADVERS);
        }
        let query = info.query;
        let is_transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || is_transfer {
            return Said::only(ResponseCode::Refused);
        }
        let (question, from) = (question(query), info.src.ip());
        let known = self.names().answer(&question, from);
        match known {
            Answer::Ours(reply) => self.ours(request, query, reply).await,
            Answer::Elsewhere => self.elsewhere(request, query, from).await,
        }
    }

    /// Each change leaves the names whole, so a poisoned lock is still good.
    fn names(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ours(&self, request: &Request, query: &LowerQuery, reply: Reply) -> Said {
        let mut said = Said {
            code: match reply.exists {
                true => ResponseCode::NoError,
                false => ResponseCode::NXDomain,
            },
            is_ours: true,
            answers: records(&reply.records, TTL),
            authorities: records(reply.zone.as_slice(), ABSENT_TTL),
            more: records(&reply.more, TTL),
        };
        self.take_turns(&mut said.answers);
        if let Some(target) = reply.follow.and_then(|target| name(&target)) {
            let asked = Asked::of(request, target, query.query_type());
            let found = self.forwarder.ask(&asked).await;
            said.code = found.code;
            said.answers.extend(found.answers);
            said.authorities = found.authorities;
        }
        said
    }

    /// Most who ask take the first address (CoreDNS has a plugin for this).
    fn take_turns(&self, answers: &mut [Record]) {
        let is_address = |r: &Record| matches!(r.record_type(), RecordType::A | RecordType::AAAA);
        let addresses = answers.iter().position(is_address);
        let addresses = addresses.and_then(|first| answers.get_mut(first..));
        if let Some(addresses) = addresses.filter(|addresses| addresses.len() > 1) {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            addresses.rotate_left(turn % addresses.len());
        }
    }

    async fn elsewhere(&self, request: &Request, query: &LowerQuery, from: IpAddr) -> Said {
        let name = query.original().name();
        let asked = Asked::of(request, name.clone(), query.query_type());
        let mut said = self.forwarder.ask(&asked).await;
        if said.code == ResponseCode::NXDomain && self.is_expected(query, from) {
            said.code = ResponseCode::NoError;
        }
        said
    }

    /// Whether this is what the search list that a Pod has from its node makes of the name of a Service: [`Names::is_expected`].
    fn is_expected(&self, query: &LowerQuery, from: IpAddr) -> bool {
        let text = query.name().to_string();
        let Some((first, domain)) = text.trim_end_matches('.').split_once('.') else {
            return false;
        };
        let is_expected = self.names().is_expected(first, from);
        is_expected && self.forwarder.is_searched(domain)
    }
}

#[async_trait]
impl RequestHandler for Answerer {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let said = self.say(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = said.code;
        metadata.authoritative = said.is_ours;
        metadata.recursion_available = true;
        let edns = request.edns.as_ref().map(edns);
        let mut message = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            message.edns(edns);
        }
        let Said {
            answers,
            authorities,
            more,
            ..
        } = &said;
        let message = message.build(metadata, answers, authorities, [], more);
        response
            .send_response(message)
            .await
            .unwrap_or_else(|error| {
                tracing::debug!(%error, "answering {}", request.src());
                let counts = HeaderCounts::default();
                ResponseInfo::from(Header { metadata, counts })
            })
    }
}

/// What is said of EDNS to one who has spoken of it (RFC 6891 section 6.1.1, RFC 3225).
fn edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_version(EDNS_VERSION);
    edns.set_max_payload(asked.max_payload().clamp(LEAST_DATAGRAM, DATAGRAM));
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}
