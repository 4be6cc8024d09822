//! Whether a container that is due may be started now, or what it waits for: crash back-off (§4.1), pull back-off (§4.2), or
//! the pause after a failed start.

use cri::ContainerState;
use jiff::Timestamp;

use crate::events;
use crate::image;
use crate::kinds::Member;
use crate::look::Look;
use crate::observed::{BackOff, StartError};
use crate::plan::{Event, NodePolicy};
use crate::resources::Amounts;
use crate::restart::{self, Gate};
use crate::text;

/// The answer.
pub(crate) enum Attempt {
    /// Start it.
    Now {
        /// New crash back-off entry.
        back_off: Option<BackOff>,
    },
    /// Not yet.
    Later {
        /// When to look again.
        at: Timestamp,
        /// For people.
        why: String,
        /// Start error to remember, when the wait has one of its own.
        error: Option<StartError>,
        /// To be reported unless `key` was told.
        events: Vec<Event>,
        /// Key of the events.
        key: Option<String>,
    },
}

impl Attempt {
    fn quietly(at: Timestamp, why: String) -> Self {
        Attempt::Later {
            at,
            why,
            error: None,
            events: Vec::new(),
            key: None,
        }
    }
}

/// Decides about one container that is due to be started.
pub(crate) fn attempt(look: &Look<'_>, policy: &NodePolicy, member: &Member<'_>) -> Attempt {
    let mut attempt = by_rule(look, policy, member);
    // It was asked for a time that has yet to come.
    let asked = look.retry(member.name()).filter(|at| *at > look.now);
    if let (Attempt::Later { at, .. }, Some(asked)) = (&mut attempt, asked) {
        *at = asked.min(*at);
    }
    attempt
}

fn by_rule(look: &Look<'_>, policy: &NodePolicy, member: &Member<'_>) -> Attempt {
    let exit = look.last_exit(member.name());
    // A new image or name has no history (§4.1, scope).
    let known = exit.is_none_or(|(record, ended)| {
        !look.changed(member, record) && !look.is_waived(member.name(), ended)
    });
    let entry = look
        .seen
        .memory
        .restarts
        .get(member.name())
        .filter(|_| known);
    let amounts = Amounts::of(look.pod, member.spec);
    match restart::gate(entry, exit.map(|(_, at)| at), amounts, look.now, policy) {
        Gate::Open(back_off) => {
            failed_before(look, policy, member).unwrap_or(Attempt::Now { back_off })
        }
        Gate::Held { delay, until } => {
            let ended = exit.map_or(look.now, |(_, at)| at);
            let why = format!(
                "is in back-off of {} and restarts at {}",
                text::go_duration(delay),
                text::clock(until)
            );
            // One that the agent stopped is found held right then.
            let is_own = exit.is_some_and(|(record, _)| restart::replaced(look, record));
            let announced = if is_own {
                ended
            } else {
                announced(ended, until, policy)
            };
            let is_announced = look.now >= announced;
            Attempt::Later {
                at: if is_announced { until } else { announced },
                why,
                error: is_announced.then(|| StartError {
                    reason: "CrashLoopBackOff".to_owned(),
                    message: restart::back_off_message(look.pod, member.name(), delay),
                    at: look.now,
                }),
                events: vec![events::crash_back_off(look.pod, member)],
                key: exit.map(|(record, _)| format!("backoff/{}", record.id)),
            }
        }
    }
}

/// When `CrashLoopBackOff` takes the place of the exit. Upstream computes the status before it finds the container held, so the
/// reason shows only with its next sync: the one that ends the wait, or the resync of a long one.
fn announced(ended: Timestamp, until: Timestamp, policy: &NodePolicy) -> Timestamp {
    let before_the_end = until.checked_sub(policy.announced_before).unwrap_or(until);
    text::after(ended, policy.resync_after)
        .min(before_the_end)
        .max(ended)
}

/// The wait that the last failed start asks for, if any.
fn failed_before(look: &Look<'_>, policy: &NodePolicy, member: &Member<'_>) -> Option<Attempt> {
    let error = look.seen.memory.start_errors.get(member.name())?;
    if look.is_waived(member.name(), error.at) {
        return None;
    }
    if image::is_pull_error(&error.reason) {
        return pull_wait(look, policy, member, error);
    }
    let newest = look.newest(member.name());
    if newest.is_none() && error.reason == "CrashLoopBackOff" {
        // The run it was about was removed.
        return None;
    }
    let exited = newest.is_some_and(|c| matches!(c.state, ContainerState::Exited { .. }));
    if exited
        && matches!(
            error.reason.as_str(),
            "CrashLoopBackOff" | "RunContainerError"
        )
    {
        // It left an exited record: crash back-off alone decides.
        return None;
    }
    if exited && error.reason == "PostStartHookError" {
        let ended = look.last_exit(member.name()).map(|(_, at)| at);
        let shown = ended.map_or(error.at, |ended| ended.max(error.at));
        let at = text::after(shown, policy.shown_for);
        let why = "has ended because its postStart hook failed".to_owned();
        return (look.now < at).then(|| Attempt::quietly(at, why));
    }
    let at = text::after(error.at, policy.retry_after);
    let nudged = look
        .seen
        .memory
        .changed_at
        .is_some_and(|changed| changed > error.at);
    if look.now >= at || nudged {
        return None;
    }
    let why = format!(
        "could not be started ({}) and is tried again at {}",
        error.reason,
        text::clock(at)
    );
    Some(Attempt::quietly(at, why))
}

fn pull_wait(
    look: &Look<'_>,
    policy: &NodePolicy,
    member: &Member<'_>,
    error: &StartError,
) -> Option<Attempt> {
    let wanted = image::all(look.pod, member);
    let held = wanted.iter().filter_map(|wanted| {
        let entry = image::entry(look.pod, wanted, &look.seen.memory, look.now)?;
        Some((wanted, entry, image::held_until(entry, look.now)?))
    });
    let held: Vec<_> = held.collect();
    let until = held.iter().map(|(.., until)| *until).min()?;
    // The last one that failed is the one that shows.
    let (wanted, entry, _) = held.last()?;
    let why = format!(
        "its image {} could not be pulled and is tried again at {}",
        wanted.image,
        text::clock(until)
    );
    let announced = text::after(error.at, policy.shown_for);
    if look.now < announced {
        return Some(Attempt::quietly(announced.min(until), why));
    }
    let failure = image::backing_off(wanted, entry, look.now);
    let key = format!("pull/{}/{}", member.name(), entry.failed_at);
    let told = error.reason == "ImagePullBackOff" && error.message == failure.error.message;
    let events = if told { Vec::new() } else { failure.events };
    Some(Attempt::Later {
        at: until,
        why,
        error: Some(failure.error),
        events,
        key: Some(key),
    })
}
