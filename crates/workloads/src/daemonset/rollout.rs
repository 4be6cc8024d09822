//! How Pods of the present template take the places of others.

use k8s_openapi::api::core::v1::Pod;

use super::Place;
use super::fleet::{Fleet, is_leaving};
use super::manage::Changes;

/// The Pods of a node that nobody has asked to go.
enum Pair<'a> {
    /// None.
    None,
    New(&'a Pod),
    Old(&'a Pod),
    /// A new one beside the old one.
    Both {
        new: &'a Pod,
        old: &'a Pod,
    },
    /// Several of the same kind.
    Crowd,
}

fn pair<'a>(fleet: &Fleet<'a>, node: &str) -> Pair<'a> {
    let staying = fleet.on(node).iter().copied().filter(|p| !is_leaving(p));
    let (new, old): (Vec<&Pod>, Vec<&Pod>) = staying.partition(|pod| fleet.is_new(pod));
    match (&new[..], &old[..]) {
        ([], []) => Pair::None,
        ([new], []) => Pair::New(new),
        ([], [old]) => Pair::Old(old),
        ([new], [old]) => Pair::Both { new, old },
        _ => Pair::Crowd,
    }
}

impl<'a> Changes<'a> {
    /// Goes on with the replacement of old Pods, as far as that may go now.
    pub(super) fn roll(&mut self, fleet: &Fleet<'a>) {
        match fleet.bounds() {
            (0, unavailable) => self.replace(fleet, unavailable),
            (surge, _) => self.surge(fleet, surge),
        }
    }

    /// Deletes old Pods: those that are not available, and as many others as there may be nodes without. What a node gets then is
    /// another plan's.
    fn replace(&mut self, fleet: &Fleet<'a>, most: usize) {
        let wanted = fleet.wanted().filter(|node| fleet.on(node).is_empty());
        let mut without = wanted.count();
        let mut available = Vec::new();
        for node in fleet.pods.keys() {
            match pair(fleet, node) {
                Pair::Old(old) if fleet.is_available(old) => available.push(old),
                Pair::Old(old) => {
                    without += 1;
                    self.delete(old);
                }
                Pair::New(new) if fleet.is_available(new) => {}
                _ => without += 1,
            }
        }
        for old in available.into_iter().take(most.saturating_sub(without)) {
            self.delete(old);
        }
    }

    /// Makes new Pods beside old ones: beside those that are not available, and as many others as may be. An old one goes when the new
    /// one is available.
    fn surge(&mut self, fleet: &Fleet<'a>, most: usize) {
        let mut surging = 0;
        let mut available = 0;
        let mut candidates = Vec::new();
        let mut stranded = Vec::new();
        for (node, place) in &fleet.places {
            let pair = pair(fleet, node);
            if let Pair::Old(pod) | Pair::New(pod) | Pair::Both { old: pod, .. } = pair {
                available += usize::from(fleet.is_available(pod));
            }
            match pair {
                Pair::Crowd => surging += 1,
                Pair::Both { new, .. } if !fleet.is_available(new) => surging += 1,
                Pair::Both { old, .. } => {
                    self.delete(old);
                }
                Pair::Old(old) => match (place, fleet.is_available(old)) {
                    (Place::Runs, true) => candidates.push(*node),
                    (Place::Runs, false) => self.create(node),
                    (_, true) => stranded.push(old),
                    (_, false) => {
                        self.delete(old);
                    }
                },
                Pair::New(_) | Pair::None => {}
            }
        }
        // Where there is to be none any more, an old one goes when there are enough elsewhere.
        let spare = available.saturating_sub(fleet.wanted().count());
        for old in stranded.into_iter().take(spare) {
            self.delete(old);
        }
        for node in candidates.into_iter().take(most.saturating_sub(surging)) {
            self.create(node);
        }
    }
}
