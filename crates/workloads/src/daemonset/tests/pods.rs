//! What every node is short of and has too many of, and what is reported.

use super::*;

fn unbound(name: &str, node: &str, age: i64) -> Pod {
    let mut pod = pod(name, "", "new", "Pending", age);
    pod.spec = make::pod(&set(json!({})), &reference(), "new", node).spec;
    pod
}

#[test]
fn every_node_gets_a_pod_and_no_two() {
    let young = |name, node| pod(name, node, "new", "ready", 5);
    let old = |name, node| pod(name, node, "new", "unready", 50);
    let base = || set(json!({}));
    let cases = [
        (world(base(), &["a", "b"], vec![]), vec![], vec!["a", "b"]),
        (
            world(base(), &["a", "b"], vec![young("x", "a")]),
            vec![],
            vec!["b"],
        ),
        // The oldest stays, and what is bound before what is not.
        (
            world(base(), &["a"], vec![young("x", "a"), old("y", "a")]),
            vec!["x"],
            vec![],
        ),
        (
            world(base(), &["a"], vec![unbound("x", "a", 50), young("y", "a")]),
            vec!["x"],
            vec![],
        ),
        (
            world(base(), &["a"], vec![unbound("x", "a", 5)]),
            vec![],
            vec![],
        ),
        // One that goes keeps its place until it is over.
        (
            world(base(), &["a"], vec![leaving(young("x", "a"))]),
            vec![],
            vec![],
        ),
        (
            world(
                base(),
                &["a"],
                vec![leaving(pod("x", "a", "new", "Failed", 5))],
            ),
            vec![],
            vec!["a"],
        ),
        // Pods that were bound to a node that is gone are somebody else's business.
        (
            world(base(), &[], vec![young("x", "a"), unbound("y", "b", 5)]),
            vec!["y"],
            vec![],
        ),
        (
            world(base(), &[], vec![leaving(unbound("y", "b", 5))]),
            vec![],
            vec![],
        ),
    ];
    for (n, (world, gone, served)) in cases.iter().enumerate() {
        println!("case {n}");
        assert_changes(world, gone, served);
    }
}

#[test]
fn taints_keep_pods_away_or_have_them_go() {
    let on = |name: &str| pod(name, name, "new", "ready", 5);
    let mut world = world(set(json!({})), &["a"], vec![on("a"), on("c"), on("e")]);
    let taints = [
        ("b", "NoSchedule"),
        ("c", "NoSchedule"),
        ("d", "NoExecute"),
        ("e", "NoExecute"),
    ];
    let nodes = taints.map(|(name, effect)| tainted(name, effect));
    world.nodes.extend(nodes);
    assert_changes(&world, &["e"], &[]);
    let status = world.plan().status.unwrap();
    let counts = (
        status.desired_number_scheduled,
        status.current_number_scheduled,
        status.number_misscheduled,
        status.number_ready,
    );
    assert_eq!(counts, (1, 1, 2, 1));
}

#[test]
fn no_more_than_a_burst_at_a_time() {
    let names: Vec<String> = (0..300).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let many = world(set(json!({})), &names, vec![]);
    assert_eq!(many.changes().1.len(), 250);
    let pods = names.iter().map(|n| pod(n, n, "new", "Failed", 5));
    let failed = world(set(json!({})), &names, pods.collect());
    let plan = failed.plan();
    assert_eq!((changes(&plan).0.len(), plan.news.len()), (250, 250));
}

#[test]
fn failed_pods_rest_before_they_go() {
    let failed = || pod("x", "a", "new", "Failed", 5);
    for set in [set(json!({})), rolling(json!(1), json!(0))] {
        let mut world = world(set, &["a"], vec![failed()]);
        let plan = world.plan();
        assert_eq!(changes(&plan), (vec!["x".to_owned()], vec![]));
        let news = News {
            type_: "Warning",
            reason: "FailedDaemonPod".into(),
            message: "Found failed daemon pod ns/x on node a, will try to kill it".into(),
        };
        assert_eq!(plan.news, [news]);
        world.memory = plan.memory;
        world.pods = vec![leaving(failed())];
        assert_changes(&world, &[], &["a"]);

        world.pods = vec![failed()];
        let soon = now() + SignedDuration::from_millis(400);
        let second = now() + SignedDuration::from_secs(1);
        let plan = world.plan_at(soon);
        assert_eq!((plan.steps.len(), plan.news.len()), (0, 0));
        assert_eq!((plan.wake, &plan.memory), (Some(second), &world.memory));
        let plan = world.plan_at(second);
        assert_eq!(changes(&plan).0, ["x"]);
        world.memory = plan.memory;
        let plan = world.plan_at(second);
        assert_eq!(plan.wake, Some(second + SignedDuration::from_secs(2)));
        // Another template may do better.
        world.set.metadata.generation = Some(4);
        assert_eq!(changes(&world.plan_at(second)).0, ["x"]);
    }
}

