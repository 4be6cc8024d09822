//! However writes, their answers and what a watch tells get into each other's way, and whenever the watch breaks: what was written here is
//! not known as it was before, nothing goes back, and in the end what is known is what there is.

use std::collections::{BTreeMap, VecDeque};

use informer::{Key, revision_of};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::watcher::Event;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::kinds::Kept;
use super::world::World;

/// What happens next; who does it is the controller, or somebody else.
#[derive(Debug, Clone)]
enum Happens {
    Make {
        name: u8,
        is_own: bool,
    },
    Change {
        name: u8,
        is_own: bool,
    },
    /// A held Pod stays, and is being deleted.
    Delete {
        name: u8,
        is_own: bool,
        is_held: bool,
    },
    /// An answer to a write comes.
    Answer(usize),
    /// The watch tells something.
    Tell,
    /// The watch breaks; what is there now is listed.
    Break,
    /// It is asked for what a list did not show.
    Check,
}

fn happens() -> impl Strategy<Value = Happens> {
    let (name, is_own) = (0..4u8, prop::bool::weighted(0.7));
    prop_oneof![
        4 => (name.clone(), is_own).prop_map(|(name, is_own)| Happens::Make { name, is_own }),
        3 => (name.clone(), is_own).prop_map(|(name, is_own)| Happens::Change { name, is_own }),
        3 => (name, is_own, any::<bool>()).prop_map(|(name, is_own, is_held)| Happens::Delete { name, is_own, is_held }),
        6 => any::<usize>().prop_map(Happens::Answer),
        8 => Just(Happens::Tell),
        1 => Just(Happens::Break),
        2 => Just(Happens::Check),
    ]
}

/// What was written, and what the server says to it.
#[derive(Debug)]
enum Answer {
    Wrote(Box<Pod>),
    Doomed(Key, String),
}

#[derive(Default)]
struct Site {
    revision: u64,
    there: BTreeMap<Key, Pod>,
    /// What the watch has not told yet.
    events: VecDeque<Event<Pod>>,
    answers: Vec<Answer>,
    world: World,
    /// The least revision that has to be known of a UID.
    written: BTreeMap<String, u64>,
    /// Whose deletion was answered.
    doomed: Vec<String>,
}

impl Site {
    fn new() -> Site {
        let mut site = Site::default();
        site.list();
        while site.tell() {}
        site
    }

    fn key(name: u8) -> Key {
        ("ns".to_owned(), format!("pod-{name}"))
    }

    fn happen(&mut self, what: Happens) {
        match what {
            Happens::Make { name, is_own } if !self.there.contains_key(&Self::key(name)) => {
                let uid = format!("uid-{}", self.revision);
                let meta = json!({"namespace": "ns", "name": Self::key(name).1, "uid": uid});
                let pod = serde_json::from_value(json!({"metadata": meta})).unwrap();
                self.put(pod, is_own);
            }
            Happens::Change { name, is_own } => {
                if let Some(pod) = self.there.get(&Self::key(name)).cloned() {
                    let is_own = is_own && self.knows(&pod);
                    self.put(pod, is_own);
                }
            }
            Happens::Delete {
                name,
                is_own,
                is_held,
            } => self.delete(&Self::key(name), is_own, is_held),
            Happens::Answer(index) if !self.answers.is_empty() => {
                let answer = self.answers.swap_remove(index % self.answers.len());
                self.answer(answer);
            }
            Happens::Tell => drop(self.tell()),
            Happens::Break => self.list(),
            Happens::Check => self.check_unseen(),
            Happens::Make { .. } | Happens::Answer(_) => {}
        }
        self.rest();
    }

    /// The controller changes and deletes nothing else.
    fn knows(&self, pod: &Pod) -> bool {
        let known = self.world.pods.get(&informer::key_of(pod));
        known.is_some_and(|known| known.metadata.uid == pod.metadata.uid)
    }

