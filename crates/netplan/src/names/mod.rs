//! What the names of the cluster stand for, as the specification of DNS-based service discovery 1.1 has it and CoreDNS does it: from
//! Services, EndpointSlices and Pods to the answer to a question.
//!
//! [`Names`] holds what is known, indexed so that an event costs what it changes and a question what it finds. An answer depends on
//! what is known only, so it is new as soon as an event is heard; nothing is kept of answers.
//!
//! One rule is our own. BusyBox's `nslookup` asks for a name under each domain of the search list and fails if any of them does not
//! exist. So to a Pod in whose namespace there is a Service `NAME`, `NAME.svc.DOMAIN` and `NAME.DOMAIN` exist and have nothing.

mod lookup;
mod message;
mod reverse;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::Key;
pub use message::{ABSENT_TTL, Answer, Data, Kind, Question, Record, Reply, TTL};
pub use service::PodAt;
use service::{Named, Slice};

/// Everything that has a name.
#[derive(Debug)]
pub struct Names {
    /// The cluster's domain, label by label.
    domain: Vec<String>,
    services: BTreeMap<Key, Named>,
    /// Each slice by its own name; it may come before its Service and stay after it.
    slices: BTreeMap<Key, Slice>,
    /// The names of a Service's slices.
    of_service: BTreeMap<Key, BTreeSet<String>>,
    pods: BTreeMap<Key, PodAt>,
    services_at: Places,
    slices_at: Places,
    pods_at: Places,
}

/// Who is at an address.
#[derive(Debug, Default)]
struct Places(BTreeMap<IpAddr, BTreeSet<Key>>);

impl Places {
    fn enter(&mut self, key: &Key, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            self.0.entry(address).or_default().insert(key.clone());
        }
    }

    fn leave(&mut self, key: &Key, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            if let Some(keys) = self.0.get_mut(&address) {
                keys.remove(key);
                if keys.is_empty() {
                    self.0.remove(&address);
                }
            }
        }
    }

    fn at(&self, address: IpAddr) -> impl Iterator<Item = &Key> {
        self.0.get(&address).into_iter().flatten()
    }
}

impl Names {
    /// Nothing but the domain `domain` is known.
    pub fn new(domain: &str) -> Self {
        Names {
            domain: Question::of(domain, Kind::Any).labels,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            of_service: BTreeMap::new(),
            pods: BTreeMap::new(),
            services_at: Places::default(),
            slices_at: Places::default(),
            pods_at: Places::default(),
        }
    }

    /// A Service as it is now; `None`: it is gone.
    pub fn service(&mut self, key: Key, service: Option<&Service>) {
        if let Some(old) = self.services.remove(&key) {
            self.services_at.leave(&key, old.addresses());
        }
        if let Some(new) = service.and_then(Named::of) {
            self.services_at.enter(&key, new.addresses());
            self.services.insert(key, new);
        }
    }

    /// A slice as it is now; `None`: it is gone.
    pub fn slice(&mut self, key: Key, slice: Option<&EndpointSlice>) {
        if let Some(old) = self.slices.remove(&key) {
            self.slices_at.leave(&key, addresses(&old));
            let owner = (key.0.clone(), old.service);
            if let Some(names) = self.of_service.get_mut(&owner) {
                names.remove(&key.1);
                if names.is_empty() {
                    self.of_service.remove(&owner);
                }
            }
        }
        if let Some(new) = slice.and_then(Slice::of) {
            self.slices_at.enter(&key, addresses(&new));
            let owner = (key.0.clone(), new.service.clone());
            let names = self.of_service.entry(owner).or_default();
            names.insert(key.1.clone());
            self.slices.insert(key, new);
        }
    }

    /// A Pod as it is now; `None`: it is gone.
    pub fn pod(&mut self, key: Key, pod: Option<PodAt>) {
        if let Some(old) = self.pods.remove(&key) {
            self.pods_at.leave(&key, old.addresses.into_iter());
        }
        if let Some(new) = pod {
            self.pods_at.enter(&key, new.addresses.iter().copied());
            self.pods.insert(key, new);
        }
    }
}

fn addresses(slice: &Slice) -> impl Iterator<Item = IpAddr> {
    let hosts = slice.endpoints.iter();
    hosts.flat_map(|host| host.addresses.iter().copied())
}
