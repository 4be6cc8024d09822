//! What is planned for a Pod: one base observation, small changes to it, the plan as text.

use cri::{ContainerStatus, SandboxState};
use k8s_openapi::api::core::v1::Pod;
use lifecycle::{
    BackOff, NodePolicy, Observed, Plan, PullBackOff, Retry, StartError, Stopping, Termination,
    VolumesSeen, WorkerPhase, plan,
};
use testkit::{PodBuilder, at, created, exited, pod, running, sandbox, unknown};

/// A look at a Pod whose sandbox and volumes are ready and that has these records.
fn seen(containers: Vec<ContainerStatus>) -> Observed {
    Observed {
        sandboxes: vec![sandbox(0, SandboxState::Ready)],
        containers,
        volumes: VolumesSeen::Ready,
        host_ips: vec![std::net::IpAddr::from([192, 0, 2, 1])],
        ..Observed::default()
    }
}

fn with(containers: Vec<ContainerStatus>, change: impl FnOnce(&mut Observed)) -> Observed {
    let mut seen = seen(containers);
    change(&mut seen);
    seen
}

/// A look at a Pod that is being stopped since second 100 with this grace.
fn ending(containers: Vec<ContainerStatus>, grace: i64) -> Observed {
    with(containers, |s| {
        s.memory.phase = WorkerPhase::Terminating;
        s.memory.termination = Some(Termination {
            since: at(100),
            grace_seconds: grace,
            verdict: None,
        });
    })
}

fn planned(pod: PodBuilder, seen: &Observed, second: i64) -> Plan {
    plan(&pod.build(), seen, at(second), &NodePolicy::default())
}

/// Name, Pod, observation, second, expected steps (one a line), expected second to look again.
type Row = (
    &'static str,
    PodBuilder,
    Observed,
    i64,
    &'static str,
    Option<i64>,
);

fn check(rows: Vec<Row>) {
    for (name, pod, seen, second, steps, wake) in rows {
        let plan = planned(pod, &seen, second);
        let steps: Vec<_> = steps
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        assert_eq!(plan.to_string(), steps.join("\n"), "{name}");
        assert_eq!(plan.wake_at, wake.map(at), "{name}: when to look again");
        assert!(
            !plan.reasons.is_empty() || plan.steps.is_empty(),
            "{name}: steps without a reason"
        );
    }
}

fn one() -> PodBuilder {
    pod().app("a")
}

fn chain() -> PodBuilder {
    pod().init("one").sidecar("side").init("two").app("app")
}

fn back_off(delay: i64, updated: i64) -> BackOff {
    BackOff {
        delay: jiff::SignedDuration::from_secs(delay),
        updated_at: at(updated),
    }
}

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
fn crashes_are_backed_off() {
    let crashed = |change: fn(&mut Observed)| with(vec![exited("a", 1, 20, 21, 1)], change);
    let event = "event Warning BackOff spec.containers{a}: Back-off restarting failed container a in pod p_ns(uid)";
    check(vec![
        (
            "the first restart is immediate §4.1",
            one(),
            crashed(|_| ()),
            21,
            "start container a #2",
            None,
        ),
        (
            "a back-off is told at once, and shown with the resync §4.1",
            one(),
            crashed(|s| {
                s.memory.restarts.insert("a".to_owned(), back_off(80, 20));
            }),
            21,
            event,
            Some(81),
        ),
        (
            "once §4.1",
            one(),
            crashed(|s| {
                s.memory.restarts.insert("a".to_owned(), back_off(80, 20));
                s.memory.told.insert("backoff/a-1".to_owned());
            }),
            25,
            "",
            Some(81),
        ),
        (
            "then the restart is awaited §4.1",
            one(),
            crashed(|s| {
                s.memory.restarts.insert("a".to_owned(), back_off(80, 20));
                s.memory.told.insert("backoff/a-1".to_owned());
            }),
            81,
            "",
            Some(101),
        ),
        (
            "over when the delay has passed since the exit §4.1",
            one(),
            crashed(|s| {
                s.memory.restarts.insert("a".to_owned(), back_off(10, 20));
            }),
            31,
            "start container a #2",
            None,
        ),
        (
            "forgotten after a long run §4.1",
            one(),
            with(vec![exited("a", 1, 20, 700, 1)], |s| {
                s.memory.restarts.insert("a".to_owned(), back_off(300, 20));
            }),
            700,
            "start container a #2",
            None,
        ),
    ]);
}

