//! A manifest on the node as the static Pod it describes: filled in and checked as the API would, and named after the node.

use std::path::Path;

use api::pod::SOURCE;
use api::schema::Schema;
use api::validate::decode_value;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The annotation that names the manifest's hash.
pub(crate) const HASH: &str = "kubernetes.io/config.hash";

/// What of a manifest's metadata counts; the rest is the server's.
const METADATA: [&str; 5] = ["name", "namespace", "uid", "labels", "annotations"];
/// Bytes of the hash that make a UID.
const UID_BYTES: usize = 16;
/// Longest UID a manifest may give.
const LONGEST_UID: usize = 64;

/// Why there is no Pod in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum BadManifest {
    /// It is no text of the kind, or one of another kind.
    #[error("couldn't parse as pod: {0}")]
    Unreadable(String),
    /// The API would refuse it, too.
    #[error("invalid pod: {0}")]
    Invalid(String),
    /// It needs objects of the API.
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
}

/// A Pod, and what in its manifest means nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Described {
    pub(super) pod: Pod,
    /// Fields that nobody knows or that are given twice, in the API's words.
    pub(super) problems: Vec<String>,
}

/// Reads the manifest at `path`, YAML or JSON, for the node of this name.
///
/// # Errors
/// Why it describes no Pod that could run.
pub(super) fn read(body: &[u8], node: &str, path: &Path) -> Result<Described, BadManifest> {
    let (mut pod, problems) = decode(body)?;
    let meta = pod["metadata"].as_object().cloned().unwrap_or_default();
    let text = |field: &str| meta.get(field).and_then(Value::as_str).unwrap_or_default();
    if text("name").is_empty() {
        return Err(BadManifest::Invalid("name is needed for the pod".into()));
    }
    let uid = match text("uid") {
        "" => hash(&pod, node, path),
        given if is_uid(given) => given.to_owned(),
        given => return Err(BadManifest::Invalid(format!("{given:?} cannot be a UID"))),
    };
    let name = format!("{}-{}", text("name"), node);
    let namespace = match text("namespace") {
        "" => "default",
        given => given,
    };
    pod["metadata"] = named(&meta, &name, namespace, &uid);
    admission::default("pods", &mut pod);
    pod["spec"]["nodeName"] = node.into();
    tolerate(&mut pod["spec"]);
    admission::prepare_create("pods", &mut pod);
    if let Some(meta) = pod["metadata"].as_object_mut() {
        // Only the API counts changes.
        meta.remove("generation");
    }
    let errors = admission::validate_create("pods", &pod);
    if !errors.is_empty() {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(BadManifest::Invalid(all.join(", ")));
    }
    match admission::pod::api_reference(&pod) {
        Ok(None) => {}
        Ok(Some(kind)) => return Err(BadManifest::Reference(kind)),
        Err(why) => return Err(BadManifest::Invalid(why)),
    }
    let pod = serde_json::from_value(pod).map_err(|e| BadManifest::Unreadable(e.to_string()))?;
    Ok(Described { pod, problems })
}

/// The manifest's object, without fields that Pods do not have, and what these are.
fn decode(body: &[u8]) -> Result<(Value, Vec<String>), BadManifest> {
    let unreadable = |why: String| BadManifest::Unreadable(why);
    let document = api::yaml::read(body).map_err(|e| unreadable(e.to_string()))?;
    let word = |field: &str| document.value[field].as_str().unwrap_or_default();
    match (word("apiVersion"), word("kind")) {
        ("v1", "Pod") => {}
        (_, "") => return Err(unreadable("it says no kind".into())),
        (version, kind) => {
            return Err(unreadable(format!("it is a {kind} of version {version:?}")));
        }
    }
    let ty = Schema::get().of("", "v1", "Pod");
    let ty = ty.ok_or_else(|| unreadable("Pods have no schema".into()))?;
    let decoded = decode_value(&document.value, ty).map_err(|e| unreadable(e.to_string()))?;
    let twice = document.duplicate.into_iter();
    let unknown = decoded.problems.iter().map(ToString::to_string);
    Ok((decoded.value, twice.chain(unknown).collect()))
}

