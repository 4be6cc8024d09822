//! Volumes made for claims that find none, of directories on the node.

use api::storage::DEFAULT_MARKS;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::object::{
    BY_CONTROLLER, PROVISIONED_BY, SELECTED_NODE, annotate, annotation, capacity, claim_spec,
    class_of_claim, mode, name, reference, requested,
};
use crate::{Key, Step, Words, World};

/// Who makes volumes of directories below the engine's root.
pub const PROVISIONER: &str = "carob.dev/directory";
/// The class every cluster has.
const STANDARD: &str = "standard";
/// On a claim: who is to make its volume, once and today.
const STORAGE_PROVISIONER: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];

/// The class that claims get which name none, unless users say otherwise.
pub fn standard_class() -> StorageClass {
    let mut metadata = ObjectMeta {
        name: Some(STANDARD.to_owned()),
        ..ObjectMeta::default()
    };
    annotate(&mut metadata, DEFAULT_MARKS[0], "true");
    StorageClass {
        metadata,
        provisioner: PROVISIONER.to_owned(),
        reclaim_policy: Some("Delete".to_owned()),
        volume_binding_mode: Some("Immediate".to_owned()),
        // Nothing is in the way of what is in a directory.
        allow_volume_expansion: Some(true),
        ..StorageClass::default()
    }
}

/// The name of the class for claims that name none: of several the newest, and of those the first by name.
pub(crate) fn default_class<'a>(world: &World<'a>) -> Option<&'a str> {
    let is_marked = |class: &&&StorageClass| {
        let mut marks = DEFAULT_MARKS.iter();
        marks.any(|mark| annotation(&class.metadata, mark) == Some("true"))
    };
    let age = |class: &&&StorageClass| {
        let created = class.metadata.creation_timestamp.as_ref();
        let name = name(&class.metadata).to_owned();
        (created.map(|time| time.0), std::cmp::Reverse(name))
    };
    let newest = world.classes.values().filter(is_marked).max_by_key(age)?;
    Some(name(&newest.metadata))
}

/// What is to be done so that a claim gets a volume of its class.
pub(crate) fn plan(
    world: &World<'_>,
    key: &Key,
    claim: &PersistentVolumeClaim,
    class: Option<&StorageClass>,
) -> Option<Step> {
    let tell = |words| Some(Step::TellOfClaim(key.clone(), words));
    let fail = |why| tell(Words::warning("ProvisioningFailed", why));
    let Some(class) = class else {
        let name = class_of_claim(claim);
        return fail(format!("storageclass.storage.k8s.io {name:?} not found"));
    };
    let provisioner = &*class.provisioner;
    if provisioner.starts_with("kubernetes.io/") {
        return fail(format!("no volume plugin matched name: {provisioner}"));
    }
    if let Some(step) = annotated(world, claim, class) {
        return Some(step);
    }
    if provisioner != PROVISIONER {
        let why = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
        );
        return tell(Words::normal("ExternalProvisioning", why));
    }
    if let Some(why) = refused(claim, class) {
        return fail(why);
    }
    let volume = made_for(claim, class);
    // One that is there already, and does not suit the claim, will not by being made again.
    let is_there = world.volumes.contains_key(name(&volume.metadata));
    (!is_there).then(|| Step::Provision {
        claim: key.clone(),
        volume: Box::new(volume),
    })
}

/// The claim with what provisioners look for, where that is not there yet.
fn annotated(
    world: &World<'_>,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
) -> Option<Step> {
    let mut changed = claim.clone();
    let mut is_changed = false;
    for key in STORAGE_PROVISIONER {
        is_changed |= annotate(&mut changed.metadata, key, &class.provisioner);
    }
    let is_delayed = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
    if let (true, Some(node)) = (is_delayed, world.node) {
        is_changed |= annotate(&mut changed.metadata, SELECTED_NODE, node);
    }
    is_changed.then(|| Step::Claim(Box::new(changed)))
}

/// Whether a volume is a directory made here.
pub(crate) fn is_directory(volume: &PersistentVolume) -> bool {
    annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER)
}

/// The volume of a claim that asks for more than it has by now: a directory has as much as its disk.
pub(crate) fn grown(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<Step> {
    if !is_directory(volume) || requested(claim) <= capacity(volume) {
        return None;
    }
    let mut changed = volume.clone();
    let spec = changed.spec.get_or_insert_default();
    spec.capacity = claim_spec(claim).resources.and_then(|r| r.requests);
    Some(Step::Volume(Box::new(changed)))
}

/// Why no directory does.
fn refused(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let spec = claim.spec.as_ref()?;
    let name = name(&class.metadata);
    let options = class.mount_options.as_deref().unwrap_or_default();
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some(format!(
            "plugin {PROVISIONER:?} is not a CSI plugin. Only CSI plugin can provision a claim with a datasource"
        ));
    }
    if !options.is_empty() {
        let options = options.join(" ");
        return Some(format!(
            "Mount options are not supported by the provisioner but StorageClass {name:?} has mount options [{options}]"
        ));
    }
    if mode(spec.volume_mode.as_deref()) == "Block" {
        return Some(format!(
            "Failed to provision volume with StorageClass {name:?}: {PROVISIONER} does not support block volume provisioning"
        ));
    }
    if spec.selector.is_some() {
        return Some(format!(
            "Failed to provision volume with StorageClass {name:?}: claim.Spec.Selector is not supported for dynamic provisioning on {PROVISIONER}"
        ));
    }
    None
}

/// The volume of a claim, but for the directory.
fn made_for(claim: &PersistentVolumeClaim, class: &StorageClass) -> PersistentVolume {
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    let spec = claim_spec(claim);
    let mut metadata = ObjectMeta {
        name: Some(format!("pvc-{uid}")),
        ..ObjectMeta::default()
    };
    annotate(&mut metadata, BY_CONTROLLER, "yes");
    annotate(&mut metadata, PROVISIONED_BY, PROVISIONER);
    PersistentVolume {
        metadata,
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: spec.resources.and_then(|resources| resources.requests),
            claim_ref: Some(reference(claim)),
            persistent_volume_reclaim_policy: class.reclaim_policy.clone(),
            storage_class_name: Some(class_of_claim(claim).to_owned()),
            volume_mode: spec.volume_mode,
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}
