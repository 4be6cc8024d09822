//! JSON patch (RFC 6902) as upstream's library applies it: `replace` may create a key, `test` takes an absent value for null, negative
//! indices count from the end.

use super::{MOST_OPERATIONS, PatchError};
use serde_json::{Map, Value};

type Done<T = ()> = Result<T, PatchError>;

fn fails<T>(why: impl Into<String>) -> Done<T> {
    Err(PatchError::DoesNotApply(why.into()))
}

/// Applies a JSON patch. On an error the object is left half patched; callers discard it.
pub fn json(object: &mut Value, body: &[u8]) -> Done {
    let Value::Array(operations) = super::parse(body)? else {
        return super::wrong_type(body, "[]handlers.jsonPatchOp");
    };
    if operations.len() > MOST_OPERATIONS {
        return Err(PatchError::TooMany(operations.len()));
    }
    if let Some(other) = operations.iter().find(|o| !o.is_object()) {
        return super::wrong_type(other.to_string().as_bytes(), "handlers.jsonPatchOp");
    }
    operations
        .into_iter()
        .try_for_each(|operation| apply(object, operation))
}

fn apply(object: &mut Value, mut operation: Value) -> Done {
    let pointer = |key: &str| match operation.get(key).and_then(Value::as_str) {
        Some(text) => split(text),
        None => fails(format!("operation without {key}")),
    };
    let path = pointer("path")?;
    let op = operation["op"].as_str().unwrap_or_default().to_owned();
    match op.as_str() {
        "add" => add(object, &path, operation["value"].take()),
        "remove" => remove(object, &path).map(drop),
        "replace" => replace(object, &path, operation["value"].take()),
        "move" => {
            let value = remove(object, &pointer("from")?)?;
            add(object, &path, value)
        }
        "copy" => {
            let from = pointer("from")?;
            let Some(value) = get(object, &from).cloned() else {
                return fails("nothing to copy");
            };
            add(object, &path, value)
        }
        "test" => {
            let found = get(object, &path).unwrap_or(&Value::Null);
            if *found == operation["value"] {
                Ok(())
            } else {
                fails("testing value failed")
            }
        }
        other => fails(format!("unexpected kind: {other}")),
    }
}

/// The unescaped keys of a JSON pointer.
fn split(pointer: &str) -> Done<Vec<String>> {
    if pointer.is_empty() {
        return Ok(Vec::new());
    }
    match pointer.strip_prefix('/') {
        Some(keys) => Ok(keys
            .split('/')
            .map(|key| key.replace("~1", "/").replace("~0", "~"))
            .collect()),
        None => fails("a path must begin with a slash"),
    }
}

/// An index into a list of this length; negative ones count from the end.
fn index(key: &str, length: usize) -> Option<usize> {
    let digits = key.strip_prefix('-').unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: usize = digits.parse().ok()?;
    let place = if key.starts_with('-') {
        length.checked_sub(number)?
    } else {
        number
    };
    (place < length).then_some(place)
}

fn get<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| match value {
        Value::Object(map) => map.get(key),
        Value::Array(list) => list.get(index(key, list.len())?),
        _ => None,
    })
}

/// The value that holds the last key of a path, and that key.
fn holder<'a, 'k>(value: &'a mut Value, path: &'k [String]) -> Done<(&'a mut Value, &'k str)> {
    let Some((last, parents)) = path.split_last() else {
        return fails("the whole object has no key");
    };
    let found = parents.iter().try_fold(value, |value, key| match value {
        Value::Object(map) => map.get_mut(key),
        Value::Array(list) => {
            let place = index(key, list.len())?;
            list.get_mut(place)
        }
        _ => None,
    });
    match found {
        Some(holder @ (Value::Object(_) | Value::Array(_))) => Ok((holder, last)),
        _ => fails("path does not exist"),
    }
}

fn add(object: &mut Value, path: &[String], value: Value) -> Done {
    if path.is_empty() {
        *object = value;
        return Ok(());
    }
    match holder(object, path)? {
        (Value::Array(list), "-") => list.push(value),
        (Value::Array(list), key) => match index(key, list.len() + 1) {
            Some(place) => list.insert(place, value),
            None => return fails("index out of bounds"),
        },
        (holder, key) => set(holder, key, value),
    }
    Ok(())
}

