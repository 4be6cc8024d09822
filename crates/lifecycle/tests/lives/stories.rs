//! Whole lives of Pods. What is reported at the end, and the events on the way, are those upstream 1.36 showed for the same
//! Pods.

use testkit::{PodBuilder, pod};

use crate::world::{Outside, Run, Starts, World};

const BUSYBOX: &str = "docker.io/library/busybox:1.36";
const ON: &[Run] = &[Run::on()];

/// Lives until `second`.
fn lived(pod: PodBuilder, scripts: &[(&str, &[Run])], second: i64) -> World {
    let mut world = World::new(pod.build(), scripts);
    world.run_to(second);
    world
}

#[track_caller]
fn shows(world: &World, lines: &[&str]) {
    assert_eq!(world.summary().lines().collect::<Vec<_>>(), lines);
}

/// Events of a container that is started from an image that is here.
fn start_events(path: &str) -> Vec<String> {
    vec![
        format!(
            "Normal Pulled {path}: Container image \"{BUSYBOX}\" already present on machine and can be accessed by the pod"
        ),
        format!("Normal Created {path}: Container created"),
        format!("Normal Started {path}: Container started"),
    ]
}

const COMPLETED: [&str; 5] = [
    "PodReadyToStartContainers=False",
    "Initialized=True PodCompleted",
    "Ready=False PodCompleted",
    "ContainersReady=False PodCompleted",
    "PodScheduled=True",
];
const FAILED: [&str; 5] = [
    "PodReadyToStartContainers=False",
    "Initialized=True",
    "Ready=False PodFailed",
    "ContainersReady=False PodFailed",
    "PodScheduled=True",
];
const READY: [&str; 5] = [
    "PodReadyToStartContainers=True",
    "Initialized=True",
    "Ready=True",
    "ContainersReady=True",
    "PodScheduled=True",
];

fn lines<'a>(phase: &'a str, conditions: &[&'a str], containers: &[&'a str]) -> Vec<&'a str> {
    [&[phase], conditions, containers].concat()
}

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
    assert_eq!(world.events, start_events("spec.containers{a}"));
    assert_eq!(world.watcher.phases, ["Pending", "Running", "Succeeded"]);
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
    assert_eq!(world.watcher.started, ["a#0", "b#0", "b#1"]);
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
    assert_eq!(world.events, events);
    // Starts at 0, 2, 14, 36, 78 …: each 0, 10, 20, 40 s after the end of a two-second run.
    world.run_to(80);
    assert_eq!(world.watcher.started, ["a#0", "a#1", "a#2", "a#3", "a#4"]);
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
    assert_eq!(world.events, events);
    // Another image starts at once, without a look at the old one's back-off.
    world.pod.spec.as_mut().expect("a spec").containers[1].image = Some(BUSYBOX.to_owned());
    world.scripts.insert("b".to_owned(), vec![Run::ends(1, 0)]);
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
fn a_failing_init_container_under_never() {
    let pods = pod()
        .policy("Never")
        .init("ok")
        .init("bad")
        .init("later")
        .app("app");
    let world = lived(
        pods,
        &[("ok", &[Run::ends(1, 0)]), ("bad", &[Run::ends(1, 3)])],
        10,
    );
    let conditions = [
        "PodReadyToStartContainers=False",
        "Initialized=False ContainersNotInitialized: containers with incomplete status: [bad later]",
        "Ready=False PodFailed",
        "ContainersReady=False PodFailed",
        "PodScheduled=True",
    ];
    let containers = [
        "ok #0 ready: terminated Completed 0",
        "bad #0: terminated Error 3",
        "later #0: waiting PodInitializing",
        "app #0: waiting PodInitializing",
    ];
    shows(&world, &lines("Failed", &conditions, &containers));
    assert_eq!(
        world.events,
        [
            start_events("spec.initContainers{ok}"),
            start_events("spec.initContainers{bad}")
        ]
        .concat()
    );
}

