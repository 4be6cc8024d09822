//! Who owns whom, as far as events have told, and what has to be looked at because of that.
//!
//! Kept are objects that have owners, objects that are named as owners, and objects whose deletion waits for their dependents. Of all
//! others nothing is kept: when one of them is named for the first time, the API is asked whether it is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::absent::Absent;
use super::{Kind, Object, Reference, Stage, Uid, references};

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Whether there is such an object.
    Owner(Arc<Object>),
    /// What becomes of the object.
    Object(Uid),
}

/// What has to be done, with what the API says now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Look whether the object is there: some name it as their owner.
    Look(Arc<Object>),
    /// Look the object and its owners up, and do what is [judged](super::judge()).
    Judge {
        /// The object.
        object: Arc<Object>,
        /// Whether others name it as their owner.
        has_dependents: bool,
        /// Which of its owners are known not to exist.
        absent: Vec<Arc<Object>>,
    },
    /// If nothing that is there blocks it, take the finalizer `foregroundDeletion` from it.
    Release(Arc<Object>),
    /// Let it not block these owners: it waits for them, and they for it.
    Loosen {
        /// The object.
        object: Arc<Object>,
        /// UIDs of the owners.
        owners: Vec<Uid>,
    },
    /// Let no object name it any more, then take the finalizer `orphan` from it.
    Orphan(Arc<Object>),
}

/// What came of a work that has not failed.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is done; events tell what it has changed.
    Done,
    /// The object is there, as it should be.
    Found(Box<ObjectMeta>),
    /// There is no such object, or another has its name.
    Absent,
    /// There are dependents of which events have not told yet.
    Others(Vec<(Kind, ObjectMeta)>),
}

#[derive(Debug, Default)]
struct Node {
    /// Which it is; `None` as long as only references tell of it.
    object: Option<Arc<Object>>,
    /// As which object it was named last.
    named: Option<Arc<Object>>,
    revision: u64,
    stage: Stage,
    owners: Vec<Reference>,
    dependents: BTreeSet<Uid>,
    /// It was in the latest list of its kind, or told of since that began.
    is_listed: bool,
    /// It was not in the latest list: it may be gone.
    is_doubted: bool,
}

impl Node {
    fn is(&self, object: &Object) -> bool {
        self.object.as_deref() == Some(object)
    }

    fn blocks(&self, owner: &str) -> bool {
        self.owners.iter().any(|o| o.blocks && &*o.uid == owner)
    }

    /// Whether nothing is to be kept of it.
    fn is_idle(&self) -> bool {
        let is_at_rest = matches!(self.stage, Stage::Living | Stage::Leaving);
        is_at_rest && self.owners.is_empty() && self.dependents.is_empty()
    }
}

/// Who owns whom.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<Uid, Node>,
    absent: Absent,
    queue: VecDeque<Key>,
    queued: BTreeSet<Key>,
    busy: BTreeSet<Key>,
}

impl Graph {
    /// Takes what an event says of an object that is there.
    pub fn hear(&mut self, kind: Kind, meta: &ObjectMeta) {
        self.take_in(kind, meta, true);
    }

    /// Takes what is known of an object: because it was told, or because it was found, which may be long ago.
    fn take_in(&mut self, kind: Kind, meta: &ObjectMeta, is_told: bool) {
        let Some(object) = Object::of(kind, meta) else {
            return;
        };
        let uid = object.uid.clone();
        let (stage, owners) = (Stage::of(meta), references(meta));
        let revision = meta.resource_version.as_deref();
        let revision = revision.and_then(|r| r.parse().ok()).unwrap_or(0);
        let is_of_interest =
            !owners.is_empty() || matches!(stage, Stage::Orphaning | Stage::Foreground);
        if !is_of_interest && !self.nodes.contains_key(&uid) {
            return;
        }
        let node = self.nodes.entry(uid.clone()).or_default();
        if node.object.is_some() && revision < node.revision {
            return;
        }
        // Between two lists it may have had other owners and stages, of which nobody tells.
        let has_missed = is_told && !node.is_listed && node.revision != revision;
        if is_told {
            node.is_listed = true;
            node.is_doubted = false;
        }
        node.revision = revision;
        if !node.is(&object) {
            let named = node.named.take().filter(|named| **named == object);
            node.object = Some(named.unwrap_or_else(|| Arc::new(object)));
        }
        let before = std::mem::replace(&mut node.stage, stage);
        let before = if has_missed { Stage::Living } else { before };
        self.set_owners(&uid, owners, has_missed);
        self.pass(&uid, before, stage);
        self.prune(&uid);
    }

