//! A Pod's volumes.

use std::collections::BTreeSet;

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::Value;

use super::mounts::Volumes;
use super::volumes_projected::{downward_file, key_to_path, projected};
use super::{PULL_POLICIES, word};
use crate::csi::driver_name;
use crate::meta::invalid_text;
use crate::resources;
use crate::view::{At, get, text};

/// Sources in the order they are looked at, and the name under which a second one is reported.
const SOURCES: [(&str, &str); 30] = [
    ("emptyDir", "emptyDir"),
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];

/// Validates `spec.volumes` and returns the good ones, which mounts may refer to.
pub(super) fn validate<'a>(
    volumes: &At<'a>,
    pod_name: &str,
    is_pod: bool,
) -> (Volumes<'a>, ErrorList) {
    let mut errors = ErrorList::new();
    let mut good = Volumes::new();
    let made_claims: BTreeSet<String> = volumes
        .items()
        .filter(|volume| !pod_name.is_empty() && volume.get("ephemeral").given())
        .map(|volume| format!("{pod_name}-{}", volume.get("name").text()))
        .collect();
    for volume in volumes.items() {
        let name = volume.get("name");
        let mut wrong = sources(&volume, pod_name, is_pod);
        match name.text() {
            "" => wrong.push(Error::required(&name.path, "")),
            text => wrong.extend(invalid_text(&name, names::dns1123_label(text))),
        }
        if good.contains_key(name.text()) {
            wrong.push(Error::duplicate(&name.path, name.text()));
        }
        if wrong.is_empty() {
            good.insert(name.text(), volume.value);
        }
        errors.extend(wrong);
        let claim = volume.get("persistentVolumeClaim").get("claimName");
        if made_claims.contains(claim.text()) {
            errors.push(Error::invalid(
                &claim.path,
                claim.text(),
                "must not reference a PVC that gets created for an ephemeral volume",
            ));
        }
    }
    (good, errors)
}

fn sources(volume: &At<'_>, pod_name: &str, is_pod: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut found = false;
    for (name, reported) in SOURCES {
        let source = volume.get(name);
        if !source.given() {
            continue;
        }
        if found {
            errors.push(Error::forbidden(
                &volume.path.child(reported),
                "may not specify more than 1 volume type",
            ));
            continue;
        }
        found = true;
        errors.extend(match name {
            "emptyDir" => empty_dir(&source),
            "secret" => keyed(&source, "secretName"),
            "configMap" => keyed(&source, "name"),
            "downwardAPI" => downward_api(&source),
            "projected" => projected(&source),
            "ephemeral" => ephemeral(&source, volume, pod_name),
            "image" => image(&source, is_pod),
            "csi" => csi(&source),
            "gitRepo" => git_repo(&source),
            _ => self::source(name, &source),
        });
    }
    if !found {
        errors.push(Error::required(&volume.path, "must specify a volume type"));
    }
    errors
}

/// What is wrong with a source that volumes of Pods and of the cluster have in common.
pub(crate) fn source(name: &str, source: &At<'_>) -> ErrorList {
    match name {
        "hostPath" => host_path(source),
        "nfs" => nfs(source),
        _ => required(source, required_fields(name)),
    }
}

