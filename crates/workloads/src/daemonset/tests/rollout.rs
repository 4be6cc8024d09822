//! Pods of a new template take the places of old ones.

use super::*;

/// Nodes, and of each of its Pods the first letters of revision and state.
type States<'a> = &'a [(&'a str, &'a str)];

/// Pods in these states, named after the node and their place.
fn fleet(nodes: States<'_>) -> Vec<Pod> {
    let mut pods = Vec::new();
    for (node, states) in nodes {
        for (n, state) in states.split_whitespace().enumerate() {
            let hash = if state.starts_with('o') { "old" } else { "new" };
            let state = match &state[1..] {
                "r" => "ready",
                "f" => "Failed",
                _ => "unready",
            };
            let age = 100 - i64::try_from(n).unwrap();
            pods.push(pod(&format!("{node}{n}"), node, hash, state, age));
        }
    }
    pods
}

#[test]
fn so_many_are_replaced_at_a_time() {
    let nodes = |all: &[&'static str]| {
        let names = ["a", "b", "c", "d", "e"];
        names
            .into_iter()
            .zip(all.iter().copied())
            .collect::<Vec<_>>()
    };
    let table: [(Value, Vec<&str>, Vec<&str>); 9] = [
        (json!(1), vec!["or", "or", "or"], vec!["a0"]),
        (json!(2), vec!["or", "or", "or"], vec!["a0", "b0"]),
        (json!("50%"), vec!["or", "or", "or"], vec!["a0", "b0"]),
        // What is not available goes first, and counts.
        (json!(1), vec!["or", "ou", "or"], vec!["b0"]),
        (json!(2), vec!["or", "ou", "or"], vec!["b0", "a0"]),
        // New ones that are not available count.
        (json!(1), vec!["nu", "or", "or"], vec![]),
        (json!(1), vec!["nr", "or", "or"], vec!["b0"]),
        (json!(2), vec!["nu", "ou", "or", "or"], vec!["b0"]),
        // Not even one is one.
        (json!(0), vec!["or", "or"], vec!["a0"]),
    ];
    for (most, states, gone) in table {
        let fleet_of = nodes(&states);
        let names: Vec<&str> = fleet_of.iter().map(|(name, _)| *name).collect();
        let world = world(rolling(json!(0), most.clone()), &names, fleet(&fleet_of));
        println!("{most} {states:?}");
        assert_changes(&world, &gone, &[]);
    }
}

#[test]
fn an_update_waits_until_every_node_has_its_pod() {
    let pods = fleet(&[("a", "or"), ("b", "or")]);
    let mut world = world(rolling(json!(0), json!(2)), &["a", "b", "c"], pods);
    assert_changes(&world, &[], &["c"]);
    // One that goes counts as missing.
    world.pods[0] = leaving(world.pods[0].clone());
    world.pods.extend(fleet(&[("c", "nr")]));
    assert_changes(&world, &["b0"], &[]);
    world.set = rolling(json!(0), json!(1));
    assert_changes(&world, &[], &[]);
}

#[test]
fn nothing_is_replaced_that_nobody_deletes() {
    let set = set(json!({"updateStrategy": {"type": "OnDelete"}}));
    let mut world = world(set, &["a", "b"], fleet(&[("a", "or"), ("b", "ou")]));
    assert_changes(&world, &[], &[]);
    world.pods.remove(0);
    let plan = world.plan();
    let [Step::Create(pods)] = &plan.steps[..] else {
        panic!("{:?}", plan.steps);
    };
    assert_eq!(revision::label(&pods[0].metadata), Some("new"));
}

#[test]
fn with_a_surge_the_new_one_comes_before_the_old_one_goes() {
    let table: [(Value, States<'_>, &[&str], &[&str]); 13] = [
        (json!(1), &[("a", "or"), ("b", "or")], &[], &["a"]),
        (json!("100%"), &[("a", "or"), ("b", "or")], &[], &["a", "b"]),
        (json!(1), &[("a", "or nu"), ("b", "or")], &[], &[]),
        (json!(2), &[("a", "or nu"), ("b", "or")], &[], &["b"]),
        // The new one works, or the old one does not.
        (json!(1), &[("a", "or nr"), ("b", "or")], &["a0"], &[]),
        (json!(1), &[("a", "ou nu"), ("b", "or")], &["a0"], &[]),
        (json!(1), &[("a", "nr"), ("b", "or")], &[], &["b"]),
        // What does not work is replaced besides.
        (json!(1), &[("a", "or"), ("b", "ou")], &[], &["b", "a"]),
        // No third one, and no two of a kind.
        (json!(9), &[("a", "or or nu nu")], &["a3", "a1"], &[]),
        (json!(9), &[("a", "nr nr")], &["a1"], &[]),
        // One that has failed goes first, and is no reason for another.
        (json!(1), &[("a", "or nf")], &["a1"], &[]),
        (json!(1), &[("a", "nf")], &["a0"], &[]),
        (json!(1), &[("a", "")], &[], &["a"]),
    ];
    for (surge, states, gone, served) in table {
        let names: Vec<&str> = states.iter().map(|(name, _)| *name).collect();
        let world = world(rolling(surge.clone(), json!(0)), &names, fleet(states));
        println!("{surge} {states:?}");
        assert_changes(&world, gone, served);
    }
}

#[test]
fn with_a_surge_the_place_of_a_leaving_pod_is_taken() {
    let pods = vec![leaving(pod("x", "a", "new", "ready", 5))];
    let world = world(rolling(json!(1), json!(0)), &["a"], pods);
    assert_changes(&world, &[], &["a"]);
}

#[test]
fn with_a_surge_new_ones_are_to_be_available() {
    let mut world = world(
        rolling(json!(1), json!(0)),
        &["a"],
        vec![
            pod("old", "a", "old", "ready", 50),
            pod("new", "a", "new", "ready", 5),
        ],
    );
    world.set.spec.as_mut().unwrap().min_ready_seconds = Some(10);
    assert_changes(&world, &[], &[]);
    let wake = now() + SignedDuration::from_secs(5);
    assert_eq!(world.plan().wake, Some(wake));
    assert_eq!(changes(&world.plan_at(wake)).0, ["old"]);
}

#[test]
fn with_a_surge_old_ones_leave_nodes_that_are_not_for_them_when_others_work() {
    let pods = fleet(&[("a", "or"), ("b", "nu"), ("c", "or")]);
    let mut world = world(rolling(json!(1), json!(0)), &["b"], pods);
    world.nodes.push(tainted("a", "NoSchedule"));
    world.nodes.push(tainted("c", "NoSchedule"));
    assert_changes(&world, &["a0"], &[]);
    world.pods.remove(0);
    assert_changes(&world, &[], &[]);
    world.pods = fleet(&[("b", "nr"), ("c", "or")]);
    assert_changes(&world, &["c0"], &[]);
    world.pods = fleet(&[("b", "nu"), ("c", "ou")]);
    assert_changes(&world, &["c0"], &[]);
}
