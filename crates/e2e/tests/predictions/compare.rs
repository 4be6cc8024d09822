//! What "the same order of states" means, exactly.
//!
//! A *track* is what one thing goes through, as labels in order, each different from the one before. A Pod has these tracks: its phase, and
//! for each init and app container its state (the reason of a waiting one, reason and exit code of an ended one), whether it is
//! ready, and its restart count. A recorded track is read from the watch of the Pod, from the event that first shows it.
//!
//! A recorded order *is* the predicted one when each recorded track can be made from the predicted one by leaving out labels that the
//! prediction gives less than half a second. The end of a run is never left out, unless the agent itself ended the run to start it
//! again: nothing else is done before such an end is stored. A recorded track may stop short only of labels that may be left out.
//!
//! Tracks of several containers run side by side, and the prediction's clock says more about their order than any rule does. What the
//! rules demand is looked for in both, over the snapshots (moments of the prediction, events of the watch):
//!
//! - nothing after a regular init container has begun while that has not ended with 0, nor after a sidecar that has not begun;
//! - when a Pod with sidecars comes to its end, the last state of a sidecar is not shown before that of an app container, nor
//!   before that of a sidecar after it;
//! - a final phase is not shown before the last state of every container.

use std::collections::BTreeMap;

use serde_json::Value;

/// Seconds that a state lasts which every watch has to show.
const LASTING: f64 = 0.5;

/// A Pod at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snapshot {
    /// Time in the prediction; recordings have none.
    seconds: f64,
    phase: String,
    containers: Vec<Container>,
}

/// A container at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Container {
    name: String,
    kind: Kind,
    label: String,
    has_begun: bool,
    has_succeeded: bool,
    /// The end of a run that nothing but the run brought about.
    is_kept: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Init,
    Sidecar,
    App,
}

/// A label of a predicted track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    label: String,
    /// Recordings may lack it.
    may_lack: bool,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn label(state: &str, reason: &str, code: &Value, ready: bool, count: &Value) -> String {
    let mut words = vec![state.to_owned()];
    words.extend((!reason.is_empty()).then(|| reason.to_owned()));
    words.extend(code.as_i64().map(|code| code.to_string()));
    words.extend(ready.then(|| "ready".to_owned()));
    words.push(format!("#{}", count.as_i64().unwrap_or(0)));
    words.join(" ")
}

/// The moments of a prediction, an item of what `carob plan -o json` prints.
pub(crate) fn predicted(item: &Value) -> Vec<Snapshot> {
    let container = |c: &Value| {
        let (state, code) = (text(&c["state"]), &c["exitCode"]);
        let ready = c["ready"] == true;
        Container {
            name: text(&c["name"]),
            kind: match c["kind"].as_str() {
                Some("init") => Kind::Init,
                Some("sidecar") => Kind::Sidecar,
                _ => Kind::App,
            },
            label: label(&state, &text(&c["reason"]), code, ready, &c["restartCount"]),
            has_begun: state != "waiting" || c["restartCount"] != 0,
            has_succeeded: code.as_i64() == Some(0),
            is_kept: state == "terminated" && c["momentary"] == false,
        }
    };
    let moments = item["timeline"].as_array().into_iter().flatten();
    let snapshot = |moment: &Value| Snapshot {
        seconds: moment["seconds"].as_f64().unwrap_or_default(),
        phase: text(&moment["phase"]),
        containers: moment["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(container)
            .collect(),
    };
    moments.map(snapshot).collect()
}

/// A Pod as the API shows it.
pub(crate) fn recorded(pod: &Value) -> Snapshot {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let mut containers = Vec::new();
    for (specs, statuses) in [
        ("initContainers", "initContainerStatuses"),
        ("containers", "containerStatuses"),
    ] {
        let statuses = &status[statuses];
        for container in spec[specs].as_array().into_iter().flatten() {
            let mut all = statuses.as_array().into_iter().flatten();
            let kind = match (specs, container["restartPolicy"].as_str()) {
                ("containers", _) => Kind::App,
                (_, Some("Always")) => Kind::Sidecar,
                _ => Kind::Init,
            };
            if let Some(status) = all.find(|status| status["name"] == container["name"]) {
                containers.push(shown(status, kind));
            }
        }
    }
    Snapshot {
        seconds: 0.0,
        phase: text(&status["phase"]),
        containers,
    }
}

fn shown(status: &Value, kind: Kind) -> Container {
    let states = status["state"].as_object();
    let (state, detail) = match states.and_then(|states| states.iter().next()) {
        Some((state, detail)) => (state.as_str(), detail),
        None => ("waiting", &Value::Null),
    };
    let (code, count) = (&detail["exitCode"], &status["restartCount"]);
    let ready = status["ready"] == true;
    Container {
        name: text(&status["name"]),
        kind,
        label: label(state, &text(&detail["reason"]), code, ready, count),
        has_begun: state != "waiting" || *count != 0,
        has_succeeded: code.as_i64() == Some(0),
        is_kept: false,
    }
}

/// Tracks by what they are of.
pub(crate) type Tracks = BTreeMap<String, Vec<Step>>;

/// The tracks of snapshots in order.
pub(crate) fn tracks(snapshots: &[Snapshot]) -> Tracks {
    let mut spans: BTreeMap<String, Vec<(Step, f64)>> = BTreeMap::new();
    for snapshot in snapshots {
        let phase = ("phase".to_owned(), &snapshot.phase, false);
        let containers = snapshot.containers.iter();
        let containers = containers.map(|c| (format!("container {}", c.name), &c.label, c.is_kept));
        for (of, label, is_kept) in std::iter::once(phase).chain(containers) {
            let spans = spans.entry(of).or_default();
            if spans.last().is_none_or(|(step, _)| step.label != *label) {
                let step = Step {
                    label: label.clone(),
                    may_lack: !is_kept,
                };
                spans.push((step, snapshot.seconds));
            }
        }
    }
    let track = |spans: Vec<(Step, f64)>| {
        let ends: Vec<f64> = spans.iter().skip(1).map(|(_, began)| *began).collect();
        let steps = spans.into_iter().enumerate();
        let steps = steps.map(|(place, (step, began))| {
            let is_moment = ends.get(place).is_some_and(|end| end - began < LASTING);
            Step {
                may_lack: step.may_lack && is_moment,
                ..step
            }
        });
        steps.collect()
    };
    spans
        .into_iter()
        .map(|(of, spans)| (of, track(spans)))
        .collect()
}

/// How far a recorded track has come along the predicted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is the predicted one so far; what is missing may come.
    Partly,
    /// It is the predicted one to its end.
    Whole,
    /// It cannot become the predicted one: the place of the label that does not fit.
    Differs(usize),
}

