//! Init containers and sidecars (§1.6).

use super::*;

#[test]
fn init_containers_run_in_order() {
    let done = || exited("one", 0, 1, 2, 0);
    let side = || running("side", 0, 3);
    let two = || exited("two", 0, 4, 5, 0);
    check(vec![
        (
            "the first init container §1.6",
            chain(),
            seen(vec![]),
            0,
            "start init container one #0",
            None,
        ),
        (
            "nothing while it runs §1.6",
            chain(),
            seen(vec![running("one", 0, 1)]),
            2,
            "",
            None,
        ),
        (
            "then the sidecar §1.6",
            chain(),
            seen(vec![done()]),
            2,
            "start sidecar side #0",
            None,
        ),
        (
            "then the next §1.6",
            chain(),
            seen(vec![done(), side()]),
            3,
            "start init container two #0",
            None,
        ),
        (
            "then the app §1.7",
            chain(),
            seen(vec![done(), side(), two()]),
            5,
            "start container app #0",
            None,
        ),
        (
            "then nothing",
            chain(),
            seen(vec![done(), side(), two(), running("app", 0, 6)]),
            7,
            "",
            None,
        ),
        (
            "a dead sidecar restarts beside a running init container §1.6",
            chain(),
            seen(vec![
                done(),
                exited("side", 0, 3, 4, 1),
                running("two", 0, 4),
            ]),
            5,
            "start sidecar side #1",
            None,
        ),
        (
            "a dead sidecar restarts alone §1.6",
            chain(),
            seen(vec![
                done(),
                exited("side", 0, 3, 8, 0),
                two(),
                running("app", 0, 6),
            ]),
            8,
            "start sidecar side #1",
            None,
        ),
        (
            "apps restart without waiting for an earlier sidecar §1.6",
            chain(),
            seen(vec![
                done(),
                exited("side", 0, 3, 8, 1),
                two(),
                exited("app", 0, 6, 8, 1),
            ]),
            8,
            "start sidecar side #1\nstart container app #1",
            None,
        ),
        (
            "apps wait for a last sidecar §1.6",
            pod().init("one").sidecar("side").app("app"),
            seen(vec![
                done(),
                exited("side", 0, 3, 8, 1),
                exited("app", 0, 6, 8, 1),
            ]),
            8,
            "start sidecar side #1",
            None,
        ),
        (
            "a failed one is tried again §1.6",
            chain(),
            seen(vec![exited("one", 0, 1, 2, 1)]),
            2,
            "start init container one #1",
            None,
        ),
        (
            "killed for memory is failed even with exit code 0 §1.6",
            chain(),
            with(vec![done()], |s| {
                if let cri::ContainerState::Exited { reason, .. } = &mut s.containers[0].state {
                    *reason = "OOMKilled".to_owned();
                }
            }),
            2,
            "start init container one #1",
            None,
        ),
        (
            "one that was made and not started starts with its number §1.9",
            chain(),
            seen(vec![created("one", 0, 1)]),
            2,
            "remove one-0, keep its log\nstart init container one #0",
            None,
        ),
        (
            "an unknown one is stopped first §1.6",
            chain(),
            seen(vec![unknown("one", 0, 1)]),
            2,
            "stop init container one (one-0) within 30 s: Init container is in \"unknown\" state, try killing it before restart",
            None,
        ),
        (
            "a lost record of a finished one changes nothing §1.6",
            chain(),
            seen(vec![side(), two()]),
            5,
            "start container app #0",
            None,
        ),
        (
            "a new sandbox runs them again §1.5",
            chain(),
            with(
                vec![
                    done(),
                    exited("side", 0, 3, 9, 137),
                    two(),
                    exited("app", 0, 6, 9, 137),
                ],
                |s| {
                    s.sandboxes = vec![
                        sandbox(0, SandboxState::NotReady),
                        sandbox(1, SandboxState::Ready),
                    ];
                },
            ),
            9,
            "start init container one #1",
            None,
        ),
    ]);
}

#[test]
fn an_init_container_that_fails_for_good_ends_the_pod() {
    let pod = pod()
        .policy("Never")
        .sidecar("side")
        .init("bad")
        .app("app")
        .grace(5);
    let plan = planned(
        pod,
        &seen(vec![running("side", 0, 1), exited("bad", 0, 2, 3, 3)]),
        3,
    );
    assert_eq!(
        plan.to_string(),
        "stop sidecar side (side-0) within 5 s: Stopping container side",
        "§1.6"
    );
    assert_eq!(plan.phase, WorkerPhase::Terminating);
    assert_eq!(
        plan.termination,
        Some(Termination {
            since: at(3),
            grace_seconds: 5,
            verdict: None
        })
    );
}
