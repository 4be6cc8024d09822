//! Pods (spec kubectl-and-api §12.4, pod-lifecycle §3.8).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, Printer, age, integer, list, name, since, text, text_or, time};

pub(super) const PRINTER: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Ready"),
        Column::text("Status"),
        Column::text("Restarts"),
        Column::AGE,
        Column::wide("IP"),
        Column::wide("Node"),
        Column::wide("Nominated Node"),
        Column::wide("Readiness Gates"),
    ],
    cells,
};

/// What the walk over containers adds up to.
#[derive(Default)]
struct Tally {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    sidecar_restarts: i64,
    sidecar_last: Option<Timestamp>,
}

impl Tally {
    fn restarted(&mut self, status: &Value) {
        self.restarts += integer(status, "/restartCount");
        self.last_restart = self
            .last_restart
            .max(time(status, "/lastState/terminated/finishedAt"));
    }
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let tally = tally(object);
    let sidecars = list(object, "/spec/initContainers")
        .iter()
        .filter(|container| is_sidecar(container))
        .count();
    let total = list(object, "/spec/containers").len() + sidecars;
    let restarts = match tally.last_restart {
        Some(last) if tally.restarts != 0 => {
            format!("{} ({} ago)", tally.restarts, since(Some(last), now))
        }
        _ => tally.restarts.to_string(),
    };
    vec![
        name(object),
        format!("{}/{total}", tally.ready).into(),
        tally.reason.into(),
        restarts.into(),
        age(object, now),
        text_or(object, "/status/podIPs/0/ip", "<none>").into(),
        text_or(object, "/spec/nodeName", "<none>").into(),
        text_or(object, "/status/nominatedNodeName", "<none>").into(),
        gates(object).into(),
    ]
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == kind)
}

fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

fn tally(object: &Value) -> Tally {
    let mut tally = Tally {
        reason: text_or(object, "/status/reason", text(object, "/status/phase")).to_owned(),
        ..Tally::default()
    };
    if condition(object, "PodScheduled")
        .is_some_and(|condition| text(condition, "/reason") == "SchedulingGated")
    {
        tally.reason = "SchedulingGated".to_owned();
    }
    let initializing = walk_init(object, &mut tally);
    if !initializing || is_true(object, "Initialized") {
        walk_app(object, &mut tally);
    }
    if !text(object, "/metadata/deletionTimestamp").is_empty() {
        if text(object, "/status/reason") == "NodeLost" {
            tally.reason = "Unknown".to_owned();
        } else if !["Succeeded", "Failed"].contains(&text(object, "/status/phase")) {
            tally.reason = "Terminating".to_owned();
        }
    }
    tally
}

/// Looks for the first init container that is not done; says whether there is one.
fn walk_init(object: &Value, tally: &mut Tally) -> bool {
    let specs = list(object, "/spec/initContainers");
    for (i, status) in list(object, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        tally.restarted(status);
        let sidecar = specs
            .iter()
            .any(|spec| text(spec, "/name") == text(status, "/name") && is_sidecar(spec));
        if sidecar {
            tally.sidecar_restarts += integer(status, "/restartCount");
            tally.sidecar_last = tally
                .sidecar_last
                .max(time(status, "/lastState/terminated/finishedAt"));
        }
        let ended = status
            .pointer("/state/terminated")
            .filter(|ended| !ended.is_null());
        if ended.is_some_and(|ended| integer(ended, "/exitCode") == 0) {
            continue;
        }
        if sidecar && status.pointer("/started") == Some(&Value::Bool(true)) {
            tally.ready += usize::from(is_ready(status));
            continue;
        }
        let waiting = text(status, "/state/waiting/reason");
        tally.reason = match ended {
            Some(ended) => format!("Init:{}", ended_as(ended)),
            None if !["", "PodInitializing"].contains(&waiting) => format!("Init:{waiting}"),
            None => format!("Init:{i}/{}", specs.len()),
        };
        return true;
    }
    false
}

fn is_ready(status: &Value) -> bool {
    status.pointer("/ready") == Some(&Value::Bool(true))
}

fn ended_as(ended: &Value) -> String {
    match (text(ended, "/reason"), integer(ended, "/signal")) {
        ("", 0) => format!("ExitCode:{}", integer(ended, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// The alphabetically first container that waits or has ended gives the reason.
fn walk_app(object: &Value, tally: &mut Tally) {
    (tally.restarts, tally.last_restart) = (tally.sidecar_restarts, tally.sidecar_last);
    let (mut has_running, mut error) = (false, String::new());
    for status in list(object, "/status/containerStatuses").iter().rev() {
        tally.restarted(status);
        let waiting = text(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            tally.reason = waiting.to_owned();
        } else if let Some(ended) = status
            .pointer("/state/terminated")
            .filter(|ended| !ended.is_null())
        {
            tally.reason = ended_as(ended);
            if integer(ended, "/exitCode") != 0 {
                error.clone_from(&tally.reason);
            }
        } else if is_ready(status)
            && status
                .pointer("/state/running")
                .is_some_and(|running| !running.is_null())
        {
            has_running = true;
            tally.ready += 1;
        }
    }
    if tally.reason == "Completed" {
        if has_running && is_true(object, "Ready") {
            tally.reason = "Running".to_owned();
        } else if !error.is_empty() {
            tally.reason = error;
        } else if has_running {
            tally.reason = "NotReady".to_owned();
        }
    }
}

fn gates(object: &Value) -> String {
    let gates = list(object, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates
        .iter()
        .filter(|gate| is_true(object, text(gate, "/conditionType")))
        .count();
    format!("{open}/{}", gates.len())
}

/// What a row says of a Pod that has ended.
pub(super) fn row_conditions(object: &Value) -> Option<Value> {
    let (reason, message) = match text(object, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}
