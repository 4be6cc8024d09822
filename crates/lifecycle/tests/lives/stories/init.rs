//! Pods with init containers and sidecars.

use super::*;

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
        world.watch.events,
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
        world.watch.events.last().map(String::as_str),
        Some("Normal Killing spec.containers{app}: Stopping container app")
    );
    assert_eq!(world.watch.phases, ["Pending", "Running", "Succeeded"]);
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
        world.watch.events.iter().any(|e| e == back_off),
        "{:?}",
        world.watch.events
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
        world.watch.started,
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
        world.watch.events.last().map(String::as_str),
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
    assert_eq!(world.watch.phases, ["Pending", "Running", "Succeeded"]);
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
    assert_eq!(world.watch.started, ["side#0", "app#0", "side#1", "side#2"]);
    assert!(
        world
            .watch
            .events
            .iter()
            .any(|e| e.starts_with("Warning BackOff spec.initContainers{side}:"))
    );
}