#[test]
fn delays_double_up_to_five_minutes() {
    let mut seen = seen(vec![]);
    let mut second = 0;
    let mut delays = Vec::new();
    for attempt in 0..9 {
        seen.containers = vec![exited("a", attempt, second, second, 1)];
        let end = second;
        loop {
            let plan = planned(one(), &seen, second);
            seen.memory.restarts.extend(plan.restarts.clone());
            if plan
                .steps
                .iter()
                .any(|s| matches!(s, lifecycle::Step::Start(_)))
            {
                break;
            }
            // A wake-up within a second is taken at its end.
            second = plan.wake_at.map_or(second, |at| {
                let part = i64::from(at.subsec_nanosecond() > 0);
                at.as_second() - testkit::at(0).as_second() + part
            });
        }
        delays.push(second - end);
    }
    assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300, 300], "§4.1");
}

#[test]
fn a_back_off_says_how_long() {
    let seen = with(vec![exited("a", 1, 20, 21, 1)], |s| {
        s.memory.restarts.insert("a".to_owned(), back_off(80, 20));
    });
    assert!(
        planned(one(), &seen, 80).start_errors.is_empty(),
        "the exit is shown"
    );
    let plan = planned(one(), &seen, 81);
    let error = &plan.start_errors["a"];
    assert_eq!(error.reason, "CrashLoopBackOff");
    assert_eq!(
        error.message, "back-off 1m20s restarting failed container=a pod=p_ns(uid)",
        "§4.1"
    );
}

