//! What to do about the images of a container at the moment it is started (§4.2, §4.4), decided purely: its own, and those of the
//! volumes it mounts (§10.7), which come first.
//!
//! The agent asks [`decide`] first, for each of them. [`Decision::Use`] starts with the image that is here, [`Decision::Pull`] asks the registry,
//! after which [`pulled`] or [`failed`] says what to report; [`Decision::Fail`] fails the start without touching the network.

pub mod access;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::events;
use crate::kinds::Member;
use crate::observed::{Memory, PullBackOff, StartError};
use crate::plan::{Event, EventType, NodePolicy};
use crate::reference;
use crate::restart::next_delay;
use crate::text;

/// An image that a container needs to start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted<'a> {
    /// The container.
    pub member: Member<'a>,
    /// The image, as the spec writes it.
    pub image: &'a str,
    /// When the registry is asked for it.
    pub policy: PullPolicy,
    /// The volume it is for; `None` for the image the container is made from.
    pub volume: Option<&'a str>,
}

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

/// The image a container is made from.
pub fn own<'a>(member: &Member<'a>) -> Wanted<'a> {
    let image = member.image();
    Wanted {
        member: *member,
        image,
        policy: policy(member.spec.image_pull_policy.as_deref(), image),
        volume: None,
    }
}

/// The images of the volumes a container mounts (§10.7), in the order of the Pod's volumes.
pub fn of_volumes<'a>(pod: &'a Pod, member: &Member<'a>) -> Vec<Wanted<'a>> {
    let mounts = member.spec.volume_mounts.as_deref().unwrap_or_default();
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
    let mounted = volumes.unwrap_or_default().iter();
    let mounted = mounted.filter(|volume| mounts.iter().any(|mount| mount.name == volume.name));
    let wanted = mounted.filter_map(|volume| {
        let source = volume.image.as_ref()?;
        let image = source.reference.as_deref().unwrap_or_default();
        Some(Wanted {
            member: *member,
            image,
            policy: policy(source.pull_policy.as_deref(), image),
            volume: Some(&volume.name),
        })
    });
    wanted.collect()
}

/// Every image a container needs, in the order in which they are got.
pub fn all<'a>(pod: &'a Pod, member: &Member<'a>) -> Vec<Wanted<'a>> {
    let mut all = of_volumes(pod, member);
    all.push(own(member));
    all
}

/// What the spec says, else `Always` for the tag `latest` and `IfNotPresent` for others (§15.1).
fn policy(said: Option<&str>, image: &str) -> PullPolicy {
    match said {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        _ => match reference::with_default_tag(image) {
            Ok(full) if full.ends_with(":latest") => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        },
    }
}

impl Wanted<'_> {
    /// An event about the image: it names the container only when that is made from it.
    fn event(&self, event_type: EventType, reason: &str, message: String) -> Event {
        let container = (self.member.kind, self.member.name().to_owned());
        Event {
            event_type,
            container: self.volume.is_none().then_some(container),
            ..Event::normal(reason, message)
        }
    }
}

/// The pull back-off of an image; none when it was asked since that its container be tried again.
pub fn entry<'a>(
    pod: &Pod,
    wanted: &Wanted<'_>,
    memory: &'a Memory,
    now: Timestamp,
) -> Option<&'a PullBackOff> {
    let name = wanted.member.name();
    let asked = api::asks::retry_since(pod.metadata.annotations.as_ref(), name);
    let asked = asked.filter(|at| *at <= now);
    let entry = memory.pulls.get(wanted.image)?;
    asked
        .is_none_or(|at| entry.failed_at >= at)
        .then_some(entry)
}

/// Decides about an image at start time. `entry` is the pull back-off of this image, if there is one. The name to look up and
/// to pull is [`reference::with_default_tag`] of the spec's.
pub fn decide(
    wanted: &Wanted<'_>,
    presence: &Presence,
    entry: Option<&PullBackOff>,
    now: Timestamp,
) -> Decision {
    let image = wanted.image;
    let fail = |reason: &str, event_reason: &str, message: String| {
        let events = vec![
            wanted.event(EventType::Warning, event_reason, message.clone()),
            events::failed(&wanted.member, reason),
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
    match (wanted.policy, presence) {
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
                event: wanted.event(EventType::Normal, "Pulled", message),
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
        Some(entry) => Decision::Fail(backing_off(wanted, entry, now)),
        None => {
            let message = format!("Pulling image \"{image}\"");
            let event = wanted.event(EventType::Normal, "Pulling", message);
            Decision::Pull { event }
        }
    }
}

/// `Pulled` after a pull that took `pulling`, or `waiting` with the time spent in the queue.
pub fn pulled(
    wanted: &Wanted<'_>,
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
        wanted.image,
        millis(pulling),
        millis(waiting)
    );
    wanted.event(EventType::Normal, "Pulled", message)
}

/// What a failed pull comes to: `ErrImagePull` or the error's own class, its events, and the next back-off entry.
pub fn failed(
    wanted: &Wanted<'_>,
    error: &str,
    entry: Option<&PullBackOff>,
    now: Timestamp,
    policy: &NodePolicy,
) -> Failure {
    let image = wanted.image;
    let (reason, message) = classify(image, error);
    let most = policy.pull_back_off_max;
    let forget_after = most.checked_mul(2).unwrap_or(SignedDuration::MAX);
    let delay = entry
        .filter(|e| now.duration_since(e.failed_at) <= forget_after)
        .map_or(policy.back_off_initial.min(most), |e| {
            next_delay(e.delay, most)
        });
    Failure {
        events: vec![
            wanted.event(
                EventType::Warning,
                "Failed",
                format!("Failed to pull image \"{image}\": {error}"),
            ),
            events::failed(&wanted.member, reason),
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
pub(crate) fn backing_off(wanted: &Wanted<'_>, entry: &PullBackOff, now: Timestamp) -> Failure {
    let plain = format!("Back-off pulling image \"{}\"", wanted.image);
    let message = if entry.error.is_empty() {
        plain.clone()
    } else {
        format!("{plain}: {}", entry.error)
    };
    Failure {
        events: vec![
            wanted.event(EventType::Normal, "BackOff", plain),
            events::failed(&wanted.member, "ImagePullBackOff"),
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
