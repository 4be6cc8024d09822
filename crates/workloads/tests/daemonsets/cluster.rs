//! What there is, and what becomes of it without the controller.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use workloads::daemonset::Memory;
use workloads::{history, pod};

use super::{Happens, Shape};

/// How many revisions of the past are kept.
pub(super) const LIMIT: usize = 2;

pub(super) struct Cluster {
    pub(super) now: Timestamp,
    pub(super) set: DaemonSet,
    pub(super) shapes: BTreeMap<String, Shape>,
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) pods: BTreeMap<String, Pod>,
    pub(super) revisions: BTreeMap<String, ControllerRevision>,
    pub(super) memory: Memory,
    pub(super) has_quota: bool,
    pub(super) collides: bool,
    made: u32,
}

impl Cluster {
    pub(super) fn new() -> Self {
        let set = json!({
            "metadata": {"name": "log", "namespace": "ns", "uid": "log", "generation": 1},
            "spec": {
                "revisionHistoryLimit": LIMIT,
                "selector": {"matchLabels": {"app": "log"}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
                "template": {"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"name": "c", "image": "0"}]}},
            },
        });
        let mut cluster = Cluster {
            now: Timestamp::new(1000, 0).unwrap(),
            set: serde_json::from_value(set).unwrap(),
            shapes: BTreeMap::new(),
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            revisions: BTreeMap::new(),
            memory: Memory::default(),
            has_quota: true,
            collides: false,
            made: 0,
        };
        for n in 0..3 {
            let shape = Shape {
                is_fast: true,
                taint: None,
            };
            cluster.happen(&Happens::Node(n, Some(shape)));
        }
        cluster
    }

    fn spec(&mut self, change: &Value) {
        let mut value = serde_json::to_value(&self.set).unwrap();
        for (key, field) in change.as_object().unwrap() {
            value["spec"][key] = field.clone();
        }
        let changed: DaemonSet = serde_json::from_value(value).unwrap();
        if changed != self.set {
            self.set = changed;
            self.set.metadata.generation = self.set.metadata.generation.map(|g| g + 1);
        }
    }

    pub(super) fn happen(&mut self, what: &Happens) {
        match *what {
            Happens::Template(image, is_fast, is_tolerant) => {
                let mut spec = json!({"containers": [{"name": "c", "image": image.to_string()}]});
                if is_fast {
                    spec["nodeSelector"] = json!({"disk": "fast"});
                }
                if is_tolerant {
                    spec["tolerations"] = json!([{"key": "full", "operator": "Exists"}]);
                }
                let labels = json!({"labels": {"app": "log"}});
                self.spec(&json!({"template": {"metadata": labels, "spec": spec}}));
            }
            Happens::Strategy {
                is_rolling: true,
                surge,
                unavailable,
            } => {
                let bounds = json!({"maxSurge": format!("{surge}%"), "maxUnavailable": format!("{unavailable}%")});
                self.spec(
                    &json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": bounds}}),
                );
            }
            Happens::Strategy { .. } => {
                self.spec(&json!({"updateStrategy": {"type": "OnDelete"}}));
            }
            Happens::MinReady(seconds) => self.spec(&json!({"minReadySeconds": seconds})),
            Happens::Node(n, shape) => self.change_node(format!("n{n}"), shape),
            Happens::Controller(writes) => {
                self.look(writes);
            }
            Happens::Quota(has_quota) => self.has_quota = has_quota,
            Happens::Collides => self.collides = true,
            Happens::Twin(index) => {
                let named = self
                    .revisions
                    .keys()
                    .nth(index % self.revisions.len().max(1));
                if let Some(name) = named.cloned() {
                    let mut twin = self.revisions[&name].clone();
                    twin.metadata.name = Some(format!("twin-{}", self.made));
                    let name = self.stamp(&mut twin.metadata);
                    let labels = twin.metadata.labels.get_or_insert_default();
                    labels.remove(history::REVISION_LABEL);
                    self.revisions.insert(name, twin);
                }
            }
            Happens::Seconds(seconds) => self.now += SignedDuration::from_secs(seconds),
            Happens::Bound(index)
            | Happens::Ready(index, _)
            | Happens::Over(index, _)
            | Happens::Ends(index)
            | Happens::Deleted(index)
            | Happens::Orphaned(index) => {
                let named = self.pods.keys().nth(index % self.pods.len().max(1));
                if let Some(name) = named.cloned() {
                    self.happen_to(&name, what);
                }
            }
        }
    }

    fn happen_to(&mut self, name: &str, what: &Happens) {
        let now = Time(self.now);
        match what {
            Happens::Bound(_) => {
                self.bind(name);
            }
            Happens::Ready(_, is_ready) => {
                self.make_ready(name, *is_ready);
            }
            Happens::Over(_, is_success) => {
                let pod = self.pods.get_mut(name).unwrap();
                let phase = if *is_success { "Succeeded" } else { "Failed" };
                let status =
                    json!({"phase": phase, "conditions": [{"type": "Ready", "status": "False"}]});
                pod.status = serde_json::from_value(status).unwrap();
            }
            Happens::Ends(_) => {
                self.end(name);
            }
            Happens::Deleted(_) => {
                let pod = self.pods.get_mut(name).unwrap();
                pod.metadata.deletion_timestamp = Some(now);
            }
            Happens::Orphaned(_) => {
                self.pods.get_mut(name).unwrap().metadata.owner_references = None;
            }
            other => panic!("{other:?} is about no Pod"),
        }
    }

    fn change_node(&mut self, name: String, shape: Option<Shape>) {
        let Some(shape) = shape else {
            self.shapes.remove(&name);
            self.nodes.remove(&name);
            return;
        };
        let disk = if shape.is_fast { "fast" } else { "slow" };
        let mut node = json!({"metadata": {"name": name, "labels": {"disk": disk}}});
        if let Some(effect) = shape.taint {
            node["spec"] = json!({"taints": [{"key": "full", "effect": effect}]});
        }
        self.nodes
            .insert(name.clone(), serde_json::from_value(node).unwrap());
        self.shapes.insert(name, shape);
    }

    pub(super) fn stamp(&mut self, meta: &mut ObjectMeta) -> String {
        self.made += 1;
        let prefix = meta.generate_name.take();
        let name = meta.name.take();
        let name = name.unwrap_or_else(|| format!("{}{}", prefix.unwrap(), self.made));
        meta.name = Some(name.clone());
        meta.namespace = Some("ns".into());
        meta.uid = Some(format!("uid-{}", self.made));
        meta.creation_timestamp = Some(Time(self.now));
        name
    }

    /// Whether that changes it.
    pub(super) fn bind(&mut self, name: &str) -> bool {
        let pod = self.pods.get_mut(name).unwrap();
        let node = target(pod);
        let spec = pod.spec.as_mut().unwrap();
        let can = spec.node_name.is_none() && self.nodes.contains_key(&node);
        if can {
            spec.node_name = Some(node);
        }
        can
    }

    /// Whether that changes it.
    pub(super) fn make_ready(&mut self, name: &str, is_ready: bool) -> bool {
        let status = if is_ready { "True" } else { "False" };
        let status = json!({
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": self.now.to_string()}],
        });
        let pod = self.pods.get_mut(name).unwrap();
        let can = is_bound(pod) && pod::is_active(pod) && pod::is_ready(pod) != is_ready;
        if can {
            pod.status = serde_json::from_value(status).unwrap();
        }
        can
    }

    /// Whether it does.
    pub(super) fn end(&mut self, name: &str) -> bool {
        let pod = &self.pods[name];
        let is_lost = is_bound(pod) && !self.nodes.contains_key(&target(pod));
        let can = pod.metadata.deletion_timestamp.is_some() || is_lost;
        if can {
            self.pods.remove(name);
        }
        can
    }
}

pub(super) fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().unwrap().node_name.is_some()
}

/// The node a Pod was made for.
pub(super) fn target(pod: &Pod) -> String {
    let affinity = pod.spec.as_ref().unwrap().affinity.as_ref().unwrap();
    let affinity = affinity.node_affinity.as_ref().unwrap();
    let required = &affinity.required_during_scheduling_ignored_during_execution;
    let term = &required.as_ref().unwrap().node_selector_terms[0];
    let field = &term.match_fields.as_ref().unwrap()[0];
    field.values.as_ref().unwrap()[0].clone()
}
