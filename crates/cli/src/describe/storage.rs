//! Claims for storage, volumes, and classes of them.

use api::quantity::Quantity;
use api::storage::{CLASS_ANNOTATION, DEFAULT_MARKS};
use jiff::Timestamp;
use serde_json::Value;

use super::tabs::Tabs;
use super::{labels_and_annotations, list, name_and_namespace, pairs, shown, text, time, volumes};

/// Modes of access in the order they are shown, and how.
const MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

/// A claim, with the Pods that name it.
pub(super) fn claim(out: &mut Tabs, claim: &Value, pods: &[Value], now: Timestamp) {
    let (spec, status) = (&claim["spec"], &claim["status"]);
    name_and_namespace(out, claim);
    out.field(0, "StorageClass", class_of(claim));
    out.field(0, "Status", phase(claim, now));
    out.field(0, "Volume", text(&spec["volumeName"]));
    labels_and_annotations(out, claim);
    out.field(0, "Finalizers", finalizers(claim));
    let (mut capacity, mut got) = (String::new(), String::new());
    if !text(&spec["volumeName"]).is_empty() {
        capacity = amount(&status["capacity"]["storage"]);
        got = modes(&status["accessModes"]);
    }
    out.field(0, "Capacity", capacity);
    out.field(0, "Access Modes", got);
    if spec["volumeMode"].is_string() {
        out.field(0, "VolumeMode", text(&spec["volumeMode"]));
    }
    let source = &spec["dataSource"];
    if source.is_object() {
        out.line(0, "DataSource:");
        for (name, field) in [("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")] {
            if field != "apiGroup" || source[field].is_string() {
                out.field(1, name, text(&source[field]));
            }
        }
    }
    let names = |pod: &Value| text(&pod["metadata"]["name"]).to_owned();
    let pods: Vec<String> = pods.iter().map(names).collect();
    out.column("Used By", &pods);
    conditions(out, list(&status["conditions"]));
}

fn conditions(out: &mut Tabs, conditions: &[Value]) {
    if conditions.is_empty() {
        return;
    }
    out.line(0, "Conditions:");
    let words = "Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage";
    out.line(1, words);
    let lines = "----\t------\t-----------------\t------------------\t------\t-------";
    out.line(1, lines);
    for condition in conditions {
        let [type_, status, reason, message] =
            ["type", "status", "reason", "message"].map(|field| text(&condition[field]));
        let (probed, changed) = (
            time(&condition["lastProbeTime"]),
            time(&condition["lastTransitionTime"]),
        );
        let line = format!("{type_} \t{status} \t{probed} \t{changed} \t{reason} \t{message}");
        out.line(1, line);
    }
}

/// A volume.
pub(super) fn volume(out: &mut Tabs, volume: &Value, now: Timestamp) {
    let spec = &volume["spec"];
    out.field(0, "Name", text(&volume["metadata"]["name"]));
    labels_and_annotations(out, volume);
    out.field(0, "Finalizers", finalizers(volume));
    out.field(0, "StorageClass", class_of(volume));
    out.field(0, "Status", phase(volume, now));
    let claim = &spec["claimRef"];
    let claim = match claim.is_object() {
        true => format!("{}/{}", text(&claim["namespace"]), text(&claim["name"])),
        false => String::new(),
    };
    out.field(0, "Claim", claim);
    out.field(
        0,
        "Reclaim Policy",
        text(&spec["persistentVolumeReclaimPolicy"]),
    );
    out.field(0, "Access Modes", modes(&spec["accessModes"]));
    if spec["volumeMode"].is_string() {
        out.field(0, "VolumeMode", text(&spec["volumeMode"]));
    }
    out.field(0, "Capacity", amount(&spec["capacity"]["storage"]));
    affinity(out, &spec["nodeAffinity"]["required"]);
    out.field(0, "Message", text(&volume["status"]["message"]));
    out.line(0, "Source:");
    volumes::persistent(out, spec);
}

fn affinity(out: &mut Tabs, required: &Value) {
    if !required.is_object() {
        return out.field(0, "Node Affinity", "<none>");
    }
    out.field(0, "Node Affinity", "");
    let found = list(&required["nodeSelectorTerms"]);
    out.field(
        1,
        "Required Terms",
        if found.is_empty() { "<none>" } else { "" },
    );
    for (place, term) in found.iter().enumerate() {
        terms(out, 2, place, list(&term["matchExpressions"]));
    }
}

/// What has to hold of a node for one term.
fn terms(out: &mut Tabs, level: usize, place: usize, found: &[Value]) {
    let title = format!("Term {place}");
    if found.is_empty() {
        return out.field(level, &title, "<none>");
    }
    for (place, asked) in found.iter().enumerate() {
        let operator = asked["operator"].as_str().unwrap_or("in").to_lowercase();
        let values: Vec<&str> = list(&asked["values"]).iter().map(text).collect();
        let mut shown = format!("{} {operator}", text(&asked["key"]));
        if !values.is_empty() {
            shown += &format!(" [{}]", values.join(", "));
        }
        match place {
            0 => out.field(level, &title, shown),
            _ => out.line(level, format!("\t{shown}")),
        }
    }
}

