//! What the Node and its CSINode say of drivers (upstream's nodeinfomanager). Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use ports::drivers::Driver;
use serde_json::{Value, json};

/// On a Node: what drivers call it, by their names.
const NODE_ID: &str = "csi.volume.kubernetes.io/nodeid";

/// The patch of a Node by which it says what a driver does, if it does not yet.
///
/// # Errors
/// Upstream's words for a label that says something else.
pub(super) fn noted(node: &Node, driver: &Driver) -> Result<Option<Value>, String> {
    let old = node.metadata.labels.clone().unwrap_or_default();
    let mut labels = BTreeMap::new();
    for (key, value) in &driver.topology {
        match old.get(key) {
            Some(there) if there == value => {}
            Some(there) => {
                return Err(format!(
                    "detected topology value collision: driver reported {key:?}:{value:?} but existing label is {key:?}:{there:?}"
                ));
            }
            None => drop(labels.insert(key, value)),
        }
    }
    let mut ids = ids(node);
    let before = ids.insert(driver.name.clone(), driver.node_id.clone());
    let is_known = before.as_ref() == Some(&driver.node_id);
    if is_known && labels.is_empty() {
        return Ok(None);
    }
    let annotations = json!({ NODE_ID: json!(ids).to_string() });
    Ok(Some(
        json!({"metadata": {"annotations": annotations, "labels": labels}}),
    ))
}

/// The patch of a Node by which a driver says nothing of it any more, if it does.
pub(super) fn unnoted(node: &Node, driver: &str) -> Option<Value> {
    let mut ids = ids(node);
    ids.remove(driver)?;
    let left = match ids.is_empty() {
        true => Value::Null,
        false => json!(ids).to_string().into(),
    };
    Some(json!({"metadata": {"annotations": {NODE_ID: left}}}))
}

/// What cannot be read says nothing.
fn ids(node: &Node) -> BTreeMap<String, String> {
    let annotations = node.metadata.annotations.as_ref();
    let text = annotations.and_then(|annotations| annotations.get(NODE_ID));
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// The CSINode of a node with its first driver. It goes with the Node.
pub(super) fn with_first(node: &Node, driver: &Driver) -> CSINode {
    let meta = &node.metadata;
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    CSINode {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: CSINodeSpec {
            drivers: vec![listed(driver)],
        },
    }
}

/// The CSINode with a driver, if it is to be another then.
pub(super) fn with(mut there: CSINode, driver: &Driver) -> Option<CSINode> {
    let wanted = listed(driver);
    let drivers = &mut there.spec.drivers;
    if drivers.contains(&wanted) {
        return None;
    }
    drivers.retain(|known| known.name != wanted.name);
    drivers.push(wanted);
    Some(there)
}

/// The CSINode without a driver, if it has it.
pub(super) fn without(mut there: CSINode, driver: &str) -> Option<CSINode> {
    let before = there.spec.drivers.len();
    there.spec.drivers.retain(|known| known.name != driver);
    (there.spec.drivers.len() < before).then_some(there)
}

fn listed(driver: &Driver) -> CSINodeDriver {
    let keys: Vec<String> = driver.topology.keys().cloned().collect();
    CSINodeDriver {
        allocatable: driver
            .max_volumes
            .map(|count| VolumeNodeResources { count: Some(count) }),
        name: driver.name.clone(),
        node_id: driver.node_id.clone(),
        topology_keys: (!keys.is_empty()).then_some(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(name: &str, topology: &[(&str, &str)]) -> Driver {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Driver {
            name: name.to_owned(),
            node_id: "id".to_owned(),
            max_volumes: Some(3),
            topology: topology.iter().map(own).collect(),
        }
    }

    fn node(value: Value) -> Node {
        serde_json::from_value(json!({ "metadata": value })).expect("a Node")
    }

    #[test]
    fn a_node_says_once_what_a_driver_says() {
        let plain = node(json!({"name": "n", "labels": {"zone": "a"}}));
        let found = noted(&plain, &driver("d", &[("zone", "a"), ("disk", "x")]));
        let patch = found.expect("no collision").expect("something is new");
        let written = json!({"annotations": {NODE_ID: "{\"d\":\"id\"}"}, "labels": {"disk": "x"}});
        assert_eq!(patch["metadata"], written);
        let there = node(
            json!({"labels": {"zone": "a", "disk": "x"}, "annotations": written["annotations"]}),
        );
        assert_eq!(
            noted(&there, &driver("d", &[("zone", "a"), ("disk", "x")])),
            Ok(None)
        );
        let why = noted(&plain, &driver("d", &[("zone", "b")])).unwrap_err();
        assert!(
            why.starts_with("detected topology value collision"),
            "{why}"
        );
        let without = unnoted(&there, "d").expect("it is noted");
        assert!(without["metadata"]["annotations"][NODE_ID].is_null());
        assert_eq!(unnoted(&there, "e"), None);
    }

    #[test]
    fn drivers_come_to_a_csinode_and_leave_it() {
        let made = with_first(
            &node(json!({"name": "n", "uid": "u"})),
            &driver("a", &[("k", "v")]),
        );
        let owners = made.metadata.owner_references.clone().unwrap_or_default();
        assert_eq!((&*owners[0].kind, &*owners[0].uid), ("Node", "u"));
        assert_eq!(with(made.clone(), &driver("a", &[("k", "v")])), None);
        let both = with(made, &driver("b", &[])).expect("it is new");
        let renewed = with(both, &driver("a", &[])).expect("its keys are others");
        let names: Vec<&str> = renewed
            .spec
            .drivers
            .iter()
            .map(|driver| &*driver.name)
            .collect();
        assert_eq!(names, ["b", "a"]);
        let left = without(renewed, "b").expect("it was there");
        assert_eq!(left.spec.drivers.len(), 1);
        assert_eq!(without(left, "b"), None);
    }
}
