//! Bindings: what `POST pods/…/binding` does to a Pod (spec §15.4).

use api::field::{Error, ErrorList};
use serde_json::Value;
use thiserror::Error as ThisError;

use crate::pod::Condition;
use crate::view::{self, At, dig, len, text};

/// Why a Pod cannot be bound; the API answers 409 `Operation cannot be fulfilled on pods/binding "<pod>": <this>`.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Conflict {
    /// It is on its way out.
    #[error("pod {pod} is being deleted, cannot be assigned to a host")]
    Deleting {
        /// Name of the Pod.
        pod: String,
    },
    /// It has a node already.
    #[error("pod {pod} is already assigned to node {node:?}")]
    Assigned {
        /// Name of the Pod.
        pod: String,
        /// Its node.
        node: String,
    },
    /// It may not be scheduled yet.
    #[error("pod {pod} has non-empty .spec.schedulingGates")]
    Gated {
        /// Name of the Pod.
        pod: String,
    },
}

/// What is wrong with a Binding.
pub fn validate(binding: &Value) -> ErrorList {
    let target = At::field(binding, "target");
    let (kind, name) = (target.get("kind"), target.get("name"));
    let mut errors = ErrorList::new();
    if !["", "Node"].contains(&kind.text()) {
        errors.push(Error::not_supported(
            &kind.path,
            kind.text(),
            &["Node", "<empty>"],
        ));
    }
    if name.text().is_empty() {
        errors.push(Error::required(&name.path, ""));
    }
    errors
}

/// Binds `pod` to the target of `binding`: sets the node, the `PodScheduled` condition (at `now`, RFC 3339 seconds), and merges
/// the binding's labels and annotations into the Pod's.
pub fn apply(pod: &mut Value, binding: &Value, now: &str) -> Result<(), Conflict> {
    let name = || text(dig(pod, &["metadata", "name"])).to_owned();
    if crate::meta::is_deleting(pod) {
        return Err(Conflict::Deleting { pod: name() });
    }
    let node = text(dig(pod, &["spec", "nodeName"]));
    if !node.is_empty() {
        return Err(Conflict::Assigned {
            pod: name(),
            node: node.to_owned(),
        });
    }
    if len(dig(pod, &["spec", "schedulingGates"])) > 0 {
        return Err(Conflict::Gated { pod: name() });
    }
    view::object(view::entry(pod, "spec")).insert(
        "nodeName".to_owned(),
        dig(binding, &["target", "name"]).clone(),
    );
    for field in ["annotations", "labels"] {
        for (key, value) in view::entries(dig(binding, &["metadata", field])) {
            let target = view::entry(view::entry(pod, "metadata"), field);
            view::object(target).insert(key.to_owned(), value.clone());
        }
    }
    set_scheduled(view::entry(pod, "status"), now);
    Ok(())
}

fn set_scheduled(status: &mut Value, now: &str) {
    let condition = Condition {
        kind: "PodScheduled",
        reason: None,
    };
    crate::pod::set_condition(status, condition, now);
    view::remove(status, "nominatedNodeName");
}
