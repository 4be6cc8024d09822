//! Decisions of the scheduler over whole clusters, in tables.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use lifecycle::share::Share;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Placed};
use crate::fit::{self, Tally};
use crate::preempt::{self, Budget};

fn node(name: &str, zone: &str, cpu: &str) -> Node {
    let mut labels = json!({"kubernetes.io/hostname": name});
    if !zone.is_empty() {
        labels["zone"] = zone.into();
    }
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "status": {
            "allocatable": {"cpu": cpu, "memory": "1Gi", "pods": "10"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))
    .unwrap()
}

/// A Pod of namespace `ns` whose only label is `app`; `rest` is merged into its spec.
fn pod(name: &str, app: &str, rest: Value) -> Pod {
    pod_in("ns", name, app, rest)
}

fn pod_in(namespace: &str, name: &str, app: &str, rest: Value) -> Pod {
    let mut spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
    for (key, value) in rest.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": {"app": app}},
        "spec": spec,
    }))
    .unwrap()
}

/// `node: Pods` that stand there.
fn cluster(nodes: &[(Node, &[Pod])]) -> Cluster {
    let mut cluster = Cluster::default();
    for (node, pods) in nodes {
        let name = node.metadata.name.clone().unwrap();
        cluster.set_node(name.clone(), node.clone());
        for pod in *pods {
            let placed = Placed::of(pod, &name, Share::held_by(pod));
            cluster.place(pod.metadata.uid.as_deref().unwrap(), placed);
        }
    }
    cluster
}

fn term(app: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key})
}

