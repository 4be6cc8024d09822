//! What is known of the Pods played, pure: objects go in, changes worth showing come out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A Pod's name in its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodName {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// The log of one instance of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stream {
    pub(super) pod: PodName,
    pub(super) container: String,
    /// Which instance.
    id: String,
}

impl Stream {
    /// `web/nginx`
    pub(super) fn prefix(&self) -> String {
        format!("{}/{}", self.pod.name, self.container)
    }
}

/// What is new.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Containers (`web/nginx`) and their new states in words.
    pub(super) states: Vec<(String, String)>,
    /// Logs that have begun.
    pub(super) logs: Vec<Begun>,
}

/// A log that has begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) stream: Stream,
    /// Logs that come before it: of the init containers that had ended by then.
    pub(super) after: Vec<Stream>,
}

/// The Pods played.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pods: BTreeMap<PodName, Seen>,
    logs: BTreeSet<Stream>,
    first_failure: Option<u8>,
}

#[derive(Debug, Default)]
struct Seen {
    states: BTreeMap<String, String>,
    is_over: bool,
    /// Others of the same name, earlier or later, are not ours.
    uid: String,
}

impl Progress {
    pub(super) fn new(names: Vec<PodName>) -> Self {
        Progress {
            pods: names
                .into_iter()
                .map(|name| (name, Seen::default()))
                .collect(),
            ..Progress::default()
        }
    }

    /// Learns which Pod of its name it is.
    pub(super) fn applied(&mut self, name: &PodName, object: &Value) {
        if let Some(seen) = self.pods.get_mut(name) {
            seen.uid = object["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
        }
    }

    /// Namespaces to look at, each once.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        self.pods
            .keys()
            .map(|name| name.namespace.clone())
            .collect()
    }

    /// Pods that have not ended.
    pub(super) fn running(&self) -> Vec<PodName> {
        let running = self.pods.iter().filter(|(_, seen)| !seen.is_over);
        running.map(|(name, _)| name.clone()).collect()
    }

    /// Whether every Pod has ended.
    pub(super) fn is_over(&self) -> bool {
        self.pods.values().all(|seen| seen.is_over)
    }

    /// The code of the app container that failed first, or 0.
    pub(super) fn exit_code(&self) -> u8 {
        self.first_failure.unwrap_or(0)
    }

    /// Takes a Pod in, as it is or as it was when it went.
    pub(super) fn pod(&mut self, pod: &Value, gone: bool) -> Change {
        let name = name_of(&pod["metadata"]["namespace"], &pod["metadata"]["name"]);
        let Some(seen) = self.pods.get_mut(&name) else {
            return Change::default();
        };
        if pod["metadata"]["uid"] != *seen.uid {
            return Change::default();
        }
        let mut change = Change::default();
        let mut ended = Vec::new();
        for list in [
            "initContainerStatuses",
            "containerStatuses",
            "ephemeralContainerStatuses",
        ] {
            for status in pod["status"][list].as_array().into_iter().flatten() {
                let container = status["name"].as_str().unwrap_or_default();
                let label = format!("{}/{container}", name.name);
                let state = in_words(status);
                if seen.states.get(container) != Some(&state) {
                    seen.states.insert(container.to_owned(), state.clone());
                    change.states.push((label, state));
                }
                if let Some(id) = instance(status) {
                    let stream = Stream {
                        pod: name.clone(),
                        container: container.to_owned(),
                        id,
                    };
                    if self.logs.insert(stream.clone()) {
                        change.logs.push(Begun {
                            stream: stream.clone(),
                            after: ended.clone(),
                        });
                    }
                    if list == "initContainerStatuses" && status["state"]["terminated"].is_object()
                    {
                        ended.push(stream);
                    }
                }
            }
        }
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        let has_ended = matches!(phase, "Succeeded" | "Failed");
        if (gone || has_ended) && !seen.is_over {
            seen.is_over = true;
            self.first_failure = self.first_failure.or_else(|| failure(pod, has_ended));
        }
        change
    }

