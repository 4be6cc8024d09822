//! What to do about a container's image at the moment it is started (§4.2, §4.4), decided purely.
//!
//! The agent asks [`decide`] first. [`Decision::Use`] starts with the image that is here, [`Decision::Pull`] asks the registry,
//! after which [`pulled`] or [`failed`] says what to report; [`Decision::Fail`] fails the start without touching the network.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::events::{self, normal, warning};
use crate::kinds::Member;
use crate::observed::{Memory, PullBackOff, StartError};
use crate::plan::{Event, NodePolicy};
use crate::reference;
use crate::restart::next_delay;
use crate::text;

/// `imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Ask the registry at every start.
    Always,
    /// Ask it only for an image that is not here.
    IfNotPresent,
    /// Never ask it.
    Never,
}

/// Whether the image is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Present,
    /// It is not.
    Absent,
    /// Looking it up failed, with this error.
    Unknown(String),
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Start with the image that is here, and report `event`.
    Use {
        /// `Pulled`: already present.
        event: Event,
    },
    /// Report `event`, then pull.
    Pull {
        /// `Pulling`.
        event: Event,
    },
    /// Do not start.
    Fail(Failure),
}

/// A start that failed for its image.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// To be remembered in `Memory::start_errors`.
    pub error: StartError,
    /// To be reported, in order.
    pub events: Vec<Event>,
    /// To be remembered in `Memory::pulls` under the image as the spec writes it; `None` leaves the entry alone.
    pub back_off: Option<PullBackOff>,
}

/// The pull policy of a container: its own, else `Always` for the tag `latest` and `IfNotPresent` for others (§15.1).
pub fn policy_of(member: &Member<'_>) -> PullPolicy {
    match member.spec.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        _ => match reference::with_default_tag(member.image()) {
            Ok(full) if full.ends_with(":latest") => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        },
    }
}

/// The pull back-off of a container's image; none when it was asked since that the container be tried again.
pub fn entry<'a>(
    pod: &Pod,
    member: &Member<'_>,
    memory: &'a Memory,
    now: Timestamp,
) -> Option<&'a PullBackOff> {
    let asked = api::asks::retry_since(pod.metadata.annotations.as_ref(), member.name());
    let asked = asked.filter(|at| *at <= now);
    let entry = memory.pulls.get(member.image())?;
    asked
        .is_none_or(|at| entry.failed_at >= at)
        .then_some(entry)
}

/// Decides about an image at start time. `entry` is the pull back-off of this image, if there is one. The name to look up and
/// to pull is [`reference::with_default_tag`] of the spec's.
pub fn decide(
    member: &Member<'_>,
    presence: &Presence,
    entry: Option<&PullBackOff>,
    now: Timestamp,
) -> Decision {
    let image = member.image();
    let fail = |reason: &str, event_reason: &str, message: String| {
        let events = vec![
            warning(member, event_reason, message.clone()),
            events::failed(member, reason),
        ];
        Decision::Fail(Failure {
            error: StartError {
                reason: reason.to_owned(),
                message,
                at: now,
            },
            events,
            back_off: None,
        })
    };
    if let Err(error) = reference::with_default_tag(image) {
        return fail(
            "InvalidImageName",
            "InspectFailed",
            format!("Failed to apply default image tag \"{image}\": {error}"),
        );
    }
    let policy = policy_of(member);
    match (policy, presence) {
        (PullPolicy::Never | PullPolicy::IfNotPresent, Presence::Unknown(error)) => {
            return fail(
                "ImageInspectError",
                "InspectFailed",
                format!("Failed to inspect image \"{image}\": {error}"),
            );
        }
        (PullPolicy::Never | PullPolicy::IfNotPresent, Presence::Present) => {
            let message = format!(
                "Container image \"{image}\" already present on machine and can be accessed by the pod"
            );
            return Decision::Use {
                event: normal(member, "Pulled", message),
            };
        }
        (PullPolicy::Never, Presence::Absent) => {
            let message =
                format!("Container image \"{image}\" is not present with pull policy of Never");
            return fail("ErrImageNeverPull", "ErrImageNeverPull", message);
        }
        (PullPolicy::Always, _) | (PullPolicy::IfNotPresent, Presence::Absent) => {}
    }
    match entry.filter(|e| held_until(e, now).is_some()) {
        Some(entry) => Decision::Fail(backing_off(member, entry, now)),
        None => Decision::Pull {
            event: normal(member, "Pulling", format!("Pulling image \"{image}\"")),
        },
    }
}

