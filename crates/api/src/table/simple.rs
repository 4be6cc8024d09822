//! Kinds whose rows are a field or two.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, Printer, age, entries, integer, labels, list, name, text, text_or};

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

pub(super) const DISRUPTION_BUDGETS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Min Available"),
        Column::text("Max Unavailable"),
        Column::integer("Allowed Disruptions"),
        Column::AGE,
    ],
    cells: |object, now| {
        vec![
            name(object),
            number_or_percent(&object["spec"]["minAvailable"]),
            number_or_percent(&object["spec"]["maxUnavailable"]),
            json!(integer(object, "/status/disruptionsAllowed")),
            age(object, now),
        ]
    },
};

pub(super) const PRIORITY_CLASSES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::integer("Value"),
        Column::boolean("Global-Default"),
        Column::AGE,
        Column::text("PreemptionPolicy"),
    ],
    cells: |object, now| {
        vec![
            name(object),
            json!(integer(object, "/value")),
            (object["globalDefault"] == true).into(),
            age(object, now),
            text(object, "/preemptionPolicy").into(),
        ]
    },
};

/// A number or a percentage as text.
fn number_or_percent(value: &Value) -> Value {
    match value {
        Value::Null => "N/A".into(),
        Value::String(percent) => percent.as_str().into(),
        number => number.to_string().into(),
    }
}

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

pub(super) const POD_TEMPLATES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Containers"),
        Column::text("Images"),
        Column::text("Pod Labels"),
    ],
    cells: |object, _| {
        let containers = list(object, "/template/spec/containers");
        vec![
            name(object),
            joined(containers, "name"),
            joined(containers, "image"),
            labels(object, "/template/metadata/labels").into(),
        ]
    },
};

/// A field of every container.
pub(super) fn joined(containers: &[Value], field: &str) -> Value {
    let words: Vec<&str> = containers
        .iter()
        .map(|c| c[field].as_str().unwrap_or_default())
        .collect();
    words.join(",").into()
}

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
