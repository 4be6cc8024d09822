//! Volumes, claims for them, and classes of them.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Printer, age, list, name, text, text_or};
use crate::quantity::Quantity;
use crate::storage::{CLASS_ANNOTATION, DEFAULT_MARKS};

/// What is shown of a field that says nothing.
const UNSET: &str = "<unset>";
/// Modes of access in the order they are shown, and how.
const MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

pub(super) const VOLUMES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Capacity"),
        Column::text("Access Modes"),
        Column::text("Reclaim Policy"),
        Column::text("Status"),
        Column::text("Claim"),
        Column::text("StorageClass"),
        Column::text("VolumeAttributesClass"),
        Column::text("Reason"),
        Column::AGE,
        Column::wide("VolumeMode"),
    ],
    cells: |volume, now| {
        let claim = match &volume["spec"]["claimRef"] {
            Value::Null => String::new(),
            claim => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")),
        };
        vec![
            name(volume),
            amount(volume, "/spec/capacity/storage").into(),
            modes(volume, "/spec/accessModes").into(),
            text(volume, "/spec/persistentVolumeReclaimPolicy").into(),
            phase(volume).into(),
            claim.into(),
            class(volume).into(),
            given(volume, "/spec/volumeAttributesClassName").into(),
            text(volume, "/status/reason").into(),
            age(volume, now),
            given(volume, "/spec/volumeMode").into(),
        ]
    },
};

pub(super) const CLAIMS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Status"),
        Column::text("Volume"),
        Column::text("Capacity"),
        Column::text("Access Modes"),
        Column::text("StorageClass"),
        Column::text("VolumeAttributesClass"),
        Column::AGE,
        Column::wide("VolumeMode"),
    ],
    cells: claim,
};

pub(super) const CLASSES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Provisioner"),
        Column::text("ReclaimPolicy"),
        Column::text("VolumeBindingMode"),
        // Upstream shows a truth value in a column of text.
        Column::text("AllowVolumeExpansion"),
        Column::AGE,
    ],
    cells: |class, now| {
        let is_default = DEFAULT_MARKS
            .iter()
            .any(|mark| class["metadata"]["annotations"][mark] == "true");
        let mark = if is_default { " (default)" } else { "" };
        vec![
            format!("{}{mark}", text(class, "/metadata/name")).into(),
            text(class, "/provisioner").into(),
            text_or(class, "/reclaimPolicy", "Delete").into(),
            text_or(class, "/volumeBindingMode", "Immediate").into(),
            (class["allowVolumeExpansion"] == true).into(),
            age(class, now),
        ]
    },
};

/// What a claim got is shown once it has a volume.
fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    let volume = text(claim, "/spec/volumeName");
    let (capacity, got) = match volume {
        "" => (String::new(), String::new()),
        _ => (
            amount(claim, "/status/capacity/storage"),
            modes(claim, "/status/accessModes"),
        ),
    };
    vec![
        name(claim),
        phase(claim).into(),
        volume.into(),
        capacity.into(),
        got.into(),
        class(claim).into(),
        given(claim, "/spec/volumeAttributesClassName").into(),
        age(claim, now),
        given(claim, "/spec/volumeMode").into(),
    ]
}

fn phase(object: &Value) -> &str {
    match object["metadata"]["deletionTimestamp"].is_string() {
        true => "Terminating",
        false => text(object, "/status/phase"),
    }
}

fn class(object: &Value) -> &str {
    match object["metadata"]["annotations"][CLASS_ANNOTATION].as_str() {
        Some(class) => class,
        None => text(object, "/spec/storageClassName"),
    }
}

fn given<'a>(object: &'a Value, pointer: &str) -> &'a str {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or(UNSET)
}

pub(super) fn amount(object: &Value, pointer: &str) -> String {
    let quantity = object.pointer(pointer).map(Quantity::from_json);
    let quantity = quantity.and_then(Result::ok);
    quantity.map_or_else(|| "0".to_owned(), |quantity| quantity.to_string())
}

/// `RWO,ROX`, in one order, each once.
fn modes(object: &Value, pointer: &str) -> String {
    let given = list(object, pointer);
    let shown = MODES
        .iter()
        .filter(|(mode, _)| given.iter().any(|m| m == mode));
    let shown: Vec<&str> = shown.map(|(_, short)| *short).collect();
    shown.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::table::tests::printed;

    #[test]
    fn rows_of_storage() {
        const CLASSES: &str = "storageclasses.storage.k8s.io";
        for (behaviour, resource, object, expected) in [
            (
                "a volume of which everything is known",
                "persistentvolumes",
                json!({"metadata": {"name": "v", "creationTimestamp": "2026-01-02T03:00:00Z"},
                       "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce", "ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "d", "name": "c"}, "storageClassName": "fast", "volumeAttributesClassName": "gold", "volumeMode": "Filesystem"},
                       "status": {"phase": "Failed", "reason": "R"}}),
                "v|1Gi|RWO,RWX|Retain|Failed|d/c|fast|gold|R|10m|Filesystem",
            ),
            (
                "a volume of which nothing is known, on its way out",
                "persistentvolumes",
                json!({"metadata": {"name": "v", "deletionTimestamp": "2026-01-02T03:00:00Z", "annotations": {"volume.beta.kubernetes.io/storage-class": "old"}}, "spec": {"storageClassName": "new"}, "status": {"phase": "Bound"}}),
                "v|0|||Terminating||old|<unset>||<unknown>|<unset>",
            ),
            (
                "a claim that waits",
                "persistentvolumeclaims",
                json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending", "capacity": {"storage": "1Gi"}}}),
                "c|Pending|||||<unset>|<unknown>|<unset>",
            ),
            (
                "a claim that has a volume",
                "persistentvolumeclaims",
                json!({"metadata": {"name": "c"}, "spec": {"volumeName": "v", "storageClassName": "fast", "volumeMode": "Block"}, "status": {"phase": "Bound", "accessModes": ["ReadWriteOncePod"], "capacity": {"storage": "1024Mi"}}}),
                "c|Bound|v|1Gi|RWOP|fast|<unset>|<unknown>|Block",
            ),
            (
                "a class that says nothing",
                CLASSES,
                json!({"metadata": {"name": "s"}, "provisioner": "a.b/c"}),
                "s|a.b/c|Delete|Immediate|false|<unknown>",
            ),
            (
                "the default class",
                CLASSES,
                json!({"metadata": {"name": "s", "annotations": {"storageclass.beta.kubernetes.io/is-default-class": "true"}}, "provisioner": "a.b/c", "reclaimPolicy": "Retain", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true}),
                "s (default)|a.b/c|Retain|WaitForFirstConsumer|true|<unknown>",
            ),
        ] {
            assert_eq!(printed(resource, &object), expected, "{behaviour}");
        }
    }
}
