//! The Pods a Job makes, and those it makes go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::index::{self, INDEX};
use super::policy::{self, Verdict};
use super::{TRACKING, spec_of};
use crate::object::name;
use crate::pod;
use crate::replicaset::compare;

/// The variable that tells a container its index.
const VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// How often Pods of an index have failed before this one.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// How often in a way that does not count.
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The longest prefix of a generated name.
const LONGEST_PREFIX: usize = 58;

/// A Pod of a Job that has no indexes.
pub(super) fn plain(job: &Job, reference: &OwnerReference) -> Pod {
    let mut pod = pod::from_template(reference, &spec_of(job).template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == TRACKING) {
        finalizers.push(TRACKING.to_owned());
    }
    pod
}

/// The Pod of an index, in the place of one that has failed, if there was one.
pub(super) fn indexed(
    job: &Job,
    reference: &OwnerReference,
    index: i32,
    replaced: Option<&Pod>,
) -> Pod {
    let mut pod = plain(job, reference);
    let job_name = name(&job.metadata);
    let suffix = format!("-{index}-");
    let longest = LONGEST_PREFIX
        .saturating_sub(suffix.len())
        .min(job_name.len());
    pod.metadata.generate_name = Some(format!("{}{suffix}", &job_name[..longest]));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(INDEX.to_owned(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if spec_of(job).backoff_limit_per_index.is_some() {
        let (counted, ignored) = failures_after(job, replaced);
        annotations.insert(FAILURES.to_owned(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED.to_owned(), ignored.to_string());
        }
    }
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{job_name}-{index}"));
        let init = spec.init_containers.iter_mut().flatten();
        init.chain(&mut spec.containers).for_each(tell_index);
    }
    pod
}

fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|v| v.name == VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector {
        api_version: None,
        field_path: format!("metadata.labels['{INDEX}']"),
    };
    env.push(EnvVar {
        name: VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(field),
            ..EnvVarSource::default()
        }),
    });
}

/// How often an index has failed, in ways that count and in others, after this Pod of it has.
fn failures_after(job: &Job, replaced: Option<&Pod>) -> (i32, i32) {
    let Some(pod) = replaced else {
        return (0, 0);
    };
    let (counted, ignored) = (failures(pod), number(pod, IGNORED));
    match policy::judge(spec_of(job), pod) {
        Verdict::Ignore => (counted, ignored.saturating_add(1)),
        _ => (counted.saturating_add(1), ignored),
    }
}

/// How often Pods of its index had failed before a Pod, in ways that count.
pub(super) fn failures(pod: &Pod) -> i32 {
    number(pod, FAILURES)
}

/// The same in any way.
pub(super) fn all_failures(pod: &Pod) -> i32 {
    failures(pod).saturating_add(number(pod, IGNORED))
}

fn number(pod: &Pod, key: &str) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let text = annotations.and_then(|a| a.get(key));
    let number = text.and_then(|t| t.parse().ok());
    number.filter(|n| *n >= 0).unwrap_or(0)
}

/// Pods that have to go: those whose index is none or another's as well, and then as many as are too many, those first that have come
/// least far.
pub(super) fn surplus<'a>(
    active: &[&'a Pod],
    indexed: Option<i32>,
    at_least: i32,
    now: Timestamp,
) -> Vec<&'a Pod> {
    let mut left = active.to_vec();
    let by_progress = |a: &&Pod, b: &&Pod| compare(a, b, &BTreeMap::new(), now);
    left.sort_by(by_progress);
    let mut gone: Vec<&Pod> = Vec::new();
    if let Some(completions) = indexed {
        // Of each index the one that has come farthest stays.
        let mut kept: BTreeMap<i32, &Pod> = BTreeMap::new();
        for pod in left {
            match index::valid(pod, completions) {
                Some(index) => gone.extend(kept.insert(index, pod)),
                None => gone.push(pod),
            }
        }
        left = kept.into_values().collect();
        left.sort_by(by_progress);
    }
    let more = usize::try_from(at_least)
        .unwrap_or(0)
        .saturating_sub(gone.len());
    gone.extend(left.into_iter().take(more));
    gone
}
