//! Whether this node takes a Pod it sees for the first time (§1.2).

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use jiff::Timestamp;

use crate::plan::{Event, EventType};
use crate::sysctl;
use crate::text;

/// A Pod the node refuses for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Code: pod reason and event reason.
    pub reason: String,
    /// Text of the event; the Pod's message has a prefix.
    pub message: String,
}

/// What admission looks at on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRoom {
    /// Pods admitted already and not yet finished.
    pub pods: u64,
    /// Most Pods (`status.capacity.pods`).
    pub max_pods: u64,
}

/// Checks a Pod that was never admitted before; a Pod with a start time was.
///
/// # Errors
/// The first reason to refuse it, to be reported by [`Rejection::status`] and [`Rejection::event`].
pub fn admit(pod: &core::Pod, room: NodeRoom) -> Result<(), Rejection> {
    if let Some(message) = sysctl::forbidden(pod) {
        return Err(Rejection {
            reason: "SysctlForbidden".to_owned(),
            message,
        });
    }
    if wants_apparmor(pod) {
        return Err(Rejection {
            reason: "AppArmor".to_owned(),
            message: "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned(),
        });
    }
    let os = pod
        .spec
        .as_ref()
        .and_then(|s| s.os.as_ref())
        .map(|os| os.name.as_str());
    if os.is_some_and(|os| os != "linux") {
        return Err(Rejection {
            reason: "PodOSNotSupported".to_owned(),
            message: "Failed to admit pod as the OS field doesn't match node OS".to_owned(),
        });
    }
    if room.pods >= room.max_pods {
        let message = format!(
            "Node didn't have enough resource: pods, requested: 1, used: {}, capacity: {}",
            room.pods, room.max_pods
        );
        return Err(Rejection {
            reason: "OutOfpods".to_owned(),
            message,
        });
    }
    Ok(())
}

/// Whether a container asks for an AppArmor profile (§11.5), which this node never enforces. The annotations are kept in step with the
/// fields by the API server.
fn wants_apparmor(pod: &core::Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let of_pod = spec.security_context.as_ref();
    let of_pod = of_pod.and_then(|context| context.app_armor_profile.as_ref());
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers).any(|container| {
        let own = container.security_context.as_ref();
        let own = own.and_then(|context| context.app_armor_profile.as_ref());
        let profile = own.or(of_pod);
        profile.is_some_and(|profile| profile.type_ != "Unconfined")
    })
}

/// How the message of a rejected Pod begins.
const REJECTED: &str = "Pod was rejected: ";

/// Whether this is the status of a Pod the node did not take; no container of it was ever made.
pub(crate) fn was_rejected(status: &core::PodStatus) -> bool {
    let message = status.message.as_deref().unwrap_or_default();
    status.phase.as_deref() == Some("Failed")
        && message.starts_with(REJECTED)
        && status.container_statuses.is_none()
}

impl Rejection {
    /// The status of the refused Pod; no container status is written.
    pub fn status(&self, pod: &core::Pod, now: Timestamp) -> core::PodStatus {
        let previous = pod.status.clone().unwrap_or_default();
        core::PodStatus {
            phase: Some("Failed".to_owned()),
            reason: Some(self.reason.clone()),
            message: Some(format!("{REJECTED}{}", self.message)),
            start_time: previous
                .start_time
                .clone()
                .or_else(|| Some(Time(text::second(now)))),
            observed_generation: pod.metadata.generation,
            ..previous
        }
    }

    /// The event that says so.
    pub fn event(&self) -> Event {
        Event {
            event_type: EventType::Warning,
            reason: self.reason.clone(),
            message: self.message.clone(),
            container: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observed::Observed;

    #[test]
    fn a_profile_that_nobody_enforces_is_refused() {
        let profile = |kind: &str| json!({"appArmorProfile": {"type": kind}});
        let table = [
            (json!({}), json!({}), true),
            (profile("Unconfined"), json!({}), true),
            (profile("RuntimeDefault"), json!({}), false),
            (profile("RuntimeDefault"), profile("Unconfined"), true),
            (json!({}), profile("Localhost"), false),
        ];
        for (of_pod, own, taken) in table {
            let pod: core::Pod = serde_json::from_value(json!({"spec": {"securityContext": of_pod,
                "containers": [{"name": "c", "securityContext": own}]}}))
            .expect("a Pod");
            let room = NodeRoom {
                pods: 0,
                max_pods: 1,
            };
            let refused = admit(&pod, room).err().map(|r| (r.reason, r.message));
            let text = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
            let want = (!taken).then(|| ("AppArmor".to_owned(), text.to_owned()));
            assert_eq!(refused, want, "{of_pod} {own}");
        }
    }

    #[test]
    fn what_forbids_comes_first() {
        let spec = json!({"os": {"name": "windows"}, "containers": [],
            "securityContext": {"sysctls": [{"name": "vm.swappiness", "value": "1"}]}});
        let pod: core::Pod = serde_json::from_value(json!({ "spec": spec })).expect("a Pod");
        let room = NodeRoom {
            pods: 1,
            max_pods: 1,
        };
        let refused = admit(&pod, room).expect_err("refused");
        assert_eq!(
            (refused.reason.as_str(), refused.message.as_str()),
            (
                "SysctlForbidden",
                "forbidden sysctl: \"vm.swappiness\" not allowlisted"
            )
        );
    }

    #[test]
    fn a_rejected_pod_has_no_containers_to_tell_of() {
        let mut pod: core::Pod = serde_json::from_value(json!({"metadata": {"generation": 3},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}))
        .expect("a Pod");
        let rejection = Rejection {
            reason: "OutOfcpu".to_owned(),
            message: "too much".to_owned(),
        };
        let now = Timestamp::UNIX_EPOCH;
        let told = rejection.status(&pod, now);
        pod.status = Some(told.clone());
        let mut seen = Observed::default();
        for phase in [
            crate::WorkerPhase::Syncing,
            crate::WorkerPhase::Terminating,
            crate::WorkerPhase::Terminated,
        ] {
            seen.memory.phase = phase;
            assert_eq!(crate::status(&pod, &seen, now), told, "{phase:?}");
        }
    }
}
