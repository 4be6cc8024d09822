//! What is planned for a Pod: one base observation, small changes to it, the plan as text.

mod apps;
mod end;
mod ephemeral;
mod hooks;
mod init;
mod probes;
mod restart_all;
mod sandboxes;
mod waits;
mod whole;

use cri::{ContainerStatus, SandboxState};
use k8s_openapi::api::core::v1::Pod;
use lifecycle::{
    BackOff, EventType, Eviction, NodePolicy, Observed, Plan, PullBackOff, Retry, StartError,
    Stopping, Termination, Verdict, VolumesSeen, WorkerPhase, plan,
};
use testkit::{PodBuilder, at, created, exited, pod, running, sandbox, unknown};

/// A look at a Pod whose sandbox and volumes are ready and that has these records.
pub(crate) fn seen(containers: Vec<ContainerStatus>) -> Observed {
    Observed {
        sandboxes: vec![sandbox(0, SandboxState::Ready)],
        containers,
        volumes: VolumesSeen::Ready,
        host_ips: vec![std::net::IpAddr::from([192, 0, 2, 1])],
        ..Observed::default()
    }
}

pub(crate) fn with(
    containers: Vec<ContainerStatus>,
    change: impl FnOnce(&mut Observed),
) -> Observed {
    let mut seen = seen(containers);
    change(&mut seen);
    seen
}

/// A look at a Pod that is being stopped since second 100 with this grace.
pub(crate) fn ending(containers: Vec<ContainerStatus>, grace: i64) -> Observed {
    with(containers, |s| {
        s.memory.phase = WorkerPhase::Terminating;
        s.memory.termination = Some(Termination {
            since: at(100),
            grace_seconds: grace,
            verdict: None,
        });
    })
}

pub(crate) fn planned(pod: PodBuilder, seen: &Observed, second: i64) -> Plan {
    plan(&pod.build(), seen, at(second), &NodePolicy::default())
}

/// Name, Pod, observation, second, expected steps (one a line), expected second to look again.
pub(crate) type Row = (
    &'static str,
    PodBuilder,
    Observed,
    i64,
    &'static str,
    Option<i64>,
);

pub(crate) fn check(rows: Vec<Row>) {
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

pub(crate) fn one() -> PodBuilder {
    pod().app("a")
}

pub(crate) fn chain() -> PodBuilder {
    pod().init("one").sidecar("side").init("two").app("app")
}

pub(crate) fn back_off(delay: i64, updated: i64) -> BackOff {
    BackOff {
        delay: jiff::SignedDuration::from_secs(delay),
        updated_at: at(updated),
        amounts: Default::default(),
    }
}
