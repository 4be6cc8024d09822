//! Strategic merge patch: maps merge, lists merge by the schema's keys or are replaced, directives do the rest (§7.1, §7.2).

use super::PatchError;
use crate::schema::{Field, PatchStrategy, Schema, Shape, TypeId};
use serde_json::{Map, Value};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;
type Done<T = ()> = Result<T, PatchError>;

fn malformed<T>(message: impl Into<String>) -> Done<T> {
    Err(PatchError::Malformed(message.into()))
}

/// Applies a strategic merge patch to an object of a type.
pub fn strategic_merge(object: &mut Value, patch: Value, ty: TypeId) -> Done {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return malformed("invalid JSON document");
    };
    merge_map(object, patch, Level::Type(ty))
}

/// What the schema knows about the fields of a map.
#[derive(Debug, Clone, Copy)]
pub enum Level<'a> {
    /// An object type.
    Type(TypeId),
    /// A map whose values have a shape.
    Values(&'a Shape),
    /// Free JSON.
    Unknown,
}

/// What the schema knows about one field.
#[derive(Debug, Clone, Copy)]
pub struct Meta<'a> {
    /// What is known below it.
    pub level: Level<'a>,
    /// How patches treat it.
    pub strategy: PatchStrategy,
    /// Which field tells the items of a merged list apart.
    pub merge_key: Option<&'a str>,
}

impl<'a> Level<'a> {
    fn of(shape: &'a Shape) -> Self {
        match shape {
            Shape::Object(id) => Level::Type(*id),
            Shape::Map(values) => Level::Values(values),
            Shape::List(element) => Self::of(element),
            _ => Level::Unknown,
        }
    }

    /// What is known about a field of this map.
    pub fn field(self, name: &str) -> Meta<'a> {
        let plain = |level| Meta {
            level,
            strategy: PatchStrategy::default(),
            merge_key: None,
        };
        match self {
            Level::Unknown => plain(Level::Unknown),
            Level::Values(shape) => plain(Level::of(shape)),
            Level::Type(id) => match Schema::get().ty(id).field(name) {
                Some(Field {
                    shape,
                    patch,
                    merge_key,
                    ..
                }) => Meta {
                    level: Level::of(shape),
                    strategy: *patch,
                    merge_key: *merge_key,
                },
                None => plain(Level::Unknown),
            },
        }
    }
}

fn merge_map(object: &mut Object, mut patch: Object, level: Level<'_>) -> Done {
    match patch.remove(PATCH) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => {
            clean_map(&mut patch);
            *object = patch;
            return Ok(());
        }
        Some(Value::String(directive)) if directive == "delete" => {
            object.clear();
            return Ok(());
        }
        Some(Value::String(directive)) if directive == "merge" => {}
        Some(other) => return malformed(format!("unknown patch type: {} in map", text(&other))),
    }
    retain_keys(object, &mut patch)?;
    set_orders(object, &mut patch, level)?;
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(DELETE_PRIMITIVES) {
            delete_primitives(object, list, &value)?;
        } else {
            merge_field(object, &key, value, level.field(&key))?;
        }
    }
    Ok(())
}

fn merge_field(object: &mut Object, key: &str, mut value: Value, meta: Meta<'_>) -> Done {
    if value.is_null() {
        object.remove(key);
        return Ok(());
    }
    match (object.get_mut(key), &mut value) {
        (Some(Value::Object(old)), Value::Object(new)) if !meta.strategy.replace => {
            merge_map(old, std::mem::take(new), meta.level)?;
        }
        (Some(Value::Array(old)), Value::Array(new)) if meta.strategy.merge => {
            let merged = merge_list(std::mem::take(old), std::mem::take(new), meta)?;
            *old = merged;
        }
        _ => {
            if clean(&mut value) {
                object.insert(key.to_owned(), value);
            } else {
                object.remove(key);
            }
        }
    }
    Ok(())
}

