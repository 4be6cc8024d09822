//! Server-side printing: what `Accept: …;as=Table` gets (spec kubectl-and-api §12).
//!
//! [`columns`] and [`cells`] say how a kind prints, one file per family of kinds; [`Table`] puts rows together. Pure functions over
//! JSON objects; the time is an argument. Resources are named as `GroupResource` prints them (`pods`,
//! `endpointslices.discovery.k8s.io`); those without a printer of their own show their name and when they were created.

mod autoscaling;
mod certificates;
mod drivers;
mod endpoints;
mod event;
mod jobs;
mod networking;
mod node;
mod pod;
mod quotas;
mod service;
mod simple;
mod storage;
#[cfg(test)]
mod tests;
mod workloads;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::duration;

/// What each row carries besides its cells (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; absent or empty is [`IncludeObject::Metadata`], an unknown word is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its heading, in title case.
    pub name: &'static str,
    /// `string`, `integer`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the column that identifies the row, else empty.
    pub format: &'static str,
    /// 0 is always shown, more only with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// The column of the object's name.
    const NAME: Self = Self {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 0,
    };
    /// The column of the object's age.
    const AGE: Self = Self::text("Age");

    const fn text(name: &'static str) -> Self {
        Self {
            name,
            kind: "string",
            format: "",
            priority: 0,
        }
    }

    const fn integer(name: &'static str) -> Self {
        Self {
            name,
            kind: "integer",
            format: "",
            priority: 0,
        }
    }

    const fn boolean(name: &'static str) -> Self {
        Self {
            name,
            kind: "boolean",
            format: "",
            priority: 0,
        }
    }

    const fn wide(name: &'static str) -> Self {
        Self {
            name,
            kind: "string",
            format: "",
            priority: 1,
        }
    }

    /// The column as it is on the wire.
    pub fn to_json(&self) -> Value {
        json!({"name": self.name, "type": self.kind, "format": self.format, "description": describe(self.name), "priority": self.priority})
    }
}

fn describe(name: &str) -> String {
    match name {
        "Name" => "Name of the object, unique among its kind in its namespace".to_owned(),
        "Age" => "Time since the object was created".to_owned(),
        "Created At" => "When the object was created".to_owned(),
        other => format!("{other} of the object"),
    }
}

/// How one kind prints.
struct Printer {
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

fn printer(resource: &str) -> Printer {
    match resource {
        "pods" => pod::PRINTER,
        "nodes" => node::PRINTER,
        "podtemplates" => simple::POD_TEMPLATES,
        "persistentvolumeclaims" => storage::CLAIMS,
        "persistentvolumes" => storage::VOLUMES,
        "storageclasses.storage.k8s.io" => storage::CLASSES,
        "csidrivers.storage.k8s.io" => drivers::DRIVERS,
        "csinodes.storage.k8s.io" => drivers::NODES,
        "csistoragecapacities.storage.k8s.io" => drivers::CAPACITIES,
        "volumeattachments.storage.k8s.io" => drivers::ATTACHMENTS,
        "volumeattributesclasses.storage.k8s.io" => drivers::ATTRIBUTES,
        "resourcequotas" => quotas::QUOTAS,
        "services" => service::PRINTER,
        "endpoints" => endpoints::ENDPOINTS,
        "endpointslices.discovery.k8s.io" => endpoints::SLICES,
        "events" | "events.events.k8s.io" => event::PRINTER,
        "namespaces" => simple::NAMESPACES,
        "configmaps" => simple::CONFIG_MAPS,
        "secrets" => simple::SECRETS,
        "serviceaccounts" => simple::SERVICE_ACCOUNTS,
        "replicationcontrollers" => workloads::REPLICATION_CONTROLLERS,
        "jobs.batch" => jobs::JOBS,
        "cronjobs.batch" => jobs::CRON_JOBS,
        "controllerrevisions.apps" => workloads::REVISIONS,
        "daemonsets.apps" => workloads::DAEMON_SETS,
        "statefulsets.apps" => workloads::STATEFUL_SETS,
        "deployments.apps" => workloads::DEPLOYMENTS,
        "replicasets.apps" => workloads::REPLICA_SETS,
        "horizontalpodautoscalers.autoscaling" => autoscaling::AUTOSCALERS,
        "certificatesigningrequests.certificates.k8s.io" => certificates::REQUESTS,
        "scales.autoscaling" => workloads::SCALES,
        "ingresses.networking.k8s.io" => networking::INGRESSES,
        "ingressclasses.networking.k8s.io" => networking::CLASSES,
        "networkpolicies.networking.k8s.io" => networking::POLICIES,
        "ipaddresses.networking.k8s.io" => networking::ADDRESSES,
        "servicecidrs.networking.k8s.io" => networking::RANGES,
        "poddisruptionbudgets.policy" => simple::DISRUPTION_BUDGETS,
        "priorityclasses.scheduling.k8s.io" => simple::PRIORITY_CLASSES,
        "leases.coordination.k8s.io" => simple::LEASES,
        "runtimeclasses.node.k8s.io" => simple::RUNTIME_CLASSES,
        _ => simple::GENERIC,
    }
}

/// The columns of a resource.
pub fn columns(resource: &str) -> &'static [Column] {
    printer(resource).columns
}

