//! Chains of others that drop what their rules say nothing of, and the rules that let Pods' traffic pass there.
//!
//! A packet that one table accepts still meets the chains of all others, and one that drops is enough. So these rules are in a chain of
//! somebody else's, as there is no other way; they come last, so that whatever its owner decided holds.

use crate::netlink::{Message, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, Received, find, netfilter};

use super::expression::{
    Connection, KNOWN, Meta, REDIRECTED, accept, connection, extension, is, name,
};
use super::{
    DELETE_RULE, FORWARD, INPUT, NEW_CHAIN, NEW_RULE, NF_TABLES, NFPROTO_INET, NFPROTO_IPV4,
    NFPROTO_IPV6, NFPROTO_UNSPEC, in_batch,
};

const GET_CHAIN: u16 = netfilter(NF_TABLES, 4);
const GET_RULE: u16 = netfilter(NF_TABLES, 7);

/// The table of a chain or rule (`NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`).
const TABLE: u16 = 1;
/// Where a chain is entered (`NFTA_CHAIN_HOOK`); others have none.
const HOOK: u16 = 4;

/// A chain of somebody else's that packets enter where they are passed on, or where they are for this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Barrier {
    /// Of whose packets its table hears, by the kernel's number.
    family: u8,
    table: String,
    chain: String,
    hook: u32,
    /// Whether it drops what its rules say nothing of.
    pub(crate) is_closed: bool,
}

/// Asks for every chain there is.
pub(crate) fn chains() -> Message {
    let header = [NFPROTO_UNSPEC, 0, 0, 0];
    Message::bare("list chains", GET_CHAIN, NLM_F_DUMP, &header)
}

/// Whether a notice may mean that a chain has become a barrier, or has lost a rule. Tables that are `known` have none.
pub(crate) fn concerns(notice: &Received<'_>, known: &[String]) -> bool {
    let attributes = notice.body.get(4..).unwrap_or_default();
    let is_about = match notice.kind {
        NEW_CHAIN => find(attributes, HOOK).is_some(),
        DELETE_RULE => true,
        _ => false,
    };
    is_about
        && !find(attributes, TABLE)
            .and_then(text)
            .is_some_and(|table| known.contains(&table))
}

impl Barrier {
    /// Reads a chain as the kernel shows it; `None` for one that is none of these, or of no family of Pods.
    pub(crate) fn parse(body: &[u8], families: &[nat::Family]) -> Option<Barrier> {
        const DROP: u32 = 0;
        let family = *body.first()?;
        let has = |family| families.contains(&family);
        let is_known = match family {
            NFPROTO_INET => true,
            NFPROTO_IPV4 => has(nat::Family::V4),
            NFPROTO_IPV6 => has(nat::Family::V6),
            _ => false,
        };
        let attributes = body.get(4..).filter(|_| is_known)?;
        let of = |kind| find(attributes, kind);
        let hook = find(of(HOOK)?, 1).and_then(number)?;
        let filters = of(7).and_then(text).is_some_and(|kind| kind == "filter");
        if !filters || ![FORWARD.number, INPUT.number].contains(&hook) {
            return None;
        }
        Some(Barrier {
            family,
            table: text(of(TABLE)?)?,
            chain: text(of(3)?)?,
            hook,
            is_closed: of(5).and_then(number) == Some(DROP),
        })
    }

    /// Asks for its rules.
    pub(crate) fn rules(&self) -> Message {
        self.request("list rules", GET_RULE, NLM_F_DUMP)
            .attr_str(TABLE, &self.table)
            .attr_str(2, &self.chain)
    }

    /// How many rules let the Pods of a bridge pass.
    pub(crate) fn ways(&self) -> usize {
        self.passages().len()
    }

    /// Adds these rules at the chain's end, in place of those with these handles.
    pub(crate) fn open(&self, bridge: &str, instead_of: &[u64]) -> Vec<Message> {
        let mut messages: Vec<Message> = instead_of.iter().map(|rule| self.delete(*rule)).collect();
        messages.extend(self.passages().into_iter().map(|passage| {
            let what = format!("let Pods through chain {}", self.chain);
            self.request(&what, NEW_RULE, NLM_F_CREATE | NLM_F_APPEND)
                .attr_str(TABLE, &self.table)
                .attr_str(2, &self.chain)
                .nest(4, |m| passage.fill(m, bridge))
                .attr(7, &mark(bridge))
        }));
        in_batch(messages)
    }

    /// Removes the rules with these handles.
    pub(crate) fn close(&self, rules: &[u64]) -> Vec<Message> {
        in_batch(rules.iter().map(|rule| self.delete(*rule)).collect())
    }

    fn delete(&self, rule: u64) -> Message {
        self.request("remove a rule that let Pods through", DELETE_RULE, 0)
            .attr_str(TABLE, &self.table)
            .attr_str(2, &self.chain)
            .attr(3, &rule.to_be_bytes())
    }

    fn request(&self, what: &str, kind: u16, flags: u16) -> Message {
        Message::bare(what, kind, flags, &[self.family, 0, 0, 0])
    }

