//! Who an object belongs to.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The reference of an object to its controller, of which there is at most one.
pub fn controller_of(object: &ObjectMeta) -> Option<&OwnerReference> {
    let mut owners = object.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

/// Whether an object's controller is the one of this UID.
pub fn is_controlled_by(object: &ObjectMeta, uid: Option<&str>) -> bool {
    controller_of(object).is_some_and(|owner| Some(&*owner.uid) == uid)
}