/// The cells of an object, one per column.
pub fn cells(resource: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    (printer(resource).cells)(object, now)
}

/// One row, with what `include` asks for.
pub fn row(resource: &str, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let mut row = json!({"cells": cells(resource, object, now)});
    let attached = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => {
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
        }
        IncludeObject::Object => object.clone(),
    };
    row["object"] = attached;
    if resource == "pods"
        && let Some(conditions) = pod::row_conditions(object)
    {
        row["conditions"] = conditions;
    }
    row
}

/// What a table of several objects is made from.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Which resource, as `GroupResource` prints it.
    pub resource: &'a str,
    /// What rows carry.
    pub include: IncludeObject,
    /// Whether to say what the columns are; in a watch only the first event needs to.
    pub with_columns: bool,
    /// The time ages are counted to.
    pub now: Timestamp,
}

impl Table<'_> {
    /// The `Table` of `objects`. `metadata` is the list's (`resourceVersion`, `continue`, …), or the object's own
    /// `resourceVersion` for a single one.
    pub fn of<'v>(&self, metadata: Value, objects: impl IntoIterator<Item = &'v Value>) -> Value {
        let rows: Vec<Value> = objects
            .into_iter()
            .map(|object| row(self.resource, object, self.include, self.now))
            .collect();
        let definitions: Value = match self.with_columns {
            true => columns(self.resource).iter().map(Column::to_json).collect(),
            false => Value::Null,
        };
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": definitions, "rows": rows})
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or("")
}

fn text_or<'a>(object: &'a Value, pointer: &str, absent: &'a str) -> &'a str {
    match text(object, pointer) {
        "" => absent,
        found => found,
    }
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn integer(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn entries(object: &Value, pointer: &str) -> usize {
    object
        .pointer(pointer)
        .and_then(Value::as_object)
        .map_or(0, serde_json::Map::len)
}

fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    text(object, pointer).parse().ok()
}

fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

fn age(object: &Value, now: Timestamp) -> Value {
    since(time(object, "/metadata/creationTimestamp"), now).into()
}

fn since(then: Option<Timestamp>, now: Timestamp) -> String {
    duration::age(then, now)
}

/// Labels as `k=v,k=v` in key order.
fn labels(object: &Value, pointer: &str) -> String {
    let mut pairs: Vec<String> = object
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    pairs.sort_unstable();
    if pairs.is_empty() {
        "<none>".to_owned()
    } else {
        pairs.join(",")
    }
}

/// The first `most` of them, and how many more there are.
fn capped(items: &[String], most: usize) -> String {
    let shown = items
        .iter()
        .take(most)
        .cloned()
        .collect::<Vec<_>>()
        .join(",");
    match items.len().checked_sub(most) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} + {more} more..."),
    }
}
