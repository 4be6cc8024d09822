//! Values that remember what they were when they were last asked for.

use std::collections::BTreeMap;

/// A map, and what has changed in it.
#[derive(Debug)]
pub(super) struct Tracked<K, V> {
    now: BTreeMap<K, V>,
    /// What was there when changes were last taken, of all that was touched since.
    was: BTreeMap<K, Option<V>>,
}

/// A change: what it was, and what it is.
pub(super) type Moved<V> = (Option<V>, Option<V>);

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Tracked {
            now: BTreeMap::new(),
            was: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> Tracked<K, V> {
    /// Sets a value, or removes it.
    pub(super) fn set(&mut self, key: K, value: Option<V>) {
        let before = match value {
            Some(value) => self.now.insert(key.clone(), value),
            None => self.now.remove(&key),
        };
        self.was.entry(key).or_insert(before);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.now.is_empty()
    }

    /// What has changed since this was last asked; with `anew` everything there is.
    pub(super) fn take(&mut self, anew: bool) -> BTreeMap<K, Moved<V>> {
        let was = std::mem::take(&mut self.was);
        if anew {
            let all = self.now.iter();
            return all
                .map(|(key, value)| (key.clone(), (None, Some(value.clone()))))
                .collect();
        }
        let moved = was.into_iter().map(|(key, was)| {
            let now = self.now.get(&key).cloned();
            (key, (was, now))
        });
        moved.filter(|(_, (was, now))| was != now).collect()
    }
}
