//! What a status write may not claim (spec §3.7, §15.4).

use api::field::{Error, ErrorList};
use api::names;
use serde_json::Value;

use super::update;
use crate::meta::{self, invalid_text};
use crate::net;
use crate::view::{At, dig, get, list, text};

/// A write to `pods/…/status`.
pub(super) fn validate(new: &Value, old: &Value) -> ErrorList {
    let (status, before, spec) = (
        At::field(new, "status"),
        get(old, "status"),
        get(old, "spec"),
    );
    let mut errors = update::annotations(new, old);
    errors.extend(conditions(&status.get("conditions")));
    errors.extend(nominated_node(&status.get("nominatedNodeName"), old));
    let generation = status.get("observedGeneration");
    if let Some(value) = generation.int().filter(|value| *value < 0) {
        errors.push(Error::invalid(
            &generation.path,
            value,
            "must be a non-negative integer",
        ));
    }
    errors.extend(meta::immutable(
        &status.get("qosClass"),
        &Value::from(text(get(before, "qosClass"))),
    ));
    if !all_may_restart(spec) {
        for (field, containers) in [
            ("containerStatuses", "containers"),
            ("initContainerStatuses", "initContainers"),
        ] {
            errors.extend(transitions(
                &status.get(field),
                get(before, field),
                |name, code| may_restart(spec, containers, name, code),
            ));
        }
    }
    let field = "ephemeralContainerStatuses";
    errors.extend(transitions(
        &status.get(field),
        get(before, field),
        |_, _| false,
    ));
    errors.extend(addresses(&status.get("podIPs"), get(before, "podIPs")));
    errors.extend(host_addresses(&status, before));
    errors
}

fn conditions(conditions: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for condition in conditions.items() {
        let (kind, generation) = (condition.get("type"), condition.get("observedGeneration"));
        if let Some(value) = generation.int().filter(|value| *value < 0) {
            errors.push(Error::invalid(
                &generation.path,
                value,
                "must be a non-negative integer",
            ));
        }
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind.text()) {
            errors.extend(invalid_text(
                &kind.reported_at(condition.path.child("Type")),
                names::qualified_name(kind.text()),
            ));
        }
    }
    errors
}

fn nominated_node(name: &At<'_>, old: &Value) -> ErrorList {
    if name.text().is_empty() || name.text() == text(dig(old, &["status", "nominatedNodeName"])) {
        return ErrorList::new();
    }
    let mut errors = invalid_text(name, names::dns1123_subdomain(name.text()));
    if !text(dig(old, &["spec", "nodeName"])).is_empty() {
        errors.push(Error::forbidden(
            &name.path,
            "may not be set on pods that are already bound to a node",
        ));
    }
    errors
}

/// A container that has ended stays ended, unless its policy restarts it.
fn transitions(new: &At<'_>, old: &Value, may_restart: impl Fn(&str, i64) -> bool) -> ErrorList {
    let mut errors = ErrorList::new();
    for (i, before) in list(old).iter().enumerate() {
        let (ended, name) = (
            dig(before, &["state", "terminated"]),
            text(get(before, "name")),
        );
        if ended.is_null() {
            continue;
        }
        let after = list(new.value).iter().find(|after| {
            text(get(after, "name")) == name && dig(after, &["state", "terminated"]).is_null()
        });
        if after.is_some() && !may_restart(name, get(ended, "exitCode").as_i64().unwrap_or(0)) {
            errors.push(Error::forbidden(
                &new.path.index(i).child("state"),
                "may not be transitioned to non-terminated state",
            ));
        }
    }
    errors
}

/// Whether some container's rule restarts all of them.
fn all_may_restart(spec: &Value) -> bool {
    let containers = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|name| list(get(spec, name)));
    containers
        .flat_map(|container| list(get(container, "restartPolicyRules")))
        .any(|rule| text(get(rule, "action")) == "RestartAllContainers")
}

/// Whether the container of that name restarts after that exit code (KEP-5307): its rules, its policy, the Pod's.
fn may_restart(spec: &Value, field: &str, name: &str, code: i64) -> bool {
    let Some(container) = list(get(spec, field))
        .iter()
        .find(|container| update::name_of(container) == name)
    else {
        return false;
    };
    for rule in list(get(container, "restartPolicyRules")) {
        let listed = list(dig(rule, &["exitCodes", "values"]))
            .iter()
            .any(|value| value.as_i64() == Some(code));
        let hit = match text(dig(rule, &["exitCodes", "operator"])) {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        if hit && text(get(rule, "action")) == "Restart" {
            return true;
        }
    }
    let own = text(get(container, "restartPolicy"));
    match if own.is_empty() {
        text(get(spec, "restartPolicy"))
    } else {
        own
    } {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn addresses(ips: &At<'_>, old: &Value) -> ErrorList {
    let known: Vec<&str> = list(old).iter().map(|ip| text(get(ip, "ip"))).collect();
    let texts: Vec<&str> = list(ips.value)
        .iter()
        .map(|ip| text(get(ip, "ip")))
        .collect();
    let mut errors: ErrorList = ips
        .items()
        .flat_map(|ip| net::ip(&ip.path, ip.get("ip").text(), &known))
        .collect();
    if texts.len() > 1 && !net::one_per_family(&texts) {
        errors.push(structured_ips(ips, &texts));
    }
    errors
}

/// Upstream prints its own structures.
fn structured_ips(ips: &At<'_>, texts: &[&str]) -> Error {
    let items: Vec<String> = texts
        .iter()
        .map(|ip| format!(r#"{{"IP":{}}}"#, api::gotext::json(&Value::from(*ip))))
        .collect();
    let detail = format!(
        "[{}]: may specify no more than one IP for each IP family",
        items.join(",")
    );
    let mut error = Error::invalid(&ips.path, Value::Null, detail);
    error.value = None;
    error
}

fn host_addresses(status: &At<'_>, old: &Value) -> ErrorList {
    let (ips, ip) = (status.get("hostIPs"), status.get("hostIP"));
    let mut errors = ErrorList::new();
    let Some(first) = ips.items().next() else {
        return errors;
    };
    let first = first.get("ip");
    if first.text() != ip.text() {
        errors.push(Error::invalid(
            &first.path,
            first.text(),
            "must be equal to `hostIP`",
        ));
    }
    errors.extend(addresses(&ips, get(old, "hostIPs")));
    errors
}
