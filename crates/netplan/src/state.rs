//! What is known of Services, slices and Pods, and what changed of the table of redirects since it was last taken.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use nat::{Change, Front, Table};

use crate::endpoints::Slice;
use crate::hostport;
use crate::service::{Traffic, redirects};

/// Namespace and name.
pub type Key = (String, String);

/// Who asks for a front. Of several the first has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Claimant {
    Service(Key),
    Pod(Key),
}

/// What is known.
#[derive(Debug, Default)]
pub struct State {
    node: String,
    services: BTreeMap<Key, Traffic>,
    /// The slices of a Service, by their names. They may come before it and stay after it.
    slices: BTreeMap<Key, BTreeMap<String, Slice>>,
    /// The Service of each slice.
    service_of: BTreeMap<Key, Key>,
    /// The redirects of Pods that have host ports.
    pods: BTreeMap<Key, Table>,
    /// What everybody's redirects are.
    tables: BTreeMap<Claimant, Table>,
    /// Cluster addresses are never shared, but one can go from a Service to the next before all is heard; external ones can be asked for
    /// by several.
    claims: BTreeMap<Front, BTreeSet<Claimant>>,
    dirty: BTreeSet<Claimant>,
    /// The table as it was last taken; none yet: all of it is new.
    taken: Option<Table>,
}

impl State {
    /// Nothing is known yet. `node` is where traffic comes from.
    pub fn new(node: impl Into<String>) -> Self {
        State {
            node: node.into(),
            ..State::default()
        }
    }

    /// A Service as it is now; `None`: it is gone.
    pub fn service(&mut self, key: Key, service: Option<&Service>) {
        let new = service.and_then(Traffic::of);
        if self.services.get(&key) == new.as_ref() {
            return;
        }
        match new {
            Some(new) => self.services.insert(key.clone(), new),
            None => self.services.remove(&key),
        };
        self.dirty.insert(Claimant::Service(key));
    }

    /// A Pod as it is now; `None`: it is gone.
    pub fn pod(&mut self, key: Key, pod: Option<&Pod>) {
        let new = pod.map(|pod| hostport::table(pod, &self.node));
        let new = new.filter(|table| !table.is_empty());
        if self.pods.get(&key) == new.as_ref() {
            return;
        }
        match new {
            Some(new) => self.pods.insert(key.clone(), new),
            None => self.pods.remove(&key),
        };
        self.dirty.insert(Claimant::Pod(key));
    }

    /// A slice as it is now; `None`: it is gone.
    pub fn slice(&mut self, key: Key, slice: Option<&EndpointSlice>) {
        let new = slice.and_then(Slice::of);
        let owner = new.as_ref().map(|new| (key.0.clone(), new.service.clone()));
        let before = self.service_of.get(&key).cloned();
        if let Some(before) = before.filter(|before| Some(before) != owner.as_ref()) {
            self.remove_slice(&before, &key);
        }
        let (Some(new), Some(owner)) = (new, owner) else {
            return;
        };
        let slices = self.slices.entry(owner.clone()).or_default();
        if slices.get(&key.1) == Some(&new) {
            return;
        }
        slices.insert(key.1.clone(), new);
        self.service_of.insert(key, owner.clone());
        self.dirty.insert(Claimant::Service(owner));
    }

    fn remove_slice(&mut self, owner: &Key, key: &Key) {
        self.service_of.remove(key);
        if let Some(slices) = self.slices.get_mut(owner) {
            slices.remove(&key.1);
            if slices.is_empty() {
                self.slices.remove(owner);
            }
        }
        self.dirty.insert(Claimant::Service(owner.clone()));
    }

    /// What has changed since this was last asked: at first everything there is.
    pub fn take(&mut self) -> Change {
        let mut touched = BTreeSet::new();
        for claimant in std::mem::take(&mut self.dirty) {
            self.plan(claimant, &mut touched);
        }
        let Some(mut taken) = self.taken.take() else {
            let all: Table = self.claims.keys().map(|f| (*f, self.winner(f))).collect();
            self.taken = Some(all.clone());
            return Change::All(all);
        };
        let (mut set, mut gone) = (Table::new(), BTreeSet::new());
        for front in touched {
            if !self.claims.contains_key(&front) {
                if taken.remove(&front).is_some() {
                    gone.insert(front);
                }
                continue;
            }
            let redirect = self.winner(&front);
            if taken.get(&front) != Some(&redirect) {
                taken.insert(front, redirect.clone());
                set.insert(front, redirect);
            }
        }
        self.taken = Some(taken);
        Change::Some { set, gone }
    }

    /// Forgets what was taken, because it could not be carried out: next time everything is.
    pub fn again(&mut self) {
        self.taken = None;
    }

    /// Finds somebody's redirects anew; the fronts before and after are touched.
    fn plan(&mut self, claimant: Claimant, touched: &mut BTreeSet<Front>) {
        let new = match &claimant {
            Claimant::Pod(key) => self.pods.get(key).cloned(),
            Claimant::Service(key) => {
                let slices = self.slices.get(key).into_iter();
                let slices: Vec<&Slice> = slices.flat_map(BTreeMap::values).collect();
                let service = self.services.get(key);
                service.map(|service| redirects(service, &slices, &self.node))
            }
        };
        let old = self.tables.remove(&claimant).unwrap_or_default();
        for front in old.keys() {
            touched.insert(*front);
            if let Some(claims) = self.claims.get_mut(front) {
                claims.remove(&claimant);
                if claims.is_empty() {
                    self.claims.remove(front);
                }
            }
        }
        let Some(new) = new else {
            return;
        };
        for front in new.keys() {
            touched.insert(*front);
            let claims = self.claims.entry(*front).or_default();
            claims.insert(claimant.clone());
        }
        self.tables.insert(claimant, new);
    }

    /// Services come before Pods, and both by their names.
    fn winner(&self, front: &Front) -> nat::Redirect {
        let first = self.claims.get(front).and_then(BTreeSet::first);
        let table = first.and_then(|claimant| self.tables.get(claimant));
        let redirect = table.and_then(|table| table.get(front));
        redirect.cloned().unwrap_or_default()
    }
}
