//! Events, in the form of `v1` and in that of `events.k8s.io/v1`.

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::{Map, Value};

use crate::view::{At, dig, get, is_zero, same, text};
use crate::{Rules, Subresource, generic, meta};

pub(crate) const CORE_RULES: Rules = Rules {
    namespaced: Some(true),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create: |event| legacy(event, "reportingComponent"),
    validate_update: |_, new, _| legacy(new, "reportingComponent"),
};

pub(crate) const EVENTS_RULES: Rules = Rules {
    namespaced: Some(true),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create,
    validate_update,
};

/// Names that differ between `events.k8s.io/v1` and the stored `v1` form; checks speak of the latter.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

fn as_core(event: &Value) -> Value {
    let renamed = |name: &str| {
        RENAMED
            .iter()
            .find(|(new, _)| *new == name)
            .map_or_else(|| name.to_owned(), |(_, core)| (*core).to_owned())
    };
    let fields = event
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (renamed(name), value.clone()));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn legacy(event: &Value, controller_field: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let namespace = text(dig(event, &["metadata", "namespace"]));
    let involved = At::field(event, "involvedObject").get("namespace");
    let mismatch = Error::invalid(
        &involved.path,
        involved.text(),
        "does not match event.namespace",
    );
    if is_zero(get(event, "eventTime")) {
        let agrees = if involved.text().is_empty() {
            ["", "default"].contains(&namespace)
        } else {
            involved.text() == namespace
        };
        if !agrees {
            errors.push(mismatch);
        }
    } else {
        if involved.text().is_empty() && !["default", "kube-system"].contains(&namespace) {
            errors.push(mismatch);
        }
        errors.extend(new_style(event, controller_field));
    }
    errors.extend(
        names::dns1123_subdomain(namespace)
            .into_iter()
            .map(|message| Error::invalid(&Path::new("namespace"), namespace, message)),
    );
    errors
}

fn new_style(event: &Value, controller_field: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let controller = At {
        value: get(event, "reportingComponent"),
        path: Path::new(controller_field),
    };
    if controller.text().is_empty() {
        errors.push(Error::required(&controller.path, ""));
    }
    errors.extend(meta::invalid_text(
        &controller,
        names::qualified_name(controller.text()),
    ));
    for (name, max) in [
        ("reportingInstance", 128),
        ("action", 128),
        ("reason", 128),
        ("message", 1024),
    ] {
        let value = At::field(event, name);
        if value.text().is_empty() && name != "message" {
            errors.push(Error::required(&value.path, ""));
        }
        if value.text().len() > max {
            errors.push(Error::invalid(
                &value.path,
                "",
                format!("can have at most {max} characters"),
            ));
        }
    }
    errors
}

fn validate_create(event: &Value) -> ErrorList {
    let event = &as_core(event);
    let mut errors = legacy(event, "reportingController");
    errors.extend(meta::validate(event, true, names::dns1123_subdomain));
    errors.extend(series(event));
    if is_zero(get(event, "eventTime")) {
        errors.push(Error::required(&Path::new("eventTime"), ""));
    }
    let kind = text(get(event, "type"));
    if !["Normal", "Warning"].contains(&kind) {
        errors.push(Error::invalid(
            &Path::new("type"),
            "",
            format!("has invalid value: {kind}"),
        ));
    }
    for name in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        if !is_zero(get(event, name)) {
            errors.push(Error::invalid(&Path::new(name), "", "needs to be unset"));
        }
    }
    errors
}

fn series(event: &Value) -> ErrorList {
    let series = get(event, "series");
    let mut errors = ErrorList::new();
    if series.is_null() {
        return errors;
    }
    if get(series, "count").as_i64().unwrap_or(0) < 2 {
        errors.push(Error::invalid(
            &Path::new("series.count"),
            "",
            "should be at least 2",
        ));
    }
    if is_zero(get(series, "lastObservedTime")) {
        errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
    }
    errors
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let (new, old) = (&as_core(new), &as_core(old));
    let mut errors = legacy(new, "reportingController");
    errors.extend(meta::validate_update(new, old));
    if !same(get(new, "series"), get(old, "series")) {
        errors.extend(series(new));
    }
    let fixed = [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "type",
        "eventTime",
        "action",
        "related",
    ];
    for name in fixed {
        errors.extend(meta::immutable(&At::field(new, name), get(old, name)));
    }
    let controller = At {
        value: get(new, "reportingComponent"),
        path: Path::new("reportingController"),
    };
    errors.extend(meta::immutable(&controller, get(old, "reportingComponent")));
    errors.extend(meta::immutable(
        &At::field(new, "reportingInstance"),
        get(old, "reportingInstance"),
    ));
    errors
}
