//! Pods whose containers simply run, end and start again.

use super::*;

#[test]
fn a_pod_that_ends_well() {
    let world = lived(
        pod().policy("Never").app("a"),
        &[("a", &[Run::ends(1, 0)])],
        10,
    );
    shows(
        &world,
        &lines("Succeeded", &COMPLETED, &["a #0: terminated Completed 0"]),
    );
    assert_eq!(world.watch.events, start_events("spec.containers{a}"));
    assert_eq!(world.watch.phases, ["Pending", "Running", "Succeeded"]);
}

#[test]
fn the_last_exit_is_seen_before_the_pods_end() {
    let mut world = lived(
        pod().policy("Never").app("a"),
        &[("a", &[Run::ends(3, 0)])],
        3,
    );
    let summary = world.summary();
    assert!(summary.starts_with("Running"), "{summary}");
    assert!(
        summary.ends_with("a #0: terminated Completed 0"),
        "{summary}"
    );
    world.run_to(5);
    assert!(
        world.summary().starts_with("Succeeded"),
        "{}",
        world.summary()
    );
}

#[test]
fn a_pod_that_ends_before_its_first_report_was_running() {
    let world = lived(
        pod().policy("Never").app("a"),
        &[("a", &[Run::ends(0, 0)])],
        0,
    );
    let summary = world.summary();
    assert!(summary.starts_with("Running"), "{summary}");
}

#[test]
fn a_pod_that_ends_with_137() {
    let world = lived(
        pod().policy("Never").app("a"),
        &[("a", &[Run::ends(1, 137)])],
        10,
    );
    shows(
        &world,
        &lines("Failed", &FAILED, &["a #0: terminated Error 137"]),
    );
}

#[test]
fn one_of_two_ends_under_never() {
    let world = lived(
        pod().policy("Never").app("a").app("b"),
        &[("a", ON), ("b", &[Run::ends(1, 0)])],
        10,
    );
    let not_ready = [
        "PodReadyToStartContainers=True",
        "Initialized=True",
        "Ready=False ContainersNotReady: containers with unready status: [b]",
        "ContainersReady=False ContainersNotReady: containers with unready status: [b]",
        "PodScheduled=True",
    ];
    shows(
        &world,
        &lines(
            "Running",
            &not_ready,
            &[
                "a #0 ready started: running",
                "b #0: terminated Completed 0",
            ],
        ),
    );
}

#[test]
fn on_failure_restarts_only_the_one_that_failed() {
    let runs = [Run::ends(1, 1), Run::ends(1, 0)];
    let world = lived(
        pod().policy("OnFailure").app("a").app("b"),
        &[("a", &[Run::ends(0, 0)]), ("b", &runs)],
        10,
    );
    let containers = [
        "a #0: terminated Completed 0",
        "b #1: terminated Completed 0, last terminated Error 1",
    ];
    shows(&world, &lines("Succeeded", &COMPLETED, &containers));
    assert_eq!(world.watch.started, ["a#0", "b#0", "b#1"]);
}

#[test]
fn a_crashing_container_backs_off() {
    let mut world = lived(pod().app("a"), &[("a", &[Run::ends(2, 1)])], 3);
    shows(
        &world,
        &lines(
            "Running",
            &READY,
            &["a #1 ready started: running, last terminated Error 1"],
        ),
    );
    world.run_to(6);
    let not_ready = [
        "PodReadyToStartContainers=True",
        "Initialized=True",
        "Ready=False ContainersNotReady: containers with unready status: [a]",
        "ContainersReady=False ContainersNotReady: containers with unready status: [a]",
        "PodScheduled=True",
    ];
    let ended = "a #1: terminated Error 1, last terminated Error 1";
    shows(&world, &lines("Running", &not_ready, &[ended]));
    let mut events = start_events("spec.containers{a}");
    events.push("Warning BackOff spec.containers{a}: Back-off restarting failed container a in pod p_ns(uid)".to_owned());
    assert_eq!(world.watch.events, events);
    // Starts at 0, 2, 14, 36, 78 …: each 0, 10, 20, 40 s after the end of a two-second run.
    world.run_to(80);
    assert_eq!(world.watch.started, ["a#0", "a#1", "a#2", "a#3", "a#4"]);
    // The last run ended at 80; a wait that goes on beyond the resync shows its reason from then on.
    world.run_to(139);
    let ended = "a #4: terminated Error 1, last terminated Error 1";
    shows(&world, &lines("Running", &not_ready, &[ended]));
    world.run_to(141);
    let waiting = "a #4: waiting CrashLoopBackOff (back-off 1m20s restarting failed container=a pod=p_ns(uid)), last terminated Error 1";
    shows(&world, &lines("Running", &not_ready, &[waiting]));
}

