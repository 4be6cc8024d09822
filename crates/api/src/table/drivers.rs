//! What drivers of the Container Storage Interface tell, and what is asked of them.

use serde_json::{Value, json};

use super::storage::amount;
use super::{Column, Printer, age, list, name, text};

pub(super) const DRIVERS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::boolean("AttachRequired"),
        Column::boolean("PodInfoOnMount"),
        Column::boolean("StorageCapacity"),
        Column::text("TokenRequests"),
        Column::boolean("RequiresRepublish"),
        Column::text("Modes"),
        Column::AGE,
    ],
    cells: |driver, now| {
        let spec = &driver["spec"];
        let words = |pointer, field: &str| -> Vec<String> {
            let items = list(driver, pointer).iter();
            let words = items.map(|item| match field {
                "" => item.as_str().unwrap_or_default().to_owned(),
                field => item[field].as_str().unwrap_or_default().to_owned(),
            });
            words.collect()
        };
        let tokens = match &spec["tokenRequests"] {
            Value::Null => "<unset>".to_owned(),
            _ => words("/spec/tokenRequests", "audience").join(","),
        };
        let modes = match words("/spec/volumeLifecycleModes", "").join(",") {
            none if none.is_empty() => "<none>".to_owned(),
            modes => modes,
        };
        vec![
            name(driver),
            (spec["attachRequired"] != false).into(),
            (spec["podInfoOnMount"] == true).into(),
            (spec["storageCapacity"] == true).into(),
            tokens.into(),
            (spec["requiresRepublish"] == true).into(),
            modes.into(),
            age(driver, now),
        ]
    },
};

pub(super) const NODES: Printer = Printer {
    columns: &[Column::NAME, Column::integer("Drivers"), Column::AGE],
    cells: |node, now| {
        let drivers = list(node, "/spec/drivers").len();
        vec![name(node), json!(drivers), age(node, now)]
    },
};

pub(super) const CAPACITIES: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("StorageClassName"),
        Column::text("Capacity"),
    ],
    cells: |capacity, _| {
        let free = match &capacity["capacity"] {
            Value::Null => "<unset>".to_owned(),
            _ => amount(capacity, "/capacity"),
        };
        vec![
            name(capacity),
            text(capacity, "/storageClassName").into(),
            free.into(),
        ]
    },
};

pub(super) const ATTACHMENTS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column {
            format: "name",
            ..Column::text("Attacher")
        },
        Column::text("PV"),
        Column::text("Node"),
        Column::boolean("Attached"),
        Column::AGE,
    ],
    cells: |attachment, now| {
        vec![
            name(attachment),
            text(attachment, "/spec/attacher").into(),
            text(attachment, "/spec/source/persistentVolumeName").into(),
            text(attachment, "/spec/nodeName").into(),
            (attachment["status"]["attached"] == true).into(),
            age(attachment, now),
        ]
    },
};

pub(super) const ATTRIBUTES: Printer = Printer {
    columns: &[Column::NAME, Column::text("DriverName"), Column::AGE],
    cells: |class, now| {
        vec![
            name(class),
            text(class, "/driverName").into(),
            age(class, now),
        ]
    },
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::table::tests::printed;

    #[test]
    fn rows_of_drivers() {
        for (resource, object, expected) in [
            (
                "csidrivers.storage.k8s.io",
                json!({"metadata": {"name": "d"}}),
                "d|true|false|false|<unset>|false|<none>|<unknown>",
            ),
            (
                "csidrivers.storage.k8s.io",
                json!({"metadata": {"name": "d"}, "spec": {"attachRequired": false, "podInfoOnMount": true, "storageCapacity": true, "tokenRequests": [{"audience": "a"}, {"audience": ""}], "requiresRepublish": true, "volumeLifecycleModes": ["Persistent", "Ephemeral"]}}),
                "d|false|true|true|a,|true|Persistent,Ephemeral|<unknown>",
            ),
            (
                "csinodes.storage.k8s.io",
                json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "d"}]}}),
                "n|1|<unknown>",
            ),
            (
                "csistoragecapacities.storage.k8s.io",
                json!({"metadata": {"name": "c"}, "storageClassName": "fast"}),
                "c|fast|<unset>",
            ),
            (
                "csistoragecapacities.storage.k8s.io",
                json!({"metadata": {"name": "c"}, "storageClassName": "fast", "capacity": "1024Mi"}),
                "c|fast|1Gi",
            ),
            (
                "volumeattachments.storage.k8s.io",
                json!({"metadata": {"name": "a"}, "spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}, "status": {"attached": true}}),
                "a|d|v|n|true|<unknown>",
            ),
            (
                "volumeattributesclasses.storage.k8s.io",
                json!({"metadata": {"name": "gold"}, "driverName": "d"}),
                "gold|d|<unknown>",
            ),
        ] {
            assert_eq!(printed(resource, &object), expected);
        }
    }
}
