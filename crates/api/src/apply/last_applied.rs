//! Objects that kubectl applied by itself before it left that to the server (spec kubectl-and-api §8.5).

use super::conflict::{ApplyError, Conflict};
use super::place::Place;
use super::{Set, Side, Write, check, compare, fields};
use serde_json::{Map, Value};

/// The manager all of this is about.
pub(super) const MANAGER: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Bytes that all annotations of an object may have.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Conflicts without those about fields that kubectl itself applied before and that have not changed since.
pub(super) fn still_conflicting(
    place: Place<'_>,
    write: &Write<'_>,
    live: &Value,
    found: Vec<Conflict>,
) -> Result<Vec<Conflict>, ApplyError> {
    let Some(own) = own(place, write, live) else {
        return Ok(found);
    };
    Ok(found
        .into_iter()
        .filter(|conflict| !own.contains(&conflict.path))
        .collect())
}

fn own(place: Place<'_>, write: &Write<'_>, live: &Value) -> Option<Set> {
    let text = live["metadata"]["annotations"][ANNOTATION].as_str()?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last["apiVersion"] != write.api_version || check::problems(place, &last).is_some() {
        return None;
    }
    let changed = compare(place, Side::Plain(&last), Side::Typed(live));
    let own = fields(place, &last);
    Some(
        own.difference(&changed.modified)
            .difference(&changed.added)
            .difference(&changed.removed),
    )
}

/// Keeps the annotation, where there is one, at what is applied now, so that kubectl can go back to applying by itself.
pub(super) fn keep_up(object: &mut Value, config: &Value) {
    let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    if annotations
        .get(ANNOTATION)
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        return;
    }
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        match metadata.get_mut("annotations") {
            Some(Value::Object(given)) => drop(given.remove(ANNOTATION)),
            _ => drop(metadata.remove("annotations")),
        }
    }
    annotations.insert(
        ANNOTATION.to_owned(),
        format!("{}\n", crate::gotext::json(&config)).into(),
    );
    if size(annotations) > ANNOTATIONS_LIMIT {
        annotations.remove(ANNOTATION);
    }
}

fn size(annotations: &Map<String, Value>) -> usize {
    let sizes = annotations
        .iter()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len));
    sizes.sum()
}
