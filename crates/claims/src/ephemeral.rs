//! Claims that are made with a Pod for its volumes of kind `ephemeral`, and go with it (KEP-1698).

use api::owner::is_controlled_by;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The claim of a Pod's volume, if the volume is of that kind.
pub fn made_with(pod: &ObjectMeta, volume: &Volume) -> Option<PersistentVolumeClaim> {
    let pod_name = pod.name.clone().unwrap_or_default();
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let given = template.metadata.clone().unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: api::pod::made_with(&pod_name, volume),
            namespace: pod.namespace.clone(),
            annotations: given.annotations,
            labels: given.labels,
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: pod_name,
                uid: pod.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    })
}

/// That a claim was made with this Pod, and not by somebody else under the same name.
///
/// # Errors
/// Upstream's words for it.
pub fn check_made_with(pod: &ObjectMeta, claim: &ObjectMeta) -> Result<(), String> {
    match is_controlled_by(claim, pod.uid.as_deref()) {
        true => Ok(()),
        false => Err(not_made_with(
            pod,
            claim.name.as_deref().unwrap_or_default(),
        )),
    }
}

/// How upstream says that a claim of the Pod's namespace was not made with it.
pub fn not_made_with(pod: &ObjectMeta, claim: &str) -> String {
    let name = pod.name.as_deref().unwrap_or_default();
    let namespace = pod.namespace.as_deref().unwrap_or_default();
    format!("PVC {namespace}/{claim} was not created for pod {namespace}/{name} (pod is not owner)")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(value: Value) -> Volume {
        serde_json::from_value(value).expect("a volume")
    }

    #[test]
    fn claims_are_made_with_a_pod_and_are_its_own() {
        let pod = ObjectMeta {
            namespace: Some("ns".to_owned()),
            name: Some("web".to_owned()),
            uid: Some("u".to_owned()),
            ..ObjectMeta::default()
        };
        let asked = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let template =
            json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": asked});
        let brought =
            volume(json!({"name": "data", "ephemeral": {"volumeClaimTemplate": template}}));
        let made = made_with(&pod, &brought).expect("a claim");
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u", "controller": true, "blockOwnerDeletion": true});
        let expected = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"namespace": "ns", "name": "web-data", "labels": {"a": "b"}, "annotations": {"c": "d"}, "ownerReferences": [owner]},
            "spec": asked,
        });
        assert_eq!(json!(made), expected);
        assert_eq!(check_made_with(&pod, &made.metadata), Ok(()));
        let other = ObjectMeta {
            uid: Some("v".to_owned()),
            ..pod.clone()
        };
        let why = "PVC ns/web-data was not created for pod ns/web (pod is not owner)";
        assert_eq!(check_made_with(&other, &made.metadata), Err(why.to_owned()));
        let named = volume(json!({"name": "data", "persistentVolumeClaim": {"claimName": "c"}}));
        assert_eq!(made_with(&pod, &named), None);
    }
}
