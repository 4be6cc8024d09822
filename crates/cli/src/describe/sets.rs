//! StatefulSets and DaemonSets.

use serde_json::Value;

use super::tabs::Tabs;
use super::workload::{count, phases, selector};
use super::{labels_and_annotations, list, name_and_namespace, pairs, pod, shown, text, time};

/// A StatefulSet, with the Pods it controls.
pub(super) fn stateful_set(out: &mut Tabs, set: &Value, pods: &[Value]) {
    let (spec, status) = (&set["spec"], &set["status"]);
    name_and_namespace(out, set);
    let made = time(&set["metadata"]["creationTimestamp"]);
    out.field(0, "CreationTimestamp", made);
    out.field(0, "Selector", selector(set));
    labels_and_annotations(out, set);
    let (desired, total) = (count(&spec["replicas"]), count(&status["replicas"]));
    out.field(0, "Replicas", format!("{desired} desired | {total} total"));
    let strategy = &spec["updateStrategy"];
    out.field(0, "Update Strategy", text(&strategy["type"]));
    let rolling = &strategy["rollingUpdate"];
    if rolling["partition"].is_number() {
        out.field(1, "Partition", shown(&rolling["partition"]));
        let most = &rolling["maxUnavailable"];
        if !most.is_null() {
            out.field(1, "MaxUnavailable", shown(most));
        }
    }
    out.field(0, "Pods Status", phases(pods));
    pod::template(out, &spec["template"]);
    claims(out, list(&spec["volumeClaimTemplates"]));
}

fn claims(out: &mut Tabs, claims: &[Value]) {
    if claims.is_empty() {
        out.field(0, "Volume Claims", "<none>");
        return;
    }
    out.line(0, "Volume Claims:");
    for claim in claims {
        let (metadata, spec) = (&claim["metadata"], &claim["spec"]);
        out.field(1, "Name", text(&metadata["name"]));
        let old = metadata["annotations"][api::storage::CLASS_ANNOTATION].as_str();
        let class = old.unwrap_or(text(&spec["storageClassName"]));
        out.field(1, "StorageClass", class);
        out.column("  Labels", &pairs(&metadata["labels"]));
        out.column("  Annotations", &pairs(&metadata["annotations"]));
        let capacity = &spec["resources"]["requests"]["storage"];
        let capacity = match capacity {
            Value::Null => "<default>".into(),
            given => shown(given),
        };
        out.field(1, "Capacity", capacity);
        let modes: Vec<&str> = list(&spec["accessModes"]).iter().map(text).collect();
        out.field(1, "Access Modes", format!("[{}]", modes.join(" ")));
    }
}

/// A DaemonSet, with the Pods it controls.
pub(super) fn daemon_set(out: &mut Tabs, set: &Value, pods: &[Value]) {
    let (spec, status) = (&set["spec"], &set["status"]);
    name_and_namespace(out, set);
    out.field(0, "Selector", selector(set));
    let nodes = pairs(&spec["template"]["spec"]["nodeSelector"]);
    let nodes = match nodes.is_empty() {
        true => "<none>".into(),
        false => nodes.join(","),
    };
    out.field(0, "Node-Selector", nodes);
    labels_and_annotations(out, set);
    for (name, field) in [
        (
            "Desired Number of Nodes Scheduled",
            "desiredNumberScheduled",
        ),
        (
            "Current Number of Nodes Scheduled",
            "currentNumberScheduled",
        ),
        (
            "Number of Nodes Scheduled with Up-to-date Pods",
            "updatedNumberScheduled",
        ),
        (
            "Number of Nodes Scheduled with Available Pods",
            "numberAvailable",
        ),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        out.line(0, format!("{name}: {}", count(&status[field])));
    }
    out.field(0, "Pods Status", phases(pods));
    pod::template(out, &spec["template"]);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::describe::{Beside, describe};

    const TEMPLATE: &str = "\
Pod Template:
  Labels:  app=web
  Containers:
   main:
    Image:         web:1
    Port:          <none>
    Host Port:     <none>
    Environment:   <none>
    Mounts:        <none>
  Volumes:         <none>
  Node-Selectors:  disk=ssd
                   zone=a
  Tolerations:     <none>
";

    fn text_of(object: &Value) -> String {
        let pod = |phase: &str| json!({"status": {"phase": phase}});
        let beside = Beside {
            events: None,
            parts: vec![pod("Running"), pod("Failed"), pod("Running")],
        };
        describe(object, &beside, jiff::Timestamp::UNIX_EPOCH)
    }

    fn object(kind: &str, rest: &Value) -> Value {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {
            "containers": [{"name": "main", "image": "web:1"}], "nodeSelector": {"disk": "ssd", "zone": "a"}}});
        let mut object = json!({"apiVersion": "apps/v1", "kind": kind,
            "metadata": {"name": "web", "namespace": "n", "labels": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
        for (field, value) in rest.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        object
    }

    #[test]
    fn stateful_sets_are_described() {
        let claim = |name: &str, spec: Value| json!({"metadata": {"name": name, "labels": {"c": "d", "e": "f"}}, "spec": spec});
        let claims = [
            claim(
                "data",
                json!({"storageClassName": "fast", "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}),
            ),
            json!({"metadata": {"name": "more"}, "spec": {"accessModes": ["ReadWriteOnce"]}}),
        ];
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
        let mut set = object(
            "StatefulSet",
            &json!({"updateStrategy": rolling, "volumeClaimTemplates": claims}),
        );
        set["status"] = json!({"replicas": 2});
        assert_eq!(
            text_of(&set),
            format!(
                "\
Name:               web
Namespace:          n
CreationTimestamp:  Fri, 02 Jan 2026 03:04:05 +0000
Selector:           app=web
Labels:             a=b
Annotations:        <none>
Replicas:           3 desired | 2 total
Update Strategy:    RollingUpdate
  Partition:        1
Pods Status:        2 Running / 0 Waiting / 0 Succeeded / 1 Failed
{TEMPLATE}Volume Claims:
  Name:          data
  StorageClass:  fast
  Labels:        c=d
                 e=f
  Annotations:   <none>
  Capacity:      1Gi
  Access Modes:  [ReadWriteOnce ReadOnlyMany]
  Name:          more
  StorageClass:  
  Labels:        <none>
  Annotations:   <none>
  Capacity:      <default>
  Access Modes:  [ReadWriteOnce]
"
            )
        );
        let set = object(
            "StatefulSet",
            &json!({"updateStrategy": {"type": "OnDelete"}}),
        );
        let text = text_of(&set);
        assert!(text.contains("\nUpdate Strategy:    OnDelete\nPods Status:"));
        assert!(text.ends_with("\nVolume Claims:     <none>\n"), "{text}");
    }

    #[test]
    fn daemon_sets_are_described() {
        let mut set = object("DaemonSet", &json!({}));
        set["status"] = json!({"desiredNumberScheduled": 1, "currentNumberScheduled": 2, "updatedNumberScheduled": 3, "numberAvailable": 4, "numberMisscheduled": 5});
        assert_eq!(
            text_of(&set),
            format!(
                "\
Name:           web
Namespace:      n
Selector:       app=web
Node-Selector:  disk=ssd,zone=a
Labels:         a=b
Annotations:    <none>
Desired Number of Nodes Scheduled: 1
Current Number of Nodes Scheduled: 2
Number of Nodes Scheduled with Up-to-date Pods: 3
Number of Nodes Scheduled with Available Pods: 4
Number of Nodes Misscheduled: 5
Pods Status:  2 Running / 0 Waiting / 0 Succeeded / 1 Failed
{TEMPLATE}"
            )
        );
    }
}
