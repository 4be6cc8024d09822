//! Restarting a whole Pod in place (§1.10).

use lifecycle::Step;
use serde_json::json;

use super::*;

fn pods() -> PodBuilder {
    pod()
        .policy("Never")
        .init("i")
        .sidecar("s")
        .app("a")
        .own_policy("Never")
        .rule_for_all(&[42])
        .app("b")
        .ephemeral("dbg")
}

/// Init is done, `a` has ended like this, and these run.
fn ended(code: i32, running_too: &[&str]) -> Vec<ContainerStatus> {
    let mut records = vec![
        exited("i", 0, 1, 2, 0),
        exited("a", 0, 4, 10, code),
        exited("dbg", 0, 4, 5, 0),
    ];
    for name in ["s", "b"] {
        records.push(match running_too.contains(&name) {
            true => running(name, 0, 3),
            false => exited(name, 0, 3, 11, 137),
        });
    }
    records
}

fn stopping() -> Stopping {
    Stopping {
        since: at(10),
        grace_seconds: 2,
        then_restart: true,
    }
}

#[test]
fn a_rule_restarts_all_containers() {
    check(vec![
        (
            "what runs is killed, without its hook and grace",
            pods(),
            seen(ended(42, &["s", "b"])),
            10,
            "stop sidecar s (s-0) within 2 s: killing
             stop container b (b-0) within 2 s: killing",
            None,
        ),
        (
            "it is waited for",
            pods(),
            with(ended(42, &["s"]), |seen| {
                seen.memory.restarting_all = true;
                seen.memory.stopping.insert("s-0".to_owned(), stopping());
            }),
            11,
            "",
            None,
        ),
        (
            "records go, apps first, the cause last; debuggers stay",
            pods(),
            with(ended(42, &[]), |seen| seen.memory.restarting_all = true),
            12,
            "remove b-0, keep its log
             remove i-0, keep its log
             remove s-0, keep its log
             remove a-0, keep its log",
            None,
        ),
        (
            "another exit code does not",
            pods(),
            seen(ended(1, &["s", "b"])),
            10,
            "",
            None,
        ),
    ]);
    let plan = planned(pods(), &seen(ended(42, &["s", "b"])), 10);
    assert!(plan.restarting_all);
    assert_eq!(plan.restarts["a"], back_off(10, 10));
    // The crash back-off of the cause holds it back (§4.1).
    let held = with(ended(42, &["s", "b"]), |seen| {
        seen.memory.restarts.insert("a".to_owned(), back_off(20, 3));
    });
    let plan = planned(pods(), &held, 10);
    assert!(!plan.restarting_all && plan.wake_at.is_some_and(|at_| at_ <= at(30)));
    let again = with(ended(42, &[]), |seen| seen.memory.restarting_all = true);
    assert!(planned(pods(), &again, 12).restarts.is_empty());
}

#[test]
fn whichever_cause_may_restart_restarts_all() {
    let two = || {
        let first = pod().policy("Never").app("a").own_policy("Never");
        first.rule_for_all(&[1]).app("b").own_policy("Never")
    };
    let two = || two().rule_for_all(&[2]).app("c");
    let records = vec![
        exited("a", 1, 4, 10, 1),
        exited("b", 0, 4, 11, 2),
        running("c", 0, 4),
    ];
    // Who ended first is held back for longer than the other.
    let held = |name: &'static str| {
        with(records.clone(), |seen| {
            seen.memory
                .restarts
                .insert(name.to_owned(), back_off(40, 4));
        })
    };
    for (name, other) in [("a", "b"), ("b", "a")] {
        let plan = planned(two(), &held(name), 11);
        assert!(plan.restarting_all, "{name} is held back");
        assert_eq!(plan.restarts.keys().collect::<Vec<_>>(), [other]);
        assert_eq!(
            plan.to_string(),
            "stop container c (c-0) within 2 s: killing"
        );
    }
}

#[test]
fn a_second_restart_of_all_counts_on() {
    // As told while it ran again after the first: the second has removed that run, and nobody was told yet.
    let mut pod = pods().build();
    let ended = json!({"terminated": {"exitCode": 137, "reason": "RestartingAllContainers"}});
    for (state, next) in [
        (json!({"running": {}}), 2),
        (json!({"terminated": {"exitCode": 0}}), 2),
        (json!({"waiting": {"reason": "PodInitializing"}}), 1),
    ] {
        let status = json!({"initContainerStatuses": [{"name": "i", "image": "x", "imageID": "x", "ready": false,
            "restartCount": 1, "state": state, "lastState": ended}]});
        pod.status = serde_json::from_value(status).expect("a status");
        let plan = lifecycle::plan(&pod, &seen(vec![]), at(12), &NodePolicy::default());
        let counts = plan.steps.iter().filter_map(|step| match step {
            Step::Start(start) => Some((start.container.as_str(), start.restart_count)),
            _ => None,
        });
        let counts: Vec<_> = counts.filter(|(name, _)| *name == "i").collect();
        assert_eq!(counts, [("i", next)], "{state}");
    }
}
