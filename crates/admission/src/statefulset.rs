//! StatefulSets.

use api::field::{Error, ErrorList};
use api::names;
use api::selector::Selector;
use serde_json::{Value, json};

use crate::meta::invalid_text;
use crate::pod::internal::{self, Kind};
use crate::pod::{self, claim, label_selector};
use crate::view::{
    At, dig, entry, get, list, list_mut, object, object_mut, remove, same, set_if_absent,
    set_if_zero, text,
};
use crate::{Rules, Subresource, generic, meta, podtemplate, workload};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default,
    prepare_create: |set| {
        (generic::RULES.prepare_create)(set);
        drop_disabled(set, None);
        let none = json!({"replicas": 0, "availableReplicas": 0});
        object(set).insert("status".to_owned(), none);
    },
    prepare_update: |part, new, old| {
        if part != Subresource::Status {
            drop_disabled(new, Some(old));
        }
        (generic::RULES.prepare_update)(part, new, old);
    },
    validate_create: |set| {
        let mut errors = meta::validate(set, true, names::dns1123_label);
        errors.extend(validate_spec(&At::field(set, "spec"), Looks::Closely));
        errors
    },
    validate_update,
};

/// How much of a specification is looked at: what cannot change is not looked at again, nor is a template where the one before it
/// was wrong already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looks {
    Closely,
    Again,
    PastTheTemplate,
}

const COUNTS: [&str; 7] = [
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "observedGeneration",
    "collisionCount",
];
/// What may change.
const MUTABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];
const FIXED: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

fn default(set: &mut Value) {
    workload::default_replicas(set);
    let spec = entry(set, "spec");
    set_if_zero(spec, "podManagementPolicy", "OrderedReady");
    let strategy = entry(spec, "updateStrategy");
    if text(get(strategy, "type")).is_empty() {
        set_if_zero(strategy, "type", "RollingUpdate");
        set_if_absent(strategy, "rollingUpdate", json!({}));
    }
    if text(get(strategy, "type")) == "RollingUpdate"
        && let Some(rolling) = object_mut(strategy, "rollingUpdate")
    {
        set_if_absent(rolling, "partition", 0);
    }
    let policy = entry(spec, "persistentVolumeClaimRetentionPolicy");
    for when in ["whenDeleted", "whenScaled"] {
        set_if_zero(policy, when, "Retain");
    }
    set_if_absent(spec, "revisionHistoryLimit", 10);
    for claim in list_mut(spec, "volumeClaimTemplates") {
        let words = [("apiVersion", "v1"), ("kind", "PersistentVolumeClaim")];
        for (name, word) in words {
            object(claim).insert(name.to_owned(), word.into());
        }
        let wanted = entry(claim, "spec");
        set_if_absent(wanted, "volumeMode", "Filesystem");
        if let Some(resources) = object_mut(wanted, "resources") {
            pod::round_up_lists(resources);
        }
        set_if_zero(entry(claim, "status"), "phase", "Pending");
    }
    let status = entry(set, "status");
    for name in ["replicas", "availableReplicas"] {
        set_if_absent(status, name, 0);
    }
}

/// What a client is told of a new or another specification besides what its template is told of.
pub(crate) fn warnings(spec: &At<'_>, is_new: bool) -> Vec<String> {
    let mut found = Vec::new();
    for template in spec.get("volumeClaimTemplates").items() {
        let path = match is_new {
            true => template.path.clone(),
            // Upstream writes the field as Go does, and only of changes.
            false => template.path.child("Spec"),
        };
        found.extend(claim::warnings(&template.get("spec").reported_at(path)));
    }
    let kept = spec.get("revisionHistoryLimit");
    if kept.int().is_some_and(|kept| kept < 0) {
        let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
        found.push(format!("{}: {why}", kept.path));
    }
    found
}