#[test]
fn an_init_container_without_image() {
    let pods = pod()
        .init("ok")
        .init("bad")
        .image("docker.io/library/busybox:no-such-tag")
        .app("app");
    let world = lived(
        pods,
        &[
            ("ok", &[Run::ends(1, 0)]),
            ("bad", &[Run::fails(Starts::NoImage)]),
        ],
        5,
    );
    let conditions = [
        "PodReadyToStartContainers=True",
        "Initialized=False ContainersNotInitialized: containers with incomplete status: [bad]",
        "Ready=False ContainersNotReady: containers with unready status: [app]",
        "ContainersReady=False ContainersNotReady: containers with unready status: [app]",
        "PodScheduled=True",
    ];
    let bad = "bad #0: waiting ImagePullBackOff (Back-off pulling image \"docker.io/library/busybox:no-such-tag\": ErrImagePull: no such tag)";
    shows(
        &world,
        &lines(
            "Pending",
            &conditions,
            &[
                "ok #0 ready: terminated Completed 0",
                bad,
                "app #0: waiting PodInitializing",
            ],
        ),
    );
}

#[test]
fn a_sidecar_without_image_holds_the_pod() {
    let pods = pod()
        .sidecar("side")
        .image("docker.io/library/busybox:no-such-tag")
        .app("app");
    let world = lived(pods, &[("side", &[Run::fails(Starts::NoImage)])], 5);
    let conditions = [
        "PodReadyToStartContainers=True",
        "Initialized=False ContainersNotInitialized: containers with incomplete status: [side]",
        "Ready=False ContainersNotReady: containers with unready status: [side app]",
        "ContainersReady=False ContainersNotReady: containers with unready status: [side app]",
        "PodScheduled=True",
    ];
    let side = "side #0: waiting ImagePullBackOff (Back-off pulling image \"docker.io/library/busybox:no-such-tag\": ErrImagePull: no such tag)";
    shows(
        &world,
        &lines(
            "Pending",
            &conditions,
            &[side, "app #0: waiting PodInitializing"],
        ),
    );
}

#[test]
fn three_init_containers_run_in_order_and_the_pod_is_deleted() {
    let pods = pod()
        .init("one")
        .init("two")
        .init("three")
        .app("app")
        .grace(5);
    let quick: &[Run] = &[Run::ends(1, 0)];
    let mut world = lived(
        pods,
        &[("one", quick), ("two", quick), ("three", quick)],
        10,
    );
    let done = |name: &str| format!("{name} #0 ready: terminated Completed 0");
    let containers = [
        done("one"),
        done("two"),
        done("three"),
        "app #0 ready started: running".to_owned(),
    ];
    shows(
        &world,
        &lines(
            "Running",
            &READY,
            &containers.iter().map(String::as_str).collect::<Vec<_>>(),
        ),
    );
    world.outside(Outside::Delete(5));
    world.run_to(20);
    assert!(world.seen.gone && world.seen.containers.is_empty() && world.seen.sandboxes.is_empty());
    assert_eq!(
        world.events.last().map(String::as_str),
        Some("Normal Killing spec.containers{app}: Stopping container app")
    );
    assert_eq!(world.watcher.phases, ["Pending", "Running", "Succeeded"]);
}

#[test]
fn an_init_container_under_on_failure_tries_until_it_succeeds() {
    let runs = [Run::ends(0, 1), Run::ends(0, 1), Run::ends(0, 0)];
    let world = lived(
        pod().policy("OnFailure").init("third").app("app"),
        &[("third", &runs), ("app", &[Run::ends(0, 0)])],
        30,
    );
    let containers = [
        "third #2 ready: terminated Completed 0, last terminated Error 1",
        "app #0: terminated Completed 0",
    ];
    shows(&world, &lines("Succeeded", &COMPLETED, &containers));
    let back_off = "Warning BackOff spec.initContainers{third}: Back-off restarting failed container third in pod p_ns(uid)";
    assert!(
        world.events.iter().any(|e| e == back_off),
        "{:?}",
        world.events
    );
}

