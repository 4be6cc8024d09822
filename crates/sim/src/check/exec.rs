//! Probes and hooks: when they run (7), and what their failures may end (14).

use std::time::Duration;

use lifecycle::{ContainerKind, kinds};

use super::{Checks, Known, Past, debug, ensure};
use crate::machine::{Machine, Made};

impl Known {
    /// Whether the container has done, or was done, what it may be stopped for by itself.
    pub(super) fn has_cause(&self, name: &str) -> bool {
        let past = self.containers.get(name);
        self.edited.contains(name)
            || past.is_some_and(|past: &Past| past.is_sick || past.has_failed_hook)
    }
}

impl Checks {
    /// 7: a program begins in a container that runs.
    pub(crate) fn begins(
        &self,
        made: &Made,
        machine: &Machine,
        what: &str,
        agent: Option<u64>,
    ) -> Result<(), String> {
        if what != "preStop" {
            return Ok(());
        }
        self.may_prepare(made, machine)?;
        let name = &made.status.name;
        ensure(made.signalled_by != agent, || {
            format!("7: preStop of {name} begins after its stop signal")
        })?;
        // A stop that failed is tried again from its beginning.
        ensure(made.pre_stopped_by != agent || self.stops_fail, || {
            format!("7: preStop of {name} runs twice")
        })
    }

    /// What a program had to say; one that was hung up on failed.
    pub(crate) fn answered(&mut self, made: &Made, what: &str, is_well: bool) {
        let status = &made.status;
        let Some(known) = self.pods.get_mut(&status.pod_uid) else {
            return;
        };
        let past = known.containers.entry(status.name.clone()).or_default();
        if past.runs != status.attempt + 1 {
            return;
        }
        match what {
            "startupProbe" | "livenessProbe" if !is_well => past.is_sick = true,
            "postStart" if !is_well => past.has_failed_hook = true,
            "startupProbe" => drop(past.started_up.insert(status.sandbox_id.clone())),
            "postStart" => drop(past.hooked.insert(status.sandbox_id.clone())),
            _ => {}
        }
    }

    /// 14: an app container of a Pod that goes on is stopped for what it did itself.
    pub(super) fn has_reason(
        &self,
        known: &Known,
        made: &Made,
        machine: &Machine,
        grace: Duration,
    ) -> Result<(), String> {
        let (pod, status) = (&known.pod, &made.status);
        let spec = pod.spec.as_ref();
        let is_app = spec.is_some_and(|s| s.containers.iter().any(|c| c.name == status.name));
        if kinds::kind_of(pod, &status.name) == ContainerKind::Ephemeral {
            return debug::check_stop(known, made, machine);
        }
        let own_sandbox = machine.sandboxes.get(&status.sandbox_id);
        let is_sound = own_sandbox.is_some_and(|s| s.state == ports::runtime::SandboxState::Ready);
        if !is_app || known.is_told_to_end() || !is_sound || known.has_cause(&status.name) {
            return Ok(());
        }
        let Some(most) = known.eviction() else {
            return Err(format!("14: {} is stopped and did nothing", status.name));
        };
        ensure(grace <= most, || {
            format!("16: {} is evicted within {grace:?}", status.name)
        })
    }
}
