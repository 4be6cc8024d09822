//! A forecast as text and as JSON; pure.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use lifecycle::ContainerKind;
use lifecycle::forecast::{Conduct, Forecast, Moment, Run, Shown, Starts, State, Told};
use lifecycle::kinds;
use lifecycle::probe::Kind;
use lifecycle::text::go_duration;
use serde_json::{Value, json};

use crate::output::table::TableWriter;

/// Events that tell why something happens which the states alone do not.
const TELLING: [&str; 3] = ["Killing", "DeadlineExceeded", "FailedPostStartHook"];

/// What is supposed about each container, in words, in spec order.
pub(super) type Supposed = Vec<(String, ContainerKind, String)>;

/// What is supposed about the containers of a Pod.
pub(super) fn supposed(pod: &Pod, conduct: &Conduct) -> Supposed {
    let members = kinds::members(pod);
    let words = |member: &kinds::Member<'_>| {
        let runs = conduct
            .get(member.name())
            .map(Vec::as_slice)
            .unwrap_or_default();
        let kinds = Kind::ALL
            .into_iter()
            .filter(|kind| kind.of(member.spec).is_some());
        let mut words: Vec<String> = runs.iter().map(in_words).collect();
        words.dedup();
        let mut words = vec![words.join(", then ")];
        if let Some(run) = runs.last() {
            words.extend(kinds.filter_map(|kind| probe_in_words(run, kind)));
            words.extend(stop_in_words(run));
        }
        (member.name().to_owned(), member.kind, words.join("; "))
    };
    members.iter().map(words).collect()
}

fn in_words(run: &Run) -> String {
    match (run.start, run.lasts) {
        (Starts::NoImage, _) => "has no image".to_owned(),
        (Starts::NoConfig, _) => "lacks something its configuration names".to_owned(),
        (Starts::NoProgram, _) => "has no program".to_owned(),
        (Starts::Well, Some(lasts)) => {
            format!("ends with {} after {}", run.code, go_duration(lasts))
        }
        (Starts::Well, None) => "runs on".to_owned(),
    }
}

fn probe_in_words(run: &Run, kind: Kind) -> Option<String> {
    let answers = run
        .probes
        .get(&kind)
        .filter(|answers| !answers.0.is_empty())?;
    let part = |(from, is_ok): &(SignedDuration, bool)| {
        let what = if *is_ok { "succeeds" } else { "fails" };
        format!("{what} from {}", go_duration(*from))
    };
    let parts: Vec<String> = answers.0.iter().map(part).collect();
    Some(format!(
        "{} probe {}",
        kind.title().to_lowercase(),
        parts.join(", ")
    ))
}

fn stop_in_words(run: &Run) -> Option<String> {
    match run.on_stop {
        None => Some("ignores the stop signal".to_owned()),
        Some((SignedDuration::ZERO, 0)) => None,
        Some((SignedDuration::ZERO, code)) => Some(format!("ends with {code} when asked to stop")),
        Some((after, code)) => Some(format!(
            "ends with {code} {} after it is asked to stop",
            go_duration(after)
        )),
    }
}

/// The forecast for people.
pub(super) fn text(
    pod: &Pod,
    supposed: &Supposed,
    life: &Forecast,
    until: SignedDuration,
) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let head = ["CONTAINER", "KIND", "SUPPOSED"].map(str::to_owned);
    let containers = supposed
        .iter()
        .map(|(name, kind, words)| [name.clone(), kind.to_string(), words.clone()]);
    let containers: Vec<_> = [head].into_iter().chain(containers).collect();
    let head = ["AT", "WHO", "WHAT"].map(str::to_owned);
    let rows: Vec<_> = [head].into_iter().chain(rows(life)).collect();
    format!(
        "pod/{name}\n\n{}\n{}\n{}\n",
        TableWriter::default().lines(&containers),
        TableWriter::default().lines(&rows),
        ending(life, until)
    )
}

/// One line for each change, in order.
fn rows(life: &Forecast) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    let mut events = life
        .events
        .iter()
        .filter(|told| TELLING.contains(&told.event.reason.as_str()))
        .peekable();
    let mut row = |at: SignedDuration, who: &str, what: String| {
        rows.push([go_duration(at), who.to_owned(), what]);
    };
    let mut shown: BTreeMap<&str, &Shown> = BTreeMap::new();
    let mut pod: Option<&Moment> = None;
    for (place, moment) in life.moments.iter().enumerate() {
        while let Some(told) = events.next_if(|told| told.place <= place) {
            row(told.at, who(told), told.event.message.clone());
        }
        for container in moment.containers.iter().filter(|c| !is_passing(c)) {
            let before = shown.insert(&container.name, container);
            if let Some(what) = change(before, container) {
                row(moment.at, &container.name, what);
            }
        }
        // The Pod as it is when a moment is over.
        let next = life.moments.get(place + 1);
        if next.is_none_or(|next| next.at > moment.at) {
            if let Some(what) = pod_change(pod, moment) {
                row(moment.at, "pod", what);
            }
            pod = Some(moment);
        }
    }
    for told in events {
        row(told.at, who(told), told.event.message.clone());
    }
    rows
}

fn who(told: &Told) -> &str {
    told.event
        .container
        .as_ref()
        .map_or("pod", |(_, name)| name)
}