/// What sources of storage systems outside the node cannot do without.
fn required_fields(source: &str) -> &'static [&'static str] {
    match source {
        "persistentVolumeClaim" => &["claimName"],
        "glusterfs" => &["endpoints", "path"],
        "rbd" => &["monitors", "image"],
        "cephfs" => &["monitors"],
        "cinder" | "awsElasticBlockStore" | "portworxVolume" => &["volumeID"],
        "gcePersistentDisk" => &["pdName"],
        "flexVolume" => &["driver"],
        "azureFile" => &["secretName", "shareName"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "azureDisk" => &["diskName", "diskURI"],
        "storageos" => &["volumeName"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "iscsi" => &["targetPortal", "iqn"],
        "quobyte" => &["registry", "volume"],
        _ => &[],
    }
}

fn required(source: &At<'_>, fields: &[&str]) -> ErrorList {
    let missing = fields
        .iter()
        .map(|name| source.get(name))
        .filter(|field| field.text().is_empty() && field.len() == 0);
    missing
        .map(|field| Error::required(&field.path, ""))
        .collect()
}

fn empty_dir(source: &At<'_>) -> ErrorList {
    let limit = source.get("sizeLimit");
    match resources::quantity(limit.value) {
        Some(quantity) if quantity.signum() < 0 => vec![Error::forbidden(
            &limit.path,
            "SizeLimit field must be a valid resource quantity",
        )],
        _ => ErrorList::new(),
    }
}

fn host_path(source: &At<'_>) -> ErrorList {
    const TYPES: [&str; 8] = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    let path = source.get("path");
    if path.text().is_empty() {
        return vec![Error::required(&path.path, "")];
    }
    let mut errors = no_backsteps(&path.path, path.text());
    errors.extend(super::optional_word(&source.get("type"), &TYPES));
    errors
}

fn git_repo(source: &At<'_>) -> ErrorList {
    let mut errors = required(source, &["repository"]);
    let directory = source.get("directory");
    errors.extend(local_path(&directory.path, directory.text()));
    errors
}

fn nfs(source: &At<'_>) -> ErrorList {
    let mut errors = required(source, &["server", "path"]);
    let path = source.get("path");
    if !path.text().starts_with('/') {
        errors.push(Error::invalid(
            &path.path,
            path.text(),
            "must be an absolute path",
        ));
    }
    errors
}

/// The sources that are named objects with chosen keys.
fn keyed(source: &At<'_>, name: &str) -> ErrorList {
    let mut errors = required(source, &[name]);
    errors.extend(mode(&source.get("defaultMode")));
    errors.extend(
        source
            .get("items")
            .items()
            .flat_map(|item| key_to_path(&item)),
    );
    errors
}

fn downward_api(source: &At<'_>) -> ErrorList {
    let mut errors = mode(&source.get("defaultMode"));
    // Items report at the source, as upstream does.
    errors.extend(
        source
            .get("items")
            .items()
            .flat_map(|item| downward_file(&item.reported_at(source.path.clone()))),
    );
    errors
}

fn image(source: &At<'_>, is_pod: bool) -> ErrorList {
    let mut errors = if is_pod {
        required(source, &["reference"])
    } else {
        ErrorList::new()
    };
    errors.extend(word(&source.get("pullPolicy"), &PULL_POLICIES));
    errors
}

fn csi(source: &At<'_>) -> ErrorList {
    let mut errors = driver_name(&source.get("driver"));
    let secret = source.get("nodePublishSecretRef");
    if secret.given() {
        match secret.get("name").text() {
            "" => errors.push(Error::required(&secret.path.child("name"), "")),
            name => {
                let messages = names::dns1123_subdomain(name);
                errors.extend(
                    messages
                        .into_iter()
                        .map(|message| Error::invalid(&source.path.child("name"), name, message)),
                );
            }
        }
    }
    errors
}

fn ephemeral(source: &At<'_>, volume: &At<'_>, pod_name: &str) -> ErrorList {
    let template = source.get("volumeClaimTemplate");
    let mut errors = ErrorList::new();
    if template.given() {
        errors.extend(super::claim::validate(&template.get("spec")));
    } else {
        errors.push(Error::required(&template.path, ""));
    }
    let name = volume.get("name");
    if !pod_name.is_empty() && !name.text().is_empty() {
        let claim = format!("{pod_name}-{}", name.text());
        let messages = names::dns1123_subdomain(&claim);
        errors.extend(messages.into_iter().map(|message| {
            Error::invalid(
                &name.path,
                name.text(),
                format!("PVC name {claim:?}: {message}"),
            )
        }));
    }
    errors
}

/// Permission bits of a file.
pub(super) fn mode(at: &At<'_>) -> ErrorList {
    match at.int() {
        Some(bits) if !(0..=0o777).contains(&bits) => {
            vec![Error::invalid(
                &at.path,
                bits,
                "must be a number between 0 and 0777 (octal), both inclusive",
            )]
        }
        _ => ErrorList::new(),
    }
}

/// A path without `..` elements.
pub(crate) fn no_backsteps(path: &Path, value: &str) -> ErrorList {
    if value.split('/').any(|element| element == "..") {
        return vec![Error::invalid(path, value, "must not contain '..'")];
    }
    ErrorList::new()
}

/// A relative path that stays below where it starts.
pub(super) fn local_path(path: &Path, value: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    if value.starts_with('/') {
        errors.push(Error::invalid(path, value, "must be a relative path"));
    }
    errors.extend(no_backsteps(path, value));
    errors
}

/// A local path that does not clash with the names a volume keeps for itself.
pub(super) fn local_unreserved_path(path: &Path, value: &str) -> ErrorList {
    let mut errors = local_path(path, value);
    if value.starts_with("..") && !value.starts_with("../") {
        errors.push(Error::invalid(path, value, "must not start with '..'"));
    }
    errors
}

/// Variables taken from files need a volume the Pod's own containers write.
pub(super) fn file_key_volumes(spec: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for container in super::containers::every(spec) {
        for variable in container.get("env").items() {
            let reference = variable.get("valueFrom").get("fileKeyRef");
            if !reference.given() {
                continue;
            }
            let name = reference.get("volumeName");
            let volume = spec
                .get("volumes")
                .items()
                .find(|volume| text(get(volume.value, "name")) == name.text());
            match volume {
                None => errors.push(Error::not_found(&name.path, name.text())),
                Some(volume) if !is_empty_dir(volume.value) => {
                    errors.push(Error::invalid(
                        &name.path,
                        name.text(),
                        "referenced volume must be of type emptyDir",
                    ));
                }
                Some(_) => {}
            }
        }
    }
    errors
}

fn is_empty_dir(volume: &Value) -> bool {
    !get(volume, "emptyDir").is_null()
}