    /// Takes that an object is gone.
    pub fn gone(&mut self, uid: &str) {
        let Some(node) = self.nodes.remove(uid) else {
            return;
        };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        if let Some(object) = node.object.filter(|_| !node.dependents.is_empty()) {
            self.absent.insert(object);
        }
        for dependent in node.dependents {
            self.queue(Key::Object(dependent));
        }
    }

    /// A list of a kind begins.
    pub fn list_begins(&mut self, kind: Kind) {
        for (_, node) in self.of_kind(kind) {
            node.is_listed = false;
        }
    }

    /// The list has told all there is: what it has not told of may be gone.
    pub fn list_ends(&mut self, kind: Kind) {
        let mut doubted = Vec::new();
        for (object, node) in self.of_kind(kind) {
            if !node.is_listed {
                node.is_doubted = true;
                doubted.push(Key::Owner(object));
            }
        }
        // What is being looked up may have been found before the list was made.
        let looks = self
            .busy
            .iter()
            .filter(|key| matches!(key, Key::Owner(object) if object.kind == kind));
        doubted.extend(looks.cloned());
        doubted.into_iter().for_each(|key| self.queue(key));
    }

    fn of_kind(&mut self, kind: Kind) -> impl Iterator<Item = (Arc<Object>, &mut Node)> {
        let nodes = self.nodes.values_mut().filter_map(|node| {
            let object = node.object.clone()?;
            Some((object, node))
        });
        nodes.filter(move |(object, _)| object.kind == kind)
    }

    /// The next thing to do, if any. Nothing is done twice at a time.
    pub fn take(&mut self) -> Option<(Key, Work)> {
        let mut waiting = 0;
        while waiting < self.queue.len() {
            let key = self.queue.pop_front()?;
            if self.busy.contains(&key) {
                self.queue.push_back(key);
                waiting += 1;
                continue;
            }
            waiting = 0;
            self.queued.remove(&key);
            if let Some(work) = self.work(&key) {
                self.busy.insert(key.clone());
                return Some((key, work));
            }
        }
        None
    }

    /// Takes what came of a work.
    pub fn landed(&mut self, key: Key, outcome: Outcome) {
        self.busy.remove(&key);
        match (key, outcome) {
            (_, Outcome::Done) => {}
            (Key::Owner(object), Outcome::Found(meta)) => self.is_found(object, &meta),
            (Key::Owner(object), Outcome::Absent) => self.is_absent(object),
            (Key::Object(uid), Outcome::Absent) => self.gone(&uid),
            (key, Outcome::Others(others)) => {
                for (kind, meta) in others {
                    self.take_in(kind, &meta, false);
                    self.doubt(meta.uid.as_deref().unwrap_or_default());
                }
                self.queue(key);
            }
            (Key::Object(_), Outcome::Found(_)) => {}
        }
    }

    /// Takes that a work has failed; [`again`](Self::again) says when it is to be tried again.
    pub fn failed(&mut self, key: &Key) {
        self.busy.remove(key);
    }

    /// Something is to be looked at again.
    pub fn again(&mut self, key: Key) {
        self.queue(key);
    }

    /// Who names this object as an owner.
    pub fn naming<'a>(&'a self, owner: &'a Object) -> impl Iterator<Item = &'a Arc<Object>> {
        let dependents = self.nodes.get(&owner.uid).into_iter();
        let dependents = dependents.flat_map(|node| &node.dependents);
        let nodes = dependents.filter_map(|uid| self.nodes.get(uid));
        let naming = nodes.filter(move |node| names(node, owner));
        naming.filter_map(|node| node.object.as_ref())
    }