/// `Pulled` after a pull that took `pulling`, or `waiting` with the time spent in the queue.
pub fn pulled(
    member: &Member<'_>,
    pulling: SignedDuration,
    waiting: SignedDuration,
    size_bytes: u64,
) -> Event {
    let millis = |d: SignedDuration| {
        text::go_duration(SignedDuration::from_millis(
            i64::try_from(d.as_millis()).unwrap_or(i64::MAX),
        ))
    };
    let message = format!(
        "Successfully pulled image \"{}\" in {} ({} including waiting). Image size: {size_bytes} bytes.",
        member.image(),
        millis(pulling),
        millis(waiting)
    );
    normal(member, "Pulled", message)
}

/// What a failed pull comes to: `ErrImagePull` or the error's own class, its events, and the next back-off entry.
pub fn failed(
    member: &Member<'_>,
    error: &str,
    entry: Option<&PullBackOff>,
    now: Timestamp,
    policy: &NodePolicy,
) -> Failure {
    let image = member.image();
    let (reason, message) = classify(image, error);
    let forget_after = policy
        .back_off_max
        .checked_mul(2)
        .unwrap_or(SignedDuration::MAX);
    let delay = entry
        .filter(|e| now.duration_since(e.failed_at) <= forget_after)
        .map_or(policy.back_off_initial.min(policy.back_off_max), |e| {
            next_delay(e.delay, policy)
        });
    Failure {
        events: vec![
            warning(
                member,
                "Failed",
                format!("Failed to pull image \"{image}\": {error}"),
            ),
            events::failed(member, reason),
        ],
        back_off: Some(PullBackOff {
            delay,
            failed_at: now,
            error: format!("{reason}: {message}"),
        }),
        error: StartError {
            reason: reason.to_owned(),
            message,
            at: now,
        },
    }
}

/// Classes of pull errors, by prefix of the runtime's error (§4.4 rule 6).
fn classify(image: &str, error: &str) -> (&'static str, String) {
    let classes = [
        ("RegistryUnavailable", "the registry is unavailable"),
        (
            "SignatureValidationFailed",
            "the signature validation failed",
        ),
    ];
    for (class, words) in classes {
        if let Some(rest) = error.strip_prefix(class) {
            return (
                class,
                format!("image pull failed for {image} because {words}{rest}"),
            );
        }
    }
    ("ErrImagePull", error.to_owned())
}

/// A start during pull back-off: `ImagePullBackOff`, no network.
pub(crate) fn backing_off(member: &Member<'_>, entry: &PullBackOff, now: Timestamp) -> Failure {
    let plain = format!("Back-off pulling image \"{}\"", member.image());
    let message = if entry.error.is_empty() {
        plain.clone()
    } else {
        format!("{plain}: {}", entry.error)
    };
    Failure {
        events: vec![
            normal(member, "BackOff", plain),
            events::failed(member, "ImagePullBackOff"),
        ],
        error: StartError {
            reason: "ImagePullBackOff".to_owned(),
            message,
            at: now,
        },
        back_off: None,
    }
}

/// Until when an image may not be asked for; `None` when it may.
pub(crate) fn held_until(entry: &PullBackOff, now: Timestamp) -> Option<Timestamp> {
    let until = text::after(entry.failed_at, entry.delay);
    (now < until).then_some(until)
}

/// Whether a waiting reason comes from a failed pull, so that pull back-off governs the next attempt.
pub(crate) fn is_pull_error(reason: &str) -> bool {
    matches!(
        reason,
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "SignatureValidationFailed"
    )
}
