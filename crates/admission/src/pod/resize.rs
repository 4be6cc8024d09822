//! In-place resize (spec §12.7): cpu and memory of containers, and of the Pod as a whole.

use api::field::{Error, ErrorList, Path};
use api::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::{MIRROR, aggregate, spec, update};
use crate::meta;
use crate::view::{self, At, dig, get, is_zero, list, same, text};

/// A write to `pods/…/resize`.
pub(super) fn validate(new: &Value, old: &Value) -> ErrorList {
    if meta::annotation(old, MIRROR).is_some() {
        return vec![Error::forbidden(
            &Path::root(),
            "static pods cannot be resized",
        )];
    }
    if text(dig(old, &["spec", "os", "name"])) == "windows" {
        return vec![Error::forbidden(
            &Path::root(),
            "windows pods cannot be resized",
        )];
    }
    let mut errors = spec::validate_pod(new);
    let (at, before) = (At::field(new, "spec"), get(old, "spec"));
    if aggregate::stored_qos_class(old) != aggregate::qos_class(new) {
        let class = text(dig(new, &["status", "qosClass"]));
        errors.push(Error::invalid(
            &at.path,
            class,
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    if !node_can_resize(old) {
        errors.push(Error::forbidden(
            &at.path,
            "Pod running on node without support for resize",
        ));
    }
    let mut munged = at.value.clone();
    errors.extend(whole_pod(&at, before, &mut munged));
    let order = order_errors(&at, before);
    if !order.is_empty() {
        errors.extend(order);
        return errors;
    }
    for field in ["initContainers", "containers"] {
        for (container, before) in at.get(field).items().zip(list(get(before, field))) {
            errors.extend(removed(
                &container.get("resources"),
                get(before, "resources"),
                "resource",
            ));
        }
    }
    for field in ["containers", "initContainers"] {
        errors.extend(other_changes(&mut munged, before, field, &at));
    }
    if errors.is_empty() && !same(&munged, before) {
        errors.push(Error::forbidden(
            &at.path,
            "only cpu and memory resources are mutable",
        ));
    }
    errors
}

/// Why a node can never grant a resize; the API answers 403 `pods "<pod>" is forbidden: <this>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// The Pod's node is gone.
    #[error("node {0:?} not found")]
    NoNode(String),
    /// The node runs another system.
    #[error("pod resize is only supported on linux nodes, node {node:?} is {os:?}")]
    Platform {
        /// Name of the node.
        node: String,
        /// Its label `kubernetes.io/os`.
        os: String,
    },
    /// The Pod would ask for more than the node has to give.
    #[error("node didn't have enough allocatable resources: {0}")]
    Capacity(String),
}

impl TooLarge {
    /// The type of the cause in the Status, if it has one.
    pub fn cause(&self) -> Option<&'static str> {
        match self {
            TooLarge::NoNode(_) => None,
            TooLarge::Platform { .. } => Some("UnsupportedPlatform"),
            TooLarge::Capacity(_) => Some("NodeCapacity"),
        }
    }
}

/// Whether what a resized Pod asks for is within what its node has to give, other Pods apart (spec §12.7).
pub fn fits(pod: &Value, node: Option<&Value>) -> Result<(), TooLarge> {
    let name = text(dig(pod, &["spec", "nodeName"]));
    let Some(node) = node else {
        return Err(TooLarge::NoNode(name.to_owned()));
    };
    let os = dig(node, &["metadata", "labels", "kubernetes.io/os"]);
    if os.as_str().is_some_and(|os| os != "linux") {
        return Err(TooLarge::Platform {
            node: name.to_owned(),
            os: text(os).to_owned(),
        });
    }
    let wanted = aggregate::requests(get(pod, "spec"));
    let room = crate::resources::list(dig(node, &["status", "allocatable"]));
    let none = Quantity::default();
    let more = |name: &str| {
        let (wanted, room) = (
            wanted.get(name).unwrap_or(&none),
            room.get(name).unwrap_or(&none),
        );
        (wanted > room).then_some((wanted, room))
    };
    let mut short = Vec::new();
    if let Some((wanted, room)) = more("cpu") {
        let (wanted, room) = (wanted.milli_value(), room.milli_value());
        short.push(format!("cpu, requested: {wanted}, allocatable: {room}"));
    }
    if let Some((wanted, room)) = more("memory") {
        let (wanted, room) = (wanted.value(), room.value());
        short.push(format!("memory, requested: {wanted}, allocatable: {room}"));
    }
    if short.is_empty() {
        Ok(())
    } else {
        Err(TooLarge::Capacity(short.join("; ")))
    }
}

/// A node that reports containers' resources can change them.
fn node_can_resize(pod: &Value) -> bool {
    let statuses = list(dig(pod, &["status", "containerStatuses"]));
    let running = statuses
        .iter()
        .find(|status| !dig(status, &["state", "running"]).is_null());
    running.is_none_or(|status| !get(status, "resources").is_null())
}

fn whole_pod(spec: &At<'_>, old: &Value, munged: &mut Value) -> ErrorList {
    let (new, before) = (spec.get("resources"), get(old, "resources"));
    let is_set = |resources: &Value| {
        !is_zero(get(resources, "limits")) || !is_zero(get(resources, "requests"))
    };
    if !is_set(new.value) && !is_set(before) {
        return ErrorList::new();
    }
    if !before.is_null() && !new.given() {
        return vec![Error::forbidden(
            &new.path,
            "pod-level resources cannot be removed",
        )];
    }
    let mut errors = if before.is_null() {
        ErrorList::new()
    } else {
        removed(&new, before, "pod-level resource")
    };
    let mut kept = without_cpu_and_memory(new.value, before);
    if before.is_null() && is_zero(get(&kept, "limits")) && is_zero(get(&kept, "requests")) {
        // It had none, and is given nothing but cpu and memory.
        kept = Value::Null;
    }
    if !same(&kept, before) {
        errors.push(Error::forbidden(
            &spec.path,
            "only cpu and memory resources are mutable at pod-level",
        ));
    }
    if kept.is_null() {
        view::remove(munged, "resources");
    } else {
        view::object(munged).insert("resources".to_owned(), kept);
    }
    errors
}

fn removed(new: &At<'_>, old: &Value, what: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    for field in ["requests", "limits"] {
        let at = new.get(field);
        if view::entries(get(old, field)).any(|(name, _)| get(at.value, name).is_null()) {
            errors.push(Error::forbidden(
                &at.path,
                format!("{what} {field} cannot be removed"),
            ));
        }
    }
    errors
}

