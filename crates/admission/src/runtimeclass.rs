//! RuntimeClasses, and what one does to the Pods that name it (the plugin RuntimeClass, KEP-688).

use api::field::{Error, ErrorList};
use api::names;
use serde_json::Value;
use thiserror::Error as Thiserror;

use crate::meta::{self, immutable, invalid_text};
use crate::resources::{self, Scope};
use crate::view::{At, entries, entry, get, list, object, same, text};
use crate::{Rules, Subresource, generic, pod};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default: generic::nothing,
    prepare_create: generic::nothing,
    prepare_update: generic::keep,
    validate_create,
    validate_update,
};

/// Why a Pod is refused: 403 `pods "<name>" is forbidden: <this>`.
#[derive(Debug, Clone, PartialEq, Eq, Thiserror)]
pub enum Refused {
    /// There is no such class.
    #[error("pod rejected: RuntimeClass {0:?} not found")]
    NotFound(String),
    /// The Pod brings an overhead that its class does not have.
    #[error("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")]
    Overhead,
    /// The Pod brings another overhead than its class has.
    #[error("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")]
    OtherOverhead,
    /// Pod and class select nodes by different values of one label.
    #[error(
        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {class}; pod.spec.nodeSelector[{key}] = {pod}"
    )]
    NodeSelector {
        /// The label.
        key: String,
        /// What the class asks for.
        class: String,
        /// What the Pod asks for.
        pod: String,
    },
}

/// Gives a new Pod the overhead, node selector and tolerations of `class`, the RuntimeClass it names, if that exists.
///
/// # Errors
/// When there is no such class, or the Pod says otherwise.
pub fn admit(new: &mut Value, class: Option<&Value>) -> Result<(), Refused> {
    let spec = entry(new, "spec");
    let class = match (get(spec, "runtimeClassName").as_str(), class) {
        (Some(name), None) => return Err(Refused::NotFound(name.to_owned())),
        (Some(_), Some(class)) => class,
        (None, _) => &Value::Null,
    };
    overhead(spec, get(class, "overhead"))?;
    let scheduling = get(class, "scheduling");
    node_selector(spec, get(scheduling, "nodeSelector"))?;
    if !scheduling.is_null() {
        tolerations(spec, list(get(scheduling, "tolerations")));
    }
    Ok(())
}

fn overhead(spec: &mut Value, of_class: &Value) -> Result<(), Refused> {
    let fixed = get(of_class, "podFixed");
    let given = get(spec, "overhead");
    if of_class.is_null() {
        return if given.is_null() {
            Ok(())
        } else {
            Err(Refused::Overhead)
        };
    }
    let wrapped = |amounts: &Value| serde_json::json!({"overhead": amounts});
    if entries(given).next().is_some() && !same(&wrapped(given), &wrapped(fixed)) {
        return Err(Refused::OtherOverhead);
    }
    if fixed.is_null() {
        crate::view::remove(spec, "overhead");
    } else {
        object(spec).insert("overhead".to_owned(), fixed.clone());
    }
    Ok(())
}

fn node_selector(spec: &mut Value, of_class: &Value) -> Result<(), Refused> {
    for (key, value) in entries(of_class) {
        let given = get(get(spec, "nodeSelector"), key);
        if !given.is_null() && given != value {
            return Err(Refused::NodeSelector {
                key: key.to_owned(),
                class: text(value).to_owned(),
                pod: text(given).to_owned(),
            });
        }
    }
    for (key, value) in entries(of_class) {
        object(entry(spec, "nodeSelector")).insert(key.to_owned(), value.clone());
    }
    Ok(())
}

/// The Pod's tolerations and then the class's, without those that another one covers.
fn tolerations(spec: &mut Value, of_class: &[Value]) {
    let all = [list(get(spec, "tolerations")), of_class].concat();
    let mut kept: Vec<Value> = Vec::new();
    for (at, item) in all.iter().enumerate() {
        let mut later = all[at + 1..].iter().filter(|other| !same(other, item));
        if !kept.iter().any(|other| covers(other, item)) && !later.any(|other| covers(other, item))
        {
            kept.push(item.clone());
        }
    }
    if !kept.is_empty() {
        object(spec).insert("tolerations".to_owned(), kept.into());
    }
}

/// Whether `wide` tolerates all that `narrow` does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    if same(wide, narrow) {
        return true;
    }
    let [wide_words, narrow_words] = [wide, narrow]
        .map(|t| ["key", "operator", "value", "effect"].map(|field| text(get(t, field))));
    let [key, operator, value, effect] = wide_words;
    let [narrow_key, narrow_operator, narrow_value, narrow_effect] = narrow_words;
    let is_equal = |word: &str| ["", "Equal"].contains(&word);
    let any_key = key.is_empty() && operator == "Exists";
    let seconds = |t: &Value| get(t, "tolerationSeconds").as_i64();
    let is_shorter = effect == "NoExecute"
        && seconds(wide).is_some_and(|limit| seconds(narrow).is_none_or(|other| other > limit));
    (key == narrow_key || any_key)
        && (effect == narrow_effect || effect.is_empty())
        && !is_shorter
        && (operator == "Exists"
            || (is_equal(operator) && is_equal(narrow_operator) && value == narrow_value))
}