#[test]
fn init_containers_run_once_although_the_app_restarts() {
    let world = lived(
        pod().init("i").app("app"),
        &[("i", &[Run::ends(0, 0)]), ("app", &[Run::ends(2, 1)])],
        40,
    );
    assert_eq!(
        world.watcher.started,
        ["i#0", "app#0", "app#1", "app#2", "app#3"]
    );
}

#[test]
fn a_failed_app_fails_the_pod_whatever_its_sidecar_returns() {
    let pods = || pod().policy("Never").sidecar("side").app("app").grace(5);
    let world = lived(pods(), &[("side", ON), ("app", &[Run::ends(1, 4)])], 10);
    shows(
        &world,
        &lines(
            "Failed",
            &FAILED,
            &[
                "side #0: terminated Completed 0",
                "app #0: terminated Error 4",
            ],
        ),
    );
    assert_eq!(
        world.events.last().map(String::as_str),
        Some("Normal Killing spec.initContainers{side}: Stopping container side")
    );
    let bad_side = Run {
        on_stop: Some((0, 7)),
        ..Run::on()
    };
    let world = lived(
        pods(),
        &[("side", &[bad_side]), ("app", &[Run::ends(1, 0)])],
        10,
    );
    shows(
        &world,
        &lines(
            "Succeeded",
            &COMPLETED,
            &[
                "side #0: terminated Error 7",
                "app #0: terminated Completed 0",
            ],
        ),
    );
    assert_eq!(world.watcher.phases, ["Pending", "Running", "Succeeded"]);
}

#[test]
fn a_pod_with_a_running_sidecar_is_running_until_it_is_stopped() {
    let slow = Run {
        on_stop: None,
        ..Run::on()
    };
    let world = lived(
        pod().policy("Never").sidecar("side").app("app").grace(5),
        &[("side", &[slow]), ("app", &[Run::ends(1, 0)])],
        3,
    );
    let conditions = [
        "PodReadyToStartContainers=True",
        "Initialized=True",
        "Ready=False ContainersNotReady: containers with unready status: [app]",
        "ContainersReady=False ContainersNotReady: containers with unready status: [app]",
        "PodScheduled=True",
    ];
    shows(
        &world,
        &lines(
            "Running",
            &conditions,
            &[
                "side #0 ready started: running",
                "app #0: terminated Completed 0",
            ],
        ),
    );
}

#[test]
fn a_crashing_sidecar_restarts_alone() {
    let world = lived(
        pod().sidecar("side").app("app"),
        &[("side", &[Run::ends(2, 5)])],
        15,
    );
    assert_eq!(
        world.watcher.started,
        ["side#0", "app#0", "side#1", "side#2"]
    );
    assert!(
        world
            .events
            .iter()
            .any(|e| e.starts_with("Warning BackOff spec.initContainers{side}:"))
    );
}

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
    let events: Vec<_> = world.events.iter().skip(3).map(String::as_str).collect();
    let want = [
        "Normal DeadlineExceeded: Pod was active on the node longer than the specified deadline",
        "Normal Killing spec.containers{a}: Stopping container a",
    ];
    assert_eq!(events, want);
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
        assert_eq!(world.events, events);
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
    assert_eq!(world.watcher.phases, ["Pending", "Running", "Failed"]);
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
        world.events.last().map(String::as_str),
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
        world.watcher.started,
        ["i#0", "side#0", "app#0", "i#1", "side#1", "app#1"],
        "§1.5"
    );
    let event = "Normal SandboxChanged: Pod sandbox changed, it will be killed and re-created.";
    assert!(
        world.events.iter().any(|e| e == event),
        "{:?}",
        world.events
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
            world.watcher.started,
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
