//! A model of the API: objects, what deletions and patches do to them, and events that have not been heard yet.

use std::collections::{BTreeMap, VecDeque};

use ::api::patch;
use ::api::schema::Schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde_json::Value;

use crate::garbage::{
    self, FOREGROUND, Graph, Key, Kind, ORPHAN, Object, Outcome, Owner, Policy, Stage, Verdict,
    Work,
};

/// Something a watch tells.
#[derive(Debug, Clone)]
enum Event {
    Changed(Box<ObjectMeta>),
    Gone(String),
}

/// A work that has asked what there is, and will write.
#[derive(Debug)]
pub(super) struct Asked {
    key: Key,
    writes: Vec<Write>,
    outcome: Outcome,
    /// The revision at which it has asked.
    at: u64,
}

#[derive(Debug)]
enum Write {
    Delete(ObjectMeta, Policy),
    Strategic(String, Value),
    LetGo(ObjectMeta, &'static str),
}

/// The API.
#[derive(Debug, Default)]
pub(super) struct Api {
    pub(super) objects: BTreeMap<String, (Kind, ObjectMeta)>,
    events: BTreeMap<Kind, VecDeque<Event>>,
    revision: u64,
}

/// A reference to an object, as one of `namespace` would have it.
pub(super) fn reference(kind: Kind, name: &str, uid: &str, blocks: bool) -> OwnerReference {
    OwnerReference {
        api_version: kind.resource().group_version().to_string(),
        kind: kind.resource().gvk.kind.into(),
        name: name.into(),
        uid: uid.into(),
        block_owner_deletion: Some(blocks),
        controller: None,
    }
}

fn names(meta: &ObjectMeta, owner: &Object) -> bool {
    let mut references = garbage::references(meta).into_iter();
    references.any(|r| r.object.is_some_and(|object| *object == *owner))
}

impl Api {
    /// Writes an object.
    pub(super) fn put(&mut self, kind: Kind, mut meta: ObjectMeta) {
        self.revision += 1;
        meta.resource_version = Some(self.revision.to_string());
        let uid = meta.uid.clone().unwrap();
        let free = meta.finalizers.as_ref().is_none_or(Vec::is_empty);
        let event = if meta.deletion_timestamp.is_some() && free {
            self.objects.remove(&uid);
            Event::Gone(uid)
        } else {
            self.objects.insert(uid, (kind, meta.clone()));
            Event::Changed(Box::new(meta))
        };
        self.events.entry(kind).or_default().push_back(event);
    }

    /// Changes an object, if it is there.
    pub(super) fn change(&mut self, uid: &str, change: impl FnOnce(&mut ObjectMeta)) {
        if let Some((kind, meta)) = self.objects.get(uid).cloned() {
            let mut new = meta.clone();
            change(&mut new);
            if new != meta {
                self.put(kind, new);
            }
        }
    }

    /// Deletes an object, if it is there.
    pub(super) fn delete(&mut self, uid: &str, policy: Policy) {
        self.change(uid, |meta| {
            let finalizers = meta.finalizers.get_or_insert_default();
            finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
            match policy {
                Policy::Background => {}
                Policy::Foreground => finalizers.push(FOREGROUND.into()),
                Policy::Orphan => finalizers.push(ORPHAN.into()),
            }
            let now = Time(jiff::Timestamp::UNIX_EPOCH);
            meta.deletion_timestamp.get_or_insert(now);
        });
    }

    /// Tells the oldest event of a kind.
    pub(super) fn tell(&mut self, kind: Kind, graph: &mut Graph) -> bool {
        let event = self.events.get_mut(&kind).and_then(VecDeque::pop_front);
        match event {
            Some(Event::Changed(meta)) => graph.hear(kind, &meta),
            Some(Event::Gone(uid)) => graph.gone(&uid),
            None => return false,
        }
        true
    }

    /// The watch of a kind has broken: its events are lost, and it lists.
    pub(super) fn list(&mut self, kind: Kind, graph: &mut Graph) {
        self.events.remove(&kind);
        graph.list_begins(kind);
        for (_, meta) in self.objects.values().filter(|(of, _)| *of == kind) {
            graph.hear(kind, meta);
        }
        graph.list_ends(kind);
    }

    /// The object of that name.
    pub(super) fn find(&self, object: &Object) -> Option<&ObjectMeta> {
        let of_kind = self
            .objects
            .values()
            .filter(|(kind, _)| *kind == object.kind);
        let mut metas = of_kind.map(|(_, meta)| meta);
        metas.find(|meta| {
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            meta.name.as_deref() == Some(&object.name) && namespace == object.namespace
        })
    }

    /// What the API says of the owners of an object.
    pub(super) fn owners(&self, meta: &ObjectMeta) -> Vec<(garbage::Uid, Owner)> {
        let references = garbage::references(meta).into_iter();
        let owners = references.map(|reference| {
            let object = reference.object.expect("is served");
            let owner = garbage::owner(&reference.uid, self.find(&object));
            (reference.uid, owner)
        });
        owners.collect()
    }

    /// Who names the object, where that may be.
    fn dependents(&self, owner: &Object) -> Vec<(Kind, ObjectMeta)> {
        let all = self.objects.values();
        let named = all.filter(|(_, meta)| {
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let may = owner.namespace.is_empty() || owner.namespace == namespace;
            may && garbage::blocks(meta, &owner.uid).is_some()
        });
        named.cloned().collect()
    }

    /// The first half of a work: what is there, and what is to be written because of that.
    pub(super) fn ask(&self, key: Key, work: Work) -> Asked {
        let (writes, outcome) = self.answer(work);
        Asked {
            key,
            writes,
            outcome,
            at: self.revision,
        }
    }