fn validate_create(class: &Value) -> ErrorList {
    let mut errors = meta::validate(class, false, names::dns1123_subdomain);
    errors.extend(validate(class));
    errors
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let mut errors = validate(new);
    errors.extend(immutable(&At::field(new, "handler"), get(old, "handler")));
    errors
}

fn validate(class: &Value) -> ErrorList {
    let handler = At::field(class, "handler");
    let mut errors = if handler.text().is_empty() {
        vec![Error::required(&handler.path, "")]
    } else {
        invalid_text(&handler, names::dns1123_label(handler.text()))
    };
    let overhead = At::field(class, "overhead");
    if overhead.given() {
        let as_limits = serde_json::json!({"limits": get(overhead.value, "podFixed")});
        let at = At {
            value: &as_limits,
            path: overhead.path.clone(),
        };
        errors.extend(resources::requirements(
            &at,
            Scope::Container,
            &Default::default(),
        ));
    }
    let scheduling = At::field(class, "scheduling");
    errors.extend(meta::labels(&scheduling.get("nodeSelector")));
    let tolerations = scheduling.get("tolerations");
    errors.extend(pod::tolerations(&tolerations));
    let all = list(tolerations.value);
    for (i, item) in tolerations.items().enumerate() {
        let is_same = |other: &Value| {
            ["key", "operator", "value", "effect"]
                .iter()
                .all(|field| text(get(other, field)) == text(get(item.value, field)))
        };
        if all[..i].iter().any(is_same) {
            errors.push(Error::duplicate(&item.path, item.value.clone()));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Refused, admit, validate_create, validate_update};
    use crate::Subresource;

    fn class() -> Value {
        json!({
            "metadata": {"name": "safe"}, "handler": "kata",
            "overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}},
            "scheduling": {
                "nodeSelector": {"vm": "yes"},
                "tolerations": [{"key": "vm", "operator": "Exists"}],
            },
        })
    }

    fn admitted(spec: Value, class: Value) -> Result<Value, Refused> {
        let mut pod = json!({"spec": spec});
        let is_there = pod["spec"]["runtimeClassName"] == "safe";
        admit(&mut pod, is_there.then_some(&class))?;
        Ok(pod["spec"].take())
    }

    #[test]
    fn a_pod_takes_over_from_its_class() {
        let own = json!({"key": "vm", "operator": "Equal", "value": "a", "effect": "NoSchedule"});
        let other = json!({"key": "gpu", "operator": "Exists"});
        let spec = json!({"runtimeClassName": "safe", "nodeSelector": {"disk": "ssd"}, "tolerations": [own, other]});
        assert_eq!(
            admitted(spec, class()).unwrap(),
            json!({
                "runtimeClassName": "safe",
                "overhead": {"cpu": "10m", "memory": "1Mi"},
                "nodeSelector": {"disk": "ssd", "vm": "yes"},
                "tolerations": [other, {"key": "vm", "operator": "Exists"}],
            })
        );
        let same_amount =
            json!({"runtimeClassName": "safe", "overhead": {"cpu": "0.01", "memory": "1024Ki"}});
        assert_eq!(
            admitted(same_amount, class()).unwrap()["overhead"]["cpu"],
            "10m"
        );
        assert_eq!(admitted(json!({}), class()).unwrap(), json!({}));
    }

    #[test]
    fn a_pod_is_refused() {
        let bare = || json!({"metadata": {"name": "safe"}, "handler": "runc"});
        let rows = [
            (
                json!({"runtimeClassName": "gone"}),
                class(),
                "pod rejected: RuntimeClass \"gone\" not found",
            ),
            (
                json!({"overhead": {"cpu": "1"}}),
                class(),
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
            (
                json!({"runtimeClassName": "safe", "overhead": {"cpu": "1"}}),
                bare(),
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
            (
                json!({"runtimeClassName": "safe", "overhead": {"cpu": "1"}}),
                class(),
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            ),
            (
                json!({"runtimeClassName": "safe", "nodeSelector": {"vm": "no"}}),
                class(),
                "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
            ),
        ];
        for (spec, class, expected) in rows {
            let refused = admitted(spec.clone(), class).unwrap_err();
            assert_eq!(refused.to_string(), expected, "{spec}");
        }
    }

    #[test]
    fn a_class_is_validated() {
        let shown = |errors: api::field::ErrorList| -> Vec<String> {
            errors.iter().map(ToString::to_string).collect()
        };
        assert!(validate_create(&class()).is_empty());
        let missing = json!({"metadata": {"name": "safe"}});
        assert_eq!(
            shown(validate_create(&missing)),
            ["handler: Required value"]
        );
        let mut other = class();
        other["handler"] = "runc".into();
        assert_eq!(
            shown(validate_update(Subresource::Main, &other, &class())),
            ["handler: Invalid value: \"runc\": field is immutable"]
        );
        let mut broken = class();
        broken["handler"] = "a/b".into();
        broken["overhead"]["podFixed"]["memory"] = "-1".into();
        let twice = broken["scheduling"]["tolerations"][0].clone();
        broken["scheduling"]["tolerations"] = json!([twice, twice]);
        let errors = shown(validate_create(&broken));
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].starts_with("handler: Invalid value: \"a/b\""));
        assert!(errors[1].starts_with("overhead.limits[memory]: Invalid value: \"-1\""));
        assert!(errors[2].starts_with("scheduling.tolerations[1]: Duplicate value"));
    }
}
