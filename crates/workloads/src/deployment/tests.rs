use serde_json::{Value, json};

use super::*;
use crate::object::name;

fn at(second: i64) -> Timestamp {
    Timestamp::new(second, 0).unwrap()
}

fn deployment(spec: Value) -> Deployment {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
        "spec": {
            "replicas": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "v2"}]}},
        },
    });
    for (key, field) in spec.as_object().unwrap() {
        value["spec"][key] = field.clone();
    }
    serde_json::from_value(value).unwrap()
}

fn reference() -> OwnerReference {
    owner::reference("apps/v1", "Deployment", &deployment(json!({})).metadata)
}

/// A ReplicaSet of the Deployment whose Pods have this image: so many are to be, so many available.
fn set(
    image: &str,
    revision: &str,
    replicas: i32,
    available: i32,
    noted: Option<(i32, i32)>,
) -> ReplicaSet {
    let mut annotations = json!({REVISION: revision});
    if let Some((desired, most)) = noted {
        annotations["deployment.kubernetes.io/desired-replicas"] = desired.to_string().into();
        annotations["deployment.kubernetes.io/max-replicas"] = most.to_string().into();
    }
    let labels = json!({"app": "web", HASH_LABEL: image});
    let value = json!({
        "metadata": {
            "name": format!("web-{image}"), "namespace": "ns", "uid": image, "labels": labels, "generation": 1,
            "annotations": annotations, "ownerReferences": [reference()],
            "creationTimestamp": at(revision.parse().unwrap_or(0)).to_string(),
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
        "status": {
            "replicas": replicas, "readyReplicas": available, "availableReplicas": available,
            "terminatingReplicas": 0, "observedGeneration": 1,
        },
    });
    serde_json::from_value(value).unwrap()
}

fn planned(deployment: &Deployment, sets: &[ReplicaSet]) -> Plan {
    let sets: Vec<&ReplicaSet> = sets.iter().collect();
    plan(deployment, &reference(), &sets, |_| false, None, at(1000))
}

/// The sizes ReplicaSets get, by name.
fn sizes(plan: &Plan) -> Vec<(String, i32)> {
    let sized = plan.steps.iter().filter_map(|step| match step {
        Step::Create(set) => Some(("new".to_owned(), crate::replicaset::replicas(set))),
        Step::Update {
            set,
            scaled_from: Some(_),
        } => Some((
            name(&set.metadata).to_owned(),
            crate::replicaset::replicas(set),
        )),
        _ => None,
    });
    sized.collect()
}

fn condition<'a>(plan: &'a Plan, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = plan.write.as_ref()?.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|c| c.type_ == kind)?;
    Some((
        &condition.status,
        condition.reason.as_deref().unwrap_or_default(),
        condition.message.as_deref().unwrap_or_default(),
    ))
}

#[test]
fn a_new_deployment_has_one_set_with_everything() {
    let plan = planned(&deployment(json!({})), &[]);
    let [Step::Create(set)] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    let hash = &set.metadata.labels.as_ref().unwrap()[HASH_LABEL];
    assert_eq!(name(&set.metadata), format!("web-{hash}"));
    let spec = set.spec.as_ref().unwrap();
    assert_eq!(spec.replicas, Some(10));
    assert_eq!(
        &spec.selector.match_labels.as_ref().unwrap()[HASH_LABEL],
        hash
    );
    let annotations = set.metadata.annotations.as_ref().unwrap();
    let noted = |key: &str| annotations[&format!("deployment.kubernetes.io/{key}")].as_str();
    assert_eq!(
        (
            noted("revision"),
            noted("desired-replicas"),
            noted("max-replicas")
        ),
        ("1", "10", "13")
    );
    let text = format!("Created new replica set \"web-{hash}\"");
    let expected = ("True", "NewReplicaSetCreated", text.as_str());
    assert_eq!(condition(&plan, "Progressing"), Some(expected));
    let text = "Deployment does not have minimum availability.";
    let expected = ("False", "MinimumReplicasUnavailable", text);
    assert_eq!(condition(&plan, "Available"), Some(expected));
    let written = plan.write.unwrap();
    assert_eq!(written.metadata.annotations.unwrap()[REVISION], "1");
    assert_eq!(plan.wake, Some(at(1601)));
}

