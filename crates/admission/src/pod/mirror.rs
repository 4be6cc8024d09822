//! Pods that stand for a node's static Pods: the only ones that a node may make in the API (upstream's plugin NodeRestriction).

use serde_json::Value;

use super::{MIRROR, api_reference};
use crate::meta;
use crate::view::{dig, get, list, text};

/// The node that makes a Pod, and must own it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Name of the Node.
    pub name: &'a str,
    /// UID of the Node.
    pub uid: &'a str,
}

/// Whether a Pod stands for a static one.
pub fn is_mirror(pod: &Value) -> bool {
    meta::annotation(pod, MIRROR).is_some()
}

/// Whether a node may make this Pod.
///
/// # Errors
/// Why not: 403 `pods "<name>" is forbidden: <this>`.
pub fn may_be_made(pod: &Value, by: Owner<'_>) -> Result<(), String> {
    let node = by.name;
    if !is_mirror(pod) {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if text(dig(pod, &["spec", "nodeName"])) != node {
        return Err(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    owned(list(dig(pod, &["metadata", "ownerReferences"])), by)?;
    match api_reference(pod) {
        Ok(None) => Ok(()),
        Ok(Some(kind)) => Err(format!(
            "node {node:?} can not create pods that reference {kind}"
        )),
        Err(why) => Err(format!(
            "error checking mirror pod for API references: {why}"
        )),
    }
}

/// There is one owner, the Node, which controls the Pod and whose deletion nothing holds up.
fn owned(owners: &[Value], by: Owner<'_>) -> Result<(), String> {
    let node = by.name;
    let itself =
        || format!("node {node:?} can only create pods with an owner reference set to itself");
    let owner = match owners {
        [owner] => owner,
        [] => return Err(itself()),
        _ => {
            return Err(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    let said = ["apiVersion", "kind", "name"].map(|field| text(get(owner, field)));
    if said != ["v1", "Node", node] {
        return Err(itself());
    }
    if get(owner, "controller").as_bool() != Some(true) {
        return Err(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if get(owner, "blockOwnerDeletion").as_bool() == Some(true) {
        return Err(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    match text(get(owner, "uid")) {
        given if given == by.uid => Ok(()),
        given => Err(format!(
            "node {node} UID mismatch: expected {given} got {}",
            by.uid
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NODE: Owner<'_> = Owner {
        name: "n",
        uid: "u",
    };

    fn pod(change: impl FnOnce(&mut Value)) -> Result<(), String> {
        let mut pod = json!({
            "metadata": {
                "name": "web-n", "annotations": {MIRROR: "hash"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}],
            },
            "spec": {"nodeName": "n"},
        });
        change(&mut pod);
        may_be_made(&pod, NODE)
    }

    #[test]
    fn a_node_makes_only_stand_ins_that_it_owns() {
        assert_eq!(pod(|_| {}), Ok(()));
        type Change = fn(&mut Value);
        let rows: [(Change, &str); 9] = [
            (
                |pod| pod["metadata"]["annotations"] = json!({}),
                "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods",
            ),
            (
                |pod| pod["spec"]["nodeName"] = "m".into(),
                "node \"n\" can only create pods with spec.nodeName set to itself",
            ),
            (
                |pod| pod["metadata"]["ownerReferences"] = json!([]),
                "node \"n\" can only create pods with an owner reference set to itself",
            ),
            (
                |pod| pod["metadata"]["ownerReferences"] = json!([{}, {}]),
                "node \"n\" can only create pods with a single owner reference set to itself",
            ),
            (
                |pod| pod["metadata"]["ownerReferences"][0]["name"] = "m".into(),
                "node \"n\" can only create pods with an owner reference set to itself",
            ),
            (
                |pod| pod["metadata"]["ownerReferences"][0]["controller"] = false.into(),
                "node \"n\" can only create pods with a controller owner reference set to itself",
            ),
            (
                |pod| pod["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = true.into(),
                "node \"n\" must not set blockOwnerDeletion on an owner reference",
            ),
            (
                |pod| pod["metadata"]["ownerReferences"][0]["uid"] = "v".into(),
                "node n UID mismatch: expected v got u",
            ),
            (
                |pod| pod["spec"]["serviceAccountName"] = "a".into(),
                "node \"n\" can not create pods that reference serviceaccounts",
            ),
        ];
        for (change, why) in rows {
            assert_eq!(pod(change), Err(why.to_owned()));
        }
    }
}
