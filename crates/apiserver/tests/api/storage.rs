//! Volumes, claims for them and classes of them.

use serde_json::{Value, json};

use crate::support::{Answer, Server};

const TABLE: [(&str, &str); 1] = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
const GROUP: &str = "/apis/storage.k8s.io/v1";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";

fn class(name: &str, is_default: bool) -> Value {
    let mark = json!({"storageclass.kubernetes.io/is-default-class": is_default.to_string()});
    json!({"metadata": {"name": name, "annotations": mark}, "provisioner": "a.b/c"})
}

fn claim(name: &str) -> Value {
    let amount = json!({"requests": {"storage": "1Gi"}});
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": amount}, "status": {"phase": "Bound"}})
}

fn volume(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"}}})
}

async fn merge(server: &Server, path: &str, patch: Value) -> Answer {
    let kind = [("content-type", "application/merge-patch+json")];
    server.ask_as("PATCH", path, patch, &kind).await
}

async fn cells(server: &Server, path: &str) -> Vec<Value> {
    let answer = server.ask_as("GET", path, Value::Null, &TABLE).await;
    let mut cells = answer.body["rows"][0]["cells"].clone();
    let cells = cells.as_array_mut().expect("cells");
    std::mem::take(cells)
}

#[tokio::test]
async fn the_kinds_are_discovered() {
    let server = Server::start().await;
    for (group, wanted) in [
        (
            "/api/v1",
            vec![
                json!([
                    "persistentvolumeclaims",
                    "PersistentVolumeClaim",
                    true,
                    ["pvc"]
                ]),
                json!([
                    "persistentvolumeclaims/status",
                    "PersistentVolumeClaim",
                    true,
                    null
                ]),
                json!(["persistentvolumes", "PersistentVolume", false, ["pv"]]),
                json!(["persistentvolumes/status", "PersistentVolume", false, null]),
            ],
        ),
        (
            GROUP,
            vec![
                json!(["csidrivers", "CSIDriver", false, null]),
                json!(["csinodes", "CSINode", false, null]),
                json!(["csistoragecapacities", "CSIStorageCapacity", true, null]),
                json!(["storageclasses", "StorageClass", false, ["sc"]]),
                json!(["volumeattachments", "VolumeAttachment", false, null]),
                json!(["volumeattachments/status", "VolumeAttachment", false, null]),
                json!([
                    "volumeattributesclasses",
                    "VolumeAttributesClass",
                    false,
                    ["vac"]
                ]),
            ],
        ),
    ] {
        let listed = server.get(group).await;
        let resources = listed.body["resources"].as_array().expect("a list");
        let seen = resources
            .iter()
            .map(|r| json!([r["name"], r["kind"], r["namespaced"], r["shortNames"]]));
        let seen: Vec<Value> = seen
            .filter(|r| r.to_string().contains("persistent") || group == GROUP)
            .collect();
        assert_eq!(seen, wanted);
    }
}

