//! Conditions that the API server itself gives a Pod.

use serde_json::{Value, json};

use crate::view::{dig, entry, get, list, object, text};

/// A condition that holds, with reason and message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Condition {
    /// `type`.
    pub(crate) kind: &'static str,
    /// `reason` and `message`; without them, those of before are removed.
    pub(crate) reason: Option<(&'static str, &'static str)>,
}

/// Makes `condition` hold in a Pod's status; `now` (RFC 3339) is when it began to, unless it did before.
pub(crate) fn set(status: &mut Value, condition: Condition, now: &str) {
    let mut conditions = list(get(status, "conditions")).to_vec();
    let place = conditions
        .iter()
        .position(|other| text(get(other, "type")) == condition.kind)
        .unwrap_or_else(|| {
            conditions.push(json!({"type": condition.kind, "lastProbeTime": null}));
            conditions.len() - 1
        });
    let map = object(&mut conditions[place]);
    if map.get("status").is_none_or(|status| status != "True") {
        map.insert("status".to_owned(), "True".into());
        map.insert("lastTransitionTime".to_owned(), now.into());
    }
    for field in ["reason", "message"] {
        map.remove(field);
    }
    if let Some((reason, message)) = condition.reason {
        map.insert("reason".to_owned(), reason.into());
        map.insert("message".to_owned(), message.into());
    }
    object(status).insert("conditions".to_owned(), conditions.into());
}

/// What `POST pods/…/eviction` says of a Pod before it deletes it (spec §2.2).
pub fn evict(pod: &mut Value, now: &str) {
    let condition = Condition {
        kind: "DisruptionTarget",
        reason: Some(("EvictionByEvictionAPI", "Eviction API: evicting")),
    };
    set(entry(pod, "status"), condition, now);
}

/// Whether the Pod said so already.
pub fn is_evicted(pod: &Value) -> bool {
    list(dig(pod, &["status", "conditions"]))
        .iter()
        .any(|condition| {
            text(get(condition, "type")) == "DisruptionTarget"
                && text(get(condition, "status")) == "True"
                && text(get(condition, "reason")) == "EvictionByEvictionAPI"
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_when_it_began() {
        let mut pod = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert!(!is_evicted(&pod));
        evict(&mut pod, "2026-01-01T00:00:00Z");
        evict(&mut pod, "2026-01-01T00:00:05Z");
        assert!(is_evicted(&pod));
        assert_eq!(
            pod["status"]["conditions"][1],
            json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
                "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"})
        );
        assert_eq!(list(&pod["status"]["conditions"]).len(), 2);
    }

    #[test]
    fn what_held_not_begins_now() {
        let mut status = json!({"conditions": [{"type": "A", "status": "False", "reason": "r", "message": "m", "lastTransitionTime": "old"}]});
        let condition = Condition {
            kind: "A",
            reason: None,
        };
        set(&mut status, condition, "new");
        assert_eq!(
            status["conditions"],
            json!([{"type": "A", "status": "True", "lastTransitionTime": "new"}])
        );
    }
}
