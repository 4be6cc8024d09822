//! Kinds whose rows are a field or two.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, Printer, age, entries, name, text, text_or};

pub(super) const NAMESPACES: Printer = Printer {
    columns: &[Column::NAME, Column::text("Status"), Column::AGE],
    cells: |object, now| {
        vec![
            name(object),
            text(object, "/status/phase").into(),
            age(object, now),
        ]
    },
};

pub(super) const CONFIG_MAPS: Printer = Printer {
    columns: &[Column::NAME, Column::integer("Data"), Column::AGE],
    cells: |object, now| {
        vec![
            name(object),
            json!(entries(object, "/data") + entries(object, "/binaryData")),
            age(object, now),
        ]
    },
};

pub(super) const SECRETS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Type"),
        Column::integer("Data"),
        Column::AGE,
    ],
    cells: |object, now| {
        vec![
            name(object),
            text(object, "/type").into(),
            json!(entries(object, "/data")),
            age(object, now),
        ]
    },
};

pub(super) const SERVICE_ACCOUNTS: Printer = Printer {
    columns: &[Column::NAME, Column::AGE],
    cells: |object, now| vec![name(object), age(object, now)],
};

pub(super) const LEASES: Printer = Printer {
    columns: &[Column::NAME, Column::text("Holder"), Column::AGE],
    cells: |object, now| {
        vec![
            name(object),
            text(object, "/spec/holderIdentity").into(),
            age(object, now),
        ]
    },
};

pub(super) const RUNTIME_CLASSES: Printer = Printer {
    columns: &[Column::NAME, Column::text("Handler"), Column::AGE],
    cells: |object, now| {
        vec![
            name(object),
            text(object, "/handler").into(),
            age(object, now),
        ]
    },
};

/// Kinds without a printer: the name, and when it was made.
pub(super) const GENERIC: Printer = Printer {
    columns: &[
        Column::NAME,
        Column {
            name: "Created At",
            kind: "date",
            format: "",
            priority: 0,
        },
    ],
    cells: generic,
};

fn generic(object: &Value, _: Timestamp) -> Vec<Value> {
    vec![
        name(object),
        text_or(object, "/metadata/creationTimestamp", "<unknown>").into(),
    ]
}