#[tokio::test]
async fn claims_are_given_the_default_class() {
    let server = Server::start().await;
    let made = server.ask("POST", CLAIMS, claim("before")).await;
    assert_eq!(made.code, 201, "{made:?}");
    assert!(made.body["spec"].get("storageClassName").is_none());
    assert_eq!(made.body["status"], json!({"phase": "Pending"}));
    assert_eq!(made.body["spec"]["volumeMode"], "Filesystem");
    assert_eq!(
        made.body["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    assert!(made.body["metadata"].get("generation").is_none());
    for (name, is_default) in [("other", false), ("usual", true)] {
        let made = server.ask("POST", CLASSES, class(name, is_default)).await;
        assert_eq!(made.code, 201, "{made:?}");
        assert_eq!(made.body["reclaimPolicy"], "Delete");
        assert_eq!(made.body["volumeBindingMode"], "Immediate");
    }
    for (asked, got) in [
        (Value::Null, json!("usual")),
        (json!(""), json!("")),
        (json!("other"), json!("other")),
    ] {
        let mut wanted = claim("");
        wanted["metadata"] = json!({"generateName": "c-"});
        wanted["spec"]["storageClassName"] = asked;
        let made = server.ask("POST", CLAIMS, wanted).await;
        assert_eq!(made.body["spec"]["storageClassName"], got, "{made:?}");
    }
    let mut old = claim("old");
    old["metadata"]["annotations"] = json!({"volume.beta.kubernetes.io/storage-class": "other"});
    let made = server.ask("POST", CLAIMS, old).await;
    assert!(made.body["spec"].get("storageClassName").is_none());
    assert!(
        made.warnings[0].contains("deprecated since v1.8"),
        "{made:?}"
    );
}

#[tokio::test]
async fn what_a_claim_asks_for_stays_but_grows_once_bound() {
    let server = Server::start().await;
    server.ask("POST", CLASSES, class("local", true)).await;
    server.ask("POST", CLAIMS, claim("c")).await;
    let path = format!("{CLAIMS}/c");
    let growth = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let refused = merge(&server, &path, growth("2Gi")).await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let text = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    assert!(
        refused.body["message"].to_string().contains(text),
        "{refused:?}"
    );
    let status = json!({"spec": {"volumeName": "x"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}});
    let bound = merge(&server, &format!("{path}/status"), status).await;
    assert_eq!(bound.body["status"]["phase"], "Bound", "{bound:?}");
    assert!(bound.body["spec"].get("volumeName").is_none());
    let named = merge(&server, &path, json!({"spec": {"volumeName": "v"}})).await;
    assert_eq!(named.code, 200, "{named:?}");
    let refused = merge(&server, &path, growth("2Gi")).await;
    assert_eq!(refused.code, 403, "{refused:?}");
    let growing = json!({"allowVolumeExpansion": true});
    merge(&server, &format!("{CLASSES}/local"), growing).await;
    let grown = merge(&server, &path, growth("2Gi")).await;
    assert_eq!(grown.code, 200, "{grown:?}");
    let shrunk = merge(&server, &path, growth("1Gi")).await;
    let text = "field can not be less than status.capacity";
    assert!(
        shrunk.body["message"].to_string().contains(text),
        "{shrunk:?}"
    );
    let shown = cells(&server, CLAIMS).await;
    let shown = shown.iter().take(6).collect::<Vec<_>>();
    assert_eq!(
        json!(shown),
        json!(["c", "Bound", "v", "1Gi", "RWO", "local"])
    );
    // What is protected waits for whoever looks after it.
    let deleted = server.ask("DELETE", &path, Value::Null).await;
    assert!(
        deleted.body["metadata"]["deletionTimestamp"].is_string(),
        "{deleted:?}"
    );
    assert_eq!(cells(&server, CLAIMS).await[1], "Terminating");
    let released = merge(&server, &path, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(released.code, 200, "{released:?}");
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test]
async fn volumes_say_since_when_they_are_in_their_phase() {
    let server = Server::start().await;
    let made = server.ask("POST", VOLUMES, volume("v")).await;
    assert_eq!(made.code, 201, "{made:?}");
    let since = made.body["metadata"]["creationTimestamp"].clone();
    let wanted = json!({"phase": "Pending", "lastPhaseTransitionTime": since});
    assert_eq!(made.body["status"], wanted);
    assert_eq!(made.body["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(
        made.body["metadata"]["finalizers"],
        json!(["kubernetes.io/pv-protection"])
    );
    let path = format!("{VOLUMES}/v");
    let moved = merge(
        &server,
        &path,
        json!({"spec": {"hostPath": {"path": "/b"}}}),
    )
    .await;
    let text = "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable";
    assert!(
        moved.body["message"].to_string().contains(text),
        "{moved:?}"
    );
    let status = format!("{path}/status");
    let mut free = server.get(&status).await.body;
    free["status"] = json!({"phase": "Available"});
    let free = server.ask("PUT", &status, free).await;
    let time = &free.body["status"]["lastPhaseTransitionTime"];
    assert!(time.is_string(), "{free:?}");
    let said =
        json!({"status": {"phase": "Bound", "lastPhaseTransitionTime": "2020-01-01T00:00:00Z"}});
    let said = merge(&server, &status, said).await;
    let time = &said.body["status"]["lastPhaseTransitionTime"];
    assert_eq!(time, "2020-01-01T00:00:00Z", "{said:?}");
    let shown = cells(&server, VOLUMES).await;
    let shown = shown.iter().take(5).collect::<Vec<_>>();
    assert_eq!(json!(shown), json!(["v", "1Gi", "RWO", "Retain", "Bound"]));
    let emptied = merge(
        &server,
        &path,
        json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle"}}),
    )
    .await;
    assert!(
        emptied.warnings[0].contains("The Recycle reclaim policy is deprecated"),
        "{emptied:?}"
    );
}

#[tokio::test]
async fn classes_stay_what_they_are() {
    let server = Server::start().await;
    server.ask("POST", CLASSES, class("a", true)).await;
    let path = format!("{CLASSES}/a");
    let other = merge(&server, &path, json!({"provisioner": "d.e/f"})).await;
    let text = "StorageClass.storage.k8s.io \"a\" is invalid: provisioner: Invalid value: \"d.e/f\": field is immutable";
    assert_eq!(other.body["message"], text);
    let grows = merge(&server, &path, json!({"allowVolumeExpansion": true})).await;
    assert_eq!(grows.code, 200, "{grows:?}");
    let shown = cells(&server, CLASSES).await;
    let shown = shown.iter().take(5).collect::<Vec<_>>();
    assert_eq!(
        json!(shown),
        json!(["a (default)", "a.b/c", "Delete", "Immediate", true])
    );
    let removed = server.ask("DELETE", &path, Value::Null).await;
    assert_eq!((removed.code, server.get(&path).await.code), (200, 404));
}
