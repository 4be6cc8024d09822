//! LimitRanges: looked up for `admission::limits`, which fills in and refuses.

use admission::{Subresource, limits};
use api::status::{self, StatusError};
use serde_json::Value;

use crate::rest::{Rest, meta};

/// Gives the containers of a Pod what they do not say: of a new one, and of one that is resized.
pub(super) fn fill(rest: &Rest, pod: &mut Value) -> Result<(), StatusError> {
    let ranges = ranges(rest)?;
    limits::fill(pod, &ranges);
    Ok(())
}

/// Refuses what is out of bounds: new Pods, Pods that are resized, new and changed claims. What is on its way out may be.
pub(super) fn review(
    rest: &Rest,
    part: Subresource,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), StatusError> {
    let check = match (rest.kind.plural, part, old.is_some()) {
        ("pods", Subresource::Main, false) | ("pods", Subresource::Resize, true) => {
            limits::check_pod
        }
        ("persistentvolumeclaims", Subresource::Main, _) => limits::check_claim,
        _ => return Ok(()),
    };
    if old.is_some_and(|old| !meta(old, "deletionTimestamp").is_empty()) {
        return Ok(());
    }
    let refuse = |why| status::forbidden(&rest.group_resource(), meta(new, "name"), why);
    check(new, &ranges(rest)?).map_err(refuse)
}

fn ranges(rest: &Rest) -> Result<Vec<Value>, StatusError> {
    let prefix = format!("/registry/limitranges/{}/", rest.target.namespace);
    rest.all_under(&prefix)
}