    fn put(&mut self, mut pod: Pod, is_own: bool) {
        self.revision += 1;
        pod.metadata.resource_version = Some(self.revision.to_string());
        self.there.insert(informer::key_of(&pod), pod.clone());
        self.events.push_back(Event::Apply(pod.clone()));
        if is_own {
            self.answers.push(Answer::Wrote(Box::new(pod)));
        }
    }

    fn delete(&mut self, key: &Key, is_own: bool, is_held: bool) {
        let Some(mut pod) = self.there.get(key).cloned() else {
            return;
        };
        let is_own = is_own && self.knows(&pod);
        let uid = pod.metadata.uid.clone().unwrap();
        if is_held {
            pod.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
            self.put(pod, false);
        } else {
            self.revision += 1;
            pod.metadata.resource_version = Some(self.revision.to_string());
            self.there.remove(key);
            self.events.push_back(Event::Delete(pod));
        }
        if is_own {
            self.answers.push(Answer::Doomed(key.clone(), uid));
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Wrote(pod) => {
                let uid = pod.metadata.uid.clone().unwrap();
                let least = self.written.entry(uid).or_default();
                *least = (*least).max(revision_of(&*pod));
                self.world.wrote(*pod);
            }
            Answer::Doomed(key, uid) => {
                self.doomed.push(uid.clone());
                Pod::known_mut(&mut self.world).doom(key, uid);
            }
        }
    }

    /// Whether there was anything to tell.
    fn tell(&mut self) -> bool {
        let Some(event) = self.events.pop_front() else {
            return false;
        };
        self.world.hear(event);
        true
    }

    fn list(&mut self) {
        let listed = self.there.values().cloned().map(Event::InitApply);
        self.events = [Event::Init]
            .into_iter()
            .chain(listed)
            .chain([Event::InitDone])
            .collect();
    }

    fn check_unseen(&mut self) {
        for key in Pod::known_mut(&mut self.world).take_unseen() {
            if !self.there.contains_key(&key) {
                self.world.is_gone::<Pod>(&key);
            }
        }
    }

    /// As the keeper does when no work is under way.
    fn rest(&mut self) {
        if self.answers.is_empty() {
            self.world.forget_gone();
        }
    }

    /// What the watch has told of a UID is gone, or something of its name is there that is newer.
    fn check(&self) {
        for (uid, least) in &self.written {
            let there = self
                .there
                .iter()
                .find(|(_, pod)| pod.metadata.uid.as_ref() == Some(uid));
            let Some((key, _)) = there else { continue };
            let known = self
                .world
                .pods
                .get(key)
                .filter(|pod| pod.metadata.uid.as_ref() == Some(uid));
            let known = known.unwrap_or_else(|| panic!("{key:?} was written and is not known"));
            assert!(
                revision_of(&**known) >= *least,
                "{key:?} is known as it was before"
            );
            let is_doomed = self.doomed.contains(uid);
            let is_leaving = known.metadata.deletion_timestamp.is_some();
            assert!(
                is_leaving || !is_doomed,
                "{key:?} was deleted and is not known to be"
            );
        }
    }

    fn settle(&mut self) {
        while let Some(answer) = self.answers.pop() {
            self.answer(answer);
        }
        self.rest();
        while self.tell() {}
        self.check_unseen();
    }

    fn check_settled(&self) {
        let facts = |pod: &Pod| {
            (
                pod.metadata.uid.clone(),
                pod.metadata.resource_version.clone(),
            )
        };
        let known: BTreeMap<_, _> = self
            .world
            .pods
            .iter()
            .map(|(key, pod)| (key, facts(pod)))
            .collect();
        let there: BTreeMap<_, _> = self
            .there
            .iter()
            .map(|(key, pod)| (key, facts(pod)))
            .collect();
        assert_eq!(known, there);
    }
}

proptest! {
    #![proptest_config(testkit::cases(2_000, 23))]

    #[test]
    fn what_was_written_here_is_known(all in vec(happens(), 0..80)) {
        let mut site = Site::new();
        for what in all {
            site.happen(what);
            site.check();
        }
        site.settle();
        site.check();
        site.check_settled();
    }
}
