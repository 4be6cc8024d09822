//! What a Pod asks of its node: affinity, tolerations, spreading, gates.

use std::collections::BTreeSet;

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::Value;

use super::taint_effect;
use crate::meta::{self, invalid_text};
use crate::view::{At, get, list, text};

/// `spec.affinity`.
pub(super) fn affinity(affinity: &At<'_>) -> ErrorList {
    let node = affinity.get("nodeAffinity");
    let mut errors = ErrorList::new();
    let required = node.get("requiredDuringSchedulingIgnoredDuringExecution");
    if required.given() {
        errors.extend(node_selector(&required));
    }
    for term in node
        .get("preferredDuringSchedulingIgnoredDuringExecution")
        .items()
    {
        errors.extend(weight(&term));
        errors.extend(node_term(&term.get("preference"), true));
    }
    for name in ["podAffinity", "podAntiAffinity"] {
        let kind = affinity.get(name);
        for term in kind
            .get("requiredDuringSchedulingIgnoredDuringExecution")
            .items()
        {
            errors.extend(pod_term(&term));
        }
        for term in kind
            .get("preferredDuringSchedulingIgnoredDuringExecution")
            .items()
        {
            errors.extend(weight(&term));
            errors.extend(pod_term(&term.get("podAffinityTerm")));
        }
    }
    errors
}

fn weight(term: &At<'_>) -> ErrorList {
    let weight = term.get("weight");
    let value = weight.int().unwrap_or(0);
    if (1..=100).contains(&value) {
        return ErrorList::new();
    }
    vec![Error::invalid(
        &weight.path,
        value,
        "must be in the range 1-100",
    )]
}

/// A node selector of which one term has to hold.
pub(crate) fn node_selector(selector: &At<'_>) -> ErrorList {
    let terms = selector.get("nodeSelectorTerms");
    if terms.len() == 0 {
        return vec![Error::required(
            &terms.path,
            "must have at least one node selector term",
        )];
    }
    terms
        .items()
        .flat_map(|term| node_term(&term, false))
        .collect()
}

fn node_term(term: &At<'_>, any_value: bool) -> ErrorList {
    let mut errors: ErrorList = term
        .get("matchExpressions")
        .items()
        .flat_map(|item| node_requirement(&item, any_value))
        .collect();
    errors.extend(
        term.get("matchFields")
            .items()
            .flat_map(|item| node_field(&item)),
    );
    errors
}

fn node_requirement(item: &At<'_>, any_value: bool) -> ErrorList {
    let (operator, values, key) = (item.get("operator"), item.get("values"), item.get("key"));
    let mut errors = operator_errors(&operator, &values, true);
    errors.extend(meta::label_name(&key.path, key.text()));
    if !any_value {
        errors.extend(
            values
                .items()
                .flat_map(|value| invalid_text(&value, names::label_value(value.text()))),
        );
    }
    errors
}

fn operator_errors(operator: &At<'_>, values: &At<'_>, of_node: bool) -> ErrorList {
    match (operator.text(), values.len()) {
        ("In" | "NotIn", 0) => vec![Error::required(
            &values.path,
            "must be specified when `operator` is 'In' or 'NotIn'",
        )],
        ("Exists" | "DoesNotExist", 1..) => {
            vec![Error::forbidden(
                &values.path,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )]
        }
        ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => ErrorList::new(),
        ("Gt" | "Lt", 1) if of_node => ErrorList::new(),
        ("Gt" | "Lt", _) if of_node => {
            vec![Error::required(
                &values.path,
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            )]
        }
        (other, _) => vec![Error::invalid(
            &operator.path,
            other,
            "not a valid selector operator",
        )],
    }
}

