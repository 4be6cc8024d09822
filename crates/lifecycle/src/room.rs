//! What a node has and which Pod holds how much of it: whether another Pod finds room, and who gets more. Resizes are granted while what
//! all Pods were allocated fits, and wait otherwise (§12.7).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::preempt::Standing;
use crate::resources::{self, Qos};
use crate::share::{Share, Shortage};

/// A resize that is wanted. Pods go before others that ask for no more than they have, then by priority, by class, and by how long
/// they have waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    share: Share,
    priority: i32,
    is_guaranteed: bool,
    since: Timestamp,
}

impl Ask {
    /// What a Pod, as its spec wants it, asks for since then.
    pub fn of(pod: &Pod, since: Timestamp) -> Self {
        Ask {
            share: Share::of(pod),
            priority: pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0),
            is_guaranteed: resources::qos(pod) == Qos::Guaranteed,
            since,
        }
    }
}

/// What becomes of a wanted resize.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is allocated.
    Granted,
    /// It has to wait, for this reason.
    Deferred(String),
}

#[derive(Debug, Clone, Default)]
struct Held {
    share: Share,
    asks: Option<Ask>,
    standing: Option<Standing>,
}

/// What a node has, and which Pod holds how much of it. Pods are known by UID.
#[derive(Debug, Clone, Default)]
pub struct Room {
    capacity: Share,
    held: BTreeMap<String, Held>,
}

impl Room {
    /// A node without Pods.
    pub fn new(capacity: Share) -> Self {
        Room {
            capacity,
            held: BTreeMap::new(),
        }
    }

    /// The node has so much from now on.
    pub fn resize(&mut self, capacity: Share) {
        self.capacity = capacity;
    }

    /// What the node has.
    pub fn capacity(&self) -> &Share {
        &self.capacity
    }

    /// A Pod holds so much from now on.
    pub fn hold(&mut self, uid: &str, share: Share) {
        self.held.entry(uid.to_owned()).or_default().share = share;
    }

    /// A Pod that holds something stands so among the others; without that it is not known whether it may be told to go.
    pub fn stand(&mut self, uid: &str, standing: Standing) {
        self.held.entry(uid.to_owned()).or_default().standing = Some(standing);
    }

    /// Pods that hold something, as they stand.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&str, &Share, Standing)> {
        let held = self.held.iter();
        held.filter_map(|(uid, held)| Some((uid.as_str(), &held.share, held.standing?)))
    }

    /// UIDs of Pods that hold something.
    pub fn holders(&self) -> impl Iterator<Item = &str> {
        self.held.keys().map(String::as_str)
    }

    /// Whether a Pod holds something.
    pub fn is_held(&self, uid: &str) -> bool {
        self.held.contains_key(uid)
    }

    /// A Pod holds nothing any more, and wants nothing.
    pub fn leave(&mut self, uid: &str) {
        self.held.remove(uid);
    }

    /// A Pod wants to hold so much, or wants nothing else any more.
    pub fn ask(&mut self, uid: &str, ask: Option<Ask>) {
        self.held.entry(uid.to_owned()).or_default().asks = ask;
    }

    /// Grants what fits, in order; the Pods that got what they asked for. They hold the greater of both until they say that the
    /// resize is done.
    pub fn grant(&mut self) -> Vec<String> {
        let mut waiting: Vec<_> = self
            .held
            .iter()
            .filter_map(|(uid, held)| {
                let ask = held.asks.as_ref()?;
                let more = |name: &str| ask.share.amount(name) > held.share.amount(name);
                let grows = ask.share.names().any(more);
                let order = (grows, Reverse(ask.priority), !ask.is_guaranteed, ask.since);
                Some((order, uid.clone()))
            })
            .collect();
        waiting.sort();
        let mut granted = Vec::new();
        for (_, uid) in waiting {
            if self.obstacle(&uid).is_some() {
                continue;
            }
            if let Some(held) = self.held.get_mut(&uid)
                && let Some(ask) = held.asks.take()
            {
                held.share.raise(&ask.share);
                granted.push(uid);
            }
        }
        granted
    }

    /// Why what a Pod asks for does not fit beside the others; nothing if it does, or asks for nothing.
    pub fn obstacle(&self, uid: &str) -> Option<String> {
        let wanted = &self.held.get(uid)?.asks.as_ref()?.share;
        let shortages = self.shortages(uid, wanted);
        shortages.first().map(Shortage::to_string)
    }

    /// What there is too little of for a Pod that wants to hold so much beside the others, in order. Less of a resource than it holds
    /// always fits.
    pub fn shortages(&self, uid: &str, wanted: &Share) -> Vec<Shortage> {
        let nothing = Share::default();
        let held = self.held.get(uid).map_or(&nothing, |held| &held.share);
        let used = self.others(uid);
        let short = |name: &str| {
            let shortage = Shortage {
                resource: name.to_owned(),
                requested: wanted.amount(name),
                used: used.amount(name),
                capacity: self.capacity.amount(name),
            };
            let grows = shortage.requested > held.amount(name);
            let left = shortage.capacity.saturating_sub(shortage.used);
            (grows && shortage.requested > left).then_some(shortage)
        };
        wanted.names().filter_map(short).collect()
    }

    /// Whether another Pod holds a port of the node that this one wants.
    pub fn is_port_taken(&self, uid: &str, wanted: &Share) -> bool {
        self.others(uid).shares_port(wanted)
    }

    fn others(&self, uid: &str) -> Share {
        let mut sum = Share::default();
        for (_, held) in self.held.iter().filter(|(other, _)| *other != uid) {
            sum.add(&held.share);
        }
        sum
    }
}
