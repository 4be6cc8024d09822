//! HorizontalPodAutoscalers: as many Pods as keep what they use near a target (upstream's horizontal controller).
//!
//! A plan is made of what was just measured, and of a [`Memory`]: what earlier plans of this autoscaler wanted and did. A new controller
//! begins without one, as upstream's does.

mod behavior;
mod group;
mod metric;
mod status;
mod usage;

pub use behavior::Memory;
pub use usage::{PodUse, Uses};

use api::gotext::quote;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::job::News;
use metric::Found;
use status::{ABLE, ACTIVE, Draft};

/// How often an autoscaler looks at its target.
pub const PERIOD: SignedDuration = SignedDuration::from_secs(15);

/// How many Pods there are of a target: its Scale.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// How many there should be.
    pub replicas: i32,
    /// How many there are.
    pub present: i32,
    /// Which they are, as text.
    pub selector: String,
}

/// What a plan is made of.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The target, or why it could not be read.
    pub target: Result<&'a Target, &'a str>,
    /// The Pods the target selects.
    pub pods: &'a [Pod],
    /// What they use, or why that could not be measured.
    pub uses: Result<&'a Uses, &'a str>,
    /// The autoscalers of these Pods, namespace and name; this is one of them.
    pub rivals: &'a [(String, String)],
}

/// What is to be done about an autoscaler.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// First.
    pub rescale: Option<Rescale>,
    /// Told at once.
    pub news: Vec<News>,
    draft: Draft,
    present: i32,
}

/// Another size for a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescale {
    /// How many Pods there should be.
    pub replicas: i32,
    /// Why.
    pub reason: String,
}

/// Whether there is anything to be measured for a plan: the target has Pods, and not too many or too few.
pub fn measures(autoscaler: &HorizontalPodAutoscaler, target: &Target) -> bool {
    let (least, most) = bounds(autoscaler);
    target.replicas != 0 && (least..=most).contains(&target.replicas)
}

fn bounds(autoscaler: &HorizontalPodAutoscaler) -> (i32, i32) {
    let spec = &autoscaler.spec;
    (spec.min_replicas.unwrap_or(1), spec.max_replicas)
}

/// Plans for an autoscaler.
pub fn plan(
    autoscaler: &HorizontalPodAutoscaler,
    seen: Seen<'_>,
    memory: &mut Memory,
    now: Timestamp,
) -> Plan {
    let mut draft = Draft::new(autoscaler, now);
    let target = match seen.target {
        Ok(target) => target,
        Err(why) => {
            draft.warn("FailedGetScale", why.to_owned());
            let message =
                format!("the HPA controller was unable to get the target's current scale: {why}");
            draft.set(ABLE, "False", "FailedGetScale", message);
            return draft.plan(None, 0);
        }
    };
    let message = "the HPA controller was able to get the target's current scale";
    draft.set(ABLE, "True", "SucceededGetScale", message.to_owned());
    memory.begin(target.replicas, now);
    let (least, most) = bounds(autoscaler);
    let to = |replicas, what: &str| Rescale {
        replicas,
        reason: format!("Current number of replicas {what}"),
    };
    let rescale = if target.replicas == 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        draft.set(ACTIVE, "False", "ScalingDisabled", message.to_owned());
        None
    } else if target.replicas > most {
        Some(to(most, "above Spec.MaxReplicas"))
    } else if target.replicas < least {
        Some(to(least, "below Spec.MinReplicas"))
    } else {
        match measured(autoscaler, target, seen, &mut draft, now) {
            Ok(found) => normalized(autoscaler, target, found, memory, &mut draft, now),
            Err(why) => {
                draft.warn("FailedComputeMetricsReplicas", why);
                draft.status.current_replicas = Some(target.replicas);
                return draft.plan(None, target.replicas);
            }
        }
    };
    draft.status.current_replicas = Some(target.replicas);
    draft.status.desired_replicas = target.replicas;
    draft.plan(rescale, target.replicas)
}