/// Waiting for no time is nothing to show.
fn is_passing(container: &Shown) -> bool {
    container.is_momentary && matches!(container.state, State::Waiting { .. })
}

fn change(before: Option<&Shown>, now: &Shown) -> Option<String> {
    let is_same =
        before.is_some_and(|b| b.state == now.state && b.restart_count == now.restart_count);
    let was_ready = before.is_some_and(|b| b.is_ready);
    match &now.state {
        State::Running if is_same && was_ready != now.is_ready => {
            Some(if now.is_ready { "ready" } else { "not ready" }.to_owned())
        }
        _ if is_same => None,
        State::Running => {
            let ready = if now.is_ready {
                "runs and is ready"
            } else {
                "runs"
            };
            let again = match now.restart_count {
                0 => String::new(),
                count => format!(", restart {count}"),
            };
            Some(format!("{ready}{again}"))
        }
        State::Waiting { reason } => Some(format!("waits: {reason}")),
        State::Terminated { reason, exit_code } => {
            Some(format!("ended with {exit_code} ({reason})"))
        }
    }
}

fn pod_change(before: Option<&Moment>, now: &Moment) -> Option<String> {
    let mut changes = Vec::new();
    if before.is_none_or(|b| b.phase != now.phase) {
        let reason = now.reason.as_ref().map(|reason| format!(" ({reason})"));
        changes.push(format!("{}{}", now.phase, reason.unwrap_or_default()));
    }
    let old = |name: &str| {
        before
            .and_then(|b| b.conditions.get(name))
            .map_or("False", String::as_str)
    };
    let conditions = now
        .conditions
        .iter()
        .filter(|(name, _)| *name != "PodScheduled");
    let changed = conditions.filter(|(name, value)| old(name) != value.as_str());
    changes.extend(changed.map(|(name, value)| format!("{name}={value}")));
    (!changes.is_empty()).then(|| changes.join(", "))
}

fn ending(life: &Forecast, until: SignedDuration) -> String {
    let Some(last) = life.moments.last() else {
        return String::new();
    };
    let restarts = last.containers.iter().filter(|c| c.restart_count > 0);
    let restarts: Vec<String> = restarts
        .map(|c| format!("{} {}", c.name, c.restart_count))
        .collect();
    let restarts = match restarts.as_slice() {
        [] => "no restarts".to_owned(),
        some => format!("restarts: {}", some.join(", ")),
    };
    if life.is_finished {
        format!("{} after {}, {restarts}", last.phase, go_duration(last.at))
    } else {
        format!(
            "still {} after {}, {restarts}",
            last.phase,
            go_duration(until)
        )
    }
}

/// The forecast for programs.
pub(super) fn json(pod: &Pod, supposed: &Supposed, life: &Forecast) -> Value {
    let supposed: BTreeMap<&str, &str> = supposed
        .iter()
        .map(|(name, _, words)| (name.as_str(), words.as_str()))
        .collect();
    let events: Vec<Value> = life.events.iter().map(event).collect();
    let timeline: Vec<Value> = life.moments.iter().map(moment).collect();
    let last = life.moments.last();
    let containers = last
        .map(|last| last.containers.as_slice())
        .unwrap_or_default();
    let restarts: BTreeMap<&str, i32> = containers
        .iter()
        .map(|c| (c.name.as_str(), c.restart_count))
        .collect();
    json!({
        "namespace": pod.metadata.namespace,
        "name": pod.metadata.name,
        "supposed": supposed,
        "timeline": timeline,
        "events": events,
        "final": {
            "phase": last.map(|last| &last.phase),
            "reason": last.and_then(|last| last.reason.as_ref()),
            "finished": life.is_finished,
            "seconds": last.map(|last| last.at.as_secs_f64()),
            "restarts": restarts,
        },
    })
}

fn moment(moment: &Moment) -> Value {
    let containers: Vec<Value> = moment.containers.iter().map(container).collect();
    json!({
        "seconds": moment.at.as_secs_f64(),
        "phase": moment.phase,
        "reason": moment.reason,
        "conditions": moment.conditions,
        "containers": containers,
    })
}

fn container(shown: &Shown) -> Value {
    let (state, reason, exit_code) = match &shown.state {
        State::Waiting { reason } => ("waiting", Some(reason), None),
        State::Running => ("running", None, None),
        State::Terminated { reason, exit_code } => ("terminated", Some(reason), Some(*exit_code)),
    };
    json!({
        "name": shown.name,
        "kind": kind(shown.kind),
        "state": state,
        "reason": reason,
        "exitCode": exit_code,
        "restartCount": shown.restart_count,
        "ready": shown.is_ready,
        "momentary": shown.is_momentary,
    })
}

fn kind(kind: ContainerKind) -> &'static str {
    match kind {
        ContainerKind::Init => "init",
        ContainerKind::Sidecar => "sidecar",
        ContainerKind::App => "app",
        ContainerKind::Ephemeral => "ephemeral",
    }
}

fn event(told: &Told) -> Value {
    let event = &told.event;
    json!({
        "seconds": told.at.as_secs_f64(),
        "type": format!("{:?}", event.event_type),
        "reason": event.reason,
        "message": event.message,
        "container": event.container.as_ref().map(|(_, name)| name),
    })
}
