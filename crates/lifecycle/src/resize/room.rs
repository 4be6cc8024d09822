//! Who gets more of the node: resizes are granted while what all Pods were allocated fits, and wait otherwise.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::resources::{self, Qos};

/// Thousandths of a processor and bytes that a Pod asks for as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// cpu, in thousandths.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
}

impl Share {
    /// What a Pod asks for.
    pub fn of(pod: &Pod) -> Self {
        let all = resources::requests(pod);
        Share {
            cpu_milli: all.get("cpu").map_or(0, |q| q.milli_value()),
            memory_bytes: all.get("memory").map_or(0, |q| q.value()),
        }
    }

    fn plus(self, other: Self) -> Self {
        Share {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    fn or_more(self, other: Self) -> Self {
        Share {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }

    /// Name, amount of it and what of `other` compares with it.
    fn parts(self, other: Self) -> [(&'static str, i64, i64); 2] {
        [
            ("cpu", self.cpu_milli, other.cpu_milli),
            ("memory", self.memory_bytes, other.memory_bytes),
        ]
    }
}

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

    /// A Pod holds so much from now on.
    pub fn hold(&mut self, uid: &str, share: Share) {
        self.held.entry(uid.to_owned()).or_default().share = share;
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
                let grows = ask.share.parts(held.share).iter().any(|(_, a, b)| a > b);
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
                held.share = held.share.or_more(ask.share);
                granted.push(uid);
            }
        }
        granted
    }

    /// Why what a Pod asks for does not fit beside the others; nothing if it does, or asks for nothing. Less of a resource always
    /// fits.
    pub fn obstacle(&self, uid: &str) -> Option<String> {
        let held = self.held.get(uid)?;
        let wanted = held.asks.as_ref()?.share;
        let others = self.held.iter().filter(|(other, _)| *other != uid);
        let used = others.fold(Share::default(), |sum, (_, held)| sum.plus(held.share));
        let short = wanted
            .parts(held.share)
            .into_iter()
            .zip(self.capacity.parts(used))
            .find(|((_, wanted, has), (_, capacity, used))| {
                wanted > has && *wanted > capacity.saturating_sub(*used)
            });
        short.map(|((name, wanted, _), (_, capacity, used))| {
            format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            )
        })
    }
}
