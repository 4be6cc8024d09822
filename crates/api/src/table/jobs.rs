//! Jobs and their schedules.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::simple::joined;
use super::workloads::formatted_selector;
use super::{Column, Printer, age, integer, list, name, since, text, text_or, time};
use crate::duration;

pub(super) const JOBS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Status"),
        Column::text("Completions"),
        Column::text("Duration"),
        Column::AGE,
        Column::wide("Containers"),
        Column::wide("Images"),
        Column::wide("Selector"),
    ],
    cells: job,
};

pub(super) const CRON_JOBS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Schedule"),
        Column::text("Timezone"),
        Column {
            name: "Suspend",
            kind: "boolean",
            format: "",
            priority: 0,
        },
        Column::integer("Active"),
        Column::text("Last Schedule"),
        Column::AGE,
        Column::wide("Containers"),
        Column::wide("Images"),
        Column::wide("Selector"),
    ],
    cells: cron_job,
};

/// The conditions that are words for a Job, the first one that is true first.
const ENDS: [&str; 2] = ["Complete", "Failed"];
const TURNS: [&str; 3] = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let containers = list(object, "/spec/template/spec/containers");
    vec![
        name(object),
        status(object).into(),
        completions(object).into(),
        took(object, now).into(),
        age(object, now),
        joined(containers, "name"),
        joined(containers, "image"),
        formatted_selector(&object["spec"]["selector"]),
    ]
}

fn status(object: &Value) -> &'static str {
    let has = |kind: &&&str| {
        let mut all = list(object, "/status/conditions").iter();
        let found = all.find(|condition| text(condition, "/type") == **kind);
        found.is_some_and(|condition| text(condition, "/status") == "True")
    };
    if let Some(end) = ENDS.iter().find(has) {
        return end;
    }
    if object["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    TURNS.iter().find(has).unwrap_or(&"Running")
}

fn completions(object: &Value) -> String {
    let done = integer(object, "/status/succeeded");
    match object["spec"]["completions"].as_i64() {
        Some(wanted) => format!("{done}/{wanted}"),
        None => match integer(object, "/spec/parallelism") {
            some @ 2.. => format!("{done}/1 of {some}"),
            _ => format!("{done}/1"),
        },
    }
}

/// How long the Job ran, or has been running.
fn took(object: &Value, now: Timestamp) -> String {
    let Some(begin) = time(object, "/status/startTime") else {
        return String::new();
    };
    let end = time(object, "/status/completionTime").unwrap_or(now);
    duration::human(end.as_second() - begin.as_second())
}

fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let last = time(object, "/status/lastScheduleTime");
    let containers = list(object, "/spec/jobTemplate/spec/template/spec/containers");
    vec![
        name(object),
        text(object, "/spec/schedule").into(),
        text_or(object, "/spec/timeZone", "<none>").into(),
        suspended(&object["spec"]["suspend"]).into(),
        json!(list(object, "/status/active").len()),
        last.map_or("<none>".to_owned(), |last| since(Some(last), now))
            .into(),
        age(object, now),
        joined(containers, "name"),
        joined(containers, "image"),
        formatted_selector(&object["spec"]["jobTemplate"]["spec"]["selector"]),
    ]
}

/// Upstream has words in this column of truths.
fn suspended(value: &Value) -> &'static str {
    match value.as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    }
}