fn set(holder: &mut Value, key: &str, value: Value) {
    if !holder.is_object() {
        *holder = Value::Object(Map::new());
    }
    holder[key] = value;
}

fn replace(object: &mut Value, path: &[String], value: Value) -> Done {
    if path.is_empty() {
        *object = value;
        return Ok(());
    }
    match holder(object, path)? {
        (Value::Array(list), key) => match index(key, list.len()) {
            Some(place) => list[place] = value,
            None => return fails("index out of bounds"),
        },
        (holder, key) => set(holder, key, value),
    }
    Ok(())
}

fn remove(object: &mut Value, path: &[String]) -> Done<Value> {
    let removed = match holder(object, path)? {
        (Value::Object(map), key) => map.remove(key),
        (Value::Array(list), key) => index(key, list.len()).map(|place| list.remove(place)),
        _ => None,
    };
    removed.map_or_else(|| fails("unable to remove nonexistent key"), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    fn patched(operation: Value) -> Done<Value> {
        let mut object = value!({"a": {"b/c": 1}, "l": [1, 2, 3]});
        json(&mut object, value!([operation]).to_string().as_bytes())?;
        Ok(object)
    }

    #[test]
    fn operations() {
        for (operation, result) in [
            (
                value!({"op": "add", "path": "/a/d", "value": 2}),
                value!({"a": {"b/c": 1, "d": 2}, "l": [1, 2, 3]}),
            ),
            (
                value!({"op": "add", "path": "/l/1", "value": 9}),
                value!({"a": {"b/c": 1}, "l": [1, 9, 2, 3]}),
            ),
            (
                value!({"op": "add", "path": "/l/-", "value": 9}),
                value!({"a": {"b/c": 1}, "l": [1, 2, 3, 9]}),
            ),
            (
                value!({"op": "add", "path": "/l/3", "value": 9}),
                value!({"a": {"b/c": 1}, "l": [1, 2, 3, 9]}),
            ),
            (
                value!({"op": "remove", "path": "/a/b~1c"}),
                value!({"a": {}, "l": [1, 2, 3]}),
            ),
            (
                value!({"op": "remove", "path": "/l/-1"}),
                value!({"a": {"b/c": 1}, "l": [1, 2]}),
            ),
            (
                value!({"op": "replace", "path": "/l/0", "value": 9}),
                value!({"a": {"b/c": 1}, "l": [9, 2, 3]}),
            ),
            (
                value!({"op": "replace", "path": "/a/new", "value": 9}),
                value!({"a": {"b/c": 1, "new": 9}, "l": [1, 2, 3]}),
            ),
            (
                value!({"op": "move", "from": "/l", "path": "/m"}),
                value!({"a": {"b/c": 1}, "m": [1, 2, 3]}),
            ),
            (
                value!({"op": "copy", "from": "/l/0", "path": "/n"}),
                value!({"a": {"b/c": 1}, "l": [1, 2, 3], "n": 1}),
            ),
            (
                value!({"op": "test", "path": "/l/0", "value": 1}),
                value!({"a": {"b/c": 1}, "l": [1, 2, 3]}),
            ),
            (
                value!({"op": "test", "path": "/x/y", "value": null}),
                value!({"a": {"b/c": 1}, "l": [1, 2, 3]}),
            ),
        ] {
            assert_eq!(patched(operation.clone()).unwrap(), result, "{operation}");
        }
    }

    #[test]
    fn failures() {
        for operation in [
            value!({"op": "add", "path": "/l/9", "value": 1}),
            value!({"op": "add", "path": "/x/y", "value": 1}),
            value!({"op": "add", "path": "/l/x", "value": 1}),
            value!({"op": "remove", "path": "/x"}),
            value!({"op": "remove", "path": ""}),
            value!({"op": "remove", "path": "/l/-4"}),
            value!({"op": "replace", "path": "/l/3", "value": 1}),
            value!({"op": "copy", "from": "/x", "path": "/y"}),
            value!({"op": "test", "path": "/l/0", "value": 2}),
            value!({"op": "add", "value": 1}),
            value!({"op": "shake", "path": "/l"}),
            value!({"op": "add", "path": "l", "value": 1}),
        ] {
            assert!(
                matches!(patched(operation.clone()), Err(PatchError::DoesNotApply(_))),
                "{operation}"
            );
        }
    }
}
