//! Evictions under a disruption budget (§16: 38), against a controller that looks at the Pods as they were a while ago.
//!
//! What the server and the controller do is modelled as they do it: an eviction judges the newest state and spends before it
//! deletes; the controller counts what its watch has told it so far, and writes if the budget is still the one it counted for.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lifecycle::budget::{self, Permit};
use proptest::prelude::*;
use serde_json::json;
use testkit::at;

use crate::properties::config;

/// How many Pods there can be.
const PODS: usize = 5;

/// What happens.
#[derive(Debug, Clone)]
enum Happens {
    /// Someone evicts a Pod. Nothing comes of the deletion if the server dies between the two writes.
    Evict {
        pod: usize,
        dies: bool,
    },
    /// The controller's watch catches up.
    Watch,
    /// The controller counts what it has seen, for the budget as it is.
    Count,
    /// It begins to count, and writes when something else has happened.
    Begin,
    Finish,
    /// Time passes, in seconds.
    Wait(i64),
    /// A Pod becomes ready.
    Ready(usize),
    /// A Pod that goes is gone.
    Gone(usize),
    /// What evictions are not to blame for.
    Mishap(Mishap),
}

#[derive(Debug, Clone)]
enum Mishap {
    Unready(usize),
    Phase(usize, &'static str),
    /// Someone deletes a Pod without asking.
    Delete(usize),
    /// A Pod comes, or comes again.
    Comes(usize),
    /// The budget is changed: a lower bound, a policy.
    Budget(i32, &'static str),
}

#[derive(Debug, Clone)]
struct World {
    now: Timestamp,
    pods: BTreeMap<String, Pod>,
    /// As the controller knows them.
    watched: BTreeMap<String, Pod>,
    budget: PodDisruptionBudget,
    /// Counts writes of the budget.
    revision: u32,
    /// A count that is not written yet, and the revision it is for.
    counted: Option<(u32, budget::Outlook)>,
}

fn name(pod: usize) -> String {
    format!("p{}", pod % PODS)
}

fn running(name: &str, is_ready: bool) -> Pod {
    let ready = if is_ready { "True" } else { "False" };
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    });
    serde_json::from_value(pod).expect("a Pod")
}

fn condition(pod: &mut Pod) -> &mut String {
    let conditions = pod.status.as_mut().and_then(|s| s.conditions.as_mut());
    let ready = conditions.and_then(|c| c.first_mut());
    &mut ready.expect("every Pod has a condition").status
}

fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_deref());
    conditions.is_some_and(|c| c[0].status == "True")
}

fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && phase == Some("Running")
}

impl World {
    fn new(ready: &[bool], least: i32) -> World {
        let pods: BTreeMap<String, Pod> = ready
            .iter()
            .enumerate()
            .map(|(n, ready)| (name(n), running(&name(n), *ready)))
            .collect();
        let budget = json!({
            "metadata": {"name": "b", "generation": 1},
            "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": "web"}}},
        });
        World {
            now: at(0),
            watched: pods.clone(),
            pods,
            budget: serde_json::from_value(budget).expect("a budget"),
            revision: 0,
            counted: None,
        }
    }

    fn healthy(&self) -> usize {
        let healthy = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod);
        self.pods.values().filter(healthy).count()
    }

    /// One step; returns the Pod that an eviction deleted, as it was, with the budget as it was.
    fn step(&mut self, happens: &Happens) -> Option<(Pod, PodDisruptionBudget)> {
        match happens {
            Happens::Evict { pod, dies } => return self.evict(&name(*pod), *dies),
            Happens::Watch => self.watched = self.pods.clone(),
            Happens::Count => {
                self.begin();
                self.finish();
            }
            Happens::Begin => self.begin(),
            Happens::Finish => self.finish(),
            Happens::Wait(seconds) => self.now += SignedDuration::from_secs(*seconds),
            Happens::Ready(pod) => {
                if let Some(pod) = self.pods.get_mut(&name(*pod)) {
                    *condition(pod) = "True".to_owned();
                }
            }
            Happens::Gone(pod) => {
                let name = name(*pod);
                let goes = |p: &Pod| p.metadata.deletion_timestamp.is_some();
                if self.pods.get(&name).is_some_and(goes) {
                    self.pods.remove(&name);
                }
            }
            Happens::Mishap(mishap) => self.mishap(mishap),
        }
        None
    }

    fn mishap(&mut self, mishap: &Mishap) {
        let now = self.now;
        match mishap {
            Mishap::Unready(pod) => {
                if let Some(pod) = self.pods.get_mut(&name(*pod)) {
                    *condition(pod) = "False".to_owned();
                }
            }
            Mishap::Phase(pod, phase) => {
                let pod = self.pods.get_mut(&name(*pod));
                if let Some(status) = pod.and_then(|p| p.status.as_mut()) {
                    status.phase = Some((*phase).to_owned());
                }
            }
            Mishap::Delete(pod) => {
                if let Some(pod) = self.pods.get_mut(&name(*pod)) {
                    pod.metadata.deletion_timestamp = Some(Time(now));
                }
            }
            Mishap::Comes(pod) => {
                let name = name(*pod);
                let new = running(&name, false);
                self.pods.insert(name, new);
            }
            Mishap::Budget(least, policy) => {
                let spec = json!({"minAvailable": least, "unhealthyPodEvictionPolicy": policy, "selector": {"matchLabels": {"app": "web"}}});
                self.budget.spec = serde_json::from_value(spec).expect("a spec");
                self.budget.metadata.generation = self.budget.metadata.generation.map(|g| g + 1);
                self.revision += 1;
            }
        }
    }

    fn evict(&mut self, name: &str, dies: bool) -> Option<(Pod, PodDisruptionBudget)> {
        let pod = self.pods.get(name)?.clone();
        let before = self.budget.clone();
        let permit = budget::evict(&pod, [&before], self.now).ok()?;
        if let Permit::Spends(_, status) = permit {
            self.budget.status = Some(*status);
            self.revision += 1;
            if dies {
                return None;
            }
        }
        let going = self.pods.get_mut(name)?;
        going
            .metadata
            .deletion_timestamp
            .get_or_insert(Time(self.now));
        Some((pod, before))
    }

    fn begin(&mut self) {
        let seen = budget::look(
            &self.budget,
            self.watched.values(),
            |_| budget::Scale::Unknown,
            self.now,
        );
        self.counted = Some((self.revision, seen));
    }

    fn finish(&mut self) {
        if let Some((revision, seen)) = self.counted.take()
            && revision == self.revision
        {
            self.budget.status = Some(seen.status);
            self.revision += 1;
        }
    }
}

