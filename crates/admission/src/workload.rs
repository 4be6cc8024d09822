//! What kinds that make Pods have in common: the template and its selector, amounts of Pods, counts in a status, warnings
//! (upstream's pkg/apis/apps/validation).

use api::field::{Error, ErrorList, Path};
use api::names;
use api::selector::Selector;
use serde_json::{Map, Value};

use crate::meta::invalid_text;
use crate::pod::{self, internal, label_selector, non_negative};
use crate::view::{self, At, dig, entry, get, same, text};
use crate::{daemonset, podtemplate, statefulset};

/// What a client is told about an object of `resource` besides the answer, when it is a new Pod or makes Pods; changes of the latter
/// are told of as far as they count as such.
pub fn warnings(resource: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    if resource == "pods" {
        return old.map_or_else(|| pod::warnings(new), |_| Vec::new());
    }
    let is_named = [
        "deployments.apps",
        "replicasets.apps",
        "replicationcontrollers",
        "jobs.batch",
        "cronjobs.batch",
    ];
    let mut warnings = Vec::new();
    if old.is_none() && is_named.contains(&resource) {
        warnings.extend(name_of_pods(new));
    }
    // Of a DaemonSet, changes of the template are counted apart.
    let is_counted = |old: &Value| match resource {
        "daemonsets.apps" => {
            daemonset::template_generation(new) != daemonset::template_generation(old)
        }
        _ => dig(new, &["metadata", "generation"]) != dig(old, &["metadata", "generation"]),
    };
    let spec = At::field(new, "spec");
    let job = match resource {
        "jobs.batch" => Some(spec.clone()),
        "cronjobs.batch" => Some(spec.get("jobTemplate").get("spec")),
        _ => None,
    };
    if old.is_none_or(is_counted) {
        warnings.extend(job.as_ref().and_then(many_indexes));
        let template = match resource {
            "podtemplates" => Some(At::field(new, "template")),
            _ => job.or(Some(spec.clone())).map(|spec| spec.get("template")),
        };
        let template = template.filter(At::given);
        warnings.extend(template.iter().flat_map(pod::template_warnings));
    }
    if resource == "statefulsets.apps" {
        warnings.extend(statefulset::warnings(&spec, old.is_none()));
    }
    let schedule = dig(new, &["spec", "schedule"]);
    if resource == "cronjobs.batch" && old.is_some() && text(schedule).contains("TZ") {
        // Upstream says `spec` twice.
        warnings.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
    }
    warnings
}

/// The status of a Job has no room for more indexes that fail.
fn many_indexes(job: &At<'_>) -> Option<String> {
    let is_more = |name: &str, most: i64| job.get(name).int().is_some_and(|count| count > most);
    let is_indexed = job.get("completionMode").text() == "Indexed";
    let is_much = is_indexed && is_more("completions", 100_000) && is_more("parallelism", 10_000);
    let why = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
    is_much.then(|| format!("{}: {why}", job.path))
}

/// Pods are named after what makes them.
fn name_of_pods(object: &Value) -> Vec<String> {
    let wrong = names::dns1123_label(text(dig(object, &["metadata", "name"])));
    if wrong.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
        wrong.join(" ")
    )]
}

/// Fills in one replica, and what the template leaves open.
pub(crate) fn default_replicas(object: &mut Value) {
    let spec = entry(object, "spec");
    view::set_if_absent(spec, "replicas", 1);
    default_template(spec);
}

/// Fills in what the template of `spec` leaves open.
pub(crate) fn default_template(spec: &mut Value) {
    pod::default_spec(entry(entry(spec, "template"), "spec"));
}

/// Labels an object that has no labels of its own as its Pods are.
pub(crate) fn default_labels(object: &mut Value, labels: &Value) {
    let metadata = entry(object, "metadata");
    if view::len(get(metadata, "labels")) == 0 {
        view::object(metadata).insert("labels".to_owned(), labels.clone());
    }
}

/// The selector that has to be there, and the template that it has to select, of a Deployment or a ReplicaSet.
pub(crate) fn selector_and_template(spec: &At<'_>) -> ErrorList {
    let selector = spec.get("selector");
    let mut errors = ErrorList::new();
    if selector.given() {
        errors.extend(label_selector(&selector));
        errors.extend(selects_something(&selector, "deployment"));
    } else {
        errors.push(Error::required(&selector.path, ""));
    }
    match Selector::from_value(selector.value) {
        Err(_) => errors.push(internal::invalid_selector(
            &selector.path,
            selector.value,
            "invalid label selector",
        )),
        Ok(selector) => errors.extend(template(&spec.get("template"), &selector)),
    }
    errors
}

/// A selector of the Pods of a `kind` must ask for something.
pub(crate) fn selects_something(selector: &At<'_>, kind: &str) -> ErrorList {
    let asked = selector.get("matchLabels").len() + selector.get("matchExpressions").len();
    let why = format!("empty selector is invalid for {kind}");
    let error = (asked == 0)
        .then(|| internal::invalid_selector(&selector.path, &Value::Object(Map::new()), &why));
    error.into_iter().collect()
}

