//! PersistentVolumes: storage that claims can have (upstream's pkg/registry/core/persistentvolume).

use api::field::{Error, ErrorList, Path};
use api::names;
use api::storage::{CLASS_ANNOTATION, VOLUME_PROTECTION};
use serde_json::{Map, Value, json};

use crate::meta::{self, NameRule, annotation, immutable, invalid_text};
use crate::pod::internal::{self, Kind};
use crate::pod::{claim, default_source, deprecated_terms, node_selector, round_up, volumes};
use crate::view::{
    At, dig, entry, get, is_zero, object, object_mut, remove, restore, same, set_if_absent,
    set_if_zero, text,
};
use crate::{Rules, Subresource, csi, resources};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default,
    prepare_create: |volume| {
        // The phase begins with the volume.
        let since = dig(volume, &["metadata", "creationTimestamp"]).clone();
        let mut status = json!({"phase": "Pending"});
        if since.is_string() {
            object(&mut status).insert(SINCE.to_owned(), since);
        }
        object(volume).insert("status".to_owned(), status);
    },
    prepare_update: |part, new, old| match part {
        Subresource::Status => {
            restore(new, old, "spec");
            let phase = ["status", "phase"];
            let is_same = same(dig(new, &phase), dig(old, &phase));
            if is_same && dig(new, &["status", SINCE]).is_null() {
                restore(entry(new, "status"), get(old, "status"), SINCE);
            }
        }
        _ => restore(new, old, "status"),
    },
    validate_create: validate,
    validate_update,
};

/// Since when the phase is what it is.
const SINCE: &str = "lastPhaseTransitionTime";
const POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
/// Sources in the order they are looked at, and the name under which a second one is reported.
const SOURCES: [(&str, &str); 22] = [
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephFS"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
    ("csi", "csi"),
];
/// Sources of which a name is enough to say that they do not work, and upstream's words for it.
const OLD_SOURCES: [(&str, &str, &str); 6] = [
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "rbd",
        "rbd",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
];
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
/// Sources that are mounted with options.
const MOUNTED: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

/// Protects a new volume (the plugin StorageObjectInUseProtection).
pub fn admit(volume: &mut Value) {
    meta::protect(volume, VOLUME_PROTECTION);
}

/// Notes since when the phase of a volume is another one than before, unless who changes it says so.
pub fn stamp(new: &mut Value, old: &Value, now: &str) {
    let since = ["status", SINCE];
    let is_same = dig(new, &["status", "phase"]) == dig(old, &["status", "phase"]);
    if is_same || (!dig(new, &since).is_null() && dig(new, &since) != dig(old, &since)) {
        return;
    }
    object(entry(new, "status")).insert(SINCE.to_owned(), now.into());
}

