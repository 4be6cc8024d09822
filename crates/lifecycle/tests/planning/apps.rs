//! App containers (§1.7, §1.8).

use super::*;

#[test]
fn app_containers_follow_their_policy() {
    let ended = |code| seen(vec![exited("a", 0, 1, 2, code), running("b", 0, 1)]);
    let two = |policy: &str| pod().policy(policy).app("a").app("b");
    let own = |policy: &str, own: &str| pod().policy(policy).app("a").own_policy(own).app("b");
    let again = "start container a #1";
    check(vec![
        (
            "all at once, in order §1.4",
            two("Always"),
            seen(vec![]),
            0,
            "start container a #0\nstart container b #0",
            None,
        ),
        (
            "Always after success §1.8",
            two("Always"),
            ended(0),
            2,
            again,
            None,
        ),
        (
            "OnFailure after success §1.8",
            two("OnFailure"),
            ended(0),
            2,
            "",
            None,
        ),
        (
            "OnFailure after failure §1.8",
            two("OnFailure"),
            ended(1),
            2,
            again,
            None,
        ),
        (
            "Never after failure §1.8",
            two("Never"),
            ended(1),
            2,
            "",
            None,
        ),
        (
            "the container's own policy wins §1.8",
            own("Never", "Always"),
            ended(0),
            2,
            again,
            None,
        ),
        (
            "and forbids §1.8",
            own("Always", "Never"),
            ended(1),
            2,
            "",
            None,
        ),
        (
            "a rule that matches §1.8",
            pod()
                .policy("Never")
                .app("a")
                .own_policy("Never")
                .rule("In", &[42])
                .app("b"),
            ended(42),
            2,
            again,
            None,
        ),
        (
            "one that does not §1.8",
            pod()
                .policy("Never")
                .app("a")
                .own_policy("Never")
                .rule("In", &[42])
                .app("b"),
            ended(1),
            2,
            "",
            None,
        ),
        (
            "NotIn §1.8",
            pod()
                .policy("Never")
                .app("a")
                .own_policy("Never")
                .rule("NotIn", &[1])
                .app("b"),
            ended(2),
            2,
            again,
            None,
        ),
        (
            "rules need a policy of the container §1.8",
            pod().policy("Never").app("a").rule("In", &[42]).app("b"),
            ended(42),
            2,
            "",
            None,
        ),
        (
            "an unknown one is stopped first §1.7",
            two("Never"),
            seen(vec![unknown("a", 0, 1), running("b", 0, 1)]),
            2,
            "stop container a (a-0) within 30 s: Container is in \"unknown\" state, try killing it before restart",
            None,
        ),
        (
            "and then started §1.8",
            two("Never"),
            with(vec![unknown("a", 0, 1), running("b", 0, 1)], |s| {
                s.memory.stopping.insert(
                    "a-0".to_owned(),
                    Stopping {
                        since: at(2),
                        grace_seconds: 30,
                        then_restart: true,
                    },
                );
            }),
            3,
            again,
            None,
        ),
    ]);
}

#[test]
fn a_changed_image_replaces_the_container() {
    let old = lifecycle::kinds::container_hash(
        &pod().app("a").build().spec.unwrap_or_default().containers[0],
    );
    let marked = |mut record: ContainerStatus| {
        record
            .annotations
            .insert(lifecycle::kinds::HASH_ANNOTATION.to_owned(), old.clone());
        record
    };
    let stopping = |s: &mut Observed| {
        s.memory.stopping.insert(
            "a-0".to_owned(),
            Stopping {
                since: at(2),
                then_restart: true,
                grace_seconds: 30,
            },
        );
    };
    let new = || {
        pod()
            .policy("Never")
            .app("a")
            .image("docker.io/library/busybox:2")
    };
    check(vec![
        (
            "same image §1.7",
            one(),
            seen(vec![marked(running("a", 0, 1))]),
            2,
            "",
            None,
        ),
        (
            "stopped first §1.7",
            new(),
            seen(vec![marked(running("a", 0, 1))]),
            2,
            "stop container a (a-0) within 30 s: Container a definition changed, will be restarted",
            None,
        ),
        (
            "only once §1.7",
            new(),
            with(vec![marked(running("a", 0, 1))], stopping),
            3,
            "",
            None,
        ),
        (
            "then started whatever the policy §1.7",
            new(),
            with(vec![marked(exited("a", 0, 1, 3, 143))], stopping),
            3,
            "start container a #1",
            None,
        ),
        (
            "without the back-off of the old one §4.1",
            pod().app("a").image("docker.io/library/busybox:2"),
            with(vec![marked(exited("a", 4, 1, 3, 1))], |s| {
                s.memory.restarts.insert("a".to_owned(), back_off(80, 1));
            }),
            3,
            "start container a #5",
            None,
        ),
    ]);
}

#[test]
fn the_newest_run_is_the_one_with_the_greatest_number() {
    // The clock was set back after run 0 had ended at second 500.
    let set_back = |newest| seen(vec![exited("a", 0, 490, 500, 1), newest]);
    check(vec![
        (
            "what runs is not started again (invariant 5)",
            pod().app("a"),
            set_back(running("a", 1, 20)),
            30,
            "",
            None,
        ),
        (
            "numbers go on (invariant 12)",
            pod().app("a"),
            set_back(exited("a", 1, 20, 30, 1)),
            30,
            "start container a #2",
            None,
        ),
    ]);
}

#[test]
fn what_was_about_to_start_again_starts() {
    let ended = || vec![exited("a", 0, 1, 9, 0)];
    let pods = || one().policy("OnFailure").app("b");
    let begun = seen([ended(), vec![created("a", 1, 20), running("b", 0, 1)]].concat());
    check(vec![(
        "its number is free §1.9",
        pods(),
        begun.clone(),
        21,
        "remove a-1, keep its log
         start container a #1",
        None,
    )]);
    let plan = planned(pods(), &begun, 21);
    assert_eq!(plan.owed, ["a-0".to_owned()].into());
    // The record that said so is gone.
    let left = with([ended(), vec![running("b", 0, 1)]].concat(), |seen| {
        seen.memory.owed = plan.owed;
    });
    check(vec![(
        "whatever its policy",
        pods(),
        left.clone(),
        21,
        "start container a #1",
        None,
    )]);
    let status = lifecycle::status(&pods().build(), &left, at(21));
    let shown = &status.container_statuses.unwrap_or_default()[0];
    let is_waiting = shown.state.as_ref().is_some_and(|s| s.waiting.is_some());
    assert!(is_waiting, "§3.7: {shown:?}");
}

#[test]
fn who_is_stopped_waits_for_no_start() {
    let pods = one().app("b").liveness(testkit::probe(1, 3)).pre_stop();
    let sick = with(vec![running("b", 0, 1)], |seen| {
        let bad = (
            lifecycle::probe::Kind::Liveness,
            lifecycle::probe::Health::Bad,
        );
        seen.probes.insert("b-0".to_owned(), [bad].into());
    });
    check(vec![(
        "§1.4",
        pods,
        sick,
        9,
        "run the preStop hook to stop container b (b-0) within 30 s: Container b failed liveness probe, will be restarted
         start container a #0",
        None,
    )]);
}
