//! When two templates are the same, and the name of one.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::HASH_LABEL;

/// No vowels and nothing that looks like another.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether both make the same Pods, whatever label tells them apart.
pub(super) fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a == b || canonical(a) == canonical(b)
}

/// A short word for a template; another one for each number of collisions.
pub(super) fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let mut hash = Fnv::default();
    hash.write(canonical(template).to_string().as_bytes());
    if let Some(collisions) = collisions {
        hash.write(&collisions.to_le_bytes());
    }
    let digits = hash.0.to_string().into_bytes().into_iter();
    let letters = digits.map(|b| char::from(LETTERS[usize::from(b) % LETTERS.len()]));
    letters.collect()
}

/// A template without its hash, in one order, and without what says nothing.
fn canonical(template: &PodTemplateSpec) -> Value {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut metadata.labels {
        labels.remove(HASH_LABEL);
    }
    pruned(serde_json::to_value(template).unwrap_or_default())
}

fn pruned(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields: BTreeMap<String, Value> =
                map.into_iter().map(|(k, v)| (k, pruned(v))).collect();
            let said = fields.into_iter().filter(|(_, v)| !is_nothing(v));
            Value::Object(said.collect())
        }
        // A list keeps its places; an empty volume is one nonetheless.
        Value::Array(items) => items.into_iter().map(pruned).collect(),
        other => other,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// FNV-1a of 32 bits.
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0x811c_9dc5)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_hash_is_not_part_of_the_template() {
        let plain = template(
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}),
        );
        let mut marked = plain.clone();
        let labels = marked.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.insert(HASH_LABEL.into(), "5d4f".into());
        assert!(same(&plain, &marked));
        assert_eq!(hash(&plain, None), hash(&marked, None));
        assert_ne!(hash(&plain, None), hash(&plain, Some(1)));
        assert_ne!(hash(&plain, Some(1)), hash(&plain, Some(2)));
        let hash = hash(&plain, None);
        assert!(hash.bytes().all(|b| LETTERS.contains(&b)), "{hash}");
    }

    #[test]
    fn what_says_nothing_is_no_difference() {
        let plain = template(json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}}));
        let wordy = template(
            json!({"metadata": {}, "spec": {"containers": [{"name": "c", "args": []}], "tolerations": []}}),
        );
        let other = template(
            json!({"metadata": {}, "spec": {"containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": {}}]}}),
        );
        assert!(same(&plain, &wordy));
        assert!(!same(&plain, &other));
    }

    #[test]
    fn fnv_as_published() {
        let mut hash = Fnv::default();
        hash.write(b"foobar");
        assert_eq!(hash.0, 0xbf9c_f968);
    }
}