fn fair() -> impl Strategy<Value = Happens> {
    let pod = || 0..PODS;
    prop_oneof![
        6 => (pod(), any::<bool>()).prop_map(|(pod, dies)| Happens::Evict { pod, dies }),
        2 => Just(Happens::Watch),
        4 => Just(Happens::Count),
        2 => Just(Happens::Begin),
        2 => Just(Happens::Finish),
        1 => pod().prop_map(Happens::Ready),
        1 => pod().prop_map(Happens::Gone),
    ]
}

fn anything() -> impl Strategy<Value = Happens> {
    let pod = || 0..PODS;
    let phase = prop_oneof![
        Just("Pending"),
        Just("Running"),
        Just("Succeeded"),
        Just("Failed"),
        Just("Unknown")
    ];
    let policy = prop_oneof![Just("IfHealthyBudget"), Just("AlwaysAllow")];
    let mishap = prop_oneof![
        3 => pod().prop_map(Mishap::Unready),
        1 => (pod(), phase).prop_map(|(pod, phase)| Mishap::Phase(pod, phase)),
        1 => pod().prop_map(Mishap::Delete),
        2 => pod().prop_map(Mishap::Comes),
        1 => (0..4_i32, policy).prop_map(|(least, policy)| Mishap::Budget(least, policy)),
    ];
    prop_oneof![
        5 => fair(),
        1 => (0..200_i64).prop_map(Happens::Wait),
        2 => mishap.prop_map(Happens::Mishap),
    ]
}

fn ready() -> impl Strategy<Value = Vec<bool>> {
    proptest::collection::vec(prop_oneof![4 => Just(true), 1 => Just(false)], 0..=PODS)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_ready_pod_is_evicted_only_while_its_budget_allows_it(
        ready in ready(),
        least in 0..4_i32,
        history in proptest::collection::vec(anything(), 0..40),
    ) {
        let mut world = World::new(&ready, least);
        for happens in &history {
            let Some((pod, before)) = world.step(happens) else {
                continue;
            };
            if !is_running(&pod) || !is_ready(&pod) {
                continue;
            }
            let (was, is) = (before.status.unwrap_or_default(), world.budget.status.clone().unwrap_or_default());
            let name = pod.metadata.name.unwrap_or_default();
            prop_assert!(was.disruptions_allowed > Some(0), "38: {name} was evicted, with {was:?}");
            prop_assert_eq!(was.observed_generation, before.metadata.generation, "38: nobody had looked at the budget");
            prop_assert_eq!(is.disruptions_allowed, was.disruptions_allowed.map(|n| n - 1), "the budget was not spent");
            prop_assert!(is.disrupted_pods.is_some_and(|d| d.contains_key(&name)), "{name} was not noted");
        }
    }

    /// Where nothing else goes wrong, there are always as many healthy Pods as there have to be, or as many as there were. Nothing lasts
    /// longer than an eviction is believed.
    #[test]
    fn evictions_leave_enough_healthy_pods(
        ready in ready(),
        least in 0..4_i32,
        history in proptest::collection::vec((fair(), 0..3_i64), 0..40),
    ) {
        let mut world = World::new(&ready, least);
        let least = usize::try_from(least).unwrap_or(0);
        let enough = least.min(world.healthy());
        for (happens, seconds) in &history {
            world.step(happens);
            prop_assert!(world.healthy() >= enough, "{} of {enough} are left after {happens:?}", world.healthy());
            world.now += SignedDuration::from_secs(*seconds);
        }
    }

    /// A status says the same until something happens, so that it is written once.
    #[test]
    fn what_was_counted_stays_counted(
        ready in ready(),
        least in 0..4_i32,
        history in proptest::collection::vec(anything(), 0..20),
    ) {
        let mut world = World::new(&ready, least);
        for happens in &history {
            world.step(happens);
        }
        world.step(&Happens::Count);
        let first = world.budget.status.clone();
        world.step(&Happens::Count);
        prop_assert_eq!(world.budget.status, first);
    }
}
