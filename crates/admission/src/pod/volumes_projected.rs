//! Projected volumes: several sources in one directory.

use std::collections::BTreeSet;

use api::field::{Error, ErrorList, Path};

use super::env::{field_selector, resource_selector};
use super::volumes::{local_unreserved_path, mode};
use crate::view::At;

const VOLUME_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// `projected` of a volume.
pub(super) fn projected(volume: &At<'_>) -> ErrorList {
    let mut errors = mode(&volume.get("defaultMode"));
    let mut paths = BTreeSet::new();
    for source in volume.get("sources").items() {
        errors.extend(one(&source, volume, &mut paths));
    }
    errors
}

fn one<'a>(source: &At<'a>, volume: &At<'_>, paths: &mut BTreeSet<&'a str>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut found = 0;
    for kind in ["secret", "configMap"] {
        let object = source.get(kind);
        if object.given() {
            found += 1;
            errors.extend(keyed(&object, &volume.path, paths));
        }
    }
    let downward = source.get("downwardAPI");
    if downward.given() {
        found += 1;
        for item in downward.get("items").items() {
            errors.extend(downward_file(&item.reported_at(downward.path.clone())));
            errors.extend(claim_path(
                item.get("path").text(),
                item.get("path").text(),
                &volume.path,
                paths,
            ));
        }
    }
    let token = source.get("serviceAccountToken");
    if token.given() {
        found += 1;
        errors.extend(account_token(&token, volume));
    }
    for kind in ["clusterTrustBundle", "podCertificate"] {
        let other = source.get(kind);
        if other.given() {
            found += 1;
            errors.extend(trust(kind, &other, &volume.path, paths));
        }
    }
    if found > 1 {
        errors.push(Error::forbidden(
            &source.path,
            "may not specify more than 1 volume type per source",
        ));
    }
    errors
}

fn keyed<'a>(object: &At<'a>, volume: &Path, paths: &mut BTreeSet<&'a str>) -> ErrorList {
    let name = object.get("name");
    let mut errors = ErrorList::new();
    if name.text().is_empty() {
        errors.push(Error::required(&name.path, ""));
    }
    for item in object.get("items").items() {
        errors.extend(key_to_path(&item));
        errors.extend(claim_path(
            item.get("path").text(),
            name.text(),
            volume,
            paths,
        ));
    }
    errors
}

/// Two files cannot have one path.
fn claim_path<'a>(
    path: &'a str,
    shown: &str,
    volume: &Path,
    paths: &mut BTreeSet<&'a str>,
) -> Option<Error> {
    (!path.is_empty() && !paths.insert(path))
        .then(|| Error::invalid(volume, shown, "conflicting duplicate paths"))
}

fn account_token(token: &At<'_>, volume: &At<'_>) -> ErrorList {
    let expiry = token.get("expirationSeconds");
    let seconds = expiry.int().unwrap_or(0);
    let mut errors = ErrorList::new();
    if seconds < 600 {
        errors.push(Error::invalid(
            &expiry.path,
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > 1 << 32 {
        errors.push(Error::invalid(
            &expiry.path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    let at = volume.path.child("path");
    match token.get("path").text() {
        "" => errors.push(Error::required(&at, "")),
        path => errors.extend(local_unreserved_path(&at, path)),
    }
    errors
}

fn trust<'a>(kind: &str, at: &At<'a>, volume: &Path, paths: &mut BTreeSet<&'a str>) -> ErrorList {
    let fields: &[&str] = if kind == "podCertificate" {
        &["credentialBundlePath", "keyPath", "certificateChainPath"]
    } else {
        &["path"]
    };
    let mut errors = ErrorList::new();
    if kind == "clusterTrustBundle" {
        let (name, signer) = (at.get("name"), at.get("signerName"));
        match (name.given(), signer.given()) {
            (true, true) => errors.push(Error::invalid(
                &at.path,
                at.value.clone(),
                "only one of name and signerName may be used",
            )),
            (false, false) => errors.push(Error::required(
                &at.path,
                "either name or signerName must be specified",
            )),
            (true, false) if name.text().is_empty() => {
                errors.push(Error::required(&name.path, "must be a valid object name"))
            }
            (false, true) if signer.text().is_empty() => {
                errors.push(Error::required(&signer.path, "must be a valid signer name"))
            }
            _ => {}
        }
    }
    let given: Vec<At<'_>> = fields
        .iter()
        .map(|name| at.get(name))
        .filter(|field| !field.text().is_empty())
        .collect();
    if given.is_empty() {
        let (path, detail) = match kind {
            "podCertificate" => (
                at.path.clone(),
                "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
            ),
            _ => (at.path.child("path"), ""),
        };
        errors.push(Error::required(&path, detail));
    }
    for field in given {
        errors.extend(local_unreserved_path(&field.path, field.text()));
        errors.extend(claim_path(field.text(), field.text(), volume, paths));
    }
    errors
}

/// An item of a configMap, secret or their projections.
pub(super) fn key_to_path(item: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for name in ["key", "path"] {
        let field = item.get(name);
        if field.text().is_empty() {
            errors.push(Error::required(&field.path, ""));
        }
    }
    let path = item.get("path");
    errors.extend(local_unreserved_path(&path.path, path.text()));
    errors.extend(mode(&item.get("mode")));
    errors
}

/// An item of a downwardAPI volume.
pub(super) fn downward_file(file: &At<'_>) -> ErrorList {
    let (path, field, resource) = (
        file.get("path"),
        file.get("fieldRef"),
        file.get("resourceFieldRef"),
    );
    let mut errors = ErrorList::new();
    if path.text().is_empty() {
        errors.push(Error::required(&path.path, ""));
    }
    errors.extend(local_unreserved_path(&path.path, path.text()));
    if field.given() {
        errors.extend(field_selector(&field, &VOLUME_FIELDS));
        if resource.given() {
            errors.push(Error::invalid(
                &file.path,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ));
        }
    } else if resource.given() {
        errors.extend(resource_selector(&resource, true));
    } else {
        errors.push(Error::required(
            &file.path,
            "one of fieldRef and resourceFieldRef is required",
        ));
    }
    errors.extend(mode(&file.get("mode")));
    errors
}