/// The template of a ReplicaSet, or of what makes one.
pub(crate) fn template(template: &At<'_>, selector: &Selector) -> ErrorList {
    let mut errors = selected(template, selector);
    errors.extend(podtemplate::validate(template));
    errors.extend(runs_always(template, "ReplicaSet"));
    errors
}

/// Pods of the template must be the selector's.
pub(crate) fn selected(template: &At<'_>, selector: &Selector) -> ErrorList {
    let labels = template.get("metadata").get("labels");
    if selector.matches(&labels.value.as_object()) {
        return ErrorList::new();
    }
    vec![Error::invalid(
        &labels.path,
        labels.value.clone(),
        "`selector` does not match template `labels`",
    )]
}

/// What runs until it is deleted is restarted always, and has no end.
pub(crate) fn runs_always(template: &At<'_>, kind: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let (policy, deadline) = (
        template.get("spec").get("restartPolicy"),
        template.get("spec").get("activeDeadlineSeconds"),
    );
    if policy.text() != "Always" {
        errors.push(Error::not_supported(
            &policy.path,
            policy.text(),
            &["Always"],
        ));
    }
    if deadline.given() {
        errors.push(Error::forbidden(
            &deadline.path,
            format!("activeDeadlineSeconds in {kind} is not Supported"),
        ));
    }
    errors
}

/// Of a changed object: its spec, in which the selector stays what it was.
pub(crate) fn validate_changed(
    new: &Value,
    old: &Value,
    validate_spec: fn(&At<'_>) -> ErrorList,
) -> ErrorList {
    let spec = At::field(new, "spec");
    let mut errors = validate_spec(&spec);
    let before = dig(old, &["spec", "selector"]);
    errors.extend(same_selector(&spec.get("selector"), before));
    errors
}

/// Of a status: none of these counts is greater than `replicas`, nor are more Pods available than `ready`, as that field is called here.
pub(crate) fn at_most_replicas(status: &At<'_>, counts: &[&str], ready: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    for name in counts {
        let why = "cannot be greater than status.replicas";
        errors.extend(at_most(status, name, "replicas", why));
    }
    let why = format!("cannot be greater than {ready}");
    errors.extend(at_most(status, "availableReplicas", "readyReplicas", &why));
    errors
}

/// A selector stays what it was.
pub(crate) fn same_selector(new: &At<'_>, old: &Value) -> ErrorList {
    if same(new.value, old) {
        return ErrorList::new();
    }
    vec![internal::invalid_selector(
        &new.path,
        new.value,
        "field is immutable",
    )]
}

/// A number that is not negative, or a percentage.
pub(crate) fn number_or_percent(at: &At<'_>) -> ErrorList {
    match at.value.as_str() {
        Some(percent) => invalid_text(at, names::percent(percent)),
        None => non_negative(at),
    }
}

/// No more than 100 %.
pub(crate) fn at_most_all(at: &At<'_>) -> ErrorList {
    let is_more = percent(at.value).is_some_and(|percent| percent > 100);
    let error =
        is_more.then(|| Error::invalid(&at.path, at.text(), "must not be greater than 100%"));
    error.into_iter().collect()
}

/// The number, or that of the percentage; 0 is what cannot be read.
pub(crate) fn amount(value: &Value) -> i64 {
    let number = || value.as_i64().or_else(|| text(value).parse().ok());
    percent(value).or_else(number).unwrap_or(0)
}

/// The number of a percentage. More digits than a number has are more than enough.
fn percent(value: &Value) -> Option<i64> {
    let percent = value.as_str()?;
    let is_one = names::percent(percent).is_empty();
    is_one.then(|| percent.trim_end_matches('%').parse().unwrap_or(i64::MAX))
}

/// Counts are not negative.
pub(crate) fn counts(status: &At<'_>, names: &[&str]) -> ErrorList {
    let counts = names.iter().map(|name| status.get(name));
    counts.flat_map(|count| non_negative(&count)).collect()
}

/// No more than there are.
pub(crate) fn at_most(status: &At<'_>, name: &str, bound: &str, why: &str) -> ErrorList {
    let count = |name: &str| get(status.value, name).as_i64().unwrap_or(0);
    let is_more = count(name) > count(bound);
    let path: Path = status.path.child(name);
    let error = is_more.then(|| Error::invalid(&path, count(name), why));
    error.into_iter().collect()
}

/// How often a name was taken is only counted up.
pub(crate) fn collisions(new: &At<'_>, old: &Value) -> ErrorList {
    let count = new.get("collisionCount");
    let Some(before) = dig(old, &["status", "collisionCount"]).as_i64() else {
        return ErrorList::new();
    };
    let is_less = count.int().is_none_or(|now| now < before);
    let why = "cannot be decremented";
    let error = is_less.then(|| Error::invalid(&count.path, count.int().unwrap_or(0), why));
    error.into_iter().collect()
}
