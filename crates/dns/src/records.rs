//! From the rules' words to those of the wire, and back.

use hickory_server::proto::op::LowerQuery;
use hickory_server::proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use netplan::names::{self, ABSENT_TTL, Data, Kind, Question};

/// What others may do with a zone that is not handed on: hours that nobody reads.
const REFRESH: i32 = 7200;
const RETRY: i32 = 1800;
const EXPIRE: i32 = 86_400;
/// All endpoints of a port are as good as each other (RFC 2782).
const WEIGHT: u16 = 100;

/// What is asked.
pub(crate) fn question(query: &LowerQuery) -> Question {
    Question::new(query.name().iter(), kind(query.query_type()))
}

fn kind(of: RecordType) -> Kind {
    match of {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::CNAME => Kind::Cname,
        RecordType::NS => Kind::Ns,
        RecordType::PTR => Kind::Ptr,
        RecordType::SOA => Kind::Soa,
        RecordType::SRV => Kind::Srv,
        RecordType::TXT => Kind::Txt,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}

/// The records as they are sent; one with a name that is too long to be sent is left out.
pub(crate) fn records(records: &[names::Record], ttl: u32) -> Vec<Record> {
    let written = records.iter().filter_map(|record| {
        let data = data(&record.data)?;
        Some(Record::from_rdata(name(&record.name)?, ttl, data))
    });
    written.collect()
}

/// A name as it is sent (RFC 1035 section 3.1).
pub(crate) fn name(text: &str) -> Option<Name> {
    Name::from_labels(text.split('.').map(str::as_bytes)).ok()
}

fn data(data: &Data) -> Option<RData> {
    Some(match data {
        Data::A(address) => RData::A((*address).into()),
        Data::Aaaa(address) => RData::AAAA((*address).into()),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Ns(server) => RData::NS(NS(name(server)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Data::Soa { server, mailbox } => {
            let (server, mailbox) = (name(server)?, name(mailbox)?);
            RData::SOA(SOA::new(
                server, mailbox, 1, REFRESH, RETRY, EXPIRE, ABSENT_TTL,
            ))
        }
        Data::Srv { port, target } => RData::SRV(SRV::new(0, WEIGHT, *port, name(target)?)),
        Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
    })
}
