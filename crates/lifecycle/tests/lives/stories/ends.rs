//! Pods that are stopped, replaced, or held up by their image.

use super::*;

#[test]
fn a_deadline_fails_the_pod_after_its_containers_stopped() {
    let world = lived(pod().deadline(3).app("a").grace(5), &[], 10);
    shows(
        &world,
        &lines("Failed", &FAILED, &["a #0: terminated Completed 0"]),
    );
    let status = world.pod.status.clone().unwrap_or_default();
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(
        status.message.as_deref(),
        Some("Pod was active on the node longer than the specified deadline")
    );
    let events: Vec<_> = world
        .watch
        .events
        .iter()
        .skip(3)
        .map(String::as_str)
        .collect();
    let want = [
        "Normal DeadlineExceeded: Pod was active on the node longer than the specified deadline",
        "Normal Killing spec.containers{a}: Stopping container a",
    ];
    assert_eq!(events, want);
}

#[test]
fn images_that_are_not_asked_for() {
    let row = |pods: PodBuilder, reason: &str, message: &str, events: [&str; 2]| {
        let world = lived(pods, &[("a", &[Run::fails(Starts::NoImage)])], 2);
        assert!(
            world
                .summary()
                .ends_with(&format!("a #0: waiting {reason} ({message})")),
            "{}",
            world.summary()
        );
        assert_eq!(world.watch.events, events);
    };
    let missing = "Container image \"docker.io/library/busybox:1.36\" is not present with pull policy of Never";
    row(
        pod().app("a").pull("Never"),
        "ErrImageNeverPull",
        missing,
        [
            &format!("Warning ErrImageNeverPull spec.containers{{a}}: {missing}"),
            "Warning Failed spec.containers{a}: Error: ErrImageNeverPull",
        ],
    );
    let bad = "Failed to apply default image tag \"Bad Name\": couldn't parse image name \"Bad Name\": invalid reference format: repository name (library/Bad Name) must be lowercase";
    row(
        pod().app("a").image("Bad Name"),
        "InvalidImageName",
        bad,
        [
            &format!("Warning InspectFailed spec.containers{{a}}: {bad}"),
            "Warning Failed spec.containers{a}: Error: InvalidImageName",
        ],
    );
}

#[test]
fn a_container_that_ignores_its_stop_signal_is_killed() {
    let deaf = Run {
        on_stop: None,
        ..Run::on()
    };
    let mut world = lived(pod().app("a").grace(2), &[("a", &[deaf])], 5);
    world.outside(Outside::Delete(2));
    world.run_to(20);
    assert_eq!(world.watch.phases, ["Pending", "Running", "Failed"]);
    assert!(world.seen.gone);
}

#[test]
fn a_force_deleted_pod_leaves_nothing() {
    let deaf = Run {
        on_stop: None,
        ..Run::on()
    };
    let mut world = lived(pod().app("a"), &[("a", &[deaf])], 5);
    world.outside(Outside::Force);
    world.run_to(8);
    assert!(world.seen.containers.is_empty() && world.seen.sandboxes.is_empty());
    assert_eq!(
        world.watch.events.last().map(String::as_str),
        Some("Normal Killing spec.containers{a}: Stopping container a")
    );
}

#[test]
fn a_pod_deleted_before_anything_started_fails() {
    let mut world = lived(
        pod().app("a").image("no-such"),
        &[("a", &[Run::fails(Starts::NoImage)])],
        3,
    );
    world.outside(Outside::Delete(30));
    world.run_to(3);
    let lost = "a #0: terminated ContainerStatusUnknown 137 (The container could not be located when the pod was terminated)";
    shows(&world, &lines("Failed", &FAILED, &[lost]));
    assert!(world.seen.gone);
}

#[test]
fn a_dead_sandbox_is_replaced_and_init_containers_run_again() {
    let mut world = lived(
        pod().init("i").sidecar("side").app("app"),
        &[("i", &[Run::ends(0, 0)])],
        5,
    );
    world.outside(Outside::SandboxDies);
    world.run_to(20);
    assert_eq!(
        world.watch.started,
        ["i#0", "side#0", "app#0", "i#1", "side#1", "app#1"],
        "§1.5"
    );
    let event = "Normal SandboxChanged: Pod sandbox changed, it will be killed and re-created.";
    assert!(
        world.watch.events.iter().any(|e| e == event),
        "{:?}",
        world.watch.events
    );
}

#[test]
fn an_agent_that_dies_picks_up_where_it_was() {
    for steps in 0..12 {
        let mut world = World::new(
            pod().init("i").sidecar("side").app("app").grace(5).build(),
            &[("i", &[Run::ends(1, 0)])],
        );
        world.outside(Outside::AgentDies(steps));
        world.run_to(10);
        assert_eq!(
            world.watch.started,
            ["i#0", "side#0", "app#0"],
            "died after {steps} steps"
        );
        world.outside(Outside::Delete(5));
        world.run_to(20);
        assert!(
            world.seen.gone && world.seen.sandboxes.is_empty(),
            "died after {steps} steps"
        );
    }
}

