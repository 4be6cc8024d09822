//! The Jobs of a CronJob.

use api::time;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::Step;
use crate::job::finished;
use crate::object::name;

/// The time a Job was made for.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// The name of the Job of a time. All times of one minute have the same.
pub(super) fn name_for(cron: &CronJob, time: Timestamp) -> String {
    let minutes = time.as_second().div_euclid(60);
    format!("{}-{minutes}", name(&cron.metadata))
}

/// The Job of a time.
pub(super) fn make(
    cron: &CronJob,
    reference: &OwnerReference,
    time: Timestamp,
    zone: &TimeZone,
) -> Job {
    let template = &cron.spec.job_template;
    let given = template.metadata.as_ref();
    let annotations = given.and_then(|meta| meta.annotations.clone());
    let mut annotations = annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.to_owned(), written(time, zone));
    Job {
        metadata: ObjectMeta {
            name: Some(name_for(cron, time)),
            namespace: cron.metadata.namespace.clone(),
            labels: given.and_then(|meta| meta.labels.clone()),
            annotations: Some(annotations),
            owner_references: Some(vec![reference.clone()]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// RFC 3339 as clocks of the zone show it.
fn written(time: Timestamp, zone: &TimeZone) -> String {
    if zone.to_offset(time).is_zero() {
        return time::format(time);
    }
    let clock = time.to_zoned(zone.clone());
    clock.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// The time a Job of this CronJob was made for, if it was made here.
pub(super) fn time_of(cron: &CronJob, job: &Job) -> Option<Timestamp> {
    let annotations = job.metadata.annotations.as_ref()?;
    let time = time::parse(annotations.get(SCHEDULED)?)?;
    (name_for(cron, time) == name(&job.metadata)).then_some(time)
}

/// A Job as it is listed among those that run.
pub(super) fn reference(job: &Job) -> ObjectReference {
    let meta = &job.metadata;
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

/// Deletions of Jobs that are over and more than are to be kept, those first that began first.
pub(super) fn surplus(cron: &CronJob, owned: &[&Job]) -> Vec<Step> {
    let spec = &cron.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit),
        ("Failed", spec.failed_jobs_history_limit),
    ];
    let mut steps = Vec::new();
    for (end, limit) in limits {
        let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
            continue;
        };
        let is_over = |job: &&&Job| {
            let is_there = job.metadata.deletion_timestamp.is_none();
            is_there && finished(job).is_some_and(|condition| condition.type_ == end)
        };
        let mut over: Vec<&Job> = owned.iter().filter(is_over).copied().collect();
        over.sort_by_key(|job| {
            let start = job.status.as_ref().and_then(|s| s.start_time.as_ref());
            let start = start.map(|start| start.0);
            // Those that never began come last.
            (start.is_none(), start, name(&job.metadata).to_owned())
        });
        let many = over.len().saturating_sub(limit);
        steps.extend(over.into_iter().take(many).map(|job| Step::Delete {
            job: name(&job.metadata).to_owned(),
            uid: job.metadata.uid.clone().unwrap_or_default(),
        }));
    }
    steps
}
