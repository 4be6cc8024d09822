//! Which Pods come, go and are updated.

use super::*;

#[test]
fn pods_come_and_go_one_after_the_other() {
    type Row<'a> = (i32, &'a [State], &'a [&'a str]);
    let rows: [Row<'_>; 15] = [
        (3, &[], &["make web-0"]),
        (3, &[Pending], &[]),
        (3, &[Ready], &["make web-1"]),
        (3, &[Ready, Leaving], &[]),
        (3, &[Ready, Failed, Ready], &["delete web-1"]),
        (3, &[Ready, Ready, Ready], &[]),
        (1, &[Ready, Ready, Ready], &["delete web-2"]),
        (1, &[Ready, Ready, Leaving], &[]),
        (1, &[Pending, Ready, Ready], &[]),
        (1, &[Ready, Pending, Ready], &["delete web-2"]),
        (1, &[Ready, Pending, Pending], &[]),
        (1, &[Ready, Ready, Pending], &["delete web-2"]),
        (1, &[Ready, Failed, Failed], &["delete web-2"]),
        (1, &[Ready, Leaving, Pending], &[]),
        (0, &[Ready], &["delete web-0"]),
    ];
    for (replicas, states, expected) in rows {
        let mut set = set(replicas, json!({}));
        let steps = World::of(states).steps(&set);
        assert_eq!(steps, expected, "{replicas} of {}", states.len());
        set.metadata.deletion_timestamp = Some(Time(at(0)));
        assert!(World::of(states).steps(&set).is_empty(), "the set goes");
    }
}

#[test]
fn in_parallel_all_is_done_at_once() {
    type Row<'a> = (i32, &'a [State], &'a [&'a str]);
    let rows: [Row<'_>; 5] = [
        (3, &[], &["make web-0", "make web-1", "make web-2"]),
        (3, &[Pending], &["make web-1", "make web-2"]),
        (3, &[Failed, Leaving], &["delete web-0", "make web-2"]),
        (
            1,
            &[Pending, Pending, Ready],
            &["delete web-2", "delete web-1"],
        ),
        (1, &[Ready, Ready, Leaving], &["delete web-1"]),
    ];
    for (replicas, states, expected) in rows {
        let set = set(replicas, json!({"podManagementPolicy": "Parallel"}));
        assert_eq!(World::of(states).steps(&set), expected);
    }
    let many = set(i32::MAX, json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(World::of(&[]).steps(&many).len(), BURST);
}

#[test]
fn updates_go_from_the_last_to_the_partition() {
    let strategy = |partition: i32| {
        json!({
            "template": template("2"),
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
        })
    };
    let updated = |images: [&str; 3], states: [State; 3]| {
        let pods = (0..).zip(images.into_iter().zip(states));
        World {
            pods: pods
                .map(|(n, (image, state))| pod(n, image, state))
                .collect(),
            revisions: vec![revision("1", 1), revision("2", 2)],
            ..World::default()
        }
    };
    type Row<'a> = (i32, [&'a str; 3], [State; 3], &'a [&'a str]);
    let rows: [Row<'_>; 8] = [
        (0, ["1", "1", "1"], [Ready; 3], &["delete web-2"]),
        (0, ["1", "1", "2"], [Ready; 3], &["delete web-1"]),
        (0, ["1", "1", "1"], [Ready, Ready, Leaving], &[]),
        (0, ["1", "1", "2"], [Ready, Ready, Pending], &[]),
        (0, ["2", "2", "2"], [Ready; 3], &[]),
        (2, ["1", "1", "1"], [Ready; 3], &["delete web-2"]),
        (2, ["1", "1", "2"], [Ready; 3], &[]),
        (9, ["1", "1", "1"], [Ready; 3], &[]),
    ];
    for (partition, images, states, expected) in rows {
        let world = updated(images, states);
        let steps = world.steps(&set(3, strategy(partition)));
        assert_eq!(steps, expected, "{partition} {images:?}");
    }
    let by_hand = json!({"template": template("2"), "updateStrategy": {"type": "OnDelete"}});
    let world = updated(["1", "1", "1"], [Ready; 3]);
    assert!(world.steps(&set(3, by_hand)).is_empty());
    let mut parallel = strategy(0);
    parallel["podManagementPolicy"] = json!("Parallel");
    let world = updated(["1", "1", "1"], [Pending, Ready, Failed]);
    let parallel = set(3, parallel);
    assert_eq!(world.steps(&parallel), ["delete web-2"], "once");
    let world = updated(["1", "1", "2"], [Ready, Ready, Pending]);
    assert!(world.steps(&parallel).is_empty(), "one at a time");
}

#[test]
fn what_is_selected_and_named_so_is_taken_over() {
    let mut world = World::of(&[Ready, Ready]);
    world.revisions.push(revision("0", 0));
    world.pods[0].metadata.owner_references = None;
    world.revisions[1].metadata.owner_references = None;
    world.pods[1].metadata.labels = None;
    let mut odd = pod(7, "1", Ready);
    odd.metadata.name = Some("other-7".into());
    let mut orphan = odd.clone();
    orphan.metadata.owner_references = None;
    world.pods.extend([odd, orphan]);
    let of_revision = format!("adopt {}", revision_name("0"));
    let expected = [
        &*of_revision,
        "adopt web-0",
        "release web-1",
        "release other-7",
    ];
    let mut set = set(2, json!({}));
    assert_eq!(world.steps(&set), expected);
    set.metadata.deletion_timestamp = Some(Time(at(0)));
    assert!(world.steps(&set).is_empty());
}

#[test]
fn nothing_is_done_while_a_failure_is_held() {
    let mut world = World::of(&[Ready]);
    world.failure = Some(Failure::Step);
    let plan = world.plan(&set(3, json!({})));
    assert_eq!(plan.steps, []);
    assert_eq!(plan.status.unwrap().replicas, 1);
}
