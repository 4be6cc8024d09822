//! Deployments, ReplicaSets and Pods together, whatever happens to them in whatever order: bounds hold at each step, ReplicaSets of others
//! are left alone, and in the end there is what was asked for.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use proptest::prelude::*;
use serde_json::json;
use workloads::deployment::{self, Failure};
use workloads::replicaset::{self, Seen};
use workloads::{owner, pod};

/// What happens next.
#[derive(Debug, Clone)]
enum Happens {
    /// The user changes the template, to one of a few.
    Template(u8),
    Scale(i32),
    Pause(bool),
    Strategy {
        is_rolling: bool,
        surge: u8,
        unavailable: u8,
    },
    /// The controller of Deployments looks.
    Deployment,
    /// The controller of ReplicaSets looks at one of them.
    Set(usize),
    /// A Pod becomes ready, or not ready any more.
    Ready(usize, bool),
    /// A Pod fails for good.
    Fails(usize),
    /// A Pod that is being deleted ends.
    Ends(usize),
    /// Somebody deletes a Pod.
    Deleted(usize),
    /// A ReplicaSet of another controller comes, whose labels are selected, too, and which is to have so many Pods.
    Foreign(i32),
    /// Somebody takes the owner from a ReplicaSet.
    Orphaned(usize),
    /// Somebody changes the labels of a ReplicaSet, so that it is not selected any more.
    Strays(usize),
    /// Time passes.
    Seconds(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        1 => (0..4u8).prop_map(Happens::Template),
        1 => (0..12).prop_map(Happens::Scale),
        1 => any::<bool>().prop_map(Happens::Pause),
        1 => (any::<bool>(), 0..101u8, 0..101u8).prop_map(|(is_rolling, surge, unavailable)| {
            Happens::Strategy { is_rolling, surge, unavailable }
        }),
        8 => Just(Happens::Deployment),
        8 => any::<usize>().prop_map(Happens::Set),
        12 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(i, r)| Happens::Ready(i, r)),
        1 => any::<usize>().prop_map(Happens::Fails),
        8 => any::<usize>().prop_map(Happens::Ends),
        1 => any::<usize>().prop_map(Happens::Deleted),
        1 => (0..5).prop_map(Happens::Foreign),
        1 => any::<usize>().prop_map(Happens::Orphaned),
        1 => any::<usize>().prop_map(Happens::Strays),
        2 => (1..900i64).prop_map(Happens::Seconds),
    ]
}

struct Cluster {
    now: Timestamp,
    deployment: Deployment,
    sets: BTreeMap<String, ReplicaSet>,
    /// ReplicaSets of others, and those that were let go.
    foreign: BTreeMap<String, ReplicaSet>,
    pods: BTreeMap<String, Pod>,
    made: u32,
}

