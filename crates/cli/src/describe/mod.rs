//! Objects in detail (§15), pure: an object, what belongs to it, and the time go in, text comes out.

mod events;
mod other;
mod pod;
mod policy;
mod quotas;
mod service;
mod sets;
mod storage;
mod tabs;
mod volumes;
mod workload;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub(crate) use self::tabs::Tabs;

/// Annotations that say nothing to people.
const HIDDEN: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Longest annotation that stands behind its key.
const LONGEST_ANNOTATION: usize = 140;

/// What an object is described with.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Its events; `None` shows none.
    pub(crate) events: Option<Vec<Value>>,
    /// The EndpointSlices of a Service, the ReplicaSets of a Deployment, the Pods of what makes Pods itself and of claims, the quotas
    /// and limits of a namespace.
    pub(crate) parts: Vec<Value>,
}

/// Describes an object of any kind.
pub(crate) fn describe(object: &Value, beside: &Beside, now: Timestamp) -> String {
    let mut out = Tabs::default();
    let mut with_events = true;
    match (text(&object["apiVersion"]), text(&object["kind"])) {
        ("v1", "Pod") => pod::describe(&mut out, object, now),
        ("v1", "ConfigMap") => other::config_map(&mut out, object),
        ("v1", "Secret") => {
            other::secret(&mut out, object);
            with_events = false;
        }
        ("v1", "Service") => service::service(&mut out, object, &beside.parts),
        ("v1", "Namespace") => {
            service::namespace(&mut out, object);
            quotas::of_namespace(&mut out, &beside.parts);
            with_events = false;
        }
        ("apps/v1", "Deployment") => workload::deployment(&mut out, object, &beside.parts),
        ("apps/v1", "ReplicaSet") => workload::replica_set(&mut out, object, &beside.parts),
        ("apps/v1", "StatefulSet") => sets::stateful_set(&mut out, object, &beside.parts),
        ("apps/v1", "DaemonSet") => sets::daemon_set(&mut out, object, &beside.parts),
        ("v1", "PersistentVolumeClaim") => storage::claim(&mut out, object, &beside.parts, now),
        ("v1", "PersistentVolume") => storage::volume(&mut out, object, now),
        ("storage.k8s.io/v1", "StorageClass") => storage::class(&mut out, object),
        ("networking.k8s.io/v1", "NetworkPolicy") => {
            policy::network_policy(&mut out, object);
            with_events = false;
        }
        ("v1", "LimitRange") => {
            quotas::limits(&mut out, object);
            with_events = false;
        }
        ("v1", "ResourceQuota") => {
            quotas::quota(&mut out, object);
            with_events = false;
        }
        ("policy/v1", "PodDisruptionBudget") => other::disruption_budget(&mut out, object),
        ("scheduling.k8s.io/v1", "PriorityClass") => other::priority_class(&mut out, object),
        ("v1", "ServiceAccount") => other::service_account(&mut out, object),
        _ => other::generic(&mut out, object),
    }
    if let Some(events) = beside.events.as_ref().filter(|_| with_events) {
        events::table(&mut out, events, now);
    }
    out.finish()
}

/// The template of a workload's Pods, its columns separated by tabs as `rollout history` has them.
pub(crate) fn template(template: &Value) -> String {
    let mut out = Tabs::default();
    pod::template(&mut out, template);
    out.unaligned()
}

pub(crate) use self::events::{age as event_age, by_time as events_by_time};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A number or text as it is printed, `<none>` for nothing.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<none>".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

/// `true` as Go prints it for people.
fn capital(value: &Value) -> &'static str {
    if value == true { "True" } else { "False" }
}

/// `Fri, 20 Nov 2026 16:20:00 +0000`
fn time(value: &Value) -> String {
    let zero = "Mon, 01 Jan 0001 00:00:00 +0000";
    match api::time::parse(text(value)) {
        Some(time) => time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string(),
        None => zero.to_owned(),
    }
}

fn pairs(map: &Value) -> Vec<String> {
    let pair = |(key, value): (&String, &Value)| format!("{key}={}", text(value));
    map.as_object().into_iter().flatten().map(pair).collect()
}

fn name_and_namespace(out: &mut Tabs, object: &Value) {
    out.field(0, "Name", text(&object["metadata"]["name"]));
    out.field(0, "Namespace", text(&object["metadata"]["namespace"]));
}

fn labels_and_annotations(out: &mut Tabs, object: &Value) {
    out.column("Labels", &pairs(&object["metadata"]["labels"]));
    let none = Map::new();
    let annotations = object["metadata"]["annotations"]
        .as_object()
        .unwrap_or(&none);
    out.column("Annotations", &annotation_lines(annotations));
}

/// `key: value`, or the key alone with the lines of a long value below.
fn annotation_lines(annotations: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, value) in annotations.iter().filter(|(key, _)| *key != HIDDEN) {
        let value = text(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        if value.len() + key.len() + 2 <= LONGEST_ANNOTATION && !value.contains('\n') {
            lines.push(format!("{key}: {value}"));
            continue;
        }
        lines.push(format!("{key}:"));
        for line in value.split('\n') {
            let most = LONGEST_ANNOTATION - 2;
            let cut = match line.char_indices().nth(most) {
                Some((end, _)) => format!("{}...", &line[..end]),
                None => line.to_owned(),
            };
            lines.push(format!("  {cut}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests;
