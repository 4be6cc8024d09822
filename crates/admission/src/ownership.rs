//! Which fields a write to a part of an object can own (upstream's reset fields): what the part's strategy puts back belongs to nobody
//! who writes it.

use api::apply::Scope;

use crate::Subresource;

/// The fields that a write to this part of a `resource` can own.
pub fn ownership(resource: &str, part: Subresource) -> Scope {
    match (part, resource) {
        (part, "certificatesigningrequests.certificates.k8s.io") => match part {
            Subresource::Approval => Scope::Except(&[&["spec"], &["status", "certificate"]]),
            Subresource::Status => Scope::Except(&[&["spec"], &["status", "conditions"]]),
            _ => Scope::Except(&[&["spec"], &["status"]]),
        },
        (Subresource::Main | Subresource::Finalize | Subresource::Approval, _) => {
            Scope::Except(&[&["status"]])
        }
        (Subresource::Status, "pods") => Scope::Except(&[
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ]),
        (Subresource::Status, "servicecidrs.networking.k8s.io") => {
            Scope::Except(&[&["metadata"], &["spec"]])
        }
        (Subresource::Status, "deployments.apps") => {
            Scope::Except(&[&["spec"], &["metadata", "labels"]])
        }
        (Subresource::Scale, _) => Scope::Only(&[&["spec", "replicas"]]),
        (Subresource::Status, _) => Scope::Except(&[&["spec"]]),
        (Subresource::EphemeralContainers, _) => Scope::Only(&[&["spec", "ephemeralContainers"]]),
        (Subresource::Resize, _) => Scope::Only(&[
            &["spec", "containers", "*", "resources"],
            &["spec", "containers", "*", "resizePolicy"],
            &["spec", "initContainers", "*", "resources"],
            &["spec", "initContainers", "*", "resizePolicy"],
        ]),
    }
}