    fn answer(&self, work: Work) -> (Vec<Write>, Outcome) {
        let done = |writes| (writes, Outcome::Done);
        let object = match &work {
            Work::Look(object)
            | Work::Judge { object, .. }
            | Work::Release(object)
            | Work::Loosen { object, .. }
            | Work::Orphan(object) => object,
        };
        let found = self.find(object);
        let Some(meta) = found.filter(|meta| meta.uid.as_deref() == Some(&object.uid)) else {
            return (Vec::new(), Outcome::Absent);
        };
        let uid = object.uid.to_string();
        match (&work, Stage::of(meta)) {
            (Work::Look(_), _) => (Vec::new(), Outcome::Found(Box::new(meta.clone()))),
            (
                Work::Judge {
                    has_dependents,
                    absent,
                    ..
                },
                Stage::Living,
            ) => {
                for object in absent {
                    let found = self.find(object);
                    assert_eq!(garbage::owner(&object.uid, found), Owner::Absent);
                }
                match garbage::judge(meta, &self.owners(meta), *has_dependents) {
                    Verdict::Keep => done(Vec::new()),
                    Verdict::Leave(owners) => {
                        let patch = garbage::without_owners(meta, &owners);
                        done(vec![Write::Strategic(uid, patch)])
                    }
                    Verdict::Delete(policy) => done(vec![Write::Delete(meta.clone(), policy)]),
                }
            }
            (Work::Release(_), Stage::Foreground) => {
                let mut others = self.dependents(object);
                others.retain(|(_, meta)| garbage::blocks(meta, &object.uid) == Some(true));
                if others.is_empty() {
                    done(vec![Write::LetGo(meta.clone(), FOREGROUND)])
                } else {
                    (Vec::new(), Outcome::Others(others))
                }
            }
            (Work::Orphan(_), Stage::Orphaning) => {
                let dependents = self.dependents(object);
                if dependents.is_empty() {
                    return done(vec![Write::LetGo(meta.clone(), ORPHAN)]);
                }
                let owner = [object.uid.clone()];
                let patches = dependents.iter().map(|(_, meta)| {
                    let uid = meta.uid.clone().unwrap();
                    Write::Strategic(uid, garbage::without_owners(meta, &owner))
                });
                (patches.collect(), Outcome::Others(Vec::new()))
            }
            (Work::Loosen { owners, .. }, Stage::Foreground) => {
                done(vec![Write::Strategic(uid, garbage::loosened(meta, owners))])
            }
            _ => done(Vec::new()),
        }
    }

    /// The other half: it writes, unless others were faster.
    pub(super) fn write(&mut self, asked: Asked, graph: &mut Graph) {
        for write in asked.writes {
            if !self.try_write(write, asked.at) {
                graph.failed(&asked.key);
                return graph.again(asked.key);
            }
        }
        graph.landed(asked.key, asked.outcome);
    }

    /// Whether the object is still the one that was meant.
    fn try_write(&mut self, write: Write, asked_at: u64) -> bool {
        match write {
            Write::Delete(meta, policy) => {
                let uid = meta.uid.clone().unwrap();
                if self.objects.get(&uid).map(|(_, now)| now) != Some(&meta) {
                    return false;
                }
                self.may_be_deleted(&meta);
                self.delete(&uid, policy);
                true
            }
            Write::Strategic(uid, patch) => {
                let Some((kind, meta)) = self.objects.get(&uid).cloned() else {
                    return false;
                };
                let mut object = serde_json::json!({"metadata": meta});
                let of = Schema::get().of("", "v1", "ConfigMap").unwrap();
                patch::strategic_merge(&mut object, patch, of).unwrap();
                let new: ObjectMeta = serde_json::from_value(object["metadata"].take()).unwrap();
                if new != meta {
                    self.put(kind, new);
                }
                true
            }
            Write::LetGo(meta, finalizer) => {
                let uid = meta.uid.clone().unwrap();
                let Some((kind, now)) = self.objects.get(&uid).cloned() else {
                    return false;
                };
                if now != meta {
                    return false;
                }
                self.may_be_let_go(kind, &meta, finalizer, asked_at);
                let patch = garbage::without_finalizer(&meta, finalizer).unwrap();
                let mut object = serde_json::json!({"metadata": meta});
                patch::merge(&mut object, patch.to_string().as_bytes()).unwrap();
                let new = serde_json::from_value(object["metadata"].take()).unwrap();
                self.put(kind, new);
                true
            }
        }
    }

    /// Nothing is deleted that has an owner which is there and stays.
    fn may_be_deleted(&self, meta: &ObjectMeta) {
        for reference in garbage::references(meta) {
            let object = reference.object.expect("is served");
            let found = self.find(&object);
            let found = found.filter(|found| found.uid.as_deref() == Some(&reference.uid));
            let stays = found.is_some_and(|found| found.deletion_timestamp.is_none());
            assert!(!stays, "{meta:?} has {object:?}");
        }
    }

    /// Nothing is let go that others block, or that leaves others behind, but for those that have come at the last moment.
    fn may_be_let_go(&self, kind: Kind, meta: &ObjectMeta, finalizer: &str, asked_at: u64) {
        let object = Object::of(kind, meta).unwrap();
        for (_, other) in self.objects.values() {
            let changed: u64 = other.resource_version.as_deref().unwrap().parse().unwrap();
            let blocks = garbage::blocks(other, &object.uid) == Some(true);
            let is_left = names(other, &object) && (finalizer == ORPHAN || blocks);
            assert!(!is_left || changed > asked_at, "{other:?} of {object:?}");
        }
    }
}
