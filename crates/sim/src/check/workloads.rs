//! Workloads: never more Pods than may be, nobody else's are deleted, and in the end as many as were asked for, and none without its owner.
//!
//! A controller may not have heard yet of what its object wants now: what counts is the most that any generation has wanted since
//! the one it has observed. And it cannot know of a Pod whose making was never answered, until it hears of it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::{Checks, Known, ensure};

/// By then a controller has heard of what it was not answered.
const HEARD: Duration = Duration::from_secs(90);

/// The kinds, as their keys in the store and their paths name them, with their groups.
pub(crate) const KINDS: [(&str, &str); 5] = [
    ("deployments", "apps"),
    ("replicasets", "apps"),
    ("statefulsets", "apps"),
    ("daemonsets", "apps"),
    ("jobs", "batch"),
];

/// All workloads there have been, by UID.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    all: BTreeMap<String, Workload>,
    /// When answers to who made Pods were lost.
    unanswered: Vec<Duration>,
}

#[derive(Debug, Default)]
struct Workload {
    kind: &'static str,
    object: Value,
    is_gone: bool,
    /// By generation, how many Pods there may be.
    most: BTreeMap<i64, i64>,
}

/// The kind of workload a key of the store is of.
pub(crate) fn kind_of(key: &str) -> Option<&'static str> {
    let named = |(kind, _): &&(&'static str, _)| key.split('/').any(|part| part == *kind);
    KINDS.iter().find(named).map(|(kind, _)| *kind)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The UID of the controller, empty if there is none.
fn controller(metadata: &Value) -> &str {
    let owners = metadata["ownerReferences"].as_array();
    let mut owners = owners.into_iter().flatten();
    text(
        &owners
            .find(|o| o["controller"] == true)
            .unwrap_or(&Value::Null)["uid"],
    )
}

fn controller_of(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|o| o.controller == Some(true));
    controllers.next().map(|owner| &*owner.uid)
}

/// It has not ended, and is not to.
fn is_active(known: &Known) -> bool {
    !known.is_gone && !known.is_over && known.pod.metadata.deletion_timestamp.is_none()
}

impl Workload {
    /// How many Pods there may be by what it says now.
    fn wants(&self) -> i64 {
        let spec = &self.object["spec"];
        let number = |field: &str| spec[field].as_i64().unwrap_or(1);
        match self.kind {
            "daemonsets" => 1,
            "jobs" => number("parallelism"),
            "deployments" => {
                let surge = &spec["strategy"]["rollingUpdate"]["maxSurge"];
                number("replicas") + surge.as_i64().unwrap_or(0)
            }
            _ => number("replicas"),
        }
    }

    fn take(&mut self, object: Value) {
        self.object = object;
        let generation = self.object["metadata"]["generation"].as_i64().unwrap_or(0);
        let wants = self.wants();
        self.most.insert(generation, wants);
        let observed = self.object["status"]["observedGeneration"]
            .as_i64()
            .unwrap_or(0);
        self.most.retain(|of, _| *of >= observed);
    }

    fn most(&self) -> i64 {
        self.most.values().copied().max().unwrap_or(0)
    }

    fn name(&self) -> String {
        format!("{}/{}", self.kind, text(&self.object["metadata"]["name"]))
    }

    fn is_leaving(&self) -> bool {
        self.is_gone || !self.object["metadata"]["deletionTimestamp"].is_null()
    }

    /// Whether it has said that it is over, and how.
    fn end(&self) -> Option<&str> {
        let conditions = self.object["status"]["conditions"].as_array();
        let mut held = conditions
            .into_iter()
            .flatten()
            .filter(|c| c["status"] == "True");
        held.find(|c| matches!(text(&c["type"]), "Complete" | "Failed"))
            .map(|c| text(&c["type"]))
    }
}

impl Checks {
    /// A workload was made, changed or removed.
    pub(crate) fn workload_stored(
        &mut self,
        kind: &'static str,
        object: Value,
        is_gone: bool,
    ) -> Result<(), String> {
        let uid = text(&object["metadata"]["uid"]).to_owned();
        let owner = controller(&object["metadata"]).to_owned();
        let before = self.asked_for(&owner);
        let workload = self.workloads.all.entry(uid).or_default();
        workload.kind = kind;
        workload.is_gone = is_gone;
        workload.take(object);
        let Some(of) = self.workloads.all.get(&owner) else {
            return Ok(());
        };
        let (after, most) = (self.asked_for(&owner), of.most());
        ensure(after <= before.max(most), || {
            format!("{} asks for {after} Pods, {most} are allowed", of.name())
        })
    }

    /// How many Pods all sets of a Deployment ask for.
    fn asked_for(&self, owner: &str) -> i64 {
        let all = self.workloads.all.values();
        let own = all.filter(|w| !w.is_gone && controller(&w.object["metadata"]) == owner);
        own.map(Workload::wants).sum()
    }

    fn active_of<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Known> {
        let of = move |known: &&Known| is_active(known) && controller_of(&known.pod) == Some(uid);
        self.pods.values().filter(of)
    }