#[test]
fn steps_of_a_rolling_update() {
    let noted = Some((10, 13));
    let old = |replicas, available| set("v1", "1", replicas, available, noted);
    let new = |replicas, available| set("v2", "2", replicas, available, noted);
    let named = |name: &str, size| (name.to_owned(), size);
    let cases = [
        // The new one begins within the surge, and the old one shrinks at the same time.
        (vec![old(10, 10)], vec![named("new", 3), named("web-v1", 8)]),
        (vec![old(8, 8), new(3, 0)], vec![named("web-v2", 5)]),
        (vec![old(8, 8), new(5, 0)], vec![]),
        (vec![old(8, 8), new(5, 2)], vec![named("web-v1", 6)]),
        // What does not work goes first, however little of the new one does.
        (vec![old(8, 3), new(5, 0)], vec![]),
        (vec![old(10, 6), new(3, 0)], vec![named("web-v1", 8)]),
        (vec![old(1, 1), new(10, 9)], vec![named("web-v1", 0)]),
        (vec![old(0, 0), new(10, 10)], vec![]),
        (vec![old(3, 3), new(12, 12)], vec![named("web-v2", 10)]),
    ];
    for (n, (sets, expected)) in cases.into_iter().enumerate() {
        let plan = planned(&deployment(json!({})), &sets);
        assert_eq!(sizes(&plan), expected, "case {n}");
    }
}

#[test]
fn bounds_that_round_to_nothing_let_one_go() {
    let strategy = |surge: &str, unavailable: &str| {
        let bounds = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        json!({"replicas": 2, "strategy": {"type": "RollingUpdate", "rollingUpdate": bounds}})
    };
    let cases = [
        ("0%", "1%", 2, 1),
        ("1%", "0%", 3, 2),
        ("25%", "25%", 3, 2),
        ("100%", "100%", 4, 0),
    ];
    for (surge, unavailable, most, least) in cases {
        let fence = fence::Fence::of(&deployment(strategy(surge, unavailable)));
        assert_eq!(
            (fence.most(), fence.least()),
            (most, least),
            "{surge} {unavailable}"
        );
    }
    let none = fence::Fence::of(&deployment(json!({"replicas": 0})));
    assert_eq!((none.most(), none.least()), (0, 0), "of nothing");
}

#[test]
fn sizes_change_in_proportion_during_a_rollout() {
    let cases = [
        // Size before and after, ReplicaSets of the rollout, what they get.
        (10, 20, [5, 8], [10, 15]),
        (10, 5, [5, 8], [3, 4]),
        (10, 0, [5, 8], [0, 0]),
        (10, 12, [13, 0], [12, 0]),
        (10, 11, [6, 7], [6, 8]),
    ];
    for (before, after, [old, new], expected) in cases {
        let most = fence::Fence::of(&deployment(json!({"replicas": before}))).most();
        let noted = Some((before, most));
        let sets = [
            set("v1", "1", old, old, noted),
            set("v2", "2", new, 0, noted),
        ];
        let plan = planned(&deployment(json!({"replicas": after})), &sets);
        let mut got = [old, new];
        for (name, size) in sizes(&plan) {
            got[usize::from(name == "web-v2")] = size;
        }
        assert_eq!(got, expected, "{before} to {after}");
    }
}

#[test]
fn a_paused_deployment_is_sized_and_not_rolled_out() {
    let paused = deployment(json!({"paused": true, "replicas": 12}));
    let plan = planned(&paused, &[set("v1", "1", 10, 10, Some((10, 13)))]);
    assert_eq!(sizes(&plan), [("web-v1".to_owned(), 12)]);
    let expected = ("Unknown", "DeploymentPaused", "Deployment is paused");
    assert_eq!(condition(&plan, "Progressing"), Some(expected));
    assert_eq!(plan.wake, None, "time does not run");
    let mut resumed = *plan.write.unwrap();
    resumed.spec.as_mut().unwrap().paused = None;
    let plan = planned(&resumed, &[set("v2", "1", 12, 12, Some((12, 15)))]);
    let reason = condition(&plan, "Progressing").map(|c| c.1);
    assert_eq!(reason, Some("NewReplicaSetAvailable"));
}