/// What a client is told about a volume, new or changed, besides the answer.
pub(crate) fn warnings(volume: &Value) -> Vec<String> {
    let annotations = Path::new("metadata").child("annotations");
    let spec = At::field(volume, "spec");
    let mut found = Vec::new();
    for (key, why) in [
        (
            CLASS_ANNOTATION,
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        (
            MOUNT_OPTIONS,
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ] {
        if annotation(volume, key).is_some() {
            found.push(format!("{}: {why}", annotations.key(key)));
        }
    }
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if policy.text() == "Recycle" {
        found.push(format!("{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.", policy.path));
    }
    let required = spec.get("nodeAffinity").get("required");
    found.extend(deprecated_terms(&required.get("nodeSelectorTerms")));
    for (name, reported, why) in OLD_SOURCES {
        if spec.get(name).given() {
            found.push(format!("{}: {why}", spec.path.child(reported)));
        }
    }
    found
}

fn default(volume: &mut Value) {
    set_if_zero(entry(volume, "status"), "phase", "Pending");
    let spec = entry(volume, "spec");
    set_if_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
    set_if_absent(spec, "volumeMode", "Filesystem");
    object_mut(spec, "capacity").into_iter().for_each(round_up);
    default_source(spec);
}

fn validate(volume: &Value) -> ErrorList {
    let mut errors = meta::validate(volume, false, names::dns1123_subdomain);
    errors.extend(validate_spec(volume));
    errors.extend(mount_options(volume));
    errors
}

fn validate_update(part: Subresource, new: &Value, old: &Value) -> ErrorList {
    if part == Subresource::Status {
        return ErrorList::new();
    }
    let mut errors = validate(new);
    let (spec, before) = (At::field(new, "spec"), get(old, "spec"));
    errors.extend(same_source(spec.value, before));
    let mode = spec.get("volumeMode").reported_at(Path::new("volumeMode"));
    errors.extend(immutable(&mode, get(before, "volumeMode")));
    let affinity = spec.get("nodeAffinity");
    if !get(before, "nodeAffinity").is_null() {
        let affinity = affinity.reported_at(Path::new("nodeAffinity"));
        errors.extend(immutable(&affinity, get(before, "nodeAffinity")));
    }
    let attributes = spec.get("volumeAttributesClassName");
    if !attributes.given() && get(before, "volumeAttributesClassName").is_string() {
        let why = "update from non-nil value to nil is forbidden";
        errors.push(Error::forbidden(&attributes.path, why));
    }
    errors
}

/// The source stays what it is; a driver may be given what it needs to grow the volume.
fn same_source(now: &Value, before: &Value) -> Option<Error> {
    let of = |spec: &Value| -> Value {
        let sources = SOURCES.iter();
        let given = sources.filter(|(name, _)| !get(spec, name).is_null());
        let given = given.map(|(name, _)| ((*name).to_owned(), get(spec, name).clone()));
        given.collect::<Map<String, Value>>().into()
    };
    let (mut now, before) = (of(now), of(before));
    let expands = |source: &Value| !dig(source, &["csi", "controllerExpandSecretRef"]).is_null();
    if get(&before, "csi").is_object() && !expands(&before) && expands(&now) {
        remove(entry(&mut now, "csi"), "controllerExpandSecretRef");
    }
    if same(&now, &before) {
        return None;
    }
    let changes = internal::changes(Kind::PersistentVolumeSource, &before, &now);
    let path = Path::new("spec").child("persistentvolumesource");
    let why = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
    Some(Error::forbidden(&path, why))
}

fn mount_options(volume: &Value) -> Option<Error> {
    let spec = get(volume, "spec");
    let is_mounted = MOUNTED.iter().any(|name| !get(spec, name).is_null());
    if is_mounted || annotation(volume, MOUNT_OPTIONS).is_none() {
        return None;
    }
    let path = Path::new("metadata")
        .child("annotations")
        .child(MOUNT_OPTIONS);
    let why = "may not specify mount options for this volume type";
    Some(Error::forbidden(&path, why))
}

fn validate_spec(volume: &Value) -> ErrorList {
    let spec = At::field(volume, "spec");
    let mut errors = access_modes(&spec);
    errors.extend(capacity(&spec.get("capacity")));
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if !policy.text().is_empty() && !POLICIES.contains(&policy.text()) {
        errors.push(Error::not_supported(&policy.path, policy.text(), &POLICIES));
    }
    let name = text(dig(volume, &["metadata", "name"]));
    errors.extend(place(&spec, name));
    let class = spec.get("storageClassName");
    if !class.text().is_empty() {
        errors.extend(invalid_text(&class, names::dns1123_subdomain(class.text())));
    }
    errors.extend(claim::volume_mode(&spec.get("volumeMode")));
    errors.extend(attributes(&spec));
    errors
}

/// The specification of a volume that stands in a VolumeAttachment, for want of a PersistentVolume.
pub(crate) fn validate_inline(spec: &At<'_>) -> ErrorList {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    let mut errors = ErrorList::new();
    for name in ["claimRef", "capacity"] {
        let at = spec.get(name);
        if !is_zero(at.value) {
            errors.push(Error::forbidden(&at.path, INLINE));
        }
    }
    let csi = spec.get("csi");
    if !csi.given() {
        let why = "has to be specified in the context of inline volumes";
        errors.push(Error::required(&csi.path, why));
    }
    errors.extend(access_modes(spec));
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if !["", "Retain"].contains(&policy.text()) {
        let why = "may only be Retain in the context of inline volumes";
        errors.push(Error::forbidden(&policy.path, why));
    }
    errors.extend(place(spec, ""));
    let class = spec.get("storageClassName");
    if !class.text().is_empty() {
        errors.push(Error::forbidden(&class.path, INLINE));
    }
    let mode = spec.get("volumeMode");
    if mode.given() && mode.text() != "Filesystem" {
        let why =
            "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.push(Error::forbidden(&mode.path, why));
    }
    errors
}

fn access_modes(spec: &At<'_>) -> ErrorList {
    let modes = spec.get("accessModes");
    let mut errors = ErrorList::new();
    if modes.len() == 0 {
        errors.push(Error::required(&modes.path, ""));
    }
    errors.extend(claim::modes(&modes));
    errors
}

/// Where the storage is, and from which nodes it is reached.
fn place(spec: &At<'_>, volume: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let affinity = spec.get("nodeAffinity");
    let required = affinity.get("required");
    if required.given() {
        errors.extend(node_selector(&required));
    } else if affinity.given() {
        let why = "must specify required node constraints";
        errors.push(Error::required(&required.path, why));
    }
    errors.extend(sources(spec, volume));
    let policy = spec.get("persistentVolumeReclaimPolicy");
    let path = spec.get("hostPath").get("path");
    if is_root(path.text()) && policy.text() == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(Error::forbidden(&policy.path, why));
    }
    errors
}

fn attributes(spec: &At<'_>) -> ErrorList {
    let class = spec.get("volumeAttributesClassName");
    if !class.given() {
        return ErrorList::new();
    }
    let mut errors = match class.text() {
        "" => vec![Error::required(
            &class.path,
            "an empty string is disallowed",
        )],
        name => invalid_text(&class, names::dns1123_subdomain(name)),
    };
    let csi = spec.get("csi");
    if !csi.given() {
        let why = "has to be specified when using volumeAttributesClassName";
        errors.push(Error::required(&csi.path, why));
    }
    errors
}

fn is_root(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !["", "."].contains(part));
    path.starts_with('/') && parts.all(|part| part == "..")
}