    /// What an event says about an image of a container.
    pub(super) fn event(&self, event: &Value) -> Option<(String, String)> {
        let about = &event["involvedObject"];
        let name = name_of(&about["namespace"], &about["name"]);
        let seen = self.pods.get(&name).filter(|seen| !seen.is_over)?;
        if about["kind"] != "Pod" || about["uid"] != *seen.uid {
            return None;
        }
        let container = about["fieldPath"]
            .as_str()
            .and_then(|path| path.split_once('{'));
        let label = match container {
            Some((_, rest)) => format!("{}/{}", name.name, rest.trim_end_matches('}')),
            None => name.name.clone(),
        };
        let is_news = event["type"] == "Warning"
            || matches!(event["reason"].as_str(), Some("Pulling" | "Pulled"));
        let message = event["message"].as_str().unwrap_or_default().trim();
        is_news.then(|| (label, message.to_owned()))
    }
}

fn name_of(namespace: &Value, name: &Value) -> PodName {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    PodName {
        namespace: text(namespace),
        name: text(name),
    }
}

/// The instance whose log can be read now.
fn instance(status: &Value) -> Option<String> {
    let state = &status["state"];
    if !state["running"].is_object() && !state["terminated"].is_object() {
        return None;
    }
    let id = status["containerID"].as_str().filter(|id| !id.is_empty());
    id.map(str::to_owned)
}

fn in_words(status: &Value) -> String {
    let state = &status["state"];
    if state["running"].is_object() {
        return if status["ready"] == true {
            "ready"
        } else {
            "running"
        }
        .to_owned();
    }
    if state["terminated"].is_object() {
        let ended = &state["terminated"];
        let code = ended["exitCode"].as_i64().unwrap_or(0);
        return match ended["reason"].as_str() {
            Some("Completed") | None => format!("ended with exit code {code}"),
            Some(reason) => format!("ended with exit code {code} ({reason})"),
        };
    }
    let waiting = &state["waiting"];
    let reason = waiting["reason"].as_str().unwrap_or("waiting");
    match waiting["message"].as_str() {
        Some(message) if !message.is_empty() => format!("{reason}: {message}"),
        _ => reason.to_owned(),
    }
}

/// What SIGKILL leaves.
const KILLED: u8 = 137;

