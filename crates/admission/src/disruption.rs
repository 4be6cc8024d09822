//! PodDisruptionBudgets.

use api::field::{Error, ErrorList};
use api::names;
use serde_json::{Value, json};

use crate::meta::invalid_text;
use crate::pod::{internal, label_selector, non_negative};
use crate::view::{At, object};
use crate::{Rules, Subresource, generic, meta, workload};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default: generic::nothing,
    prepare_create,
    prepare_update: (generic::RULES).prepare_update,
    validate_create: |object| meta::validate_new(object, true, "spec", validate_spec),
    validate_update: |subresource, new, _| match subresource {
        Subresource::Status => validate_status(&At::field(new, "status")),
        _ => validate_spec(&At::field(new, "spec")),
    },
};

/// When a Pod that is not ready may be evicted.
const POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const COUNTS: [&str; 4] = [
    "disruptionsAllowed",
    "currentHealthy",
    "desiredHealthy",
    "expectedPods",
];
const MAX_REASON: usize = 1024;
const MAX_MESSAGE: usize = 32 * 1024;

/// Nothing is allowed before the budget was looked at for the first time.
fn prepare_create(budget: &mut Value) {
    let budget = object(budget);
    let metadata = budget.entry("metadata").or_insert_with(|| json!({}));
    object(metadata).insert("generation".to_owned(), 1.into());
    let none = COUNTS.map(|name| (name.to_owned(), Value::from(0)));
    budget.insert("status".to_owned(), none.into_iter().collect());
}

fn validate_spec(spec: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let bounds = [spec.get("minAvailable"), spec.get("maxUnavailable")];
    if bounds.iter().all(At::given) {
        errors.push(internal::invalid(
            &spec.path,
            internal::Kind::DisruptionBudgetSpec,
            spec.value,
            "minAvailable and maxUnavailable cannot be both set",
        ));
    }
    for bound in bounds.iter().filter(|bound| bound.given()) {
        errors.extend(workload::number_or_percent(bound));
        errors.extend(workload::at_most_all(bound));
    }
    errors.extend(label_selector(&spec.get("selector")));
    let policy = spec.get("unhealthyPodEvictionPolicy");
    if policy.given() && !POLICIES.contains(&policy.text()) {
        errors.push(Error::not_supported(&policy.path, policy.text(), &POLICIES));
    }
    errors
}

fn validate_status(status: &At<'_>) -> ErrorList {
    let conditions = status.get("conditions");
    let mut errors = ErrorList::new();
    let mut seen: Vec<&str> = Vec::new();
    for condition in conditions.items() {
        let kind = condition.get("type");
        if seen.contains(&kind.text()) {
            errors.push(Error::duplicate(&kind.path, kind.text()));
        } else {
            seen.push(kind.text());
        }
        errors.extend(validate_condition(&condition));
    }
    let counts = COUNTS.iter().map(|name| status.get(name));
    errors.extend(counts.flat_map(|count| non_negative(&count)));
    errors
}

fn validate_condition(condition: &At<'_>) -> ErrorList {
    let kind = condition.get("type");
    let mut errors = meta::label_name(&kind.path, kind.text());
    let status = condition.get("status");
    if !STATUSES.contains(&status.text()) {
        errors.push(Error::not_supported(&status.path, status.text(), &STATUSES));
    }
    let generation = condition.get("observedGeneration");
    if let Some(value) = generation.int().filter(|value| *value < 0) {
        errors.push(Error::invalid(
            &generation.path,
            value,
            "must be greater than or equal to zero",
        ));
    }
    let since = condition.get("lastTransitionTime");
    if since.text().is_empty() {
        errors.push(Error::required(&since.path, ""));
    }
    let reason = condition.get("reason");
    match reason.text() {
        "" => errors.push(Error::required(&reason.path, "")),
        text => errors.extend(invalid_text(&reason, condition_reason(text))),
    }
    for (at, most) in [
        (reason, MAX_REASON),
        (condition.get("message"), MAX_MESSAGE),
    ] {
        if at.text().len() > most {
            errors.push(Error::too_long(&at.path, most));
        }
    }
    errors
}

fn condition_reason(text: &str) -> Vec<String> {
    let is_inside = |b: u8| b.is_ascii_alphanumeric() || b"_,:".contains(&b);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins && text.bytes().all(is_inside) && !text.ends_with([',', ':']) {
        return Vec::new();
    }
    let message = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters \
                   or '_,:', and must end with an alphanumeric character or '_'";
    let examples = [
        "my_name",
        "MY_NAME",
        "MyName",
        "ReasonA,ReasonB",
        "ReasonA:ReasonB",
    ];
    let pattern = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?";
    vec![names::regex_error(message, pattern, &examples)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Subresource, prepare_create, prepare_update};

    #[test]
    fn changes_are_counted_and_status_has_its_own_path() {
        let resource = "poddisruptionbudgets.policy";
        let mut budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1}, "status": {"disruptionsAllowed": 9}});
        prepare_create(resource, &mut budget);
        assert_eq!(budget["metadata"]["generation"], 1);
        assert_eq!(
            budget["status"],
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0})
        );
        let mut changed = budget.clone();
        changed["spec"]["minAvailable"] = json!("50%");
        changed["status"]["disruptionsAllowed"] = json!(9);
        let mut seen = changed.clone();
        prepare_update(resource, Subresource::Main, &mut changed, &budget);
        assert_eq!(changed["metadata"]["generation"], 2);
        assert_eq!(changed["status"], budget["status"]);
        prepare_update(resource, Subresource::Status, &mut seen, &budget);
        assert_eq!(seen["metadata"]["generation"], 1);
        assert_eq!(seen["spec"], budget["spec"]);
        assert_eq!(seen["status"]["disruptionsAllowed"], 9);
    }
}
