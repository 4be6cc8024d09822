//! DaemonSets.

use api::field::{Error, ErrorList};
use api::selector::Selector;
use serde_json::{Value, json};

use crate::pod::internal::{self, Kind};
use crate::pod::label_selector;
use crate::view::{At, dig, entry, get, object, restore, same, set_if_absent, set_if_zero, text};
use crate::{Rules, Subresource, meta, podtemplate, workload};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create,
    prepare_update,
    validate_create: |set| meta::validate_new(set, true, "spec", validate_spec),
    validate_update: |part, new, old| match part {
        Subresource::Status => {
            let status = At::field(new, "status");
            let mut errors = workload::counts(&status, &COUNTS);
            errors.extend(workload::collisions(&status, old));
            errors
        }
        _ => {
            let spec = At::field(new, "spec");
            let before = dig(old, &["spec", "selector"]);
            let mut errors = workload::same_selector(&spec.get("selector"), before);
            errors.extend(validate_spec(&spec));
            errors
        }
    },
};

/// Counts changes of the template; the field it was once had no place in `v1`.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const COUNTS: [&str; 9] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];
/// Counts that are written whatever they are.
const WRITTEN: [&str; 4] = [
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
];

fn default(set: &mut Value) {
    let spec = entry(set, "spec");
    workload::default_template(spec);
    let strategy = entry(spec, "updateStrategy");
    set_if_zero(strategy, "type", "RollingUpdate");
    if text(get(strategy, "type")) == "RollingUpdate" {
        let rolling = entry(strategy, "rollingUpdate");
        set_if_absent(rolling, "maxUnavailable", 1);
        set_if_absent(rolling, "maxSurge", 0);
    }
    set_if_absent(spec, "revisionHistoryLimit", 10);
    let status = entry(set, "status");
    for name in WRITTEN {
        set_if_absent(status, name, 0);
    }
}

/// How often the template was changed, from one on.
pub(crate) fn template_generation(set: &Value) -> i64 {
    let text = meta::annotation(set, TEMPLATE_GENERATION);
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(set: &mut Value, generation: i64) {
    let annotations = entry(entry(set, "metadata"), "annotations");
    let text = generation.to_string();
    object(annotations).insert(TEMPLATE_GENERATION.to_owned(), text.into());
}

fn prepare_create(set: &mut Value) {
    object(entry(set, "metadata")).insert("generation".to_owned(), 1.into());
    let generation = template_generation(set).max(1);
    set_template_generation(set, generation);
    let none: Value = WRITTEN
        .iter()
        .map(|name| ((*name).to_owned(), json!(0)))
        .collect();
    object(set).insert("status".to_owned(), none);
}

fn prepare_update(part: Subresource, new: &mut Value, old: &Value) {
    let generation = template_generation(old);
    if part == Subresource::Status {
        restore(new, old, "spec");
        set_template_generation(new, generation);
        return;
    }
    restore(new, old, "status");
    let template = ["spec", "template"];
    let is_other = !same(dig(new, &template), dig(old, &template));
    set_template_generation(new, generation + i64::from(is_other));
    let is_changed = !same(get(new, "spec"), get(old, "spec"));
    meta::count_generation(new, old, is_changed);
}

fn validate_spec(spec: &At<'_>) -> ErrorList {
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    let mut errors = label_selector(&selector);
    if let Ok(parsed) = Selector::from_value(selector.value) {
        errors.extend(workload::selected(&template, &parsed));
    }
    if selector.given() {
        errors.extend(workload::selects_something(&selector, "daemonset"));
    }
    errors.extend(podtemplate::validate(&template));
    errors.extend(workload::runs_always(&template, "DaemonSet"));
    errors.extend(workload::counts(spec, &["minReadySeconds"]));
    errors.extend(validate_strategy(&spec.get("updateStrategy")));
    errors.extend(workload::counts(spec, &["revisionHistoryLimit"]));
    errors
}

fn validate_strategy(strategy: &At<'_>) -> ErrorList {
    match strategy.get("type").text() {
        "OnDelete" => ErrorList::new(),
        "RollingUpdate" => validate_rolling(&strategy.get("rollingUpdate")),
        _ => vec![internal::not_supported(
            &strategy.path,
            Kind::DaemonSetUpdateStrategy,
            strategy.value,
            &["RollingUpdate", "OnDelete"],
        )],
    }
}

/// Either Pods go before others come, or others come before they go.
fn validate_rolling(rolling: &At<'_>) -> ErrorList {
    let (fewer, more) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    let both = [&fewer, &more];
    let mut errors: ErrorList = both
        .into_iter()
        .flat_map(workload::number_or_percent)
        .collect();
    errors.extend(both.into_iter().flat_map(workload::at_most_all));
    match both.map(|at| workload::amount(at.value) != 0) {
        [true, true] => errors.push(Error::invalid(
            &more.path,
            more.value.clone(),
            "may not be set when maxUnavailable is non-zero",
        )),
        [false, false] => errors.push(Error::required(
            &fewer.path,
            "cannot be 0 when maxSurge is 0",
        )),
        _ => {}
    }
    errors
}
