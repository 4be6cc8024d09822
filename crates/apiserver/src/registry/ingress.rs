//! Ingresses: the class of those that name none.

use admission::ingress;
use api::status::StatusError;
use serde_json::Value;

use crate::rest::Rest;

/// What the keys of all classes begin with.
const CLASSES: &str = "/registry/ingressclasses/";

/// Gives a new Ingress its class (the plugin DefaultIngressClass).
pub(super) fn admit(rest: &Rest, ingress: &mut Value) -> Result<(), StatusError> {
    ingress::admit(ingress, &rest.all_under(CLASSES)?);
    Ok(())
}
