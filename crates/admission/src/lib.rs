//! What the API server does to an object before it is stored: defaulting, the resets a strategy makes, validation with upstream's
//! texts in upstream's order, and the mutating admission that is on by default.
//!
//! Everything here is a pure function over JSON objects (`serde_json::Value`, never decoded into structs, so that nothing a client
//! sent is lost or reordered). Objects must have passed the schema first: wrong JSON types read as absent. Time and randomness are
//! arguments. Looking things up (namespaces, service accounts), allocating cluster IPs, `uid`, `resourceVersion` and
//! `creationTimestamp` are left to the API server.
//!
//! Resources are named as `GroupResource` prints them: `pods`, `endpointslices.discovery.k8s.io`. The order of calls on a write is
//!
//! - create: [`default`], [`pod::admit`], name generation, [`prepare_create`], [`validate_create`];
//! - update: [`default`], [`prepare_update`], [`validate_update`].
//!
//! One file per kind, each with a [`Rules`] constant; `rules` finds them.

use api::field::ErrorList;
use serde_json::Value;

mod autoscaler;
pub mod binding;
pub mod certificate;
mod configmap;
mod controllerrevision;
mod cronjob;
mod csi;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod event;
mod generic;
pub mod ingress;
mod ingressclass;
mod ipaddress;
mod job;
mod lease;
mod limitrange;
pub mod limits;
mod meta;
pub mod namespace;
mod net;
mod networkpolicy;
mod node;
mod ownership;
pub mod persistentvolume;
pub mod persistentvolumeclaim;
pub mod pod;
pub mod podsecurity;
mod podtemplate;
pub mod priority;
pub mod quota;
mod replicaset;
mod replicationcontroller;
mod resourcequota;
mod resources;
pub mod runtimeclass;
pub mod scale;
mod secret;
pub mod service;
mod serviceaccount;
mod servicecidr;
mod statefulset;
mod storageclass;
mod view;
mod volumeattachment;
mod volumeattributesclass;
pub mod workload;

pub use meta::validate_field_manager;
pub use ownership::ownership;

/// Which part of an object a write may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subresource {
    /// The object itself.
    Main,
    /// `…/status`.
    Status,
    /// `…/scale`: how many Pods of a kind there should be.
    Scale,
    /// `pods/…/ephemeralcontainers`.
    EphemeralContainers,
    /// `pods/…/resize`.
    Resize,
    /// `namespaces/…/finalize`.
    Finalize,
    /// `certificatesigningrequests/…/approval`.
    Approval,
}

/// The rules of one kind: what upstream calls its strategy.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Whether objects of this kind live in a namespace; `None` where only the object itself tells.
    pub namespaced: Option<bool>,
    /// Fills in defaults; runs on create and on update.
    pub default: fn(&mut Value),
    /// Resets what clients may not set on create.
    pub prepare_create: fn(&mut Value),
    /// Puts back what a write to this subresource may not touch, and counts `metadata.generation`.
    pub prepare_update: fn(Subresource, &mut Value, &Value),
    /// Validates a new object.
    pub validate_create: fn(&Value) -> ErrorList,
    /// Validates a change, new object first.
    pub validate_update: fn(Subresource, &Value, &Value) -> ErrorList,
}

