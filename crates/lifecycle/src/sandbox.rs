//! Which sandbox a Pod has, and when it gets another (§1.5).

use cri::{NamespaceMode, SandboxState};

use crate::kinds;
use crate::look::Look;
use crate::restart;

/// What is to be done about the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is good; containers go into this one.
    Keep(String),
    /// End what is left of the old ones, then make one with this number. `changed` asks for the `SandboxChanged` event.
    Create { attempt: u32, changed: bool },
    /// The Pod has done its work or may not start over: end it.
    GiveUp(&'static str),
}

/// Decides about the sandbox.
pub(crate) fn decide(look: &Look<'_>) -> Verdict {
    if let Some(keep) = look.usable_sandbox() {
        return Verdict::Keep(keep.id.clone());
    }
    let all = look.sandboxes();
    let Some(newest) = all.first() else {
        // Records without a sandbox still forbid a Pod that never restarts to begin again.
        return if look.seen.containers.is_empty() {
            Verdict::Create {
                attempt: 0,
                changed: false,
            }
        } else {
            replace(look, 0, false)
        };
    };
    let ready = all
        .iter()
        .filter(|s| s.state == SandboxState::Ready)
        .count();
    let same_network = look.host_network() == (newest.namespaces.network == NamespaceMode::Node);
    let only_network_differs = ready == 1 && newest.state == SandboxState::Ready && !same_network;
    replace(
        look,
        newest.metadata.attempt.saturating_add(1),
        !only_network_differs,
    )
}

fn replace(look: &Look<'_>, attempt: u32, changed: bool) -> Verdict {
    let never = look
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.restart_policy.as_deref())
        == Some("Never");
    if never && !look.seen.containers.is_empty() {
        return Verdict::GiveUp("the sandbox is gone and restartPolicy is Never");
    }
    let apps = kinds::apps(look.pod);
    let any_created = apps.iter().any(|m| look.newest(m.name()).is_some());
    let any_left = apps.iter().any(|m| {
        let newest = look.newest(m.name());
        newest.is_some_and(|c| look.alive(c)) || restart::due(look, m, newest)
    });
    if any_created && !any_left {
        return Verdict::GiveUp("the sandbox is gone and no container is left to run");
    }
    Verdict::Create { attempt, changed }
}
