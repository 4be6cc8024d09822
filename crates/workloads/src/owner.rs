//! Who an object belongs to (upstream's controller references): what a controller owns, takes over and lets go.

pub use api::owner::controller_of;

use api::selector::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::object::name;

/// A reference to the controller with this metadata, which its own deletion in the foreground waits for.
pub fn reference(api_version: &str, kind: &str, controller: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: controller.name.clone().unwrap_or_default(),
        uid: controller.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What an object is to a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Its own.
    Owned,
    /// Nobody's, and selected: it becomes its own.
    Adopt,
    /// Its own, and not selected any more: it is let go.
    Release,
    /// None of its business.
    Ignore,
}

/// What `object` is to `controller`, which selects objects of its namespace by `selector`. A controller that is being deleted neither
/// takes over nor lets go.
pub fn claim(controller: &ObjectMeta, selector: &Selector, object: &ObjectMeta) -> Claim {
    claim_selected(controller, selector.matches(&object.labels), object)
}

/// As [`claim`], where it is known whether the controller selects the object.
pub(crate) fn claim_selected(
    controller: &ObjectMeta,
    is_selected: bool,
    object: &ObjectMeta,
) -> Claim {
    if controller.namespace != object.namespace {
        return Claim::Ignore;
    }
    let is_leaving = controller.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(owner) if Some(&owner.uid) != controller.uid.as_ref() => Claim::Ignore,
        Some(_) if is_selected => Claim::Owned,
        Some(_) if !is_leaving => Claim::Release,
        None if is_selected && !is_leaving && object.deletion_timestamp.is_none() => Claim::Adopt,
        _ => Claim::Ignore,
    }
}

/// A change of hands.
#[derive(Debug, Clone, PartialEq)]
pub struct Handover {
    /// The name of the object that changes hands.
    pub object: String,
    /// A strategic merge patch that lets it.
    pub patch: Value,
    /// It is taken over, unless its controller-to-be has begun to be deleted; otherwise it is let go.
    pub is_adoption: bool,
}

/// What there is to change where `object` is that to `controller`, whose reference from what it owns is `reference`.
pub fn hand_over(
    claim: Claim,
    controller: &ObjectMeta,
    reference: &OwnerReference,
    object: &ObjectMeta,
) -> Option<Handover> {
    let is_adoption = match claim {
        Claim::Adopt => true,
        Claim::Release => false,
        Claim::Owned | Claim::Ignore => return None,
    };
    let owner = if is_adoption {
        json!(reference)
    } else {
        json!({"$patch": "delete", "uid": controller.uid})
    };
    Some(Handover {
        object: name(object).to_owned(),
        patch: json!({"metadata": {"uid": object.uid, "ownerReferences": [owner]}}),
        is_adoption,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn meta(uid: &str, app: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(uid.into()),
            namespace: Some("ns".into()),
            uid: Some(uid.into()),
            labels: Some([("app".to_owned(), app.to_owned())].into()),
            ..ObjectMeta::default()
        }
    }

    fn of(owner: &ObjectMeta, mut object: ObjectMeta) -> ObjectMeta {
        let other = OwnerReference {
            controller: None,
            ..reference("v1", "Pod", &meta("other", ""))
        };
        object.owner_references = Some(vec![other, reference("apps/v1", "ReplicaSet", owner)]);
        object
    }

    fn leaving(mut object: ObjectMeta) -> ObjectMeta {
        object.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        object
    }

    #[test]
    fn claims() {
        let (ours, theirs) = (meta("ours", ""), meta("theirs", ""));
        let (gone, web, db) = (leaving(meta("ours", "")), meta("p", "web"), meta("p", "db"));
        let elsewhere = ObjectMeta {
            namespace: Some("other".into()),
            ..web.clone()
        };
        let cases = [
            (&ours, of(&ours, web.clone()), Claim::Owned),
            (&ours, of(&ours, leaving(web.clone())), Claim::Owned),
            (&gone, of(&ours, web.clone()), Claim::Owned),
            (&ours, of(&ours, db.clone()), Claim::Release),
            (&gone, of(&ours, db.clone()), Claim::Ignore),
            (&ours, of(&theirs, web.clone()), Claim::Ignore),
            (&ours, web.clone(), Claim::Adopt),
            (&ours, elsewhere, Claim::Ignore),
            (&ours, db, Claim::Ignore),
            (&ours, leaving(web.clone()), Claim::Ignore),
            (&gone, web, Claim::Ignore),
        ];
        let selector = Selector::parse("app=web").unwrap();
        for (n, (controller, object, expected)) in cases.into_iter().enumerate() {
            assert_eq!(claim(controller, &selector, &object), expected, "case {n}");
        }
    }
}