#[test]
fn one_bad_image_holds_one_container() {
    let app_b = |p: PodBuilder| p.app("b").image("docker.io/library/nginx:i-do-not-exist");
    let mut world = lived(
        app_b(pod().policy("Never").app("a")),
        &[("a", ON), ("b", &[Run::fails(Starts::NoImage)])],
        5,
    );
    let image = "docker.io/library/nginx:i-do-not-exist";
    let not_ready = [
        "PodReadyToStartContainers=True",
        "Initialized=True",
        "Ready=False ContainersNotReady: containers with unready status: [b]",
        "ContainersReady=False ContainersNotReady: containers with unready status: [b]",
        "PodScheduled=True",
    ];
    let waiting = format!(
        "b #0: waiting ImagePullBackOff (Back-off pulling image \"{image}\": ErrImagePull: no such tag)"
    );
    shows(
        &world,
        &lines(
            "Pending",
            &not_ready,
            &["a #0 ready started: running", &waiting],
        ),
    );
    let mut events = start_events("spec.containers{a}");
    events.extend([
        format!("Normal Pulling spec.containers{{b}}: Pulling image \"{image}\""),
        format!(
            "Warning Failed spec.containers{{b}}: Failed to pull image \"{image}\": no such tag"
        ),
        "Warning Failed spec.containers{b}: Error: ErrImagePull".to_owned(),
        format!("Normal BackOff spec.containers{{b}}: Back-off pulling image \"{image}\""),
        "Warning Failed spec.containers{b}: Error: ImagePullBackOff".to_owned(),
    ]);
    assert_eq!(world.watch.events, events);
    // Another image starts at once, without a look at the old one's back-off.
    world.pod.spec.as_mut().expect("a spec").containers[1].image = Some(BUSYBOX.to_owned());
    world.script("b", &[Run::ends(1, 0)]);
    world.run_to(8);
    shows(
        &world,
        &lines(
            "Running",
            &not_ready,
            &[
                "a #0 ready started: running",
                "b #0: terminated Completed 0",
            ],
        ),
    );
}

#[test]
fn a_program_that_does_not_exist() {
    let world = lived(
        pod().policy("Never").app("a"),
        &[("a", &[Run::fails(Starts::NoProgram)])],
        5,
    );
    shows(
        &world,
        &lines(
            "Failed",
            &FAILED,
            &["a #0: terminated StartError 128 (no such file or directory)"],
        ),
    );
    let world = lived(
        pod().app("a"),
        &[("a", &[Run::fails(Starts::NoProgram)])],
        5,
    );
    assert!(
        world.summary().contains("a #1: waiting RunContainerError"),
        "{}",
        world.summary()
    );
}

#[test]
fn a_missing_config_map_holds_one_container() {
    let mut world = lived(
        pod().app("a").app("b"),
        &[("a", &[Run::fails(Starts::NoConfig), Run::on()])],
        3,
    );
    let not_ready = [
        "PodReadyToStartContainers=True",
        "Initialized=True",
        "Ready=False ContainersNotReady: containers with unready status: [a]",
        "ContainersReady=False ContainersNotReady: containers with unready status: [a]",
        "PodScheduled=True",
    ];
    let containers = [
        "a #0: waiting CreateContainerConfigError (configmap \"c\" not found)",
        "b #0 ready started: running",
    ];
    shows(&world, &lines("Pending", &not_ready, &containers));
    world.seen.memory.changed_at = Some(world.now);
    world.run_to(4);
    shows(
        &world,
        &lines(
            "Running",
            &READY,
            &["a #0 ready started: running", "b #0 ready started: running"],
        ),
    );
}

#[test]
fn a_rule_restarts_a_pod_in_place() {
    let pods = pod()
        .policy("Never")
        .init("i")
        .app("a")
        .own_policy("Never")
        .rule_for_all(&[42])
        .app("b");
    let script: &[(&str, &[Run])] = &[
        ("i", &[Run::ends(1, 0)]),
        ("a", &[Run::ends(2, 42), Run::ends(2, 42), Run::on()]),
    ];
    let mut world = World::new(pods.build(), script);
    world.run_to(60);
    let removed = "(The container is removed because RestartAllContainers in place)";
    let last = format!("last terminated RestartingAllContainers 137 {removed}");
    let restarting = "AllContainersRestarting=False";
    let conditions: Vec<&str> = READY.into_iter().chain([restarting]).collect();
    let want = [
        format!("i #2 ready: terminated Completed 0, {last}"),
        format!("a #2 ready started: running, {last}"),
        format!("b #2 ready started: running, {last}"),
    ];
    let summary = world.summary();
    let lines: Vec<&str> = summary.lines().collect();
    assert_eq!(lines[0], "Running");
    assert_eq!(lines[1..7], conditions);
    assert_eq!(lines[7..], want);
    assert_eq!(
        world.watch.started,
        [
            "i#0", "a#0", "b#0", "i#1", "a#1", "b#1", "i#2", "a#2", "b#2"
        ]
    );
    let killing = "Normal Killing spec.containers{b}: killing".to_owned();
    assert!(
        world.watch.events.contains(&killing),
        "{:?}",
        world.watch.events
    );
}

#[test]
fn an_end_that_policy_would_keep_is_not_shown_of_a_run_that_is_replaced() {
    // A probe ends `a` while `b` holds the agent up; asked to stop, `a` returns 0.
    let sick = Run {
        healthy: (1, 4),
        ..Run::on()
    };
    let slow = Run {
        post_start: (20, false),
        ..Run::on()
    };
    let failing = Run {
        lasts: Some(1),
        code: 1,
        ..Run::on()
    };
    let pods = pod()
        .app("a")
        .liveness(testkit::probe(2, 1))
        .app("b")
        .post_start();
    let scripts: &[(&str, &[Run])] = &[("a", &[sick, Run::on()]), ("b", &[failing, slow])];
    let world = lived(pods.policy("OnFailure"), scripts, 60);
    let summary = world.summary();
    assert!(
        summary.contains("a #1 ready started: running, last terminated Completed 0"),
        "{summary}"
    );
}