fn order_errors(spec: &At<'_>, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    for field in ["containers", "initContainers"] {
        let (containers, before) = (spec.get(field), list(get(old, field)));
        if containers.len() != before.len() {
            errors.push(Error::forbidden(
                &containers.path,
                format!("{field} may not be added or removed on resize"),
            ));
            continue;
        }
        for (container, before) in containers.items().zip(before) {
            let name = container.get("name");
            if name.text() != update::name_of(before) {
                errors.push(Error::forbidden(
                    &name.path,
                    format!("{field} may not be renamed or reordered on resize"),
                ));
            }
        }
    }
    errors
}

/// Takes cpu and memory back to what they were, and reports what else differs.
fn other_changes(munged: &mut Value, old: &Value, field: &str, spec: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    for (i, (container, before)) in view::list_mut(munged, field)
        .iter_mut()
        .zip(list(get(old, field)))
        .enumerate()
    {
        let modified = !same(container, before);
        let kept = without_cpu_and_memory(get(container, "resources"), get(before, "resources"));
        view::object(container).insert("resources".to_owned(), kept);
        let path = spec.path.child(field).index(i);
        if !same(container, before) {
            errors.push(match field {
                "containers" => {
                    Error::forbidden(&spec.path, "only cpu and memory resources are mutable")
                }
                _ => Error::forbidden(
                    &path,
                    "only cpu and memory resources for init or sidecar containers are mutable",
                ),
            });
        }
        if field == "initContainers" && modified && !super::is_sidecar(container) {
            let restarts = list(get(container, "resizePolicy"))
                .iter()
                .filter(|policy| text(get(policy, "restartPolicy")) == "RestartContainer");
            let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.extend(restarts.map(|_| Error::forbidden(&path, detail)));
        }
    }
    errors
}

fn without_cpu_and_memory(new: &Value, old: &Value) -> Value {
    let mut kept = json!({});
    for field in ["limits", "requests"] {
        let mut amounts = get(new, field)
            .as_object()
            .cloned()
            .unwrap_or_else(Map::new);
        for name in ["cpu", "memory"] {
            amounts.remove(name);
            if let Some(value) = get(old, field).get(name) {
                amounts.insert(name.to_owned(), value.clone());
            }
        }
        kept[field] = Value::Object(amounts);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_only_so_much() {
        let pod = |cpu: &str, memory: &str| {
            json!({"spec": {"nodeName": "n", "containers": [
                {"resources": {"requests": {"cpu": cpu, "memory": memory}}},
                {"resources": {"requests": {"cpu": "500m"}}}]}})
        };
        let node = json!({"metadata": {"labels": {"kubernetes.io/os": "linux"}}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}});
        let windows = json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}});
        for (pod, node, why) in [
            (pod("1500m", "1Gi"), Some(&node), None),
            (
                pod("1600m", "1Gi"),
                Some(&node),
                Some(
                    "node didn't have enough allocatable resources: cpu, requested: 2100, allocatable: 2000",
                ),
            ),
            (
                pod("2", "2Gi"),
                Some(&node),
                Some(
                    "node didn't have enough allocatable resources: cpu, requested: 2500, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824",
                ),
            ),
            (
                pod("1", "1"),
                Some(&windows),
                Some("pod resize is only supported on linux nodes, node \"n\" is \"windows\""),
            ),
            (pod("1", "1"), None, Some("node \"n\" not found")),
        ] {
            let refused = fits(&pod, node).err().map(|e| e.to_string());
            assert_eq!(refused.as_deref(), why);
        }
    }
}
