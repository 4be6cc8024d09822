//! What the watches have told, which Services have to be looked at, and what is to be written for them. No I/O.
//!
//! Objects are what a watch says they are, never what was written: a Service is looked at again only when the watches have shown
//! what was written for it last, so nothing is decided on an older state than one's own.

use std::collections::{BTreeMap, BTreeSet};

use informer::{FoundService, Heard, Key, Mirror};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use super::backend::Backend;
use super::legacy;
use super::slices::{self, Changes};

/// What is to be written for a Service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Work {
    pub(super) slices: Changes,
    pub(super) legacy: Legacy,
}

/// What is to be done with the Endpoints of a Service.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Legacy {
    Nothing,
    Create(Box<Endpoints>),
    Change(Box<Endpoints>),
    Delete,
}

/// What was written for a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// The last revision of a slice.
    pub(super) slices: u64,
    /// The last revision of its Endpoints.
    pub(super) legacy: u64,
    /// Slices that are deleted, with their UIDs.
    pub(super) deleted: Vec<(Key, Option<String>)>,
    /// Something could not be written.
    pub(super) failed: bool,
}

/// All that the controller knows.
#[derive(Default)]
pub(super) struct State {
    services: Mirror<Service>,
    pods: Mirror<Backend>,
    slices: Mirror<EndpointSlice>,
    legacy: Mirror<Endpoints>,
    /// Services that have to be looked at.
    dirty: BTreeSet<Key>,
    /// Services that were deleted, whose Endpoints may still be there.
    gone: BTreeSet<Key>,
    /// Services for which is being written.
    busy: BTreeSet<Key>,
    /// What the watches have to show before a Service is looked at again.
    expected: BTreeMap<Key, Written>,
    /// How many Services select Pods.
    selecting: usize,
    /// What an earlier controller left behind has been looked at.
    is_swept: bool,
}

impl State {
    /// Whether Pods matter.
    pub(super) fn wants_pods(&self) -> bool {
        self.selecting > 0
    }

    /// Whether slices and Endpoints matter: some have to be kept, or some are left that may have to go.
    pub(super) fn wants_slices(&self) -> bool {
        let has_some = !self.slices.is_empty() || !self.legacy.is_empty();
        let has_work = !self.dirty.is_empty() || !self.busy.is_empty();
        self.selecting > 0 || has_some || has_work || !self.is_swept
    }

    /// Pods are watched no longer.
    pub(super) fn forget_pods(&mut self) {
        self.pods = Mirror::default();
    }

    /// Slices and Endpoints are watched no longer.
    pub(super) fn forget_slices(&mut self) {
        self.slices = Mirror::default();
        self.legacy = Mirror::default();
        self.expected.clear();
    }

    pub(super) fn service(&mut self, event: Event<FoundService>) {
        match self.services.hear(event, informer::service_of) {
            Heard::Nothing => {}
            Heard::One { key, old, is_there } => {
                let selects = |service: &Service| slices::selector(service).is_some();
                let did = old.as_ref().is_some_and(selects);
                let does = self.services.get(&key).is_some_and(selects);
                self.selecting = self.selecting + usize::from(does) - usize::from(did);
                if is_there {
                    self.gone.remove(&key);
                } else {
                    self.gone.insert(key.clone());
                }
                if does || !is_there {
                    self.dirty.insert(key);
                }
            }
            Heard::All { vanished } => {
                let selecting = self.services.iter();
                let selecting = selecting.filter(|(_, s)| slices::selector(s).is_some());
                self.selecting = selecting.count();
                self.gone.extend(vanished.iter().cloned());
                self.dirty.extend(vanished);
                self.look_at_all();
            }
        }
    }

    pub(super) fn pod(&mut self, event: Event<Pod>) {
        match self.pods.hear(event, |pod| Backend::of(&pod)) {
            Heard::Nothing => {}
            Heard::One { key, old, .. } => {
                let new = self.pods.get(&key);
                if old.as_ref() == new {
                    return;
                }
                let either: Vec<&Backend> = old.iter().chain(new).collect();
                let of_namespace = self.services.of_namespace(&key.0);
                let concerned = of_namespace.filter(|(_, service)| {
                    slices::selector(service)
                        .is_some_and(|selector| either.iter().any(|pod| pod.matches(selector)))
                });
                self.dirty.extend(concerned.map(|(key, _)| key.clone()));
            }
            Heard::All { .. } => self.look_at_all(),
        }
    }