/// The exit code of the app container that failed first. A Pod that failed without one (evicted, its init container failed) is
/// told by its init containers, or by 1; what still ran when its Pod went was killed.
fn failure(pod: &Value, ended: bool) -> Option<u8> {
    let codes = |list: &str| -> Vec<(String, i64)> {
        let ended = |status: &Value| {
            let ended = &status["state"]["terminated"];
            let code = ended["exitCode"].as_i64().filter(|code| *code != 0)?;
            Some((
                ended["finishedAt"].as_str().unwrap_or_default().to_owned(),
                code,
            ))
        };
        let statuses = pod["status"][list].as_array().into_iter().flatten();
        statuses.filter_map(ended).collect()
    };
    let first = |list: &str| codes(list).into_iter().min().map(|(_, code)| code);
    let code = first("containerStatuses").or_else(|| {
        let failed = ended && pod["status"]["phase"] == "Failed";
        failed.then(|| first("initContainerStatuses").unwrap_or(1))
    });
    let mut statuses = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten();
    let Some(code) = code else {
        let ran = !ended && statuses.any(|status| status["state"]["running"].is_object());
        return ran.then_some(KILLED);
    };
    // What does not fit into a byte is a failure all the same.
    Some(u8::try_from(code).unwrap_or(255))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn name() -> PodName {
        PodName {
            namespace: "ns".into(),
            name: "web".into(),
        }
    }

    fn begun() -> Progress {
        let mut progress = Progress::new(vec![name()]);
        progress.applied(&name(), &json!({"metadata": {"uid": "u"}}));
        progress
    }

    fn pod(phase: &str, containers: &[(&str, Value)]) -> Value {
        let status = |(name, state): &(&str, Value)| json!({"name": name, "containerID": format!("carob://{name}-1"), "state": state, "ready": false});
        json!({"metadata": {"namespace": "ns", "name": "web", "uid": "u"}, "status": {"phase": phase, "containerStatuses": containers.iter().map(status).collect::<Vec<_>>()}})
    }

    fn ended(code: i64, at: &str) -> Value {
        json!({"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "finishedAt": at}})
    }

    #[test]
    fn changes_are_told_once_and_logs_begin_once() {
        let mut progress = begun();
        let waiting = pod(
            "Pending",
            &[("a", json!({"waiting": {"reason": "ContainerCreating"}}))],
        );
        assert_eq!(
            progress.pod(&waiting, false).states,
            [("web/a".to_owned(), "ContainerCreating".to_owned())]
        );
        assert_eq!(progress.pod(&waiting, false), Change::default());
        let running = pod("Running", &[("a", json!({"running": {}}))]);
        let change = progress.pod(&running, false);
        assert_eq!(change.states, [("web/a".to_owned(), "running".to_owned())]);
        assert_eq!(
            change
                .logs
                .iter()
                .map(|begun| begun.stream.prefix())
                .collect::<Vec<_>>(),
            ["web/a"]
        );
        assert!(progress.pod(&running, false).logs.is_empty());
        let mut other = running.clone();
        other["metadata"]["uid"] = "another".into();
        assert_eq!(progress.pod(&other, true), Change::default());
        assert!(!progress.is_over());
    }

    #[test]
    fn logs_come_after_those_of_init_containers_that_ended() {
        let mut progress = begun();
        let mut object = pod("Running", &[("app", json!({"running": {}}))]);
        object["status"]["initContainerStatuses"] = json!([
            {"name": "one", "containerID": "carob://one-1", "state": ended(0, "1")},
            {"name": "side", "containerID": "carob://side-1", "state": {"running": {}}},
            {"name": "two", "containerID": "carob://two-1", "state": ended(0, "2")},
        ]);
        let logs = progress.pod(&object, false).logs;
        let names = |begun: &Begun| {
            let after = begun.after.iter().map(|stream| stream.container.as_str());
            (
                begun.stream.container.clone(),
                after.collect::<Vec<_>>().join(" "),
            )
        };
        let expected = [
            ("one", ""),
            ("side", "one"),
            ("two", "one"),
            ("app", "one two"),
        ];
        assert_eq!(
            logs.iter().map(names).collect::<Vec<_>>(),
            expected.map(|(name, after)| (name.to_owned(), after.to_owned()))
        );
    }

    #[test]
    fn the_first_failure_is_the_exit_code() {
        for (phase, containers, gone, code) in [
            ("Succeeded", vec![("a", ended(0, "1"))], false, 0),
            (
                "Failed",
                vec![("a", ended(3, "2")), ("b", ended(4, "1"))],
                false,
                4,
            ),
            ("Failed", vec![("a", ended(0, "1"))], false, 1),
            ("Running", vec![("a", ended(143, "1"))], true, 143),
            ("Running", vec![("a", ended(0, "1"))], true, 0),
            ("Running", vec![("a", json!({"running": {}}))], true, 137),
        ] {
            let mut progress = begun();
            let object = pod(phase, &containers);
            progress.pod(&object, false);
            progress.pod(&object, gone);
            assert!(progress.is_over());
            assert_eq!(progress.exit_code(), code, "{object}");
        }
    }

    #[test]
    fn events_of_images_are_told() {
        let progress = begun();
        let event = |kind: &str, reason: &str, about: &str| json!({"type": kind, "reason": reason, "message": "words", "involvedObject": {"kind": "Pod", "namespace": "ns", "name": about, "uid": "u", "fieldPath": "spec.containers{a}"}});
        let told = Some(("web/a".to_owned(), "words".to_owned()));
        assert_eq!(progress.event(&event("Normal", "Pulling", "web")), told);
        assert_eq!(progress.event(&event("Warning", "Failed", "web")), told);
        assert_eq!(progress.event(&event("Normal", "Started", "web")), None);
        assert_eq!(progress.event(&event("Warning", "Failed", "other")), None);
    }
}