    /// What is let through: on its way through this machine whatever comes from Pods, and to them what was let out, belongs to that or was
    /// redirected; and of what is for the machine what Pods reach by Services, such as the API and the name server.
    fn passages(&self) -> Vec<Passage> {
        let by_connection: &[Which] = match self.is_of_iptables() {
            true => &[Which::Words],
            false => &[Which::Is(KNOWN), Which::Is(REDIRECTED)],
        };
        let by = |link: Meta| by_connection.iter().map(move |which| Passage(link, *which));
        match self.hook == FORWARD.number {
            true => {
                let from_pods = Passage(Meta::NameIn, Which::Any);
                std::iter::once(from_pods)
                    .chain(by(Meta::NameOut))
                    .collect()
            }
            false => by(Meta::NameIn).collect(),
        }
    }

    /// Whether iptables made it, which shows no chain that has expressions it does not know.
    fn is_of_iptables(&self) -> bool {
        let is_named = |name| self.chain == name;
        self.family != NFPROTO_INET
            && self.table == "filter"
            && (is_named("FORWARD") || is_named("INPUT"))
    }
}

/// One rule: on which side of the packet Pods are, and which connections it is about.
struct Passage(Meta, Which);

#[derive(Clone, Copy)]
enum Which {
    Any,
    Is(Connection),
    /// Known or redirected, in iptables' words.
    Words,
}

impl Passage {
    fn fill(&self, rule: Message, bridge: &str) -> Message {
        let rule = is(rule, self.0, &name(bridge));
        accept(match self.1 {
            Which::Any => rule,
            Which::Is(what) => connection(rule, what),
            Which::Words => extension(rule, "conntrack", 3, &known_or_redirected()),
        })
    }
}

/// What iptables' `conntrack` compares with (`struct xt_conntrack_mtinfo3`, linux/netfilter/xt_conntrack.h): whether a connection is known,
/// belongs to a known one, or had its destination rewritten.
fn known_or_redirected() -> Vec<u8> {
    const LENGTH: usize = 168;
    const FLAGS: usize = 146;
    const STATES: usize = 150;
    const BY_STATE: u16 = 1;
    const ESTABLISHED: u16 = 1 << 1;
    const RELATED: u16 = 1 << 2;
    const REWRITTEN: u16 = 1 << 7;
    let mut info = vec![0; LENGTH];
    info[FLAGS..FLAGS + 2].copy_from_slice(&BY_STATE.to_ne_bytes());
    let states = ESTABLISHED | RELATED | REWRITTEN;
    info[STATES..STATES + 2].copy_from_slice(&states.to_ne_bytes());
    info
}

/// The handle of a rule, if it bears a bridge's mark.
pub(crate) fn own(body: &[u8], bridge: &str) -> Option<u64> {
    let attributes = body.get(4..)?;
    find(attributes, 7).filter(|data| *data == mark(bridge))?;
    Some(u64::from_be_bytes(find(attributes, 3)?.try_into().ok()?))
}

/// A comment, as nft and iptables keep and show it: its kind, its length, a zero-terminated text.
fn mark(bridge: &str) -> Vec<u8> {
    let text = format!("Pods of {bridge}\0");
    let mut mark = vec![0, text.len() as u8];
    mark.extend(text.as_bytes());
    mark
}

fn number(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.try_into().ok()?))
}

fn text(payload: &[u8]) -> Option<String> {
    let text = payload.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELETE_CHAIN: u16 = netfilter(NF_TABLES, 5);

    const NETLINK_HEADER: usize = 16;

    fn heard((kind, message): (u16, Message)) -> bool {
        let known = ["cb0".to_owned(), "cb0-services".to_owned()];
        let notice = Received {
            kind,
            sequence: 0,
            body: &message.encode(0)[NETLINK_HEADER..],
        };
        concerns(&notice, &known)
    }

    fn notice(kind: u16, table: &str) -> (u16, Message) {
        let message = Message::bare("", kind, 0, &[NFPROTO_INET, 0, 0, 0]);
        (kind, message.attr_str(TABLE, table).attr_str(3, "forward"))
    }

    fn hooked((kind, message): (u16, Message)) -> (u16, Message) {
        let hook = |m: Message| m.attr_be32(1, FORWARD.number);
        (kind, message.nest(HOOK, hook))
    }

    #[test]
    fn only_hooks_and_lost_rules_of_others_concern() {
        assert!(heard(hooked(notice(NEW_CHAIN, "filter"))));
        assert!(heard(notice(DELETE_RULE, "filter")));
        assert!(
            heard(notice(DELETE_RULE, "cb1-services")),
            "another engine's"
        );

        assert!(
            !heard(notice(NEW_CHAIN, "filter")),
            "nothing comes there by itself"
        );
        assert!(!heard(hooked(notice(DELETE_CHAIN, "filter"))));
        assert!(!heard(notice(NEW_RULE, "filter")));
        assert!(!heard(hooked(notice(NEW_CHAIN, "cb0"))));
        assert!(!heard(notice(NEW_CHAIN, "cb0-services")));
        assert!(!heard(notice(DELETE_RULE, "cb0-services")));
    }
}
