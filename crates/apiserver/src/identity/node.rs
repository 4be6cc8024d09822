//! What the agent of a node may do, as upstream's Node authorizer and NodeRestriction have it: report its own Node, Lease, CSINode and the
//! Pods that are bound to it. Beside that it reads what proxies and guards of other clusters read under names of their own.
//!
//! Which Secrets and ConfigMaps a node may read is not told by the Pods it has: any of which it knows the name.

use api::query::Query;
use api::status::StatusError;

use super::{UserInfo, refuse};
use crate::request::{RequestInfo, Target};
use crate::server::Inner;

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "update", "patch"];
const CHANGE: &[&str] = &["update", "patch"];
const ALL: &[&str] = &["get", "create", "update", "patch", "delete"];
const CREATE: &[&str] = &["create"];

/// Where nodes have their Leases.
const LEASES: &str = "kube-node-lease";

/// Group, resource with its subresource, and verbs.
const RULES: &[(&str, &str, &[&str])] = &[
    ("", "services", READ),
    ("", "namespaces", READ),
    ("", "endpoints", READ),
    ("", "pods", READ),
    ("", "pods", &["create", "delete"]),
    ("", "pods/status", CHANGE),
    ("", "configmaps", READ),
    ("", "secrets", READ),
    ("", "persistentvolumes", READ),
    ("", "persistentvolumeclaims", READ),
    ("", "persistentvolumeclaims/status", CHANGE),
    ("", "nodes", READ),
    ("", "nodes", &["create", "update", "patch", "delete"]),
    ("", "nodes/status", CHANGE),
    ("", "events", WRITE),
    ("events.k8s.io", "events", WRITE),
    ("", "serviceaccounts/token", CREATE),
    ("authentication.k8s.io", "tokenreviews", CREATE),
    ("authorization.k8s.io", "subjectaccessreviews", CREATE),
    ("authorization.k8s.io", "localsubjectaccessreviews", CREATE),
    ("certificates.k8s.io", "certificatesigningrequests", READ),
    ("certificates.k8s.io", "certificatesigningrequests", CREATE),
    (
        "certificates.k8s.io",
        "certificatesigningrequests/selfnodeclient",
        CREATE,
    ),
    ("coordination.k8s.io", "leases", ALL),
    ("discovery.k8s.io", "endpointslices", READ),
    ("networking.k8s.io", "networkpolicies", READ),
    ("networking.k8s.io", "servicecidrs", READ),
    ("node.k8s.io", "runtimeclasses", READ),
    ("storage.k8s.io", "csidrivers", READ),
    ("storage.k8s.io", "csinodes", READ),
    ("storage.k8s.io", "csinodes", ALL),
    ("storage.k8s.io", "storageclasses", READ),
    ("storage.k8s.io", "volumeattachments", READ),
];

/// Whether nodes may do this at all.
pub(super) fn may_use(verb: &str, group: &str, resource: &str, subresource: &str) -> bool {
    let named = match subresource {
        "" => resource.to_owned(),
        part => format!("{resource}/{part}"),
    };
    RULES
        .iter()
        .any(|(of, what, verbs)| *of == group && *what == named && verbs.contains(&verb))
}

/// Refuses what is another node's: its own objects by their names, Pods by where they are bound, and Secrets and ConfigMaps that are not
/// named. Everybody who is no node passes.
pub(crate) fn check(
    inner: &Inner,
    user: &UserInfo,
    info: &RequestInfo,
    query: &Query,
) -> Result<(), StatusError> {
    let (Some(node), Some(target)) = (user.as_node(), &info.resource) else {
        return Ok(());
    };
    if user.may_do_everything() {
        return Ok(());
    }
    let is_read = READ.contains(&info.verb);
    let is_own = match (&*target.group, &*target.resource) {
        ("", "configmaps" | "secrets") => is_named(target, query),
        ("", "pods") if !is_read && !target.name.is_empty() => is_bound(inner, target, node),
        ("coordination.k8s.io", "leases") => {
            target.namespace == LEASES && (target.name == node || info.verb == "create")
        }
        ("", "nodes") | ("storage.k8s.io", "csinodes") if !is_read => {
            target.name == node || info.verb == "create"
        }
        _ => true,
    };
    match is_own {
        true => Ok(()),
        false => refuse(user, info),
    }
}

/// Why a node may not make an object that goes by the name of another, in upstream's words; `None` if it may.
pub(crate) fn stranger(user: &UserInfo, target: &Target, name: &str) -> Option<String> {
    let node = user.as_node().filter(|node| *node != name)?;
    if user.may_do_everything() {
        return None;
    }
    let only =
        |what: &str| format!("can only access {what} with the same name as the requesting node");
    match (&*target.group, &*target.resource) {
        ("", "nodes") => Some(format!(
            "node {node:?} is not allowed to modify node {name:?}"
        )),
        ("storage.k8s.io", "csinodes") => Some(only("CSINode")),
        ("coordination.k8s.io", "leases") => Some(only("node lease")),
        _ => None,
    }
}

/// Whether it is one object that is read.
fn is_named(target: &Target, query: &Query) -> bool {
    let field = query.get("fieldSelector").unwrap_or_default();
    let is_one = field.starts_with("metadata.name=") && !field.contains(',');
    !target.namespace.is_empty() && (!target.name.is_empty() || is_one)
}

/// Whether a Pod is bound to the node; one that is not there is nobody's.
fn is_bound(inner: &Inner, target: &Target, node: &str) -> bool {
    let key = format!("/registry/pods/{}/{}", target.namespace, target.name);
    let found = inner.store.get(&key);
    found.is_none_or(|entry| crate::head::node_of(&entry.value).as_deref() == Some(node))
}
