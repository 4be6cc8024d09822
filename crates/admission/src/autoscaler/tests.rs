use serde_json::{Value, json};

use crate::{Subresource, default, prepare_create, prepare_update, validate_create};

const KIND: &str = "horizontalpodautoscalers.autoscaling";

fn autoscaler(spec: Value) -> Value {
    let mut object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web", "namespace": "d", "resourceVersion": "1"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 5}});
    for (name, value) in spec.as_object().into_iter().flatten() {
        object["spec"][name] = value.clone();
    }
    object
}

fn errors(spec: Value) -> Vec<String> {
    let mut object = autoscaler(spec);
    default(KIND, &mut object);
    let found = validate_create(KIND, &object);
    found.iter().map(ToString::to_string).collect()
}

fn changed(spec: Value, old: Value) -> Vec<String> {
    let [mut new, mut old] = [spec, old].map(autoscaler);
    default(KIND, &mut new);
    default(KIND, &mut old);
    let found = crate::validate_update(KIND, Subresource::Main, &new, &old);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_not_said_is_filled_in() {
    let mut object = autoscaler(json!({"behavior": {"scaleUp": {"selectPolicy": "Min"}}}));
    default(KIND, &mut object);
    assert_eq!(object["spec"]["minReplicas"], 1);
    assert_eq!(
        object["spec"]["metrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}])
    );
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    assert_eq!(
        object["spec"]["behavior"],
        json!({
            "scaleUp": {"selectPolicy": "Min", "stabilizationWindowSeconds": 0, "policies": [pods, percent]},
            "scaleDown": {"selectPolicy": "Max", "policies": [percent]},
        })
    );
    let mut plain = autoscaler(json!({}));
    default(KIND, &mut plain);
    assert_eq!(
        plain["spec"].get("behavior"),
        None,
        "the old rules stay in force"
    );
}

#[test]
fn autoscalers_are_refused_in_upstreams_words() {
    let cpu = |target: Value| json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
    let down = |rules: Value| json!({"behavior": {"scaleDown": rules}});
    let policy = |kind: &str, value: i64, period: i64| json!([{"type": kind, "value": value, "periodSeconds": period}]);
    for (behaviour, spec, expected) in [
        ("one that is right", json!({}), vec![]),
        (
            "no maximum",
            json!({"maxReplicas": 0}),
            vec![
                "spec.maxReplicas: Required value: must be set and greater than 0",
                "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ],
        ),
        (
            "bounds that cross",
            json!({"minReplicas": 7}),
            vec![
                "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
            ],
        ),
        (
            "none at all",
            json!({"minReplicas": 0}),
            vec![
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
        (
            "a target without a group",
            json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}}),
            vec![
                "spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group",
            ],
        ),
        (
            "a ReplicationController, which has none",
            json!({"scaleTargetRef": {"kind": "ReplicationController", "name": "web"}}),
            vec![],
        ),
        (
            "a target without words",
            json!({"scaleTargetRef": {"apiVersion": "a/b/c", "name": "a/b"}}),
            vec![
                "spec.scaleTargetRef.kind: Required value",
                "spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'",
                "spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            ],
        ),
        (
            "a metric of no kind",
            json!({"metrics": [{}]}),
            vec![
                "spec.metrics[0].type: Required value: must specify a metric source type",
                "spec.metrics[0].type: Unsupported value: \"\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
            ],
        ),
        (
            "a metric of another kind",
            json!({"metrics": [{"type": "Pods", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}}}]}),
            vec![
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ],
        ),
        (
            "two metrics in one",
            json!({"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 1}}, "pods": {}}]}),
            vec![
                "spec.metrics[0].pods.metric.name: Required value: must specify a metric name",
                "spec.metrics[0].pods.target.type: Required value: must specify a metric target type",
                "spec.metrics[0].pods.target.type: Invalid value: \"\": must be either Utilization, Value, or AverageValue",
                "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue",
                "spec.metrics[0].pods: Forbidden: must populate the given metric source only",
            ],
        ),
        (
            "a target without a value",
            json!({"metrics": cpu(json!({"type": "Utilization"}))}),
            vec![
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
            ],
        ),
        (
            "a target with two values, both wrong",
            json!({"metrics": cpu(json!({"type": "Utilization", "averageUtilization": 0, "averageValue": "0"}))}),
            vec![
                "spec.metrics[0].resource.target.averageValue: Invalid value: \"0\": must be positive",
                "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
                "spec.metrics[0].resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization",
            ],
        ),
        (
            "a container without a name",
            json!({"metrics": [{"type": "ContainerResource", "containerResource": {"name": "fast", "target": {"type": "AverageValue", "averageValue": "1"}}}]}),
            vec![
                "spec.metrics[0].containerResource.name: Invalid value: \"fast\": must be a standard resource type or fully qualified",
                "spec.metrics[0].containerResource.name: Invalid value: \"fast\": must be a standard resource for containers",
                "spec.metrics[0].containerResource.container: Required value: must specify a container",
            ],
        ),
        (
            "an external metric with two targets",
            json!({"metrics": [{"type": "External", "external": {"metric": {"name": "a%"}, "target": {"type": "Value", "value": "1", "averageValue": "1"}}}]}),
            vec![
                "spec.metrics[0].external.metric.name: Invalid value: \"a%\": may not contain '%'",
                "spec.metrics[0].external.target.value: Forbidden: may not set both a target value for metric and a per-pod target",
            ],
        ),
        (
            "an object without a target",
            json!({"metrics": [{"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"}, "target": {"type": "Value"}}}]}),
            vec![
                "spec.metrics[0].object.target.averageValue: Required value: must set either a target value or averageValue",
            ],
        ),
        (
            "a window that is too long",
            down(json!({"stabilizationWindowSeconds": 3601, "tolerance": "-1"})),
            vec![
                "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                "spec.behavior.scaleDown.tolerance: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
        (
            "a window before the present",
            down(json!({"stabilizationWindowSeconds": -1, "policies": [], "selectPolicy": "max"})),
            vec![
                "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero",
                "spec.behavior.scaleDown.selectPolicy: Unsupported value: \"max\": supported values: \"Disabled\", \"Max\", \"Min\"",
                "spec.behavior.scaleDown.policies: Required value: must specify at least one Policy",
            ],
        ),
        (
            "policies of nothing",
            down(json!({"policies": policy("All", 0, 0)})),
            vec![
                "spec.behavior.scaleDown.policies[0].type: Unsupported value: \"All\": supported values: \"Percent\", \"Pods\"",
                "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 0: must be greater than zero",
            ],
        ),
        (
            "a policy for too long",
            down(json!({"policies": policy("Pods", 1, 1801)})),
            vec![
                "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
            ],
        ),
    ] {
        assert_eq!(errors(spec), expected, "{behaviour}");
    }
}

#[test]
fn what_was_allowed_once_stays_allowed() {
    let bare = json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}});
    assert_eq!(changed(bare.clone(), bare.clone()), Vec::<String>::new());
    assert_eq!(changed(bare, json!({})).len(), 1);
    let external = json!([{"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}}]);
    let zero = json!({"minReplicas": 0, "metrics": external});
    assert_eq!(changed(zero.clone(), zero), Vec::<String>::new());
}

#[test]
fn status_has_its_own_path() {
    let mut object = autoscaler(json!({}));
    object["status"] = json!({"currentReplicas": 9});
    prepare_create(KIND, &mut object);
    assert_eq!(object.get("status"), None);
    assert_eq!(object["metadata"].get("generation"), None);
    let mut new = object.clone();
    new["spec"]["maxReplicas"] = 9.into();
    new["status"] = json!({"currentReplicas": 3});
    let mut report = new.clone();
    prepare_update(KIND, Subresource::Main, &mut new, &object);
    assert_eq!(
        (new["spec"]["maxReplicas"].as_i64(), new.get("status")),
        (Some(9), None)
    );
    prepare_update(KIND, Subresource::Status, &mut report, &object);
    assert_eq!(report["spec"], object["spec"]);
    assert_eq!(report["status"]["currentReplicas"], 3);
    report["status"]["currentReplicas"] = (-1).into();
    let found = crate::validate_update(KIND, Subresource::Status, &report, &object);
    assert_eq!(
        found[0].to_string(),
        "status.currentReplicas: Invalid value: -1: must be greater than or equal to 0"
    );
}

#[test]
fn one_of_v1_is_looked_at_as_one_of_v2() {
    let key = "autoscaling.alpha.kubernetes.io/metrics";
    let metrics = json!([{"type": "Pods", "pods": {"metricName": "m", "targetAverageValue": "0"}}]);
    let mut object = autoscaler(json!({"targetCPUUtilizationPercentage": 0}));
    object["apiVersion"] = "autoscaling/v1".into();
    object["metadata"]["annotations"] = json!({key: metrics.to_string()});
    default(KIND, &mut object);
    assert_eq!(object["spec"]["minReplicas"], 1);
    assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 0);
    let found = validate_create(KIND, &object);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "spec.metrics[0].pods.target.averageValue: Invalid value: \"0\": must be positive",
            "spec.metrics[1].resource.target.averageUtilization: Invalid value: 0: must be greater than 0"
        ]
    );
}