#[test]
fn a_failed_post_start_hook_shows_when_its_run_has_ended() {
    let first = Run {
        post_start: (2, true),
        hook: 3,
        on_stop: Some((1, 143)),
        ..Run::on()
    };
    let pods = || pod().app("a").post_start().pre_stop().app("b");
    let at = |second| lived(pods(), &[("a", &[first, Run::on()])], second);
    let shows_a = |second, line: &str| {
        let summary = at(second).summary();
        let found = summary.lines().find(|line| line.starts_with("a #"));
        assert_eq!(found, Some(line), "at {second}");
    };
    shows_a(1, "a #0: waiting ContainerCreating");
    shows_a(5, "a #0: waiting ContainerCreating");
    shows_a(
        6,
        "a #0: waiting PostStartHookError (the postStart hook of container a failed, as supposed), last terminated Error 143",
    );
    let world = at(8);
    shows_a(8, "a #1 ready started: running, last terminated Error 143");
    let path = "spec.containers{a}";
    let of_hooks = [
        format!("Warning FailedPostStartHook {path}: PostStartHook failed"),
        format!("Normal Killing {path}: FailedPostStartHook"),
    ];
    let events = &world.watch.events;
    let (a, b) = (start_events(path), start_events("spec.containers{b}"));
    assert_eq!(*events, [a, of_hooks.into(), b].concat());
    // The other container waits for the hook, and not for the end of the run.
    assert_eq!(world.watch.started, ["a#0", "b#0", "a#1"]);
}

#[test]
fn a_container_that_never_ran_gets_its_end_once() {
    let pods = pod().deadline(3).app("a").app("b");
    let world = lived(pods, &[("a", &[Run::fails(Starts::NoImage)])], 10);
    let lost = "The container could not be located when the pod was terminated";
    shows(
        &world,
        &lines(
            "Failed",
            &FAILED,
            &[
                &format!("a #0: terminated ContainerStatusUnknown 137 ({lost})"),
                "b #0: terminated Completed 0",
            ],
        ),
    );
}

#[test]
fn a_restart_goes_on_although_the_agent_died_in_it() {
    // A probe ends each run, and asked to stop it returns 0, which its policy alone would leave at that.
    let sick = Run {
        healthy: (4, 5),
        ..Run::on()
    };
    let pods = pod().app("a").liveness(testkit::probe(2, 2)).app("b");
    let mut world = World::new(pods.policy("OnFailure").build(), &[("a", &[sick])]);
    world.run_to(16);
    world.outside(Outside::AgentDies(5));
    world.run_to(60);
    assert_eq!(world.watch.agent_deaths, 1);
    assert_eq!(world.watch.phases, ["Pending", "Running"]);
    assert!(world.watch.started.len() > 3, "{:?}", world.watch.started);
}

#[test]
fn what_ended_while_another_started_runs_no_hook() {
    let failing = Run {
        post_start: (0, true),
        ..Run::on()
    };
    let slow = |seconds| Run {
        post_start: (seconds, false),
        ..Run::on()
    };
    let sick = Run {
        healthy: (4, 4),
        ..Run::ends(7, 0)
    };
    let pods = pod()
        .app("a")
        .post_start()
        .app("b")
        .startup(testkit::probe(1, 3))
        .pre_stop();
    let pods = pods.app("c").post_start().grace(0);
    let scripts: &[(&str, &[Run])] = &[
        ("a", &[failing, slow(6)]),
        ("b", &[sick]),
        ("c", &[slow(3)]),
    ];
    let world = lived(pods, scripts, 60);
    // The world has checked that no hook began in what had ended.
    assert!(
        world.watch.started.contains(&"b#1".to_owned()),
        "{:?}",
        world.watch.started
    );
}

#[test]
fn a_restart_that_a_deletion_abandons_is_seen() {
    // A probe has ended the run before, which returned 0.
    let sick = Run {
        hook: 5,
        post_start: (1, false),
        healthy: (4, 26),
        ..Run::on()
    };
    let slow = Run {
        post_start: (7, false),
        ..Run::on()
    };
    let pods = pod().app("a").liveness(testkit::probe(2, 2)).pre_stop();
    let pods = pods.post_start().policy("OnFailure").grace(5);
    let mut world = World::new(pods.build(), &[("a", &[sick, slow])]);
    world.run_to(34);
    world.outside(Outside::Delete(1));
    world.run_to(60);
    assert!(world.seen.gone);
    assert_eq!(world.watch.started, ["a#0", "a#1"]);
}

#[test]
fn a_pod_that_ends_shows_ends_and_not_why_it_would_have_waited() {
    // Its own policy goes on, and the Pod's does not once the sandbox is gone.
    let run = Run {
        post_start: (0, true),
        ..Run::ends(0, 0)
    };
    let pods = pod().policy("Never").grace(0).app("a");
    let pods = pods.own_policy("Always").post_start();
    let mut world = World::new(pods.build(), &[("a", &[run])]);
    world.run_to(71);
    world.outside(Outside::AgentDies(4));
    world.run_to(151);
    world.outside(Outside::SandboxDies);
    world.run_to(160);
    assert_eq!(world.watch.agent_deaths, 1);
    let end = "a #5: terminated Completed 0, last terminated Completed 0";
    shows(&world, &lines("Succeeded", &COMPLETED, &[end]));
}
