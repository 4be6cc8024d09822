//! What becomes of one object, by what the API says right now.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{FOREGROUND, ORPHAN, Stage, Uid};

/// What the API says of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It is there, and its dependents may stay.
    Solid,
    /// It is not there, or another has its name.
    Absent,
    /// It goes when no dependent blocks it.
    Waiting,
}

/// What `found`, the object of that name, is as an owner with this UID.
pub fn owner(uid: &str, found: Option<&ObjectMeta>) -> Owner {
    match found {
        Some(meta) if meta.uid.as_deref() == Some(uid) => {
            let has = |finalizer| meta.finalizers.iter().flatten().any(|f| f == finalizer);
            if meta.deletion_timestamp.is_some() && has(FOREGROUND) {
                Owner::Waiting
            } else {
                Owner::Solid
            }
        }
        _ => Owner::Absent,
    }
}

/// How an object is deleted: what becomes of its own dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// It stays, and these are not its owners any more.
    Leave(Vec<Uid>),
    /// It goes.
    Delete(Policy),
}

/// What becomes of an object that has these owners, all of which were looked up.
pub fn judge(object: &ObjectMeta, owners: &[(Uid, Owner)], has_dependents: bool) -> Verdict {
    let any = |state| owners.iter().any(|(_, owner)| *owner == state);
    match Stage::of(object) {
        Stage::Living if !owners.is_empty() => {}
        _ => return Verdict::Keep,
    }
    if any(Owner::Solid) {
        let others = owners.iter().filter(|(_, owner)| *owner != Owner::Solid);
        let others: Vec<Uid> = others.map(|(uid, _)| uid.clone()).collect();
        return if others.is_empty() {
            Verdict::Keep
        } else {
            Verdict::Leave(others)
        };
    }
    if any(Owner::Waiting) && has_dependents {
        return Verdict::Delete(Policy::Foreground);
    }
    let has = |finalizer| object.finalizers.iter().flatten().any(|f| f == finalizer);
    Verdict::Delete(if has(ORPHAN) {
        Policy::Orphan
    } else if has(FOREGROUND) {
        Policy::Foreground
    } else {
        Policy::Background
    })
}

/// Whether an object names the owner, and blocks its deletion: `None` if it does not name it.
pub fn blocks(object: &ObjectMeta, owner: &str) -> Option<bool> {
    let owners = object.owner_references.iter().flatten();
    let named = owners.filter(|o| o.uid == owner);
    named
        .map(|o| o.block_owner_deletion == Some(true))
        .reduce(|one, other| one || other)
}

/// The strategic merge patch after which these are not the object's owners any more.
pub fn without_owners(object: &ObjectMeta, owners: &[Uid]) -> Value {
    let gone = owners.iter();
    let gone: Vec<Value> = gone
        .map(|uid| json!({"$patch": "delete", "uid": &**uid}))
        .collect();
    json!({"metadata": {"uid": object.uid, "ownerReferences": gone}})
}

/// The strategic merge patch after which the object does not block the deletion of these owners.
pub fn loosened(object: &ObjectMeta, owners: &[Uid]) -> Value {
    let references = object.owner_references.iter().flatten();
    let blocking = references.filter(|o| o.block_owner_deletion == Some(true));
    let blocking = blocking.filter(|o| owners.iter().any(|uid| **uid == *o.uid));
    let loose: Vec<Value> = blocking
        .map(|o| json!({"uid": o.uid, "blockOwnerDeletion": false}))
        .collect();
    json!({"metadata": {"uid": object.uid, "ownerReferences": loose}})
}

/// The merge patch that takes a finalizer from this version of an object; `None` if it has none such.
pub fn without_finalizer(object: &ObjectMeta, finalizer: &str) -> Option<Value> {
    let all = object.finalizers.iter().flatten();
    let (gone, left): (Vec<&String>, Vec<&String>) = all.partition(|f| *f == finalizer);
    if gone.is_empty() {
        return None;
    }
    let left = (!left.is_empty()).then_some(left);
    let version = &object.resource_version;
    let metadata = json!({"uid": object.uid, "resourceVersion": version, "finalizers": left});
    Some(json!({"metadata": metadata}))
}