fn node_field(item: &At<'_>) -> ErrorList {
    let (operator, values, key) = (item.get("operator"), item.get("values"), item.get("key"));
    let mut errors = ErrorList::new();
    if !["In", "NotIn"].contains(&operator.text()) {
        errors.push(Error::invalid(
            &operator.path,
            operator.text(),
            "not a valid selector operator",
        ));
    } else if values.len() != 1 {
        errors.push(Error::required(
            &values.path,
            "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ));
    }
    if key.text() == "metadata.name" {
        errors.extend(
            values
                .items()
                .flat_map(|value| invalid_text(&value, names::dns1123_subdomain(value.text()))),
        );
    } else {
        errors.push(Error::invalid(
            &key.path,
            key.text(),
            "not a valid field selector key",
        ));
    }
    errors
}

fn pod_term(term: &At<'_>) -> ErrorList {
    let mut errors = label_selector(&term.get("labelSelector"));
    errors.extend(label_selector(&term.get("namespaceSelector")));
    for name in term.get("namespaces").items() {
        errors.extend(invalid_text(
            &name.reported_at(term.path.child("namespace")),
            names::dns1123_label(name.text()),
        ));
    }
    errors.extend(label_keys(term));
    let key = term.get("topologyKey");
    if key.text().is_empty() {
        errors.push(Error::required(&key.path, "can not be empty"));
    }
    errors.extend(meta::label_name(&key.path, key.text()));
    errors
}

/// A `LabelSelector`.
pub(crate) fn label_selector(selector: &At<'_>) -> ErrorList {
    let mut errors = meta::labels(&selector.get("matchLabels"));
    for item in selector.get("matchExpressions").items() {
        let (operator, values, key) = (item.get("operator"), item.get("values"), item.get("key"));
        errors.extend(operator_errors(&operator, &values, false));
        errors.extend(meta::label_name(&key.path, key.text()));
        errors.extend(
            values
                .items()
                .flat_map(|value| invalid_text(&value, names::label_value(value.text()))),
        );
    }
    errors
}

/// `matchLabelKeys` and `mismatchLabelKeys` beside a `labelSelector`.
fn label_keys(holder: &At<'_>) -> ErrorList {
    let (matching, mismatching, selector) = (
        holder.get("matchLabelKeys"),
        holder.get("mismatchLabelKeys"),
        holder.get("labelSelector"),
    );
    let mut errors = ErrorList::new();
    for keys in [&matching, &mismatching]
        .into_iter()
        .filter(|keys| keys.len() > 0)
    {
        if !selector.given() {
            errors.push(Error::forbidden(
                &keys.path,
                "must not be specified when labelSelector is not set",
            ));
            continue;
        }
        errors.extend(
            keys.items()
                .flat_map(|key| meta::label_name(&key.path, key.text())),
        );
    }
    let mut in_selector: BTreeSet<&str> = selector
        .get("matchLabels")
        .entries()
        .map(|(key, _)| key)
        .collect();
    for item in list(get(selector.value, "matchExpressions")) {
        let key = text(get(item, "key"));
        let position = list(matching.value)
            .iter()
            .rposition(|matching| text(matching) == key);
        if let Some(i) = position.filter(|_| in_selector.contains(key)) {
            errors.push(Error::invalid(
                &holder.path.index(i),
                key,
                "exists in both matchLabelKeys and labelSelector",
            ));
        }
        in_selector.insert(key);
    }
    for key in matching.items().filter(|key| {
        list(mismatching.value)
            .iter()
            .any(|other| text(other) == key.text())
    }) {
        errors.push(Error::invalid(
            &key.path,
            key.text(),
            "exists in both matchLabelKeys and mismatchLabelKeys",
        ));
    }
    errors
}

/// `spec.tolerations`.
pub(crate) fn tolerations(tolerations: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for item in tolerations.items() {
        let (key, operator, value, effect) = (
            item.get("key"),
            item.get("operator"),
            item.get("value"),
            item.get("effect"),
        );
        if !key.text().is_empty() {
            errors.extend(meta::label_name(&key.path, key.text()));
        } else if operator.text() != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&operator.path, operator.text(), detail));
        }
        if item.get("tolerationSeconds").given() && effect.text() != "NoExecute" {
            errors.push(Error::invalid(
                &effect.path,
                effect.text(),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator.text() {
            "" | "Equal" => {
                let wrong = names::label_value(value.text());
                if !wrong.is_empty() {
                    errors.push(Error::invalid(
                        &operator.path,
                        value.text(),
                        wrong.join(";"),
                    ));
                }
            }
            "Exists" if !value.text().is_empty() => {
                errors.push(Error::invalid(
                    &operator.path,
                    value.text(),
                    "value must be empty when `operator` is 'Exists'",
                ));
            }
            "Exists" => {}
            other @ ("Lt" | "Gt") => errors.push(Error::not_supported(
                &operator.path,
                other,
                &["Equal", "Exists", "Lt", "Gt"],
            )),
            other => errors.push(Error::not_supported(
                &operator.path,
                other,
                &["Equal", "Exists"],
            )),
        }
        if !effect.text().is_empty() {
            errors.extend(taint_effect(&effect, true));
        }
    }
    errors
}

/// `spec.topologySpreadConstraints`.
pub(super) fn spread(constraints: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let all = list(constraints.value);
    for (i, item) in constraints.items().enumerate() {
        let (skew, key, action) = (
            item.get("maxSkew"),
            item.get("topologyKey"),
            item.get("whenUnsatisfiable"),
        );
        errors.extend(positive(&skew));
        if key.text().is_empty() {
            errors.push(Error::required(&key.path, "can not be empty"));
        }
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&action.text()) {
            errors.push(Error::not_supported(
                &action.path,
                action.text(),
                &["DoNotSchedule", "ScheduleAnyway"],
            ));
        }
        let pair = |value: &Value| {
            (
                text(get(value, "topologyKey")).to_owned(),
                text(get(value, "whenUnsatisfiable")).to_owned(),
            )
        };
        if all[i + 1..]
            .iter()
            .any(|later| pair(later) == pair(item.value))
        {
            let shown = format!("{{{}, {}}}", key.text(), action.text());
            errors.push(Error::duplicate(
                &item.path.child("{topologyKey, whenUnsatisfiable}"),
                shown,
            ));
        }
        errors.extend(min_domains(&item.get("minDomains"), action.text()));
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.extend(super::optional_word(&item.get(name), &["Honor", "Ignore"]));
        }
        errors.extend(label_keys(&item));
        errors.extend(label_selector(&item.get("labelSelector")));
    }
    errors
}

