//! What a watch tells of Pods, as far as it is measured.

use anyhow::{Context, bail};
use serde::Deserialize;

/// One event of a watch of Pods.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Pod,
}

#[derive(Debug, Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: Metadata,
    /// A Status has text here; only ERROR events carry one.
    #[serde(default)]
    status: serde_json::Value,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

impl Event {
    /// Parses a line of a watch; an ERROR event is an error.
    pub(crate) fn parse(line: &[u8]) -> anyhow::Result<Event> {
        let event: Event = serde_json::from_slice(line).context("parse an event of the watch")?;
        if event.kind == "ERROR" {
            bail!("the watch failed: {}", String::from_utf8_lossy(line));
        }
        Ok(event)
    }

    /// Name of the Pod.
    pub(crate) fn name(&self) -> &str {
        &self.object.metadata.name
    }

    /// The Pod is no more.
    pub(crate) fn is_gone(&self) -> bool {
        self.kind == "DELETED"
    }

    /// Phase Running, and every container is running: what "running" means in every figure of this benchmark.
    pub(crate) fn is_running(&self) -> bool {
        let status = &self.object.status;
        let containers = status["containerStatuses"].as_array();
        self.kind != "DELETED"
            && status["phase"] == "Running"
            && containers.is_some_and(|containers| {
                let mut containers = containers.iter();
                !containers.as_slice().is_empty()
                    && containers.all(|container| container["state"]["running"].is_object())
            })
    }

    /// Some container has ended.
    pub(crate) fn has_ended_container(&self) -> bool {
        let containers = self.object.status["containerStatuses"].as_array();
        containers
            .into_iter()
            .flatten()
            .any(|container| container["state"]["terminated"].is_object())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, status: &str) -> Event {
        let line = format!(
            r#"{{"type":"{kind}","object":{{"metadata":{{"name":"a"}},"status":{status}}}}}"#
        );
        Event::parse(line.as_bytes()).expect("parses")
    }

    #[test]
    fn running_needs_the_phase_and_every_container() {
        let both = r#"{"phase":"Running","containerStatuses":[{"state":{"running":{}}},{"state":{"running":{}}}]}"#;
        let one = r#"{"phase":"Running","containerStatuses":[{"state":{"running":{}}},{"state":{"waiting":{}}}]}"#;
        let none = r#"{"phase":"Running"}"#;
        let phase = r#"{"phase":"Pending","containerStatuses":[{"state":{"running":{}}}]}"#;
        for (kind, status, is_running) in [
            ("ADDED", both, true),
            ("MODIFIED", both, true),
            ("DELETED", both, false),
            ("MODIFIED", one, false),
            ("MODIFIED", none, false),
            ("MODIFIED", phase, false),
            ("MODIFIED", "{}", false),
        ] {
            assert_eq!(
                event(kind, status).is_running(),
                is_running,
                "{kind} {status}"
            );
        }
    }

    #[test]
    fn an_end_is_a_terminated_state() {
        let ended = r#"{"containerStatuses":[{"state":{"terminated":{"exitCode":137}}}]}"#;
        let restarted =
            r#"{"containerStatuses":[{"state":{"running":{}},"lastState":{"terminated":{}}}]}"#;
        assert!(event("MODIFIED", ended).has_ended_container());
        assert!(!event("MODIFIED", restarted).has_ended_container());
        assert!(event("DELETED", ended).is_gone());
        assert!(!event("MODIFIED", ended).is_gone());
    }

    #[test]
    fn errors_and_nonsense_are_errors() {
        let error = Event::parse(
            br#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410}}"#,
        )
        .expect_err("an ERROR event");
        assert!(error.to_string().contains("410"), "{error}");
        Event::parse(b"{").expect_err("no JSON");
        let bookmark =
            Event::parse(br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#)
                .expect("parses");
        assert_eq!((bookmark.name(), bookmark.is_running()), ("", false));
    }
}
