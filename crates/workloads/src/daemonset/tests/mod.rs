mod history;
mod nodes;
mod pods;
mod rollout;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::*;
use crate::history::REVISION_LABEL;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

/// A DaemonSet with these fields of its spec besides those it needs.
fn set(spec: Value) -> DaemonSet {
    let mut value = json!({
        "metadata": {"name": "log", "namespace": "ns", "uid": "set", "generation": 3},
        "spec": {
            "selector": {"matchLabels": {"app": "log"}},
            "template": {
                "metadata": {"labels": {"app": "log"}},
                "spec": {"containers": [{"name": "c", "image": "new"}]},
            },
        },
    });
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn rolling(surge: Value, unavailable: Value) -> DaemonSet {
    let bounds = json!({"maxSurge": surge, "maxUnavailable": unavailable});
    set(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": bounds}}))
}

fn reference() -> OwnerReference {
    owner::reference("apps/v1", "DaemonSet", &set(json!({})).metadata)
}

fn node(name: &str) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

fn tainted(name: &str, effect: &str) -> Node {
    let taint = json!({"key": "full", "effect": effect});
    let value = json!({"metadata": {"name": name}, "spec": {"taints": [taint]}});
    serde_json::from_value(value).unwrap()
}

/// The revision of the set's template, or of another.
fn revision(name: &str, image: &str, number: i64) -> ControllerRevision {
    let value = json!({
        "metadata": {
            "name": format!("log-{name}"), "namespace": "ns", "uid": name,
            "labels": {"app": "log", REVISION_LABEL: name}, "ownerReferences": [reference()],
        },
        "data": {"spec": {"template": {
            "$patch": "replace",
            "metadata": {"labels": {"app": "log"}},
            "spec": {"containers": [{"name": "c", "image": image}]},
        }}},
        "revision": number,
    });
    serde_json::from_value(value).unwrap()
}

/// A Pod of the revision `new` or `old` on a node, made so many seconds ago: `ready` since then, `Failed`, …
fn pod(name: &str, node: &str, hash: &str, state: &str, age: i64) -> Pod {
    let since = ago(age).to_string();
    let (phase, status) = match state {
        "ready" => ("Running", "True"),
        "unready" => ("Running", "False"),
        phase => (phase, "False"),
    };
    let value = json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "creationTimestamp": since,
            "labels": {"app": "log", REVISION_LABEL: hash}, "ownerReferences": [reference()],
        },
        "spec": {"containers": [], "nodeName": node},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": since}]},
    });
    serde_json::from_value(value).unwrap()
}

fn leaving(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = Some(Time(now()));
    pod
}

/// What there is. Revision 1 is `old`, and 2, that of the set's template, `new`.
struct World {
    set: DaemonSet,
    pods: Vec<Pod>,
    nodes: Vec<Node>,
    revisions: Vec<ControllerRevision>,
    memory: Memory,
    failure: Option<Failure>,
}

fn world(set: DaemonSet, nodes: &[&str], pods: Vec<Pod>) -> World {
    World {
        set,
        pods,
        nodes: nodes.iter().map(|name| node(name)).collect(),
        revisions: vec![revision("old", "old", 1), revision("new", "new", 2)],
        memory: Memory::default(),
        failure: None,
    }
}

impl World {
    fn plan(&self) -> Plan {
        self.plan_at(now())
    }

    fn plan_at(&self, now: Timestamp) -> Plan {
        let seen = Seen {
            pods: &self.pods.iter().collect::<Vec<_>>(),
            nodes: &self.nodes.iter().collect::<Vec<_>>(),
            revisions: &self.revisions.iter().collect::<Vec<_>>(),
            memory: &self.memory,
            failure: self.failure.as_ref(),
        };
        plan(&self.set, &reference(), seen, now)
    }

    /// The Pods that go, and the nodes that get one.
    fn changes(&self) -> (Vec<String>, Vec<String>) {
        changes(&self.plan())
    }
}

fn changes(plan: &Plan) -> (Vec<String>, Vec<String>) {
    let (mut gone, mut served) = (Vec::new(), Vec::new());
    for step in &plan.steps {
        match step {
            Step::Delete { pod, .. } => gone.push(pod.clone()),
            Step::Create(pods) => {
                let nodes = pods.iter().map(|pod| place::target(pod).unwrap());
                served.extend(nodes.map(str::to_owned));
            }
            other => panic!("{other:?}"),
        }
    }
    (gone, served)
}

/// Asserts what goes and which nodes get a Pod.
#[track_caller]
fn assert_changes(world: &World, gone: &[&str], served: &[&str]) {
    let strings = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    assert_eq!(world.changes(), (strings(gone), strings(served)));
}
