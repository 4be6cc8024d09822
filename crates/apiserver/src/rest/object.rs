//! Objects on their way into the store: encoding with a hole for the revision, commits, and what is read back.

use api::status::{self, StatusError};
use bytes::Bytes;
use ports::store::{Change, Durability, Encode, Entry, Expect, Revision, StoreError, Write};
use serde_json::{Map, Value};

use super::Rest;
use crate::registry::Charges;
use crate::server::Inner;

/// An object read from the store and decoded.
pub(crate) struct Stored {
    pub(crate) entry: Entry,
    pub(crate) object: Value,
}

impl Stored {
    pub(crate) fn decode(entry: Entry) -> Result<Stored, StatusError> {
        let object = serde_json::from_slice(&entry.value).map_err(status::internal)?;
        Ok(Stored { entry, object })
    }

    pub(crate) fn expect(&self) -> Expect {
        Expect::ModRevision(self.entry.mod_revision)
    }
}

impl Rest {
    /// Every object that is stored under a prefix.
    pub(crate) fn all_under(&self, prefix: &str) -> Result<Vec<Value>, StatusError> {
        let (_, entries) = self.inner.store.range(prefix, None, 0);
        let decoded = entries.into_iter().map(Stored::decode);
        decoded.map(|stored| Ok(stored?.object)).collect()
    }
}

/// `metadata`, made when missing.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    // Both were made objects above.
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("metadata was just made an object"),
    }
}

/// A text field of `metadata`, empty when absent.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Whether finalizers hold the object: `metadata.finalizers`, and a Namespace's `spec.finalizers`.
pub(crate) fn is_held(object: &Value) -> bool {
    let some = |list: &Value| list.as_array().is_some_and(|l| !l.is_empty());
    some(&object["metadata"]["finalizers"])
        || (object["kind"] == "Namespace" && some(&object["spec"]["finalizers"]))
}

/// Writes one `"key":value` pair, with a comma unless it is the first.
fn pair(out: &mut Vec<u8>, key: &str, value: &Value) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    // A string and a decoded value always serialise into memory.
    let _ = serde_json::to_writer(&mut *out, key);
    out.push(b':');
    let _ = serde_json::to_writer(&mut *out, value);
}

/// Encodes `object` with kind, apiVersion and metadata in front; the revision goes in when it is known.
pub(crate) fn encoder(object: Value) -> Encode {
    let (mut head, tail) = split(&object);
    Box::new(move |revision: Revision| {
        head.extend_from_slice(revision.to_string().as_bytes());
        head.extend_from_slice(&tail);
        Bytes::from(head)
    })
}

/// The encoded object before and after its resourceVersion's digits.
fn split(object: &Value) -> (Vec<u8>, Vec<u8>) {
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    let metadata = object["metadata"].as_object().unwrap_or(&empty);
    let mut head = vec![b'{'];
    for key in ["kind", "apiVersion"] {
        if let Some(value) = fields.get(key) {
            pair(&mut head, key, value);
        }
    }
    head.extend_from_slice(if head.len() > 1 {
        b",\"metadata\":{"
    } else {
        b"\"metadata\":{"
    });
    let first = ["name", "generateName", "namespace", "uid"];
    for key in first {
        if let Some(value) = metadata.get(key) {
            pair(&mut head, key, value);
        }
    }
    head.extend_from_slice(if head.last() == Some(&b'{') {
        b"\"resourceVersion\":\""
    } else {
        b",\"resourceVersion\":\""
    });
    let mut tail = vec![b'"'];
    for (key, value) in metadata
        .iter()
        .filter(|(key, _)| !first.contains(&key.as_str()) && *key != "resourceVersion")
    {
        pair(&mut tail, key, value);
    }
    tail.push(b'}');
    for (key, value) in fields
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "kind" | "apiVersion" | "metadata"))
    {
        pair(&mut tail, key, value);
    }
    tail.push(b'}');
    (head, tail)
}

/// The bytes of `object` at `revision`.
pub(crate) fn encode_at(object: Value, revision: Revision) -> Bytes {
    encoder(object)(revision)
}

/// The bytes of an object that is not stored (dry run): without resourceVersion.
pub(crate) fn encode_unstored(mut object: Value) -> Bytes {
    metadata_mut(&mut object).remove("resourceVersion");
    Bytes::from(object.to_string())
}

/// Events may be lost with the power; nothing else.
fn durability(key: &str) -> Durability {
    if key.starts_with("/registry/events/") {
        Durability::Relaxed
    } else {
        Durability::Synced
    }
}

/// Stores `object` under `key` if `expect` holds.
pub(crate) async fn put(
    inner: &Inner,
    key: &str,
    expect: Expect,
    object: Value,
) -> Result<Entry, StoreError> {
    inner
        .store
        .commit(key, expect, Change::Put(encoder(object)), durability(key))
        .await
}

/// As [`put`], together with what it is charged.
pub(crate) async fn put_charged(
    inner: &Inner,
    key: &str,
    expect: Expect,
    object: Value,
    charges: Charges<'_>,
) -> Result<Entry, StoreError> {
    let mut writes = vec![put_write(key, expect, object)];
    writes.extend(charges.writes);
    let made = inner
        .store
        .commit_all(writes, charges.unchanged, durability(key));
    made.await?.into_iter().next().ok_or(StoreError::Closed)
}

/// The write that stores `object` under `key`.
pub(crate) fn put_write(key: &str, expect: Expect, object: Value) -> Write {
    Write {
        key: key.to_owned(),
        expect,
        change: Change::Put(encoder(object)),
    }
}

/// Removes what is under `key` if `expect` holds; watchers see `object` as its last state.
pub(crate) async fn remove(
    inner: &Inner,
    key: &str,
    expect: Expect,
    object: Value,
) -> Result<Entry, StoreError> {
    inner
        .store
        .commit(
            key,
            expect,
            Change::Delete(encoder(object)),
            durability(key),
        )
        .await
}

/// A refusal of the store that is not about the object itself.
pub(crate) fn store_error(error: StoreError) -> StatusError {
    match error {
        StoreError::Closed => status::service_unavailable("the server is shutting down"),
        other => status::internal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn revision_goes_into_its_place() {
        for (object, text) in [
            (
                json!({"spec":{"a":1},"metadata":{"labels":{"l":"1"},"name":"x","resourceVersion":"3"},"kind":"Pod","apiVersion":"v1"}),
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x","resourceVersion":"12","labels":{"l":"1"}},"spec":{"a":1}}"#,
            ),
            (json!({}), r#"{"metadata":{"resourceVersion":"12"}}"#),
            (
                json!({"data":{}}),
                r#"{"metadata":{"resourceVersion":"12"},"data":{}}"#,
            ),
        ] {
            assert_eq!(encode_at(object, 12), text);
        }
    }
}
