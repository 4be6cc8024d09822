//! What probes hold back, stop and start again (§1.6, §1.7, §5).

use std::collections::BTreeMap;

use lifecycle::probe::{Health, Kind, wanted};
use testkit::probe;

use super::*;

const ID: &str = "a-0";

/// A look at a running container `a` of which this is established.
fn found(id: &str, healths: &[(Kind, Health)], containers: Vec<ContainerStatus>) -> Observed {
    with(containers, |seen| {
        seen.probes
            .insert(id.to_owned(), healths.iter().copied().collect());
    })
}

fn app(healths: &[(Kind, Health)]) -> Observed {
    found(ID, healths, vec![running("a", 0, 1)])
}

fn probed() -> PodBuilder {
    one()
        .startup(probe(1, 3))
        .liveness(probe(1, 3))
        .readiness(probe(1, 3))
}

#[test]
fn a_failed_probe_stops_its_container() {
    let bad = |kind| app(&[(kind, Health::Bad)]);
    let own_grace = |mut probe: k8s_openapi::api::core::v1::Probe| {
        probe.termination_grace_period_seconds = Some(60);
        probe
    };
    check(vec![
        (
            "liveness §1.7",
            probed(),
            app(&[(Kind::Startup, Health::Good), (Kind::Liveness, Health::Bad)]),
            9,
            "stop container a (a-0) within 30 s: Container a failed liveness probe, will be restarted",
            None,
        ),
        (
            "startup §1.7",
            probed(),
            bad(Kind::Startup),
            9,
            "stop container a (a-0) within 30 s: Container a failed startup probe, will be restarted",
            None,
        ),
        (
            "readiness stops nothing §5.2",
            probed(),
            bad(Kind::Readiness),
            9,
            "",
            None,
        ),
        (
            "under Never it is not said to restart §1.7",
            pod()
                .app("a")
                .liveness(own_grace(probe(1, 3)))
                .app("b")
                .policy("Never"),
            found(
                ID,
                &[(Kind::Liveness, Health::Bad)],
                vec![running("a", 0, 1), running("b", 0, 1)],
            ),
            9,
            "stop container a (a-0) within 60 s: Container a failed liveness probe",
            None,
        ),
        (
            "and without another the Pod ends as a whole §1.7",
            one().liveness(own_grace(probe(1, 3))).policy("Never"),
            bad(Kind::Liveness),
            9,
            "stop container a (a-0) within 30 s: Stopping container a",
            None,
        ),
        (
            "the container's own policy counts §1.7",
            one().liveness(probe(1, 3)).own_policy("Never"),
            bad(Kind::Liveness),
            9,
            "stop container a (a-0) within 30 s: Stopping container a",
            None,
        ),
        (
            "a probe's own grace may exceed the Pod's §2.3",
            one().liveness(own_grace(probe(1, 3))),
            bad(Kind::Liveness),
            9,
            "stop container a (a-0) within 60 s: Container a failed liveness probe, will be restarted",
            None,
        ),
        (
            "but not when the Pod ends §2.3",
            one().liveness(own_grace(probe(1, 3))).deleted(9, 5),
            bad(Kind::Liveness),
            9,
            "stop container a (a-0) within 5 s: Stopping container a",
            None,
        ),
        (
            "a sidecar §1.6",
            pod()
                .sidecar("a")
                .liveness(probe(1, 3))
                .app("b")
                .policy("Never"),
            bad(Kind::Liveness),
            9,
            "stop sidecar a (a-0) within 30 s: Init container a failed liveness probe
             start container b #0",
            None,
        ),
        (
            "a sidecar that never starts holds the rest §1.6",
            pod().sidecar("a").startup(probe(1, 3)).app("b"),
            bad(Kind::Startup),
            9,
            "stop sidecar a (a-0) within 30 s: Init container a failed startup probe",
            None,
        ),
        (
            "another container's run says nothing §16-14",
            pod().app("a").app("b").liveness(probe(1, 3)),
            found(
                "b-7",
                &[(Kind::Liveness, Health::Bad)],
                vec![running("a", 0, 1), running("b", 8, 2)],
            ),
            9,
            "",
            None,
        ),
    ]);
}

