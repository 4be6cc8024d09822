//! VolumeAttachments: that a volume of a driver is to be reachable from a node, and whether it is (upstream's pkg/apis/storage).

use api::field::{Error, ErrorList};
use api::names;
use serde_json::{Value, json};

use crate::meta::{self, immutable_struct, invalid_text};
use crate::pod::internal::Kind;
use crate::view::{At, get, object, restore};
use crate::{Rules, Subresource, csi, generic, persistentvolume};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default: generic::nothing,
    prepare_create: |attachment| {
        object(attachment).insert("status".to_owned(), json!({"attached": false}));
    },
    prepare_update: |part, new, old| match part {
        Subresource::Status => restore(new, old, "spec"),
        _ => restore(new, old, "status"),
    },
    validate_create: validate,
    validate_update: |_, new, old| {
        let mut errors = validate(new);
        let spec = At::field(new, "spec");
        errors.extend(immutable_struct(
            &spec,
            get(old, "spec"),
            Kind::AttachmentSpec,
        ));
        errors
    },
};

/// Bytes.
const MAX_METADATA: usize = 256 << 10;
/// Bytes.
const MAX_MESSAGE: usize = 1024;
const ONE_OF: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";

fn validate(attachment: &Value) -> ErrorList {
    let mut errors = meta::validate(attachment, false, names::dns1123_subdomain);
    let spec = At::field(attachment, "spec");
    errors.extend(csi::driver_name(&spec.get("attacher")));
    let source = spec.get("source");
    let (inline, volume) = (
        source.get("inlineVolumeSpec"),
        source.get("persistentVolumeName"),
    );
    match (inline.given(), volume.given()) {
        (false, false) => errors.push(Error::required(&source.path, ONE_OF)),
        (true, true) => errors.push(Error::forbidden(&source.path, ONE_OF)),
        (false, true) if volume.text().is_empty() => {
            let why = "must specify non empty persistentVolumeName";
            errors.push(Error::required(&volume.path, why));
        }
        (false, true) => {}
        (true, false) => errors.extend(persistentvolume::validate_inline(&inline)),
    }
    let node = spec.get("nodeName");
    errors.extend(invalid_text(&node, names::dns1123_subdomain(node.text())));
    errors.extend(status(&At::field(attachment, "status")));
    if volume.given() {
        let wrong = names::dns1123_subdomain(volume.text());
        errors.extend(invalid_text(&volume, wrong));
    }
    errors
}

fn status(status: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let metadata = status.get("attachmentMetadata");
    let bytes = metadata.entries();
    let bytes: usize = bytes.map(|(key, at)| key.len() + at.text().len()).sum();
    if bytes > MAX_METADATA {
        errors.push(Error::too_long(&metadata.path, MAX_METADATA));
    }
    for name in ["attachError", "detachError"] {
        let message = status.get(name).get("message");
        if message.text().len() > MAX_MESSAGE {
            // Upstream tells the other limit.
            errors.push(Error::too_long(&message.path, MAX_METADATA));
        }
        let code = status.get(name).get("errorCode");
        if let Some(number) = code.int()
            && number < 0
        {
            let why = names::inclusive_range(0, i64::from(i32::MAX));
            errors.push(Error::invalid(&code.path, number, why));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_an_attachment_is_bounded() {
        let said = |bytes: usize| {
            let metadata = json!({"k": "x".repeat(bytes - 1)});
            let told = json!({"attachmentMetadata": metadata});
            status(&At::field(&json!({"status": told}), "status"))
        };
        assert_eq!(said(MAX_METADATA), []);
        let path = api::field::Path::new("status").child("attachmentMetadata");
        assert_eq!(
            said(MAX_METADATA + 1),
            [Error::too_long(&path, MAX_METADATA)]
        );
    }
}
