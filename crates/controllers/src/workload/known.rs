//! The objects of a kind, with what was done to them here ahead of what the watch tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use informer::{Heard, Key, Mirror, key_of, revision_of};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::runtime::watcher::Event;

pub(super) struct Known<K> {
    mirror: Mirror<Arc<K>>,
    /// Made here, and not told by the watch yet.
    made: BTreeMap<Key, Arc<K>>,
    /// Deleted here, by UID, and not gone yet. The watch may still tell what was before.
    doomed: BTreeSet<String>,
    /// Of those made here, which a list has not shown: it may be older than they are, or they may be gone.
    unseen: BTreeSet<Key>,
    /// Written here while a list is being read, which may be older; `None` while none is.
    meanwhile: Option<BTreeMap<Key, Arc<K>>>,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Known {
            mirror: Mirror::default(),
            made: BTreeMap::new(),
            doomed: BTreeSet::new(),
            unseen: BTreeSet::new(),
            meanwhile: None,
        }
    }
}

impl<K: Resource + Clone> Known<K> {
    /// Takes in an event; what was known of an object before comes back as `old`.
    pub(super) fn hear(&mut self, event: Event<K>) -> Heard<Arc<K>> {
        if let Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) = &event
            && !self.is_of_predecessor(object)
        {
            self.made.remove(&key_of(object));
        }
        if let Event::Delete(object) = &event
            && let Some(uid) = &object.meta().uid
        {
            self.doomed.remove(uid);
        }
        let event = self.without_older(event);
        if matches!(event, Event::Init) {
            self.meanwhile = Some(BTreeMap::new());
        }
        let is_done = matches!(event, Event::InitDone);
        let doomed = &self.doomed;
        let heard = self
            .mirror
            .hear(event, |object| Arc::new(marked(object, doomed)));
        if is_done {
            self.make_up_for_list();
        }
        heard
    }

    /// Has what was written here outlast a list that is older.
    fn make_up_for_list(&mut self) {
        for (key, object) in self.meanwhile.take().into_iter().flatten() {
            let listed = self.mirror.get(&key);
            if listed.is_some_and(|listed| revision_of(&**listed) <= revision_of(&*object)) {
                self.mirror.wrote(key, object);
            }
        }
        self.made.retain(|key, object| {
            let listed = self.mirror.get(key);
            listed.is_none_or(|listed| revision_of(&**listed) < revision_of(&**object))
        });
        for (key, object) in &self.made {
            self.mirror.wrote(key.clone(), object.clone());
            self.unseen.insert(key.clone());
        }
        let uid_of = |object: &K| object.meta().uid.clone();
        let there: BTreeSet<String> = self.iter().filter_map(|(_, o)| uid_of(o)).collect();
        self.doomed.retain(|uid| there.contains(uid));
        let is_doomed = |o: &K| uid_of(o).is_some_and(|uid| self.doomed.contains(&uid));
        let doomed = self.iter().filter(|(_, o)| is_doomed(o));
        let doomed: Vec<_> = doomed
            .map(|(key, o)| (key.clone(), Arc::new(marked(o.clone(), &self.doomed))))
            .collect();
        for (key, object) in doomed {
            self.mirror.wrote(key, object);
        }
    }

    /// Keeps an object as it is here now.
    fn keep(&mut self, key: Key, object: Arc<K>) {
        if let Some(made) = self.made.get_mut(&key) {
            made.clone_from(&object);
        }
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.insert(key.clone(), object.clone());
        }
        self.mirror.wrote(key, object);
    }

    /// Leaves what is known as it was written here, where news are older.
    fn without_older(&self, event: Event<K>) -> Event<K> {
        match event {
            Event::Apply(object) => Event::Apply(self.newer(object)),
            Event::InitApply(object) => Event::InitApply(self.newer(object)),
            Event::Delete(object) if self.is_of_predecessor(&object) => {
                Event::Apply(self.newer(object))
            }
            other => other,
        }
    }

    /// The object, or what is known under its name if that is newer.
    fn newer(&self, object: K) -> K {
        match self.mirror.get(&key_of(&object)) {
            Some(known) if revision_of(&**known) > revision_of(&object) => K::clone(known),
            _ => object,
        }
    }

    /// Whether news are of an object that was there before the one that is known under its name.
    fn is_of_predecessor(&self, object: &K) -> bool {
        self.mirror.get(&key_of(object)).is_some_and(|known| {
            known.meta().uid != object.meta().uid && revision_of(&**known) > revision_of(object)
        })
    }

    /// Takes in an object as it was written here.
    pub(super) fn wrote(&mut self, object: K) {
        let object = self.newer(object);
        let key = key_of(&object);
        let object = Arc::new(marked(object, &self.doomed));
        let known = self.mirror.get(&key);
        if known.is_none_or(|known| known.meta().uid != object.meta().uid) {
            self.made.insert(key.clone(), object.clone());
        }
        self.keep(key, object);
    }

    /// Takes in that an object was deleted here: it goes, or waits for its finalizers.
    pub(super) fn doom(&mut self, key: Key, uid: String) {
        let Some(object) = self.mirror.get(&key) else {
            return;
        };
        if object.meta().uid.as_ref() == Some(&uid) {
            self.doomed.insert(uid);
            let object = marked(K::clone(object), &self.doomed);
            self.keep(key, Arc::new(object));
        }
    }

    /// Forgets an object that turns out to be gone; it comes back.
    pub(super) fn forget(&mut self, key: &Key) -> Option<Arc<K>> {
        let object = self.made.remove(key)?;
        self.mirror.forget(key);
        Some(object)
    }

    /// Objects of which it has to be asked whether they are there, each once.
    pub(super) fn take_unseen(&mut self) -> Vec<Key> {
        let unseen = std::mem::take(&mut self.unseen).into_iter();
        unseen.filter(|key| self.made.contains_key(key)).collect()
    }

    /// Has it asked again.
    pub(super) fn doubt(&mut self, key: Key) {
        self.unseen.insert(key);
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<K>> {
        self.mirror.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &K)> {
        self.mirror.iter().map(|(key, object)| (key, &**object))
    }

    pub(super) fn of_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a K> {
        self.mirror
            .of_namespace(namespace)
            .map(|(_, object)| &**object)
    }
}

