//! Core Events and events.k8s.io Events are the same objects; they are stored as core and shown as either.

use serde_json::{Map, Value};

/// Core name, events.k8s.io name.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(
    event: &mut Map<String, Value>,
    api_version: &str,
    pairs: impl Iterator<Item = (&'static str, &'static str)>,
) {
    for (from, to) in pairs {
        if let Some(value) = event.remove(from) {
            event.insert(to.to_owned(), value);
        }
    }
    event.insert("apiVersion".to_owned(), api_version.into());
}

/// Turns an events.k8s.io Event into a core one.
pub fn to_core_event(event: &mut Map<String, Value>) {
    rename(
        event,
        "v1",
        RENAMED.into_iter().map(|(core, events)| (events, core)),
    );
}

/// Turns a core Event into an events.k8s.io one.
pub fn to_events_event(event: &mut Map<String, Value>) {
    rename(event, "events.k8s.io/v1", RENAMED.into_iter());
}

/// The core path of an events.k8s.io selector's path.
pub(super) fn core_path(path: &str) -> String {
    let (head, tail) = path
        .split_once('.')
        .map_or((path, ""), |(head, _)| (head, &path[head.len()..]));
    let core = RENAMED
        .iter()
        .find(|(_, events)| *events == head)
        .map_or(head, |(core, _)| core);
    format!("{core}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;
    use crate::validate::decode_value;
    use serde_json::json;

    #[test]
    fn conversion_goes_both_ways() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"},
            "message": "m", "source": {"component": "kubelet"}, "count": 2, "firstTimestamp": "2026-01-02T03:04:05Z",
            "lastTimestamp": "2026-01-02T03:04:06Z", "reportingComponent": "kubelet", "reportingInstance": "n", "type": "Normal"});
        let mut event = core.as_object().unwrap().clone();
        to_events_event(&mut event);
        let shown = Value::Object(event.clone());
        let ty = Schema::get().of("events.k8s.io", "v1", "Event").unwrap();
        assert!(decode_value(&shown, ty).unwrap().problems.is_empty());
        assert_eq!(
            (&shown["regarding"]["kind"], &shown["note"]),
            (&json!("Pod"), &json!("m"))
        );
        to_core_event(&mut event);
        assert_eq!(Value::Object(event), core);
    }

    #[test]
    fn paths() {
        assert_eq!(core_path("regarding.name"), "involvedObject.name");
        assert_eq!(core_path("reportingController"), "reportingComponent");
        assert_eq!(core_path("type"), "type");
    }
}