fn near(terms: &[Value]) -> Value {
    json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn apart(terms: &[Value]) -> Value {
    json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

/// The node that was chosen, or what keeps the Pod off all of them.
fn decided(pod: &Pod, cluster: &Cluster) -> String {
    fit::choose(pod, cluster).unwrap_or_else(|obstacles| {
        let mut tally = Tally::default();
        obstacles.values().for_each(|o| tally.add(o.reasons()));
        tally.to_string()
    })
}

#[test]
fn pods_stand_beside_those_they_want() {
    let two_zones =
        |a: &[Pod], b: &[Pod]| cluster(&[(node("a", "east", "8"), a), (node("b", "west", "8"), b)]);
    let web = |name: &str| pod(name, "web", json!({}));
    let shy = |name: &str| pod(name, "shy", apart(&[term("web", "zone")]));
    let rows: [(&str, Pod, Cluster, &str); 14] = [
        ("nothing is asked", web("w"), two_zones(&[], &[]), "a"),
        (
            "beside one in the other zone",
            pod("p", "db", near(&[term("web", "zone")])),
            two_zones(&[], &[web("w")]),
            "b",
        ),
        (
            "nobody to stand beside",
            pod("p", "db", near(&[term("web", "zone")])),
            two_zones(&[], &[]),
            "2 node(s) didn't match pod affinity rules",
        ),
        (
            "the first of its kind",
            pod("p", "web", near(&[term("web", "zone")])),
            two_zones(&[], &[]),
            "a",
        ),
        (
            "the second of its kind",
            pod("p", "web", near(&[term("web", "zone")])),
            two_zones(&[], &[web("w")]),
            "b",
        ),
        (
            "a label that no node has",
            pod("p", "web", near(&[term("web", "rack")])),
            two_zones(&[], &[]),
            "2 node(s) didn't match pod affinity rules",
        ),
        (
            "all terms are about one Pod",
            pod(
                "p",
                "db",
                near(&[term("web", "zone"), term("cache", "zone")]),
            ),
            two_zones(&[web("w")], &[pod("c", "cache", json!({}))]),
            "2 node(s) didn't match pod affinity rules",
        ),
        ("away from one", shy("p"), two_zones(&[web("w")], &[]), "b"),
        (
            "nowhere away",
            shy("p"),
            two_zones(&[web("w")], &[web("v")]),
            "2 node(s) didn't match pod anti-affinity rules",
        ),
        (
            "somebody wants to be away from it",
            web("p"),
            two_zones(&[shy("s")], &[shy("t")]),
            "2 node(s) didn't satisfy existing pods anti-affinity rules",
        ),
        (
            "those of another namespace do not count",
            shy("p"),
            two_zones(&[pod_in("other", "w", "web", json!({}))], &[]),
            "a",
        ),
        (
            "unless they are named",
            pod(
                "p",
                "shy",
                apart(&[json!({
                    "labelSelector": {}, "topologyKey": "zone", "namespaces": ["other"],
                })]),
            ),
            two_zones(&[pod_in("other", "w", "web", json!({}))], &[]),
            "b",
        ),
        (
            "no selector means nobody",
            pod("p", "shy", apart(&[json!({"topologyKey": "zone"})])),
            two_zones(&[web("w")], &[]),
            "a",
        ),
        (
            "a node without the label is away from all",
            shy("p"),
            cluster(&[(node("a", "", "8"), &[web("w")])]),
            "a",
        ),
    ];
    for (what, pod, cluster, expected) in rows {
        assert_eq!(decided(&pod, &cluster), expected, "{what}");
    }
}

#[test]
fn namespaces_are_selected_by_their_labels() {
    let mut cluster = cluster(&[
        (
            node("a", "east", "8"),
            &[pod_in("other", "w", "web", json!({}))],
        ),
        (node("b", "west", "8"), &[]),
    ]);
    let term = json!({
        "labelSelector": {}, "topologyKey": "zone", "namespaceSelector": {"matchLabels": {"team": "x"}},
    });
    let wary = pod("p", "shy", apart(&[term]));
    assert_eq!(decided(&wary, &cluster), "a");
    let labels = [("team".to_owned(), "x".to_owned())].into();
    cluster.namespaces.insert("other".to_owned(), labels);
    assert_eq!(decided(&wary, &cluster), "b");
}

#[test]
fn pods_are_spread_evenly() {
    let web = |name: &str| pod(name, "web", json!({}));
    let spread = |more: Value| {
        let mut constraint = json!({
            "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}},
        });
        for (key, value) in more.as_object().unwrap() {
            constraint[key] = value.clone();
        }
        pod(
            "p",
            "web",
            json!({"topologySpreadConstraints": [constraint]}),
        )
    };
    let zones =
        |a: &[Pod], b: &[Pod]| cluster(&[(node("a", "east", "8"), a), (node("b", "west", "8"), b)]);
    let leaving = || {
        let mut pod = web("l");
        pod.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        pod
    };
    const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
    let few = format!("2 {UNEVEN}");
    let rows: [(&str, Pod, Cluster, &str); 8] = [
        ("even", spread(json!({})), zones(&[], &[]), "a"),
        ("one ahead", spread(json!({})), zones(&[web("w")], &[]), "b"),
        (
            "more is allowed",
            spread(json!({"maxSkew": 2})),
            zones(&[web("w")], &[]),
            "a",
        ),
        (
            "one that leaves does not count",
            spread(json!({})),
            zones(&[leaving()], &[]),
            "a",
        ),
        (
            "a wish keeps nobody away",
            spread(json!({"whenUnsatisfiable": "ScheduleAnyway"})),
            zones(&[web("w")], &[]),
            "a",
        ),
        (
            "fewer places than wanted count as empty ones",
            spread(json!({"minDomains": 3})),
            zones(&[web("w")], &[web("v")]),
            &few,
        ),
        (
            "one has no place",
            spread(json!({})),
            cluster(&[
                (node("a", "", "8"), &[]),
                (node("b", "west", "1"), &[web("w")]),
            ]),
            "1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints (missing required label)",
        ),
        (
            "the only place is as even as it can be",
            spread(json!({})),
            cluster(&[
                (node("a", "", "8"), &[]),
                (node("b", "west", "8"), &[web("w")]),
            ]),
            "b",
        ),
    ];
    for (what, pod, cluster, expected) in rows {
        assert_eq!(decided(&pod, &cluster), expected, "{what}");
    }
}

fn of_priority(name: &str, priority: i32) -> Pod {
    pod(name, name, json!({"priority": priority}))
}

/// A node and who leaves it, or why nobody does.
type Room = Result<(String, Vec<String>), String>;

fn room_for(pod: &Pod, cluster: &Cluster) -> Room {
    let obstacles = fit::choose(pod, cluster).expect_err("there is no room");
    let victims = preempt::victims(pod, cluster, &obstacles)?;
    let victims = victims.ok_or_else(|| "some leave already".to_owned())?;
    Ok((victims.node, victims.pods))
}

#[test]
fn the_less_important_make_room() {
    let wide = |name: &str, priority: i32, cpu: &str| {
        let containers = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
        pod(
            name,
            name,
            json!({"priority": priority, "containers": containers}),
        )
    };
    let full = |pods: &[Pod]| cluster(&[(node("a", "east", "2"), pods)]);
    let one = |node: &str, pods: &[&str]| {
        let pods = pods.iter().map(|&pod| pod.to_owned());
        Ok((node.to_owned(), pods.collect()))
    };
    let nobody = |nodes: usize, why: &str| Err(format!("0/{nodes} nodes are available: {why}."));
    let rows: [(&str, Pod, Cluster, Room); 8] = [
        (
            "the least important goes",
            of_priority("p", 10),
            full(&[of_priority("x", 5), of_priority("y", 1)]),
            one("a", &["y"]),
        ),
        (
            "all that it takes go, the most important first",
            wide("p", 10, "2"),
            full(&[of_priority("x", 1), of_priority("y", 5)]),
            one("a", &["y", "x"]),
        ),
        (
            "its like stays",
            of_priority("p", 5),
            full(&[of_priority("x", 5), of_priority("y", 5)]),
            nobody(1, "1 No preemption victims found for incoming pod"),
        ),
        (
            "too large for a node that others do not fill",
            wide("p", 10, "3"),
            full(&[of_priority("x", 1)]),
            nobody(1, "1 Preemption is not helpful for scheduling"),
        ),
        (
            "the important ones leave too little",
            wide("p", 10, "2"),
            full(&[of_priority("x", 20), of_priority("y", 1)]),
            nobody(1, "1 Insufficient cpu"),
        ),
        (
            "who may not",
            pod(
                "p",
                "p",
                json!({"priority": 10, "preemptionPolicy": "Never"}),
            ),
            full(&[of_priority("x", 1), of_priority("y", 1)]),
            Err("not eligible due to preemptionPolicy=Never.".to_owned()),
        ),
        (
            "where less important ones are enough",
            of_priority("p", 10),
            cluster(&[
                (node("a", "east", "1"), &[of_priority("x", 5)]),
                (node("b", "east", "1"), &[of_priority("y", 1)]),
            ]),
            one("b", &["y"]),
        ),
        (
            "who keeps it away",
            pod("p", "web", json!({"priority": 10})),
            cluster(&[(
                node("a", "east", "8"),
                &[pod("s", "shy", apart(&[term("web", "zone")]))],
            )]),
            one("a", &["s"]),
        ),
    ];
    for (what, pod, cluster, expected) in rows {
        assert_eq!(room_for(&pod, &cluster), expected, "{what}");
    }
}

#[test]
fn budgets_are_broken_last() {
    let mut cluster = cluster(&[
        (node("a", "east", "1"), &[of_priority("x", 1)]),
        (node("b", "east", "1"), &[of_priority("y", 5)]),
    ]);
    let budget = |app: &str, allowed: i32| -> PodDisruptionBudget {
        serde_json::from_value(json!({
            "spec": {"selector": {"matchLabels": {"app": app}}}, "status": {"disruptionsAllowed": allowed},
        }))
        .unwrap()
    };
    let preemptor = of_priority("p", 10);
    let who = |cluster: &Cluster| room_for(&preemptor, cluster).unwrap().1;
    assert_eq!(who(&cluster), ["x"]);
    let key = ("ns".to_owned(), "budget".to_owned());
    cluster
        .budgets
        .insert(key.clone(), Budget::of(&budget("x", 0)));
    assert_eq!(who(&cluster), ["y"], "although it is more important");
    cluster.budgets.insert(key, Budget::of(&budget("x", 1)));
    assert_eq!(who(&cluster), ["x"]);
}

#[test]
fn room_that_is_made_is_kept() {
    let mut cluster = cluster(&[(node("a", "east", "2"), &[of_priority("x", 1)])]);
    let (high, low) = (of_priority("high", 10), of_priority("low", 1));
    cluster.nominate(&high, "a");
    assert_eq!(decided(&low, &cluster), "1 Insufficient cpu");
    assert_eq!(decided(&high, &cluster), "a");
    assert_eq!(decided(&of_priority("higher", 11), &cluster), "a");
    let placed = Placed::of(&high, "a", Share::of(&high));
    cluster.place("high", placed);
    assert!(!cluster.withdraw("high"), "it has its place");
    assert_eq!(decided(&low, &cluster), "1 Insufficient cpu");
}

#[test]
fn who_makes_room_is_waited_for() {
    let mut victim = of_priority("x", 1);
    victim.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    victim.status = serde_json::from_value(json!({"conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"},
    ]}))
    .unwrap();
    let mut cluster = cluster(&[(node("a", "east", "1"), &[victim])]);
    let preemptor = of_priority("p", 10);
    assert!(room_for(&preemptor, &cluster).is_ok());
    cluster.nominate(&preemptor, "a");
    let why = room_for(&preemptor, &cluster).unwrap_err();
    assert_eq!(why, "some leave already");
}