/// Follows a recorded track along the predicted one.
pub(crate) fn follow(predicted: &[Step], recorded: &[Step]) -> Progress {
    let mut left = predicted;
    for (place, step) in recorded.iter().enumerate() {
        let lacking = left
            .iter()
            .take_while(|p| p.may_lack && p.label != step.label)
            .count();
        match left.get(lacking) {
            Some(found) if found.label == step.label => left = &left[lacking + 1..],
            _ => return Progress::Differs(place),
        }
    }
    if left.iter().all(|step| step.may_lack) {
        Progress::Whole
    } else {
        Progress::Partly
    }
}

/// Follows all tracks; the worst counts.
pub(crate) fn follow_all(predicted: &Tracks, recorded: &Tracks) -> Progress {
    let none = Vec::new();
    let mut all = Progress::Whole;
    for (of, track) in predicted {
        match follow(track, recorded.get(of).unwrap_or(&none)) {
            Progress::Whole => {}
            Progress::Partly => all = Progress::Partly,
            differs => return differs,
        }
    }
    all
}

/// What is wrong about the order between containers, if anything is.
pub(crate) fn disorder(snapshots: &[Snapshot]) -> Option<String> {
    let last = snapshots.last()?;
    let mut done: Vec<bool> = vec![false; last.containers.len()];
    for (at, snapshot) in snapshots.iter().enumerate() {
        for (place, container) in snapshot.containers.iter().enumerate() {
            done[place] |= match container.kind {
                Kind::Init => container.has_succeeded,
                Kind::Sidecar => container.has_begun,
                Kind::App => true,
            };
            let early = done[..place].iter().position(|done| !done);
            // At the end of a Pod those that never began are given an end.
            if let Some(awaited) =
                early.filter(|_| container.has_begun && !is_final(&snapshot.phase))
            {
                let awaited = &snapshot.containers[awaited].name;
                return Some(format!(
                    "snapshot {at}: {} has begun before {awaited} was done",
                    container.name
                ));
            }
        }
    }
    is_final(&last.phase).then(|| disorder_of_the_end(snapshots, last))?
}

fn is_final(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

fn disorder_of_the_end(snapshots: &[Snapshot], last: &Snapshot) -> Option<String> {
    let first = |is_last: &dyn Fn(&Snapshot) -> bool| {
        snapshots
            .iter()
            .rposition(|s| !is_last(s))
            .map_or(0, |at| at + 1)
    };
    let ends: Vec<usize> = (0..last.containers.len())
        .map(|place| {
            let label = &last.containers[place].label;
            first(&|s| s.containers.get(place).is_some_and(|c| c.label == *label))
        })
        .collect();
    let phase = first(&|s| s.phase == last.phase);
    for (place, container) in last.containers.iter().enumerate() {
        let name = &container.name;
        if phase < ends[place] {
            return Some(format!(
                "the Pod is {} before the last state of {name}",
                last.phase
            ));
        }
        if container.kind != Kind::Sidecar {
            continue;
        }
        let after = last
            .containers
            .iter()
            .zip(&ends)
            .skip(place + 1)
            .filter(|(c, _)| c.kind != Kind::Init);
        for (other, end) in after {
            if ends[place] < *end {
                return Some(format!("sidecar {name} ends before {}", other.name));
            }
        }
    }
    None
}

/// Two sets of tracks side by side, for people.
pub(crate) fn shown_beside(predicted: &Tracks, recorded: &Tracks) -> String {
    let words = |track: Option<&Vec<Step>>| {
        let steps = track.into_iter().flatten();
        let steps = steps.map(|step| {
            if step.may_lack {
                format!("({})", step.label)
            } else {
                step.label.clone()
            }
        });
        steps.collect::<Vec<_>>().join(" → ")
    };
    let lines = predicted.iter().map(|(of, track)| {
        format!(
            "{of}\n  predicted {}\n  recorded  {}\n",
            words(Some(track)),
            words(recorded.get(of))
        )
    });
    lines.collect()
}
