//! Who has a name: of the Pods that manifests describe under one name, one runs at a time. Another waits until the one before it has
//! ended (upstream's queue by full name).

use std::collections::BTreeMap;

use informer::{Key, key_of};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

/// The annotation that says since when the agent has known a Pod.
const SEEN: &str = "kubernetes.io/config.seen";

/// What is to be done about a Pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Order {
    /// Nobody has its name: it begins.
    Start(Box<Pod>),
    /// It is not wanted as it is: the Pod of this UID ends.
    End(String),
}

/// Static Pods by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<Key, Holder>);

#[derive(Debug, Default)]
struct Holder {
    running: Option<Running>,
    wanted: Option<Pod>,
}

#[derive(Debug)]
struct Running {
    /// As its manifest describes it.
    described: Pod,
    pod: Pod,
    is_ending: bool,
}

impl Names {
    /// These are the Pods there are to be, each with a name of its own.
    pub(super) fn want(&mut self, pods: Vec<Pod>, now: Timestamp) -> Vec<Order> {
        for holder in self.0.values_mut() {
            holder.wanted = None;
        }
        for pod in pods {
            let holder = self.0.entry(key_of(&pod)).or_default();
            holder.wanted = Some(pod);
        }
        let orders = self
            .0
            .values_mut()
            .filter_map(|holder| holder.next(now))
            .collect();
        self.forget();
        orders
    }

    /// Nothing is left of a Pod. The one that waited for its name begins.
    pub(super) fn ended(&mut self, uid: &str, now: Timestamp) -> Option<Order> {
        let has_it = |holder: &&mut Holder| holder.is_run(uid);
        let holder = self.0.values_mut().find(has_it)?;
        holder.running = None;
        let order = holder.next(now);
        self.forget();
        order
    }

    /// Whether this Pod runs, or is still ending.
    pub(super) fn runs(&self, uid: &str) -> bool {
        self.0.values().any(|holder| holder.is_run(uid))
    }

    /// Every name that somebody has or wants.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.0.keys().cloned()
    }

    /// Who has a name, and whether it is ending.
    pub(super) fn holder(&self, name: &Key) -> Option<(&Pod, bool)> {
        let running = self.0.get(name)?.running.as_ref()?;
        Some((&running.pod, running.is_ending))
    }

    fn forget(&mut self) {
        self.0
            .retain(|_, holder| holder.running.is_some() || holder.wanted.is_some());
    }
}

impl Holder {
    fn is_run(&self, uid: &str) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.pod.metadata.uid.as_deref() == Some(uid))
    }

    fn next(&mut self, now: Timestamp) -> Option<Order> {
        match (&mut self.running, &self.wanted) {
            (None, Some(wanted)) => {
                let mut pod = wanted.clone();
                let annotations = pod.metadata.annotations.get_or_insert_default();
                annotations.insert(SEEN.to_owned(), now.to_string());
                self.running = Some(Running {
                    described: wanted.clone(),
                    pod: pod.clone(),
                    is_ending: false,
                });
                Some(Order::Start(Box::new(pod)))
            }
            (Some(running), wanted)
                if !running.is_ending && wanted.as_ref() != Some(&running.described) =>
            {
                running.is_ending = true;
                let uid = running.pod.metadata.uid.clone();
                Some(Order::End(uid.unwrap_or_default()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const T: Timestamp = Timestamp::UNIX_EPOCH;

    fn pod(name: &str, uid: &str) -> Pod {
        let pod = json!({"metadata": {"name": name, "namespace": "default", "uid": uid}, "spec": {"containers": []}});
        serde_json::from_value(pod).unwrap()
    }

    fn said(orders: impl IntoIterator<Item = Order>) -> Vec<String> {
        let words = orders.into_iter().map(|order| match order {
            Order::Start(pod) => format!("start {}", pod.metadata.uid.unwrap()),
            Order::End(uid) => format!("end {uid}"),
        });
        words.collect()
    }

    #[test]
    fn a_pod_waits_for_the_end_of_the_one_before_it() {
        let mut names = Names::default();
        let both = || vec![pod("a", "a1"), pod("b", "b1")];
        assert_eq!(said(names.want(both(), T)), ["start a1", "start b1"]);
        assert_eq!(said(names.want(both(), T)), [""; 0]);
        let edited = |uid: &str| vec![pod("a", uid), pod("b", "b1")];
        assert_eq!(said(names.want(edited("a2"), T)), ["end a1"]);
        assert!(names.holder(&key_of(&pod("a", ""))).unwrap().1);
        // Edited again while it ends: the last one counts.
        assert_eq!(said(names.want(edited("a3"), T)), [""; 0]);
        assert_eq!(said(names.ended("a1", T)), ["start a3"]);
        assert!(names.runs("a3") && !names.runs("a1"));
        let (pod, is_ending) = names.holder(&key_of(&pod("a", ""))).unwrap();
        let since = api::pod::annotation(pod, SEEN);
        assert_eq!((since, is_ending), (Some("1970-01-01T00:00:00Z"), false));
        assert_eq!(said(names.ended("a1", T)), [""; 0]);
    }

    #[test]
    fn what_is_taken_back_begins_anew() {
        let mut names = Names::default();
        let one = || vec![pod("a", "a1")];
        names.want(one(), T);
        assert_eq!(said(names.want(vec![], T)), ["end a1"]);
        assert_eq!(said(names.want(one(), T)), [""; 0]);
        assert_eq!(said(names.ended("a1", T)), ["start a1"]);
    }

    #[test]
    fn what_is_removed_is_forgotten_when_it_has_ended() {
        let mut names = Names::default();
        names.want(vec![pod("a", "a1")], T);
        assert_eq!(said(names.want(vec![], T)), ["end a1"]);
        assert!(names.runs("a1"));
        assert_eq!(said(names.ended("a1", T)), [""; 0]);
        assert!(!names.runs("a1") && names.holder(&key_of(&pod("a", ""))).is_none());
    }

    #[test]
    fn a_change_under_a_given_uid_is_another_pod_too() {
        let mut names = Names::default();
        names.want(vec![pod("a", "fixed")], T);
        let mut edited = pod("a", "fixed");
        edited.metadata.labels = Some([("x".to_owned(), "y".to_owned())].into());
        assert_eq!(said(names.want(vec![edited], T)), ["end fixed"]);
        assert_eq!(said(names.ended("fixed", T)), ["start fixed"]);
    }
}