/// A class.
pub(super) fn class(out: &mut Tabs, class: &Value) {
    let annotations = &class["metadata"]["annotations"];
    let is_default = DEFAULT_MARKS
        .iter()
        .any(|mark| annotations[*mark] == "true");
    out.field(0, "Name", text(&class["metadata"]["name"]));
    out.field(0, "IsDefaultClass", if is_default { "Yes" } else { "No" });
    out.field(0, "Annotations", joined(annotations));
    out.field(0, "Provisioner", text(&class["provisioner"]));
    out.field(0, "Parameters", joined(&class["parameters"]));
    let grows = match &class["allowVolumeExpansion"] {
        Value::Null => "<unset>",
        given => super::capital(given),
    };
    out.field(0, "AllowVolumeExpansion", grows);
    let options = list(&class["mountOptions"]);
    match options.is_empty() {
        true => out.field(0, "MountOptions", "<none>"),
        false => out.line(0, "MountOptions:"),
    }
    options.iter().for_each(|option| out.line(1, text(option)));
    for (name, field) in [
        ("ReclaimPolicy", "reclaimPolicy"),
        ("VolumeBindingMode", "volumeBindingMode"),
    ] {
        if class[field].is_string() {
            out.field(0, name, text(&class[field]));
        }
    }
    if let Some(topologies) = class["allowedTopologies"].as_array() {
        out.field(0, "AllowedTopologies", "");
        for (place, term) in topologies.iter().enumerate() {
            terms(out, 1, place, list(&term["matchLabelExpressions"]));
        }
    }
}

fn joined(map: &Value) -> String {
    match pairs(map) {
        pairs if pairs.is_empty() => "<none>".to_owned(),
        pairs => pairs.join(","),
    }
}

fn class_of(object: &Value) -> &str {
    let old = object["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    old.unwrap_or(text(&object["spec"]["storageClassName"]))
}

fn phase(object: &Value, now: Timestamp) -> String {
    let deleted = &object["metadata"]["deletionTimestamp"];
    match deleted.is_string() {
        true => {
            let since = api::duration::age(api::time::parse(text(deleted)), now);
            format!("Terminating (lasts {since})")
        }
        false => text(&object["status"]["phase"]).to_owned(),
    }
}

fn finalizers(object: &Value) -> String {
    let found = list(&object["metadata"]["finalizers"]).iter();
    let found: Vec<&str> = found.map(text).collect();
    format!("[{}]", found.join(" "))
}

fn amount(value: &Value) -> String {
    match value {
        Value::Null => "0".to_owned(),
        given => Quantity::from_json(given).map_or_else(|_| shown(given), |q| q.to_string()),
    }
}

/// `RWO,ROX`, in one order, each once.
fn modes(given: &Value) -> String {
    let given = list(given);
    let found = MODES
        .iter()
        .filter(|(mode, _)| given.iter().any(|m| m == mode));
    found.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::describe::{Beside, describe};

    fn text_of(object: &Value) -> String {
        let beside = Beside {
            events: None,
            parts: vec![
                json!({"metadata": {"name": "p"}}),
                json!({"metadata": {"name": "q"}}),
            ],
        };
        describe(
            object,
            &beside,
            "2026-01-02T03:10:00Z".parse().expect("a time"),
        )
    }

    #[test]
    fn claims() {
        let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c", "namespace": "d", "finalizers": ["a/b", "c/d"], "annotations": {"k": "v"}},
            "spec": {"volumeName": "v", "storageClassName": "fast", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}});
        let expected = "\
Name:          c
Namespace:     d
StorageClass:  fast
Status:        Bound
Volume:        v
Labels:        <none>
Annotations:   k: v
Finalizers:    [a/b c/d]
Capacity:      1Gi
Access Modes:  RWO,RWX
VolumeMode:    Filesystem
Used By:       p
               q
";
        assert_eq!(text_of(&claim), expected);
    }

    #[test]
    fn volumes() {
        let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "v", "deletionTimestamp": "2026-01-02T03:00:00Z"},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "d", "name": "c"},
                     "hostPath": {"path": "/a", "type": ""}},
            "status": {"phase": "Bound"}});
        let expected = "\
Name:            v
Labels:          <none>
Annotations:     <none>
Finalizers:      []
StorageClass:    
Status:          Terminating (lasts 10m)
Claim:           d/c
Reclaim Policy:  Delete
Access Modes:    RWO
Capacity:        1Gi
Node Affinity:   <none>
Message:         
Source:
    Type:          HostPath (bare host directory volume)
    Path:          /a
    HostPathType:  
";
        assert_eq!(text_of(&volume), expected);
        let spec = volume["spec"].as_object_mut().expect("a spec");
        spec.remove("hostPath");
        spec.insert("local".into(), json!({"path": "/b"}));
        let names = json!({"key": "k", "operator": "In", "values": ["n", "m"]});
        let exists = json!({"key": "l", "operator": "Exists"});
        let terms =
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [names, exists]}]}});
        spec.insert("nodeAffinity".into(), terms);
        let expected = "\
Capacity:          1Gi
Node Affinity:     
  Required Terms:  
    Term 0:        k in [n, m]
                   l exists
Message:           
Source:
    Type:  LocalVolume (a persistent volume backed by local storage on a node)
    Path:  /b
";
        let found = text_of(&volume);
        assert!(found.ends_with(expected), "{found}");
    }

    #[test]
    fn classes() {
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": "s", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "a.b/c", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate", "mountOptions": ["ro"]});
        let expected = "\
Name:                  s
IsDefaultClass:        Yes
Annotations:           storageclass.kubernetes.io/is-default-class=true
Provisioner:           a.b/c
Parameters:            <none>
AllowVolumeExpansion:  <unset>
MountOptions:
  ro
ReclaimPolicy:      Delete
VolumeBindingMode:  Immediate
";
        assert_eq!(text_of(&class), expected);
    }
}
