//! Kinds of group networking.k8s.io.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::workloads::formatted_selector;
use super::{Column, Printer, age, list, name, text, text_or};

/// Hosts that are named before the rest is counted.
const HOSTS: usize = 3;

pub(super) const INGRESSES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Class"),
        Column::text("Hosts"),
        Column::text("Address"),
        Column::text("Ports"),
        Column::AGE,
    ],
    cells: ingress,
};

pub(super) const CLASSES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Controller"),
        Column::text("Parameters"),
        Column::AGE,
    ],
    cells: class,
};

pub(super) const POLICIES: Printer = Printer {
    columns: &[Column::NAME, Column::text("Pod-Selector"), Column::AGE],
    cells: |object, now| {
        let selector = formatted_selector(&object["spec"]["podSelector"]);
        vec![name(object), selector, age(object, now)]
    },
};

pub(super) const RANGES: Printer = Printer {
    columns: &[Column::NAME, Column::text("CIDRs"), Column::AGE],
    cells: |object, now| {
        let networks = list(object, "/spec/cidrs").iter();
        let networks: Vec<&str> = networks.filter_map(Value::as_str).collect();
        vec![name(object), networks.join(",").into(), age(object, now)]
    },
};

/// Upstream computes an age as well and has no column for it.
pub(super) const ADDRESSES: Printer = Printer {
    columns: &[Column::NAME, Column::text("ParentRef")],
    cells: |object, _| vec![name(object), parent(&object["spec"]["parentRef"]).into()],
};

fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let is_encrypted = !list(object, "/spec/tls").is_empty();
    vec![
        name(object),
        text_or(object, "/spec/ingressClassName", "<none>").into(),
        hosts(list(object, "/spec/rules")).into(),
        addresses(object).into(),
        if is_encrypted { "80, 443" } else { "80" }.into(),
        age(object, now),
    ]
}

/// The first hosts that rules name; what is said to come after them are rules, with a host or without.
fn hosts(rules: &[Value]) -> String {
    let mut shown = Vec::new();
    let mut has_more = false;
    for rule in rules {
        has_more |= shown.len() == HOSTS;
        let host = text(rule, "/host");
        if !has_more && !host.is_empty() {
            shown.push(host);
        }
    }
    if shown.is_empty() {
        return "*".to_owned();
    }
    let shown = shown.join(",");
    if has_more {
        return format!("{shown} + {} more...", rules.len() - HOSTS);
    }
    shown
}

fn addresses(object: &Value) -> String {
    let points = list(object, "/status/loadBalancer/ingress").iter();
    let points: BTreeSet<&str> = points
        .map(|point| text_or(point, "/ip", text(point, "/hostname")))
        .filter(|point| !point.is_empty())
        .collect();
    Vec::from_iter(points).join(",")
}

fn class(object: &Value, now: Timestamp) -> Vec<Value> {
    let is_default = text(
        object,
        "/metadata/annotations/ingressclass.kubernetes.io~1is-default-class",
    ) == "true";
    let mark = if is_default { " (default)" } else { "" };
    vec![
        format!("{}{mark}", text(object, "/metadata/name")).into(),
        text(object, "/spec/controller").into(),
        parameters(&object["spec"]["parameters"]).into(),
        age(object, now),
    ]
}

/// `Kind.group/name`.
fn parameters(reference: &Value) -> String {
    if reference.is_null() {
        return "<none>".to_owned();
    }
    let group = reference["apiGroup"].as_str();
    let group = group.map_or(String::new(), |group| format!(".{group}"));
    format!(
        "{}{group}/{}",
        text(reference, "/kind"),
        text(reference, "/name")
    )
}

/// `resource.group/namespace/name`, as far as given.
fn parent(reference: &Value) -> String {
    if reference.is_null() {
        return "<none>".to_owned();
    }
    let resource = match text(reference, "/group") {
        "" => text(reference, "/resource").to_lowercase(),
        group => format!("{}.{group}", text(reference, "/resource")).to_lowercase(),
    };
    let place = [text(reference, "/namespace"), text(reference, "/name")];
    let place: Vec<&str> = match place {
        ["", name] => vec![name],
        both => both.to_vec(),
    };
    format!("{resource}/{}", place.join("/"))
}