#[test]
fn succeeded_pods_go_at_once() {
    let over = pod("x", "a", "new", "Succeeded", 5);
    let plan = world(set(json!({})), &["a"], vec![over]).plan();
    assert_eq!(changes(&plan), (vec!["x".to_owned()], vec![]));
    let news = News {
        type_: "Normal",
        reason: "SucceededDaemonPod".into(),
        message: "Found succeeded daemon pod ns/x on node a, will try to delete it".into(),
    };
    assert_eq!(plan.news, [news]);
    assert_eq!(plan.memory, Memory::default().at(Some(3), now()));
}

#[test]
fn the_status_counts_nodes() {
    let pods = vec![
        pod("x", "a", "new", "ready", 50),
        pod("y", "b", "old", "ready", 5),
        pod("z", "c", "new", "unready", 50),
    ];
    let set = set(json!({"minReadySeconds": 10, "updateStrategy": {"type": "OnDelete"}}));
    let mut world = world(set, &["a", "b", "c", "d"], pods);
    world.set.status = Some(DaemonSetStatus {
        collision_count: Some(2),
        ..DaemonSetStatus::default()
    });
    let plan = world.plan();
    let expected = DaemonSetStatus {
        collision_count: Some(2),
        conditions: None,
        current_number_scheduled: 3,
        desired_number_scheduled: 4,
        number_available: Some(1),
        number_misscheduled: 0,
        number_ready: 2,
        number_unavailable: Some(3),
        observed_generation: Some(3),
        updated_number_scheduled: Some(2),
    };
    assert_eq!(plan.status.as_deref(), Some(&expected));
    assert_eq!(plan.wake, Some(now() + SignedDuration::from_secs(5)));
    world.set.status = Some(expected);
    assert_eq!(world.plan().status, None, "it is the same");
}

#[test]
fn orphans_are_taken_over_and_what_is_not_selected_is_let_go() {
    let mut orphan = pod("orphan", "a", "new", "ready", 5);
    orphan.metadata.owner_references = None;
    let mut other = pod("other", "b", "new", "ready", 5);
    other.metadata.labels = Some([("app".into(), "web".into())].into());
    let mut world = world(set(json!({})), &["a", "b"], vec![orphan, other]);
    world.revisions[0].metadata.owner_references = None;
    let plan = world.plan();
    let [
        Step::HandOver(a),
        Step::HandOver(b),
        Step::HandOverRevision(c),
    ] = &plan.steps[..]
    else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(
        (a.is_adoption, b.is_adoption, c.is_adoption),
        (true, false, true)
    );
    assert_eq!(
        [&*a.object, &*b.object, &*c.object],
        ["orphan", "other", "log-old"]
    );
    assert_eq!(plan.status, None);

    world.set.metadata.deletion_timestamp = Some(Time(now()));
    let plan = world.plan();
    assert_eq!((plan.steps, plan.status), (vec![], None));
}

#[test]
fn what_failed_is_not_tried_meanwhile() {
    let mut world = world(
        set(json!({})),
        &["a", "b"],
        vec![pod("x", "a", "new", "ready", 5)],
    );
    world.failure = Some(Failure::Held);
    let plan = world.plan();
    assert_eq!(plan.steps, []);
    let status = plan.status.unwrap();
    assert_eq!(
        (status.number_ready, status.number_unavailable),
        (1, Some(1))
    );
    world.revisions.clear();
    let plan = world.plan();
    assert_eq!((plan.steps, plan.status), (vec![], None));
}