/// Upstream's gate `MaxUnavailableStatefulSet` is closed.
fn drop_disabled(set: &mut Value, old: Option<&Value>) {
    let path = ["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];
    if old.is_some_and(|old| !dig(old, &path).is_null()) {
        return;
    }
    let strategy = entry(entry(set, "spec"), "updateStrategy");
    if let Some(rolling) = object_mut(strategy, "rollingUpdate") {
        remove(rolling, "maxUnavailable");
    }
}

fn validate_update(part: Subresource, new: &Value, old: &Value) -> ErrorList {
    if part == Subresource::Status {
        return validate_status(&At::field(new, "status"), old);
    }
    let was_right = validate_spec(&At::field(old, "spec"), Looks::Again).is_empty();
    let looks = match was_right {
        true => Looks::Again,
        false => Looks::PastTheTemplate,
    };
    let spec = At::field(new, "spec");
    let mut errors = validate_spec(&spec, looks);
    let fixed = |spec: &Value| {
        let mut spec = spec.clone();
        MUTABLE.iter().for_each(|name| remove(&mut spec, name));
        spec
    };
    if !same(&fixed(spec.value), &fixed(get(old, "spec"))) {
        errors.push(Error::forbidden(&spec.path, FIXED));
    }
    errors
}

fn validate_spec(spec: &At<'_>, looks: Looks) -> ErrorList {
    let mut errors = ErrorList::new();
    let order = spec.get("podManagementPolicy");
    if !["OrderedReady", "Parallel"].contains(&order.text()) {
        let why = "must be 'OrderedReady' or 'Parallel'";
        errors.push(Error::invalid(&order.path, order.text(), why));
    }
    errors.extend(validate_strategy(&spec.get("updateStrategy")));
    let policy = spec.get("persistentVolumeClaimRetentionPolicy");
    for when in ["whenDeleted", "whenScaled"].map(|when| policy.get(when)) {
        if !["Retain", "Delete"].contains(&when.text()) {
            let supported = ["Retain", "Delete"];
            errors.push(Error::not_supported(&when.path, when.text(), &supported));
        }
    }
    if looks == Looks::Closely {
        let claims = spec.get("volumeClaimTemplates").items();
        errors.extend(claims.flat_map(|template| claim::validate(&template.get("spec"))));
    }
    errors.extend(workload::counts(spec, &["replicas", "minReadySeconds"]));
    errors.extend(pod::non_negative(
        &spec
            .get("ordinals")
            .get("start")
            .reported_at(spec.path.child("ordinals.start")),
    ));
    let service = spec.get("serviceName");
    if looks == Looks::Closely && !service.text().is_empty() {
        errors.extend(invalid_text(&service, names::dns1123_label(service.text())));
    }
    errors.extend(selector_and_template(spec, looks));
    errors.extend(workload::runs_always(&spec.get("template"), "StatefulSet"));
    errors
}

fn validate_strategy(strategy: &At<'_>) -> ErrorList {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "OnDelete" if rolling.given() => vec![internal::invalid(
            &rolling.path,
            Kind::RollingUpdateStatefulSet,
            rolling.value,
            "only allowed for updateStrategy 'RollingUpdate'",
        )],
        "OnDelete" => ErrorList::new(),
        "RollingUpdate" => validate_rolling(&rolling),
        _ => vec![internal::invalid(
            &strategy.path,
            Kind::StatefulSetUpdateStrategy,
            strategy.value,
            "must be 'RollingUpdate' or 'OnDelete'",
        )],
    }
}

fn validate_rolling(rolling: &At<'_>) -> ErrorList {
    let mut errors = pod::non_negative(&rolling.get("partition"));
    let most = rolling.get("maxUnavailable");
    if most.given() {
        errors.extend(workload::number_or_percent(&most));
        if workload::amount(most.value) == 0 {
            errors.push(Error::invalid(
                &most.path,
                most.value.clone(),
                "cannot be 0",
            ));
        }
        errors.extend(workload::at_most_all(&most));
    }
    errors
}

fn selector_and_template(spec: &At<'_>, looks: Looks) -> ErrorList {
    let selector = spec.get("selector");
    let mut errors = ErrorList::new();
    if selector.given() {
        errors.extend(label_selector(&selector));
        errors.extend(workload::selects_something(&selector, "statefulset"));
    } else {
        errors.push(Error::required(&selector.path, ""));
    }
    let Ok(parsed) = Selector::from_value(selector.value) else {
        errors.push(internal::invalid_selector(
            &selector.path,
            selector.value,
            "",
        ));
        return errors;
    };
    let template = spec.get("template");
    errors.extend(workload::selected(&template, &parsed));
    let as_made = made_of(template.value, spec);
    let as_made = At {
        value: &as_made,
        path: template.path.clone(),
    };
    match looks {
        Looks::PastTheTemplate => errors.extend(podtemplate::validate_metadata(&as_made)),
        _ => errors.extend(podtemplate::validate(&as_made)),
    }
    errors
}

/// The template with what the controller puts into it: names, and the volumes of claims.
fn made_of(template: &Value, spec: &At<'_>) -> Value {
    let mut made = template.clone();
    let pod = entry(&mut made, "spec");
    for name in ["hostname", "subdomain"] {
        remove(pod, name);
    }
    let claims = spec.get("volumeClaimTemplates");
    if claims.len() == 0 {
        return made;
    }
    let name_of = |claim: &Value| text(dig(claim, &["metadata", "name"])).to_owned();
    let claimed: Vec<String> = list(claims.value).iter().map(name_of).collect();
    let own = list(get(pod, "volumes")).iter();
    let own = own.filter(|volume| !claimed.iter().any(|name| name == text(get(volume, "name"))));
    let mut volumes: Vec<Value> = claimed
        .iter()
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    volumes.extend(own.cloned());
    object(pod).insert("volumes".to_owned(), volumes.into());
    made
}

fn validate_status(status: &At<'_>, old: &Value) -> ErrorList {
    let mut errors = workload::counts(status, &COUNTS);
    let bounded = [
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    errors.extend(workload::at_most_replicas(
        status,
        &bounded,
        "status.readyReplicas",
    ));
    errors.extend(workload::collisions(status, old));
    errors
}
