//! What is kept of a namespace at one moment: each Pod's status and the events.

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::mask::Mask;
use crate::client::Api;

/// Waiting and terminated reasons whose message is the runtime's own.
const OWN_WORDS: [&str; 7] = [
    "ErrImagePull",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
    "ContainerCannotRun",
    "InvalidImageName",
    "InspectFailed",
];

/// Pods by name and events as lines, masked.
pub(crate) async fn snapshot(api: &Api, namespace: &str, mask: &Mask) -> anyhow::Result<Value> {
    let pods = api
        .get(&format!("/api/v1/namespaces/{namespace}/pods"))
        .await?;
    let named = items(&pods)?
        .iter()
        .map(|pod| (text(&pod["metadata"]["name"]), mask.value(pod_summary(pod))))
        .collect();
    let events = api
        .get(&format!("/api/v1/namespaces/{namespace}/events"))
        .await?;
    let mut events: Vec<&Value> = items(&events)?.iter().collect();
    events.sort_by_key(|event| (first_time(event), text(&event["metadata"]["name"])));
    let lines: Vec<Value> = events
        .iter()
        .map(|event| mask.text(&event_line(event)).into())
        .collect();
    Ok(json!({ "pods": by_name(named), "events": lines }))
}

/// Puts values under their masked names; several under one name become `name`, `name #2`, ….
pub(crate) fn by_name(mut named: Vec<(String, Value)>) -> Map<String, Value> {
    let mask = Mask::names();
    named.sort_by_cached_key(|(name, value)| (mask.text(name), value.to_string()));
    let mut map = Map::new();
    for (name, value) in named {
        let name = mask.text(&name);
        let key = (1..)
            .map(|n| {
                if n == 1 {
                    name.clone()
                } else {
                    format!("{name} #{n}")
                }
            })
            .find(|key| !map.contains_key(key));
        map.insert(key.unwrap_or(name), value);
    }
    map
}

fn items(list: &Value) -> anyhow::Result<&Vec<Value>> {
    list["items"].as_array().context("the answer is no list")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn pod_summary(pod: &Value) -> Value {
    let status = &pod["status"];
    let mut summary = pick(status, &["phase", "reason", "message", "qosClass"]);
    let mut conditions: Vec<String> = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(condition_line)
        .collect();
    conditions.sort();
    summary.insert("conditions".into(), conditions.into());
    for list in [
        "initContainerStatuses",
        "containerStatuses",
        "ephemeralContainerStatuses",
    ] {
        if let Some(statuses) = status[list]
            .as_array()
            .filter(|statuses| !statuses.is_empty())
        {
            summary.insert(
                list.into(),
                statuses.iter().map(container_summary).collect(),
            );
        }
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        summary.insert(
            "deleting".into(),
            pod["metadata"]["deletionGracePeriodSeconds"].clone(),
        );
    }
    Value::Object(summary)
}

fn condition_line(condition: &Value) -> String {
    let [kind, status, reason, message] =
        ["type", "status", "reason", "message"].map(|field| text(&condition[field]));
    format!("{kind}={status} {reason}: {message}")
        .trim_end_matches([':', ' '])
        .to_owned()
}

fn container_summary(container: &Value) -> Value {
    json!({
        "name": container["name"], "ready": container["ready"], "started": container["started"],
        "restartCount": container["restartCount"], "state": state(&container["state"]), "lastState": state(&container["lastState"]),
    })
}

fn state(state: &Value) -> Value {
    let Some(kind) = ["waiting", "running", "terminated"]
        .into_iter()
        .find(|kind| state[*kind].is_object())
    else {
        return json!({});
    };
    let mut kept = pick(&state[kind], &["reason", "exitCode", "signal", "message"]);
    let own_words = kept
        .get("reason")
        .and_then(Value::as_str)
        .is_some_and(|reason| OWN_WORDS.contains(&reason));
    if own_words && kept.contains_key("message") {
        kept.insert("message".into(), "<why>".into());
    }
    json!({ kind: kept })
}

fn pick(value: &Value, fields: &[&str]) -> Map<String, Value> {
    fields
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), value.get(*field)?.clone())))
        .collect()
}

fn first_time(event: &Value) -> String {
    [&event["eventTime"], &event["firstTimestamp"]]
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn event_line(event: &Value) -> String {
    let object = &event["involvedObject"];
    let field = object["fieldPath"]
        .as_str()
        .map(|path| format!(":{path}"))
        .unwrap_or_default();
    let [kind, reason, message] = ["type", "reason", "message"].map(|field| text(&event[field]));
    format!(
        "{kind} {reason} {}/{}{field}: {}",
        text(&object["kind"]),
        text(&object["name"]),
        message.trim()
    )
}
