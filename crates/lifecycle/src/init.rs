//! Init containers and sidecars: what to do next (§1.6).

use cri::{ContainerState, ContainerStatus};

use crate::cause::Cause;
use crate::kinds::{self, Member};
use crate::look::Look;
use crate::probe;
use crate::restart;
use crate::status;

/// What §1.6 asks for.
#[derive(Debug, Default)]
pub(crate) struct InitWork<'a> {
    /// App containers may be looked at.
    pub(crate) initialized: bool,
    /// Containers to start, in spec order.
    pub(crate) start: Vec<Member<'a>>,
    /// Containers to stop first, and why.
    pub(crate) stop: Vec<(Member<'a>, &'a ContainerStatus, Cause)>,
    /// The Pod cannot go on: this init container failed for good.
    pub(crate) failed: Option<Member<'a>>,
    /// The regular init container that is running now.
    pub(crate) running: Option<Member<'a>>,
}

/// Walks the init containers from last to first. Only records in the sandbox in use count, so a new sandbox runs them again.
pub(crate) fn decide<'a>(look: &Look<'a>, sandbox: &str) -> InitWork<'a> {
    let mut work = InitWork {
        initialized: any_app_lives(look, sandbox),
        ..InitWork::default()
    };
    let members = kinds::init(look.pod);
    if members.is_empty() {
        work.initialized = true;
        return work;
    }
    let mut later_done = work.initialized;
    let mut any_record = false;
    for (index, member) in members.iter().enumerate().rev() {
        let Some(record) = look.newest_in(member.name(), sandbox) else {
            if later_done && member.is_sidecar() {
                work.start.push(*member);
            }
            continue;
        };
        any_record = true;
        if later_done && !member.is_sidecar() {
            continue;
        }
        if !step(look, &mut work, &members, index, record, later_done) {
            break;
        }
        later_done = true;
    }
    if !any_record && !later_done {
        work.start.push(members[0]);
    }
    work.start.reverse();
    work
}

/// One container with a record; `false` ends the walk because the Pod has failed.
fn step<'a>(
    look: &Look<'a>,
    work: &mut InitWork<'a>,
    members: &[Member<'a>],
    index: usize,
    record: &'a ContainerStatus,
    later_done: bool,
) -> bool {
    let member = members[index];
    let next = members.get(index + 1).copied();
    match &record.state {
        ContainerState::Created => work.start.push(member),
        ContainerState::Running { .. } if !member.is_sidecar() => work.running = Some(member),
        ContainerState::Running { .. } => {
            let before = status::previous(look.pod, &member);
            if probe::is_started(look.seen, &member, &record.id, before) {
                match next {
                    None => work.initialized = true,
                    Some(next) if !later_done => work.start.push(next),
                    Some(_) => {}
                }
            }
            if let Some(cause) = Cause::of(look, &member, record) {
                work.stop.push((member, record, cause));
            }
        }
        ContainerState::Exited { .. } if member.is_sidecar() => work.start.push(member),
        ContainerState::Exited {
            exit_code, reason, ..
        } => {
            let code = restart::deciding_code(member.kind, *exit_code, reason);
            match (code, next) {
                (0, None) => work.initialized = true,
                (0, Some(next)) => work.start.push(next),
                _ if restart::due(look, &member, Some(record)) => work.start.push(member),
                _ => return fail(work, member),
            }
        }
        ContainerState::Unknown => {
            if !member.is_sidecar() && !restart::restarts_after(look.pod, &member, 137) {
                return fail(work, member);
            }
            if look.alive(record) {
                work.stop.push((member, record, Cause::Unknown));
            } else {
                work.start.push(member);
            }
        }
    }
    true
}

fn fail<'a>(work: &mut InitWork<'a>, member: Member<'a>) -> bool {
    work.start.clear();
    work.stop.clear();
    work.failed = Some(member);
    false
}

/// Initialization is behind the Pod while an app container is made or running. Exited ones do not count: after a reboot
/// everything is exited, and initialization has to be redone.
fn any_app_lives(look: &Look<'_>, sandbox: &str) -> bool {
    kinds::apps(look.pod).iter().any(|m| {
        look.newest_in(m.name(), sandbox).is_some_and(|c| {
            matches!(
                c.state,
                ContainerState::Created | ContainerState::Running { .. }
            )
        })
    })
}
