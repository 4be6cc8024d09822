//! The patch of a client-side apply (§14.4): what to send so that an object becomes what a file says, pure.
//!
//! Three states decide: `original`, what was applied last; `modified`, what is to be; `current`, what the server has. What the file
//! does not mention and never did is left alone; what it stopped mentioning is removed.

use std::cmp::Ordering;

use api::patch::{Level, Meta};
use api::schema::TypeId;
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// A strategic merge patch for a known type, a JSON merge patch for any other; `{}` when there is nothing to do.
pub(crate) fn three_way(
    original: &Value,
    modified: &Value,
    current: &Value,
    ty: Option<TypeId>,
) -> Value {
    let level = ty.map_or(Level::Unknown, Level::Type);
    Value::Object(maps(
        object(Some(original)),
        object(Some(modified)),
        object(Some(current)),
        level,
        false,
    ))
}

static NO_FIELDS: std::sync::LazyLock<Object> = std::sync::LazyLock::new(Object::new);

fn object(value: Option<&Value>) -> &Object {
    value.and_then(Value::as_object).unwrap_or(&NO_FIELDS)
}

fn maps(
    original: &Object,
    modified: &Object,
    current: &Object,
    level: Level<'_>,
    retain_keys: bool,
) -> Object {
    let mut patch = Object::new();
    for (key, wanted) in modified {
        let meta = level.field(key);
        match (current.get(key), wanted) {
            (Some(Value::Object(have)), Value::Object(wanted)) if !meta.strategy.replace => {
                let inner = maps(
                    object(original.get(key)),
                    wanted,
                    have,
                    meta.level,
                    meta.strategy.retain_keys,
                );
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (Some(Value::Array(have)), Value::Array(wanted)) if meta.strategy.merge => {
                let was = original
                    .get(key)
                    .and_then(Value::as_array)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                lists(key, [was, wanted, have], meta, &mut patch);
            }
            (Some(have), wanted) if have == wanted => {}
            (_, wanted) => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    for key in original.keys().filter(|key| !modified.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    let to_clear = current.keys().any(|key| !modified.contains_key(key));
    if retain_keys && !modified.is_empty() && (!patch.is_empty() || to_clear) {
        let kept = modified.iter().filter(|(_, value)| !value.is_null());
        let mut kept: Vec<&str> = kept.map(|(key, _)| key.as_str()).collect();
        kept.sort_unstable();
        patch.insert("$retainKeys".into(), json!(kept));
    }
    patch
}

/// Lists that merge: elements with their keys, or values that are their own.
fn lists(key: &str, states: [&[Value]; 3], meta: Meta<'_>, patch: &mut Object) {
    let [original, modified, current] = states;
    if current.is_empty() {
        if !modified.is_empty() {
            patch.insert(key.to_owned(), modified.into());
        }
        return;
    }
    let keyed =
        |list: &[Value], merge_key: &str| list.iter().all(|item| item.get(merge_key).is_some());
    match meta.merge_key {
        Some(merge_key) if states.iter().all(|list| keyed(list, merge_key)) => {
            elements(key, states, merge_key, meta, patch);
        }
        // The server says what is wrong with elements that lack their key.
        Some(_) if modified == current => {}
        Some(_) => {
            patch.insert(key.to_owned(), modified.into());
        }
        None => {
            let missing = |from: &[Value], values: &[Value]| -> Vec<Value> {
                values
                    .iter()
                    .filter(|value| !from.contains(value))
                    .cloned()
                    .collect()
            };
            let (added, removed) = (missing(current, modified), missing(modified, original));
            if !removed.is_empty() || modified != current {
                patch.insert(format!("$setElementOrder/{key}"), modified.into());
            }
            if !removed.is_empty() {
                patch.insert(format!("$deleteFromPrimitiveList/{key}"), removed.into());
            }
            if !added.is_empty() {
                patch.insert(key.to_owned(), added.into());
            }
        }
    }
}

fn elements(key: &str, states: [&[Value]; 3], merge_key: &str, meta: Meta<'_>, patch: &mut Object) {
    let [original, modified, current] = states;
    let find = |list: &'_ [Value], wanted: &Value| -> Option<usize> {
        list.iter()
            .position(|item| item[merge_key] == wanted[merge_key])
    };
    let mut items = Vec::new();
    for wanted in modified {
        let Some(have) = find(current, wanted) else {
            items.push(wanted.clone());
            continue;
        };
        let was = find(original, wanted).map(|place| &original[place]);
        let mut inner = maps(
            object(was),
            object(Some(wanted)),
            object(Some(&current[have])),
            meta.level,
            meta.strategy.retain_keys,
        );
        if !inner.is_empty() {
            inner.insert(merge_key.to_owned(), wanted[merge_key].clone());
            items.push(Value::Object(inner));
        }
    }
    let mut gone: Vec<&Value> = original
        .iter()
        .filter(|was| find(modified, was).is_none())
        .collect();
    gone.sort_by(|a, b| by_text(&a[merge_key], &b[merge_key]));
    for was in gone {
        items.push(json!({"$patch": "delete", merge_key: was[merge_key]}));
    }
    let same_order = modified.len() == current.len()
        && modified
            .iter()
            .zip(current)
            .all(|(a, b)| a[merge_key] == b[merge_key]);
    if !items.is_empty() || !same_order {
        let order: Vec<Value> = modified
            .iter()
            .map(|item| json!({merge_key: item[merge_key]}))
            .collect();
        if !order.is_empty() {
            patch.insert(format!("$setElementOrder/{key}"), order.into());
        }
    }
    if !items.is_empty() {
        patch.insert(key.to_owned(), items.into());
    }
}

fn by_text(a: &Value, b: &Value) -> Ordering {
    a.to_string().cmp(&b.to_string())
}

#[cfg(test)]
mod tests {
    use api::schema::Schema;

    use super::*;

    fn pod_patch(original: Value, modified: Value, current: Value) -> Value {
        let ty = Schema::get().of("", "v1", "Pod");
        assert!(ty.is_some());
        let spec = |inner: Value| json!({"spec": inner});
        let patch = three_way(&spec(original), &spec(modified), &spec(current), ty);
        patch.get("spec").cloned().unwrap_or_else(|| json!({}))
    }

    #[test]
    fn what_the_file_never_mentioned_stays() {
        assert_eq!(
            pod_patch(json!({"a": 1}), json!({"a": 1}), json!({"a": 1, "live": 2})),
            json!({})
        );
    }

    #[test]
    fn changes_additions_and_removals() {
        assert_eq!(
            pod_patch(
                json!({"gone": 1, "same": 1}),
                json!({"same": 1, "changed": 2, "added": 3, "null": null}),
                json!({"same": 1, "changed": 1, "null": 4, "live": 5})
            ),
            json!({"gone": null, "changed": 2, "added": 3, "null": null})
        );
    }

    #[test]
    fn keyed_lists_merge_by_element() {
        let container = |name: &str, image: &str| json!({"name": name, "image": image});
        assert_eq!(
            pod_patch(
                json!({"containers": [container("a", "1"), container("old", "1")]}),
                json!({"containers": [container("a", "2"), container("new", "1")]}),
                json!({"containers": [{"name": "a", "image": "1", "live": true}, container("old", "1"), container("injected", "1")]})
            ),
            json!({
                "$setElementOrder/containers": [{"name": "a"}, {"name": "new"}],
                "containers": [{"name": "a", "image": "2"}, container("new", "1"), {"$patch": "delete", "name": "old"}]
            })
        );
    }

    #[test]
    fn an_order_that_differs_is_a_change() {
        let list = |names: &[&str]| json!({"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()});
        assert_eq!(
            pod_patch(list(&["a", "b"]), list(&["b", "a"]), list(&["a", "b"])),
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]})
        );
        assert_eq!(
            pod_patch(list(&["a"]), list(&["a"]), list(&["a"])),
            json!({})
        );
        assert_eq!(
            pod_patch(json!({}), list(&["a"]), json!({"containers": []})),
            list(&["a"])
        );
    }

    #[test]
    fn atomic_lists_go_whole_and_sets_by_value() {
        assert_eq!(
            pod_patch(
                json!({"tolerations": [{"key": "a"}]}),
                json!({"tolerations": [{"key": "b"}]}),
                json!({"tolerations": [{"key": "a"}, {"key": "live"}]})
            ),
            json!({"tolerations": [{"key": "b"}]})
        );
        let ty = Schema::get().of("", "v1", "Pod");
        let finalizers = |values: &[&str]| json!({"metadata": {"finalizers": values}});
        assert_eq!(
            three_way(
                &finalizers(&["old"]),
                &finalizers(&["new"]),
                &finalizers(&["old", "live"]),
                ty
            ),
            json!({"metadata": {
                "$setElementOrder/finalizers": ["new"],
                "$deleteFromPrimitiveList/finalizers": ["old"],
                "finalizers": ["new"]
            }})
        );
    }

    #[test]
    fn volumes_keep_only_their_own_source() {
        let patch = pod_patch(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        );
        assert_eq!(
            patch["volumes"][0],
            json!({"name": "v", "emptyDir": null, "hostPath": {"path": "/x"}, "$retainKeys": ["hostPath", "name"]})
        );
    }

    #[test]
    fn unknown_types_get_a_merge_patch() {
        assert_eq!(
            three_way(
                &json!({"spec": {"list": [1], "gone": 1}}),
                &json!({"spec": {"list": [2], "m": {"a": 1}}}),
                &json!({"spec": {"list": [1], "gone": 1, "m": {"a": 1, "b": 2}}}),
                None
            ),
            json!({"spec": {"list": [2], "gone": null}})
        );
    }

    /// The patch, applied by the server's own rules, leads to the file's state.
    #[test]
    fn the_server_reaches_the_wanted_state() {
        let ty = Schema::get().of("", "v1", "Pod").expect("Pod is known");
        let original = json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "1"}]}], "nodeSelector": {"a": "1"}}});
        let modified = json!({"spec": {"containers": [{"name": "b", "image": "1"}, {"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}]}});
        let mut current = original.clone();
        current["spec"]["restartPolicy"] = "Always".into();
        let patch = three_way(&original, &modified, &current, Some(ty));
        api::patch::strategic_merge(&mut current, patch, ty).expect("applies");
        let mut wanted = modified.clone();
        wanted["spec"]["restartPolicy"] = "Always".into();
        assert_eq!(current, wanted);
    }
}
