//! Volume mounts and devices of a container.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{Error, ErrorList};
use serde_json::Value;

use super::optional_word;
use super::volumes::{local_path, no_backsteps};
use crate::view::{At, get};

/// Volumes by name: what a mount can refer to.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

/// `volumeMounts` of a container that is or is not privileged.
pub(super) fn mounts(container: &At<'_>, volumes: &Volumes<'_>) -> ErrorList {
    let (mounts, devices) = (
        container.get("volumeMounts"),
        container.get("volumeDevices"),
    );
    let privileged = container.get("securityContext").get("privileged").is_true();
    let mut errors = ErrorList::new();
    let mut paths = BTreeSet::new();
    for mount in mounts.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        if name.text().is_empty() {
            errors.push(Error::required(&name.path, ""));
        }
        if !volumes.contains_key(name.text()) {
            errors.push(Error::not_found(&name.path, name.text()));
        }
        if path.text().is_empty() {
            errors.push(Error::required(&path.path, ""));
        }
        if !paths.insert(path.text()) {
            errors.push(Error::invalid(&path.path, path.text(), "must be unique"));
        }
        if devices
            .items()
            .any(|device| device.get("name").text() == name.text())
        {
            errors.push(Error::invalid(
                &name.path,
                name.text(),
                "must not already exist in volumeDevices",
            ));
        }
        if devices
            .items()
            .any(|device| device.get("devicePath").text() == path.text())
        {
            errors.push(Error::invalid(
                &path.path,
                path.text(),
                "must not already exist as a path in volumeDevices",
            ));
        }
        errors.extend(sub_paths(&mount, &mounts));
        errors.extend(propagation(&mount, &mounts, privileged));
        errors.extend(recursive_read_only(&mount, &mounts));
    }
    errors
}

/// These report at the list, as upstream does.
fn sub_paths(mount: &At<'_>, mounts: &At<'_>) -> ErrorList {
    let (sub_path, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
    let mut errors = ErrorList::new();
    if !sub_path.text().is_empty() {
        errors.extend(local_path(&mounts.path.child("subPath"), sub_path.text()));
    }
    if !expression.text().is_empty() {
        if !sub_path.text().is_empty() {
            errors.push(Error::invalid(
                &expression.path,
                expression.text(),
                "subPathExpr and subPath are mutually exclusive",
            ));
        }
        errors.extend(local_path(
            &mounts.path.child("subPathExpr"),
            expression.text(),
        ));
    }
    errors
}

fn propagation(mount: &At<'_>, mounts: &At<'_>, privileged: bool) -> ErrorList {
    let mode = mount
        .get("mountPropagation")
        .reported_at(mounts.path.child("mountPropagation"));
    let mut errors = optional_word(&mode, &["Bidirectional", "HostToContainer", "None"]);
    if mode.text() == "Bidirectional" && !privileged {
        errors.push(Error::forbidden(
            &mode.path,
            "Bidirectional mount propagation is available only to privileged containers",
        ));
    }
    errors
}

fn recursive_read_only(mount: &At<'_>, mounts: &At<'_>) -> ErrorList {
    let mode = mount
        .get("recursiveReadOnly")
        .reported_at(mounts.path.child("recursiveReadOnly"));
    let mut errors = ErrorList::new();
    match mode.text() {
        _ if !mode.given() => {}
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.get("readOnly").is_true() {
                errors.push(Error::forbidden(
                    &mode.path,
                    "may only be specified when readOnly is true",
                ));
            }
            if !["", "None"].contains(&mount.get("mountPropagation").text()) {
                errors.push(Error::forbidden(
                    &mode.path,
                    "may only be specified when mountPropagation is None or not specified",
                ));
            }
        }
        other => errors.push(Error::not_supported(
            &mode.path,
            other,
            &["Disabled", "Enabled", "IfPossible"],
        )),
    }
    errors
}

/// `volumeDevices` of a container.
pub(super) fn devices(container: &At<'_>, volumes: &Volumes<'_>) -> ErrorList {
    let (mounts, devices) = (
        container.get("volumeMounts"),
        container.get("volumeDevices"),
    );
    let mut errors = ErrorList::new();
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for device in devices.items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        let volume = volumes.get(name.text());
        let of_claim = volume.is_some_and(|volume| {
            ["persistentVolumeClaim", "ephemeral"]
                .iter()
                .any(|source| !get(volume, source).is_null())
        });
        if name.text().is_empty() {
            errors.push(Error::required(&name.path, ""));
        }
        if names.contains(name.text()) {
            errors.push(Error::invalid(&name.path, name.text(), "must be unique"));
        }
        match volume {
            None => errors.push(Error::not_found(&name.path, name.text())),
            Some(_) if !of_claim => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&name.path, name.text(), detail));
            }
            Some(_) => {}
        }
        if path.text().is_empty() {
            errors.push(Error::required(&path.path, ""));
        }
        if paths.contains(path.text()) {
            errors.push(Error::invalid(&path.path, path.text(), "must be unique"));
        }
        if no_backsteps(&path.path, path.text()).is_empty() {
            paths.insert(path.text());
        } else {
            errors.push(Error::invalid(
                &path.path,
                path.text(),
                "can not contain backsteps ('..')",
            ));
        }
        if mounts
            .items()
            .any(|mount| mount.get("name").text() == name.text())
        {
            errors.push(Error::invalid(
                &name.path,
                name.text(),
                "must not already exist in volumeMounts",
            ));
        }
        if mounts
            .items()
            .any(|mount| mount.get("mountPath").text() == path.text())
        {
            errors.push(Error::invalid(
                &path.path,
                path.text(),
                "must not already exist as a path in volumeMounts",
            ));
        }
        if !name.text().is_empty() {
            names.insert(name.text());
        }
    }
    errors
}
