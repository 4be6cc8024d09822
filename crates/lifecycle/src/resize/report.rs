//! What is remembered and reported of a resize: the conditions `PodResizePending` and `PodResizeInProgress` (§3.2, §12.7).

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::allocation::Allocation;
use crate::look::Look;
use crate::room::Answer;
use crate::text;

/// The conditions, in the order they are written.
pub(crate) const CONDITIONS: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// What a worker remembers of resizes. Lost, it is found again: what was allocated and what was given stand in records.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resizing {
    /// What the spec wants beyond what was allocated.
    pub pending: Option<Pending>,
    /// What was allocated is being carried out.
    pub progress: Option<Progress>,
    /// Noting what was granted failed; it is tried again then.
    pub retry_at: Option<Timestamp>,
}

/// A resize that is not allocated yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// What the spec wants.
    pub wanted: Allocation,
    /// Generation of that spec.
    pub generation: i64,
    /// What becomes of it; not known until all Pods of the node are.
    pub answer: Option<Answer>,
}

/// A resize that was allocated and is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Generation of the spec it was allocated for.
    pub generation: i64,
    /// Why it cannot be carried out now.
    pub error: Option<ResizeError>,
}

/// Why a resize could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResizeError {
    /// For people.
    pub message: String,
    /// When it was tried last.
    pub at: Timestamp,
}

impl Resizing {
    /// Whether nothing has come of what the spec wants yet, so that the report is still about the spec before it.
    pub(crate) fn is_behind(&self) -> bool {
        let deferred = |p: &Pending| matches!(p.answer, Some(Answer::Deferred(_)));
        self.pending.as_ref().is_some_and(|p| !deferred(p))
    }

    /// Whether the node has granted what is wanted.
    pub fn is_granted(&self) -> bool {
        let answer = self.pending.as_ref().and_then(|p| p.answer.as_ref());
        answer == Some(&Answer::Granted)
    }
}

/// What a condition says.
struct Said<'a> {
    reason: &'a str,
    message: &'a str,
    generation: i64,
}

/// The conditions to report, given those reported before.
pub(crate) fn conditions(look: &Look<'_>, previous: &[PodCondition]) -> Vec<PodCondition> {
    let resizing = &look.seen.memory.resizing;
    let [pending, progress] = CONDITIONS;
    let mut conditions = Vec::new();
    match &resizing.pending {
        // What was granted is pending until it is noted: whoever waits for its end must not see neither condition before its begin.
        Some(Pending {
            answer: None | Some(Answer::Granted),
            ..
        }) => {
            conditions.extend(previous.iter().find(|c| c.type_ == pending).cloned());
        }
        Some(Pending {
            answer: Some(Answer::Deferred(message)),
            generation,
            ..
        }) => {
            let said = Said {
                reason: "Deferred",
                message,
                generation: *generation,
            };
            conditions.push(condition(look, pending, &said, previous));
        }
        None => {}
    }
    if let Some(Progress { generation, error }) = &resizing.progress {
        let said = Said {
            reason: if error.is_some() { "Error" } else { "" },
            message: error.as_ref().map_or("", |e| e.message.as_str()),
            generation: *generation,
        };
        conditions.push(condition(look, progress, &said, previous));
    }
    conditions
}

/// Its transition time is that of its reason; it is probed when it changes at all.
fn condition(
    look: &Look<'_>,
    kind: &str,
    said: &Said<'_>,
    previous: &[PodCondition],
) -> PodCondition {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let now = || Some(Time(text::second(look.now)));
    let mut condition = PodCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: some(said.reason),
        message: some(said.message),
        observed_generation: Some(said.generation),
        last_probe_time: now(),
        last_transition_time: now(),
    };
    let Some(old) = previous.iter().find(|c| c.type_ == kind) else {
        return condition;
    };
    if old.reason.as_deref().unwrap_or_default() == said.reason {
        condition
            .last_transition_time
            .clone_from(&old.last_transition_time);
        let is_same = old.message.as_deref().unwrap_or_default() == said.message
            && old.observed_generation == condition.observed_generation;
        if is_same {
            condition.last_probe_time.clone_from(&old.last_probe_time);
        }
    }
    condition
}