fn capacity(capacity: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    if capacity.len() == 0 {
        errors.push(Error::required(&capacity.path, ""));
    }
    if get(capacity.value, "storage").is_null() || capacity.len() > 1 {
        errors.push(internal::unsupported_amounts(
            &capacity.path,
            capacity.value,
            &["storage"],
        ));
    }
    for (name, amount) in capacity.entries() {
        let at = amount.reported_at(capacity.path.key(name));
        errors.extend(resources::not_negative(&at));
        errors.extend(claim::positive(&at));
    }
    errors
}

fn sources(spec: &At<'_>, volume: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut is_found = false;
    for (name, reported) in SOURCES {
        let source = spec.get(name);
        if !source.given() {
            continue;
        }
        // Upstream does not mind a flexVolume as the second.
        if is_found && name != "flexVolume" {
            let why = "may not specify more than 1 volume type";
            errors.push(Error::forbidden(&spec.path.child(reported), why));
            continue;
        }
        is_found = true;
        errors.extend(match name {
            "local" => local(&source, spec),
            "csi" => of_driver(&source),
            // Upstream names this one otherwise where something in it is wrong.
            "gcePersistentDisk" => {
                volumes::source(name, &source.reported_at(spec.path.child("persistentDisk")))
            }
            "iscsi" => iscsi(&source, volume),
            _ => volumes::source(name, &source),
        });
    }
    if !is_found {
        errors.push(Error::required(&spec.path, "must specify a volume type"));
    }
    errors
}

fn iscsi(source: &At<'_>, volume: &str) -> ErrorList {
    let mut errors = volumes::source("iscsi", source);
    let portal = source.get("targetPortal").text();
    if source.get("initiatorName").given() && volume.len() + 1 + portal.len() > 64 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.push(Error::invalid(
            &source.path.child("targetportal"),
            portal,
            why,
        ));
    }
    errors
}

/// A directory or device of one node, which has to be said.
fn local(source: &At<'_>, spec: &At<'_>) -> ErrorList {
    let path = source.get("path");
    let mut errors = match path.text() {
        "" => vec![Error::required(&path.path, "")],
        text => volumes::no_backsteps(&path.path, text),
    };
    let affinity = spec.get("nodeAffinity");
    if !affinity.given() {
        let why = "Local volume requires node affinity";
        errors.push(Error::required(&affinity.path, why));
    }
    errors
}

fn of_driver(source: &At<'_>) -> ErrorList {
    let mut errors = csi::driver_name(&source.get("driver"));
    let handle = source.get("volumeHandle");
    if handle.text().is_empty() {
        errors.push(Error::required(&handle.path, ""));
    }
    for name in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let secret = source.get(name);
        if secret.given() {
            errors.extend(secret_reference(&secret));
        }
    }
    errors
}

fn secret_reference(secret: &At<'_>) -> ErrorList {
    let rules: [(&str, NameRule); 2] = [
        ("name", names::dns1123_subdomain),
        ("namespace", names::dns1123_label),
    ];
    let mut errors = ErrorList::new();
    for (name, rule) in rules {
        let at = secret.get(name);
        match at.text() {
            "" => errors.push(Error::required(&at.path, "")),
            text => errors.extend(invalid_text(&at, rule(text))),
        }
    }
    errors
}
