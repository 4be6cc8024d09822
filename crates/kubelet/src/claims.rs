//! What is behind the claims that a Pod's volumes name (upstream's desired_state_of_world_populator).

use std::path::PathBuf;

use api::storage::CLAIM_PROTECTION;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use ports::volumes::NfsExport;

use crate::drivers::volume::Asked;
use crate::objects::{Kind, ObjectRef, Objects};
use crate::sources;

/// Annotation that said how a volume is mounted before there was a field.
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

/// What is behind a Pod's volume.
pub(crate) enum Found<'v> {
    /// What it says.
    Itself(&'v Volume),
    /// The volume as a Pod would have it that does not ask for it by a claim.
    Behind(Box<Volume>),
    /// A directory of the node that is a volume of the cluster, and whether the Pod only reads it.
    Local(PathBuf, bool),
    /// An export of a file server.
    Nfs(NfsExport),
    /// One that a driver mounts.
    Driven(Asked<'v>),
}

/// What is to be mounted for a volume of a Pod.
///
/// # Errors
/// Upstream's words.
pub(crate) async fn resolved<'v>(
    client: &Client,
    pod: &ObjectMeta,
    volume: &'v Volume,
    objects: &Objects,
) -> Result<Found<'v>, String> {
    let pod_name = pod.name.as_deref().unwrap_or_default();
    let Some(name) = api::pod::claim_of(pod_name, volume) else {
        return Ok(match volume.csi {
            Some(_) => Found::Driven(Asked::Inline(volume)),
            None => Found::Itself(volume),
        });
    };
    let (name, namespace) = (&*name, pod.namespace.as_deref().unwrap_or_default());
    let failed = |why: String| format!("error processing PVC {namespace}/{name}: {why}");
    let content = objects.get(&ObjectRef::new(Kind::Claim, name), true)?;
    let claim = bound(name, content.and_then(|content| content.claim())).map_err(failed)?;
    if volume.ephemeral.is_some() {
        ::claims::check_made_with(pod, &claim.metadata)?;
    }
    let named = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    let named = named.unwrap_or_default();
    let api: Api<PersistentVolume> = Api::all(client.clone());
    let found = api.get(named).await;
    let found = found.map_err(|error| {
        failed(format!(
            "failed to fetch PV {named} from API server: {error}"
        ))
    })?;
    check_held(claim, &found).map_err(failed)?;
    check_mode(&volume.name, &found)?;
    let asked = volume.persistent_volume_claim.as_ref();
    let is_read_only = asked.is_some_and(|asked| asked.read_only == Some(true));
    Ok(behind(&volume.name, found, is_read_only))
}

/// The claim, if it has a volume.
fn bound<'c>(
    name: &str,
    claim: Option<&'c PersistentVolumeClaim>,
) -> Result<&'c PersistentVolumeClaim, String> {
    let Some(claim) = claim else {
        return Err(format!(
            "failed to fetch PVC from API server: persistentvolumeclaims {name:?} not found"
        ));
    };
    let meta = &claim.metadata;
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    let is_protected = finalizers.iter().any(|f| f == CLAIM_PROTECTION);
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    let named = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref());
    if meta.deletion_timestamp.is_some() && !is_protected {
        Err("PVC is being deleted".into())
    } else if phase != Some("Bound") {
        Err("PVC is not bound".into())
    } else if named.unwrap_or_default().is_empty() {
        Err("PVC has empty pvc.Spec.VolumeName".into())
    } else {
        Ok(claim)
    }
}

