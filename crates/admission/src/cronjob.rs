//! CronJobs.

use api::cron;
use api::field::{Error, ErrorList};
use api::names;
use serde_json::{Value, json};

use crate::pod::{internal, word};
use crate::view::{At, entry, get, object, set_if_absent, set_if_zero, text};
use crate::workload::counts;
use crate::{Rules, Subresource, generic, job, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create: |cron| {
        (generic::RULES.prepare_create)(cron);
        object(cron).insert("status".to_owned(), json!({}));
    },
    prepare_update: (generic::RULES).prepare_update,
    validate_create: |cron| {
        let mut errors = meta::validate(cron, true, names::dns1123_subdomain);
        errors.extend(validate_spec(&At::field(cron, "spec"), None));
        let name = At::field(cron, "metadata").get("name");
        if name.text().len() > LONGEST_NAME {
            let why = format!("must be no more than {LONGEST_NAME} characters");
            errors.push(Error::invalid(&name.path, name.text(), why));
        }
        errors
    },
    validate_update: |part, new, old| match part {
        Subresource::Status => ErrorList::new(),
        _ => validate_spec(&At::field(new, "spec"), Some(get(old, "spec"))),
    },
};

/// Jobs are named after it and the minute of their schedule.
const LONGEST_NAME: usize = 63 - 11;
const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];

fn default(cron: &mut Value) {
    let spec = entry(cron, "spec");
    set_if_zero(spec, "concurrencyPolicy", "Allow");
    set_if_absent(spec, "suspend", false);
    set_if_absent(spec, "successfulJobsHistoryLimit", 3);
    set_if_absent(spec, "failedJobsHistoryLimit", 1);
    job::default_template(entry(entry(spec, "jobTemplate"), "spec"));
}

fn validate_spec(spec: &At<'_>, old: Option<&Value>) -> ErrorList {
    let before = |name: &str| old.map(|old| get(old, name));
    let mut errors = schedule(spec, before("schedule"));
    errors.extend(counts(spec, &["startingDeadlineSeconds"]));
    let zone = spec.get("timeZone");
    if zone.given() && before("timeZone") != Some(zone.value) {
        errors.extend(time_zone(&zone));
    }
    errors.extend(word(&spec.get("concurrencyPolicy"), &POLICIES));
    let template = spec.get("jobTemplate").get("spec");
    errors.extend(job::validate_spec(&template));
    let (selector, manual) = (template.get("selector"), template.get("manualSelector"));
    if selector.given() {
        errors.push(internal::invalid_selector(
            &selector.path,
            selector.value,
            "`selector` will be auto-generated",
        ));
    }
    if manual.is_true() {
        errors.push(Error::not_supported(&manual.path, true, &["nil", "false"]));
    }
    errors.extend(counts(
        spec,
        &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"],
    ));
    errors
}

/// A schedule does not say its time zone, unless it did before there was a field for that.
fn schedule(spec: &At<'_>, old: Option<&Value>) -> ErrorList {
    let schedule = spec.get("schedule");
    if schedule.text().is_empty() {
        return vec![Error::required(&schedule.path, "")];
    }
    let mut errors = ErrorList::new();
    let mut refuse = |why: String| {
        errors.push(Error::invalid(&schedule.path, schedule.text(), why));
    };
    if let Err(why) = cron::Schedule::parse(schedule.text()) {
        refuse(why.to_string());
    }
    let names_zone = |text: &str| text.contains("TZ");
    if names_zone(schedule.text()) {
        if !old.is_some_and(|old| names_zone(text(old))) {
            let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            refuse(why.to_owned());
        } else if spec.get("timeZone").given() {
            let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            refuse(why.to_owned());
        }
    }
    errors
}

fn time_zone(zone: &At<'_>) -> ErrorList {
    let name = zone.text();
    let refuse = |why: String| Error::invalid(&zone.path, name, why);
    if name.is_empty() {
        return vec![refuse(
            "timeZone must be nil or non-empty string".to_owned(),
        )];
    }
    let unknown = || format!("unknown time zone {name}");
    let is_inside = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let is_part = |part: &str| {
        let is_plain = (1..=14).contains(&part.len()) && part.chars().all(is_inside);
        is_plain && part != "." && part != ".." && !part.starts_with('-')
    };
    if !name.split('/').all(is_part) {
        return vec![refuse(unknown())];
    }
    let mut errors = ErrorList::new();
    if name.eq_ignore_ascii_case("Local") {
        errors.push(refuse(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
                .to_owned(),
        ));
    }
    if name != "Local" && !cron::is_time_zone(name) {
        errors.push(refuse(unknown()));
    }
    errors
}
