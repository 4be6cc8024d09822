//! Ephemeral containers (§7): started once, whatever else the Pod does; stopped with it, or when that is asked for.

use cri::ContainerState;

use crate::kinds::{self, Member};
use crate::look::Look;
use crate::observed::ContainerKind;
use crate::plan::{NodePolicy, Plan, Stop};
use crate::restart;
use crate::stopping;
use crate::sync;

/// Starts those that never ran, and stops those that are asked to end ([`api::asks::STOP`]).
pub(crate) fn plan(look: &Look<'_>, policy: &NodePolicy, plan: &mut Plan) {
    let specs = kinds::ephemeral(look.pod);
    let stopped = api::asks::stopped(look.pod.metadata.annotations.as_ref());
    for spec in &specs {
        let member = Member {
            kind: ContainerKind::Ephemeral,
            spec,
        };
        let newest = look.newest(member.name());
        let is_due = restart::due(look, &member, newest);
        if !stopped.contains(member.name()) {
            if is_due {
                sync::start(look, policy, &member, plan);
            }
            continue;
        }
        if is_due {
            plan.because(Some(member.name()), "was asked to end before it started");
        }
        let running = newest.filter(|c| matches!(c.state, ContainerState::Running { .. }));
        if let Some(record) = running {
            plan.because(Some(member.name()), "is stopped because that was asked for");
            let stop = Stop {
                id: record.id.clone(),
                container: record.name.clone(),
                kind: member.kind,
                grace_seconds: stopping::single_grace(look.pod, None),
                message: Some(format!("Stopping container {}", record.name)),
                then_restart: false,
            };
            stopping::stop_alone(look, stop, plan);
        }
    }
}
