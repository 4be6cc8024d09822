//! Autoscalers.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, Printer, age, integer, list, name, text};
use crate::quantity::Quantity;
use crate::resource::to_autoscaler_v2;

pub(super) const AUTOSCALERS: Printer = Printer {
    columns: &[
        Column::NAME,
        Column::text("Reference"),
        Column::text("Targets"),
        Column::text("MinPods"),
        Column::text("MaxPods"),
        Column::integer("Replicas"),
        Column::AGE,
    ],
    cells,
};

/// Metrics that are shown; of others only how many they are.
const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

/// Of one of v1 what it is in v2.
fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut object = object.clone();
    if object["apiVersion"] == "autoscaling/v1"
        && let Some(map) = object.as_object_mut()
    {
        to_autoscaler_v2(map);
    }
    let spec = &object["spec"];
    let target = &spec["scaleTargetRef"];
    let least = spec["minReplicas"].as_i64();
    vec![
        name(&object),
        format!("{}/{}", text(target, "/kind"), text(target, "/name")).into(),
        targets(&object).into(),
        least
            .map_or_else(|| "<unset>".to_owned(), |n| n.to_string())
            .into(),
        integer(&object, "/spec/maxReplicas").into(),
        integer(&object, "/status/currentReplicas").into(),
        age(&object, now),
    ]
}

/// What is and what should be, of the first metrics.
fn targets(object: &Value) -> String {
    let specs = list(object, "/spec/metrics");
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let statuses = list(object, "/status/currentMetrics");
    let specs = specs.iter().enumerate();
    let all = specs.map(|(n, spec)| target(spec, statuses.get(n).unwrap_or(&Value::Null)));
    let all: Vec<String> = all.collect();
    let shown = all[..all.len().min(SHOWN)].join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn target(spec: &Value, status: &Value) -> String {
    let kind = text(spec, "/type");
    let field = match kind {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (&spec[field]["target"], &status[field]["current"]);
    let average = || {
        format!(
            "{}/{}",
            amount(current, "averageValue"),
            amount(target, "averageValue")
        )
    };
    let is_average = !target["averageValue"].is_null();
    match field {
        "pods" => average(),
        "external" | "object" if is_average => format!("{} (avg)", average()),
        "external" | "object" => {
            format!("{}/{}", amount(current, "value"), amount(target, "value"))
        }
        _ => {
            let resource = text(&spec[field], "/name");
            if is_average {
                return format!("{resource}: {}", average());
            }
            let percent = |value: &Value, none: &str| {
                let percent = value["averageUtilization"].as_i64();
                percent.map_or_else(|| none.to_owned(), |percent| format!("{percent}%"))
            };
            let (is, wanted) = (percent(current, UNKNOWN), percent(target, "<auto>"));
            format!("{resource}: {is}/{wanted}")
        }
    }
}

fn amount(values: &Value, name: &str) -> String {
    let found = Quantity::from_json(&values[name]);
    found.map_or_else(|_| UNKNOWN.to_owned(), |amount| amount.canonical())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::table::tests::printed;

    fn shown(metrics: Value, current: Value) -> String {
        let object = json!({"metadata": {"name": "web", "creationTimestamp": "2026-01-02T03:00:00Z"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 4, "metrics": metrics},
            "status": {"currentReplicas": 2, "currentMetrics": current}});
        printed("horizontalpodautoscalers.autoscaling", &object)
    }

    #[test]
    fn rows_of_autoscalers() {
        let resource = |name: &str, field: &str, values: Value| json!({"type": "Resource", "resource": {"name": name, field: values}});
        let cpu = || resource("cpu", "target", json!({"averageUtilization": 50}));
        let memory = resource("memory", "target", json!({"averageValue": "1024Mi"}));
        let external = |target: Value| json!({"type": "External", "external": {"metric": {"name": "q"}, "target": target}});
        let used = resource("memory", "current", json!({"averageValue": "512Mi"}));
        let percent = resource("cpu", "current", json!({"averageUtilization": 12}));
        for (behaviour, metrics, current, expected) in [
            (
                "nothing was measured",
                json!([cpu()]),
                json!(null),
                "cpu: <unknown>/50%",
            ),
            ("percent", json!([cpu()]), json!([percent]), "cpu: 12%/50%"),
            (
                "amounts",
                json!([memory]),
                json!([used]),
                "memory: 512Mi/1Gi",
            ),
            (
                "two of three",
                json!([cpu(), memory, cpu()]),
                json!([{}]),
                "cpu: <unknown>/50%, memory: <unknown>/1Gi + 1 more...",
            ),
            (
                "what others measure",
                json!([
                    external(json!({"value": "3"})),
                    external(json!({"averageValue": "30"}))
                ]),
                json!([]),
                "<unknown>/3, <unknown>/30 (avg)",
            ),
            ("no metrics", json!([]), json!([]), "<none>"),
        ] {
            let expected = format!("web|Deployment/web|{expected}|1|4|2|10m");
            assert_eq!(shown(metrics, current), expected, "{behaviour}");
        }
        let old = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "web"}, "status": {"currentCPUUtilizationPercentage": 7},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 4, "targetCPUUtilizationPercentage": 60}});
        assert_eq!(
            printed("horizontalpodautoscalers.autoscaling", &old),
            "web|Deployment/web|cpu: 7%/60%|<unset>|4|0|<unknown>"
        );
    }
}
