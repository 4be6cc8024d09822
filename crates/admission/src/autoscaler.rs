//! HorizontalPodAutoscalers (upstream's pkg/apis/autoscaling and its strategy). Those of autoscaling/v1 are looked at as what they are in
//! v2, so errors name the fields of v2, as upstream's do.

mod metrics;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use api::field::{Error, ErrorList};
use api::gvk::GroupVersion;
use api::names;
use api::resource::{cpu_utilization, to_autoscaler_v1, to_autoscaler_v2};
use serde_json::{Value, json};

use crate::meta::invalid_text;
use crate::pod::non_negative;
use crate::resources::non_negative_quantity;
use crate::view::{
    At, dig, get, list, object, object_mut, remove, restore, set_if_absent, set_if_zero, text,
};
use crate::{Rules, Subresource, meta};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default: |object| in_v2(object, default),
    prepare_create: |object| in_v2(object, |object| remove(object, "status")),
    prepare_update,
    validate_create: |object| {
        let object = as_v2(object);
        let mut errors = meta::validate(&object, true, names::dns1123_subdomain);
        errors.extend(validate_spec(&object, None));
        errors
    },
    validate_update: |subresource, new, old| {
        let (new, old) = (as_v2(new), as_v2(old));
        match subresource {
            Subresource::Status => {
                let counts = ["currentReplicas", "desiredReplicas"];
                let status = At::field(&new, "status");
                let counts = counts.iter().map(|name| status.get(name));
                counts.flat_map(|count| non_negative(&count)).collect()
            }
            _ => validate_spec(&new, Some(&old)),
        }
    },
};

/// The longest period of a policy, in seconds.
const MAX_PERIOD: i64 = 1800;
/// The longest stabilization window, in seconds.
const MAX_WINDOW: i64 = 3600;
const SELECT_POLICIES: [&str; 3] = ["Disabled", "Max", "Min"];
const POLICY_TYPES: [&str; 2] = ["Percent", "Pods"];

fn is_v1(object: &Value) -> bool {
    text(get(object, "apiVersion")) == "autoscaling/v1"
}

/// Does it to the object as it is in v2.
fn in_v2(autoscaler: &mut Value, change: impl FnOnce(&mut Value)) {
    let was_v1 = is_v1(autoscaler);
    if was_v1 {
        to_autoscaler_v2(object(autoscaler));
    }
    change(autoscaler);
    if was_v1 {
        to_autoscaler_v1(object(autoscaler));
    }
}

fn as_v2(autoscaler: &Value) -> Cow<'_, Value> {
    if !is_v1(autoscaler) {
        return Cow::Borrowed(autoscaler);
    }
    let mut converted = autoscaler.clone();
    to_autoscaler_v2(object(&mut converted));
    Cow::Owned(converted)
}

fn default(object: &mut Value) {
    let Some(spec) = object_mut(object, "spec") else {
        return;
    };
    set_if_absent(spec, "minReplicas", 1);
    set_if_zero(spec, "metrics", json!([cpu_utilization(None)]));
    let Some(behavior) = object_mut(spec, "behavior") else {
        return;
    };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    set_if_absent(behavior, "scaleUp", json!({}));
    set_if_absent(behavior, "scaleDown", json!({}));
    if let Some(up) = object_mut(behavior, "scaleUp") {
        set_if_absent(up, "stabilizationWindowSeconds", 0);
        default_rules(up, json!([pods, percent]));
    }
    if let Some(down) = object_mut(behavior, "scaleDown") {
        default_rules(down, json!([percent]));
    }
}

fn default_rules(rules: &mut Value, policies: Value) {
    set_if_absent(rules, "selectPolicy", "Max");
    set_if_absent(rules, "policies", policies);
}

/// Upstream does not count changes of autoscalers.
fn prepare_update(subresource: Subresource, new: &mut Value, old: &Value) {
    let old = as_v2(old);
    let kept = match subresource {
        Subresource::Status => "spec",
        _ => "status",
    };
    in_v2(new, |new| restore(new, &old, kept));
}

