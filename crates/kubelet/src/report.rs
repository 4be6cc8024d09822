//! Writing a Pod's status: one write at a time, only what changed, never out of order.

use std::sync::Arc;

use api::pod::is_final;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};

/// Conditions the agent owns; others belong to whoever wrote them (spec `§3.2`).
const OWN: [&str; 8] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "AllContainersRestarting",
    "PodResizePending",
    "PodResizeInProgress",
];

/// A condition of whoever ends a Pod for the sake of others, which may be the agent (spec `§3.2`).
const SHARED: &str = "DisruptionTarget";

/// How a write ended.
pub(crate) enum Written {
    /// The API holds this status now.
    Stored(Arc<PodStatus>),
    /// The API will not take this status, now or later.
    Refused(Arc<PodStatus>, kube::Error),
    /// The Pod is not there any more.
    Gone,
    /// It did not work; what the API holds is not known.
    Failed(kube::Error),
}

/// Whether an answer says that the Pod is not there any more, or that another has its name now. A conflict of changes says neither.
pub(crate) fn is_gone(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    status.code == 404 || (status.code == 409 && status.message.contains("UID"))
}

/// Brings the API from the status it holds, of the object with this UID, to `wanted`.
pub(crate) fn write(
    client: &Client,
    pod: &Pod,
    uid: Option<&str>,
    held: &PodStatus,
    wanted: Arc<PodStatus>,
) -> BoxFuture<'static, Written> {
    let meta = &pod.metadata;
    let api: Api<Pod> = Api::namespaced(
        client.clone(),
        meta.namespace.as_deref().unwrap_or_default(),
    );
    let name = meta.name.clone().unwrap_or_default();
    let body = json!({"metadata": {"uid": uid}, "status": Value::Object(patch(held, &wanted))});
    Box::pin(async move {
        match api
            .patch_status(&name, &PatchParams::default(), &Patch::Strategic(&body))
            .await
        {
            Ok(_) => Written::Stored(wanted),
            Err(error) if is_gone(&error) => Written::Gone,
            Err(kube::Error::Api(e)) if e.code == 422 => {
                Written::Refused(wanted, kube::Error::Api(e))
            }
            Err(error) => Written::Failed(error),
        }
    })
}

/// A status seen in the API, with everything the agent owns replaced by what it reported last.
pub(crate) fn adopt(api: Option<&PodStatus>, reported: &PodStatus) -> PodStatus {
    let mut merged = reported.clone();
    let is_own = |c: &PodCondition| OWN.contains(&c.type_.as_str());
    let foreign = api
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten()
        .filter(|c| !is_own(c))
        .cloned();
    let own = reported
        .conditions
        .iter()
        .flatten()
        .filter(|c| is_own(c))
        .cloned();
    let conditions: Vec<PodCondition> = foreign.chain(own).collect();
    merged.conditions = (!conditions.is_empty()).then_some(conditions);
    merged
}

/// What is to be reported of a static Pod on top of what `earlier` was, by an agent that did not know it when it began. What became of
/// the Pod is not for the API to say.
pub(crate) fn carry_on(earlier: &PodStatus, reported: PodStatus) -> PodStatus {
    // Nobody has reported before.
    if earlier.start_time.is_none() {
        return reported;
    }
    let start_time = earlier.start_time.clone();
    if is_final(reported.phase.as_deref().unwrap_or_default()) {
        return PodStatus {
            start_time,
            conditions: kept_times(earlier, reported.conditions.clone()),
            ..reported
        };
    }
    PodStatus {
        phase: reported.phase,
        reason: reported.reason,
        message: reported.message,
        qos_class: reported.qos_class,
        ..earlier.clone()
    }
}

/// Conditions, with the times of earlier ones that said the same.
fn kept_times(
    earlier: &PodStatus,
    conditions: Option<Vec<PodCondition>>,
) -> Option<Vec<PodCondition>> {
    let mut conditions = conditions?;
    for condition in &mut conditions {
        let mut before = earlier.conditions.iter().flatten();
        let same = before.find(|c| c.type_ == condition.type_ && c.status == condition.status);
        if let Some(same) = same {
            condition
                .last_transition_time
                .clone_from(&same.last_transition_time);
        }
    }
    Some(conditions)
}

/// What the API holds after `written` was stored: conditions of others as they were `before`, but for the one that the agent shares.
pub(crate) fn stored(before: &PodStatus, written: &PodStatus) -> PodStatus {
    let is_shared = |c: &&PodCondition| c.type_ == SHARED;
    let Some(shared) = written.conditions.iter().flatten().find(is_shared) else {
        return adopt(Some(before), written);
    };
    let mut before = before.clone();
    let conditions = before.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|c| c.type_ == SHARED) {
        Some(old) => old.clone_from(shared),
        None => conditions.push(shared.clone()),
    }
    adopt(Some(&before), written)
}

/// Whether there is nothing to write where the API holds `held`. Conditions are a map to it: their order is nobody's.
pub(crate) fn is_held(held: &PodStatus, wanted: &PodStatus) -> bool {
    held == wanted || patch(held, wanted).is_empty()
}

