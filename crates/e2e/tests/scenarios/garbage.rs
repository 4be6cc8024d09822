//! Objects whose owners are deleted.

use anyhow::ensure;
use e2e::user::{User, Watching};
use serde_json::Value;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("garbage::dependents_go_later", dependents_go_later),
    ("garbage::dependents_stay", dependents_stay),
    ("garbage::dependents_go_first", dependents_go_first),
    ("garbage::strangers_are_no_owners", strangers_are_no_owners),
];

/// Makes a ConfigMap; returns its UID.
fn owner(user: &User, name: &str) -> anyhow::Result<String> {
    user.run(&["create", "configmap", name])?;
    user.run(&["get", "configmap", name, "-o", "jsonpath={.metadata.uid}"])
}

/// Makes a ConfigMap and a running Pod that are owned by a ConfigMap.
fn dependents(user: &User, owner: &str, uid: &str) -> anyhow::Result<()> {
    user.apply(&format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: {owner}-map
  ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: {owner}, uid: {uid}}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: {owner}-pod
  ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: {owner}, uid: {uid}, blockOwnerDeletion: true}}]
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: "busybox:1.36", command: [sleep, "3600"]}}]
"#
    ))?;
    user.wait(&format!("{owner}-pod"), "Running", "1/1")
}

/// Follows a ConfigMap.
fn follow(user: &User, name: &str) -> Watching {
    let selected = format!("configmaps?fieldSelector=metadata.name={name}");
    user.watch("/api/v1", &selected)
}

/// Follows a ConfigMap that is there.
fn follow_known(user: &User, name: &str) -> anyhow::Result<Watching> {
    let mut watching = follow(user, name);
    let seen = |map: &Value| {
        map["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    watching.until(name, seen)?;
    Ok(watching)
}

fn names(user: &User) -> anyhow::Result<Vec<String>> {
    let all = user.run(&["get", "configmaps,pods", "-o", "name"])?;
    let all = all.lines().filter(|name| !name.contains("kube-root-ca"));
    Ok(all.map(str::to_owned).collect())
}

fn dependents_go_later(user: &User) -> anyhow::Result<()> {
    let uid = owner(user, "first")?;
    dependents(user, "first", &uid)?;
    let mut map = follow_known(user, "first-map")?;
    user.run(&["delete", "configmap", "first"])?;
    user.wait_gone("first-pod")?;
    map.until_gone()
}

fn dependents_stay(user: &User) -> anyhow::Result<()> {
    let uid = owner(user, "parent")?;
    dependents(user, "parent", &uid)?;
    user.run(&["delete", "configmap", "parent", "--cascade=orphan"])?;
    let left = names(user)?;
    ensure!(
        left == ["configmap/parent-map", "pod/parent-pod"],
        "{left:?}"
    );
    let owners = "jsonpath={.items[*].metadata.ownerReferences[*].name}";
    let owners = user.run(&["get", "configmaps,pods", "-o", owners])?;
    ensure!(owners.is_empty(), "{owners}");
    user.run(&["delete", "pod", "parent-pod"]).map(drop)
}

/// Who deletes in the foreground is answered when nothing is left.
fn dependents_go_first(user: &User) -> anyhow::Result<()> {
    let uid = owner(user, "last")?;
    dependents(user, "last", &uid)?;
    let mut map = follow_known(user, "last-map")?;
    user.run(&["delete", "configmap", "last", "--cascade=foreground"])?;
    ensure!(
        user.fails(&["get", "pod", "last-pod"]).is_ok(),
        "the Pod is there"
    );
    // The ConfigMap did not block it.
    map.until_gone()?;
    let left = names(user)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

fn strangers_are_no_owners(user: &User) -> anyhow::Result<()> {
    let uid = owner(user, "known")?;
    let mut lost = follow(user, "lost");
    user.apply(&format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: lost
  ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: known, uid: 5d9ad5d2-3f46-4c58-8f6b-1f1b9d6c3f0e}}]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: stranded
  ownerReferences: [{{apiVersion: example.com/v1, kind: Tree, name: known, uid: {uid}}}]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: found
  ownerReferences:
  - {{apiVersion: v1, kind: ConfigMap, name: known, uid: {uid}}}
  - {{apiVersion: v1, kind: Secret, name: gone, uid: 0b8f5a3e-7a61-4f0e-9a39-1d2f4b7c5e6a}}
"#
    ))?;
    lost.until_gone()?;
    let owners = |map: &Value| {
        let owners = map["metadata"]["ownerReferences"].as_array();
        let names = owners.into_iter().flatten().map(|owner| &owner["name"]);
        names
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    };
    follow(user, "found").until("known", owners)?;
    let left = names(user)?;
    let expected = ["configmap/found", "configmap/known", "configmap/stranded"];
    ensure!(left == expected, "{left:?}");
    Ok(())
}
