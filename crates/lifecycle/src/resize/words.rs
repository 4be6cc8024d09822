//! Events of a resize (§12.7): what happened, and the sizes as JSON.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::Serialize;

use crate::kinds::{self, Member};
use crate::plan::{Event, EventType};
use crate::resources::List;

/// Upstream's order of fields, here and below.
#[derive(Serialize)]
struct Sizes<'a> {
    #[serde(skip_serializing_if = "is_none")]
    limits: Option<&'a List>,
    #[serde(skip_serializing_if = "is_none")]
    requests: Option<&'a List>,
}

fn is_none(list: &Option<&List>) -> bool {
    list.is_none_or(|list| list.is_empty())
}

#[derive(Serialize)]
struct Sized<'a> {
    name: &'a str,
    resources: Sizes<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Sized<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Sized<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

fn sized<'a>(member: &Member<'a>) -> Sized<'a> {
    let spec: &'a Container = member.spec;
    let own: Option<&'a ResourceRequirements> = spec.resources.as_ref();
    Sized {
        name: &spec.name,
        resources: Sizes {
            limits: own.and_then(|r| r.limits.as_ref()),
            requests: own.and_then(|r| r.requests.as_ref()),
        },
    }
}

fn event(pod: &Pod, what: &str, event_type: EventType, generation: i64, error: &str) -> Event {
    let summary = Summary {
        init_containers: kinds::init(pod).iter().map(sized).collect(),
        containers: kinds::apps(pod).iter().map(sized).collect(),
        generation,
        error,
    };
    let text = serde_json::to_string(&summary).unwrap_or_default();
    let mut reason = what.to_owned();
    if let Some(first) = reason.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Event {
        event_type,
        ..Event::normal(
            &format!("Resize{reason}"),
            format!("Pod resize {what}: {text}"),
        )
    }
}

/// `ResizeStarted`: the Pod was allocated what its spec says.
pub fn started(pod: &Pod, generation: i64) -> Event {
    event(pod, "started", EventType::Normal, generation, "")
}

/// `ResizeCompleted`: what the Pod was allocated is in force.
pub fn completed(pod: &Pod, generation: i64) -> Event {
    event(pod, "completed", EventType::Normal, generation, "")
}

/// `ResizeDeferred`: the node has no room for what the spec of `pod` says.
pub fn deferred(pod: &Pod, generation: i64, why: &str) -> Event {
    event(pod, "Deferred", EventType::Warning, generation, why)
}

/// `ResizeError`: what the Pod was allocated cannot be given to it now.
pub fn failed(pod: &Pod, generation: i64, why: &str) -> Event {
    event(pod, "error", EventType::Warning, generation, why)
}
