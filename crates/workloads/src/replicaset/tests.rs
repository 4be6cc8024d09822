use api::selector::Selector;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::ReplicaSetCondition;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn set(replicas: i32) -> ReplicaSet {
    let value = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set", "generation": 3},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web", "tier": "front"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    serde_json::from_value(value).unwrap()
}

fn reference() -> OwnerReference {
    owner::reference("apps/v1", "ReplicaSet", &set(0).metadata)
}

/// A Pod of the set that is ready for so many seconds, or not ready.
fn pod(name: &str, ready: Option<i64>) -> Pod {
    let since = |seconds: i64| now() - SignedDuration::from_secs(seconds);
    let mut conditions = Vec::new();
    if let Some(seconds) = ready {
        let since = since(seconds).to_string();
        conditions.push(json!({"type": "Ready", "status": "True", "lastTransitionTime": since}));
    }
    let value = json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": name, "labels": {"app": "web", "tier": "front"},
            "ownerReferences": [reference()], "creationTimestamp": since(ready.unwrap_or(0) + 1).to_string(),
        },
        "spec": {"containers": [{"name": "c"}], "nodeName": "node"},
        "status": {"phase": "Running", "conditions": conditions},
    });
    serde_json::from_value(value).unwrap()
}

fn planned(set: &ReplicaSet, pods: &[Pod], failure: Option<&str>) -> Plan {
    let pods: Vec<&Pod> = pods.iter().collect();
    let seen = Seen {
        pods: &pods,
        siblings: &[set],
        failure,
    };
    plan(set, &reference(), seen, now())
}

fn doomed(plan: &Plan) -> Vec<&str> {
    let names = plan.steps.iter().map(|step| match step {
        Step::Delete { pod, .. } => pod.as_str(),
        other => panic!("{other:?}"),
    });
    names.collect()
}

#[test]
fn as_many_pods_are_made_as_are_missing() {
    let mut over = pod("over", None);
    over.status.as_mut().unwrap().phase = Some("Failed".into());
    let mut leaving = pod("leaving", Some(9));
    leaving.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let plan = planned(&set(3), &[pod("a", Some(9)), over, leaving], None);
    let [Step::Create { pod, count: 2 }] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
    let status = plan.status.unwrap();
    assert_eq!((status.replicas, status.ready_replicas), (1, Some(1)));
    assert_eq!(status.fully_labeled_replicas, Some(1));
    assert_eq!(status.terminating_replicas, Some(1));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(planned(&set(900), &[], None).steps.len(), 1);
    let [Step::Create { count: 500, .. }] = &planned(&set(900), &[], None).steps[..] else {
        panic!("not more at a time");
    };
}

#[test]
fn a_set_that_goes_makes_and_deletes_nothing() {
    let mut going = set(3);
    going.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let plan = planned(&going, &[pod("a", Some(9))], None);
    assert_eq!(plan.steps, []);
    assert_eq!(plan.status.unwrap().replicas, 1);
}

#[test]
fn orphans_are_taken_over_and_what_is_not_selected_is_let_go() {
    let mut orphan = pod("orphan", Some(9));
    orphan.metadata.owner_references = None;
    let mut other = pod("other", Some(9));
    other.metadata.labels = Some([("app".into(), "db".into())].into());
    let plan = planned(&set(2), &[orphan, other, pod("own", None)], None);
    let [Step::HandOver(a), Step::HandOver(b)] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    assert!(a.is_adoption && !b.is_adoption);
    assert_eq!((&*a.object, &*b.object), ("orphan", "other"));
    let taken = &a.patch["metadata"]["ownerReferences"][0];
    assert_eq!(
        *taken,
        json!(owner::reference("apps/v1", "ReplicaSet", &set(2).metadata))
    );
    let released = &b.patch["metadata"]["ownerReferences"][0];
    assert_eq!(*released, json!({"$patch": "delete", "uid": "set"}));
}

