//! Questions and answers, as values: what of a DNS message the rules decide about (RFC 1035 section 4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How long whoever asked may keep a record, in seconds: what kubeadm sets for CoreDNS.
pub const TTL: u32 = 30;
/// How long whoever asked may believe that there is nothing, in seconds (RFC 2308 section 4): not at all, as it may be waiting for it.
pub const ABSENT_TTL: u32 = 0;

/// The types of records that are told apart (RFC 1035 section 3.2.2, RFC 2782, RFC 3596).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// The canonical name of an alias.
    Cname,
    /// A name server.
    Ns,
    /// The name of an address.
    Ptr,
    /// The start of a zone.
    Soa,
    /// Host and port of a named port.
    Srv,
    /// Text.
    Txt,
    /// Whatever there is.
    Any,
    /// A type that no name here has.
    Other,
}

/// What is asked about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub(crate) labels: Vec<String>,
    /// The type of record.
    pub kind: Kind,
}

impl Question {
    /// Asks about the name of these labels, the host's first; capitals do not matter (RFC 4343).
    pub fn new<L: AsRef<[u8]>>(labels: impl IntoIterator<Item = L>, kind: Kind) -> Self {
        let text = |label: L| String::from_utf8_lossy(label.as_ref()).to_ascii_lowercase();
        Question {
            labels: labels.into_iter().map(text).collect(),
            kind,
        }
    }

    /// Asks about a name as it is written, with or without the last dot.
    pub fn of(name: &str, kind: Kind) -> Self {
        Question::new(name.split('.').filter(|label| !label.is_empty()), kind)
    }

    pub(crate) fn name(&self) -> String {
        self.labels.join(".")
    }
}

/// What a record says. Names are whole, in lower case, without the last dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// What an alias stands for.
    Cname(String),
    /// The name server of a zone.
    Ns(String),
    /// The name of an address.
    Ptr(String),
    /// The start of a zone.
    Soa {
        /// Its name server.
        server: String,
        /// Whom to write to.
        mailbox: String,
    },
    /// A port, and the host that serves it.
    Srv {
        /// Number of the port.
        port: u16,
        /// Name of the host.
        target: String,
    },
    /// Text.
    Txt(String),
}

impl Data {
    pub(crate) fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Data::A(address),
            IpAddr::V6(address) => Data::Aaaa(address),
        }
    }

    pub(crate) fn answers(&self, kind: Kind) -> bool {
        let own = match self {
            Data::A(_) => Kind::A,
            Data::Aaaa(_) => Kind::Aaaa,
            Data::Cname(_) => Kind::Cname,
            Data::Ns(_) => Kind::Ns,
            Data::Ptr(_) => Kind::Ptr,
            Data::Soa { .. } => Kind::Soa,
            Data::Srv { .. } => Kind::Srv,
            Data::Txt(_) => Kind::Txt,
        };
        kind == own || kind == Kind::Any
    }
}

/// A record; its time to live is [`TTL`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Whose it is, written as [`Data`]'s names.
    pub name: String,
    /// What it says.
    pub data: Data,
}

/// What is known about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name is the cluster's.
    Ours(Reply),
    /// It is not: whoever the node asks may know it.
    Elsewhere,
}

/// An answer with authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Whether the name exists, or the one it is an alias of; if not, the code is NXDOMAIN (RFC 8020).
    pub exists: bool,
    /// The answer: aliases first.
    pub records: Vec<Record>,
    /// The start of the zone, where the answer is that there is nothing (RFC 2308).
    pub zone: Option<Record>,
    /// Addresses of the hosts that the answer names.
    pub more: Vec<Record>,
    /// The last alias leads to this name, which is not the cluster's. What is found there belongs to the answer: resolvers of
    /// containers ask once.
    pub follow: Option<String>,
}
