//! Which nodes are for a DaemonSet's Pods.

use super::*;

fn template(spec: Value) -> DaemonSet {
    let mut all = json!({"containers": [{"name": "c", "image": "new"}]});
    for (key, field) in spec.as_object().unwrap() {
        all[key] = field.clone();
    }
    set(json!({"template": {"metadata": {"labels": {"app": "log"}}, "spec": all}}))
}

fn on(set: &DaemonSet, node: &Value) -> Place {
    let node: Node = serde_json::from_value(node.clone()).unwrap();
    place::probe(set).on(&node)
}

#[test]
fn a_node_is_for_pods_by_its_name_labels_and_taints() {
    use Place::{Runs, Stays, Unfit};
    let named = |name: &str| json!({"metadata": {"name": name, "labels": {"disk": "ssd"}}});
    let with_taint = |key: &str, effect: &str| json!({"metadata": {"name": "a"}, "spec": {"taints": [{"key": key, "effect": effect}]}});
    let affine = |term: Value| {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
        }}})
    };
    let ssd = json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]});
    let not_a =
        json!({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["a"]}]});
    let tolerant = json!({"tolerations": [{"key": "full", "operator": "Exists"}]});
    let known = |name: &str| format!("node.kubernetes.io/{name}");
    let table = [
        (json!({}), named("a"), Runs),
        (json!({"nodeName": "a"}), named("a"), Runs),
        (json!({"nodeName": "b"}), named("a"), Unfit),
        (json!({"nodeSelector": {"disk": "ssd"}}), named("a"), Runs),
        (json!({"nodeSelector": {"disk": "hdd"}}), named("a"), Unfit),
        (affine(ssd.clone()), named("a"), Runs),
        (affine(ssd), with_taint("x", "PreferNoSchedule"), Unfit),
        (affine(not_a.clone()), named("a"), Unfit),
        (affine(not_a), named("b"), Runs),
        (json!({}), with_taint("full", "PreferNoSchedule"), Runs),
        (json!({}), with_taint("full", "NoSchedule"), Stays),
        (json!({}), with_taint("full", "NoExecute"), Unfit),
        (tolerant.clone(), with_taint("full", "NoExecute"), Runs),
        (tolerant, with_taint("full", "NoSchedule"), Runs),
        (
            json!({}),
            with_taint(&known("not-ready"), "NoExecute"),
            Runs,
        ),
        (
            json!({}),
            with_taint(&known("not-ready"), "NoSchedule"),
            Stays,
        ),
        (
            json!({}),
            with_taint(&known("unreachable"), "NoExecute"),
            Runs,
        ),
        (
            json!({}),
            with_taint(&known("disk-pressure"), "NoSchedule"),
            Runs,
        ),
        (
            json!({}),
            with_taint(&known("memory-pressure"), "NoSchedule"),
            Runs,
        ),
        (
            json!({}),
            with_taint(&known("pid-pressure"), "NoSchedule"),
            Runs,
        ),
        (
            json!({}),
            with_taint(&known("unschedulable"), "NoSchedule"),
            Runs,
        ),
        (
            json!({}),
            with_taint(&known("network-unavailable"), "NoSchedule"),
            Stays,
        ),
        (
            json!({"hostNetwork": true}),
            with_taint(&known("network-unavailable"), "NoSchedule"),
            Runs,
        ),
    ];
    for (spec, node, expected) in table {
        assert_eq!(
            on(&template(spec.clone()), &node),
            expected,
            "{spec} {node}"
        );
    }
}

#[test]
fn what_makes_no_difference_is_none() {
    let status = json!({"metadata": {"name": "a"}, "status": {"conditions": []}});
    let status = serde_json::from_value(status).unwrap();
    assert!(!differs(&node("a"), &status));
    assert!(differs(&node("a"), &tainted("a", "NoSchedule")));
    let mut labelled = node("a");
    labelled.metadata.labels = Some([("disk".into(), "ssd".into())].into());
    assert!(differs(&node("a"), &labelled));
}

#[test]
fn a_pod_made_for_a_node_goes_nowhere_else() {
    let mut set = template(json!({
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
            {"key": "full", "operator": "Exists"},
        ],
        "affinity": {
            "podAntiAffinity": {},
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [],
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["b"]}]},
                ]},
            },
        },
    }));
    let key = "deprecated.daemonset.template.generation".to_owned();
    set.metadata.annotations = Some([(key, "4".to_owned())].into());
    let made = make::pod(&set, &reference(), "hash", "a");
    assert_eq!(made.metadata.generate_name.as_deref(), Some("log-"));
    assert_eq!(made.metadata.owner_references, Some(vec![reference()]));
    let labels = serde_json::to_value(&made.metadata.labels).unwrap();
    let expected =
        json!({"app": "log", "controller-revision-hash": "hash", "pod-template-generation": "4"});
    assert_eq!(labels, expected);
    assert_eq!(place::target(&made), Some("a"));
    let spec = serde_json::to_value(made.spec.unwrap()).unwrap();
    let required = json!({"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]},
    ]});
    let affinity = &spec["affinity"]["nodeAffinity"];
    assert_eq!(
        affinity["requiredDuringSchedulingIgnoredDuringExecution"],
        required
    );
    assert!(affinity["preferredDuringSchedulingIgnoredDuringExecution"].is_array());
    assert!(spec["affinity"]["podAntiAffinity"].is_object());
    let tolerated = |key: &str, effect: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": effect});
    let expected = json!([
        tolerated("not-ready", "NoExecute"),
        {"key": "full", "operator": "Exists"},
        tolerated("unreachable", "NoExecute"),
        tolerated("disk-pressure", "NoSchedule"),
        tolerated("memory-pressure", "NoSchedule"),
        tolerated("pid-pressure", "NoSchedule"),
        tolerated("unschedulable", "NoSchedule"),
    ]);
    assert_eq!(spec["tolerations"], expected);
}

#[test]
fn a_pod_is_for_the_node_it_is_bound_to_or_was_made_for() {
    let target = |spec: Value| {
        let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        place::target(&pod).map(str::to_owned)
    };
    let fields = |operator: &str, values: Value| {
        let field = json!({"key": "metadata.name", "operator": operator, "values": values});
        json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [field]}],
        }}}})
    };
    assert_eq!(target(json!({"containers": []})), None);
    assert_eq!(
        target(json!({"containers": [], "nodeName": "a"})),
        Some("a".into())
    );
    assert_eq!(target(fields("In", json!(["b"]))), Some("b".into()));
    assert_eq!(target(fields("In", json!(["b", "c"]))), None);
    assert_eq!(target(fields("NotIn", json!(["b"]))), None);
}