/// What an edit of the manifest changes: the Pod of another manifest is another Pod.
fn hash(pod: &Value, node: &str, path: &Path) -> String {
    let mut hasher = Sha256::new();
    hasher.update(pod.to_string());
    hasher.update(format!("host:{node}file:{}", path.display()));
    let bytes = hasher.finalize();
    bytes[..UID_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// UIDs name directories.
fn is_uid(text: &str) -> bool {
    text.len() <= LONGEST_UID && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

fn named(meta: &Map<String, Value>, name: &str, namespace: &str, uid: &str) -> Value {
    let mut kept = meta.clone();
    kept.retain(|field, _| METADATA.contains(&field.as_str()));
    let mut kept = Value::Object(kept);
    kept["name"] = name.into();
    kept["namespace"] = namespace.into();
    kept["uid"] = uid.into();
    kept["annotations"][HASH] = uid.into();
    kept["annotations"][SOURCE] = "file".into();
    if let Some(annotations) = kept["annotations"].as_object_mut() {
        // It is no stand-in itself.
        annotations.remove(api::pod::MIRROR);
    }
    kept
}

/// Nothing that befalls the node takes a static Pod away.
fn tolerate(spec: &mut Value) {
    let everything = json!({"operator": "Exists", "effect": "NoExecute"});
    let mut tolerations = spec["tolerations"].as_array().cloned().unwrap_or_default();
    if !tolerations.contains(&everything) {
        tolerations.push(everything);
        spec["tolerations"] = tolerations.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {a: b}}\nspec: {containers: [{name: c, image: nginx}]}\n";

    fn described(text: &str) -> Result<Described, BadManifest> {
        read(text.as_bytes(), "node-1", Path::new("/m/web.yaml"))
    }

    fn pod(text: &str) -> Pod {
        described(text).unwrap().pod
    }

    #[test]
    fn a_manifest_becomes_a_pod_of_the_node() {
        let pod = pod(WEB);
        let meta = &pod.metadata;
        assert_eq!(meta.name.as_deref(), Some("web-node-1"));
        assert_eq!(meta.namespace.as_deref(), Some("default"));
        let uid = meta.uid.clone().unwrap();
        assert_eq!(uid.len(), 32);
        let annotations = meta.annotations.as_ref().unwrap();
        assert_eq!(annotations[HASH], uid);
        assert_eq!(annotations[SOURCE], "file");
        assert!(api::pod::is_static(&pod) && !api::pod::is_mirror(&pod));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("node-1"));
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
        assert_eq!(spec.enable_service_links, Some(true));
        let tolerated = spec.tolerations.unwrap();
        assert_eq!(tolerated.len(), 1);
        assert_eq!(tolerated[0].effect.as_deref(), Some("NoExecute"));
        let status = pod.status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Pending"));
        assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    }

    #[test]
    fn another_manifest_is_another_pod() {
        let uid = |text: &str| pod(text).metadata.uid.unwrap();
        let same = format!("# a comment\n{WEB}");
        assert_eq!(uid(WEB), uid(&same));
        assert_ne!(uid(WEB), uid(&WEB.replace("nginx", "nginx:2")));
        let elsewhere = read(WEB.as_bytes(), "node-1", Path::new("/m/other.yaml"));
        assert_ne!(Some(uid(WEB)), elsewhere.unwrap().pod.metadata.uid);
        let other_node = read(WEB.as_bytes(), "node-2", Path::new("/m/web.yaml"));
        assert_ne!(Some(uid(WEB)), other_node.unwrap().pod.metadata.uid);
        let given = WEB.replace("name: web", "name: web, uid: fixed-1");
        assert_eq!(uid(&given), "fixed-1");
    }

    #[test]
    fn json_is_read_too_and_what_is_unknown_is_told() {
        let json = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "j", "namespace": "n", "finalizers": ["x/y"],
            "annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"color": "red", "containers": [{"name": "c", "image": "i"}]}});
        let found = described(&json.to_string()).unwrap();
        assert_eq!(found.problems, ["unknown field \"spec.color\""]);
        let meta = found.pod.metadata;
        assert_eq!(meta.namespace.as_deref(), Some("n"));
        assert_eq!(meta.finalizers, None);
        assert!(!meta.annotations.unwrap().contains_key(api::pod::MIRROR));
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        let with =
            |from: &str, to: &str| described(&WEB.replace(from, to)).unwrap_err().to_string();
        for (from, to, why) in [
            (
                "kind: Pod",
                "kind: Deployment",
                "couldn't parse as pod: it is a Deployment of version \"v1\"",
            ),
            ("kind: Pod\n", "", "couldn't parse as pod: it says no kind"),
            ("name: web,", "", "invalid pod: name is needed for the pod"),
            (
                "name: web,",
                "name: web, uid: ../x,",
                "invalid pod: \"../x\" cannot be a UID",
            ),
            (
                "image: nginx",
                "",
                "invalid pod: spec.containers[0].image: Required value",
            ),
            (
                "spec: {",
                "spec: {serviceAccountName: a, ",
                "static pods may not reference serviceaccounts",
            ),
            (
                "spec: {",
                "spec: {volumes: [{name: v, configMap: {name: m}}], ",
                "static pods may not reference configmaps",
            ),
        ] {
            let said = with(from, to);
            assert!(said.starts_with(why), "{said}");
        }
        for text in ["", "a: [", "just words"] {
            let said = described(text).unwrap_err();
            assert!(matches!(said, BadManifest::Unreadable(_)), "{said}");
        }
    }
}