#[test]
fn failed_starts_wait() {
    let failed = |reason: &str, second| StartError {
        reason: reason.to_owned(),
        message: "why".to_owned(),
        at: at(second),
    };
    let config = move |change: fn(&mut Observed)| {
        with(vec![], |s| {
            s.memory
                .start_errors
                .insert("a".to_owned(), failed("CreateContainerConfigError", 5));
            change(s);
        })
    };
    let pull = |reason: &str| {
        with(vec![], |s| {
            s.memory
                .start_errors
                .insert("a".to_owned(), failed(reason, 5));
            let delay = jiff::SignedDuration::from_secs(10);
            let entry = PullBackOff {
                delay,
                failed_at: at(5),
                error: "ErrImagePull: no such tag".to_owned(),
            };
            s.memory
                .pulls
                .insert("docker.io/library/busybox:1.36".to_owned(), entry);
        })
    };
    let image = "docker.io/library/busybox:1.36";
    let told = format!(
        "event Normal BackOff spec.containers{{a}}: Back-off pulling image \"{image}\"\nevent Warning Failed spec.containers{{a}}: Error: ImagePullBackOff"
    );
    let start = "start container a #0";
    check(vec![
        ("for ten seconds", one(), config(|_| ()), 14, "", Some(15)),
        ("and then no more", one(), config(|_| ()), 15, start, None),
        (
            "nor when what they lacked came",
            one(),
            config(|s| s.memory.changed_at = Some(at(6))),
            7,
            start,
            None,
        ),
        (
            "a failed pull is shown for a second §4.2",
            one(),
            pull("ErrImagePull"),
            5,
            "",
            Some(6),
        ),
        (
            "then its back-off is told §4.2",
            one(),
            pull("ErrImagePull"),
            6,
            Box::leak(told.into_boxed_str()),
            Some(15),
        ),
        (
            "then it is tried again §4.2",
            one(),
            pull("ImagePullBackOff"),
            15,
            start,
            None,
        ),
        (
            "another image is tried at once §4.2",
            one().image("other"),
            pull("ImagePullBackOff"),
            7,
            start,
            None,
        ),
        (
            "a failed run is crash back-off's business §4.1",
            one(),
            with(vec![exited("a", 0, 5, 5, 128)], |s| {
                s.memory
                    .start_errors
                    .insert("a".to_owned(), failed("RunContainerError", 5));
            }),
            5,
            "start container a #1",
            None,
        ),
        (
            "an init container that waits holds the rest §1.4",
            pod().init("a").app("b"),
            config(|_| ()),
            14,
            "",
            Some(15),
        ),
        (
            "an app that waits holds nobody §1.4",
            pod().app("a").app("b"),
            config(|_| ()),
            14,
            "start container b #0",
            Some(15),
        ),
    ]);
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

#[test]
fn a_pod_is_stopped_sidecars_last() {
    let pods = || {
        pod()
            .sidecar("s1")
            .sidecar("s2")
            .app("a")
            .app("b")
            .deleted(100, 30)
    };
    let all = || {
        vec![
            running("s1", 0, 1),
            running("s2", 0, 2),
            running("a", 0, 3),
            running("b", 0, 4),
        ]
    };
    let asked = |s: &mut Observed, id: &str| {
        s.memory.stopping.insert(
            id.to_owned(),
            Stopping {
                since: at(100),
                grace_seconds: 30,
            },
        );
        s.memory.told.insert(format!("killing/{id}"));
    };
    let dead = |name: &str| exited(name, 0, 1, 110, 143);
    let after = |containers: Vec<ContainerStatus>| {
        let mut seen = ending(containers, 30);
        ["a-0", "b-0"].iter().for_each(|id| asked(&mut seen, id));
        seen.memory
            .told
            .extend(["killing/s1-0".to_owned(), "killing/s2-0".to_owned()]);
        seen
    };
    check(vec![
        (
            "apps at once, everyone is told §2.4",
            pods(),
            seen(all()),
            100,
            "event Normal Killing spec.initContainers{s1}: Stopping container s1
             event Normal Killing spec.initContainers{s2}: Stopping container s2
             stop container a (a-0) within 30 s: Stopping container a
             stop container b (b-0) within 30 s: Stopping container b",
            Some(130),
        ),
        (
            "sidecars wait for every app §2.4",
            pods(),
            after(vec![
                running("s1", 0, 1),
                running("s2", 0, 2),
                dead("a"),
                running("b", 0, 4),
            ]),
            110,
            "",
            Some(130),
        ),
        (
            "then the last sidecar §2.4",
            pods(),
            after(vec![
                running("s1", 0, 1),
                running("s2", 0, 2),
                dead("a"),
                dead("b"),
            ]),
            110,
            "stop sidecar s2 (s2-0) within 20 s",
            Some(130),
        ),
        (
            "then the one before §2.4",
            pods(),
            after(vec![running("s1", 0, 1), dead("s2"), dead("a"), dead("b")]),
            112,
            "stop sidecar s1 (s1-0) within 18 s",
            None,
        ),
        (
            "at the end of the grace nobody waits §2.4",
            pods(),
            after(vec![
                running("s1", 0, 1),
                running("s2", 0, 2),
                running("a", 0, 3),
                dead("b"),
            ]),
            130,
            "stop sidecar s1 (s1-0) within 2 s
             stop sidecar s2 (s2-0) within 2 s",
            None,
        ),
        (
            "a shorter grace stops again, sooner §2.3",
            pods().deleted(100, 5),
            after(vec![running("a", 0, 3)]),
            101,
            "stop container a (a-0) within 4 s",
            None,
        ),
        (
            "a longer one changes nothing §2.3",
            pods().deleted(100, 60),
            after(vec![running("a", 0, 3)]),
            101,
            "",
            None,
        ),
    ]);
}

#[test]
fn grace_never_falls_below_two_seconds_and_never_grows() {
    let stopped = |pod: PodBuilder, seen: &Observed| planned(pod, seen, 100).to_string();
    let line = |s: i64| format!("stop container a (a-0) within {s} s: Stopping container a");
    let live = || seen(vec![running("a", 0, 1)]);
    assert_eq!(stopped(one().deleted(100, 0), &live()), line(2), "§2.3");
    assert_eq!(
        stopped(one().deleted(100, 600), &live()),
        line(600),
        "the request may exceed the spec §2.1"
    );
    assert_eq!(
        stopped(one(), &with(vec![running("a", 0, 1)], |s| s.gone = true)),
        line(2),
        "a Pod that is gone §2.6"
    );
    assert_eq!(
        stopped(one().deleted(100, i64::MAX), &live()),
        line(i64::MAX),
        "any number is input"
    );
    let rows = [
        (None, None, 30),
        (Some(10), None, 10),
        (Some(10), Some(20), 10),
        (Some(10), Some(5), 5),
        (None, Some(0), 1),
    ];
    for (held, deletion, want) in rows {
        let pod = deletion
            .map_or(one(), |grace| one().deleted(0, grace))
            .build();
        assert_eq!(
            lifecycle::termination::grace(&pod, held, false),
            want,
            "{held:?} {deletion:?} §2.3"
        );
    }
}

#[test]
fn the_end_is_cleaned_up_in_order() {
    let over = || vec![exited("a", 0, 1, 50, 0)];
    let down = |change: fn(&mut Observed)| {
        let mut seen = ending(over(), 30);
        seen.memory.phase = WorkerPhase::Terminated;
        seen.sandboxes = vec![sandbox(0, SandboxState::NotReady)];
        seen.volumes = VolumesSeen::Released;
        change(&mut seen);
        seen
    };
    let deleted = || one().deleted(100, 30);
    let held = |mut pod: Pod, grace| {
        pod.metadata.finalizers = Some(vec!["x/y".to_owned()]);
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        plan(&pod, &down(|_| ()), at(130), &NodePolicy::default()).to_string()
    };
    check(vec![
        (
            "the sandbox after the containers §2.4",
            deleted(),
            ending(over(), 30),
            130,
            "stop sandbox sandbox-0",
            None,
        ),
        (
            "a failed stop waits §2.4",
            deleted(),
            {
                let mut seen = ending(over(), 30);
                seen.memory.retry = Some(Retry {
                    phase: WorkerPhase::Terminating,
                    at: at(140),
                });
                seen
            },
            130,
            "",
            Some(140),
        ),
        (
            "then the last status is written §1.1",
            deleted(),
            down(|s| s.memory.phase = WorkerPhase::Terminating),
            130,
            "",
            Some(130),
        ),
        (
            "then the volumes go §1.1",
            deleted().phase("Succeeded"),
            down(|s| s.volumes = VolumesSeen::Ready),
            130,
            "tear down",
            None,
        ),
        (
            "the object stays until its phase is stored §2.6",
            deleted(),
            down(|_| ()),
            130,
            "",
            None,
        ),
        (
            "then it goes §2.6",
            deleted().phase("Succeeded"),
            down(|_| ()),
            130,
            "delete pod",
            None,
        ),
        (
            "a finished Pod stays §1.1",
            one().phase("Succeeded"),
            down(|_| ()),
            130,
            "",
            None,
        ),
        (
            "what has left the API goes with its records §2.6",
            deleted(),
            down(|s| s.gone = true),
            130,
            "remove sandbox sandbox-0",
            None,
        ),
        (
            "a Pod that never started anything §2.6",
            deleted(),
            with(vec![], |s| s.sandboxes.clear()),
            100,
            "",
            Some(100),
        ),
    ]);
    assert_eq!(
        held(deleted().phase("Failed").build(), 30),
        "delete pod",
        "finalizers do not stop the DELETE §2.1"
    );
    assert_eq!(
        held(deleted().phase("Failed").build(), 0),
        "",
        "and after it they are waited for §2.1"
    );
}

#[test]
fn a_pod_that_is_gone_and_cleaned_up_is_forgotten() {
    let mut seen = ending(vec![], 1);
    seen.gone = true;
    seen.memory.phase = WorkerPhase::Finished;
    seen.sandboxes.clear();
    seen.volumes = VolumesSeen::Released;
    let plan = planned(one(), &seen, 130);
    assert_eq!(
        (plan.phase, plan.steps.len(), plan.wake_at),
        (WorkerPhase::Finished, 0, None)
    );
}

#[test]
fn a_finished_pod_stops_its_sidecars_and_ends() {
    let pods = || pod().policy("Never").sidecar("side").app("app").grace(5);
    let plan = planned(
        pods(),
        &seen(vec![running("side", 0, 1), exited("app", 0, 2, 3, 0)]),
        3,
    );
    assert_eq!(
        plan.to_string(),
        "stop sidecar side (side-0) within 5 s: Stopping container side",
        "§1.11"
    );
    assert_eq!(plan.phase, WorkerPhase::Terminating);
    let plan = planned(
        one().policy("Never"),
        &seen(vec![exited("a", 0, 2, 3, 0)]),
        3,
    );
    assert_eq!(plan.to_string(), "stop sandbox sandbox-0", "§1.1");
}

#[test]
fn an_active_deadline_ends_the_pod() {
    let pods = || one().deadline(10).started(0);
    let live = || seen(vec![running("a", 0, 1)]);
    check(vec![(
        "not before it §2.8",
        pods(),
        live(),
        9,
        "",
        Some(10),
    )]);
    let plan = planned(pods(), &live(), 10);
    assert_eq!(
        plan.to_string(),
        "event Normal DeadlineExceeded: Pod was active on the node longer than the specified deadline\n\
         stop container a (a-0) within 30 s: Stopping container a",
        "§2.8"
    );
    let verdict = plan
        .termination
        .clone()
        .and_then(|t| t.verdict)
        .expect("a verdict");
    assert_eq!(
        (verdict.phase.as_str(), verdict.reason.as_str()),
        ("Failed", "DeadlineExceeded")
    );
    let mut after = live();
    after.memory.termination = plan.termination;
    after.memory.phase = plan.phase;
    assert!(
        !planned(pods(), &after, 11)
            .to_string()
            .contains("event Normal DeadlineExceeded"),
        "told once"
    );
}

#[test]
fn reasons_say_what_is_awaited() {
    let text = |plan: Plan| {
        plan.reasons
            .iter()
            .map(|r| format!("{}: {}", r.container.as_deref().unwrap_or("-"), r.text))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        text(planned(chain(), &seen(vec![running("one", 0, 1)]), 2)),
        [
            "one: runs; the containers after it wait for it to finish",
            "side: waits for init container one to finish",
            "two: waits for init container one to finish",
            "app: waits for init container one to finish",
        ]
    );
    let crashed = with(vec![exited("a", 1, 20, 21, 1)], |s| {
        s.memory.restarts.insert("a".to_owned(), back_off(10, 20));
    });
    assert_eq!(
        text(planned(one(), &crashed, 25)),
        ["a: is in back-off of 10s and restarts at 2026-01-01T00:00:31Z"]
    );
    let ending = ending(vec![running("side", 0, 1), running("app", 0, 2)], 30);
    let stopping = text(planned(
        pod().sidecar("side").app("app").deleted(100, 30),
        &ending,
        100,
    ));
    assert_eq!(
        stopping[0],
        "-: the pod ends because it was deleted; grace 30 s since 2026-01-01T00:01:40Z"
    );
    assert_eq!(
        stopping[1],
        "side: is stopped after app, at the latest at 2026-01-01T00:02:10Z"
    );
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let seen = seen(vec![exited("one", 0, 1, 2, 0), running("side", 0, 3)]);
    assert_eq!(planned(chain(), &seen, 4), planned(chain(), &seen, 4));
    let mut turned = seen.clone();
    turned.containers.reverse();
    assert_eq!(
        planned(chain(), &seen, 4),
        planned(chain(), &turned, 4),
        "order of records does not matter"
    );
}
