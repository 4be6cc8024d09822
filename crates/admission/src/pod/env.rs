//! Environment variables and what they take their values from.

use api::field::{Error, ErrorList};
use api::names;

use crate::meta::invalid_text;
use crate::resources;
use crate::view::At;

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const CONVERTIBLE: [&str; 13] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
];

/// A container's `env`.
pub(super) fn variables(env: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for variable in env.items() {
        let name = variable.get("name");
        match name.text() {
            "" => errors.push(Error::required(&name.path, "")),
            text => errors.extend(invalid_text(&name, names::env_var_name(text))),
        }
        let from = variable.get("valueFrom");
        if from.given() {
            errors.extend(value_from(&from, variable.get("value").text()));
        }
    }
    errors
}

fn value_from(from: &At<'_>, value: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut sources = 0;
    for name in [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ] {
        let source = from.get(name);
        if !source.given() {
            continue;
        }
        sources += 1;
        errors.extend(match name {
            "fieldRef" => field_selector(&source, &ENV_FIELDS),
            "resourceFieldRef" => resource_selector(&source, false),
            "fileKeyRef" => file_key(&source),
            _ => object_key(&source),
        });
    }
    let detail = match sources {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if !value.is_empty() => "may not be specified when `value` is not empty",
        1 => return errors,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(Error::invalid(&from.path, "", detail));
    errors
}

/// A field of the Pod, of those that are allowed here.
pub(super) fn field_selector(at: &At<'_>, allowed: &[&str]) -> ErrorList {
    let (version, field) = (at.get("apiVersion"), at.get("fieldPath"));
    for missing in [&version, &field] {
        if missing.text().is_empty() {
            return vec![Error::required(&missing.path, "")];
        }
    }
    let label = field.text();
    let (path, subscript) = subscripted(label);
    if !is_convertible(version.text(), path, subscript) {
        let detail = match (version.text(), subscript) {
            ("v1", None) => {
                format!("error converting fieldPath: field label not supported: {label}")
            }
            ("v1", Some(_)) => format!(
                "error converting fieldPath: field label does not support subscript: {label}"
            ),
            (version, _) => {
                format!("error converting fieldPath: unsupported pod version: {version}")
            }
        };
        return vec![Error::invalid(&field.path, label, detail)];
    }
    let path = if path == "spec.host" {
        "spec.nodeName"
    } else {
        path
    };
    match (subscript, path) {
        (Some(key), "metadata.annotations") => qualified(at, &key.to_lowercase()),
        (Some(key), "metadata.labels") => qualified(at, key),
        (Some(_), _) => vec![Error::invalid(&at.path, path, "does not support subscript")],
        (None, _) if allowed.contains(&path) => ErrorList::new(),
        (None, _) => vec![Error::not_supported(&field.path, path, allowed)],
    }
}

fn qualified(at: &At<'_>, key: &str) -> ErrorList {
    names::qualified_name(key)
        .into_iter()
        .map(|message| Error::invalid(&at.path, key, message))
        .collect()
}

/// `metadata.labels['x']` apart: the path and what stands between the quotes.
fn subscripted(label: &str) -> (&str, Option<&str>) {
    let inner = label
        .strip_suffix("']")
        .and_then(|rest| rest.split_once("['"));
    match inner {
        Some((path, key)) if !path.is_empty() => (path, Some(key)),
        _ => (label, None),
    }
}

fn is_convertible(version: &str, path: &str, subscript: Option<&str>) -> bool {
    if version != "v1" {
        return false;
    }
    match subscript {
        Some(_) => ["metadata.annotations", "metadata.labels"].contains(&path),
        None => CONVERTIBLE.contains(&path) || ["status.podIPs", "spec.host"].contains(&path),
    }
}

/// An amount of a container's resources.
pub(super) fn resource_selector(at: &At<'_>, needs_container: bool) -> ErrorList {
    let (container, resource) = (at.get("containerName"), at.get("resource"));
    let mut errors = ErrorList::new();
    let huge = ["requests.hugepages-", "limits.hugepages-"]
        .iter()
        .any(|prefix| resource.text().starts_with(prefix));
    if needs_container && container.text().is_empty() {
        errors.push(Error::required(&container.path, ""));
    } else if resource.text().is_empty() {
        errors.push(Error::required(&resource.path, ""));
    } else if !RESOURCES.contains(&resource.text()) && !huge {
        errors.push(Error::not_supported(
            &resource.path,
            resource.text(),
            &RESOURCES,
        ));
    }
    errors.extend(divisor(at, resource.text()));
    errors
}

fn divisor(at: &At<'_>, resource: &str) -> ErrorList {
    const BYTES: [&str; 13] = [
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let divisor = at.get("divisor");
    let Some(quantity) = resources::quantity(divisor.value).filter(|quantity| !quantity.is_zero())
    else {
        return ErrorList::new();
    };
    let shown = quantity.canonical();
    let (allowed, listed, what): (&[&str], &str, &str) =
        match resource.split_once('.').map(|(_, name)| name) {
            Some("cpu") => (&["1m", "1"], "1m and 1", "cpu"),
            Some("memory") => (&BYTES, "", "memory"),
            Some("ephemeral-storage") => (&BYTES, "", "local ephemeral storage"),
            Some(name) if name.starts_with("hugepages-") => (&BYTES, "", "hugepages"),
            _ => return ErrorList::new(),
        };
    if allowed.contains(&shown.as_str()) {
        return ErrorList::new();
    }
    let listed = if listed.is_empty() {
        BYTES.join(", ")
    } else {
        listed.to_owned()
    };
    vec![Error::invalid(
        &divisor.path,
        resource,
        format!("only divisor's values {listed} are supported with the {what} resource"),
    )]
}

fn object_key(at: &At<'_>) -> ErrorList {
    let (name, key) = (at.get("name"), at.get("key"));
    let mut errors = invalid_text(&name, names::dns1123_subdomain(name.text()));
    match key.text() {
        "" => errors.push(Error::required(&key.path, "")),
        text => errors.extend(invalid_text(&key, names::config_map_key(text))),
    }
    errors
}

fn file_key(at: &At<'_>) -> ErrorList {
    let (key, volume, path) = (at.get("key"), at.get("volumeName"), at.get("path"));
    let mut errors = ErrorList::new();
    match key.text() {
        "" => errors.push(Error::required(&key.path, "")),
        text => errors.extend(invalid_text(&key, names::env_var_name(text))),
    }
    match volume.text() {
        "" => errors.push(Error::required(&volume.path, "")),
        text => errors.extend(invalid_text(&volume, names::dns1123_label(text))),
    }
    match path.text() {
        "" => errors.push(Error::required(&path.path, "")),
        text => errors.extend(super::volumes::no_backsteps(&path.path, text)),
    }
    errors
}

/// A container's `envFrom`.
pub(super) fn sources(env_from: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for item in env_from.items() {
        let prefix = item.get("prefix");
        if !prefix.text().is_empty() {
            errors.extend(invalid_text(&prefix, names::env_var_name(prefix.text())));
        }
        let given: Vec<At<'_>> = ["configMapRef", "secretRef"]
            .iter()
            .map(|name| item.get(name))
            .filter(At::given)
            .collect();
        for source in &given {
            let name = source.get("name");
            match name.text() {
                "" => errors.push(Error::required(&name.path, "")),
                text => errors.extend(invalid_text(&name, names::dns1123_subdomain(&masked(text)))),
            }
        }
        match given.len() {
            0 => errors.push(Error::invalid(
                &env_from.path,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            1 => {}
            _ => errors.push(Error::invalid(
                &env_from.path,
                "",
                "may not have more than one field specified at a time",
            )),
        }
    }
    errors
}

/// Upstream checks these names as prefixes, so they may end in a dash.
fn masked(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(stem) if !stem.is_empty() => format!("{stem}a"),
        _ => name.to_owned(),
    }
}