/// Drops nulls and directives from a value that has nothing to merge with; whether anything is left to keep.
fn clean(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            if map
                .get(PATCH)
                .is_some_and(|directive| directive == "delete")
            {
                return false;
            }
            clean_map(map);
        }
        Value::Array(list) => list.retain_mut(|item| !is_bare_directive(item) && clean(item)),
        _ => {}
    }
    true
}

fn clean_map(map: &mut Object) {
    map.retain(|key, value| !is_directive(key) && !value.is_null() && clean(value));
}

fn is_directive(key: &str) -> bool {
    key == PATCH
        || key == RETAIN_KEYS
        || key.starts_with(SET_ORDER)
        || key.starts_with(DELETE_PRIMITIVES)
}

/// A list element that only carries a directive, such as `{"$patch":"replace"}`.
fn is_bare_directive(item: &Value) -> bool {
    item.as_object()
        .is_some_and(|map| map.len() == 1 && map.contains_key(PATCH))
}

fn retain_keys(object: &mut Object, patch: &mut Object) -> Done {
    let bad = || PatchError::Malformed("invalid patch format of retainKeys".to_owned());
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let keys = keys.as_array().ok_or_else(bad)?;
    let listed = |key: &str| keys.iter().any(|k| k == key);
    if patch
        .iter()
        .any(|(key, value)| !value.is_null() && !is_directive(key) && !listed(key))
    {
        return Err(bad());
    }
    object.retain(|key, _| listed(key));
    Ok(())
}

fn delete_primitives(object: &mut Object, key: &str, values: &Value) -> Done {
    let Some(values) = values.as_array() else {
        return malformed("invalid patch format of primitive list");
    };
    match object.get_mut(key) {
        Some(Value::Array(list)) => list.retain(|item| !values.contains(item)),
        Some(_) => return malformed("invalid patch format of primitive list"),
        None => {}
    }
    Ok(())
}

/// Merges every list that has a `$setElementOrder` and puts it in that order; items only the server knows keep their place.
fn set_orders(object: &mut Object, patch: &mut Object, level: Level<'_>) -> Done {
    let directives: Vec<String> = patch
        .keys()
        .filter(|k| k.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let key = directive[SET_ORDER.len()..].to_owned();
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return malformed("invalid patch format of setElementOrder list");
        };
        let meta = level.field(&key);
        let new = match patch.remove(&key) {
            None => None,
            Some(Value::Array(list)) => Some(list),
            // Null deletes, anything else replaces: left to the ordinary way.
            Some(other) => {
                patch.insert(key, other);
                continue;
            }
        };
        if let Some(list) = &new {
            check_order(list, &order, meta.merge_key)?;
        }
        let old = match object.remove(&key) {
            Some(Value::Array(list)) => Some(list),
            _ => None,
        };
        let merged = match (old.clone(), new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => {
                let mut list = Value::Array(new);
                clean(&mut list);
                list.as_array().cloned().unwrap_or_default()
            }
            (Some(old), Some(new)) if meta.strategy.merge => merge_list(old, new, meta)?,
            (Some(_), Some(new)) => new,
        };
        let ordered = in_order(
            merged,
            &order,
            old.as_deref().unwrap_or_default(),
            meta.merge_key,
        )?;
        object.insert(key, Value::Array(ordered));
    }
    Ok(())
}

/// What identifies an element: the value of its merge key, or itself.
fn identity<'a>(item: &'a Value, merge_key: Option<&str>) -> Done<&'a Value> {
    match (item, merge_key) {
        (Value::Object(map), Some(key)) => match map.get(key) {
            Some(value) => Ok(value),
            None => malformed(format!(
                "map: {} does not contain declared merge key: {key}",
                text(item)
            )),
        },
        (Value::Object(_), None) => malformed("cannot merge lists without merge key"),
        (Value::Array(_), _) => malformed("lists of lists are not supported"),
        (_, Some(_)) => malformed("list element types are not identical"),
        (item, None) => Ok(item),
    }
}

