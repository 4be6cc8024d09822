//! Requests for certificates.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Printer, age, list, name, text, text_or};
use crate::duration;

pub(super) const REQUESTS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::AGE,
        Column::text("SignerName"),
        Column::text("Requestor"),
        Column::text("RequestedDuration"),
        Column::text("Condition"),
    ],
    cells,
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let seconds = object["spec"]["expirationSeconds"].as_i64();
    vec![
        name(object),
        age(object, now),
        text_or(object, "/spec/signerName", "<none>").into(),
        text(object, "/spec/username").into(),
        seconds
            .map_or_else(|| "<none>".to_owned(), duration::human)
            .into(),
        condition(object).into(),
    ]
}

fn condition(object: &Value) -> String {
    let has = |kind: &str| {
        let mut conditions = list(object, "/status/conditions").iter();
        conditions.any(|condition| text(condition, "/type") == kind)
    };
    let verdict = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    };
    let failed = if has("Failed") { ",Failed" } else { "" };
    let is_issued = !text(object, "/status/certificate").is_empty();
    let issued = if is_issued { ",Issued" } else { "" };
    format!("{verdict}{failed}{issued}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::table::tests::printed;

    #[test]
    fn rows_of_requests() {
        let condition = |kind: &str| json!({"type": kind, "status": "True"});
        for (seconds, status, expected) in [
            (json!(null), json!({}), "<none>|Pending"),
            (
                json!(3600),
                json!({"conditions": [condition("Approved")], "certificate": "YQ=="}),
                "60m|Approved,Issued",
            ),
            (
                json!(86400),
                json!({"conditions": [condition("Approved"), condition("Failed")]}),
                "24h|Approved,Failed",
            ),
            (
                json!(600),
                json!({"conditions": [condition("Denied")]}),
                "10m|Denied",
            ),
        ] {
            let object = json!({"metadata": {"name": "jane", "creationTimestamp": "2026-01-02T03:00:00Z"},
                "spec": {"signerName": "example.com/s", "username": "me", "expirationSeconds": seconds}, "status": status});
            assert_eq!(
                printed("certificatesigningrequests.certificates.k8s.io", &object),
                format!("jane|10m|example.com/s|me|{expected}")
            );
        }
    }
}
