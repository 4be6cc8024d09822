//! Deployments and ReplicaSets.

use serde_json::Value;

use super::tabs::Tabs;
use super::{labels_and_annotations, list, name_and_namespace, pod, shown, text, time};
use crate::pods::selector_of;
use crate::workloads::new_and_old;

pub(super) fn count(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

pub(super) fn selector(object: &Value) -> String {
    selector_of(object)
        .filter(|selector| !selector.is_empty())
        .unwrap_or_else(|| "<none>".into())
}

/// A Deployment, with the ReplicaSets it controls.
pub(super) fn deployment(out: &mut Tabs, deployment: &Value, sets: &[Value]) {
    let (spec, status) = (&deployment["spec"], &deployment["status"]);
    name_and_namespace(out, deployment);
    out.field(
        0,
        "CreationTimestamp",
        time(&deployment["metadata"]["creationTimestamp"]),
    );
    labels_and_annotations(out, deployment);
    out.field(0, "Selector", selector(deployment));
    out.field(
        0,
        "Replicas",
        format!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            count(&spec["replicas"]),
            count(&status["updatedReplicas"]),
            count(&status["replicas"]),
            count(&status["availableReplicas"]),
            count(&status["unavailableReplicas"])
        ),
    );
    out.field(0, "StrategyType", text(&spec["strategy"]["type"]));
    let seconds = count(&spec["minReadySeconds"]);
    out.field(0, "MinReadySeconds", seconds.to_string());
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
        out.field(
            0,
            "RollingUpdateStrategy",
            format!(
                "{} max unavailable, {} max surge",
                shown(unavailable),
                shown(surge)
            ),
        );
    }
    pod::template(out, &spec["template"]);
    conditions(out, list(&status["conditions"]));
    if !sets.is_empty() {
        let (new, old) = new_and_old(deployment, sets);
        out.field(0, "OldReplicaSets", created(&old));
        out.field(0, "NewReplicaSet", created(new.as_slice()));
    }
}

fn created(sets: &[&Value]) -> String {
    let one = |set: &&Value| {
        format!(
            "{} ({}/{} replicas created)",
            text(&set["metadata"]["name"]),
            count(&set["status"]["replicas"]),
            count(&set["spec"]["replicas"])
        )
    };
    match sets {
        [] => "<none>".into(),
        sets => sets.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// A ReplicaSet, with the Pods it controls.
pub(super) fn replica_set(out: &mut Tabs, set: &Value, pods: &[Value]) {
    let (spec, status) = (&set["spec"], &set["status"]);
    name_and_namespace(out, set);
    out.field(0, "Selector", selector(set));
    labels_and_annotations(out, set);
    let owner = list(&set["metadata"]["ownerReferences"])
        .iter()
        .find(|owner| owner["controller"] == true);
    if let Some(owner) = owner {
        let owner = format!("{}/{}", text(&owner["kind"]), text(&owner["name"]));
        out.field(0, "Controlled By", owner);
    }
    out.field(
        0,
        "Replicas",
        format!(
            "{} current / {} desired",
            count(&status["replicas"]),
            count(&spec["replicas"])
        ),
    );
    out.field(0, "Pods Status", phases(pods));
    pod::template(out, &spec["template"]);
    conditions(out, list(&status["conditions"]));
}

/// How many Pods are in which phase.
pub(super) fn phases(pods: &[Value]) -> String {
    let phase = |phase: &str| {
        pods.iter()
            .filter(|pod| pod["status"]["phase"] == phase)
            .count()
    };
    format!(
        "{} Running / {} Waiting / {} Succeeded / {} Failed",
        phase("Running"),
        phase("Pending"),
        phase("Succeeded"),
        phase("Failed")
    )
}

fn conditions(out: &mut Tabs, conditions: &[Value]) {
    if conditions.is_empty() {
        return;
    }
    out.line(0, "Conditions:");
    out.line(1, "Type\tStatus\tReason");
    out.line(1, "----\t------\t------");
    for condition in conditions {
        let field = |name: &str| text(&condition[name]);
        out.line(
            1,
            format!(
                "{} \t{}\t{}",
                field("type"),
                field("status"),
                field("reason")
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::describe::{Beside, describe};

    fn text_of(object: &serde_json::Value, parts: Vec<serde_json::Value>) -> String {
        let beside = Beside {
            events: None,
            parts,
        };
        describe(object, &beside, jiff::Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn workloads_are_described() {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {
            "containers": [{"name": "main", "image": "web:1"}], "volumes": [{"name": "work", "emptyDir": {}}]}});
        let in_template = "\
Pod Template:
  Labels:  app=web
  Containers:
   main:
    Image:        web:1
    Port:         <none>
    Host Port:    <none>
    Environment:  <none>
    Mounts:       <none>
  Volumes:
   work:
    Type:          EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:        
    SizeLimit:     <unset>
  Node-Selectors:  <none>
  Tolerations:     <none>
";
        let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": 1}}});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "n", "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": spec, "status": {"replicas": 2, "updatedReplicas": 1, "availableReplicas": 1, "unavailableReplicas": 1,
                "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}]}});
        let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web-1", "namespace": "n",
                "ownerReferences": [{"controller": true, "kind": "Deployment", "name": "web"}]},
            "spec": spec, "status": {"replicas": 1}});
        assert_eq!(
            text_of(&deployment, vec![set.clone()]),
            format!(
                "\
Name:                   web
Namespace:              n
CreationTimestamp:      Fri, 02 Jan 2026 03:04:05 +0000
Labels:                 <none>
Annotations:            <none>
Selector:               app=web
Replicas:               2 desired | 1 updated | 2 total | 1 available | 1 unavailable
StrategyType:           RollingUpdate
MinReadySeconds:        0
RollingUpdateStrategy:  25% max unavailable, 1 max surge
{in_template}Conditions:
  Type           Status  Reason
  ----           ------  ------
  Available      True    MinimumReplicasAvailable
OldReplicaSets:  <none>
NewReplicaSet:   web-1 (1/2 replicas created)
"
            )
        );
        let pod = |phase: &str| json!({"status": {"phase": phase}});
        assert_eq!(
            text_of(&set, vec![pod("Running"), pod("Pending"), pod("Running")]),
            format!(
                "\
Name:           web-1
Namespace:      n
Selector:       app=web
Labels:         <none>
Annotations:    <none>
Controlled By:  Deployment/web
Replicas:       1 current / 2 desired
Pods Status:    2 Running / 1 Waiting / 0 Succeeded / 0 Failed
{in_template}"
            )
        );
    }
}