/// Whether a volume is the claim's.
fn check_held(claim: &PersistentVolumeClaim, found: &PersistentVolume) -> Result<(), String> {
    let spec = found.spec.as_ref();
    let named = found.metadata.name.as_deref().unwrap_or_default();
    let Some(held) = spec.and_then(|s| s.claim_ref.as_ref()) else {
        return Err(format!(
            "found PV object {named} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        ));
    };
    if held.uid != claim.metadata.uid {
        let uid = |uid: &Option<String>| uid.clone().unwrap_or_default();
        let (theirs, ours) = (uid(&held.uid), uid(&claim.metadata.uid));
        return Err(format!(
            "found PV object {named} but its pv.Spec.ClaimRef.UID {theirs} does not point to claim.UID {ours}"
        ));
    }
    Ok(())
}

/// Whether a volume of the cluster can be mounted: a block device is none.
fn check_mode(name: &str, found: &PersistentVolume) -> Result<(), String> {
    let spec = found.spec.as_ref();
    match spec.and_then(|s| s.volume_mode.as_deref()) {
        None | Some("Filesystem") => Ok(()),
        Some(mode) => Err(format!(
            "volume {name} has volumeMode {mode}, but is specified in volumeMounts"
        )),
    }
}

/// What is to be mounted of a volume of the cluster.
fn behind(name: &str, found: PersistentVolume, is_read_only: bool) -> Found<'static> {
    let spec = found.spec.as_ref();
    if spec.is_some_and(|spec| spec.csi.is_some()) {
        return Found::Driven(Asked::Claimed(Box::new(found), is_read_only));
    }
    if let Some(local) = spec.and_then(|s| s.local.as_ref()) {
        return Found::Local(local.path.clone().into(), is_read_only);
    }
    if let Some(mut export) = spec.and_then(|s| s.nfs.as_ref()).map(sources::nfs) {
        export.is_read_only |= is_read_only;
        export.options = mount_options(&found.metadata, spec);
        return Found::Nfs(export);
    }
    Found::Behind(Box::new(Volume {
        name: name.to_owned(),
        host_path: spec.and_then(|s| s.host_path.clone()),
        ..Volume::default()
    }))
}

/// How a volume of the cluster is to be mounted; what the deprecated annotation says goes before the field.
fn mount_options(meta: &ObjectMeta, spec: Option<&PersistentVolumeSpec>) -> Vec<String> {
    let annotated = meta.annotations.as_ref();
    match annotated.and_then(|all| all.get(MOUNT_OPTIONS)) {
        Some(listed) => listed.split(',').map(str::to_owned).collect(),
        None => spec
            .and_then(|s| s.mount_options.clone())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(more: Value) -> PersistentVolumeClaim {
        let mut claim = json!({"metadata": {"name": "c", "uid": "u"}, "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}});
        for (field, value) in more.as_object().into_iter().flatten() {
            claim[field] = value.clone();
        }
        serde_json::from_value(claim).expect("a claim")
    }

    #[test]
    fn claims_that_have_nothing_are_told_of() {
        let leaving = "2026-01-02T03:04:05Z";
        for (more, expected) in [
            (json!({}), Ok(())),
            (
                json!({"status": {"phase": "Pending"}}),
                Err("PVC is not bound"),
            ),
            (
                json!({"status": {"phase": "Lost"}}),
                Err("PVC is not bound"),
            ),
            (
                json!({"spec": {}}),
                Err("PVC has empty pvc.Spec.VolumeName"),
            ),
            (
                json!({"metadata": {"deletionTimestamp": leaving}}),
                Err("PVC is being deleted"),
            ),
            (
                json!({"metadata": {"deletionTimestamp": leaving, "finalizers": [CLAIM_PROTECTION]}}),
                Ok(()),
            ),
        ] {
            let claim = claim(more);
            let found = bound("c", Some(&claim)).map(drop);
            assert_eq!(found, expected.map_err(str::to_owned));
        }
        let none = "failed to fetch PVC from API server: persistentvolumeclaims \"c\" not found";
        assert_eq!(bound("c", None).err().as_deref(), Some(none));
    }

    fn told(export: &NfsExport) -> String {
        let NfsExport {
            server,
            path,
            is_read_only,
            options,
        } = export;
        let options = options.join(",");
        format!("nfs {server}:{path}, read-only {is_read_only}, {options}")
    }

    #[test]
    fn exports_are_mounted_as_the_volume_says() {
        for (metadata, field, is_read_only, expected) in [
            (json!({}), json!(null), false, "read-only false, "),
            (json!({}), json!(null), true, "read-only true, "),
            (
                json!({}),
                json!(["soft", "timeo=10"]),
                false,
                "read-only false, soft,timeo=10",
            ),
            (
                json!({"annotations": {MOUNT_OPTIONS: "hard,vers=4"}}),
                json!(["soft"]),
                false,
                "read-only false, hard,vers=4",
            ),
        ] {
            for says_so in [false, true] {
                let nfs = json!({"server": "s", "path": "/p", "readOnly": says_so});
                let volume =
                    json!({"metadata": metadata, "spec": {"nfs": nfs, "mountOptions": field}});
                let volume = serde_json::from_value(volume).expect("a volume");
                let Found::Nfs(export) = behind("data", volume, is_read_only) else {
                    panic!("not an export")
                };
                let expected = expected.replace("false", &(is_read_only || says_so).to_string());
                assert_eq!(told(&export), format!("nfs s:/p, {expected}"));
            }
        }
    }

    #[test]
    fn block_devices_are_not_mounted() {
        let why = "volume data has volumeMode Block, but is specified in volumeMounts";
        for (spec, expected) in [
            (json!({}), Ok(())),
            (json!({"volumeMode": "Filesystem"}), Ok(())),
            (json!({"volumeMode": "Block"}), Err(why.to_owned())),
        ] {
            let volume = json!({"metadata": {"name": "v"}, "spec": spec});
            let volume = serde_json::from_value(volume).expect("a volume");
            assert_eq!(check_mode("data", &volume), expected);
        }
    }

    #[test]
    fn volumes_are_of_what_the_claim_has() {
        let held = json!({"namespace": "d", "name": "c", "uid": "u"});
        let directory = json!({"path": "/a", "type": "Directory"});
        for (spec, expected) in [
            (
                json!({"claimRef": held, "hostPath": {"path": "/a", "type": "Directory"}}),
                Ok(directory),
            ),
            (
                json!({"claimRef": held, "local": {"path": "/a"}}),
                Ok(json!("local /a")),
            ),
            (
                json!({"claimRef": held, "csi": {"driver": "d", "volumeHandle": "h"}}),
                Ok(json!("driven")),
            ),
            (
                json!({"claimRef": held, "nfs": {"server": "s", "path": "/p"}, "mountOptions": ["vers=4.1"]}),
                Ok(json!("nfs s:/p, read-only true, vers=4.1")),
            ),
            (
                json!({"claimRef": held, "rbd": {"image": "i", "monitors": []}}),
                Ok(Value::Null),
            ),
            (
                json!({}),
                Err(
                    "found PV object v but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim",
                ),
            ),
            (
                json!({"claimRef": {"uid": "w"}}),
                Err(
                    "found PV object v but its pv.Spec.ClaimRef.UID w does not point to claim.UID u",
                ),
            ),
        ] {
            let volume = json!({"metadata": {"name": "v"}, "spec": spec});
            let volume: PersistentVolume = serde_json::from_value(volume).expect("a volume");
            let held = check_held(&claim(json!({})), &volume);
            let found = held.map(|()| match behind("data", volume, true) {
                Found::Behind(found) => {
                    assert_eq!(found.name, "data");
                    serde_json::to_value(found.host_path).expect("JSON")
                }
                Found::Local(path, true) => json!(format!("local {}", path.display())),
                Found::Driven(Asked::Claimed(_, true)) => json!("driven"),
                Found::Nfs(export) => json!(told(&export)),
                _ => panic!("a volume of no Pod's own"),
            });
            assert_eq!(found, expected.map_err(str::to_owned));
        }
    }
}
