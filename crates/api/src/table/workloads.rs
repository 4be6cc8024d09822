//! Kinds that make Pods, and what says how many of them there are.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::simple::joined;
use super::{Column, Printer, age, integer, labels, list, name, text};
use crate::selector::Selector;

pub(super) const DEPLOYMENTS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Ready"),
        Column::text("Up-to-date"),
        Column::text("Available"),
        Column::AGE,
        Column::wide("Containers"),
        Column::wide("Images"),
        Column::wide("Selector"),
    ],
    cells: deployment,
};

const COUNTED: &[Column] = &[
    Column::NAME,
    Column::integer("Desired"),
    Column::integer("Current"),
    Column::integer("Ready"),
    Column::AGE,
    Column::wide("Containers"),
    Column::wide("Images"),
    Column::wide("Selector"),
];

pub(super) const REPLICA_SETS: Printer = Printer {
    columns: COUNTED,
    cells: |object, now| {
        let mut cells = counts(object, now);
        cells.push(formatted_selector(&object["spec"]["selector"]));
        cells
    },
};

pub(super) const REPLICATION_CONTROLLERS: Printer = Printer {
    columns: COUNTED,
    cells: |object, now| {
        let mut cells = counts(object, now);
        cells.push(labels(object, "/spec/selector").into());
        cells
    },
};

pub(super) const DAEMON_SETS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::integer("Desired"),
        Column::integer("Current"),
        Column::integer("Ready"),
        Column::integer("Up-to-date"),
        Column::integer("Available"),
        Column::text("Node Selector"),
        Column::AGE,
        Column::wide("Containers"),
        Column::wide("Images"),
        Column::wide("Selector"),
    ],
    cells: daemon_set,
};

pub(super) const STATEFUL_SETS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Ready"),
        Column::AGE,
        Column::wide("Containers"),
        Column::wide("Images"),
    ],
    cells: |object, now| {
        let containers = list(object, "/spec/template/spec/containers");
        vec![
            name(object),
            ready(object).into(),
            age(object, now),
            joined(containers, "name"),
            joined(containers, "image"),
        ]
    },
};

pub(super) const REVISIONS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Controller"),
        Column::text("Revision"),
        Column::AGE,
    ],
    cells: |object, now| {
        vec![
            name(object),
            controller(object).into(),
            json!(integer(object, "/revision")),
            age(object, now),
        ]
    },
};

/// The subresource `scale` of any of them.
pub(super) const SCALES: Printer = Printer {
    columns: &[
        Column::text("Name"),
        Column::integer("Desired"),
        Column::integer("Available"),
        Column::AGE,
    ],
    cells: |object, now| {
        vec![
            name(object),
            json!(integer(object, "/spec/replicas")),
            json!(integer(object, "/status/replicas")),
            age(object, now),
        ]
    },
};

fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let containers = list(object, "/spec/template/spec/containers");
    let selector = Selector::from_value(&object["spec"]["selector"]);
    vec![
        name(object),
        ready(object).into(),
        json!(integer(object, "/status/updatedReplicas")),
        json!(integer(object, "/status/availableReplicas")),
        age(object, now),
        joined(containers, "name"),
        joined(containers, "image"),
        selector.map_or("<invalid>".into(), |selector| selector.to_string().into()),
    ]
}

/// How many are ready of those there should be.
fn ready(object: &Value) -> String {
    let ready = integer(object, "/status/readyReplicas");
    format!("{ready}/{}", integer(object, "/spec/replicas"))
}

fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let count = |name: &str| json!(integer(object, &format!("/status/{name}")));
    let containers = list(object, "/spec/template/spec/containers");
    vec![
        name(object),
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("numberReady"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        labels(object, "/spec/template/spec/nodeSelector").into(),
        age(object, now),
        joined(containers, "name"),
        joined(containers, "image"),
        formatted_selector(&object["spec"]["selector"]),
    ]
}

/// `daemonset.apps/name` of the owner that controls an object.
fn controller(object: &Value) -> String {
    let mut owners = list(object, "/metadata/ownerReferences").iter();
    let Some(owner) = owners.find(|owner| owner["controller"] == true) else {
        return "<none>".to_owned();
    };
    let (kind, name) = (text(owner, "/kind").to_lowercase(), text(owner, "/name"));
    match text(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

/// How many there should be, are and are ready, and what they run.
fn counts(object: &Value, now: Timestamp) -> Vec<Value> {
    let containers = list(object, "/spec/template/spec/containers");
    vec![
        name(object),
        json!(integer(object, "/spec/replicas")),
        json!(integer(object, "/status/replicas")),
        json!(integer(object, "/status/readyReplicas")),
        age(object, now),
        joined(containers, "name"),
        joined(containers, "image"),
    ]
}

/// A selector as it is typed, or words for what it is instead.
pub(super) fn formatted_selector(selector: &Value) -> Value {
    match Selector::from_value(selector).map(|selector| selector.to_string()) {
        Err(_) => "<error>".into(),
        Ok(text) if text.is_empty() => "<none>".into(),
        Ok(text) => text.into(),
    }
}