/// The rules of `resource`; kinds without any of their own get the metadata duties only.
pub fn rules(resource: &str) -> Rules {
    match resource {
        "pods" => pod::RULES,
        "podtemplates" => podtemplate::RULES,
        "namespaces" => namespace::RULES,
        "persistentvolumeclaims" => persistentvolumeclaim::RULES,
        "persistentvolumes" => persistentvolume::RULES,
        "csidrivers.storage.k8s.io" => csi::DRIVER_RULES,
        "csinodes.storage.k8s.io" => csi::NODE_RULES,
        "csistoragecapacities.storage.k8s.io" => csi::CAPACITY_RULES,
        "storageclasses.storage.k8s.io" => storageclass::RULES,
        "volumeattachments.storage.k8s.io" => volumeattachment::RULES,
        "volumeattributesclasses.storage.k8s.io" => volumeattributesclass::RULES,
        "limitranges" => limitrange::RULES,
        "resourcequotas" => resourcequota::RULES,
        "nodes" => node::RULES,
        "configmaps" => configmap::RULES,
        "secrets" => secret::RULES,
        "serviceaccounts" => serviceaccount::RULES,
        "services" => service::RULES,
        "events" => event::CORE_RULES,
        "events.events.k8s.io" => event::EVENTS_RULES,
        "endpoints" => endpoints::RULES,
        "endpointslices.discovery.k8s.io" => endpointslice::RULES,
        "controllerrevisions.apps" => controllerrevision::RULES,
        "daemonsets.apps" => daemonset::RULES,
        "statefulsets.apps" => statefulset::RULES,
        "deployments.apps" => deployment::RULES,
        "replicationcontrollers" => replicationcontroller::RULES,
        "horizontalpodautoscalers.autoscaling" => autoscaler::RULES,
        "certificatesigningrequests.certificates.k8s.io" => certificate::RULES,
        "jobs.batch" => job::RULES,
        "cronjobs.batch" => cronjob::RULES,
        "replicasets.apps" => replicaset::RULES,
        "ingresses.networking.k8s.io" => ingress::RULES,
        "ingressclasses.networking.k8s.io" => ingressclass::RULES,
        "networkpolicies.networking.k8s.io" => networkpolicy::RULES,
        "ipaddresses.networking.k8s.io" => ipaddress::RULES,
        "servicecidrs.networking.k8s.io" => servicecidr::RULES,
        "poddisruptionbudgets.policy" => disruption::RULES,
        "priorityclasses.scheduling.k8s.io" => priority::RULES,
        "leases.coordination.k8s.io" => lease::RULES,
        "runtimeclasses.node.k8s.io" => runtimeclass::RULES,
        _ => generic::RULES,
    }
}

/// Fills in the defaults of `resource` (spec §15.1).
pub fn default(resource: &str, object: &mut Value) {
    (rules(resource).default)(object);
}

/// Resets what a client may not set when creating (status, generation) and computes what the server owns (`status.qosClass`).
pub fn prepare_create(resource: &str, object: &mut Value) {
    (rules(resource).prepare_create)(object);
}

/// Puts back everything a write to `subresource` may not change, and sets `metadata.generation`.
pub fn prepare_update(resource: &str, subresource: Subresource, new: &mut Value, old: &Value) {
    meta::prepare_update(subresource, new, old);
    (rules(resource).prepare_update)(subresource, new, old);
}

/// Everything wrong with a new object, in upstream's order (spec §15.3). Its name must have been generated already.
pub fn validate_create(resource: &str, object: &Value) -> ErrorList {
    without_repeats((rules(resource).validate_create)(object))
}

/// Everything wrong with a change, in upstream's order (spec §15.4).
pub fn validate_update(
    resource: &str,
    subresource: Subresource,
    new: &Value,
    old: &Value,
) -> ErrorList {
    let rules = rules(resource);
    let mut errors = meta::validate_common(
        new,
        old,
        rules
            .namespaced
            .unwrap_or_else(|| meta::is_in_namespace(old)),
    );
    errors.extend((rules.validate_update)(subresource, new, old));
    without_repeats(errors)
}

/// What a client is told about an object besides the answer, when it is new or has changed.
pub fn warnings(resource: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
    match resource {
        "persistentvolumeclaims" => persistentvolumeclaim::warnings(new),
        "persistentvolumes" => persistentvolume::warnings(new),
        "storageclasses.storage.k8s.io" => storageclass::warnings(new),
        "csidrivers.storage.k8s.io" => csi::driver_warnings(new, old),
        "csistoragecapacities.storage.k8s.io" => csi::capacity_warnings(new),
        "resourcequotas" if old.is_none() => resourcequota::warnings(new),
        "networkpolicies.networking.k8s.io" => networkpolicy::warnings(new),
        _ => workload::warnings(resource, new, old),
    }
}

/// Several checks see the same field on an update; clients drop repeats anyway.
fn without_repeats(errors: ErrorList) -> ErrorList {
    let mut kept = ErrorList::new();
    for error in errors {
        if !kept.contains(&error) {
            kept.push(error);
        }
    }
    kept
}