/// What the metrics ask for, or why nothing can be said.
fn measured(
    autoscaler: &HorizontalPodAutoscaler,
    target: &Target,
    seen: Seen<'_>,
    draft: &mut Draft,
    now: Timestamp,
) -> Result<Found, String> {
    draft.status.current_metrics = None;
    check_selector(target, seen, draft)?;
    let mut best: Option<Found> = None;
    let mut first = None;
    let mut wrong = 0;
    let specs = autoscaler.spec.metrics.as_deref().unwrap_or_default();
    let mut statuses = Vec::new();
    for spec in specs {
        match metric::look(autoscaler, spec, target, seen, now) {
            Ok((found, status)) => {
                statuses.push(status);
                if best
                    .as_ref()
                    .is_none_or(|best| found.replicas > best.replicas)
                {
                    best = Some(found);
                }
            }
            Err(failure) => {
                statuses.push(Default::default());
                draft.warn(failure.reason, failure.why.clone());
                wrong += 1;
                first.get_or_insert(failure);
            }
        }
    }
    draft.status.current_metrics = Some(statuses);
    let goes_down = |found: &Found| found.replicas < target.replicas;
    match (best, first) {
        (Some(best), None) => Ok(active(best, draft)),
        // What is not known might keep others from leaving.
        (Some(best), Some(_)) if !goes_down(&best) => Ok(active(best, draft)),
        (_, Some(failure)) => {
            let message = format!(
                "the HPA was unable to compute the replica count: {}",
                failure.why
            );
            draft.set(ACTIVE, "False", failure.reason, message);
            let all = specs.len();
            let error = failure.error;
            Err(format!(
                "invalid metrics ({wrong} invalid out of {all}), first error is: {error}"
            ))
        }
        (None, None) => Err("no metrics".to_owned()),
    }
}

fn active(best: Found, draft: &mut Draft) -> Found {
    let message = format!(
        "the HPA was able to successfully calculate a replica count from {}",
        best.name
    );
    draft.set(ACTIVE, "True", "ValidMetricFound", message);
    best
}

fn check_selector(target: &Target, seen: Seen<'_>, draft: &mut Draft) -> Result<(), String> {
    let selector = &target.selector;
    if selector.is_empty() {
        let why = "selector is required";
        draft.warn("SelectorRequired", why.to_owned());
        let message = "the HPA target's scale is missing a selector";
        draft.set(ACTIVE, "False", "InvalidSelector", message.to_owned());
        return Err(why.to_owned());
    }
    if seen.rivals.len() > 1 {
        let rivals = seen.rivals.iter();
        let rivals = rivals.map(|(namespace, name)| format!("{{{name} {namespace}}}"));
        let rivals: Vec<String> = rivals.collect();
        let why = format!(
            "pods by selector {selector} are controlled by multiple HPAs: [{}]",
            rivals.join(" ")
        );
        draft.warn("AmbiguousSelector", why.clone());
        draft.set(ACTIVE, "False", "AmbiguousSelector", why.clone());
        return Err(why);
    }
    Ok(())
}

/// What becomes of what the metrics ask for: not too soon, too fast, too far.
fn normalized(
    autoscaler: &HorizontalPodAutoscaler,
    target: &Target,
    found: Found,
    memory: &mut Memory,
    draft: &mut Draft,
    now: Timestamp,
) -> Option<Rescale> {
    let current = target.replicas;
    let wanted = found.replicas.max(0);
    let replicas = behavior::normalize(autoscaler, current, wanted, memory, draft, now);
    let reason = if wanted > current {
        format!("{} above target", found.name)
    } else if wanted < current {
        "All metrics below target".to_owned()
    } else {
        String::new()
    };
    (replicas != current).then_some(Rescale { replicas, reason })
}

impl Plan {
    /// What is to be reported when the target was given its new size, or could not be, and what is told of that.
    pub fn carried_out(
        self,
        autoscaler: &HorizontalPodAutoscaler,
        done: Result<(), &str>,
        memory: &mut Memory,
        now: Timestamp,
    ) -> (HorizontalPodAutoscalerStatus, Vec<News>) {
        let Plan {
            rescale,
            mut draft,
            present,
            ..
        } = self;
        draft.news.clear();
        let Some(Rescale { replicas, reason }) = rescale else {
            return (draft.status, draft.news);
        };
        match done {
            Ok(()) => {
                let message =
                    format!("the HPA controller was able to update the target scale to {replicas}");
                draft.set(ABLE, "True", "SucceededRescale", message);
                let message = format!("New size: {replicas}; reason: {reason}");
                draft.tell("Normal", "SuccessfulRescale", message);
                memory.rescaled(autoscaler, present, replicas, now);
                draft.status.desired_replicas = replicas;
                draft.status.last_scale_time = Some(status::time(now));
            }
            Err(why) => {
                let message = format!("New size: {replicas}; reason: {reason}; error: {why}");
                draft.warn("FailedRescale", message);
                let message =
                    format!("the HPA controller was unable to update the target scale: {why}");
                draft.set(ABLE, "False", "FailedUpdateScale", message);
                draft.status.desired_replicas = draft.reported;
            }
        }
        (draft.status, draft.news)
    }
}

/// What is said of a target whose kind nobody knows.
pub fn no_kind(group: &str, kind: &str) -> String {
    format!(
        "no matches for kind {} in group {}",
        quote(kind),
        quote(group)
    )
}

#[cfg(test)]
mod tests;
