//! Which objects of the API a Pod cannot do without. Static Pods, and what stands for them in the API, may not ask for any: they
//! run without it.

use serde_json::Value;

use crate::view::{dig, get, list, text};

/// Volumes that come from the machine, the network or the Pod itself.
const FREE: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// Volumes that come from the API, and upstream's words for what they come from.
const BOUND: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    (
        "ephemeral",
        "persistentvolumeclaims (via ephemeral volumes)",
    ),
    ("azureFile", "secrets (via azureFile volumes)"),
];

/// The same of what is projected into one volume.
const PROJECTED: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    (
        "serviceAccountToken",
        "serviceaccounts (via projected volumes)",
    ),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

/// Where volumes name a Secret.
const SECRETS: [&[&str]; 10] = [
    &["azureFile", "secretName"],
    &["cephfs", "secretRef", "name"],
    &["cinder", "secretRef", "name"],
    &["flexVolume", "secretRef", "name"],
    &["rbd", "secretRef", "name"],
    &["secret", "secretName"],
    &["scaleIO", "secretRef", "name"],
    &["iscsi", "secretRef", "name"],
    &["storageos", "secretRef", "name"],
    &["csi", "nodePublishSecretRef", "name"],
];

/// The first kind of object of the API that a Pod refers to, in upstream's words and order: `serviceaccounts`, `secrets`.
///
/// # Errors
/// A volume is of a kind that is not known.
pub fn api_reference(pod: &Value) -> Result<Option<&'static str>, String> {
    let spec = get(pod, "spec");
    if !text(get(spec, "serviceAccountName")).is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    if names_secret(spec) {
        return Ok(Some("secrets"));
    }
    if names_config_map(spec) {
        return Ok(Some("configmaps"));
    }
    if !list(get(spec, "resourceClaims")).is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in list(get(spec, "volumes")) {
        if let Some(found) = of_volume(volume)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn of_volume(volume: &Value) -> Result<Option<&'static str>, String> {
    let has = |volume: &Value, kind: &str| !get(volume, kind).is_null();
    let name = text(get(volume, "name"));
    if FREE.iter().any(|kind| has(volume, kind)) {
        return Ok(None);
    }
    if let Some((_, words)) = BOUND.iter().find(|(kind, _)| has(volume, kind)) {
        return Ok(Some(words));
    }
    if !has(volume, "projected") {
        return Err(format!("unknown volume type for volume  {name:?}"));
    }
    for source in list(dig(volume, &["projected", "sources"])) {
        match PROJECTED.iter().find(|(kind, _)| has(source, kind)) {
            Some((_, words)) => return Ok(Some(words)),
            None if has(source, "downwardAPI") => {}
            None => return Err(format!("unknown source for projected volume {name:?}")),
        }
    }
    Ok(None)
}

/// Whether it names a Secret anywhere.
pub(super) fn names_secret(spec: &Value) -> bool {
    let pulls = list(get(spec, "imagePullSecrets"));
    let volumes = list(get(spec, "volumes"));
    pulls.iter().any(|secret| is_named(secret, &["name"]))
        || in_env(spec, "secretRef", "secretKeyRef")
        || volumes.iter().any(|volume| {
            SECRETS.iter().any(|path| is_named(volume, path)) || projects(volume, "secret")
        })
}

fn names_config_map(spec: &Value) -> bool {
    let volumes = list(get(spec, "volumes"));
    in_env(spec, "configMapRef", "configMapKeyRef")
        || volumes
            .iter()
            .any(|volume| is_named(volume, &["configMap", "name"]) || projects(volume, "configMap"))
}

fn is_named(value: &Value, path: &[&str]) -> bool {
    !text(dig(value, path)).is_empty()
}

fn projects(volume: &Value, kind: &str) -> bool {
    let sources = list(dig(volume, &["projected", "sources"]));
    sources
        .iter()
        .any(|source| is_named(source, &[kind, "name"]))
}

/// Whether a container has its environment from an object, as a whole or by key.
fn in_env(spec: &Value, whole: &str, by_key: &str) -> bool {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let mut containers = lists.iter().flat_map(|field| list(get(spec, field)));
    containers.any(|container| {
        let from = list(get(container, "envFrom"));
        let variables = list(get(container, "env"));
        from.iter().any(|from| is_named(from, &[whole, "name"]))
            || variables
                .iter()
                .any(|variable| is_named(variable, &["valueFrom", by_key, "name"]))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_reference_is_told_in_upstreams_words() {
        let env = |source: Value| json!({"containers": [{"name": "c", "env": [{"name": "E", "valueFrom": source}]}]});
        let volume = |source: Value| {
            let mut volume = source;
            volume["name"] = "v".into();
            json!({"volumes": [volume]})
        };
        let projected = |source: Value| volume(json!({"projected": {"sources": [source]}}));
        let rows = [
            (json!({}), None),
            (json!({"serviceAccountName": "a"}), Some("serviceaccounts")),
            (
                json!({"imagePullSecrets": [{"name": "s"}]}),
                Some("secrets"),
            ),
            (json!({"imagePullSecrets": [{}]}), None),
            (
                env(json!({"secretKeyRef": {"name": "s", "key": "k"}})),
                Some("secrets"),
            ),
            (
                env(json!({"configMapKeyRef": {"name": "s", "key": "k"}})),
                Some("configmaps"),
            ),
            (
                env(json!({"fieldRef": {"fieldPath": "metadata.name"}})),
                None,
            ),
            (
                json!({"initContainers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "m"}}]}]}),
                Some("configmaps"),
            ),
            (
                json!({"resourceClaims": [{"name": "r"}]}),
                Some("resourceclaims"),
            ),
            (volume(json!({"emptyDir": {}})), None),
            (volume(json!({"hostPath": {"path": "/"}})), None),
            (
                volume(json!({"secret": {"secretName": "s"}})),
                Some("secrets"),
            ),
            (
                volume(json!({"secret": {}})),
                Some("secrets (via secret volumes)"),
            ),
            (
                volume(json!({"configMap": {"name": "m"}})),
                Some("configmaps"),
            ),
            (
                volume(json!({"csi": {"driver": "d"}})),
                Some("csidrivers (via CSI volumes)"),
            ),
            (
                volume(json!({"persistentVolumeClaim": {"claimName": "c"}})),
                Some("persistentvolumeclaims"),
            ),
            (
                volume(json!({"ephemeral": {}})),
                Some("persistentvolumeclaims (via ephemeral volumes)"),
            ),
            (
                projected(json!({"serviceAccountToken": {"path": "t"}})),
                Some("serviceaccounts (via projected volumes)"),
            ),
            (
                projected(json!({"clusterTrustBundle": {"path": "t"}})),
                Some("clustertrustbundles"),
            ),
            (projected(json!({"secret": {"name": "s"}})), Some("secrets")),
            (projected(json!({"downwardAPI": {}})), None),
        ];
        for (spec, expected) in rows {
            let found = api_reference(&json!({"spec": spec}));
            assert_eq!(found, Ok(expected), "{spec}");
        }
        let unknown = |spec: Value| api_reference(&json!({"spec": spec})).unwrap_err();
        assert_eq!(
            unknown(volume(json!({"other": {}}))),
            "unknown volume type for volume  \"v\""
        );
        assert_eq!(
            unknown(projected(json!({"other": {}}))),
            "unknown source for projected volume \"v\""
        );
    }
}
