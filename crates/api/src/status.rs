//! `Status`, the body of every error (spec kubectl-and-api §11.1), and upstream's constructors with their exact messages.

use crate::field::{self, ErrorList};
use crate::gotext::quote;
use crate::gvk::{GroupKind, GroupResource};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// The result of a request that does not return an object. Serialises to the wire form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Always `Status`.
    pub kind: String,
    /// Always `v1`.
    pub api_version: String,
    /// Empty, except for the fresh `continue` of an expired list.
    pub metadata: StatusMeta,
    /// `Success` or `Failure`.
    pub status: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For machines, such as `NotFound`; empty for errors upstream gives no reason.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What the request was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
    /// The HTTP status code; 0 is left out.
    #[serde(skip_serializing_if = "is_zero_u16")]
    pub code: u16,
}

/// List metadata of a Status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusMeta {
    /// Where an expired list can go on.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
    /// The revision spoken about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// As other metadata has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<i64>,
}

/// What the request was about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    /// The object's name; for a timeout the operation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The group; absent for core.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource for most reasons, the kind for Invalid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Of the object deleted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One per wrong field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// Seconds after which to try again; pairs with the `Retry-After` header. 0 is left out.
    #[serde(skip_serializing_if = "is_zero_i32")]
    pub retry_after_seconds: i32,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusCause {
    /// Such as `FieldValueRequired`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Without the field.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

// serde's skip_serializing_if hands references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_u16(n: &u16) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_i32(n: &i32) -> bool {
    *n == 0
}

impl Default for Status {
    fn default() -> Self {
        Self {
            kind: "Status".to_owned(),
            api_version: "v1".to_owned(),
            metadata: StatusMeta::default(),
            status: "Success".to_owned(),
            message: String::new(),
            reason: String::new(),
            details: None,
            code: 0,
        }
    }
}

impl Status {
    /// `status: Success`, as returned for an object that is gone at once (code 0) or was created virtually (code 201).
    pub fn success(code: u16, details: Option<StatusDetails>) -> Self {
        Self {
            code,
            details,
            ..Self::default()
        }
    }

    /// The wire form.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and vectors always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A failed request. Boxed, because it travels in `Result`s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusError(Box<Status>);

impl StatusError {
    /// The Status to send.
    pub fn into_status(self) -> Status {
        *self.0
    }

    /// With `details.retryAfterSeconds`.
    #[must_use]
    pub fn retry_after(mut self, seconds: i32) -> Self {
        self.0.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// With one more cause.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: impl Into<String>, field: &str) -> Self {
        let cause = StatusCause {
            reason: reason.to_owned(),
            message: message.into(),
            field: field.to_owned(),
        };
        self.0.details.get_or_insert_default().causes.push(cause);
        self
    }
}

impl Deref for StatusError {
    type Target = Status;

