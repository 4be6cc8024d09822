//! What Pods that fail and indexes that succeed mean to a Job.

use api::field::{Error, ErrorList};
use api::gotext;
use api::names;
use serde_json::Value;

use super::indexes;
use crate::meta::invalid_text;
use crate::pod::non_negative;
use crate::view::{At, list};

const MOST_RULES: usize = 20;
const MOST_EXIT_CODES: usize = 255;
const MOST_CONDITIONS: usize = 20;
const MOST_INDEXES_BYTES: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// One of a set of words, all of which are named when it is missing.
fn one_of(at: &At<'_>, supported: &[&str]) -> ErrorList {
    let quoted: Vec<String> = supported.iter().map(|word| gotext::quote(word)).collect();
    match at.text() {
        "" => vec![Error::required(
            &at.path,
            format!("valid values: [{}]", quoted.join(" ")),
        )],
        known if supported.contains(&known) => ErrorList::new(),
        other => vec![Error::not_supported(&at.path, other, supported)],
    }
}

/// An error about a structure that is not shown.
pub(super) fn without_value(at: &At<'_>, why: &str) -> Error {
    let mut error = Error::invalid(&at.path, Value::Null, why);
    error.value = None;
    error
}

/// When a Pod is replaced.
pub(super) fn replacement(spec: &At<'_>) -> ErrorList {
    let at = spec.get("podReplacementPolicy");
    let supported: &[&str] = match spec.get("podFailurePolicy").given() {
        true => &["Failed"],
        false => &["Failed", "TerminatingOrFailed"],
    };
    if !at.given() || supported.contains(&at.text()) {
        return ErrorList::new();
    }
    vec![Error::not_supported(&at.path, at.text(), supported)]
}

/// What is done about Pods that fail.
pub(super) fn failure(spec: &At<'_>) -> ErrorList {
    let rules = spec.get("podFailurePolicy").get("rules");
    let mut errors = ErrorList::new();
    if rules.len() > MOST_RULES {
        errors.push(Error::too_many(&rules.path, rules.len(), MOST_RULES));
    }
    let pod = spec.get("template").get("spec");
    let containers = ["containers", "initContainers"].map(|kind| pod.get(kind));
    let names = containers.iter().flat_map(At::items);
    let names: Vec<&str> = names
        .map(|container| container.get("name").text())
        .collect();
    for rule in rules.items() {
        errors.extend(failure_rule(spec, &rule, &names));
    }
    errors
}

fn failure_rule(spec: &At<'_>, rule: &At<'_>, containers: &[&str]) -> ErrorList {
    let action = rule.get("action");
    let mut errors = match action.text() {
        "FailIndex" if spec.get("backoffLimitPerIndex").given() => ErrorList::new(),
        "FailIndex" => vec![Error::invalid(
            &action.path,
            action.text(),
            "requires the backoffLimitPerIndex to be set",
        )],
        _ => one_of(&action, &ACTIONS),
    };
    let (codes, conditions) = (rule.get("onExitCodes"), rule.get("onPodConditions"));
    if codes.given() {
        errors.extend(exit_codes(&codes, containers));
    }
    if conditions.len() > MOST_CONDITIONS {
        let found = conditions.len();
        errors.push(Error::too_many(&conditions.path, found, MOST_CONDITIONS));
    }
    for pattern in conditions.items() {
        let kind = pattern.get("type");
        errors.extend(invalid_text(&kind, names::qualified_name(kind.text())));
        errors.extend(one_of(&pattern.get("status"), &STATUSES));
    }
    match (codes.given(), conditions.len() > 0) {
        (true, true) => errors.push(without_value(
            rule,
            "specifying both OnExitCodes and OnPodConditions is not supported",
        )),
        (false, false) => errors.push(without_value(
            rule,
            "specifying one of OnExitCodes and OnPodConditions is required",
        )),
        _ => {}
    }
    errors
}

fn exit_codes(codes: &At<'_>, containers: &[&str]) -> ErrorList {
    let operator = codes.get("operator");
    let mut errors = one_of(&operator, &OPERATORS);
    let container = codes.get("containerName");
    if container.given() && !containers.contains(&container.text()) {
        errors.push(Error::invalid(
            &container.path,
            container.text(),
            "must be one of the container or initContainer names in the pod template",
        ));
    }
    let values = codes.get("values");
    let mut refuse = |why: &str| {
        errors.push(Error::invalid(&values.path, values.value.clone(), why));
    };
    match values.len() {
        0 => refuse("at least one value is required"),
        1..=MOST_EXIT_CODES => {}
        found => errors.push(Error::too_many(&values.path, found, MOST_EXIT_CODES)),
    }
    let mut seen = Vec::new();
    for value in values.items() {
        let code = value.int().unwrap_or(0);
        if operator.text() == "In" && code == 0 {
            let why = "must not be 0 for the In operator";
            errors.push(Error::invalid(&value.path, code, why));
        }
        if seen.contains(&code) {
            errors.push(Error::duplicate(&value.path, code));
        }
        seen.push(code);
    }
    if !seen.is_sorted() {
        errors.push(Error::invalid(
            &values.path,
            list(values.value).to_vec(),
            "must be ordered",
        ));
    }
    errors
}

/// When a Job with indexes has succeeded.
pub(super) fn success(spec: &At<'_>) -> ErrorList {
    let rules = spec.get("successPolicy").get("rules");
    let mut errors = ErrorList::new();
    match rules.len() {
        0 => errors.push(Error::required(
            &rules.path,
            "at least one rules must be specified when the successPolicy is specified",
        )),
        1..=MOST_RULES => {}
        found => errors.push(Error::too_many(&rules.path, found, MOST_RULES)),
    }
    let completions = spec.get("completions").int().unwrap_or(0);
    for rule in rules.items() {
        errors.extend(success_rule(&rule, completions));
    }
    errors
}

fn success_rule(rule: &At<'_>, completions: i64) -> ErrorList {
    let (indexes, count) = (rule.get("succeededIndexes"), rule.get("succeededCount"));
    let mut errors = ErrorList::new();
    if !indexes.given() && !count.given() {
        errors.push(Error::required(
            &rule.path,
            "at least one of succeededCount or succeededIndexes must be specified",
        ));
    }
    let mut total = 0;
    if indexes.given() {
        if indexes.text().len() > MOST_INDEXES_BYTES {
            errors.push(Error::too_long(&indexes.path, MOST_INDEXES_BYTES));
        }
        match indexes::count(indexes.text(), completions) {
            Ok(found) => total = found,
            Err(why) => {
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(Error::invalid(&indexes.path, indexes.text(), why));
            }
        }
    }
    if let Some(wanted) = count.int() {
        errors.extend(non_negative(&count));
        let mut at_most = |most: i64, of: &str| {
            if wanted > most {
                let why = format!("must be less than or equal to {most} (the number of {of})");
                errors.push(Error::invalid(&count.path, wanted, why));
            }
        };
        at_most(completions, "specified completions");
        if indexes.given() {
            at_most(total, "indexes in the specified succeededIndexes field");
        }
    }
    errors
}
