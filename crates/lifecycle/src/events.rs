//! Events as §14 words them.

use k8s_openapi::api::core::v1::Pod;

use crate::kinds::Member;
use crate::observed::{ContainerKind, Verdict};
use crate::plan::{Event, EventType};
use crate::probe::{self, Answer};
use crate::text;

impl Event {
    /// `involvedObject.fieldPath` of an event about a container (§14.1); `None` for the Pod itself.
    pub fn field_path(&self) -> Option<String> {
        let (kind, name) = self.container.as_ref()?;
        let list = match kind {
            ContainerKind::Init | ContainerKind::Sidecar => "initContainers",
            ContainerKind::App => "containers",
            ContainerKind::Ephemeral => "ephemeralContainers",
        };
        Some(format!("spec.{list}{{{name}}}"))
    }
}

fn about(
    event_type: EventType,
    reason: &str,
    message: String,
    kind: ContainerKind,
    name: &str,
) -> Event {
    Event {
        event_type,
        container: Some((kind, name.to_owned())),
        ..Event::normal(reason, message)
    }
}

/// A decision about the Pod.
pub(crate) fn judged(verdict: &Verdict) -> Event {
    Event {
        event_type: verdict.event_type,
        annotations: verdict.annotations.clone(),
        ..Event::normal(&verdict.reason, &verdict.message)
    }
}

/// Normal, about a container.
pub(crate) fn normal(member: &Member<'_>, reason: &str, message: String) -> Event {
    about(
        EventType::Normal,
        reason,
        message,
        member.kind,
        member.name(),
    )
}

/// Warning, about a container.
pub(crate) fn warning(member: &Member<'_>, reason: &str, message: String) -> Event {
    about(
        EventType::Warning,
        reason,
        message,
        member.kind,
        member.name(),
    )
}

/// `Killing` with its message.
pub fn killing(kind: ContainerKind, name: &str, message: &str) -> Event {
    about(EventType::Normal, "Killing", message.to_owned(), kind, name)
}

/// `Created`, after the container was made.
pub fn created(member: &Member<'_>) -> Event {
    normal(member, "Created", "Container created".to_owned())
}

/// `Started`, after its program runs.
pub fn started(member: &Member<'_>) -> Event {
    normal(member, "Started", "Container started".to_owned())
}

/// `Failed` with `Error: %v`: what every failed start but a failed postStart says (§1.9).
pub fn failed(member: &Member<'_>, error: &str) -> Event {
    warning(member, "Failed", format!("Error: {error}"))
}

/// `BackOff` of a container that crashed (§4.1).
pub fn crash_back_off(pod: &Pod, member: &Member<'_>) -> Event {
    let message = format!(
        "Back-off restarting failed container {} in pod {}",
        member.name(),
        text::pod_format(pod)
    );
    warning(member, "BackOff", message)
}

/// What is to be told of a probe's answer (§5.4), if anything.
pub fn probed(member: &Member<'_>, kind: probe::Kind, answer: &Answer) -> Option<Event> {
    let probe = kind.title();
    match answer {
        Answer::Success => None,
        Answer::Warning(text) => Some(warning(
            member,
            "ProbeWarning",
            format!("{probe} probe warning: {text}"),
        )),
        Answer::Failure(text) => Some(warning(
            member,
            "Unhealthy",
            format!("{probe} probe failed: {text}"),
        )),
        Answer::Error(text) => Some(warning(
            member,
            "Unhealthy",
            format!("{probe} probe errored and resulted in unknown state: {text}"),
        )),
    }
}

/// `FailedPostStartHook` or `FailedPreStopHook`: the hook of this name failed (§6).
pub fn hook_failed(member: &Member<'_>, hook: &str) -> Event {
    warning(
        member,
        &format!("Failed{hook}Hook"),
        format!("{hook}Hook failed"),
    )
}

/// `LifecycleHTTPFallback`: a hook's server, by its host and port, does not speak TLS (§6).
pub fn http_fallback(server: &str) -> Event {
    let message = format!(
        "request to HTTPS lifecycle hook {server} got HTTP response, retry with HTTP succeeded"
    );
    Event::warning("LifecycleHTTPFallback", message)
}

/// `SandboxChanged` (§1.5).
pub fn sandbox_changed() -> Event {
    Event::normal(
        "SandboxChanged",
        "Pod sandbox changed, it will be killed and re-created.",
    )
}

/// `NetworkNotReady`, to be reported when a Pod's sandbox has to wait for the network (§1.3 step 2).
pub fn network_not_ready(error: &str) -> Event {
    Event::warning("NetworkNotReady", format!("network is not ready: {error}"))
}

/// `FailedCreatePodSandBox`, to be reported by the agent with the runtime's error (§1.4 step 4).
pub fn sandbox_failed(error: &str) -> Event {
    let message = format!("Failed to create pod sandbox: {error}");
    Event::warning("FailedCreatePodSandBox", message)
}

/// `Failed`, to be reported by the agent when it cannot make a Pod's directories (§1.3 step 6).
pub fn directories_failed(error: &str) -> Event {
    let message = format!("error making pod data directories: {error}");
    Event::warning("Failed", message)
}

/// `ExceededGracePeriod`, to be reported when a Pod that has to go for the node's sake is still there (§2.9).
pub fn grace_exceeded() -> Event {
    let message = "Container runtime did not kill the pod within specified grace period.";
    Event::warning("ExceededGracePeriod", message)
}

/// `FailedKillPod`, to be reported by the agent when a sandbox cannot be stopped (§2.4).
pub fn kill_failed(error: &str) -> Event {
    Event::warning("FailedKillPod", format!("error killing pod: {error}"))
}
