//! What an autoscaler reports.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Plan, Rescale};
use crate::job::News;

/// The condition that says whether the target can be read and changed.
pub(super) const ABLE: &str = "AbleToScale";
/// The condition that says whether a number can be computed.
pub(super) const ACTIVE: &str = "ScalingActive";
/// The condition that says whether that number is kept from coming true.
pub(super) const LIMITED: &str = "ScalingLimited";

/// A status that is being made, and what is told meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub(super) status: HorizontalPodAutoscalerStatus,
    pub(super) news: Vec<News>,
    /// How many Pods were wanted when last reported.
    pub(super) reported: i32,
    now: Timestamp,
}

impl Draft {
    pub(super) fn new(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Self {
        let status = autoscaler.status.clone().unwrap_or_default();
        Draft {
            reported: status.desired_replicas,
            status,
            news: Vec::new(),
            now,
        }
    }

    /// Sets a condition; its time is when it became another.
    pub(super) fn set(&mut self, kind: &str, state: &str, reason: &str, message: String) {
        let conditions = self.status.conditions.get_or_insert_default();
        let at = conditions.iter().position(|c| c.type_ == kind);
        let at = at.unwrap_or_else(|| {
            conditions.push(HorizontalPodAutoscalerCondition {
                type_: kind.to_owned(),
                ..HorizontalPodAutoscalerCondition::default()
            });
            conditions.len() - 1
        });
        let condition = &mut conditions[at];
        if condition.status != state {
            condition.last_transition_time = Some(time(self.now));
        }
        condition.status = state.to_owned();
        condition.reason = Some(reason.to_owned());
        condition.message = Some(message);
    }

    pub(super) fn tell(&mut self, type_: &'static str, reason: &str, message: String) {
        self.news.push(News {
            type_,
            reason: reason.to_owned(),
            message,
        });
    }

    pub(super) fn warn(&mut self, reason: &str, message: String) {
        self.tell("Warning", reason, message);
    }

    /// The plan that reports this.
    pub(super) fn plan(self, rescale: Option<Rescale>, present: i32) -> Plan {
        Plan {
            rescale,
            news: self.news.clone(),
            draft: self,
            present,
        }
    }
}

/// A time as the API has it: whole seconds.
pub(super) fn time(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
