//! What may change on a Pod after it was made (spec §15.4).

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::{Value, json};

use super::internal::{self, Kind};
use super::{MIRROR, scheduling, spec};
use crate::view::{self, At, dig, get, list, object, restore, same, text};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const SECONDS_MAX: i64 = i32::MAX as i64;

/// A change of the Pod itself.
pub(super) fn validate(new: &Value, old: &Value) -> ErrorList {
    let mut errors = spec::validate_pod(new);
    errors.extend(annotations(new, old));
    let (spec, before) = (At::field(new, "spec"), get(old, "spec"));
    for name in ["containers", "initContainers"] {
        let containers = spec.get(name);
        if containers.len() != view::len(get(before, name)) {
            errors.push(Error::forbidden(
                &containers.path,
                "pod updates may not add or remove containers",
            ));
            return errors;
        }
        errors.extend(images(&containers));
    }
    match deadline(
        &spec.get("activeDeadlineSeconds"),
        get(before, "activeDeadlineSeconds"),
    ) {
        Deadline::Fine => {}
        Deadline::Gone(error) => errors.push(error),
        Deadline::Refused(error) => {
            errors.push(error);
            return errors;
        }
    }
    errors.extend(scheduling::only_added_tolerations(
        &spec.get("tolerations"),
        get(before, "tolerations"),
    ));
    errors.extend(scheduling::only_deleted_gates(
        &spec.get("schedulingGates"),
        get(before, "schedulingGates"),
    ));
    if same(spec.value, before) {
        return errors;
    }
    let mut munged = spec.value.clone();
    errors.extend(forget_allowed_changes(&mut munged, before));
    if !same(&munged, before) {
        let changes = internal::changes(Kind::PodSpec, before, &munged);
        errors.push(Error::forbidden(
            &spec.path,
            format!("pod updates may not change fields other than {UPDATABLE}\n{changes}"),
        ));
    }
    errors
}

/// Annotations that stand for something fixed.
pub(super) fn annotations(new: &Value, old: &Value) -> ErrorList {
    const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
    let (new, old) = (
        At::field(new, "metadata").get("annotations"),
        At::field(old, "metadata").get("annotations"),
    );
    let what = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        key if key.starts_with(APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    let mut errors = ErrorList::new();
    for (key, value) in old
        .entries()
        .filter(|(key, value)| get(new.value, key) != value.value)
    {
        errors.extend(
            what(key).map(|what| {
                Error::forbidden(&value.path, format!("may not remove or update {what}"))
            }),
        );
    }
    for (key, value) in new
        .entries()
        .filter(|(key, _)| get(old.value, key).is_null())
    {
        errors.extend(
            what(key).map(|what| Error::forbidden(&value.path, format!("may not add {what}"))),
        );
    }
    errors
}

fn images(containers: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for container in containers.items() {
        let image = container.get("image");
        if image.text().is_empty() {
            errors.push(Error::required(&image.path, ""));
        }
        errors.extend(spec::image_whitespace(&container));
    }
    errors
}

enum Deadline {
    Fine,
    Gone(Error),
    Refused(Error),
}

fn deadline(new: &At<'_>, old: &Value) -> Deadline {
    match (new.int(), old.as_i64()) {
        (Some(seconds), _) if !(0..=SECONDS_MAX).contains(&seconds) => Deadline::Refused(
            Error::invalid(&new.path, seconds, names::inclusive_range(0, SECONDS_MAX)),
        ),
        (Some(seconds), Some(before)) if before < seconds => Deadline::Refused(Error::invalid(
            &new.path,
            seconds,
            "must be less than or equal to previous value",
        )),
        (None, Some(_)) => Deadline::Gone(Error::invalid(
            &new.path,
            Value::Null,
            "must not update from a positive integer to nil value",
        )),
        _ => Deadline::Fine,
    }
}

/// Puts back what may change, so that what is left is what may not.
fn forget_allowed_changes(spec: &mut Value, old: &Value) -> ErrorList {
    for name in ["containers", "initContainers"] {
        for (container, before) in view::list_mut(spec, name)
            .iter_mut()
            .zip(list(get(old, name)))
        {
            restore(container, before, "image");
        }
    }
    for name in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(spec, old, name);
    }
    let grace = "terminationGracePeriodSeconds";
    if get(old, grace).as_i64().is_some_and(|seconds| seconds < 0)
        && get(spec, grace).as_i64() == Some(1)
    {
        restore(spec, old, grace);
    }
    if list(get(old, "schedulingGates")).is_empty() {
        ErrorList::new()
    } else {
        forget_gated_changes(spec, old)
    }
}

/// While a Pod is gated, where it may run can be narrowed.
fn forget_gated_changes(spec: &mut Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let selector = get(spec, "nodeSelector").clone();
    let before = get(old, "nodeSelector");
    if !same(&selector, before) {
        if !view::entries(before).all(|(key, value)| get(&selector, key) == value) {
            let detail =
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.push(Error::invalid(
                &Path::new("spec.nodeSelector"),
                selector,
                detail,
            ));
        }
        restore(spec, old, "nodeSelector");
    }
    let (affinity, before) = (
        dig(spec, &["affinity", "nodeAffinity"]).clone(),
        dig(old, &["affinity", "nodeAffinity"]),
    );
    if !same(&affinity, before) {
        errors.extend(narrowed_affinity(&affinity, before));
        let others = ["podAffinity", "podAntiAffinity"]
            .iter()
            .any(|name| !dig(spec, &["affinity", name]).is_null());
        if get(old, "affinity").is_null() && !others {
            view::remove(spec, "affinity");
        } else if get(spec, "affinity").is_null() {
            object(spec).insert("affinity".to_owned(), json!({"nodeAffinity": before}));
        } else {
            restore(
                view::entry(spec, "affinity"),
                get(old, "affinity"),
                "nodeAffinity",
            );
        }
    }
    errors
}

fn narrowed_affinity(new: &Value, old: &Value) -> ErrorList {
    let terms = |affinity| {
        dig(
            affinity,
            &[
                "requiredDuringSchedulingIgnoredDuringExecution",
                "nodeSelectorTerms",
            ],
        )
    };
    let (new, old) = (terms(new), terms(old));
    let path = scheduling::required_terms_path();
    if !list(old).is_empty() && list(old).len() != list(new).len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return vec![internal::invalid_list(
            &path,
            Kind::NodeSelectorTerm,
            new,
            detail,
        )];
    }
    let changed = list(new)
        .iter()
        .zip(list(old))
        .enumerate()
        .filter(|(_, (new, old))| !only_added(new, old));
    let detail = "only additions are allowed (no mutations or deletions)";
    changed
        .map(|(i, (new, _))| internal::invalid(&path.index(i), Kind::NodeSelectorTerm, new, detail))
        .collect()
}

fn only_added(new: &Value, old: &Value) -> bool {
    let fields = ["matchExpressions", "matchFields"];
    let is_empty = |term: &Value| fields.iter().all(|name| list(get(term, name)).is_empty());
    if is_empty(old) {
        return is_empty(new);
    }
    fields.iter().all(|name| {
        let (new, old) = (list(get(new, name)), list(get(old, name)));
        new.len() >= old.len() && new.iter().zip(old).all(|(new, old)| same(new, old))
    })
}

/// The name of a container.
pub(super) fn name_of(container: &Value) -> &str {
    text(get(container, "name"))
}
