//! The subresource `scale`: of everything that has a number of Pods, how many there should be and are (upstream's
//! pkg/apis/autoscaling/validation and the storage of each kind).

use api::field::ErrorList;
use api::names;
use api::selector::{Selector, SelectorError};
use serde_json::{Map, Value, json};

use crate::meta;
use crate::pod::non_negative;
use crate::view::{At, dig, entry, get, object, remove};

/// What the scale takes from the metadata of its object.
const METADATA: [&str; 5] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
];

/// The Scale of an object; fails when the selector of old is none.
pub fn of(parent: &Value) -> Result<Value, SelectorError> {
    let selector = get(get(parent, "spec"), "selector");
    let selector = match is_plain(parent) {
        true => Selector::from_labels(selector)?,
        false => Selector::from_value(selector)?,
    };
    let given = METADATA.map(|name| (name.to_owned(), get(get(parent, "metadata"), name).clone()));
    let metadata: Map<String, Value> = given.into_iter().filter(|(_, v)| !v.is_null()).collect();
    let count = |part: &str| dig(parent, &[part, "replicas"]).as_i64().unwrap_or(0);
    let mut scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": {},
        "status": {"replicas": count("status")},
    });
    if count("spec") != 0 {
        scale["spec"]["replicas"] = count("spec").into();
    }
    let selector = selector.to_string();
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

/// Whether the object's selector is a map of labels.
fn is_plain(parent: &Value) -> bool {
    *get(parent, "kind") == "ReplicationController"
}

/// Everything wrong with a Scale.
pub fn validate(scale: &Value) -> ErrorList {
    let mut errors = meta::validate(scale, true, names::dns1123_subdomain);
    errors.extend(non_negative(&At::field(scale, "spec").get("replicas")));
    errors
}

/// Makes the object what its Scale asks for, and the same version of it.
pub fn set(parent: &mut Value, scale: &Value) {
    let replicas = dig(scale, &["spec", "replicas"]).as_i64().unwrap_or(0);
    object(entry(parent, "spec")).insert("replicas".to_owned(), replicas.into());
    let metadata = entry(parent, "metadata");
    match dig(scale, &["metadata", "resourceVersion"]) {
        Value::String(version) => {
            object(metadata).insert("resourceVersion".to_owned(), version.as_str().into());
        }
        _ => remove(metadata, "resourceVersion"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{of, set, validate};

    #[test]
    fn a_scale_is_counts_and_a_selector() {
        let metadata = json!({"name": "w", "namespace": "d", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z"});
        let mut parent = json!({
            "metadata": metadata, "status": {"replicas": 2},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"b": "1"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}]}},
        });
        parent["metadata"]["labels"] = json!({"l": "1"});
        let mut scale = of(&parent).expect("a scale");
        assert_eq!(scale["metadata"], metadata);
        assert_eq!(scale["spec"], json!({"replicas": 3}));
        assert_eq!(
            scale["status"],
            json!({"replicas": 2, "selector": "a in (x,y),b=1"})
        );
        scale["spec"]["replicas"] = json!(0);
        scale["metadata"]["resourceVersion"] = json!("6");
        set(&mut parent, &scale);
        assert_eq!(parent["spec"]["replicas"], 0);
        assert_eq!(parent["metadata"]["resourceVersion"], "6");
        let none = of(&parent).expect("a scale");
        assert_eq!(none["spec"], json!({}));
        let plain = json!({"kind": "ReplicationController", "spec": {"selector": {"a": "b"}}});
        assert_eq!(of(&plain).expect("a scale")["status"]["selector"], "a=b");
    }

    #[test]
    fn fewer_than_none_are_refused() {
        let metadata = json!({"name": "w", "namespace": "d"});
        let errors = validate(&json!({"metadata": metadata, "spec": {"replicas": -1}}));
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let text = "spec.replicas: Invalid value: -1: must be greater than or equal to 0";
        assert_eq!(texts, [text]);
        assert!(validate(&json!({"metadata": metadata})).is_empty());
    }
}
