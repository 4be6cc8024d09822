//! What a Job's policies say: whether it has succeeded already, and what a failed Pod means.

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::index::Indexes;
use crate::object::name;

/// What a failed Pod means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts.
    Count,
    /// It does not.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The Job has, for this reason.
    FailJob(String),
}

/// What a failed Pod means to the Job.
pub(super) fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.iter().flat_map(|p| &p.rules);
    for (index, rule) in rules.enumerate() {
        let Some(what) = matched(rule, pod) else {
            continue;
        };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "Count" => Verdict::Count,
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {index}")),
            _ => continue,
        };
    }
    Verdict::Count
}

/// What of a Pod a rule is about.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let pod = format!("{namespace}/{}", name(&pod.metadata));
    if let Some(codes) = &rule.on_exit_codes {
        let apps = status.container_statuses.iter().flatten();
        let init = status.init_container_statuses.iter().flatten();
        let (container, code) = apps.chain(init).find_map(|c| exited(c, codes))?;
        return Some(format!(
            "Container {container} for pod {pod} failed with exit code {code}"
        ));
    }
    let patterns = rule.on_pod_conditions.iter().flatten();
    let mut conditions = status.conditions.iter().flatten();
    let condition = conditions.find(|condition| {
        let is_like = |status: Option<&str>| status.unwrap_or("True") == condition.status;
        let mut patterns = patterns.clone();
        patterns.any(|p| p.type_ == condition.type_ && is_like(p.status.as_deref()))
    })?;
    Some(format!("Pod {pod} has condition {}", condition.type_))
}

/// A container that ended with one of these codes.
fn exited<'a>(
    container: &'a ContainerStatus,
    wanted: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, i32)> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let is_meant = wanted
        .container_name
        .as_ref()
        .is_none_or(|n| *n == container.name);
    let is_wanted = match wanted.operator.as_str() {
        "In" => wanted.values.contains(&code),
        "NotIn" => !wanted.values.contains(&code),
        _ => false,
    };
    (is_meant && is_wanted && code != 0).then_some((&*container.name, code))
}

/// Which rule says that the indexes that have succeeded are enough.
pub(super) fn is_enough(
    policy: Option<&SuccessPolicy>,
    succeeded: &Indexes,
    completions: i32,
) -> Option<String> {
    let is_met = |rule: &k8s_openapi::api::batch::v1::SuccessPolicyRule| {
        let is_count = |number: i32| rule.succeeded_count.is_some_and(|count| number >= count);
        match &rule.succeeded_indexes {
            None => is_count(succeeded.total()),
            Some(text) => {
                let required = Indexes::parse(text, completions);
                let common = succeeded.common(&required);
                required.total() > 0 && (common == required.total() || is_count(common))
            }
        }
    };
    if succeeded.total() == 0 {
        return None;
    }
    let index = policy?.rules.iter().position(is_met)?;
    Some(format!("Matched rules at index {index}"))
}
