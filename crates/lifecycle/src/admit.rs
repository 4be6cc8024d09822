//! Whether this node takes a Pod it sees for the first time (§1.2).

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use jiff::Timestamp;

use crate::plan::{Event, EventType};
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

impl Rejection {
    /// The status of the refused Pod; no container status is written.
    pub fn status(&self, pod: &core::Pod, now: Timestamp) -> core::PodStatus {
        let previous = pod.status.clone().unwrap_or_default();
        core::PodStatus {
            phase: Some("Failed".to_owned()),
            reason: Some(self.reason.clone()),
            message: Some(format!("Pod was rejected: {}", self.message)),
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
