//! What a namespace may have.

use serde_json::Value;

use super::{Column, Printer, age, name};
use crate::quantity::Quantity;

pub(super) const QUOTAS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Request"),
        Column::text("Limit"),
        Column::AGE,
    ],
    cells: |quota, now| {
        let is_limit = |name: &str| name.starts_with("limits.");
        vec![
            name(quota),
            amounts(quota, |name| !is_limit(name)).into(),
            amounts(quota, is_limit).into(),
            age(quota, now),
        ]
    },
};

/// `cpu: 1/2, pods: 0/5`: used of hard, by name.
fn amounts(quota: &Value, is_shown: impl Fn(&str) -> bool) -> String {
    let status = &quota["status"];
    let hard = status["hard"].as_object().into_iter().flatten();
    let mut names: Vec<&String> = hard.map(|(name, _)| name).collect();
    names.retain(|name| is_shown(name));
    names.sort_unstable();
    let shown = names.into_iter().map(|name| {
        let [used, hard] = ["used", "hard"].map(|list| amount(&status[list][name]));
        format!("{name}: {used}/{hard}")
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn amount(value: &Value) -> String {
    match Quantity::from_json(value) {
        Ok(quantity) => quantity.to_string(),
        Err(_) => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::table::tests::printed;

    #[test]
    fn rows_of_quotas() {
        for (behaviour, object, expected) in [
            (
                "a quota that nobody has counted",
                json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}}),
                "q|||<unknown>",
            ),
            (
                "a quota",
                json!({"metadata": {"name": "q", "creationTimestamp": "2026-01-02T03:00:00Z"},
                       "status": {"hard": {"requests.cpu": "2000m", "pods": "5", "limits.cpu": "4", "limits.memory": "1Gi"}, "used": {"requests.cpu": "1500m", "limits.cpu": "3"}}}),
                "q|pods: 0/5, requests.cpu: 1500m/2|limits.cpu: 3/4, limits.memory: 0/1Gi|10m",
            ),
        ] {
            assert_eq!(printed("resourcequotas", &object), expected, "{behaviour}");
        }
    }
}
