//! The specification of a Job, and of a CronJob's template of one, but for the selector.

use api::field::{Error, ErrorList};
use api::names;

use super::policy;
use crate::meta::invalid_text;
use crate::pod::internal;
use crate::podtemplate;
use crate::view::At;
use crate::workload::counts;

/// Indexes are listed in the status, which has to stay small.
const MOST_INDEXES: i64 = 100_000;
/// Where more completions than that are asked for, fewer may run and fail at a time.
const MANY_COMPLETIONS: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;
const MOST_MANAGER_BYTES: usize = 63;
const MODES: [&str; 2] = ["NonIndexed", "Indexed"];

pub(super) fn is_indexed(spec: &At<'_>) -> bool {
    spec.get("completionMode").text() == "Indexed"
}

pub(crate) fn validate(spec: &At<'_>) -> ErrorList {
    let mut errors = counts(
        spec,
        &[
            "parallelism",
            "completions",
            "activeDeadlineSeconds",
            "backoffLimit",
            "ttlSecondsAfterFinished",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
        ],
    );
    let per_index = spec.get("backoffLimitPerIndex");
    if spec.get("maxFailedIndexes").given() && !per_index.given() {
        let why = "when maxFailedIndexes is specified";
        errors.push(Error::required(&per_index.path, why));
    }
    errors.extend(manager(&spec.get("managedBy")));
    errors.extend(mode(spec));
    errors.extend(policy::failure(spec));
    let success = spec.get("successPolicy");
    if success.given() && !is_indexed(spec) {
        errors.push(internal::invalid(
            &success.path,
            internal::Kind::SuccessPolicy,
            success.value,
            "requires indexed completion mode",
        ));
    } else if success.given() {
        errors.extend(policy::success(spec));
    }
    errors.extend(policy::replacement(spec));
    errors.extend(podtemplate::validate(&spec.get("template")));
    errors.extend(restart_policy(spec));
    errors
}

/// A path with a domain before it.
fn manager(at: &At<'_>) -> ErrorList {
    if !at.given() {
        return ErrorList::new();
    }
    let mut errors = domain_prefixed(at);
    if at.text().len() > MOST_MANAGER_BYTES {
        errors.push(Error::too_long(&at.path, MOST_MANAGER_BYTES));
    }
    errors
}

fn domain_prefixed(at: &At<'_>) -> ErrorList {
    if at.text().is_empty() {
        return vec![Error::required(&at.path, "")];
    }
    let parts = at.text().split_once('/');
    let Some((host, path)) = parts.filter(|(host, path)| !host.is_empty() && !path.is_empty())
    else {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return vec![Error::invalid(&at.path, at.text(), why)];
    };
    let wrong = names::dns1123_subdomain(host).into_iter();
    let mut errors: ErrorList = wrong
        .map(|why| Error::invalid(&at.path, host, why))
        .collect();
    let is_inside = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !path.chars().all(is_inside) {
        let pattern = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
        let why = names::regex_error("Invalid path", pattern, &[]);
        errors.push(Error::invalid(&at.path, path, why));
    }
    errors
}

fn mode(spec: &At<'_>) -> ErrorList {
    let mode = spec.get("completionMode");
    let mut errors = ErrorList::new();
    if mode.given() && !MODES.contains(&mode.text()) {
        errors.push(Error::not_supported(&mode.path, mode.text(), &MODES));
    }
    if is_indexed(spec) {
        errors.extend(indexed(spec));
    } else if ["", MODES[0]].contains(&mode.text()) {
        for name in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            let at = spec.get(name);
            let why = "requires indexed completion mode";
            errors.extend(at.int().map(|value| Error::invalid(&at.path, value, why)));
        }
    }
    errors
}

fn indexed(spec: &At<'_>) -> ErrorList {
    let (completions, running) = (spec.get("completions"), spec.get("parallelism"));
    let failed = spec.get("maxFailedIndexes");
    let mut errors = ErrorList::new();
    if !completions.given() {
        let why = "when completion mode is Indexed";
        errors.push(Error::required(&completions.path, why));
    }
    let limit = format!("must be less than or equal to {MOST_INDEXES}");
    let why = format!("{limit} when completion mode is Indexed");
    errors.extend(at_most(&running, MOST_INDEXES, &why));
    let why = "must be less than or equal to completions";
    let most = completions.int();
    errors.extend(most.and_then(|most| at_most(&failed, most, why)));
    errors.extend(at_most(&failed, MOST_INDEXES, &limit));
    let is_many = most.is_some_and(|count| count > MANY_COMPLETIONS);
    if !is_many || !spec.get("backoffLimitPerIndex").given() {
        return errors;
    }
    if !failed.given() {
        let why = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        errors.push(Error::required(&failed.path, why));
    }
    let why = format!(
        "must be less than or equal to {MOST_OF_MANY} when completions are above {MANY_COMPLETIONS} and used with backoff limit per index"
    );
    errors.extend(at_most(&running, MOST_OF_MANY, &why));
    errors.extend(at_most(&failed, MOST_OF_MANY, &why));
    errors
}

fn at_most(at: &At<'_>, most: i64, why: &str) -> Option<Error> {
    let value = at.int().filter(|value| *value > most)?;
    Some(Error::invalid(&at.path, value, why))
}

/// Pods of a Job end.
fn restart_policy(spec: &At<'_>) -> ErrorList {
    let policy = spec.get("template").get("spec").get("restartPolicy");
    match policy.text() {
        "" | "Always" => vec![Error::required(
            &policy.path,
            "valid values: \"OnFailure\", \"Never\"",
        )],
        "OnFailure" if spec.get("podFailurePolicy").given() => invalid_text(
            &policy,
            vec!["only \"Never\" is supported when podFailurePolicy is specified".to_owned()],
        ),
        "OnFailure" | "Never" => ErrorList::new(),
        other => vec![Error::not_supported(
            &policy.path,
            other,
            &["OnFailure", "Never"],
        )],
    }
}
