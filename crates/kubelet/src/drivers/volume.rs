//! What a driver is asked for a Pod's volume (upstream's csi_mounter and csi_attacher): read from the API, then put together purely.

use std::collections::BTreeMap;
use std::path::PathBuf;

use claims::attach;
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, CSIVolumeSource, PersistentVolume, PersistentVolumeSpec, Pod,
    SecretReference, Volume,
};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube::Api;
use ports::drivers::{AccessMode, DriverVolume, FsGroup};
use sha2::{Digest, Sha256};

use crate::agent::Agent;
use crate::objects::{self, Content, Kind, ObjectRef};
use crate::security;

/// What upstream's plugin begins its words with.
const SPEAKER: &str = "kubernetes.io/csi:";
/// What says who may use a volume (`podInfoOnMount`).
const INFO: &str = "csi.storage.k8s.io";

const DIGEST: attach::Digest = |bytes| Sha256::digest(bytes).to_vec();

/// A Pod's volume of a driver.
pub(crate) enum Asked<'v> {
    /// That of a claim, and whether the Pod only reads it.
    Claimed(Box<PersistentVolume>, bool),
    /// One of the Pod alone.
    Inline(&'v Volume),
}

/// What came of it.
pub(crate) enum Outcome {
    /// It is mounted here.
    There(PathBuf),
    /// It is not attached to the node yet; this object, of this version, tells of that.
    Waiting((ObjectRef, Option<String>)),
    /// What the Event says.
    Failed(String),
}

impl Asked<'_> {
    /// The name of the volume in texts.
    fn name(&self) -> &str {
        match self {
            Asked::Claimed(volume, _) => volume.metadata.name.as_deref().unwrap_or_default(),
            Asked::Inline(volume) => &volume.name,
        }
    }

    fn driver(&self) -> &str {
        match self {
            Asked::Claimed(volume, _) => source(volume).map_or("", |csi| &csi.driver),
            Asked::Inline(volume) => volume.csi.as_ref().map_or("", |csi| &csi.driver),
        }
    }

    fn is_inline(&self) -> bool {
        matches!(self, Asked::Inline(_))
    }
}

fn source(volume: &PersistentVolume) -> Option<&CSIPersistentVolumeSource> {
    volume.spec.as_ref()?.csi.as_ref()
}

