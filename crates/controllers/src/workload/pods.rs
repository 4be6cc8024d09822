//! The Pods, with what was done to them here ahead of what the watch tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use informer::{Heard, Key, Mirror, key_of, revision_of};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::watcher::Event;

#[derive(Default)]
pub(super) struct Pods {
    mirror: Mirror<Arc<Pod>>,
    /// Made here, and not told by the watch yet.
    made: BTreeMap<Key, Arc<Pod>>,
    /// Deleted here, by UID, and not gone yet. The watch may still tell what was before.
    doomed: BTreeSet<String>,
    /// Of those made here, which a list has not shown: it may be older than they are, or they may be gone.
    unseen: BTreeSet<Key>,
}

impl Pods {
    /// Takes in an event; what was known of a Pod before comes back as `old`.
    pub(super) fn hear(&mut self, mut event: Event<Pod>) -> Heard<Arc<Pod>> {
        if let Event::Apply(pod) | Event::InitApply(pod) = &mut event {
            self.keep_newer(pod);
        }
        match &event {
            Event::Apply(pod) | Event::InitApply(pod) => {
                self.made.remove(&key_of(pod));
            }
            Event::Delete(pod) => {
                self.made.remove(&key_of(pod));
                if let Some(uid) = &pod.metadata.uid {
                    self.doomed.remove(uid);
                }
            }
            Event::Init | Event::InitDone => {}
        }
        let is_done = matches!(event, Event::InitDone);
        let doomed = &self.doomed;
        let heard = self.mirror.hear(event, |pod| Arc::new(marked(pod, doomed)));
        if is_done {
            for (key, pod) in &self.made {
                self.mirror.wrote(key.clone(), pod.clone());
                self.unseen.insert(key.clone());
            }
            let there: BTreeSet<&String> = self
                .iter()
                .filter_map(|p| p.metadata.uid.as_ref())
                .collect();
            let still = self
                .doomed
                .iter()
                .filter(|uid| there.contains(uid))
                .cloned();
            self.doomed = still.collect();
        }
        heard
    }

    /// Leaves a Pod as it was written here, where news of it are older.
    fn keep_newer(&self, pod: &mut Pod) {
        if let Some(known) = self.mirror.get(&key_of(pod))
            && known.metadata.uid == pod.metadata.uid
            && revision_of(&**known) > revision_of(pod)
        {
            *pod = Pod::clone(known);
        }
    }

    /// Takes in a Pod as it was written here.
    pub(super) fn wrote(&mut self, mut pod: Pod) {
        self.keep_newer(&mut pod);
        let key = key_of(&pod);
        let pod = Arc::new(marked(pod, &self.doomed));
        if !self.mirror.has(&key) {
            self.made.insert(key.clone(), pod.clone());
        }
        self.mirror.wrote(key, pod);
    }

    /// Takes in that a Pod was deleted here.
    pub(super) fn doom(&mut self, key: Key, uid: String) {
        let Some(pod) = self.mirror.get(&key) else {
            return;
        };
        if pod.metadata.uid.as_ref() == Some(&uid) {
            self.doomed.insert(uid);
            let pod = marked(Pod::clone(pod), &self.doomed);
            self.mirror.wrote(key, Arc::new(pod));
        }
    }

    /// Forgets a Pod that turns out to be gone; it comes back.
    pub(super) fn forget(&mut self, key: &Key) -> Option<Arc<Pod>> {
        let pod = self.made.remove(key)?;
        self.mirror.forget(key);
        Some(pod)
    }

    /// Pods of which it has to be asked whether they are there, each once.
    pub(super) fn take_unseen(&mut self) -> Vec<Key> {
        let unseen = std::mem::take(&mut self.unseen).into_iter();
        unseen.filter(|key| self.made.contains_key(key)).collect()
    }

    /// Has it asked again.
    pub(super) fn doubt(&mut self, key: Key) {
        self.unseen.insert(key);
    }

    /// Whether one waits for being counted.
    pub(super) fn has_tracked(&self) -> bool {
        self.tracked().next().is_some()
    }

    /// Those that wait for being counted.
    pub(super) fn tracked(&self) -> impl Iterator<Item = &Key> {
        let tracked = self
            .mirror
            .iter()
            .filter(|(_, pod)| workloads::job::is_tracked(pod));
        tracked.map(|(key, _)| key)
    }

    pub(super) fn is_synced(&self) -> bool {
        self.mirror.is_synced()
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Pod>> {
        self.mirror.get(key)
    }

    pub(super) fn of_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.mirror.of_namespace(namespace).map(|(_, pod)| &**pod)
    }

    fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.mirror.iter().map(|(_, pod)| &**pod)
    }
}

/// A Pod, as one that is being deleted where it is.
fn marked(mut pod: Pod, doomed: &BTreeSet<String>) -> Pod {
    let is_doomed = pod
        .metadata
        .uid
        .as_ref()
        .is_some_and(|uid| doomed.contains(uid));
    if is_doomed && pod.metadata.deletion_timestamp.is_none() {
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    }
    pod
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, revision: u32) -> Pod {
        let meta = json!({"namespace": "ns", "name": name, "uid": name, "resourceVersion": revision.to_string()});
        serde_json::from_value(json!({"metadata": meta})).unwrap()
    }

    fn listed(pods: &mut Pods, list: &[Pod]) {
        pods.hear(Event::Init);
        for pod in list {
            pods.hear(Event::InitApply(pod.clone()));
        }
        pods.hear(Event::InitDone);
    }

    fn names(pods: &Pods) -> Vec<&str> {
        let all = pods.of_namespace("ns");
        all.map(|p| p.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn what_was_made_stays_known_until_it_is_told_or_denied() {
        let mut pods = Pods::default();
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
        let mut pods = Pods::default();
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
        let mut pods = Pods::default();
        listed(&mut pods, &[pod("a", 5)]);
        let key = ("ns".to_owned(), "a".to_owned());
        let is_leaving = |pods: &Pods| {
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