#[test]
fn recreation_waits_for_the_last_old_pod() {
    let recreate = deployment(json!({"strategy": {"type": "Recreate"}}));
    let noted = Some((10, 10));
    let plan = planned(&recreate, &[set("v1", "1", 10, 10, noted)]);
    assert_eq!(sizes(&plan), [("web-v1".to_owned(), 0)]);
    let gone = set("v1", "1", 0, 0, noted);
    let with_pods = |has_pods: bool| {
        super::plan(
            &recreate,
            &reference(),
            &[&gone],
            |_| has_pods,
            None,
            at(1000),
        )
    };
    assert_eq!(sizes(&with_pods(true)), []);
    assert_eq!(sizes(&with_pods(false)), [("new".to_owned(), 10)]);
}

#[test]
fn recreation_goes_on_when_the_size_changes_meanwhile() {
    let recreate = deployment(json!({"strategy": {"type": "Recreate"}, "replicas": 0}));
    let sets = [
        set("v1", "1", 3, 3, Some((4, 4))),
        set("v2", "2", 1, 1, Some((4, 4))),
    ];
    assert_eq!(
        sizes(&planned(&recreate, &sets)),
        [("web-v1".to_owned(), 0)]
    );
}

#[test]
fn no_progress_in_time_is_told() {
    let sets = [set("v2", "1", 10, 4, Some((10, 13)))];
    let mut begun = *planned(&deployment(json!({})), &sets).write.unwrap();
    let status = begun.status.as_mut().unwrap();
    assert_eq!(status.unavailable_replicas, Some(6));
    let condition_of =
        |plan: &Plan| condition(plan, "Progressing").map(|c| (c.0.to_owned(), c.1.to_owned()));
    let sets: Vec<&ReplicaSet> = sets.iter().collect();
    let later = |second| plan(&begun, &reference(), &sets, |_| false, None, at(second));
    assert_eq!(later(1600).write, None);
    assert_eq!(later(1600).wake, Some(at(1601)));
    let over = later(1601);
    let expected = ("False".to_owned(), "ProgressDeadlineExceeded".to_owned());
    assert_eq!(condition_of(&over), Some(expected));
    assert_eq!(over.wake, None);
}

#[test]
fn old_sets_without_pods_go_the_oldest_revision_first() {
    let sets = [
        set("v0", "1", 0, 0, None),
        set("v1", "3", 0, 0, None),
        set("v2", "4", 10, 10, Some((10, 13))),
    ];
    let limited = deployment(json!({"revisionHistoryLimit": 1}));
    let complete = *planned(&limited, &sets).write.unwrap();
    let plan = planned(&complete, &sets);
    let [Step::Delete { set, uid }] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!((set.as_str(), uid.as_str()), ("web-v0", "v0"));
}

#[test]
fn a_template_that_is_back_takes_its_set_back() {
    let sets = [
        set("v2", "1", 0, 0, Some((10, 13))),
        set("v3", "2", 10, 10, Some((10, 13))),
    ];
    let plan = planned(&deployment(json!({})), &sets);
    assert_eq!(
        sizes(&plan),
        [("web-v2".to_owned(), 3), ("web-v3".to_owned(), 8)][..1]
    );
    let Step::Update { set, .. } = &plan.steps[0] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(set.metadata.annotations.as_ref().unwrap()[REVISION], "3");
}

#[test]
fn failures_are_told() {
    let with = |failure: Failure| {
        plan(
            &deployment(json!({})),
            &reference(),
            &[],
            |_| false,
            Some(&failure),
            at(1000),
        )
    };
    let failed = with(Failure::Create {
        set: "web-x".into(),
        message: "no".into(),
    });
    assert_eq!(failed.steps, []);
    let text = "Failed to create new replica set \"web-x\": no";
    let expected = ("False", "ReplicaSetCreateError", text);
    assert_eq!(condition(&failed, "Progressing"), Some(expected));
    let collided = with(Failure::Collision(2)).write.unwrap();
    assert_eq!(collided.status.unwrap().collision_count, Some(3));
}