impl Cluster {
    fn new() -> Self {
        let deployment = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "web", "generation": 1},
            "spec": {
                "replicas": 3, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "0"}]}},
            },
        });
        Cluster {
            now: Timestamp::new(1000, 0).unwrap(),
            deployment: serde_json::from_value(deployment).unwrap(),
            sets: BTreeMap::new(),
            foreign: BTreeMap::new(),
            pods: BTreeMap::new(),
            made: 0,
        }
    }

    fn spec(&mut self, change: serde_json::Value) {
        let mut value = serde_json::to_value(&self.deployment).unwrap();
        for (key, field) in change.as_object().unwrap() {
            value["spec"][key] = field.clone();
        }
        let changed: Deployment = serde_json::from_value(value).unwrap();
        if changed != self.deployment {
            self.deployment = changed;
            self.deployment.metadata.generation =
                self.deployment.metadata.generation.map(|g| g + 1);
        }
    }

    fn stamp(&mut self, meta: &mut ObjectMeta) -> String {
        self.made += 1;
        let prefix = meta.generate_name.take();
        let name = meta
            .name
            .clone()
            .unwrap_or_else(|| format!("{}{}", prefix.unwrap(), self.made));
        meta.name = Some(name.clone());
        meta.namespace = Some("ns".into());
        meta.uid = Some(format!("uid-{}", self.made));
        meta.creation_timestamp = Some(Time(self.now));
        meta.generation = Some(1);
        name
    }

    /// A name out of a number.
    fn choose<T>(map: &BTreeMap<String, T>, index: usize) -> Option<String> {
        map.keys().nth(index.checked_rem(map.len())?).cloned()
    }

    fn happen(&mut self, what: Happens) {
        match what {
            Happens::Template(image) => self.spec(json!({"template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image.to_string()}]},
            }})),
            Happens::Scale(replicas) => self.spec(json!({"replicas": replicas})),
            Happens::Pause(paused) => self.spec(json!({"paused": paused})),
            Happens::Strategy {
                is_rolling: true,
                surge,
                unavailable,
            } => {
                let bounds = json!({"maxSurge": format!("{surge}%"), "maxUnavailable": format!("{unavailable}%")});
                self.spec(json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": bounds}}));
            }
            Happens::Strategy { .. } => self.spec(json!({"strategy": {"type": "Recreate"}})),
            Happens::Deployment => {
                self.roll();
            }
            Happens::Set(index) => {
                if let Some(name) = Self::choose(&self.sets, index) {
                    self.replicate(&name);
                }
            }
            Happens::Ready(index, is_ready) => {
                if let Some(name) = Self::choose(&self.pods, index) {
                    self.make_ready(&name, is_ready);
                }
            }
            Happens::Fails(index) => {
                if let Some(name) = Self::choose(&self.pods, index) {
                    let pod = self.pods.get_mut(&name).unwrap();
                    pod.status.get_or_insert_default().phase = Some("Failed".into());
                }
            }
            Happens::Ends(index) => {
                let leaving: BTreeMap<String, ()> = self.leaving().map(|name| (name, ())).collect();
                if let Some(name) = Self::choose(&leaving, index) {
                    self.pods.remove(&name);
                }
            }
            Happens::Deleted(index) => {
                if let Some(name) = Self::choose(&self.pods, index) {
                    let now = Time(self.now);
                    self.pods
                        .get_mut(&name)
                        .unwrap()
                        .metadata
                        .deletion_timestamp = Some(now);
                }
            }
            Happens::Foreign(replicas) => self.meet(replicas),
            Happens::Orphaned(index) => {
                if let Some(name) = Self::choose(&self.sets, index) {
                    self.sets.get_mut(&name).unwrap().metadata.owner_references = None;
                    self.note_stray(&name);
                }
            }
            Happens::Strays(index) => {
                if let Some(name) = Self::choose(&self.sets, index) {
                    let labels = [("app".to_owned(), "other".to_owned())];
                    self.sets.get_mut(&name).unwrap().metadata.labels = Some(labels.into());
                    self.note_stray(&name);
                }
            }
            Happens::Seconds(seconds) => self.now += SignedDuration::from_secs(seconds),
        }
    }

    /// A ReplicaSet of the Deployment that had this one's name before.
    fn meet(&mut self, replicas: i32) {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "0"}]}});
        let set = json!({
            "metadata": {"generateName": "web-", "labels": {"app": "web"}},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        });
        let mut set: ReplicaSet = serde_json::from_value(set).unwrap();
        let before = ObjectMeta {
            uid: Some("before".into()),
            ..self.deployment.metadata.clone()
        };
        set.metadata.owner_references =
            Some(vec![owner::reference("apps/v1", "Deployment", &before)]);
        let name = self.stamp(&mut set.metadata);
        self.foreign.insert(name, set);
    }

    fn leaving(&self) -> impl Iterator<Item = String> {
        let leaving = self
            .pods
            .iter()
            .filter(|(_, p)| p.metadata.deletion_timestamp.is_some());
        leaving.map(|(name, _)| name.clone())
    }

    /// Whether that changes it.
    fn make_ready(&mut self, name: &str, is_ready: bool) -> bool {
        let now = self.now.to_string();
        let status = if is_ready { "True" } else { "False" };
        let status = json!({
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": now}],
        });
        let pod = self.pods.get_mut(name).unwrap();
        if pod::is_active(pod) && pod::is_ready(pod) != is_ready {
            pod.spec.get_or_insert_default().node_name = Some("node".into());
            pod.status = serde_json::from_value(status).unwrap();
            return true;
        }
        false
    }

    /// One look of the controller of Deployments; whether it had anything to do.
    fn roll(&mut self) -> bool {
        let reference = owner::reference("apps/v1", "Deployment", &self.deployment.metadata);
        let mut failure = None;
        let mut did_something = false;
        loop {
            let sets: Vec<&ReplicaSet> = self.sets.values().chain(self.foreign.values()).collect();
            let has_pods = |uid: &str| {
                let of = |p: &&Pod| owner::controller_of(&p.metadata).is_some_and(|o| o.uid == uid);
                self.pods.values().filter(of).any(|pod| !pod::is_over(pod))
            };
            let old = &self.deployment;
            let plan =
                deployment::plan(old, &reference, &sets, has_pods, failure.as_ref(), self.now);
            failure = None;
            did_something |= !plan.steps.is_empty() || plan.write.is_some();
            self.check_bounds(&plan);
            for step in plan.steps {
                failure = self.take(step);
                if failure.is_some() {
                    break;
                }
            }
            if failure.is_some() {
                continue;
            }
            if let Some(written) = plan.write {
                self.deployment = *written;
            }
            return did_something;
        }
    }

    fn take(&mut self, step: deployment::Step) -> Option<Failure> {
        match step {
            deployment::Step::Create(set) => {
                let mut set = *set;
                let name = set.metadata.name.clone().unwrap();
                if self.sets.contains_key(&name) || self.foreign.contains_key(&name) {
                    let status = self.deployment.status.as_ref();
                    let before = status.and_then(|s| s.collision_count);
                    return Some(Failure::Collision(before.unwrap_or(0)));
                }
                self.stamp(&mut set.metadata);
                self.sets.insert(name, set);
            }
            deployment::Step::Update { mut set, .. } => {
                let name = set.metadata.name.clone().unwrap();
                assert!(self.owns(&name), "{name} of another is changed");
                if self.sets[&name].spec != set.spec {
                    set.metadata.generation = set.metadata.generation.map(|g| g + 1);
                }
                self.sets.insert(name, *set);
            }
            deployment::Step::Delete { set, uid } => {
                assert!(self.owns(&set), "{set} of another is deleted");
                assert_eq!(self.sets[&set].metadata.uid.as_ref(), Some(&uid));
                let gone = self.sets.remove(&set).unwrap();
                assert_eq!(replicaset::replicas(&gone), 0, "a set with Pods is deleted");
                self.forget_pods(&gone);
            }
            deployment::Step::HandOver(handover) => self.hand_over(&handover),
        }
        None
    }

    fn owns(&self, set: &str) -> bool {
        let set = self.sets.get(set);
        let owner = set.and_then(|set| owner::controller_of(&set.metadata));
        owner.is_some_and(|owner| Some(&owner.uid) == self.deployment.metadata.uid.as_ref())
    }

    fn hand_over(&mut self, handover: &owner::Handover) {
        let name = &handover.object;
        let is_own = self.owns(name);
        let set = self.sets.get_mut(name);
        let set = set.unwrap_or_else(|| panic!("{name} of another changes hands"));
        let uid = handover.patch["metadata"]["uid"].as_str();
        assert_eq!(uid, set.metadata.uid.as_deref());
        if handover.is_adoption {
            assert!(owner::controller_of(&set.metadata).is_none());
            let reference = owner::reference("apps/v1", "Deployment", &self.deployment.metadata);
            set.metadata.owner_references = Some(vec![reference]);
        } else {
            assert!(is_own, "{name} is let go, and was not held");
            set.metadata.owner_references = None;
            self.let_go(name);
        }
    }

    /// A ReplicaSet that is neither the Deployment's nor selected is none of its business.
    fn note_stray(&mut self, name: &str) {
        let labels = self.sets[name].metadata.labels.as_ref().unwrap();
        if labels["app"] == "other" && !self.owns(name) {
            self.let_go(name);
        }
    }

    /// A ReplicaSet is not the Deployment's any more.
    fn let_go(&mut self, name: &str) {
        let set = self.sets.remove(name).unwrap();
        self.forget_pods(&set);
        self.foreign.insert(name.to_owned(), set);
    }

    /// Pods of this ReplicaSet are not the Deployment's any more.
    fn forget_pods(&mut self, set: &ReplicaSet) {
        let uid = set.metadata.uid.clone().unwrap();
        let is_of = |p: &Pod| owner::controller_of(&p.metadata).is_some_and(|o| o.uid == uid);
        self.pods.retain(|_, pod| !is_of(pod));
    }

    /// A plan never has more Pods asked for than the surge allows, nor takes so many away that too few work. What users have scaled, or
    /// paused, is another matter.
    fn check_bounds(&self, plan: &deployment::Plan) {
        let spec = self.deployment.spec.as_ref().unwrap();
        let strategy = spec.strategy.as_ref().unwrap();
        let replicas = spec.replicas.unwrap();
        let (surge, unavailable) = match &strategy.rolling_update {
            Some(bounds) if strategy.type_.as_deref() == Some("RollingUpdate") => {
                use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
                let percent = |bound: &Option<IntOrString>, rest: i32| match bound {
                    Some(IntOrString::String(p)) => {
                        (p.trim_end_matches('%').parse::<i32>().unwrap() * replicas + rest) / 100
                    }
                    other => panic!("{other:?}"),
                };
                let surge = percent(&bounds.max_surge, 99);
                let unavailable = percent(&bounds.max_unavailable, 0);
                (
                    surge,
                    if surge == 0 {
                        unavailable.max(1)
                    } else {
                        unavailable
                    },
                )
            }
            _ => (0, replicas),
        };
        let available = |set: &ReplicaSet| {
            let status = set.status.as_ref();
            status.and_then(|s| s.available_replicas).unwrap_or(0)
        };
        let mut after = self.sets.clone();
        let mut is_sizing = false;
        for step in &plan.steps {
            if let deployment::Step::Create(set) | deployment::Step::Update { set, .. } = step {
                after.insert(set.metadata.name.clone().unwrap(), (**set).clone());
            }
        }
        let noted = "deployment.kubernetes.io/desired-replicas";
        for set in self
            .sets
            .values()
            .filter(|set| replicaset::replicas(set) > 0)
        {
            let annotations = set.metadata.annotations.as_ref();
            let noted = annotations.and_then(|a| a.get(noted));
            is_sizing |= noted.is_some_and(|n| *n != replicas.to_string());
        }
        let total = |sets: &BTreeMap<String, ReplicaSet>| -> i32 {
            sets.values().map(replicaset::replicas).sum()
        };
        let most = replicas + surge;
        assert!(
            total(&after) <= total(&self.sets).max(most),
            "{} Pods are asked for, {most} are allowed",
            total(&after)
        );
        if is_sizing || spec.paused == Some(true) {
            return;
        }
        let working = |sets: &BTreeMap<String, ReplicaSet>| -> i32 {
            let kept = sets
                .values()
                .map(|set| available(set).min(replicaset::replicas(set)));
            kept.sum()
        };
        let least = (replicas - unavailable).max(0);
        assert!(
            working(&after) >= working(&self.sets).min(least),
            "{} Pods stay that work, {least} are needed",
            working(&after)
        );
    }

    /// One look of the controller of ReplicaSets; whether it had anything to do.
    fn replicate(&mut self, name: &str) -> bool {
        let set = self.sets[name].clone();
        let reference = owner::reference("apps/v1", "ReplicaSet", &set.metadata);
        let pods: Vec<&Pod> = self.pods.values().collect();
        let seen = Seen {
            pods: &pods,
            siblings: &[&set],
            failure: None,
        };
        let plan = replicaset::plan(&set, &reference, seen, self.now);
        let did_something = !plan.steps.is_empty() || plan.status.is_some();
        for step in plan.steps {
            match step {
                replicaset::Step::Create { pod, count } => {
                    for _ in 0..count {
                        let mut pod = (*pod).clone();
                        let name = self.stamp(&mut pod.metadata);
                        self.pods.insert(name, pod);
                    }
                }
                replicaset::Step::Delete { pod, .. } => {
                    let now = Time(self.now);
                    let pod = self.pods.get_mut(&pod).unwrap();
                    let owner = owner::controller_of(&pod.metadata).unwrap();
                    assert_eq!(owner.uid, reference.uid, "another's Pod is deleted");
                    pod.metadata.deletion_timestamp = Some(now);
                }
                step => panic!("nothing to take over: {step:?}"),
            }
        }
        if plan.status.is_some() {
            self.sets.get_mut(name).unwrap().status = plan.status;
        }
        did_something
    }

    /// Everybody does what there is to do, every Pod becomes ready and every one that leaves ends, until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..300 {
            let mut is_moving = self.roll();
            for name in self.sets.keys().cloned().collect::<Vec<_>>() {
                is_moving |= self.replicate(&name);
            }
            for name in self.leaving().collect::<Vec<_>>() {
                self.pods.remove(&name);
                is_moving = true;
            }
            for name in self.pods.keys().cloned().collect::<Vec<_>>() {
                is_moving |= self.make_ready(&name, true);
            }
            if !is_moving {
                return;
            }
        }
        panic!("it never settles");
    }

    fn check_settled(&self) {
        let spec = self.deployment.spec.as_ref().unwrap();
        let wanted = spec.replicas.unwrap();
        let image = |template: &k8s_openapi::api::core::v1::PodTemplateSpec| {
            template.spec.as_ref().unwrap().containers[0]
                .image
                .clone()
                .unwrap()
        };
        let active: Vec<&Pod> = self
            .pods
            .values()
            .filter(|pod| pod::is_active(pod))
            .collect();
        let of_template = active.iter().filter(|pod| {
            pod.spec.as_ref().unwrap().containers[0].image.as_ref() == Some(&image(&spec.template))
        });
        if spec.paused == Some(true) {
            // It stays where it was, with its surge.
            return;
        }
        assert_eq!(active.len(), usize::try_from(wanted).unwrap());
        assert_eq!(
            of_template.count(),
            active.len(),
            "Pods of old templates are left"
        );
        let status = self.deployment.status.as_ref().unwrap();
        assert_eq!(
            status.observed_generation,
            self.deployment.metadata.generation
        );
        for number in [
            status.replicas,
            status.updated_replicas,
            status.available_replicas,
        ] {
            assert_eq!(number.unwrap_or(0), wanted);
        }
        let conditions = status.conditions.as_ref().unwrap();
        let reason = |kind: &str| {
            let condition = conditions.iter().find(|c| c.type_ == kind);
            condition.map(|c| (c.status.as_str(), c.reason.as_deref().unwrap()))
        };
        assert_eq!(
            reason("Progressing"),
            Some(("True", "NewReplicaSetAvailable"))
        );
        assert_eq!(
            reason("Available"),
            Some(("True", "MinimumReplicasAvailable"))
        );
        // The newest, and as many of the past as are to be kept.
        assert!(self.sets.len() <= 3, "{:?}", self.sets.keys());
        let noted = |set: &ReplicaSet| {
            set.metadata.annotations.as_ref().unwrap()[deployment::REVISION].clone()
        };
        let newest = self
            .sets
            .values()
            .map(|set| noted(set).parse::<i64>().unwrap())
            .max();
        let own =
            self.deployment.metadata.annotations.as_ref().unwrap()[deployment::REVISION].parse();
        assert_eq!(newest, own.ok());
    }
}

proptest! {
    #![proptest_config(testkit::cases(500, 7))]

    #[test]
    fn whatever_happens_there_is_in_the_end_what_was_asked_for(all in prop::collection::vec(happens(), 0..120)) {
        let mut cluster = Cluster::new();
        for what in all {
            cluster.happen(what);
        }
        cluster.settle();
        cluster.check_settled();
        prop_assert!(!cluster.roll(), "once more changes nothing");
    }
}