fn validate_spec(new: &Value, old: Option<&Value>) -> ErrorList {
    let spec = At::field(new, "spec");
    let old = old.map(|old| get(old, "spec"));
    let mut errors = bounds(&spec, old);
    let target = spec.get("scaleTargetRef");
    let is_same = old.is_some_and(|old| {
        let same =
            |name: &str| text(dig(old, &["scaleTargetRef", name])) == text(get(target.value, name));
        same("apiVersion") && same("kind")
    });
    let version = match target.get("kind").text() {
        _ if is_same => Version::Any,
        "ReplicationController" => Version::Parses,
        _ => Version::HasGroup,
    };
    errors.extend(reference(&target, version));
    let was_wrong = old.is_some_and(|old| {
        let objects = list(get(old, "metrics")).iter();
        let mut versions = objects.filter(|metric| text(get(metric, "type")) == "Object");
        versions.any(|metric| {
            let version = dig(metric, &["object", "describedObject", "apiVersion"]);
            wrong_version(text(version), Version::Parses).is_some()
        })
    });
    let version = match was_wrong {
        true => Version::Any,
        false => Version::Parses,
    };
    errors.extend(metrics::validate(&spec, version));
    let behavior = spec.get("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        let rules = behavior.get(direction);
        if rules.given() {
            errors.extend(scaling_rules(&rules));
        }
    }
    errors
}

fn bounds(spec: &At<'_>, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    let most = max.int().unwrap_or(0);
    let was_zero = old.is_some_and(|old| *get(old, "minReplicas") == 0);
    let least = i64::from(!was_zero);
    if let Some(value) = min.int().filter(|value| *value < least) {
        let why = format!("must be greater than or equal to {least}");
        errors.push(Error::invalid(&min.path, value, why));
    }
    if most == 0 {
        errors.push(Error::required(&max.path, "must be set and greater than 0"));
    } else if most < 0 {
        let why = "must be greater than or equal to 1";
        errors.push(Error::invalid(&max.path, most, why));
    }
    if min.int().is_some_and(|min| most < min) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(Error::invalid(&max.path, most, why));
    }
    errors
}

/// What the `apiVersion` of a reference must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Any,
    Parses,
    HasGroup,
}

/// A reference to an object of any kind.
fn reference(at: &At<'_>, version: Version) -> ErrorList {
    let mut errors = ErrorList::new();
    for field in [at.get("kind"), at.get("name")] {
        match field.text() {
            "" => errors.push(Error::required(&field.path, "")),
            name => errors.extend(invalid_text(&field, names::path_segment(name))),
        }
    }
    let given = at.get("apiVersion");
    if let Some(why) = wrong_version(given.text(), version) {
        errors.push(Error::invalid(&given.path, given.text(), why));
    }
    errors
}

fn wrong_version(text: &str, version: Version) -> Option<String> {
    match GroupVersion::parse(text) {
        _ if version == Version::Any => None,
        Err(why) => Some(why.to_string()),
        Ok(parsed) if version == Version::HasGroup && parsed.group.is_empty() => {
            Some("apiVersion must specify API group".to_owned())
        }
        Ok(_) => None,
    }
}

fn scaling_rules(rules: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let window = rules.get("stabilizationWindowSeconds");
    match window.int() {
        Some(value) if value < 0 => {
            let why = "must be greater than or equal to zero";
            errors.push(Error::invalid(&window.path, value, why));
        }
        Some(value) if value > MAX_WINDOW => {
            let why = format!("must be less than or equal to {MAX_WINDOW}");
            errors.push(Error::invalid(&window.path, value, why));
        }
        _ => {}
    }
    let select = rules.get("selectPolicy");
    if select.given() && !SELECT_POLICIES.contains(&select.text()) {
        errors.push(Error::not_supported(
            &select.path,
            select.text(),
            &SELECT_POLICIES,
        ));
    }
    let policies = rules.get("policies");
    if policies.len() == 0 {
        let why = "must specify at least one Policy";
        errors.push(Error::required(&policies.path, why));
    }
    errors.extend(policies.items().flat_map(|policy| scaling_policy(&policy)));
    errors.extend(non_negative_quantity(&rules.get("tolerance")));
    errors
}

fn scaling_policy(policy: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let kind = policy.get("type");
    if !POLICY_TYPES.contains(&kind.text()) {
        errors.push(Error::not_supported(&kind.path, kind.text(), &POLICY_TYPES));
    }
    let period = policy.get("periodSeconds");
    for number in [policy.get("value"), period.clone()] {
        let value = number.int().unwrap_or(0);
        if value <= 0 {
            let why = "must be greater than zero";
            errors.push(Error::invalid(&number.path, value, why));
        }
    }
    if let Some(value) = period.int().filter(|value| *value > MAX_PERIOD) {
        let why = format!("must be less than or equal to {MAX_PERIOD}");
        errors.push(Error::invalid(&period.path, value, why));
    }
    errors
}
