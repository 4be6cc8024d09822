//! Table tests of §7.1 and §7.2.

use super::*;
use serde_json::json;

fn patched(kind: &str, mut object: Value, patch: Value) -> Value {
    let (group, kind) = kind.split_once('/').unwrap_or(("", kind));
    let ty = Schema::get().of(group, "v1", kind).unwrap();
    strategic_merge(&mut object, patch, ty).unwrap();
    object
}

fn spec(object: Value, patch: Value) -> Value {
    patched("Pod", json!({"spec": object}), json!({"spec": patch}))["spec"].take()
}

fn refused(object: Value, patch: Value) -> String {
    let mut object = json!({"spec": object});
    let ty = Schema::get().of("", "v1", "Pod").unwrap();
    strategic_merge(&mut object, json!({"spec": patch}), ty)
        .unwrap_err()
        .to_string()
}

#[test]
fn lists_merge_by_key() {
    let containers = json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "2"}]});
    assert_eq!(
        spec(
            containers.clone(),
            json!({"containers": [{"name": "a", "image": "9", "env": [{"name": "Y", "value": "2"}]}]})
        ),
        json!({"containers": [
            {"name": "a", "image": "9", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
            {"name": "b", "image": "2"}]})
    );
    let names = |value: Value| {
        value["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect::<String>()
    };
    assert_eq!(
        names(spec(
            containers.clone(),
            json!({"containers": [{"name": "c", "image": "3"}]})
        )),
        "cab"
    );
    assert_eq!(
        names(spec(
            containers.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]})
        )),
        "b"
    );
    assert_eq!(
        names(spec(
            containers,
            json!({"containers": [{"name": "z"}, {"$patch": "replace"}]})
        )),
        "z"
    );
}

#[test]
fn other_lists_are_replaced() {
    assert_eq!(
        spec(
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]})
        ),
        json!({"tolerations": [{"key": "b"}]})
    );
    assert_eq!(
        spec(
            json!({"containers": [{"name": "a", "command": ["x", "y"]}]}),
            json!({"containers": [{"name": "a", "command": ["z"]}]})
        ),
        json!({"containers": [{"name": "a", "command": ["z"]}]})
    );
}

#[test]
fn nulls_delete() {
    assert_eq!(
        spec(
            json!({"nodeName": "n", "nodeSelector": {"a": "1", "b": "2"}}),
            json!({"nodeName": null, "nodeSelector": {"a": null, "c": null}})
        ),
        json!({"nodeSelector": {"b": "2"}})
    );
    assert_eq!(
        spec(
            json!({}),
            json!({"securityContext": {"runAsUser": null, "fsGroup": 1}})
        ),
        json!({"securityContext": {"fsGroup": 1}})
    );
}

#[test]
fn primitive_lists_are_sets() {
    let object = json!({"metadata": {"finalizers": ["a", "b"]}});
    let finalizers = |patch: Value| {
        patched("Pod", object.clone(), json!({"metadata": patch}))["metadata"]["finalizers"].take()
    };
    assert_eq!(
        finalizers(json!({"finalizers": ["b", "c"]})),
        json!(["a", "b", "c"])
    );
    assert_eq!(
        finalizers(json!({"$deleteFromPrimitiveList/finalizers": ["a"]})),
        json!(["b"])
    );
    assert_eq!(
        finalizers(
            json!({"$setElementOrder/finalizers": ["b", "c"], "finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]})
        ),
        json!(["b", "c"])
    );
}

#[test]
fn set_element_order() {
    let containers = json!({"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]});
    let names = |patch: Value| {
        spec(containers.clone(), patch)["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect::<String>()
    };
    assert_eq!(
        names(json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]})),
        "sba"
    );
    assert_eq!(
        names(
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "n"}, {"name": "b"}], "containers": [{"name": "n"}]})
        ),
        "ansb"
    );
    assert_eq!(
        names(
            json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a", "$patch": "delete"}]})
        ),
        "sb"
    );
    let error = refused(
        json!({"containers": []}),
        json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}),
    );
    assert!(
        error.starts_with("The order in patch list:")
            && error.contains("doesn't match $setElementOrder list:"),
        "{error}"
    );
    let fresh = spec(
        json!({}),
        json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "image": null}]}),
    );
    assert_eq!(fresh, json!({"containers": [{"name": "a"}]}));
}

#[test]
fn retain_keys() {
    let strategy =
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        patched("apps/Deployment", strategy.clone(), patch),
        json!({"spec": {"strategy": {"type": "Recreate"}}})
    );
    let volumes = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
    let patch = json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]});
    assert_eq!(
        spec(volumes, patch),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]})
    );
    let error = refused(json!({}), json!({"$retainKeys": ["a"], "nodeName": "n"}));
    assert_eq!(error, "invalid patch format of retainKeys");
}

#[test]
fn map_directives() {
    let object = json!({"nodeSelector": {"a": "1"}, "securityContext": {"runAsUser": 1}});
    assert_eq!(
        spec(
            object.clone(),
            json!({"nodeSelector": {"$patch": "replace", "b": "2"}})
        )["nodeSelector"],
        json!({"b": "2"})
    );
    assert_eq!(
        spec(
            object.clone(),
            json!({"securityContext": {"$patch": "delete"}})
        )["securityContext"],
        json!({})
    );
    assert_eq!(
        spec(
            object.clone(),
            json!({"nodeSelector": {"$patch": "merge", "b": "2"}})
        )["nodeSelector"],
        json!({"a": "1", "b": "2"})
    );
    assert_eq!(
        refused(object, json!({"$patch": "shake"})),
        "unknown patch type: shake in map"
    );
}

#[test]
fn replace_strategy() {
    let budget = json!({"spec": {"selector": {"matchLabels": {"a": "1"}}}});
    let patch = json!({"spec": {"selector": {"matchLabels": {"b": "2"}}}});
    assert_eq!(
        patched("policy/PodDisruptionBudget", budget, patch.clone()),
        patch
    );
}

#[test]
fn merge_keys_are_required() {
    let error = refused(
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"image": "x"}]}),
    );
    assert_eq!(
        error,
        "map: {\"image\":\"x\"} does not contain declared merge key: name"
    );
}

#[test]
fn duplicated_keys_collapse_onto_the_first() {
    let ports =
        json!({"ports": [{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]});
    let patch = json!({"ports": [{"port": 80, "nodePort": 1}]});
    let result = patched("Service", json!({"spec": ports}), json!({"spec": patch}));
    assert_eq!(
        result["spec"]["ports"][0],
        json!({"port": 80, "protocol": "TCP", "nodePort": 1})
    );
}

#[test]
fn node_conditions_merge_by_type() {
    let node =
        json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "x"}]}});
    let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}], "$setElementOrder/conditions": [{"type": "Ready"}]}});
    assert_eq!(
        patched("Node", node, patch),
        json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x"}]}})
    );
}