    /// Somebody made a Pod and was never answered.
    pub(crate) fn making_unanswered(&mut self, passed: Duration) {
        self.workloads.unanswered.push(passed);
    }

    /// A Pod was made.
    pub(crate) fn pod_made(&self, pod: &str, passed: Duration) -> Result<(), String> {
        let made = self
            .pods
            .get(pod)
            .and_then(|known| controller_of(&known.pod));
        let Some((uid, of)) = made.and_then(|uid| Some((uid, self.workloads.all.get(uid)?))) else {
            return Ok(());
        };
        let active = self.active_of(uid).count();
        let unknown = self
            .workloads
            .unanswered
            .iter()
            .filter(|at| **at + HEARD > passed);
        let most = usize::try_from(of.most()).unwrap_or(0);
        ensure(active <= most + unknown.count(), || {
            format!("{} has {active} Pods, {most} are allowed", of.name())
        })
    }

    /// The controllers delete a Pod: of a stranger none, but for the node's sake.
    pub(crate) fn pod_deleted_by_controllers(&self, name: &str) -> Result<(), String> {
        let taints = self
            .node
            .spec
            .as_ref()
            .and_then(|spec| spec.taints.as_ref());
        let mut taints = taints.into_iter().flatten();
        if taints.any(|taint| taint.effect == "NoExecute") {
            return Ok(());
        }
        let mut there = self.pods.values().filter(|known| !known.is_gone);
        let known = there.find(|known| known.pod.metadata.name.as_deref() == Some(name));
        let owner = known.and_then(|known| controller_of(&known.pod));
        ensure(
            owner.is_none_or(|uid| self.workloads.all.contains_key(uid)),
            || format!("{name} is deleted, whose controller is another"),
        )
    }

    /// What is wrong with workloads when all is quiet.
    pub(super) fn workloads_settled(&self) -> Result<(), String> {
        for (uid, workload) in self.workloads.all.iter().filter(|(_, w)| !w.is_gone) {
            let name = workload.name();
            ensure(!workload.is_leaving(), || {
                format!("{name} was deleted and is still there")
            })?;
            self.is_owned(controller(&workload.object["metadata"]), &name)?;
            let active = self.active_of(uid).count();
            let (status, spec) = (&workload.object["status"], &workload.object["spec"]);
            let say = |what: &str| format!("{name} {what}: {active} Pods, {spec}, {status}");
            let number = |field: &str| status[field].as_u64().unwrap_or(0);
            let generation = &workload.object["metadata"]["generation"];
            let wanted = spec["replicas"].as_u64().unwrap_or(1);
            let fields: &[&str] = match workload.kind {
                "jobs" => {
                    ensure(workload.end().is_some() && active == 0, || {
                        say("does not end")
                    })?;
                    continue;
                }
                "daemonsets" => {
                    let fields = [
                        "desiredNumberScheduled",
                        "updatedNumberScheduled",
                        "numberAvailable",
                    ];
                    let is_told = fields.iter().all(|field| number(field) == 1);
                    ensure(is_told && active == 1, || say("is not on the node"))?;
                    continue;
                }
                "replicasets" => &["replicas", "readyReplicas", "availableReplicas"],
                _ => &[
                    "replicas",
                    "updatedReplicas",
                    "readyReplicas",
                    "availableReplicas",
                ],
            };
            let is_told = fields.iter().all(|field| number(field) == wanted)
                && status["observedGeneration"] == *generation;
            let has_all = workload.kind == "deployments" || u64::try_from(active) == Ok(wanted);
            ensure(is_told && has_all, || say("is not as it was asked for"))?;
        }
        for known in self.pods.values().filter(|known| !known.is_gone) {
            let name = known.pod.metadata.name.as_deref().unwrap_or_default();
            self.is_owned(controller_of(&known.pod).unwrap_or_default(), name)?;
        }
        Ok(())
    }

    /// Whether the controller of something, if it is a workload, is there.
    fn is_owned(&self, controller: &str, name: &str) -> Result<(), String> {
        let owner = self.workloads.all.get(controller);
        ensure(owner.is_none_or(|owner| !owner.is_gone), || {
            format!("{name} has outlived its owner")
        })
    }

    /// No workload is left.
    pub(super) fn no_workload_left(&self) -> Result<(), String> {
        let left = self.workloads.all.values().find(|w| !w.is_gone);
        ensure(left.is_none(), || {
            let name = left.map(Workload::name).unwrap_or_default();
            format!("{name} is still in the API")
        })
    }

    /// Whose script a Pod's containers follow: their workload's, or their own.
    pub(super) fn script(&self, uid: &str) -> String {
        let pod = self.pods.get(uid).map(|known| &known.pod.metadata);
        let labels = pod.and_then(|meta| meta.labels.as_ref());
        let of = labels.and_then(|labels| labels.get("of")).cloned();
        of.unwrap_or_else(|| self.name(uid))
    }
}