    pub(super) fn slice(&mut self, event: Event<EndpointSlice>) {
        match self.slices.hear(event, |slice| slice) {
            Heard::Nothing => {}
            Heard::One { key, old, .. } => {
                let both = old.iter().chain(self.slices.get(&key));
                self.dirty.extend(both.filter_map(service_of));
            }
            Heard::All { .. } => {
                self.expected.clear();
                self.look_at_all();
            }
        }
    }

    pub(super) fn endpoints(&mut self, event: Event<Endpoints>) {
        match self.legacy.hear(event, |endpoints| endpoints) {
            Heard::Nothing => {}
            Heard::One { key, .. } => {
                self.dirty.insert(key);
            }
            Heard::All { .. } => {
                self.expected.clear();
                self.look_at_all();
            }
        }
    }

    /// Something could not be written before.
    pub(super) fn again(&mut self, key: Key) {
        self.dirty.insert(key);
    }

    /// What was written for a Service.
    pub(super) fn landed(&mut self, key: Key, written: Written) {
        self.busy.remove(&key);
        if !written.failed && !self.services.has(&key) {
            self.gone.remove(&key);
        }
        self.expected.insert(key, written);
    }

    fn look_at_all(&mut self) {
        let services = self.services.iter();
        let selecting = services.filter(|(_, s)| slices::selector(s).is_some());
        self.dirty.extend(selecting.map(|(key, _)| key.clone()));
        // What has no Service has to go.
        let slices = self.slices.iter().filter_map(|(_, s)| service_of(s));
        self.dirty.extend(slices);
        let legacy = self.legacy.iter().map(|(key, _)| key.clone());
        self.dirty.extend(legacy);
    }

    /// What is to be written now.
    pub(super) fn take(&mut self) -> Vec<(Key, Work)> {
        let knows_pods = self.pods.is_synced() || !self.wants_pods();
        if !(self.services.is_synced()
            && self.slices.is_synced()
            && self.legacy.is_synced()
            && knows_pods)
        {
            return Vec::new();
        }
        self.is_swept = true;
        let due = self.dirty.iter();
        let due = due.filter(|key| !self.busy.contains(*key) && self.has_seen(key));
        let due: Vec<Key> = due.cloned().collect();
        let mut all = Vec::new();
        for key in due {
            self.dirty.remove(&key);
            self.expected.remove(&key);
            if let Some(work) = self.work(&key) {
                self.busy.insert(key.clone());
                all.push((key, work));
            }
        }
        all
    }

    /// Whether the watches have shown what was written last for a Service.
    fn has_seen(&self, key: &Key) -> bool {
        self.expected.get(key).is_none_or(|written| {
            self.slices.seen() >= written.slices
                && self.legacy.seen() >= written.legacy
                && !written.deleted.iter().any(|(key, uid)| {
                    let slice = self.slices.get(key).filter(|s| is_live(s));
                    slice.is_some_and(|s| s.metadata.uid == *uid)
                })
        })
    }

    fn work(&self, key: &Key) -> Option<Work> {
        let of_namespace = self.slices.of_namespace(&key.0).map(|(_, slice)| slice);
        let of_service = of_namespace.filter(|slice| service_of(slice).as_ref() == Some(key));
        // Those that are going are none to fill or to delete.
        let existing = of_service.filter(|slice| is_live(slice));
        let endpoints = self.legacy.get(key);
        let work = match self.services.get(key) {
            Some(service) => {
                let selector = slices::selector(service)?;
                let pods = self.pods.of_namespace(&key.0).map(|(_, pod)| pod);
                let backends: Vec<&Backend> = pods.filter(|pod| pod.matches(selector)).collect();
                let existing: Vec<EndpointSlice> = existing.cloned().collect();
                let change = legacy::change(service, &backends, endpoints).map(Box::new);
                Work {
                    slices: slices::changes(service, &backends, &existing),
                    legacy: match change {
                        None => Legacy::Nothing,
                        Some(new) if endpoints.is_none() => Legacy::Create(new),
                        Some(changed) => Legacy::Change(changed),
                    },
                }
            }
            None => Work {
                slices: Changes {
                    delete: slices::orphans(existing),
                    ..Changes::default()
                },
                legacy: match endpoints.is_some() || self.gone.contains(key) {
                    true => Legacy::Delete,
                    false => Legacy::Nothing,
                },
            },
        };
        let is_idle = work.slices == Changes::default() && work.legacy == Legacy::Nothing;
        (!is_idle).then_some(work)
    }
}

/// The Service a slice says it is of.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.labels().get(slices::SERVICE_NAME)?;
    Some((slice.namespace().unwrap_or_default(), name.clone()))
}

fn is_live(slice: &EndpointSlice) -> bool {
    slice.metadata.deletion_timestamp.is_none()
}
