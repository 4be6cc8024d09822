//! Requests for certificates: who asks, and what only a parser of X.509 can tell of them.

use admission::Subresource;
use api::field::{Error, ErrorList, Path};
use api::status::{self, StatusError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::review;
use crate::identity::MASTERS;
use crate::pki::request;
use crate::rest::{Rest, meta};

/// The signer of clients of this API.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Says who asks.
pub(super) fn admit(rest: &Rest, object: &mut Value) {
    admission::certificate::ascribe(object, &review::shown(&rest.call.user));
}

/// Gives conditions their times.
pub(super) fn stamp(rest: &Rest, part: Subresource, new: &mut Value, old: &Value) {
    if matches!(part, Subresource::Approval | Subresource::Status) {
        admission::certificate::stamp(new, old, &rest.now());
    }
}

/// What is wrong with a request that is new, and with a certificate that has changed.
pub(super) fn errors(new: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (path, sent) = (Path::new("spec").child("request"), &new["spec"]["request"]);
    if old.is_none()
        && let Err(why) = request::check(&bytes(sent))
    {
        errors.push(Error::invalid(&path, sent.clone(), why.to_string()));
    }
    let certificate = bytes(&new["status"]["certificate"]);
    let before = old.map(|old| bytes(&old["status"]["certificate"]));
    let before = before.unwrap_or_default();
    let is_tolerated = certificate == before
        || certificate.is_empty()
        || (!before.is_empty() && request::wrong_certificates(&before).is_some());
    if !is_tolerated && let Some(why) = request::wrong_certificates(&certificate) {
        let path = Path::new("status").child("certificate");
        errors.push(Error::invalid(&path, "<certificate data>", why));
    }
    errors
}

/// Nobody is signed into the group that may do everything (the plugin CertificateSubjectRestriction).
pub(super) fn review(rest: &Rest, object: &Value) -> Result<(), StatusError> {
    if object["spec"]["signerName"] != CLIENT {
        return Ok(());
    }
    let refuse = |why| status::forbidden(&rest.group_resource(), meta(object, "name"), why);
    let asked = request::check(&bytes(&object["spec"]["request"]));
    let asked = asked.map_err(|why| refuse(format!("failed to parse CSR: {why}")))?;
    if asked.organizations.iter().any(|group| group == MASTERS) {
        let why = format!("use of {CLIENT} signer with {MASTERS} group is not allowed");
        return Err(refuse(why));
    }
    Ok(())
}

/// What a field of bytes holds; the schema has seen to it that it can be read.
fn bytes(field: &Value) -> Vec<u8> {
    let text = field.as_str().unwrap_or_default();
    STANDARD.decode(text).unwrap_or_default()
}
