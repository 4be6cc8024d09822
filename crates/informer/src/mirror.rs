//! Objects of a kind as a watch tells them, by namespace and name. No I/O.

use std::collections::BTreeMap;

use kube::Resource;
use kube::runtime::watcher::Event;

/// Namespace, empty for what is in none, and name.
pub type Key = (String, String);

/// An object's key.
pub fn key_of<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    (text(&meta.namespace), text(&meta.name))
}

/// The revision an object is of; zero if it cannot be told.
pub fn revision_of<K: Resource>(object: &K) -> u64 {
    let version = object.meta().resource_version.as_deref();
    version.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// What is known of a kind.
pub struct Mirror<T> {
    objects: BTreeMap<Key, T>,
    /// The objects of a list that is not complete yet, which will replace the others.
    coming: Option<BTreeMap<Key, T>>,
    is_synced: bool,
    seen: u64,
}

/// What an event has changed.
pub enum Heard<T> {
    /// Nothing yet: a list is being read.
    Nothing,
    /// One object.
    One {
        /// Which.
        key: Key,
        /// What was known of it before.
        old: Option<T>,
        /// It was not deleted.
        is_there: bool,
    },
    /// A list was read: anything may have changed.
    All {
        /// What is not there any more.
        vanished: Vec<Key>,
    },
}

impl<T> Default for Mirror<T> {
    fn default() -> Self {
        Mirror {
            objects: BTreeMap::new(),
            coming: None,
            is_synced: false,
            seen: 0,
        }
    }
}

impl<T> Mirror<T> {
    /// Takes an event of the watch; `look` is what is kept of an object.
    pub fn hear<K: Resource>(&mut self, event: Event<K>, look: impl FnOnce(K) -> T) -> Heard<T> {
        match event {
            Event::Init => {
                self.coming = Some(BTreeMap::new());
                Heard::Nothing
            }
            Event::InitApply(object) => {
                self.seen = self.seen.max(revision_of(&object));
                let key = key_of(&object);
                self.coming
                    .get_or_insert_default()
                    .insert(key, look(object));
                Heard::Nothing
            }
            Event::InitDone => {
                let new = self.coming.take().unwrap_or_default();
                let old = std::mem::replace(&mut self.objects, new);
                self.is_synced = true;
                let mut vanished: Vec<Key> = old.into_keys().collect();
                vanished.retain(|key| !self.objects.contains_key(key));
                Heard::All { vanished }
            }
            Event::Apply(object) => {
                self.seen = self.seen.max(revision_of(&object));
                let key = key_of(&object);
                let old = self.objects.insert(key.clone(), look(object));
                Heard::One {
                    key,
                    old,
                    is_there: true,
                }
            }
            Event::Delete(object) => {
                self.seen = self.seen.max(revision_of(&object));
                let key = key_of(&object);
                let old = self.objects.remove(&key);
                Heard::One {
                    key,
                    old,
                    is_there: false,
                }
            }
        }
    }

    /// Takes what one has written oneself, ahead of the watch.
    pub fn wrote(&mut self, key: Key, written: T) {
        self.objects.insert(key, written);
    }

    /// Takes it that an object is gone, ahead of the watch.
    pub fn forget(&mut self, key: &Key) {
        self.objects.remove(key);
    }

    /// Whether a list has been read.
    pub fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// The latest revision that was told.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none of the kind.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether there is such an object.
    pub fn has(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    /// What is known of an object.
    pub fn get(&self, key: &Key) -> Option<&T> {
        self.objects.get(key)
    }

    /// All objects, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &T)> {
        self.objects.iter()
    }

    /// The objects of one namespace.
    pub fn of_namespace<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a T)> {
        let first = (namespace.to_owned(), String::new());
        let rest = self.objects.range(first..);
        rest.take_while(move |((of, _), _)| of == namespace)
    }
}
