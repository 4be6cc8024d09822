//! PriorityClasses: which one a Pod is of, and that one of them at most is for Pods that name none.

use admission::priority;
use api::status::{self, StatusError};
use serde_json::Value;

use crate::rest::{Rest, Stored, meta};

/// What the keys of all classes begin with.
const PREFIX: &str = "/registry/priorityclasses/";

/// The class of a Pod that names `name`, or the class for Pods that name none, if it exists.
pub(super) fn class(rest: &Rest, name: &str) -> Result<Option<Value>, StatusError> {
    if name.is_empty() {
        let classes = rest.all_under(PREFIX)?;
        return Ok(priority::global_default(&classes).cloned());
    }
    let entry = rest.inner.store.get(&format!("{PREFIX}{name}"));
    Ok(entry.map(Stored::decode).transpose()?.map(|s| s.object))
}

/// Refuses a second class for Pods that name none.
pub(super) fn check(rest: &Rest, new: &Value, is_new: bool) -> Result<(), StatusError> {
    let second = priority::second_default(new, is_new, &rest.all_under(PREFIX)?);
    second.map_or(Ok(()), |why| {
        Err(status::forbidden(
            &rest.group_resource(),
            meta(new, "name"),
            why,
        ))
    })
}
