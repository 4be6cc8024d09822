//! The status of a Job. Rules that tie fields together are asked only where one of these changes, so that what a change of the
//! specification broke can be mended step by step.

use api::field::{Error, ErrorList};
use serde_json::Value;

use super::policy::without_value;
use super::{indexes, spec};
use crate::pod::internal::{self, Kind};
use crate::view::{At, dig, get, list, same, text};
use crate::workload::counts;

const IMMUTABLE: &str = "field is immutable";

/// Whether a condition is `True`.
pub(super) fn is_true(status: &Value, kind: &str) -> bool {
    has(status, kind, "True")
}

fn has(status: &Value, kind: &str, value: &str) -> bool {
    list(get(status, "conditions")).iter().any(|condition| {
        text(get(condition, "type")) == kind && text(get(condition, "status")) == value
    })
}

/// A status before and after a change.
struct Change<'a> {
    spec: At<'a>,
    new: At<'a>,
    old: &'a Value,
    conditions: At<'a>,
}

impl Change<'_> {
    fn is(&self, kind: &str) -> bool {
        is_true(self.new.value, kind)
    }

    fn was(&self, kind: &str) -> bool {
        is_true(self.old, kind)
    }

    fn turned(&self, kind: &str) -> bool {
        self.is(kind) != self.was(kind)
    }

    fn is_finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }

    fn ended(&self) -> bool {
        self.is_finished() != (self.was("Complete") || self.was("Failed"))
    }

    fn changed(&self, field: &str) -> bool {
        !same(get(self.new.value, field), get(self.old, field))
    }

    fn number(&self, field: &str) -> i64 {
        get(self.new.value, field).as_i64().unwrap_or(0)
    }

    fn before(&self, field: &str) -> i64 {
        get(self.old, field).as_i64().unwrap_or(0)
    }

    fn no(&self, why: &str) -> Error {
        without_value(&self.conditions, why)
    }

    fn invalid(&self, field: &str, why: &str) -> Error {
        let at = self.new.get(field);
        Error::invalid(&at.path, at.value.clone(), why)
    }
}

pub(super) fn validate(new: &Value, old: &Value) -> ErrorList {
    let status = At::field(new, "status");
    let change = Change {
        spec: At::field(new, "spec"),
        conditions: status.get("conditions"),
        new: status,
        old: get(old, "status"),
    };
    let mut errors = counts(
        &change.new,
        &["active", "succeeded", "failed", "ready", "terminating"],
    );
    errors.extend(uncounted(&change.new.get("uncountedTerminatedPods")));
    errors.extend(of_completion(&change));
    errors.extend(of_the_end(&change));
    errors.extend(of_indexes(&change));
    errors.extend(of_success(&change));
    errors.extend(of_the_past(&change));
    errors
}

/// Pods are named once.
fn uncounted(pods: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = Vec::new();
    let all = ["succeeded", "failed"].map(|kind| pods.get(kind));
    for uid in all.iter().flat_map(At::items) {
        if uid.text().is_empty() {
            errors.push(Error::invalid(&uid.path, "", "must not be empty"));
        } else if seen.contains(&uid.text()) {
            errors.push(Error::duplicate(&uid.path, uid.text()));
        } else {
            seen.push(uid.text());
        }
    }
    errors
}

fn of_completion(change: &Change<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (start, end) = (
        change.new.get("startTime"),
        change.new.get("completionTime"),
    );
    let is_complete = change.is("Complete");
    let completed = change.turned("Complete");
    if (completed || change.turned("Failed")) && is_complete && change.is("Failed") {
        errors.push(change.no("cannot set Complete=True and Failed=true conditions"));
    }
    if (completed || change.turned("FailureTarget")) && is_complete && change.is("FailureTarget") {
        errors.push(change.no("cannot set Complete=True and FailureTarget=true conditions"));
    }
    let timed = completed || change.changed("completionTime");
    if timed && end.given() && !is_complete {
        let why = "cannot set completionTime when there is no Complete=True condition";
        errors.push(change.invalid("completionTime", why));
    }
    if timed && !end.given() && is_complete {
        let why = "completionTime is required for Complete jobs";
        errors.push(Error::required(&end.path, why));
    }
    let moved = change.changed("startTime") || change.changed("completionTime");
    // Both are in whole seconds of UTC, so that their texts have their order.
    if moved && start.given() && end.given() && end.text() < start.text() {
        let why = "must be equal to or after `startTime`";
        errors.push(change.invalid("completionTime", why));
    }
    let failed = change.turned("Failed") || change.changed("failedIndexes");
    if failed && change.is("Failed") && !change.is("FailureTarget") {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(change.no(why));
    }
    if (completed || change.turned("SuccessCriteriaMet"))
        && is_complete
        && !change.is("SuccessCriteriaMet")
    {
        let why =
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(change.no(why));
    }
    errors
}