    /// Of how many objects something is kept.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn queue(&mut self, key: Key) {
        if self.queued.insert(key.clone()) {
            self.queue.push_back(key);
        }
    }

    /// Looks at an owner whose deletion waits for its dependents.
    fn poke(&mut self, owner: &Uid) {
        let node = self.nodes.get(owner);
        if node.is_some_and(|node| node.stage == Stage::Foreground) {
            self.queue(Key::Object(owner.clone()));
        }
    }

    /// `is_anew`: it may have had others meanwhile.
    fn set_owners(&mut self, uid: &Uid, new: Vec<Reference>, is_anew: bool) {
        let Some(node) = self.nodes.get_mut(uid) else {
            return;
        };
        if node.owners == new && !is_anew {
            return;
        }
        let old = std::mem::take(&mut node.owners);
        let is_in = |list: &[Reference], uid: &Uid| list.iter().any(|o| o.uid == *uid);
        let new: Vec<Reference> = new.into_iter().map(|o| self.share(o)).collect();
        if let Some(node) = self.nodes.get_mut(uid) {
            node.owners.clone_from(&new);
        }
        for owner in old.iter().filter(|o| !is_in(&new, &o.uid)) {
            self.unlink(&owner.uid, uid);
        }
        for owner in old.iter().filter(|o| o.blocks && is_in(&new, &o.uid)) {
            self.poke(&owner.uid);
        }
        for owner in &new {
            let is_same = |o: &Reference| o.uid == owner.uid && o.object == owner.object;
            if is_anew || !old.iter().any(is_same) {
                self.link(uid, owner);
            }
        }
    }

    /// The same reference, with the words of others for the same object.
    fn share(&self, mut reference: Reference) -> Reference {
        if let Some(object) = &mut reference.object
            && let Some(node) = self.nodes.get(&reference.uid)
        {
            let words = [&node.object, &node.named];
            let same = words.into_iter().flatten().find(|o| *o == object);
            *object = same.unwrap_or(object).clone();
        }
        reference
    }

    fn link(&mut self, uid: &Uid, owner: &Reference) {
        let node = self.nodes.entry(owner.uid.clone()).or_default();
        node.dependents.insert(uid.clone());
        let Some(object) = &owner.object else {
            return;
        };
        if !node.is(object) && self.absent.has(object) {
            return self.queue(Key::Object(uid.clone()));
        }
        let (is_sure, stage) = (node.is(object) && !node.is_doubted, node.stage);
        if !is_sure {
            node.named.get_or_insert_with(|| object.clone());
            self.queue(Key::Owner(object.clone()));
        }
        match stage {
            Stage::Living | Stage::Leaving => {}
            Stage::Foreground => self.queue(Key::Object(uid.clone())),
            Stage::Orphaning => self.queue(Key::Object(owner.uid.clone())),
        }
    }

    fn unlink(&mut self, owner: &Uid, uid: &str) {
        if let Some(node) = self.nodes.get_mut(owner) {
            node.dependents.remove(uid);
        }
        self.poke(owner);
        self.prune(owner);
    }

    fn prune(&mut self, uid: &Uid) {
        if self.nodes.get(uid).is_some_and(Node::is_idle) {
            self.nodes.remove(uid);
        }
    }

    /// What follows from an object's new stage.
    fn pass(&mut self, uid: &Uid, before: Stage, now: Stage) {
        if before == now {
            return;
        }
        match now {
            Stage::Living | Stage::Leaving => {}
            Stage::Orphaning => self.queue(Key::Object(uid.clone())),
            Stage::Foreground => {
                let node = self.nodes.get(uid);
                let (dependents, owners) = node.map_or_else(Default::default, |node| {
                    let owners: Vec<Uid> = node.owners.iter().map(|o| o.uid.clone()).collect();
                    (node.dependents.clone(), owners)
                });
                for dependent in dependents {
                    self.queue(Key::Object(dependent));
                }
                self.queue(Key::Object(uid.clone()));
                owners.iter().for_each(|owner| self.poke(owner));
            }
        }
    }

    /// There was such an object, unless there is a reason to look again.
    fn is_found(&mut self, object: Arc<Object>, meta: &ObjectMeta) {
        let is_old = self.absent.has(&object) || self.queued.contains(&Key::Owner(object.clone()));
        if is_old || !self.nodes.contains_key(&object.uid) {
            return;
        }
        self.take_in(object.kind, meta, false);
        if let Some(node) = self.nodes.get_mut(&object.uid) {
            node.is_doubted = false;
        }
    }

    /// Looks whether an object is still there.
    fn doubt(&mut self, uid: &str) {
        let Some(node) = self.nodes.get_mut(uid) else {
            return;
        };
        node.is_doubted = true;
        if let Some(object) = node.object.clone() {
            self.queue(Key::Owner(object));
        }
    }

    /// There is no object as some have named it.
    fn is_absent(&mut self, object: Arc<Object>) {
        let Some(node) = self.nodes.get(&object.uid) else {
            return;
        };
        if node.is(&object) {
            let uid = object.uid.clone();
            return self.gone(&uid);
        }
        let dependents: Vec<Uid> = self.naming(&object).map(|d| d.uid.clone()).collect();
        self.absent.insert(object);
        for dependent in dependents {
            self.queue(Key::Object(dependent));
        }
    }

    fn work(&mut self, key: &Key) -> Option<Work> {
        match key {
            Key::Owner(object) => {
                let node = self.nodes.get(&object.uid)?;
                let is_own = node.is(object);
                if is_own && !node.is_doubted {
                    return None;
                }
                if !is_own && self.absent.has(object) {
                    self.is_absent(object.clone());
                    return None;
                }
                Some(Work::Look(object.clone()))
            }
            Key::Object(uid) => {
                let node = self.nodes.get(uid)?;
                let object = node.object.clone()?;
                match node.stage {
                    Stage::Leaving => None,
                    Stage::Orphaning => Some(Work::Orphan(object)),
                    Stage::Foreground if self.blocking(uid, node).next().is_none() => {
                        Some(Work::Release(object))
                    }
                    Stage::Foreground => {
                        let owners = self.knot(uid, node);
                        (!owners.is_empty()).then_some(Work::Loosen { object, owners })
                    }
                    Stage::Living if node.owners.is_empty() => None,
                    Stage::Living => Some(Work::Judge {
                        object,
                        has_dependents: !node.dependents.is_empty(),
                        absent: self.absent_of(node),
                    }),
                }
            }
        }
    }

    fn absent_of(&self, node: &Node) -> Vec<Arc<Object>> {
        let owners = node.owners.iter().filter_map(|o| o.object.as_ref());
        owners.filter(|o| self.absent.has(o)).cloned().collect()
    }

    /// The dependents that block the owner's deletion.
    fn blocking<'a>(
        &'a self,
        owner: &'a str,
        node: &'a Node,
    ) -> impl Iterator<Item = (&'a Uid, &'a Node)> {
        let dependents = node.dependents.iter();
        let dependents = dependents.filter_map(|uid| Some((uid, self.nodes.get(uid)?)));
        dependents.filter(move |(_, dependent)| dependent.blocks(owner))
    }

    /// The owners an object blocks and, over others that are deleted in the foreground, waits for.
    fn knot(&self, uid: &Uid, node: &Node) -> Vec<Uid> {
        let waiting = node.owners.iter().filter(|o| {
            let owner = self.nodes.get(&o.uid);
            o.blocks && owner.is_some_and(|owner| owner.stage == Stage::Foreground)
        });
        let mut waiting: Vec<Uid> = waiting.map(|o| o.uid.clone()).collect();
        if waiting.is_empty() {
            return waiting;
        }
        let mut awaited: BTreeSet<&Uid> = BTreeSet::new();
        let mut next = vec![(uid, node)];
        while let Some((uid, node)) = next.pop() {
            for (dependent, node) in self.blocking(uid, node) {
                if awaited.insert(dependent) && node.stage == Stage::Foreground {
                    next.push((dependent, node));
                }
            }
        }
        waiting.retain(|owner| awaited.contains(owner));
        waiting
    }
}

fn names(node: &Node, owner: &Object) -> bool {
    let mut owners = node.owners.iter();
    owners.any(|reference| reference.object.as_deref() == Some(owner))
}
