use serde_json::{Value, json};

use super::*;
use crate::schema::Schema;
use crate::validate::decode_value;

fn as_v1(object: &Value) -> Value {
    let mut map = object.as_object().unwrap().clone();
    to_autoscaler_v1(&mut map);
    map.into()
}

fn as_v2(object: &Value) -> Value {
    let mut map = object.as_object().unwrap().clone();
    to_autoscaler_v2(&mut map);
    map.into()
}

fn fits(object: &Value, version: &str) {
    let ty = Schema::get().of("autoscaling", version, "HorizontalPodAutoscaler");
    let decoded = decode_value(object, ty.unwrap()).unwrap();
    assert!(decoded.problems.is_empty(), "{object}");
}

fn full() -> Value {
    let selector = json!({"matchLabels": {"a": "b"}});
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "annotations": {"mine": "1"}},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 2, "maxReplicas": 5,
            "metrics": [
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 60}}},
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "64Mi"}}},
                {"type": "Pods", "pods": {"metric": {"name": "m", "selector": selector}, "target": {"type": "AverageValue", "averageValue": "5"}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"}, "target": {"type": "Value", "value": "7"}}},
                {"type": "External", "external": {"metric": {"name": "q", "selector": selector}, "target": {"type": "AverageValue", "averageValue": "30"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "tolerance": "50m",
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}}
        },
        "status": {
            "currentReplicas": 2, "desiredReplicas": 3,
            "currentMetrics": [
                {"type": "Resource", "resource": {"name": "memory", "current": {"averageValue": "32Mi"}}},
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12, "averageValue": "120m"}}}
            ],
            "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z", "reason": "ReadyForNewScale", "message": "<ok>"}]
        }
    })
}

#[test]
fn what_v1_has_no_field_for_is_in_annotations() {
    let (new, old) = (full(), as_v1(&full()));
    fits(&new, "v2");
    fits(&old, "v1");
    assert_eq!(old["apiVersion"], "autoscaling/v1");
    assert_eq!(old["spec"]["targetCPUUtilizationPercentage"], 50);
    assert_eq!(old["status"]["currentCPUUtilizationPercentage"], 12);
    let annotation = |key: &str| old["metadata"]["annotations"][key].as_str().unwrap();
    let metrics: Value = serde_json::from_str(annotation(METRICS)).unwrap();
    assert_eq!(metrics.as_array().map(Vec::len), Some(5));
    assert_eq!(
        metrics[3],
        json!({"type": "Object", "object": {"target": {"kind": "Service", "name": "s"}, "metricName": "m", "targetValue": "7"}})
    );
    assert!(annotation(BEHAVIOR).contains(r#""StabilizationWindowSeconds":0"#));
    assert!(annotation(CONDITIONS).contains(r"\u003cok\u003e"));
    assert_eq!(as_v2(&old), new, "and comes back");
}

#[test]
fn a_plain_autoscaler_of_v1_is_one_of_cpu() {
    let target = json!({"kind": "Deployment", "name": "web"});
    for (given, expected) in [(json!(null), 80), (json!(30), 30)] {
        let mut old = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
            "spec": {"scaleTargetRef": target, "maxReplicas": 3}});
        if !given.is_null() {
            old["spec"]["targetCPUUtilizationPercentage"] = given;
        }
        let new = as_v2(&old);
        fits(&new, "v2");
        let metrics = json!([cpu_utilization(Some(expected.into()))]);
        assert_eq!(new["spec"]["metrics"], metrics);
        old["spec"]["targetCPUUtilizationPercentage"] = expected.into();
        assert_eq!(as_v1(&new), old);
    }
}

#[test]
fn what_was_left_out_is_left_out_again() {
    let average = json!({"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "3"}}});
    let mut new = full();
    new["spec"]["metrics"] = json!([average]);
    assert_eq!(as_v2(&as_v1(&new)), new);
}

#[test]
fn annotations_that_cannot_be_read_are_dropped() {
    let mut old = as_v1(&full());
    for key in [METRICS, BEHAVIOR, CONDITIONS, CURRENT_METRICS] {
        old["metadata"]["annotations"][key] = "{".into();
    }
    let new = as_v2(&old);
    assert_eq!(new["metadata"]["annotations"], json!({"mine": "1"}));
    assert_eq!(
        new["spec"]["metrics"],
        json!([cpu_utilization(Some(50.into()))])
    );
    assert_eq!(new["spec"].get("behavior"), None);
    assert_eq!(
        new["status"]["currentMetrics"][0]["resource"]["current"],
        json!({"averageUtilization": 12})
    );
}