/// Has a volume mounted for a Pod, which calls it `name`.
pub(crate) async fn set_up(agent: &Agent, pod: &Pod, name: &str, asked: Asked<'_>) -> Outcome {
    let failed = |why: String| {
        Outcome::Failed(format!(
            "MountVolume.SetUp failed for volume {:?} : {why}",
            asked.name()
        ))
    };
    let Some(drivers) = &agent.drivers else {
        return failed("no volume plugin matched".to_owned());
    };
    let api: Api<CSIDriver> = Api::all(agent.client.clone());
    let driver = match api.get_opt(asked.driver()).await {
        Ok(driver) => driver,
        Err(error) => return failed(error.to_string()),
    };
    if let Err(why) = check_lifecycle(&asked, driver.as_ref()) {
        let why = format!("{SPEAKER} mounter.SetupAt failed to check volume lifecycle mode: {why}");
        return failed(why);
    }
    let attachment = match attachment(agent, pod, &asked, driver.as_ref()).await {
        Ok(attachment) => attachment,
        Err(outcome) => return outcome,
    };
    let wanted = match read(agent, pod, &asked, driver.as_ref(), attachment).await {
        Ok(wanted) => wanted,
        Err(outcome) => return outcome,
    };
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match drivers.mount(uid, name, &wanted).await {
        Ok(place) => Outcome::There(place),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Whether a driver takes volumes of this kind; one that says nothing takes those of claims.
fn check_lifecycle(asked: &Asked<'_>, driver: Option<&CSIDriver>) -> Result<(), String> {
    let mode = match asked.is_inline() {
        true => "Ephemeral",
        false => "Persistent",
    };
    let name = asked.driver();
    let Some(driver) = driver else {
        return match asked.is_inline() {
            true => Err(format!(
                "volume mode {mode:?} not supported by driver {name} (no CSIDriver object)"
            )),
            false => Ok(()),
        };
    };
    let modes = driver.spec.volume_lifecycle_modes.as_deref();
    let modes = modes.unwrap_or_default();
    if modes.iter().any(|known| known == mode) {
        return Ok(());
    }
    let listed: Vec<String> = modes.iter().map(|mode| format!("{mode:?}")).collect();
    Err(format!(
        "volume mode {mode:?} not supported by driver {name} (only supports [{}])",
        listed.join(" ")
    ))
}

/// What was said when the volume was attached to this node, if it has to be.
async fn attachment(
    agent: &Agent,
    pod: &Pod,
    asked: &Asked<'_>,
    driver: Option<&CSIDriver>,
) -> Result<BTreeMap<String, String>, Outcome> {
    let Asked::Claimed(volume, _) = asked else {
        return Ok(BTreeMap::new());
    };
    let Some(csi) = source(volume).filter(|_| attach::is_required(driver)) else {
        return Ok(BTreeMap::new());
    };
    let failed = |error: String| {
        let volume = asked.name();
        Outcome::Failed(format!(
            "MountVolume.WaitForAttach failed for volume {volume:?} : {error}"
        ))
    };
    // It is said before it is relied on that the volume stays.
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let unique = attach::unique_name(&csi.driver, &csi.volume_handle);
    let held = agent.in_use.hold(agent, uid, &unique).await;
    held.map_err(|error| failed(error.to_string()))?;
    let node = &agent.config.node_name;
    let name = attach::name(DIGEST, &csi.volume_handle, &csi.driver, node);
    let reference = ObjectRef::new(Kind::Attachment, &name);
    let read = objects::read(&agent.client, "", vec![reference.clone()]).await;
    let read = read.map_err(failed)?;
    let found = read.get(&reference, true).ok().flatten();
    match found.and_then(Content::attachment).and_then(said) {
        Some(said) => Ok(said),
        None => Err(Outcome::Waiting((
            reference,
            found.and_then(Content::version),
        ))),
    }
}

/// What an attachment says once it is made, and while it stays.
fn said(found: &VolumeAttachment) -> Option<BTreeMap<String, String>> {
    let status = found.status.as_ref()?;
    let holds = status.attached && found.metadata.deletion_timestamp.is_none();
    holds.then(|| status.attachment_metadata.clone().unwrap_or_default())
}

/// Reads the secrets, and puts all of it together.
async fn read(
    agent: &Agent,
    pod: &Pod,
    asked: &Asked<'_>,
    driver: Option<&CSIDriver>,
    attachment: BTreeMap<String, String>,
) -> Result<DriverVolume, Outcome> {
    let failed = |stage: &str, why: String| {
        let name = asked.name();
        Outcome::Failed(format!(
            "MountVolume.{stage} failed for volume {name:?} : {why}"
        ))
    };
    let stage = match asked {
        Asked::Claimed(volume, _) => source(volume).and_then(|c| c.node_stage_secret_ref.clone()),
        Asked::Inline(_) => None,
    };
    let stage_secrets = secrets(agent, "NodeStageSecretRef", stage).await;
    let stage_secrets = stage_secrets.map_err(|why| failed("MountDevice", why))?;
    let publish = publish_secret(pod, asked);
    let publish_secrets = secrets(agent, "NodePublishSecretRef", publish).await;
    let publish_secrets = publish_secrets.map_err(|why| failed("SetUp", why))?;
    let wanted = match asked {
        Asked::Claimed(volume, is_read_only) => of_claim(pod, volume, *is_read_only, driver),
        Asked::Inline(volume) => inline(pod, volume, driver),
    };
    let wanted = wanted.ok_or_else(|| failed("SetUp", "no volume plugin matched".to_owned()))?;
    Ok(DriverVolume {
        attachment,
        stage_secrets,
        publish_secrets,
        ..wanted
    })
}

fn publish_secret(pod: &Pod, asked: &Asked<'_>) -> Option<SecretReference> {
    match asked {
        Asked::Claimed(volume, _) => source(volume)?.node_publish_secret_ref.clone(),
        Asked::Inline(volume) => {
            let named = volume.csi.as_ref()?.node_publish_secret_ref.as_ref()?;
            Some(SecretReference {
                name: Some(named.name.clone()),
                namespace: pod.metadata.namespace.clone(),
            })
        }
    }
}

/// What a Secret holds, as texts.
async fn secrets(
    agent: &Agent,
    field: &str,
    reference: Option<SecretReference>,
) -> Result<BTreeMap<String, String>, String> {
    let Some(SecretReference { name, namespace }) = reference else {
        return Ok(BTreeMap::new());
    };
    let (name, namespace) = (name.unwrap_or_default(), namespace.unwrap_or_default());
    let failed = |why: String| {
        format!(
            "fetching {field} {namespace}/{name} failed: {SPEAKER} failed to find the secret {name} in the namespace {namespace} with error: {why}"
        )
    };
    let secret = ObjectRef::new(Kind::Secret, &name);
    let read = objects::read(&agent.client, &namespace, vec![secret.clone()]).await;
    let read = read.map_err(failed)?;
    let missing = |_| failed(format!("secrets {name:?} not found"));
    let found = read.get(&secret, false).map_err(missing)?;
    let texts = found.map(|content| content.texts()).unwrap_or_default();
    Ok(texts
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect())
}

/// A claim's volume, but for what is read elsewhere.
fn of_claim(
    pod: &Pod,
    volume: &PersistentVolume,
    is_read_only: bool,
    driver: Option<&CSIDriver>,
) -> Option<DriverVolume> {
    let spec = volume.spec.as_ref()?;
    let csi = spec.csi.as_ref()?;
    let fs_type = csi.fs_type.clone().unwrap_or_default();
    let is_of_one_node = spec
        .access_modes
        .iter()
        .flatten()
        .any(|m| m == "ReadWriteOnce");
    Some(DriverVolume {
        name: volume.metadata.name.clone().unwrap_or_default(),
        driver: csi.driver.clone(),
        handle: csi.volume_handle.clone(),
        is_ephemeral: false,
        access_mode: access_mode(spec),
        fs_group: fs_group(pod, driver, !fs_type.is_empty() && is_of_one_node),
        fs_type,
        options: spec.mount_options.clone().unwrap_or_default(),
        is_read_only,
        attributes: csi.volume_attributes.clone().unwrap_or_default(),
        of_pod: of_pod(pod, driver, false),
        attachment: BTreeMap::new(),
        stage_secrets: BTreeMap::new(),
        publish_secrets: BTreeMap::new(),
    })
}

/// A volume of the Pod alone, but for what is read elsewhere.
fn inline(pod: &Pod, volume: &Volume, driver: Option<&CSIDriver>) -> Option<DriverVolume> {
    let csi: &CSIVolumeSource = volume.csi.as_ref()?;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let fs_type = csi.fs_type.clone().unwrap_or_default();
    Some(DriverVolume {
        name: volume.name.clone(),
        driver: csi.driver.clone(),
        handle: attach::inline_handle(DIGEST, uid, &volume.name),
        is_ephemeral: true,
        access_mode: AccessMode::ReadWriteOnce,
        fs_group: fs_group(pod, driver, !fs_type.is_empty()),
        fs_type,
        options: Vec::new(),
        is_read_only: csi.read_only.unwrap_or(false),
        attributes: csi.volume_attributes.clone().unwrap_or_default(),
        of_pod: of_pod(pod, driver, true),
        attachment: BTreeMap::new(),
        stage_secrets: BTreeMap::new(),
        publish_secrets: BTreeMap::new(),
    })
}

/// The first mode counts, as upstream has it.
fn access_mode(spec: &PersistentVolumeSpec) -> AccessMode {
    let first = spec.access_modes.iter().flatten().next();
    match first.map_or("", |mode| mode.as_str()) {
        "ReadOnlyMany" => AccessMode::ReadOnlyMany,
        "ReadWriteMany" => AccessMode::ReadWriteMany,
        "ReadWriteOncePod" => AccessMode::ReadWriteOncePod,
        _ => AccessMode::ReadWriteOnce,
    }
}

/// To whom files are to belong. Unless the driver's policy says so, only files on a file system of its own for one node do.
fn fs_group(pod: &Pod, driver: Option<&CSIDriver>, is_own: bool) -> Option<FsGroup> {
    let policy = driver.and_then(|driver| driver.spec.fs_group_policy.as_deref());
    Some(FsGroup {
        gid: security::fs_group(pod)?,
        is_given: match policy {
            Some("None") => false,
            Some("File") => true,
            _ => is_own,
        },
        trusts_root: security::trusts_root(pod),
    })
}

/// What a driver that asks for it is told of the Pod.
fn of_pod(pod: &Pod, driver: Option<&CSIDriver>, is_inline: bool) -> BTreeMap<String, String> {
    if driver.is_none_or(|driver| driver.spec.pod_info_on_mount != Some(true)) {
        return BTreeMap::new();
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let meta = &pod.metadata;
    let account = pod.spec.as_ref().map(|s| text(&s.service_account_name));
    [
        ("pod.name", text(&meta.name)),
        ("pod.namespace", text(&meta.namespace)),
        ("pod.uid", text(&meta.uid)),
        ("serviceAccount.name", account.unwrap_or_default()),
        ("ephemeral", is_inline.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (format!("{INFO}/{key}"), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod() -> Pod {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"serviceAccountName": "s", "containers": [], "securityContext": {"fsGroup": 7, "fsGroupChangePolicy": "OnRootMismatch"}},
        });
        serde_json::from_value(pod).expect("a Pod")
    }

    fn driver(spec: Value) -> CSIDriver {
        let driver = json!({"metadata": {"name": "d"}, "spec": spec});
        serde_json::from_value(driver).expect("a CSIDriver")
    }

    fn volume(spec: Value) -> PersistentVolume {
        let volume = json!({"metadata": {"name": "pv"}, "spec": spec});
        serde_json::from_value(volume).expect("a volume")
    }

    #[test]
    fn names_are_as_upstream_makes_them() {
        // printf %s abc | sha256sum
        let expected = "csi-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(attach::name(DIGEST, "a", "b", "c"), expected);
        assert_eq!(attach::inline_handle(DIGEST, "a", "bc"), expected);
    }

    #[test]
    fn groups_get_files_as_the_policy_says() {
        let csi = |fs_type: &str| json!({"driver": "d", "volumeHandle": "h", "fsType": fs_type});
        for (policy, fs_type, mode, is_given) in [
            ("File", "", "ReadWriteMany", true),
            ("None", "ext4", "ReadWriteOnce", false),
            ("ReadWriteOnceWithFSType", "ext4", "ReadWriteOnce", true),
            ("ReadWriteOnceWithFSType", "", "ReadWriteOnce", false),
            ("ReadWriteOnceWithFSType", "ext4", "ReadWriteMany", false),
        ] {
            let driver = driver(json!({ "fsGroupPolicy": policy }));
            let volume = volume(json!({"csi": csi(fs_type), "accessModes": [mode]}));
            let asked = of_claim(&pod(), &volume, false, Some(&driver)).expect("a driver's");
            let group = FsGroup {
                gid: 7,
                is_given,
                trusts_root: true,
            };
            assert_eq!(asked.fs_group, Some(group), "{policy} {fs_type} {mode}");
        }
    }

    #[test]
    fn drivers_are_told_of_pods_if_they_ask() {
        let volume: Volume =
            serde_json::from_value(json!({"name": "v", "csi": {"driver": "d"}})).expect("a volume");
        let silent = inline(&pod(), &volume, Some(&driver(json!({})))).expect("a driver's");
        assert!(silent.of_pod.is_empty());
        let asking = driver(json!({"podInfoOnMount": true}));
        let told = inline(&pod(), &volume, Some(&asking)).expect("a driver's");
        let told: Vec<(&str, &str)> = told.of_pod.iter().map(|(k, v)| (&**k, &**v)).collect();
        let expected = [
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.name", "p"),
            ("csi.storage.k8s.io/pod.namespace", "n"),
            ("csi.storage.k8s.io/pod.uid", "u"),
            ("csi.storage.k8s.io/serviceAccount.name", "s"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn kinds_of_volumes_are_the_drivers_choice() {
        let inline: Volume =
            serde_json::from_value(json!({"name": "v", "csi": {"driver": "d"}})).expect("a volume");
        let claimed = || {
            Asked::Claimed(
                Box::new(volume(json!({"csi": {"driver": "d", "volumeHandle": "h"}}))),
                false,
            )
        };
        let persistent = driver(json!({"volumeLifecycleModes": ["Persistent"]}));
        assert_eq!(check_lifecycle(&claimed(), None), Ok(()));
        assert_eq!(check_lifecycle(&claimed(), Some(&persistent)), Ok(()));
        for (driver, why) in [
            (None, "no CSIDriver object"),
            (Some(&persistent), "only supports [\"Persistent\"]"),
        ] {
            let expected = format!("volume mode \"Ephemeral\" not supported by driver d ({why})");
            assert_eq!(
                check_lifecycle(&Asked::Inline(&inline), driver),
                Err(expected)
            );
        }
    }

    #[test]
    fn attachments_hold_while_they_stay() {
        for (status, leaves, holds) in [
            (
                json!({"attached": true, "attachmentMetadata": {"a": "b"}}),
                false,
                true,
            ),
            (json!({"attached": false}), false, false),
            (json!({"attached": true}), true, false),
        ] {
            let mut found = json!({
                "metadata": {},
                "spec": {"attacher": "d", "nodeName": "n", "source": {}},
                "status": status,
            });
            if leaves {
                found["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
            }
            let found: VolumeAttachment = serde_json::from_value(found).expect("an attachment");
            assert_eq!(said(&found).is_some(), holds);
        }
    }
}
