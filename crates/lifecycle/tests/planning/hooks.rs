//! `preStop` hooks: before the stop signal, within the grace (§2.3, §6).

use lifecycle::PreStopping;
use lifecycle::probe::{Health, Kind};
use testkit::probe;

use super::*;

const ID: &str = "a-0";

fn stopping(since: i64, grace_seconds: i64, then_restart: bool) -> Stopping {
    Stopping {
        since: at(since),
        grace_seconds,
        then_restart,
    }
}

/// The hook of this run was begun.
fn hooked(seen: &mut Observed, id: &str, stop: Stopping, is_over: bool) {
    let hook = PreStopping { stop, is_over };
    seen.memory.pre_stops.insert(id.to_owned(), hook);
    seen.memory.told.insert(format!("killing/{id}"));
}

fn sick(is_begun: Option<bool>) -> Observed {
    with(vec![running("a", 0, 1)], |seen| {
        let healths = [(Kind::Liveness, Health::Bad)].into();
        seen.probes.insert(ID.to_owned(), healths);
        if let Some(is_over) = is_begun {
            hooked(seen, ID, stopping(9, 30, true), is_over);
        }
    })
}

#[test]
fn a_container_that_is_stopped_alone_runs_its_hook_first() {
    let pods = || one().liveness(probe(1, 3)).pre_stop();
    let message = "Container a failed liveness probe, will be restarted";
    let begin = format!("run the preStop hook to stop container a (a-0) within 30 s: {message}");
    check(vec![
        ("the hook §2.3", pods(), sick(None), 9, begin.leak(), None),
        (
            "is waited for §2.3",
            pods(),
            sick(Some(false)),
            20,
            "",
            Some(39),
        ),
        (
            "what is left goes to the stop §2.3",
            pods(),
            sick(Some(true)),
            20,
            "stop container a (a-0) within 19 s",
            None,
        ),
        (
            "no longer than the grace §2.3",
            pods(),
            sick(Some(false)),
            39,
            "stop container a (a-0) within 2 s",
            None,
        ),
    ]);
    // Whoever began to stop a container goes through with it.
    let mut well = sick(Some(true));
    well.probes.clear();
    let plan = planned(pods(), &well, 20);
    assert_eq!(plan.to_string(), "stop container a (a-0) within 19 s");
    let Some(lifecycle::Step::Stop(stop)) = plan.steps.first() else {
        panic!("no stop: {plan}");
    };
    assert!(stop.then_restart);
}

#[test]
fn one_that_ended_during_its_hook_starts_again() {
    let seen = with(vec![exited("a", 0, 1, 10, 0)], |seen| {
        hooked(seen, ID, stopping(9, 30, true), false);
    });
    let pods = one().pre_stop().policy("OnFailure");
    check(vec![("§1.7", pods, seen, 10, "start container a #1", None)]);
}

#[test]
fn all_hooks_of_a_pod_begin_at_once() {
    let pods = || {
        pod()
            .sidecar("s")
            .pre_stop()
            .app("a")
            .pre_stop()
            .app("b")
            .deleted(100, 30)
    };
    let all = || vec![running("s", 0, 1), running("a", 0, 2), running("b", 0, 3)];
    let b_stops = |seen: &mut Observed| {
        seen.memory
            .stopping
            .insert("b-0".to_owned(), stopping(100, 30, false));
        seen.memory.told.insert("killing/b-0".to_owned());
    };
    let begun = |a_over, s_over| {
        let mut seen = ending(all(), 30);
        b_stops(&mut seen);
        hooked(&mut seen, "a-0", stopping(100, 30, false), a_over);
        hooked(&mut seen, "s-0", stopping(100, 30, false), s_over);
        seen
    };
    let mut apps_gone = begun(true, true);
    apps_gone.containers = vec![
        running("s", 0, 1),
        exited("a", 0, 2, 106, 0),
        exited("b", 0, 3, 106, 0),
    ];
    check(vec![
        (
            "sidecars too §2.4",
            pods(),
            seen(all()),
            100,
            "run the preStop hook to stop sidecar s (s-0) within 30 s: Stopping container s
             run the preStop hook to stop container a (a-0) within 30 s: Stopping container a
             stop container b (b-0) within 30 s: Stopping container b",
            Some(130),
        ),
        (
            "signals wait §2.3",
            pods(),
            begun(false, true),
            105,
            "",
            Some(130),
        ),
        (
            "the hook's time is taken from the grace §2.3",
            pods(),
            begun(true, true),
            105,
            "stop container a (a-0) within 25 s",
            Some(130),
        ),
        (
            "a sidecar's turn comes after the apps §2.4",
            pods(),
            apps_gone,
            106,
            "stop sidecar s (s-0) within 24 s",
            None,
        ),
        (
            "a grace that falls ends the wait §2.3",
            pods().deleted(100, 3),
            begun(false, false),
            104,
            "stop sidecar s (s-0) within 2 s
             stop container a (a-0) within 2 s
             stop container b (b-0) within 2 s",
            None,
        ),
    ]);
}

