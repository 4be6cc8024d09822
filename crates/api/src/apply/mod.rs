//! Server-side apply and `metadata.managedFields` (spec kubectl-and-api §8): who owns which fields of an object, and what becomes of
//! an object when somebody applies a configuration. The schema table says how lists and maps are merged.
//!
//! [`update`] is for every write that is no apply: fields that changed become the writer's. [`apply`] merges a configuration into an
//! object, removes what its manager applied before and does no longer, and refuses to change what others own, unless forced.
//! Neither validates or fills defaults; the server does that with the result.

mod check;
mod compare;
mod conflict;
mod element;
mod last_applied;
mod managed;
mod merge;
mod place;
mod set;

pub use conflict::{ApplyError, Conflict};
pub use element::{Element, ElementError};
pub use managed::{ManagedError, Manager, Operation};
pub use set::Set;

use crate::schema::{Shape, TypeId};
use compare::{Comparison, Side, compare, fields};
use conflict::conflicts;
use managed::{Managed, Owned};
use merge::{merge, remove, with_parents};
use place::Place;
use serde_json::{Map, Value};

/// Whom everything belongs to that was there before anybody applied.
const BEFORE: &str = "before-first-apply";

/// What nobody owns.
const STRIPPED: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// Which fields a write can own, by what its part of the object may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All but these and what is below them.
    Except(&'static [&'static [&'static str]]),
    /// These and what is below them; `*` is any element.
    Only(&'static [&'static [&'static str]]),
}

impl Scope {
    fn filter(self, set: Set) -> Set {
        match self {
            Self::Except(paths) => {
                let mut set = set;
                paths.iter().for_each(|path| set.remove_below(path));
                set
            }
            Self::Only(patterns) => set.only(patterns),
        }
    }
}

/// A write, as far as ownership goes.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// The object's type.
    pub ty: TypeId,
    /// `apps/v1`.
    pub api_version: &'a str,
    /// `status`, or empty.
    pub subresource: &'a str,
    /// Who writes.
    pub manager: &'a str,
    /// RFC 3339 in UTC, whole seconds.
    pub now: &'a str,
    /// What it can own.
    pub scope: Scope,
}

/// Writes into `new` who owns its fields after a create (there is no `live`), an update or a patch.
///
/// Entries that a client sends along count, unless it writes a subresource; a single empty entry, or an empty list, clears them.
pub fn update(write: &Write<'_>, live: Option<&Value>, new: &mut Value) {
    let given = new
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .and_then(|m| m.remove("managedFields"));
    let kept = live.map_or(&Value::Null, |live| &live["metadata"]["managedFields"]);
    let managed = match given {
        _ if !write.subresource.is_empty() => Managed::decode(kept),
        Some(entries) if is_reset(&entries) => Ok(Managed::default()),
        Some(entries) => match Managed::decode(&entries) {
            Ok(given) if !given.is_empty() => Ok(given),
            _ => Managed::decode(kept),
        },
        None => Managed::decode(kept),
    };
    let managed = managed.unwrap_or_default();
    // An object nobody kept books about is left alone until somebody applies.
    if managed.is_empty() && live.is_some() {
        return;
    }
    let managed = write.update(Operation::Update, live, new, managed);
    put(new, managed);
}

/// What becomes of `live` when `config` is applied to it. Quantities and the like are as `config` has them, and nulls stay, so that the
/// result has to be decoded.
pub fn apply(
    write: &Write<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, ApplyError> {
    let empty = Value::Object(Map::new());
    let live = live.unwrap_or(&empty);
    let mut managed = Managed::decode(&live["metadata"]["managedFields"])?;
    if managed.is_empty() {
        let before = Write {
            manager: BEFORE,
            ..*write
        };
        managed = before.update(Operation::Update, None, live, managed);
    }
    if config["metadata"]
        .get("managedFields")
        .is_some_and(|m| !m.is_null())
    {
        return Err(ApplyError::ManagedFields);
    }
    let shape = Shape::Object(write.ty);
    if let Some(why) = check::problems(Place::of(&shape), config) {
        return Err(ApplyError::typed(config, write.api_version, why));
    }
    let first = write.apply(live, config, managed.clone(), force);
    let (mut object, managed) = match first {
        Err(ApplyError::Conflicts(found)) if write.manager == last_applied::MANAGER => {
            let left = last_applied::still_conflicting(Place::of(&shape), write, live, found)?;
            if !left.is_empty() {
                return Err(ApplyError::Conflicts(left));
            }
            write.apply(live, config, managed, true)?
        }
        other => other?,
    };
    if write.manager == last_applied::MANAGER {
        last_applied::keep_up(&mut object, config);
    }
    put(&mut object, managed);
    Ok(object)
}

/// Gives `new` back the times of `old` where they are all that differs, so that what changes nothing is not written.
pub fn keep_times(new: &mut Value, old: &Value) {
    let timeless = |entries: &Value| -> Vec<Value> {
        let mut entries = entries.as_array().cloned().unwrap_or_default();
        let maps = entries.iter_mut().filter_map(Value::as_object_mut);
        maps.for_each(|entry| drop(entry.remove("time")));
        entries
    };
    let (ours, theirs) = (
        &new["metadata"]["managedFields"],
        &old["metadata"]["managedFields"],
    );
    if ours == theirs || timeless(ours) != timeless(theirs) {
        return;
    }
    let theirs = theirs.clone();
    let ours = std::mem::replace(&mut new["metadata"]["managedFields"], theirs);
    if new != old {
        new["metadata"]["managedFields"] = ours;
    }
}

/// `[]`, or one entry with nothing in it.
fn is_reset(entries: &Value) -> bool {
    entries
        .as_array()
        .is_some_and(|list| match list.as_slice() {
            [] => true,
            [only] => only.as_object().is_some_and(Map::is_empty),
            _ => false,
        })
}

fn put(object: &mut Value, managed: Managed) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    match managed.encode() {
        Some(entries) => metadata.insert("managedFields".to_owned(), entries),
        None => metadata.remove("managedFields"),
    };
}

impl Write<'_> {
    fn owner(&self, operation: Operation) -> Manager {
        let name = match self.manager {
            "" => "unknown",
            name => name,
        };
        Manager {
            name: name.to_owned(),
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => self.api_version.to_owned(),
            },
            subresource: self.subresource.to_owned(),
        }
    }

    /// Everyone's fields after the object became `new` by an update of this writer.
    fn update(
        &self,
        operation: Operation,
        live: Option<&Value>,
        new: &Value,
        managed: Managed,
    ) -> Managed {
        let empty = Value::Object(Map::new());
        let live = live.unwrap_or(&empty);
        let comparison = self.compare(Side::Typed(live), Side::Typed(new));
        // What the writer itself owned stays its own.
        let mut managed = self.without_others_versions(managed);
        for owned in managed.0.values_mut() {
            let lost = comparison.modified.clone().union(&comparison.added);
            owned.set = owned.set.difference(&lost).difference(&comparison.removed);
        }
        let Comparison {
            modified, added, ..
        } = comparison;
        let mine = strip(self.scope.filter(modified.union(&added)));
        managed.0.retain(|_, owned| !owned.set.is_empty());
        if !mine.is_empty() {
            let manager = self.owner(operation);
            let before = managed.remove(&manager).map(|owned| owned.set);
            managed.insert(Owned {
                manager,
                version: self.api_version.to_owned(),
                set: mine.union(&before.unwrap_or_default()),
                time: Some(self.now.into()),
            });
        }
        managed.cap();
        managed
    }

    /// Entries of other versions describe fields that this version may not have.
    fn without_others_versions(&self, mut managed: Managed) -> Managed {
        managed
            .0
            .retain(|_, owned| owned.version == self.api_version);
        managed
    }

    fn compare(&self, old: Side<'_>, new: Side<'_>) -> Comparison {
        let shape = Shape::Object(self.ty);
        let found = compare(Place::of(&shape), old, new);
        Comparison {
            removed: self.scope.filter(found.removed),
            modified: self.scope.filter(found.modified),
            added: self.scope.filter(found.added),
        }
    }

    /// The merged object, and everyone's fields after it.
    fn apply(
        &self,
        live: &Value,
        config: &Value,
        managed: Managed,
        force: bool,
    ) -> Result<(Value, Managed), ApplyError> {
        let shape = Shape::Object(self.ty);
        let place = Place::of(&shape);
        let merged = merge(place, Some(live), Some(config)).unwrap_or_default();
        let manager = self.owner(Operation::Apply);
        let mut managed = self.without_others_versions(managed);
        let last = managed.remove(&manager);
        let set = self.scope.filter(fields(place, config));
        managed.insert(Owned {
            manager: manager.clone(),
            version: self.api_version.to_owned(),
            set,
            time: last.as_ref().and_then(|owned| owned.time.clone()),
        });
        let merged = match &last {
            Some(last) if !last.set.is_empty() => prune(place, merged, &managed, &last.set),
            _ => merged,
        };
        let comparison = self.compare(Side::Typed(live), Side::Plain(&merged));
        let taken = comparison.modified.clone().union(&comparison.added);
        let found = conflicts(managed.others(&manager), &taken);
        if !force && !found.is_empty() {
            return Err(ApplyError::Conflicts(found));
        }
        for owned in managed.0.values_mut().filter(|o| o.manager != manager) {
            owned.set = owned.set.difference(&taken).difference(&comparison.removed);
        }
        if let Some(mut own) = managed.remove(&manager) {
            own.set = strip(own.set);
            if merged != *live {
                own.time = Some(self.now.into());
            }
            managed.insert(own);
        }
        managed.0.retain(|_, owned| !owned.set.is_empty());
        Ok((merged, managed))
    }
}

fn strip(set: Set) -> Set {
    let mut stripped = Set::default();
    for path in STRIPPED {
        let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
        stripped.insert(&path);
    }
    set.difference(&stripped)
}

/// Removes what the manager applied last time and does not now, unless somebody else owns it or it was never the manager's.
fn prune(place: Place<'_>, merged: Value, managed: &Managed, last: &Set) -> Value {
    let parents = |set: &Set| with_parents(Some(place), set);
    let last = parents(last);
    let pruned = remove(place, &merged, &last);
    let all = parents(&fields(place, &merged));
    let owned = managed
        .0
        .values()
        .fold(Set::default(), |all, owned| all.union(&owned.set));
    // Back comes what anybody owns, …
    let kept = parents(&fields(place, &pruned)).union(&parents(&owned));
    let pruned = remove(place, &merged, &all.difference(&kept));
    // … and what was not the manager's.
    let left = parents(&fields(place, &pruned));
    remove(place, &merged, &all.difference(&left).intersection(&last))
}
