//! Volumes and sandboxes (§1.3, §1.5), and the records that are kept (§2.7).

use super::*;

#[test]
fn volumes_and_sandbox_come_first() {
    let none = |change: fn(&mut Observed)| {
        with(vec![], |s| {
            s.sandboxes.clear();
            change(s);
        })
    };
    let dead = |containers| {
        with(containers, |s| {
            s.sandboxes = vec![sandbox(0, SandboxState::NotReady)]
        })
    };
    let two = with(vec![], |s| {
        s.sandboxes.push(sandbox(1, SandboxState::Ready))
    });
    let no_address = with(vec![], |s| s.sandboxes[0].ips.clear());
    let changed =
        "event Normal SandboxChanged: Pod sandbox changed, it will be killed and re-created.";
    let replaced: &'static str =
        Box::leak(format!("{changed}\ncreate sandbox #1").into_boxed_str());
    let replaced_live: &'static str =
        Box::leak(format!("stop sandbox sandbox-0\n{changed}\ncreate sandbox #1").into_boxed_str());
    let both: &'static str = Box::leak(
        format!("stop sandbox sandbox-1\nstop sandbox sandbox-0\n{changed}\ncreate sandbox #2")
            .into_boxed_str(),
    );
    check(vec![
        (
            "volumes before the sandbox §1.3",
            one(),
            none(|s| s.volumes = VolumesSeen::Pending),
            0,
            "set up volumes",
            None,
        ),
        (
            "failed volumes wait §1.3",
            one(),
            none(|s| s.volumes = VolumesSeen::Failed { retry_at: at(9) }),
            5,
            "",
            Some(9),
        ),
        (
            "failed volumes are retried §1.3",
            one(),
            none(|s| s.volumes = VolumesSeen::Failed { retry_at: at(9) }),
            9,
            "set up volumes",
            None,
        ),
        (
            "a first sandbox §1.5",
            one(),
            none(|_| ()),
            0,
            "create sandbox #0",
            None,
        ),
        (
            "a failed sandbox waits",
            one(),
            none(|s| {
                s.memory.retry = Some(Retry {
                    phase: WorkerPhase::Syncing,
                    at: at(10),
                })
            }),
            5,
            "",
            Some(10),
        ),
        (
            "a dead sandbox is replaced §1.5",
            one(),
            dead(vec![]),
            5,
            replaced,
            None,
        ),
        (
            "a dead sandbox is replaced after restarts §1.5",
            one(),
            dead(vec![exited("a", 0, 1, 2, 137)]),
            5,
            replaced,
            None,
        ),
        (
            "a sandbox without address is replaced §1.5",
            one(),
            no_address,
            5,
            replaced_live,
            None,
        ),
        (
            "of two live sandboxes none is kept §1.5",
            one(),
            two,
            5,
            both,
            None,
        ),
        (
            "what runs in a sandbox is stopped before it is replaced §1.5",
            one(),
            dead(vec![running("a", 0, 1)]),
            5,
            "stop container a (a-0) within 30 s: Stopping container a",
            None,
        ),
        (
            "another network mode replaces without an event §1.5",
            one(),
            with(vec![], |s| {
                s.sandboxes[0].namespaces.network = cri::NamespaceMode::Node
            }),
            5,
            "stop sandbox sandbox-0\ncreate sandbox #1",
            None,
        ),
        (
            "an event that was told is not repeated §1.5",
            one(),
            with(vec![], |s| {
                s.sandboxes = vec![sandbox(0, SandboxState::NotReady)];
                s.memory.told.insert("sandbox/1".to_owned());
            }),
            5,
            "create sandbox #1",
            None,
        ),
    ]);
}

#[test]
fn a_pod_that_is_done_or_never_restarts_gets_no_other_sandbox() {
    let dead = |containers| {
        with(containers, |s| {
            s.sandboxes = vec![sandbox(0, SandboxState::NotReady)]
        })
    };
    let rows = [
        (
            "Never §1.5",
            pod().policy("Never").init("i").app("a"),
            dead(vec![exited("i", 0, 1, 2, 0)]),
        ),
        (
            "OnFailure, all ended well §1.5",
            pod().policy("OnFailure").app("a"),
            dead(vec![exited("a", 0, 1, 2, 0)]),
        ),
    ];
    for (name, pod, seen) in rows {
        let plan = planned(pod, &seen, 5);
        assert_eq!(plan.phase, WorkerPhase::Terminated, "{name}");
        assert_eq!((plan.steps.len(), plan.wake_at), (0, Some(at(5))), "{name}");
    }
}

#[test]
fn old_records_go() {
    let three = vec![
        exited("a", 0, 1, 2, 1),
        exited("a", 1, 3, 4, 1),
        running("a", 2, 5),
    ];
    let moved = |mut record: ContainerStatus| {
        record.sandbox_id = testkit::sandbox_id(1);
        record
    };
    let replaced = with(
        vec![moved(exited("a", 1, 3, 4, 1)), moved(running("a", 2, 5))],
        |s| {
            s.sandboxes = vec![
                sandbox(0, SandboxState::NotReady),
                sandbox(1, SandboxState::Ready),
            ];
        },
    );
    check(vec![
        (
            "all but the newest two §2.7",
            one(),
            seen(three),
            6,
            "remove a-0",
            None,
        ),
        (
            "empty sandboxes that were replaced §2.7",
            one(),
            replaced,
            6,
            "remove sandbox sandbox-0",
            None,
        ),
    ]);
}
