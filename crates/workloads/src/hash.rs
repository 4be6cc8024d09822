//! Short words that tell what objects say apart, as parts of their names.

use std::collections::BTreeMap;

use serde_json::Value;

/// No vowels and nothing that looks like another.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short word for a [`pruned`] value; another one for each number of collisions.
pub(crate) fn word(value: &Value, collisions: Option<i32>) -> String {
    let mut hash = Fnv::default();
    hash.write(value.to_string().as_bytes());
    if let Some(collisions) = collisions {
        hash.write(&collisions.to_le_bytes());
    }
    let digits = hash.0.to_string().into_bytes().into_iter();
    let letters = digits.map(|b| char::from(LETTERS[usize::from(b) % LETTERS.len()]));
    letters.collect()
}

/// A value in one order, and without what says nothing.
pub(crate) fn pruned(value: Value) -> Value {
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

    #[test]
    fn words_can_be_parts_of_names() {
        let word = word(&json!({"a": "b"}), Some(3));
        assert!(word.bytes().all(|b| LETTERS.contains(&b)), "{word}");
    }

    #[test]
    fn fnv_as_published() {
        let mut hash = Fnv::default();
        hash.write(b"foobar");
        assert_eq!(hash.0, 0xbf9c_f968);
    }
}