/// A strategic merge patch of the status: changed fields only, nulls for those that went. Lists without a merge key are replaced
/// whole; addresses too, as an old one must not stay.
fn patch(held: &PodStatus, wanted: &PodStatus) -> Map<String, Value> {
    let fields = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (held, wanted) = (fields(held), fields(wanted));
    let mut patch = Map::new();
    for key in held.keys().filter(|key| !wanted.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in &wanted {
        if held.get(key) == Some(value) {
            continue;
        }
        let value = match key.as_str() {
            "conditions" => match changed_conditions(held.get(key), value) {
                changes if changes.is_empty() => continue,
                changes => Value::Array(changes),
            },
            "podIPs" | "hostIPs" if held.contains_key(key) => replaced(value),
            "resources" | "allocatedResources" => match held.get(key) {
                Some(old) => with_nulls(old, value),
                None => value.clone(),
            },
            _ => value.clone(),
        };
        patch.insert(key.clone(), value);
    }
    patch
}

fn changed_conditions(held: Option<&Value>, wanted: &Value) -> Vec<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (held, wanted) = (held.map(list).unwrap_or_default(), list(wanted));
    let same_type = |a: &Value, b: &Value| a["type"] == b["type"];
    let mut changes: Vec<Value> = Vec::new();
    for condition in &wanted {
        match held.iter().find(|old| same_type(old, condition)) {
            Some(old) if old == condition => {}
            Some(old) => changes.push(with_nulls(old, condition)),
            None => changes.push(condition.clone()),
        }
    }
    let gone = held
        .iter()
        .filter(|old| !wanted.iter().any(|c| same_type(old, c)));
    changes.extend(gone.map(|old| json!({"$patch": "delete", "type": old["type"]})));
    changes
}

/// The new object, with nulls for fields only the old one has, at any depth.
fn with_nulls(old: &Value, new: &Value) -> Value {
    let mut out = new.clone();
    if let (Some(fields), Some(old)) = (out.as_object_mut(), old.as_object()) {
        for (key, old) in old {
            let field = fields.entry(key.clone()).or_insert(Value::Null);
            *field = with_nulls(old, field);
        }
    }
    out
}

fn replaced(list: &Value) -> Value {
    let mut items = list.as_array().cloned().unwrap_or_default();
    items.insert(0, json!({"$patch": "replace"}));
    Value::Array(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_changes_are_sent() {
        let held = status(
            json!({"phase": "Pending", "reason": "X", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}, {"type": "PodScheduled", "status": "True"},
            {"type": "PodResizeInProgress", "status": "True"}]}),
        );
        let wanted = status(
            json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]}),
        );
        assert_eq!(
            Value::Object(patch(&held, &wanted)),
            json!({"phase": "Running", "reason": null, "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}], "conditions": [
                {"type": "Ready", "status": "True", "reason": null}, {"$patch": "delete", "type": "PodResizeInProgress"}]})
        );
        assert!(is_held(&wanted, &wanted) && !is_held(&held, &wanted));
    }

    #[test]
    fn a_shared_condition_is_stored_when_it_was_written() {
        let target =
            |reason: &str| json!({"type": "DisruptionTarget", "status": "True", "reason": reason});
        let gate = json!({"type": "gate/x", "status": "True"});
        let ready = json!({"type": "Ready", "status": "True"});
        for (before, written, expected) in [
            (json!([gate]), json!([ready]), json!([gate, ready])),
            (
                json!([gate]),
                json!([ready, target("New")]),
                json!([gate, target("New"), ready]),
            ),
            (
                json!([target("Old")]),
                json!([ready, target("New")]),
                json!([target("New"), ready]),
            ),
        ] {
            let before = status(json!({"conditions": before}));
            let written = status(json!({"conditions": written}));
            let now = stored(&before, &written);
            assert_eq!(serde_json::to_value(&now.conditions).unwrap(), expected);
        }
    }

    #[test]
    fn what_was_written_is_held_whatever_the_order_of_its_conditions() {
        let target = json!({"type": "DisruptionTarget", "status": "True"});
        let gate = json!({"type": "gate/x", "status": "True"});
        let before = status(json!({"phase": "Running", "conditions": [target, gate]}));
        for conditions in [
            json!([target, gate, {"type": "Ready", "status": "False"}]),
            json!([gate, {"type": "Ready", "status": "False"}, target]),
        ] {
            let written = status(json!({"phase": "Failed", "conditions": conditions}));
            assert!(!is_held(&before, &written));
            assert!(is_held(&stored(&before, &written), &written));
        }
    }

    #[test]
    fn a_new_agent_carries_on_with_what_was_reported_of_a_static_pod() {
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let told = |phase: &str, time: &str, ready: &str| {
            status(
                json!({"phase": phase, "startTime": time, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": time}]}),
            )
        };
        for (what, earlier, reported, want) in [
            (
                "it is as ready as it was, whatever phase the API says",
                told("Failed", old, "True"),
                told("Running", new, "False"),
                told("Running", old, "True"),
            ),
            (
                "nothing was reported before",
                status(json!({"phase": "Pending"})),
                told("Running", new, "True"),
                told("Running", new, "True"),
            ),
        ] {
            assert_eq!(carry_on(&earlier, reported), want, "{what}");
        }
        // What is over is as it is found, since when it was.
        let over = carry_on(&told("Running", old, "False"), told("Failed", new, "False"));
        assert_eq!(over, told("Failed", old, "False"));
        let over = carry_on(&told("Running", old, "True"), told("Failed", new, "False"));
        let mut want = told("Failed", new, "False");
        want.start_time = told("Failed", old, "False").start_time;
        assert_eq!(over, want);
    }

    #[test]
    fn conditions_of_others_are_kept_as_they_are_in_the_api() {
        let api = status(
            json!({"conditions": [{"type": "gate/x", "status": "True"}, {"type": "Ready", "status": "Unknown"}]}),
        );
        let reported = status(
            json!({"phase": "Running", "conditions": [{"type": "gate/x", "status": "False"}, {"type": "Ready", "status": "True"}]}),
        );
        let merged = adopt(Some(&api), &reported);
        let want =
            json!([{"type": "gate/x", "status": "True"}, {"type": "Ready", "status": "True"}]);
        assert_eq!(serde_json::to_value(merged.conditions).unwrap(), want);
        assert_eq!(merged.phase.as_deref(), Some("Running"));
    }
}
