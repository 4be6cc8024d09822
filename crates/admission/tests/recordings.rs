//! The refusals that users of kubectl were recorded to see, as the API's `Status` carries them.

use admission::Subresource;
use admission::pod::{AdmitContext, admit};
use serde_json::{Value, json};

fn messages(errors: &[api::field::Error]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn created(mut pod: Value) -> Value {
    pod["metadata"]["namespace"] = "default".into();
    admission::default("pods", &mut pod);
    let account = json!({"metadata": {"name": "default"}});
    let context = AdmitContext {
        namespace: "default",
        service_account: Some(&account),
        priority_class: None,
        random_suffix: "abcde",
    };
    admit(&mut pod, &context).expect("the default account exists");
    admission::prepare_create("pods", &mut pod);
    pod["metadata"]["resourceVersion"] = "1".into();
    pod["metadata"]["uid"] = "u".into();
    pod
}

#[test]
fn several_mistakes_are_all_told_in_order() {
    let pod = created(
        json!({"metadata": {"name": "p"}, "spec": {"restartPolicy": "Sometimes", "containers": [
        {"name": "a", "image": "x", "ports": [{"containerPort": 70000}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}}),
    );
    assert_eq!(
        messages(&admission::validate_create("pods", &pod)),
        [
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ]
    );
}

#[test]
fn plain_init_containers_have_no_probes_or_hooks() {
    let exec = json!({"exec": {"command": ["true"]}});
    let pod = created(json!({"metadata": {"name": "p"}, "spec": {
        "initContainers": [{"name": "i", "image": "busybox:1.36", "readinessProbe": exec, "lifecycle": {"preStop": exec}}],
        "containers": [{"name": "app", "image": "busybox:1.36"}]}}));
    assert_eq!(
        messages(&admission::validate_create("pods", &pod)),
        [
            "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ]
    );
}

#[test]
fn image_names_are_the_nodes_business() {
    let pod = created(
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "Bad Name"}]}}),
    );
    assert_eq!(messages(&admission::validate_create("pods", &pod)), [""; 0]);
    assert_eq!(
        pod["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
}

const IMMUTABLE: &str = "spec: Forbidden: pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

fn running() -> Value {
    let mut pod = created(
        json!({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "a", "image": "docker.io/library/busybox:1.36", "command": ["sh", "-c", "trap \"exit 0\" TERM; while true; do sleep 1; done"]}]}}),
    );
    pod["spec"]["nodeName"] = "node".into();
    pod
}

fn refusal(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let old = running();
    let mut new = old.clone();
    change(&mut new);
    admission::default("pods", &mut new);
    admission::prepare_update("pods", Subresource::Main, &mut new, &old);
    messages(&admission::validate_update(
        "pods",
        Subresource::Main,
        &new,
        &old,
    ))
}

#[test]
fn env_is_immutable_and_the_diff_says_where() {
    let diff = "@@ -102,7 +102,13 @@\n    \"WorkingDir\": \"\",\n    \"Ports\": null,\n    \"EnvFrom\": null,\n-   \"Env\": null,\n\
        +   \"Env\": [\n+    {\n+     \"Name\": \"X\",\n+     \"Value\": \"y\",\n+     \"ValueFrom\": null\n+    }\n+   ],\n    \"Resources\": {\n     \
        \"Limits\": null,\n     \"Requests\": null,\n";
    let found =
        refusal(|pod| pod["spec"]["containers"][0]["env"] = json!([{"name": "X", "value": "y"}]));
    assert_eq!(found, [format!("{IMMUTABLE}{diff}")]);
}

#[test]
fn the_node_is_immutable_and_the_diff_says_where() {
    let diff = "@@ -144,7 +144,7 @@\n  \"NodeSelector\": null,\n  \"ServiceAccountName\": \"default\",\n  \"AutomountServiceAccountToken\": null,\n\
        - \"NodeName\": \"node\",\n+ \"NodeName\": \"x\",\n  \"SecurityContext\": {\n   \"HostNetwork\": false,\n   \"HostPID\": false,\n";
    assert_eq!(
        refusal(|pod| pod["spec"]["nodeName"] = "x".into()),
        [format!("{IMMUTABLE}{diff}")]
    );
}

#[test]
fn labels_annotations_and_images_may_change() {
    let found = refusal(|pod| {
        pod["metadata"]["labels"] = json!({"a": "b"});
        pod["metadata"]["annotations"] = json!({"c": "d"});
        pod["spec"]["containers"][0]["image"] = "busybox:1.37".into();
        pod["status"] = json!({"phase": "Failed"});
    });
    assert_eq!(found, [""; 0]);
}
