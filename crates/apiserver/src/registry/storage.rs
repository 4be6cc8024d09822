//! Claims for storage: the class of those that name none, and whether they may grow.

use admission::persistentvolumeclaim;
use api::status::{self, StatusError};
use serde_json::Value;

use crate::rest::{Rest, meta};

/// What the keys of all classes begin with.
const CLASSES: &str = "/registry/storageclasses/";

/// Protects a new claim and gives it its class.
pub(super) fn admit(rest: &Rest, claim: &mut Value) -> Result<(), StatusError> {
    persistentvolumeclaim::admit(claim, &rest.all_under(CLASSES)?);
    Ok(())
}

/// Refuses a claim that asks for more than before where its class does not allow that.
pub(super) fn check_growth(rest: &Rest, new: &Value, old: &Value) -> Result<(), StatusError> {
    if !persistentvolumeclaim::grows(new, old) {
        return Ok(());
    }
    let why = persistentvolumeclaim::must_not_grow(new, old, &rest.all_under(CLASSES)?);
    why.map_or(Ok(()), |why| {
        let resource = rest.group_resource();
        Err(status::forbidden(&resource, meta(new, "name"), why))
    })
}