/// Nothing runs after the end.
fn of_the_end(change: &Change<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    if !change.is_finished() {
        return errors;
    }
    if (change.ended() || change.changed("active")) && change.number("active") > 0 {
        errors.push(change.invalid("active", "active>0 is invalid for finished job"));
    }
    let start = change.new.get("startTime");
    let spec = change.spec.value;
    let is_nothing = get(spec, "suspend").as_bool() == Some(true)
        && get(spec, "completions").as_i64() == Some(0);
    let started = (change.ended() || change.changed("startTime")) && !is_nothing;
    if started && !start.given() {
        let why = "startTime is required for finished job";
        errors.push(Error::required(&start.path, why));
    }
    let pods = change.new.get("uncountedTerminatedPods");
    let is_left = pods.get("succeeded").len() + pods.get("failed").len() > 0;
    if (change.ended() || change.changed("uncountedTerminatedPods")) && is_left {
        errors.push(internal::invalid(
            &pods.path,
            Kind::UncountedPods,
            pods.value,
            "must be empty for finished job",
        ));
    }
    errors
}

fn of_indexes(change: &Change<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (done, failed) = (
        change.new.get("completedIndexes"),
        change.new.get("failedIndexes"),
    );
    let per_index = change.spec.get("backoffLimitPerIndex").given();
    let completions = change.spec.get("completions").int();
    let (new_done, new_failed) = (
        change.changed("completedIndexes"),
        get(change.old, "failedIndexes") != failed.value,
    );
    let mut read = |at: &At<'_>, name: &str| {
        let found = completions.map(|completions| indexes::count(at.text(), completions));
        if let Some(Err(why)) = found {
            let why = format!("error parsing {name}: {why}");
            errors.push(Error::invalid(&at.path, at.text(), why));
        }
    };
    if new_done {
        read(&done, "completedIndexes");
    }
    if new_failed && per_index && failed.given() {
        read(&failed, "failedIndexes");
    }
    if new_done && !done.text().is_empty() && !spec::is_indexed(&change.spec) {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(change.invalid("completedIndexes", why));
    }
    if new_failed && !per_index && failed.given() {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(change.invalid("failedIndexes", why));
    }
    let both = (new_done || new_failed).then_some(completions).flatten();
    let shared = both.and_then(|most| indexes::overlap(done.text(), failed.text(), most));
    if let Some(index) = shared {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(change.invalid("failedIndexes", &why));
    }
    if (change.ended() || change.changed("terminating"))
        && change.is_finished()
        && change.number("terminating") > 0
    {
        let why = "terminating>0 is invalid for finished job";
        errors.push(change.invalid("terminating", why));
    }
    let counted = change.changed("ready") || change.changed("active");
    if counted && change.number("ready") > change.number("active") {
        errors.push(change.invalid("ready", "cannot set more ready pods than active"));
    }
    errors
}

fn of_success(change: &Change<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let is_met = change.is("SuccessCriteriaMet");
    if is_met && change.is("Failed") {
        errors.push(change.no("cannot set SuccessCriteriaMet=True and Failed=true conditions"));
    }
    if is_met && change.is("FailureTarget") {
        let why = "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions";
        errors.push(change.no(why));
    }
    if change.spec.get("successPolicy").given() && !is_met && change.is("Complete") {
        let why =
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.push(change.no(why));
    }
    errors
}

/// What has happened stays so.
fn of_the_past(change: &Change<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if change.was(kind) && !change.is(kind) {
            let why = format!("cannot disable the terminal {kind}=True condition");
            errors.push(change.no(&why));
        }
    }
    let is_less = |field: &str| change.number(field) < change.before(field);
    let mut keep = |field: &str| {
        if is_less(field) {
            let why = format!("cannot decrease the {field} counter");
            let path = change.new.path.child(field);
            errors.push(Error::invalid(&path, change.number(field), why));
        }
    };
    keep("failed");
    // A Job with indexes that runs all at a time can be made smaller.
    let spec = change.spec.value;
    let is_elastic = spec::is_indexed(&change.spec)
        && get(spec, "completions").as_i64() == get(spec, "parallelism").as_i64();
    if !is_elastic {
        keep("succeeded");
    }
    let given_twice = |field: &str| {
        !get(change.old, field).is_null() && change.new.get(field).given() && change.changed(field)
    };
    if given_twice("completionTime") {
        errors.push(change.invalid("completionTime", IMMUTABLE));
    }
    let is_resuming = change.was("Suspended") && has(change.new.value, "Suspended", "False");
    let is_suspended = dig(spec, &["suspend"]).as_bool() == Some(true);
    let moved = change.changed("startTime") && !get(change.old, "startTime").is_null();
    if moved && !is_resuming && !is_suspended {
        let why = "field is immutable for unsuspended job once set";
        errors.push(change.invalid("startTime", why));
    }
    if change.was("SuccessCriteriaMet") && !change.is("SuccessCriteriaMet") {
        errors.push(change.no("cannot disable the SuccessCriteriaMet=True condition"));
    }
    if change.was("Complete")
        && !change.was("SuccessCriteriaMet")
        && change.is("SuccessCriteriaMet")
    {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(change.no(why));
    }
    errors
}