fn positive(at: &At<'_>) -> ErrorList {
    match at.int().unwrap_or(0) {
        1.. => ErrorList::new(),
        value => vec![Error::invalid(&at.path, value, "must be greater than zero")],
    }
}

fn min_domains(at: &At<'_>, action: &str) -> ErrorList {
    let Some(value) = at.int() else {
        return ErrorList::new();
    };
    let mut errors = positive(at);
    if action != "DoNotSchedule" {
        let detail =
            format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.push(Error::invalid(&at.path, value, detail));
    }
    errors
}

/// `spec.schedulingGates`.
pub(super) fn gates(gates: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for gate in gates.items() {
        let name = gate.get("name").reported_at(gate.path.clone());
        errors.extend(invalid_text(&name, names::qualified_name(name.text())));
        if !seen.insert(name.text()) {
            errors.push(Error::duplicate(&gate.path, name.text()));
        }
    }
    errors
}

/// Existing tolerations stay as they are but for their seconds; new ones may come.
pub(super) fn only_added_tolerations(new: &At<'_>, old: &Value) -> ErrorList {
    let without_seconds = |value: &Value| {
        let mut value = value.clone();
        crate::view::remove(&mut value, "tolerationSeconds");
        value
    };
    let kept = |old: &Value| {
        list(new.value)
            .iter()
            .any(|new| crate::view::same(&without_seconds(new), &without_seconds(old)))
    };
    if !list(old).iter().all(kept) {
        return vec![Error::forbidden(
            &new.path,
            "existing toleration can not be modified except its tolerationSeconds",
        )];
    }
    tolerations(new)
}

/// Gates only ever go.
pub(super) fn only_deleted_gates(new: &At<'_>, old: &Value) -> ErrorList {
    let known = |name: &str| list(old).iter().any(|gate| text(get(gate, "name")) == name);
    let added = new
        .items()
        .map(|gate| gate.get("name"))
        .filter(|name| !known(name.text()));
    added
        .map(|name| {
            Error::forbidden(
                &name.path,
                format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    name.text()
                ),
            )
        })
        .collect()
}

/// The path of required node affinity terms.
pub(super) fn required_terms_path() -> Path {
    Path::new(
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
    )
}