/// A kind that is known, whichever it is.
pub(super) trait Holding {
    /// Whether a list has been read.
    fn is_synced(&self) -> bool;
    fn is_empty(&self) -> bool;
    fn meta(&self, key: &Key) -> Option<&ObjectMeta>;
    fn keys(&self) -> Box<dyn Iterator<Item = &Key> + '_>;
}

impl<K: Resource> Holding for Known<K> {
    fn is_synced(&self) -> bool {
        self.mirror.is_synced()
    }

    fn is_empty(&self) -> bool {
        self.mirror.is_empty()
    }

    fn meta(&self, key: &Key) -> Option<&ObjectMeta> {
        self.mirror.get(key).map(|object| object.meta())
    }

    fn keys(&self) -> Box<dyn Iterator<Item = &Key> + '_> {
        Box::new(self.mirror.iter().map(|(key, _)| key))
    }
}

/// An object, as one that is being deleted where it is.
fn marked<K: Resource>(mut object: K, doomed: &BTreeSet<String>) -> K {
    let meta = object.meta_mut();
    let is_doomed = meta.uid.as_ref().is_some_and(|uid| doomed.contains(uid));
    if is_doomed && meta.deletion_timestamp.is_none() {
        meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    }
    object
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, revision: u32) -> Pod {
        let meta = json!({"namespace": "ns", "name": name, "uid": name, "resourceVersion": revision.to_string()});
        serde_json::from_value(json!({"metadata": meta})).unwrap()
    }

    fn listed(pods: &mut Known<Pod>, list: &[Pod]) {
        pods.hear(Event::Init);
        for pod in list {
            pods.hear(Event::InitApply(pod.clone()));
        }
        pods.hear(Event::InitDone);
    }

    fn names(pods: &Known<Pod>) -> Vec<&str> {
        let all = pods.of_namespace("ns");
        all.map(|p| p.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn what_was_made_stays_known_until_it_is_told_or_denied() {
        let mut pods = Known::default();
        listed(&mut pods, &[]);
        pods.wrote(pod("a", 5));
        pods.wrote(pod("b", 6));
        pods.hear(Event::Apply(pod("a", 5)));
        // A list that is older than `b`, or younger than its end.
        listed(&mut pods, &[pod("a", 5)]);
        assert_eq!(names(&pods), ["a", "b"]);
        let asked = pods.take_unseen();
        assert_eq!(asked, [("ns".to_owned(), "b".to_owned())]);
        assert!(pods.forget(&asked[0]).is_some());
        assert_eq!(names(&pods), ["a"]);
        // What the watch has told is not asked for.
        listed(&mut pods, &[]);
        assert_eq!(names(&pods), [""; 0]);
        assert!(pods.take_unseen().is_empty());
    }

    #[test]
    fn what_was_changed_here_is_not_outdated_by_older_news() {
        let mut pods = Known::default();
        listed(&mut pods, &[pod("a", 5)]);
        let mut changed = pod("a", 9);
        changed.metadata.labels = Some([("new".into(), "label".into())].into());
        pods.wrote(changed.clone());
        let key = ("ns".to_owned(), "a".to_owned());
        for event in [Event::Apply(pod("a", 7)), Event::Apply(pod("a", 8))] {
            pods.hear(event);
            assert_eq!(**pods.get(&key).unwrap(), changed);
        }
        listed(&mut pods, &[pod("a", 8)]);
        assert_eq!(**pods.get(&key).unwrap(), changed);
        pods.hear(Event::Apply(pod("a", 10)));
        assert_eq!(**pods.get(&key).unwrap(), pod("a", 10));
    }

    #[test]
    fn what_was_deleted_is_so_whatever_older_news_come() {
        let mut pods = Known::default();
        listed(&mut pods, &[pod("a", 5)]);
        let key = ("ns".to_owned(), "a".to_owned());
        let is_leaving = |pods: &Known<Pod>| {
            pods.get(&key)
                .unwrap()
                .metadata
                .deletion_timestamp
                .is_some()
        };
        pods.doom(key.clone(), "other".into());
        assert!(!is_leaving(&pods), "another of its name");
        pods.doom(key.clone(), "a".into());
        assert!(is_leaving(&pods));
        pods.hear(Event::Apply(pod("a", 6)));
        assert!(is_leaving(&pods));
        listed(&mut pods, &[pod("a", 6)]);
        assert!(is_leaving(&pods));
        pods.hear(Event::Delete(pod("a", 7)));
        assert_eq!(names(&pods), [""; 0]);
        assert!(pods.doomed.is_empty());
    }
}