    fn deref(&self) -> &Status {
        &self.0
    }
}

impl DerefMut for StatusError {
    fn deref_mut(&mut self) -> &mut Status {
        &mut self.0
    }
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for StatusError {}

impl From<Status> for StatusError {
    fn from(status: Status) -> Self {
        Self(Box::new(status))
    }
}

/// Any failure; prefer the named ones below. An empty reason is what upstream sends for errors it did not foresee.
pub fn failure(
    code: u16,
    reason: &str,
    message: impl Into<String>,
    details: Option<StatusDetails>,
) -> StatusError {
    Status {
        status: "Failure".to_owned(),
        message: message.into(),
        reason: reason.to_owned(),
        details,
        code,
        ..Status::default()
    }
    .into()
}

fn about(resource: &GroupResource, name: &str) -> Option<StatusDetails> {
    Some(StatusDetails {
        name: name.to_owned(),
        group: resource.group.clone(),
        kind: resource.resource.clone(),
        ..StatusDetails::default()
    })
}

/// 404 `pods "x" not found`.
pub fn not_found(resource: &GroupResource, name: &str) -> StatusError {
    failure(
        404,
        "NotFound",
        format!("{resource} {} not found", quote(name)),
        about(resource, name),
    )
}

/// 404 `the server could not find the requested resource`, for a path nothing is served on.
pub fn unknown_path() -> StatusError {
    failure(
        404,
        "NotFound",
        "the server could not find the requested resource",
        Some(StatusDetails::default()),
    )
}

/// 409 `pods "x" already exists`.
pub fn already_exists(resource: &GroupResource, name: &str) -> StatusError {
    failure(
        409,
        "AlreadyExists",
        format!("{resource} {} already exists", quote(name)),
        about(resource, name),
    )
}

/// 409 after all tries to complete `generateName` met existing objects.
pub fn generate_name_conflict(
    resource: &GroupResource,
    name: &str,
    retry_after: i32,
) -> StatusError {
    let message = format!(
        "{resource} {} already exists, the server was not able to generate a unique name for the object",
        quote(name)
    );
    failure(409, "AlreadyExists", message, about(resource, name)).retry_after(retry_after)
}

/// The reason of a [`conflict`] when the sent `resourceVersion` is not the newest.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// 409 `Operation cannot be fulfilled on deployments.apps "x": <why>`.
pub fn conflict(resource: &GroupResource, name: &str, why: impl fmt::Display) -> StatusError {
    let message = format!(
        "Operation cannot be fulfilled on {resource} {}: {why}",
        quote(name)
    );
    failure(409, "Conflict", message, about(resource, name))
}

/// 409 for server-side apply: the message and one cause per field.
pub fn apply_conflict(causes: Vec<StatusCause>, message: impl Into<String>) -> StatusError {
    failure(
        409,
        "Conflict",
        message,
        Some(StatusDetails {
            causes,
            ..StatusDetails::default()
        }),
    )
}

/// 422 `Pod "x" is invalid: …`, with a cause per error.
pub fn invalid(kind: &GroupKind, name: &str, errors: ErrorList) -> StatusError {
    let message = if errors.is_empty() {
        format!("{kind} {} is invalid", quote(name))
    } else {
        format!(
            "{kind} {} is invalid: {}",
            quote(name),
            field::aggregate(&errors)
        )
    };
    let causes = errors
        .into_iter()
        .map(|e| StatusCause {
            reason: e.kind.reason().to_owned(),
            message: e.body(),
            field: e.field,
        })
        .collect();
    let details = StatusDetails {
        name: name.to_owned(),
        group: kind.group.clone(),
        kind: kind.kind.clone(),
        causes,
        ..Default::default()
    };
    failure(422, "Invalid", message, Some(details))
}

/// 422 for a patch that cannot be applied to the object.
pub fn unprocessable_patch() -> StatusError {
    failure(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
        Some(StatusDetails::default()),
    )
}

/// 400.
pub fn bad_request(message: impl Into<String>) -> StatusError {
    failure(400, "BadRequest", message, None)
}

/// 401; an empty reason reads `not authorized`.
pub fn unauthorized(reason: &str) -> StatusError {
    failure(
        401,
        "Unauthorized",
        if reason.is_empty() {
            "not authorized"
        } else {
            reason
        },
        None,
    )
}

/// 403 `pods "x" is forbidden: <why>`; without a name `pods is forbidden: <why>`.
pub fn forbidden(resource: &GroupResource, name: &str, why: impl fmt::Display) -> StatusError {
    let message = if resource.is_empty() {
        format!("forbidden: {why}")
    } else if name.is_empty() {
        format!("{resource} is forbidden: {why}")
    } else {
        format!("{resource} {} is forbidden: {why}", quote(name))
    };
    failure(403, "Forbidden", message, about(resource, name))
}

/// 405 `<verb> is not supported on resources of kind "pods"`.
pub fn method_not_allowed(resource: &GroupResource, verb: &str) -> StatusError {
    let message = format!(
        "{verb} is not supported on resources of kind {}",
        quote(&resource.to_string())
    );
    failure(405, "MethodNotAllowed", message, about(resource, ""))
}

/// 405 for a method no handler of the path takes.
pub fn unknown_method() -> StatusError {
    let message = "the server does not allow this method on the requested resource";
    failure(
        405,
        "MethodNotAllowed",
        message,
        Some(StatusDetails::default()),
    )
}

/// 406, naming what can be produced.
pub fn not_acceptable(accepted: &[&str]) -> StatusError {
    failure(
        406,
        "NotAcceptable",
        format!(
            "only the following media types are accepted: {}",
            accepted.join(", ")
        ),
        None,
    )
}

/// 415, naming what can be read.
pub fn unsupported_media_type(accepted: &[&str]) -> StatusError {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        accepted.join(", ")
    );
    failure(415, "UnsupportedMediaType", message, None)
}

/// 410 with reason Gone.
pub fn gone(message: impl Into<String>) -> StatusError {
    failure(410, "Gone", message, None)
}

/// 410 with reason Expired, such as a `continue` token whose revision is no longer kept.
pub fn expired(message: impl Into<String>) -> StatusError {
    failure(410, "Expired", message, None)
}

/// 410 `too old resource version: 1 (5)`.
pub fn too_old_resource_version(asked: u64, oldest: u64) -> StatusError {
    expired(format!("too old resource version: {asked} ({oldest})"))
}

/// 504 `Timeout: Too large resource version: 99, current: 5`, to be retried after a second.
pub fn too_large_resource_version(asked: u64, current: u64) -> StatusError {
    timeout(
        format!("Too large resource version: {asked}, current: {current}"),
        1,
    )
    .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
}

/// 413 `Request entity too large: <what>`.
pub fn request_entity_too_large(what: impl fmt::Display) -> StatusError {
    failure(
        413,
        "RequestEntityTooLarge",
        format!("Request entity too large: {what}"),
        None,
    )
}

/// 429, with the message as it is.
pub fn too_many_requests(message: impl Into<String>, retry_after: i32) -> StatusError {
    failure(
        429,
        "TooManyRequests",
        message,
        Some(StatusDetails::default()),
    )
    .retry_after(retry_after)
}

/// 500 `Internal error occurred: <what>`.
pub fn internal(what: impl fmt::Display) -> StatusError {
    let cause = StatusCause {
        message: what.to_string(),
        ..StatusCause::default()
    };
    let details = StatusDetails {
        causes: vec![cause],
        ..StatusDetails::default()
    };
    failure(
        500,
        "InternalError",
        format!("Internal error occurred: {what}"),
        Some(details),
    )
}

/// 500 `The POST operation against pods could not be completed at this time, please try again.`
pub fn server_timeout(resource: &GroupResource, operation: &str, retry_after: i32) -> StatusError {
    let message = format!(
        "The {operation} operation against {resource} could not be completed at this time, please try again."
    );
    failure(500, "ServerTimeout", message, about(resource, operation)).retry_after(retry_after)
}

/// 503.
pub fn service_unavailable(message: impl Into<String>) -> StatusError {
    failure(503, "ServiceUnavailable", message, None)
}

/// 504 `Timeout: <what>`.
pub fn timeout(what: impl fmt::Display, retry_after: i32) -> StatusError {
    failure(
        504,
        "Timeout",
        format!("Timeout: {what}"),
        Some(StatusDetails::default()),
    )
    .retry_after(retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Error, Path};
    use serde_json::json;

    fn pods() -> GroupResource {
        GroupResource::new("", "pods")
    }

    #[test]
    fn not_found_on_the_wire() {
        let wire: serde_json::Value =
            serde_json::from_slice(&not_found(&pods(), "x").to_json()).unwrap();
        assert_eq!(
            wire,
            json!({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"x\" not found",
                   "reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404})
        );
    }

    #[test]
    fn invalid_lists_causes() {
        let path = Path::new("spec").child("replicas");
        let why = vec![
            Error::invalid(&path, -1, "must be greater than or equal to 0"),
            Error::required(&Path::new("spec.selector"), ""),
        ];
        let error = invalid(&GroupKind::new("apps", "Deployment"), "x", why);
        assert_eq!(
            error.message,
            "Deployment.apps \"x\" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, \
             spec.selector: Required value]"
        );
        let causes = &error.details.as_ref().unwrap().causes;
        assert_eq!(causes[0].reason, "FieldValueInvalid");
        assert_eq!(causes[1].field, "spec.selector");
        assert_eq!((error.code, error.reason.as_str()), (422, "Invalid"));
    }

    #[test]
    fn messages_are_upstreams() {
        let deployments = GroupResource::new("apps", "deployments");
        for (error, code, message) in [
            (
                already_exists(&pods(), "web"),
                409,
                "pods \"web\" already exists",
            ),
            (
                conflict(&deployments, "x", MODIFIED),
                409,
                "Operation cannot be fulfilled on deployments.apps \"x\": the object has been modified; please apply your \
                 changes to the latest version and try again",
            ),
            (forbidden(&pods(), "", "no"), 403, "pods is forbidden: no"),
            (
                forbidden(&pods(), "a", "no"),
                403,
                "pods \"a\" is forbidden: no",
            ),
            (
                method_not_allowed(&pods(), "patch"),
                405,
                "patch is not supported on resources of kind \"pods\"",
            ),
            (
                too_old_resource_version(1, 5),
                410,
                "too old resource version: 1 (5)",
            ),
            (
                too_large_resource_version(99, 5),
                504,
                "Timeout: Too large resource version: 99, current: 5",
            ),
            (internal("boom"), 500, "Internal error occurred: boom"),
            (
                request_entity_too_large("limit is 3145728"),
                413,
                "Request entity too large: limit is 3145728",
            ),
        ] {
            assert_eq!((error.code, error.message.as_str()), (code, message));
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let sent = too_large_resource_version(9, 1).into_status();
        assert_eq!(
            serde_json::from_slice::<Status>(&sent.to_json()).unwrap(),
            sent
        );
    }
}
