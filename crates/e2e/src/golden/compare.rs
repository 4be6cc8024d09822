//! Compares a run with the recordings, part by part: rows of each Pod, each step, the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};
use similar::TextDiff;

use super::case::Run;

/// Events that upstream reports by a race of its own.
static RACES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("failed to sync .* cache: timed out|errored and resulted in unknown state: context canceled").expect("the pattern is right")
});

/// Differences from the recorded runs as lines; none means same. A part is right when it is as in one of them. Rows may skip or
/// add states in between, but never in another order; events compare as sets. Upstream looks about once a
/// second: who looks at every moment sees containers run that it only sees ended, and other numbers of ready ones on the way.
pub fn differences(recorded: &[Run], here: &Run) -> Vec<String> {
    let recorded: Vec<_> = recorded.iter().map(parts).collect();
    let here = parts(here);
    let keys: BTreeSet<&String> = recorded
        .iter()
        .flat_map(BTreeMap::keys)
        .chain(here.keys())
        .collect();
    let mut lines = Vec::new();
    for key in keys {
        let wanted: Vec<&Value> = recorded.iter().filter_map(|run| run.get(key)).collect();
        let got = here.get(key);
        if same(key, &wanted, got, recorded.len()) {
            continue;
        }
        lines.push(format!("@@ {key}"));
        lines.extend(nearest_diff(&wanted, got.unwrap_or(&Value::Null)));
    }
    lines
}

fn same(key: &str, wanted: &[&Value], got: Option<&Value>, runs: usize) -> bool {
    let Some(got) = got else {
        return wanted.len() < runs;
    };
    let rows = key.starts_with("rows") && got.as_array().is_some_and(|rows| !rows.is_empty());
    wanted.contains(&got)
        || (rows
            && wanted
                .iter()
                .any(|w| subsequence(w, got) || subsequence(got, w) || same_way(w, got)))
}

/// Whether both come to the same row by states in the same order, of which `got` may skip some, whatever is ready on the way.
fn same_way(wanted: &Value, got: &Value) -> bool {
    let last = |rows: &Value| rows.as_array().and_then(|rows| rows.last().cloned());
    last(wanted) == last(got) && subsequence(&states(&but_running(got, wanted)), &states(wanted))
}

/// Rows without how many are ready, those alike once.
fn states(rows: &Value) -> Value {
    let rows = rows.as_array().into_iter().flatten();
    let state = |row: &str| {
        row.split_once(' ')
            .map_or(row, |(_, state)| state)
            .to_owned()
    };
    let mut states: Vec<String> = rows.filter_map(Value::as_str).map(state).collect();
    states.dedup();
    json!(states)
}

/// Rows without those of running containers that `wanted` lacks.
fn but_running(rows: &Value, wanted: &Value) -> Value {
    let wanted = wanted.as_array().map_or(&[][..], Vec::as_slice);
    let counts = |row: &&Value| {
        let status = row.as_str().and_then(|row| row.split_whitespace().nth(1));
        status != Some("Running") || wanted.contains(row)
    };
    json!(
        rows.as_array()
            .into_iter()
            .flatten()
            .filter(counts)
            .collect::<Vec<_>>()
    )
}

fn parts(run: &Run) -> BTreeMap<String, Value> {
    let mut parts: BTreeMap<String, Value> = rows(run)
        .into_iter()
        .map(|(pod, rows)| (format!("rows of {pod}"), json!(rows)))
        .collect();
    for (index, record) in run.steps.iter().enumerate() {
        let step = record
            .get("step")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let key = format!("step {}: {step}", index + 1);
        if record.contains_key("pods") {
            parts.insert(format!("{key}, pods"), record["pods"].clone());
            parts.insert(format!("{key}, events"), event_set(&record["events"]));
        } else if step.contains("rollout status") {
            // How it got there is a race: upstream tells of each change it happens to see.
            let mut record = Value::Object(record.clone());
            let told = record["out"].as_str().unwrap_or_default();
            let last = told.trim_end().lines().next_back().map(str::to_owned);
            record["out"] = json!(last);
            parts.insert(key, record);
        } else {
            parts.insert(key, Value::Object(record.clone()));
        }
    }
    parts.insert("end, pods".into(), run.end["pods"].clone());
    parts.insert("end, events".into(), event_set(&run.end["events"]));
    parts
}

/// The rows of each Pod. Of Pods whose names differ in a generated ending alone, those that came to the same end stand in the same place,
/// whatever was seen of their beginnings.
fn rows(run: &Run) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<&str, Vec<&Vec<String>>> = BTreeMap::new();
    for (pod, rows) in &run.rows {
        let name = pod.split(" #").next().unwrap_or(pod);
        groups.entry(name).or_default().push(rows);
    }
    let mut named = BTreeMap::new();
    for (name, mut pods) in groups {
        pods.sort_by(|a, b| a.iter().rev().cmp(b.iter().rev()));
        for (index, rows) in pods.into_iter().enumerate() {
            let number = match index {
                0 => String::new(),
                n => format!(" #{}", n + 1),
            };
            named.insert(format!("{name}{number}"), rows.clone());
        }
    }
    named
}

fn event_set(events: &Value) -> Value {
    let lines: BTreeSet<&str> = events
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|line| !RACES.is_match(line))
        .collect();
    json!(lines)
}

