//! The Pod's phase, computed from its containers' statuses (§3.1).

use k8s_openapi::api::core::v1 as core;

use crate::kinds::{self, Member};
use crate::look::Look;
use crate::observed::ContainerKind;
use crate::restart;
use crate::restart_all;

#[derive(Default)]
struct Count {
    failed_for_good: usize,
    pending_init: usize,
    pending_sidecar: usize,
    unknown: usize,
    waiting: usize,
    running: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

/// The phase the containers add up to; nothing said before is considered.
pub(crate) fn compute(
    look: &Look<'_>,
    init: &[core::ContainerStatus],
    apps: &[core::ContainerStatus],
) -> &'static str {
    let mut count = Count::default();
    for member in kinds::init(look.pod) {
        let status = init.iter().find(|s| s.name == member.name());
        match member.kind {
            ContainerKind::Sidecar => count_sidecar(&mut count, status),
            _ => count_init(look, &mut count, &member, status),
        }
    }
    for member in kinds::apps(look.pod) {
        count_app(
            look,
            &mut count,
            &member,
            apps.iter().find(|s| s.name == member.name()),
        );
    }
    decide(look, &count)
}

fn decide(look: &Look<'_>, c: &Count) -> &'static str {
    let ended = |c: &Count| {
        if c.stopped == c.succeeded {
            "Succeeded"
        } else {
            "Failed"
        }
    };
    if c.failed_for_good > 0 {
        "Failed"
    } else if c.pending_init > 0 || (c.pending_sidecar > 0 && !has_started(look)) || c.waiting > 0 {
        "Pending"
    } else if c.running > 0 && c.unknown == 0 {
        "Running"
    } else if c.running == 0 && c.stopped > 0 && c.unknown == 0 {
        let is_terminal = look.all_stopped() && !look.is_static();
        if !is_terminal && c.stopped != c.stopped_for_good {
            "Running"
        } else {
            ended(c)
        }
    } else {
        "Pending"
    }
}

/// Whether some app container has a record in the sandbox in use.
fn has_started(look: &Look<'_>) -> bool {
    let newest = look.sandboxes().first().map(|s| s.id.clone());
    newest.is_some_and(|id| {
        kinds::apps(look.pod)
            .iter()
            .any(|m| look.newest_in(m.name(), &id).is_some())
    })
}

/// A status by its parts: state, and how its last ended run ended.
fn parts(
    status: &core::ContainerStatus,
) -> (
    Option<&core::ContainerState>,
    Option<&core::ContainerStateTerminated>,
) {
    let last = status
        .last_state
        .as_ref()
        .and_then(|l| l.terminated.as_ref());
    (status.state.as_ref(), last)
}

fn restarts(look: &Look<'_>, member: &Member<'_>, end: &core::ContainerStateTerminated) -> bool {
    let code = restart::deciding_code(
        member.kind,
        end.exit_code,
        end.reason.as_deref().unwrap_or_default(),
    );
    let replaced = look
        .newest(member.name())
        .is_some_and(|record| restart::replaced(look, record));
    let with_all = end.reason.as_deref() == Some(restart_all::REASON);
    // The phase of a static Pod says what would become of it if it were not ended.
    let may = !look.deleted() || look.is_static();
    may && (with_all || replaced || restart::restarts_after(look.pod, member, code))
}

fn count_init(
    look: &Look<'_>,
    count: &mut Count,
    member: &Member<'_>,
    status: Option<&core::ContainerStatus>,
) {
    let end = status.map(parts).and_then(|(state, last)| {
        let state = state?;
        match (&state.terminated, &state.waiting) {
            (Some(end), _) => Some(end),
            (None, Some(_)) => last,
            (None, None) => None,
        }
    });
    match end {
        None => count.pending_init += 1,
        Some(end) if end.exit_code != 0 || end.reason.as_deref() == Some("OOMKilled") => {
            if !restarts(look, member, end) {
                count.failed_for_good += 1;
            }
        }
        Some(_) => {}
    }
}

fn count_sidecar(count: &mut Count, status: Option<&core::ContainerStatus>) {
    let Some(status) = status else {
        count.unknown += 1;
        return;
    };
    let (state, last) = parts(status);
    if state.is_some_and(|s| s.running.is_some()) {
        count.running += 1;
        if status.started != Some(true) {
            count.pending_sidecar += 1;
        }
    } else if state.is_none_or(|s| s.terminated.is_none()) && last.is_none() {
        count.waiting += 1;
        count.pending_sidecar += 1;
    }
}

fn count_app(
    look: &Look<'_>,
    count: &mut Count,
    member: &Member<'_>,
    status: Option<&core::ContainerStatus>,
) {
    let Some(status) = status else {
        count.unknown += 1;
        return;
    };
    let (state, last) = parts(status);
    let ended = state.and_then(|s| s.terminated.as_ref());
    let final_code = ended.map(|t| t.exit_code);
    if state.is_some_and(|s| s.running.is_some()) {
        count.running += 1;
    } else if let Some(end) = ended.or(last) {
        count.stopped += 1;
        if !restarts(look, member, end) {
            count.stopped_for_good += 1;
        }
        if final_code == Some(0) {
            count.succeeded += 1;
        }
    } else {
        count.waiting += 1;
    }
}
