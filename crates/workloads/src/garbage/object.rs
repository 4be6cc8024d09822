//! Objects and references to them.

use std::sync::Arc;

use api::resource::{self, Form, RESOURCES, Resource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The finalizer of an object whose dependents are to stay.
pub const ORPHAN: &str = "orphan";
/// The finalizer of an object whose dependents are to go first.
pub const FOREGROUND: &str = "foregroundDeletion";

/// A `metadata.uid`.
pub type Uid = Arc<str>;

/// A kind whose objects are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind(usize);

impl Kind {
    /// The kinds that are followed: all that can be listed, watched and deleted, in the version they are stored in, but Events, which
    /// own nothing and nobody owns.
    pub fn followed() -> impl Iterator<Item = Kind> {
        let all = RESOURCES.iter().enumerate();
        let followed = all.filter(|(_, resource)| {
            let verbs = ["list", "watch", "delete"];
            resource.is_stored()
                && resource.form == Form::Shown
                && resource.plural != "events"
                && verbs.iter().all(|verb| resource.allows(verb))
        });
        followed.map(|(at, _)| Kind(at))
    }

    /// The kind a reference means; `None` if there are no such objects here.
    pub fn of(api_version: &str, kind: &str) -> Option<Kind> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let wanted = resource::of_kind(group, version, kind)?.as_stored();
        let at = RESOURCES.iter().position(|r| std::ptr::eq(r, wanted))?;
        wanted.is_stored().then_some(Kind(at))
    }

    /// Its line in the list of resources.
    pub fn resource(self) -> &'static Resource {
        &RESOURCES[self.0]
    }
}

/// Which object is meant: what a reference says, seen from the namespace of who refers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Empty for what is in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, by which it is the one and not a successor.
    pub uid: Uid,
}

impl Object {
    /// The object with this metadata; `None` without a UID.
    pub fn of(kind: Kind, meta: &ObjectMeta) -> Option<Object> {
        Some(Object {
            kind,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.as_deref()?.into(),
        })
    }

    /// Whether it is none: what is in no namespace cannot refer to what is in one.
    pub fn is_nowhere(&self) -> bool {
        self.kind.resource().namespaced && self.namespace.is_empty()
    }
}

/// An entry of `ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The owner's UID.
    pub uid: Uid,
    /// The object it means; `None` if its kind is not served.
    pub object: Option<Arc<Object>>,
    /// `blockOwnerDeletion`.
    pub blocks: bool,
}

/// The references of an object to its owners.
pub fn references(meta: &ObjectMeta) -> Vec<Reference> {
    let owners = meta.owner_references.iter().flatten();
    let references = owners.map(|owner| {
        let uid: Uid = owner.uid.as_str().into();
        let object = Kind::of(&owner.api_version, &owner.kind).map(|kind| {
            let namespace = meta.namespace.clone().unwrap_or_default();
            Arc::new(Object {
                kind,
                namespace: if kind.resource().namespaced {
                    namespace
                } else {
                    String::new()
                },
                name: owner.name.clone(),
                uid: uid.clone(),
            })
        });
        Reference {
            uid,
            object,
            blocks: owner.block_owner_deletion == Some(true),
        }
    });
    references.collect()
}

/// Where an object is on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nobody has deleted it.
    #[default]
    Living,
    /// It goes; nothing has to be done for that here.
    Leaving,
    /// It goes when its dependents do not name it any more.
    Orphaning,
    /// It goes when no dependent blocks it.
    Foreground,
}

impl Stage {
    /// The stage of an object with this metadata.
    pub fn of(meta: &ObjectMeta) -> Stage {
        let has = |finalizer| meta.finalizers.iter().flatten().any(|f| f == finalizer);
        match meta.deletion_timestamp {
            None => Stage::Living,
            Some(_) if has(ORPHAN) => Stage::Orphaning,
            Some(_) if has(FOREGROUND) => Stage::Foreground,
            Some(_) => Stage::Leaving,
        }
    }
}