fn subsequence(part: &Value, whole: &Value) -> bool {
    let (Some(part), Some(whole)) = (part.as_array(), whole.as_array()) else {
        return false;
    };
    let mut rest = whole.iter();
    part.iter().all(|row| rest.any(|other| other == row))
}

fn nearest_diff(wanted: &[&Value], got: &Value) -> Vec<String> {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let here = pretty(got);
    let diff = |wanted: &Value| -> Vec<String> {
        let recorded = pretty(wanted);
        let text = TextDiff::from_lines(&recorded, &here)
            .unified_diff()
            .context_radius(2)
            .to_string();
        text.lines().map(str::to_owned).collect()
    };
    wanted
        .iter()
        .map(|wanted| diff(wanted))
        .min_by_key(Vec::len)
        .unwrap_or_else(|| vec![format!("+{here}")])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rows: &[&str], events: &[&str], phase: &str) -> Run {
        Run {
            case: "c".into(),
            steps: vec![
                json!({"step": "logs p", "out": "1\n"})
                    .as_object()
                    .cloned()
                    .unwrap_or_default(),
            ],
            rows: [(
                "p".to_owned(),
                rows.iter().map(|row| (*row).to_owned()).collect(),
            )]
            .into(),
            end: json!({"pods": {"p": {"phase": phase}}, "events": events}),
        }
    }

    #[test]
    fn rows_may_skip_states_but_not_swap_them() {
        let recorded = [run(&["a", "b", "c"], &[], "Running")];
        assert_eq!(
            differences(&recorded, &run(&["a", "c"], &[], "Running")),
            Vec::<String>::new()
        );
        assert_eq!(
            differences(&recorded, &run(&["a", "b", "x", "c"], &[], "Running")),
            Vec::<String>::new()
        );
        assert_eq!(
            differences(&recorded, &run(&["b", "a", "c"], &[], "Running"))[0],
            "@@ rows of p"
        );
    }

    #[test]
    fn pods_of_one_name_are_told_apart_by_their_ends() {
        let of = |pods: [&[&str]; 2]| {
            let mut run = run(&[], &[], "Running");
            let rows = pods.map(|rows| rows.iter().map(|row| (*row).to_owned()).collect());
            let names = ["d-<x>", "d-<x> #2"].map(str::to_owned);
            run.rows = names.into_iter().zip(rows).collect();
            run
        };
        let recorded = [of([&["a", "b", "gone"], &["a", "c"]])];
        let late = of([&["a", "c"], &["b", "gone"]]);
        assert_eq!(differences(&recorded, &late), Vec::<String>::new());
        let wrong = of([&["a", "c"], &["b", "a"]]);
        assert!(!differences(&recorded, &wrong).is_empty());
    }

    #[test]
    fn a_container_that_upstream_saw_ended_may_be_seen_running() {
        let recorded = [run(
            &["0/1 Pending 0", "0/1 Completed 0", "0/1 Error 1"],
            &[],
            "Failed",
        )];
        let differs = |rows: &[&str]| !differences(&recorded, &run(rows, &[], "Failed")).is_empty();
        assert!(!differs(&["0/1 Pending 0", "1/1 Running 0", "0/1 Error 1"]));
        assert!(differs(&["0/1 Pending 0", "0/1 Waiting 0", "0/1 Error 1"]));
        assert!(differs(&["1/1 Running 0", "0/1 Error 1", "0/1 Pending 0"]));
    }

    #[test]
    fn how_many_are_ready_on_the_way_may_differ() {
        let recorded = [run(
            &[
                "0/2 Pending 0",
                "0/2 Creating 0",
                "1/2 Held 0",
                "2/2 Done 0",
            ],
            &[],
            "Running",
        )];
        let differs =
            |rows: &[&str]| !differences(&recorded, &run(rows, &[], "Running")).is_empty();
        assert!(!differs(&[
            "0/2 Pending 0",
            "0/2 Held 0",
            "1/2 Held 0",
            "2/2 Done 0"
        ]));
        assert!(differs(&["0/2 Pending 0", "0/2 Held 0", "1/2 Done 0"]));
        assert!(differs(&["0/2 Held 0", "0/2 Creating 0", "2/2 Done 0"]));
        assert!(differs(&["0/2 Pending 0", "0/2 Held 1", "2/2 Done 0"]));
    }

    #[test]
    fn events_are_sets_and_races_do_not_count() {
        let recorded = [run(
            &["a"],
            &["x", "y", "failed to sync configmap cache: timed out"],
            "Running",
        )];
        assert!(differences(&recorded, &run(&["a"], &["y", "x", "x"], "Running")).is_empty());
        assert_eq!(
            differences(&recorded, &run(&["a"], &["y"], "Running"))[0],
            "@@ end, events"
        );
    }

    #[test]
    fn a_part_is_right_when_one_recording_has_it() {
        let recorded = [run(&["a"], &[], "Running"), run(&["a"], &[], "Pending")];
        assert!(differences(&recorded, &run(&["a"], &[], "Pending")).is_empty());
        assert_eq!(
            differences(&recorded, &run(&["a"], &[], "Failed"))[0],
            "@@ end, pods"
        );
    }
}
