//! Tables of single plans.

mod claims;
mod history;
mod order;
mod pods;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use super::*;
use crate::history::{HASH_LABEL, Recipe};
use crate::statefulset::pods as named;

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1000 + seconds, 0).unwrap()
}

fn set(replicas: i32, spec: Value) -> StatefulSet {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set", "generation": 3},
        "spec": {
            "replicas": replicas, "serviceName": "svc", "revisionHistoryLimit": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template("1"),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
    });
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn template(image: &str) -> Value {
    let volumes = json!([{"name": "tmp", "emptyDir": {}}, {"name": "data", "emptyDir": {}}]);
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}], "volumes": volumes},
    })
}

fn reference() -> OwnerReference {
    owner::reference("apps/v1", "StatefulSet", &set(0, json!({})).metadata)
}

/// The revision of a template of this image.
fn revision(image: &str, number: i64) -> ControllerRevision {
    let of = set(0, json!({"template": template(image)}));
    let recipe = Recipe {
        controller: &of.metadata,
        reference: &reference(),
        template: &of.spec.as_ref().unwrap().template,
        label: HASH_LABEL,
        collisions: Some(0),
        number,
    };
    let mut made = recipe.revision();
    made.metadata.uid = Some(format!("r{image}"));
    made
}

fn revision_name(image: &str) -> String {
    revision(image, 0).metadata.name.unwrap()
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Pending,
    Ready,
    Leaving,
    Failed,
}
use State::{Failed, Leaving, Pending, Ready};

fn pod(ordinal: i32, image: &str, state: State) -> Pod {
    let of = set(0, json!({"template": template(image)}));
    let spec = of.spec.as_ref().unwrap();
    let mut pod = named::new(
        spec,
        &reference(),
        ordinal,
        &spec.template,
        &revision_name(image),
    );
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.uid = Some(format!("p{ordinal}"));
    let phase = match state {
        Pending => "Pending",
        Ready | Leaving => "Running",
        Failed => "Failed",
    };
    let ready = if matches!(state, Ready | Leaving) {
        "True"
    } else {
        "False"
    };
    let condition =
        json!({"type": "Ready", "status": ready, "lastTransitionTime": at(0).to_string()});
    let status = json!({"phase": phase, "conditions": [condition]});
    pod.status = serde_json::from_value(status).unwrap();
    if state == Leaving {
        pod.metadata.deletion_timestamp = Some(Time(at(0)));
    }
    pod
}

#[derive(Default)]
struct World {
    pods: Vec<Pod>,
    revisions: Vec<ControllerRevision>,
    claims: Vec<PersistentVolumeClaim>,
    failure: Option<Failure>,
}

impl World {
    /// With the revision of image 1, and Pods of it.
    fn of(states: &[State]) -> Self {
        let pods = (0..).zip(states).map(|(n, state)| pod(n, "1", *state));
        World {
            pods: pods.collect(),
            revisions: vec![revision("1", 1)],
            ..World::default()
        }
    }

    fn plan(&self, set: &StatefulSet) -> Plan {
        self.plan_at(set, at(100))
    }

    fn plan_at(&self, set: &StatefulSet, now: Timestamp) -> Plan {
        let (pods, revisions, claims): (Vec<_>, Vec<_>, Vec<_>) = (
            self.pods.iter().collect(),
            self.revisions.iter().collect(),
            self.claims.iter().collect(),
        );
        let seen = Seen {
            pods: &pods,
            revisions: &revisions,
            claims: &claims,
            failure: self.failure,
        };
        plan(set, &reference(), seen, now)
    }

    fn steps(&self, set: &StatefulSet) -> Vec<String> {
        self.plan(set).steps.iter().map(told).collect()
    }
}

/// A step in short.
fn told(step: &Step) -> String {
    let named = |verb: &str, meta: &ObjectMeta| format!("{verb} {}", name(meta));
    match step {
        Step::HandOverPod(h) if h.is_adoption => format!("adopt {}", h.object),
        Step::HandOverPod(h) => format!("release {}", h.object),
        Step::AdoptRevision(h) => format!("adopt {}", h.object),
        Step::CreateRevision(r) => format!("write {}", r.revision),
        Step::UpdateRevision(r) => format!("{} is {}", name(&r.metadata), r.revision),
        Step::DeleteRevision { uid, .. } => format!("forget {uid}"),
        Step::CreateClaim { claim, .. } => named("claim", &claim.metadata),
        Step::UpdateClaim { claim, .. } => named("give", &claim.metadata),
        Step::CreatePod(pod) => named("make", &pod.metadata),
        Step::UpdatePod(pod) => named("mend", &pod.metadata),
        Step::DeletePod { pod, .. } => format!("delete {pod}"),
    }
}