#[test]
fn what_does_not_run_has_no_hook() {
    let pods = || one().pre_stop().deleted(100, 30);
    check(vec![
        (
            "ended §2.3",
            pods(),
            ending(vec![exited("a", 0, 1, 90, 0)], 30),
            100,
            "stop sandbox sandbox-0",
            None,
        ),
        (
            "nobody knows",
            pods(),
            ending(vec![testkit::unknown("a", 0, 1)], 30),
            100,
            "stop container a (a-0) within 30 s: Stopping container a",
            None,
        ),
    ]);
}

#[test]
fn a_failed_post_start_hook_is_shown_before_the_next_run() {
    let held = with(vec![exited("a", 0, 1, 10, 0)], |seen| {
        let error = StartError {
            reason: "PostStartHookError".to_owned(),
            message: "why".to_owned(),
            at: at(10),
        };
        seen.memory.start_errors.insert("a".to_owned(), error);
    });
    check(vec![
        ("§3.4", one(), held.clone(), 10, "", Some(11)),
        ("§4.1", one(), held, 11, "start container a #1", None),
    ]);
}

/// The hook of `a` failed at second 10, when the first run of it was one second old.
fn taken_back(containers: Vec<ContainerStatus>) -> Observed {
    with(containers, |seen| {
        seen.memory.failed_hooks.insert(ID.to_owned());
        let error = StartError {
            reason: "PostStartHookError".to_owned(),
            message: "why".to_owned(),
            at: at(10),
        };
        seen.memory.start_errors.insert("a".to_owned(), error);
    })
}

#[test]
fn a_run_whose_post_start_hook_failed_is_stopped() {
    let pods = || one().post_start();
    let stopping_it = |mut seen: Observed| {
        let stop = stopping(10, 30, false);
        seen.memory.stopping.insert(ID.to_owned(), stop);
        seen
    };
    check(vec![
        (
            "with the Pod's grace §1.9",
            pods(),
            taken_back(vec![running("a", 0, 9)]),
            10,
            "stop container a (a-0) within 30 s: FailedPostStartHook",
            None,
        ),
        (
            "which is two seconds at least §2.3",
            pods().grace(0),
            taken_back(vec![running("a", 0, 9)]),
            10,
            "stop container a (a-0) within 2 s: FailedPostStartHook",
            None,
        ),
        (
            "once, and does not start meanwhile §16.5",
            pods(),
            stopping_it(taken_back(vec![running("a", 0, 9)])),
            30,
            "",
            None,
        ),
        (
            "while others start",
            pods().app("b"),
            taken_back(vec![running("a", 0, 9)]),
            10,
            "stop container a (a-0) within 30 s: FailedPostStartHook
             start container b #0",
            None,
        ),
        (
            "its error is shown when it has ended §3.4",
            pods(),
            stopping_it(taken_back(vec![exited("a", 0, 9, 20, 143)])),
            20,
            "",
            Some(21),
        ),
        (
            "then policy and back-off decide §4.1",
            pods(),
            stopping_it(taken_back(vec![exited("a", 0, 9, 20, 143)])),
            21,
            "start container a #1",
            None,
        ),
        (
            "one that ended first is told all the same",
            pods(),
            taken_back(vec![exited("a", 0, 9, 10, 0)]),
            10,
            "event Normal Killing spec.containers{a}: FailedPostStartHook",
            Some(11),
        ),
        (
            "a sidecar was not started §16.1",
            pod().sidecar("a").post_start().app("b"),
            taken_back(vec![running("a", 0, 9)]),
            10,
            "stop sidecar a (a-0) within 30 s: FailedPostStartHook",
            None,
        ),
    ]);
}

#[test]
fn its_pre_stop_hook_runs_once_whatever_ends_the_pod() {
    let pods = || one().post_start().pre_stop();
    let begun = |is_over| {
        let mut seen = taken_back(vec![running("a", 0, 9)]);
        hooked(&mut seen, ID, stopping(10, 30, false), is_over);
        seen
    };
    let ending = |is_over| {
        let mut seen = begun(is_over);
        seen.memory.phase = WorkerPhase::Terminating;
        seen
    };
    check(vec![
        (
            "§1.9",
            pods(),
            taken_back(vec![running("a", 0, 9)]),
            10,
            "run the preStop hook to stop container a (a-0) within 30 s: FailedPostStartHook",
            None,
        ),
        ("is waited for", pods(), begun(false), 12, "", Some(40)),
        (
            "then the signal",
            pods(),
            begun(true),
            15,
            "stop container a (a-0) within 25 s",
            None,
        ),
        (
            "a deletion waits for it too §16.7",
            pods().deleted(12, 20),
            begun(false),
            12,
            "",
            Some(32),
        ),
        (
            "and goes on from there",
            pods().deleted(12, 20),
            ending(true),
            15,
            "stop container a (a-0) within 20 s",
            None,
        ),
    ]);
}