#[test]
fn what_a_probe_stopped_starts_again_whatever_its_exit_code() {
    let stopped = |restart: bool, code| {
        with(vec![exited("a", 0, 1, 10, code)], |seen| {
            let stopping = Stopping {
                since: at(9),
                grace_seconds: 30,
                then_restart: restart,
            };
            seen.memory.stopping.insert(ID.to_owned(), stopping);
        })
    };
    let pods = || one().liveness(probe(1, 3)).policy("OnFailure");
    let start = "start container a #1";
    check(vec![
        ("exit 0 §1.7", pods(), stopped(true, 0), 10, start, None),
        ("exit 137 §1.7", pods(), stopped(true, 137), 10, start, None),
        (
            "by itself it does not §1.8",
            pods(),
            stopped(false, 0),
            10,
            "stop sandbox sandbox-0",
            None,
        ),
        (
            "a Pod that was deleted since does not §1.8",
            pods().deleted(10, 30),
            stopped(true, 137),
            10,
            "stop sandbox sandbox-0",
            None,
        ),
    ]);
}

#[test]
fn a_sidecar_holds_the_rest_until_it_has_started() {
    let pods = || {
        pod()
            .sidecar("a")
            .startup(probe(1, 3))
            .readiness(probe(1, 3))
            .init("i")
            .app("b")
    };
    check(vec![
        ("not before §1.6", pods(), app(&[]), 3, "", None),
        (
            "then the next, ready or not §1.6",
            pods(),
            app(&[
                (Kind::Startup, Health::Good),
                (Kind::Readiness, Health::Bad),
            ]),
            3,
            "start init container i #0",
            None,
        ),
    ]);
    let plan = planned(pods(), &app(&[]), 3);
    let texts: Vec<_> = plan.reasons.iter().map(|r| r.text.as_str()).collect();
    assert_eq!(texts, ["waits for sidecar a to start"; 2]);
}

/// The kinds that are to run, by container.
fn runs(pod: PodBuilder, seen: &Observed) -> BTreeMap<String, Vec<Kind>> {
    let mut kinds = BTreeMap::<String, Vec<Kind>>::new();
    for probe in wanted(&pod.build(), seen) {
        kinds.entry(probe.container).or_default().push(probe.kind);
    }
    kinds
}

#[test]
fn probes_run_when_they_can_say_something() {
    use Kind::*;
    let rows = [
        ("startup alone at first", probed(), app(&[]), vec![Startup]),
        (
            "then the others",
            probed(),
            app(&[(Startup, Health::Good)]),
            vec![Liveness, Readiness],
        ),
        (
            "without startup both",
            one().liveness(probe(1, 1)).readiness(probe(1, 1)),
            app(&[]),
            vec![Liveness, Readiness],
        ),
        (
            "a startup probe that failed is done",
            probed(),
            app(&[(Startup, Health::Bad)]),
            vec![],
        ),
        (
            "so is a liveness probe",
            probed(),
            app(&[(Startup, Health::Good), (Liveness, Health::Bad)]),
            vec![Readiness],
        ),
        (
            "readiness goes on failing",
            probed(),
            app(&[(Startup, Health::Good), (Readiness, Health::Bad)]),
            vec![Liveness, Readiness],
        ),
        (
            "readiness alone while the Pod ends",
            probed().deleted(9, 30),
            app(&[(Startup, Health::Good)]),
            vec![Readiness],
        ),
        (
            "nothing of what has ended",
            probed(),
            seen(vec![exited("a", 0, 1, 2, 1)]),
            vec![],
        ),
    ];
    for (name, pod, seen, want) in rows {
        let got = runs(pod, &seen).remove("a").unwrap_or_default();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn a_pod_that_ends_asks_no_more_whether_it_has_started() {
    for (phase, started) in [
        (WorkerPhase::Syncing, false),
        (WorkerPhase::Terminating, true),
    ] {
        let mut seen = app(&[]);
        seen.memory.phase = phase;
        let pod = one().startup(probe(1, 3)).build();
        let status = lifecycle::status(&pod, &seen, at(9));
        let status = &status.container_statuses.as_deref().unwrap_or_default()[0];
        assert_eq!(status.started, Some(started), "{phase:?}");
        let asks = wanted(&pod, &seen).iter().any(|w| w.kind == Kind::Startup);
        assert_eq!(asks, !started, "{phase:?}");
    }
}
