//! The end of a Pod: order, grace, cleaning up (§2).

use super::*;

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
                then_restart: false,
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
            "nor does that of a static Pod wait for a final phase §3.4",
            deleted()
                .annotation("kubernetes.io/config.source", "file")
                .phase("Running"),
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
    assert!(plan.is_last(&seen));
}

#[test]
fn records_of_a_finished_pod_that_is_gone_wait_for_a_retry_and_are_not_forgotten() {
    let mut seen = ending(vec![exited("a", 0, 100, 105, 1)], 1);
    seen.gone = true;
    seen.memory.phase = WorkerPhase::Finished;
    seen.memory.retry = Some(Retry {
        phase: WorkerPhase::Finished,
        at: at(140),
    });
    seen.sandboxes[0].state = SandboxState::NotReady;
    seen.volumes = VolumesSeen::Released;
    let held = planned(one(), &seen, 130);
    assert_eq!((held.steps.len(), held.wake_at), (0, Some(at(140))));
    assert!(!held.is_last(&seen));
    let plan = planned(one(), &seen, 140);
    assert!(!plan.steps.is_empty() && !plan.is_last(&seen));
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
fn the_node_may_evict_a_pod() {
    let evicted = |grace_seconds| Eviction {
        verdict: Verdict {
            phase: "Failed".to_owned(),
            reason: "Evicted".to_owned(),
            message: "Too much. ".to_owned(),
            event_type: EventType::Warning,
            annotations: Default::default(),
            disruption: None,
        },
        grace_seconds: Some(grace_seconds),
    };
    let with = |grace_seconds| {
        let mut seen = seen(vec![running("a", 0, 1)]);
        seen.memory.eviction = Some(evicted(grace_seconds));
        seen
    };
    let plan = planned(one(), &with(1), 5);
    assert_eq!(
        plan.to_string(),
        "event Warning Evicted: Too much. \nstop container a (a-0) within 2 s: Stopping container a",
        "§2.9"
    );
    let end = plan.termination.clone().expect("an end");
    assert_eq!(end.verdict, Some(evicted(1).verdict));
    // What the Pod itself has is not made longer.
    let plan = planned(one(), &with(60), 5);
    assert_eq!(plan.termination.map(|t| t.grace_seconds), Some(30));
    // Its end is decided once.
    let mut after = with(1);
    after.memory.termination = Some(end);
    after.memory.phase = WorkerPhase::Terminating;
    assert!(!planned(one(), &after, 6).to_string().contains("Evicted"));
    let deleted = planned(one().deleted(4, 20), &with(1), 5);
    assert_eq!(deleted.termination.and_then(|t| t.verdict), None);
}