fn check_order(list: &[Value], order: &[Value], merge_key: Option<&str>) -> Done {
    if order.is_empty() {
        return Ok(());
    }
    let mut places = order.iter();
    for item in list.iter().filter(|item| item.get(PATCH).is_none()) {
        let wanted = identity(item, merge_key)?;
        let mut found = false;
        for place in places.by_ref() {
            if identity(place, merge_key)? == wanted {
                found = true;
                break;
            }
        }
        if !found {
            let show = |list: &[Value]| text(&Value::from(list.to_vec()));
            let (list, order) = (show(list), show(order));
            return malformed(format!(
                "The order in patch list:\n{list}\n doesn't match $setElementOrder list:\n{order}\n"
            ));
        }
    }
    Ok(())
}

fn merge_list(mut old: Vec<Value>, new: Vec<Value>, meta: Meta<'_>) -> Done<Vec<Value>> {
    let before = old.clone();
    if meta.merge_key.is_none() {
        for item in &new {
            identity(item, None)?;
            if !old.contains(item) {
                old.push(item.clone());
            }
        }
        return in_order(old, &new, &before, None);
    }
    let mut replace = false;
    let mut items = Vec::new();
    for item in new {
        let directive = item.get(PATCH).map(text);
        match directive.as_deref() {
            None => items.push(item),
            Some("delete") => {
                let wanted = identity(&item, meta.merge_key)?;
                old.retain(|o| identity(o, meta.merge_key).ok() != Some(wanted));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return malformed("merging lists cannot yet be specified in the patch");
            }
            Some(other) => return malformed(format!("unknown patch type: {other} in map")),
        }
    }
    if replace {
        items.iter_mut().for_each(|item| {
            clean(item);
        });
        return Ok(items);
    }
    let order = items.clone();
    for item in items {
        merge_element(&mut old, item, meta)?;
    }
    in_order(old, &order, &before, meta.merge_key)
}

fn merge_element(list: &mut Vec<Value>, item: Value, meta: Meta<'_>) -> Done {
    let wanted = identity(&item, meta.merge_key)?;
    let mut place = None;
    for (i, old) in list.iter().enumerate() {
        if identity(old, meta.merge_key)? == wanted {
            place = Some(i);
            break;
        }
    }
    let mut item = item;
    match (place.map(|i| &mut list[i]), &mut item) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            merge_map(old, std::mem::take(new), meta.level)
        }
        _ => {
            clean(&mut item);
            list.push(item);
            Ok(())
        }
    }
}

/// Elements named in `order` in that order, woven with the others, which keep their order in `before`: where both are in `before`, that
/// decides who comes first; otherwise the named one does.
fn in_order(
    list: Vec<Value>,
    order: &[Value],
    before: &[Value],
    merge_key: Option<&str>,
) -> Done<Vec<Value>> {
    let place = |item: &Value, list: &[Value]| -> Done<Option<usize>> {
        let wanted = identity(item, merge_key)?;
        for (i, other) in list.iter().enumerate() {
            if identity(other, merge_key)? == wanted {
                return Ok(Some(i));
            }
        }
        Ok(None)
    };
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in list {
        let was = place(&item, before)?;
        match place(&item, order)? {
            Some(i) => named.push((i, was, item)),
            None => others.push((was, item)),
        }
    }
    named.sort_by_key(|(i, ..)| *i);
    others.sort_by_key(|(was, _)| *was);
    let mut named = named.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    let mut out = Vec::new();
    while let (Some((_, named_was, _)), Some((other_was, _))) = (named.peek(), others.peek()) {
        let other_first =
            matches!((other_was, named_was), (Some(other), Some(named)) if other < named);
        if other_first {
            out.extend(others.next().map(|(_, item)| item));
        } else {
            out.extend(named.next().map(|(_, _, item)| item));
        }
    }
    out.extend(named.map(|(_, _, item)| item));
    out.extend(others.map(|(_, item)| item));
    Ok(out)
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests;