#[test]
fn those_go_first_that_are_missed_least() {
    let mut pending = pod("pending", None);
    pending.status.as_mut().unwrap().phase = Some("Pending".into());
    let mut unbound = pending.clone();
    unbound.metadata.name = Some("unbound".into());
    unbound.spec.as_mut().unwrap().node_name = None;
    let mut cheap = pod("cheap", Some(4000));
    let cost = |pod: &mut Pod, cost: &str| {
        let key = "controller.kubernetes.io/pod-deletion-cost".to_owned();
        pod.metadata.annotations = Some([(key, cost.to_owned())].into());
    };
    cost(&mut cheap, "-5");
    let mut odd = pod("odd", Some(3500));
    cost(&mut odd, "+9");
    let mut restarted = pod("restarted", Some(3000));
    restarted.status.as_mut().unwrap().container_statuses = serde_json::from_value(
        json!([{"name": "c", "restartCount": 2, "ready": true, "image": "", "imageID": ""}]),
    )
    .ok();
    let pods = [
        pod("old", Some(4000)),
        odd,
        pod("young", Some(9)),
        restarted,
        cheap,
        pod("unready", None),
        pending,
        unbound,
    ];
    let order = ["unbound", "pending", "unready", "cheap", "young"];
    for n in 1..=order.len() {
        let left = i32::try_from(pods.len() - n).unwrap();
        assert_eq!(doomed(&planned(&set(left), &pods, None)), order[..n]);
    }
    // Of three that are ready for about as long, the one that restarted goes, and then the UID decides, not the age.
    assert_eq!(
        doomed(&planned(&set(1), &pods, None))[5..],
        ["restarted", "odd"]
    );
}

proptest! {
    #![proptest_config(testkit::cases(500, 3))]

    #[test]
    fn any_pods_can_be_put_in_order(seen in prop::collection::vec((0..40i64, 0..3i32, 0..40i64, any::<bool>()), 0..60)) {
        let made = seen.into_iter().enumerate().map(|(n, (ready, restarts, age, is_ready))| {
            let mut pod = pod(&format!("p{n}"), is_ready.then_some(ready));
            let created = now() - SignedDuration::from_secs(age);
            pod.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
            let status = json!([{"name": "c", "restartCount": restarts, "ready": is_ready, "image": "", "imageID": ""}]);
            pod.status.as_mut().unwrap().container_statuses = serde_json::from_value(status).ok();
            pod
        });
        let pods: Vec<Pod> = made.collect();
        let half = i32::try_from(pods.len() / 2).unwrap();
        prop_assert_eq!(doomed(&planned(&set(half), &pods, None)).len(), pods.len() - pods.len() / 2);
        let nodes = std::collections::BTreeMap::new();
        let compare = |a: &Pod, b: &Pod| rank::compare(a, b, &nodes, now());
        for (a, b, c) in pods.iter().zip(&pods[pods.len().min(1)..]).zip(&pods[pods.len().min(2)..]).map(|((a, b), c)| (a, b, c)) {
            prop_assert_eq!(compare(a, b), compare(b, a).reverse());
            let [mut x, mut y, mut z] = [a, b, c];
            if compare(x, y).is_gt() { std::mem::swap(&mut x, &mut y); }
            if compare(y, z).is_gt() { std::mem::swap(&mut y, &mut z); }
            if compare(x, y).is_gt() { std::mem::swap(&mut x, &mut y); }
            prop_assert!(compare(x, z).is_le() && compare(y, z).is_le());
        }
    }
}

#[test]
fn a_crowded_node_loses_first() {
    let mut lonely = pod("lonely", Some(9));
    lonely.spec.as_mut().unwrap().node_name = Some("other".into());
    let pods = [lonely, pod("a", Some(9000)), pod("b", Some(9000))];
    assert_eq!(doomed(&planned(&set(2), &pods, None)), ["a"]);
    let nodes = rank::nodes(
        [Selector::parse("app=web").unwrap()].into_iter(),
        &[&pods[0]],
    );
    assert_eq!(nodes.get("other"), Some(&1));
}

#[test]
fn a_failure_is_told_once_and_taken_back() {
    let failed = planned(&set(2), &[], Some("exceeded quota"));
    assert_eq!(failed.steps, [], "it is not tried meanwhile");
    let mut set = set(2);
    set.status = failed.status;
    let conditions = set.status.as_ref().unwrap().conditions.clone().unwrap();
    let expected = ReplicaSetCondition {
        type_: "ReplicaFailure".into(),
        status: "True".into(),
        reason: Some("FailedCreate".into()),
        message: Some("exceeded quota".into()),
        last_transition_time: conditions[0].last_transition_time.clone(),
    };
    assert_eq!(conditions, [expected]);
    assert_eq!(planned(&set, &[], Some("another word")).status, None);
    let both = [pod("a", None), pod("b", None)];
    assert_eq!(planned(&set, &both, None).status.unwrap().conditions, None);
}

#[test]
fn pods_become_available_in_time() {
    let mut set = set(2);
    set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
    let plan = planned(&set, &[pod("a", Some(4)), pod("b", Some(20))], None);
    let status = plan.status.unwrap();
    assert_eq!(
        (status.ready_replicas, status.available_replicas),
        (Some(2), Some(1))
    );
    assert_eq!(plan.wake, Some(now() + SignedDuration::from_secs(6)));
}
