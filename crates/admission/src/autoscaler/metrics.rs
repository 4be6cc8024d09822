//! What an autoscaler goes by.

use api::field::{Error, ErrorList};
use api::names;

use super::{Version, reference};
use crate::meta::invalid_text;
use crate::resources::{container_resource_name, quantity};
use crate::view::At;

/// The types of sources and their fields, in the order upstream looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
/// The types in the order upstream names them.
const TYPES: [&str; 5] = [
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];
const TARGETS: [&str; 3] = ["Utilization", "Value", "AverageValue"];

pub(super) fn validate(spec: &At<'_>, version: Version) -> ErrorList {
    let metrics = spec.get("metrics");
    let mut errors: ErrorList = metrics
        .items()
        .flat_map(|metric| source(&metric, version))
        .collect();
    let mut types = metrics.items().map(|metric| metric.get("type").text());
    let goes_to_zero = spec.get("minReplicas").int() == Some(0);
    if goes_to_zero && !types.any(|kind| ["Object", "External"].contains(&kind)) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(Error::forbidden(&metrics.path, why));
    }
    errors
}

fn source(metric: &At<'_>, version: Version) -> ErrorList {
    let mut errors = ErrorList::new();
    let kind = metric.get("type");
    if kind.text().is_empty() {
        errors.push(Error::required(
            &kind.path,
            "must specify a metric source type",
        ));
    }
    if !TYPES.contains(&kind.text()) {
        errors.push(Error::not_supported(&kind.path, kind.text(), &TYPES));
    }
    let given = SOURCES
        .iter()
        .filter(|(_, field)| metric.get(field).given());
    let given: Vec<&str> = given.map(|(_, field)| *field).collect();
    if let Some(first) = given.first() {
        errors.extend(one_source(first, &metric.get(first), version));
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.text());
    let expected = expected.map_or("", |(_, field)| *field);
    if !expected.is_empty() && !given.contains(&expected) {
        let why = "must populate information for the given metric source";
        errors.push(Error::required(&metric.get(expected).path, why));
    }
    if given.len() != 1 {
        let others = given.into_iter().filter(|field| *field != expected);
        errors.extend(others.map(|field| {
            let why = "must populate the given metric source only";
            Error::forbidden(&metric.get(field).path, why)
        }));
    }
    errors
}

fn one_source(field: &str, source: &At<'_>, version: Version) -> ErrorList {
    let mut errors = ErrorList::new();
    if field == "object" {
        errors.extend(reference(&source.get("describedObject"), version));
    }
    match field {
        "resource" | "containerResource" => errors.extend(resource(field, source)),
        _ => errors.extend(identifier(&source.get("metric"))),
    }
    let at = source.get("target");
    errors.extend(target(&at));
    errors.extend(target_of(field, &at));
    errors
}

fn resource(field: &str, source: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let name = source.get("name");
    let is_of_container = field == "containerResource";
    match name.text() {
        "" => errors.push(Error::required(&name.path, "must specify a resource name")),
        text if is_of_container => errors.extend(container_resource_name(&name.path, text)),
        _ => {}
    }
    let container = source.get("container");
    match container.text() {
        _ if !is_of_container => {}
        "" => errors.push(Error::required(&container.path, "must specify a container")),
        text => errors.extend(invalid_text(&container, names::dns1123_label(text))),
    }
    errors
}

fn identifier(metric: &At<'_>) -> ErrorList {
    let name = metric.get("name");
    match name.text() {
        "" => vec![Error::required(&name.path, "must specify a metric name")],
        text => invalid_text(&name, names::path_segment(text)),
    }
}

fn target(target: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let kind = target.get("type");
    if kind.text().is_empty() {
        let why = "must specify a metric target type";
        errors.push(Error::required(&kind.path, why));
    }
    if !TARGETS.contains(&kind.text()) {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(Error::invalid(&kind.path, kind.text(), why));
    }
    for amount in [target.get("value"), target.get("averageValue")] {
        if let Some(value) = quantity(amount.value).filter(|value| value.signum() != 1) {
            let shown = value.canonical();
            errors.push(Error::invalid(&amount.path, shown, "must be positive"));
        }
    }
    let utilization = target.get("averageUtilization");
    if let Some(value) = utilization.int().filter(|value| *value < 1) {
        let why = "must be greater than 0";
        errors.push(Error::invalid(&utilization.path, value, why));
    }
    errors
}

/// Which values a target of this source has.
fn target_of(field: &str, target: &At<'_>) -> ErrorList {
    let average = target.get("averageValue");
    let (other, missing, both) = match field {
        "object" => (
            target.get("value"),
            "must set either a target value or averageValue",
            "",
        ),
        "external" => (
            target.get("value"),
            "must set either a target value for metric or a per-pod target",
            "may not set both a target value for metric and a per-pod target",
        ),
        "pods" if average.given() => return ErrorList::new(),
        "pods" => {
            let why = "must specify a positive target averageValue";
            return vec![Error::required(&average.path, why)];
        }
        _ => (
            target.get("averageUtilization"),
            "must set either a target raw value or a target utilization",
            "may not set both a target raw value and a target utilization",
        ),
    };
    match (other.given(), average.given()) {
        (false, false) if field == "external" || field == "object" => {
            vec![Error::required(&average.path, missing)]
        }
        (false, false) => vec![Error::required(&other.path, missing)],
        (true, true) if field == "external" => vec![Error::forbidden(&other.path, both)],
        (true, true) if !both.is_empty() => vec![Error::forbidden(&average.path, both)],
        _ => ErrorList::new(),
    }
}
