//! Pods as those see them who keep a number of them: made from a template, active, ready, available.

pub use api::pod::{is_over, is_ready, phase};

use api::pod::ready;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// A Pod made from a controller's template; the API gives it a name that begins with the controller's.
pub fn from_template(owner: &OwnerReference, template: &PodTemplateSpec) -> Pod {
    let given = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name)),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Whether it runs, or is to run, and goes on.
pub fn is_active(pod: &Pod) -> bool {
    !is_over(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether it is being deleted and not over yet.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_over(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// Since when it is ready, as far as that is known.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    ready(pod)?.last_transition_time.as_ref().map(|t| t.0)
}

/// Whether it has been ready for so many seconds.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    if min_ready_seconds == 0 {
        return is_ready(pod);
    }
    available_at(pod, min_ready_seconds).is_some_and(|at| at <= now)
}

/// When a ready Pod becomes available if it stays ready; `None` where that cannot be told.
pub fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let least = SignedDuration::from_secs(min_ready_seconds.into());
    ready_since(pod)?.checked_add(least).ok()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodCondition, PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::owner;

    fn ready_at(second: i64) -> Pod {
        let condition = PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(Time(Timestamp::new(second, 0).unwrap())),
            ..PodCondition::default()
        };
        Pod {
            status: Some(PodStatus {
                phase: Some("Running".into()),
                conditions: Some(vec![condition]),
                ..PodStatus::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn a_pod_is_available_when_it_was_ready_long_enough() {
        let (pod, at) = (ready_at(100), |s| Timestamp::new(s, 0).unwrap());
        assert!(is_available(&pod, 0, at(0)));
        assert!(!is_available(&pod, 10, at(109)));
        assert!(is_available(&pod, 10, at(110)));
        assert_eq!(available_at(&pod, 10), Some(at(110)));
        assert!(!is_available(&Pod::default(), 0, at(110)));
    }

    #[test]
    fn a_pod_has_of_its_template_what_is_not_its_name() {
        let template = PodTemplateSpec {
            metadata: Some(ObjectMeta {
                name: Some("ignored".into()),
                labels: Some([("a".into(), "b".into())].into()),
                finalizers: Some(vec!["x/y".into()]),
                ..ObjectMeta::default()
            }),
            spec: Some(PodSpec::default()),
        };
        let controller = ObjectMeta {
            name: Some("web".into()),
            uid: Some("u".into()),
            ..ObjectMeta::default()
        };
        let reference = owner::reference("apps/v1", "ReplicaSet", &controller);
        let pod = from_template(&reference, &template).metadata;
        assert_eq!((pod.name, pod.generate_name), (None, Some("web-".into())));
        assert_eq!(pod.labels, Some([("a".into(), "b".into())].into()));
        assert_eq!(pod.finalizers, Some(vec!["x/y".into()]));
        assert_eq!(pod.owner_references, Some(vec![reference]));
    }
}
