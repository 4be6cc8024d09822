//! CronJobs: a Job whenever a schedule says so (upstream's second controller of them).
//!
//! A plan takes one of these steps, and the next plan the next: the status says what has become of Jobs; Jobs that are too many go, and
//! the one whose time has come is made; the status says so. A Job is named after its time and carries it, so that one that was made
//! before the status could tell is known again, and no time gets two.
//!
//! Where upstream estimates the times that were missed by the first two of them, they are counted here, and the last of them is always
//! found; `startingDeadlineSeconds` does not shift the times of `@every`. A schedule without a time zone is in UTC.

mod jobs;
mod times;

use api::cron::{self, Schedule};
use api::gotext::quote;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};

use crate::job::{News, finished};
use crate::object::name;
use crate::owner;

/// What is to be done, in order. When a step fails, those after it are not taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Ask whether a Job is there of which nothing is known. If it is, the rest of the plan does not hold.
    Miss {
        /// Its name.
        job: String,
        /// Its UID.
        uid: String,
    },
    /// Delete a Job, in the background.
    Delete {
        /// Its name.
        job: String,
        /// Its UID: another of its name is left alone.
        uid: String,
    },
    /// Make this Job. One of its name may be there: then there is nothing to make.
    Create(Box<Job>),
}

/// What is to be done about a CronJob.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// First.
    pub steps: Vec<Step>,
    /// To be written when the steps have been taken, if it is another than the present one.
    pub status: Option<Box<CronJobStatus>>,
    /// Told when the status has been written.
    pub news: Vec<News>,
    /// When to look again if nothing happens: the next time of the schedule.
    pub wake: Option<Timestamp>,
}

/// Plans for `cron`, whose controller reference from its Jobs is `reference`. `jobs` are all of its namespace.
pub fn plan(cron: &CronJob, reference: &OwnerReference, jobs: &[&Job], now: Timestamp) -> Plan {
    let owned: Vec<&Job> = jobs
        .iter()
        .filter(|job| {
            let owner = owner::controller_of(&job.metadata);
            owner.is_some_and(|owner| owner.uid == reference.uid)
        })
        .copied()
        .collect();
    let plan = observe(cron, &owned, jobs, now);
    if plan.status.is_some() || cron.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let mut plan = Plan {
        steps: jobs::surplus(cron, &owned),
        news: unexpected(cron, &owned),
        ..plan
    };
    start(cron, reference, jobs, now, &mut plan);
    plan
}

/// What has become of Jobs and is not in the status yet.
fn observe(cron: &CronJob, owned: &[&Job], jobs: &[&Job], now: Timestamp) -> Plan {
    let mut status = status_of(cron);
    let mut plan = Plan::default();
    for job in owned {
        let is_of = |uid: &Option<String>| *uid == job.metadata.uid;
        let end = finished(job);
        let active = status.active.get_or_insert_default();
        if let Some(place) = active.iter().position(|a| is_of(&a.uid))
            && let Some(end) = end
        {
            active.remove(place);
            let message = format!(
                "Saw completed job: {}, condition: {}",
                name(&job.metadata),
                end.type_
            );
            plan.news.push(news("Normal", "SawCompletedJob", message));
        }
        // It was made, and the status never said so.
        let time = jobs::time_of(cron, job);
        if let Some(time) = time.filter(|time| *time > begin(cron, now)) {
            let last = status.last_schedule_time.as_ref().map(|last| last.0);
            if last.is_none_or(|last| last < time) {
                status.last_schedule_time = Some(Time(time));
            }
            if end.is_none() && !active.iter().any(|a| is_of(&a.uid)) {
                active.push(jobs::reference(job));
            }
        }
        let done = job
            .status
            .as_ref()
            .and_then(|s| s.completion_time.as_ref())
            .filter(|_| end.is_some_and(|end| end.type_ == "Complete"));
        if let Some(done) = done {
            let last = status.last_successful_time.as_ref();
            if last.is_none_or(|last| last.0 < done.0) {
                status.last_successful_time = Some(done.clone());
            }
        }
    }
    let active = status.active.take().unwrap_or_default();
    let (there, missing): (Vec<_>, Vec<_>) = active
        .into_iter()
        .partition(|active| jobs.iter().any(|job| job.metadata.uid == active.uid));
    status.active = Some(there).filter(|there| !there.is_empty());
    for missing in missing {
        let job = missing.name.unwrap_or_default();
        let message = format!("Active job went missing: {job}");
        plan.news.push(news("Normal", "MissingJob", message));
        let uid = missing.uid.unwrap_or_default();
        plan.steps.push(Step::Miss { job, uid });
    }
    plan.status = Some(Box::new(status)).filter(|new| **new != status_of(cron));
    plan
}

/// Jobs that somebody else made for the CronJob.
fn unexpected(cron: &CronJob, owned: &[&Job]) -> Vec<News> {
    let status = status_of(cron);
    let is_active = |job: &Job| {
        let mut active = status.active.iter().flatten();
        active.any(|active| active.uid == job.metadata.uid)
    };
    let strange = owned.iter().filter(|job| {
        let is_leaving = job.metadata.deletion_timestamp.is_some();
        finished(job).is_none() && !is_active(job) && !is_leaving
    });
    let told = strange.map(|job| {
        let why = "Saw a job that the controller did not create or forgot";
        let message = format!("{why}: {}", name(&job.metadata));
        news("Warning", "UnexpectedJob", message)
    });
    told.collect()
}

/// Adds the Job whose time has come.
fn start(
    cron: &CronJob,
    reference: &OwnerReference,
    jobs: &[&Job],
    now: Timestamp,
    plan: &mut Plan,
) {
    let spec = &cron.spec;
    let mut warn = |reason, message| plan.news.push(news("Warning", reason, message));
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => match cron::time_zone(name) {
            Some(zone) => zone,
            None => {
                let why = format!("unknown time zone {name}");
                let message = format!("invalid timeZone: {}: {why}", quote(name));
                return warn("UnknownTimeZone", message);
            }
        },
    };
    if spec.suspend == Some(true) {
        return;
    }
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(why) => {
            let message = format!("unparseable schedule: {} : {why}", quote(&spec.schedule));
            return warn("UnparseableSchedule", message);
        }
    };
    let begin = begin(cron, now);
    let deadline = spec.starting_deadline_seconds;
    let since = deadline.map_or(begin, |seconds| times::ago(now, seconds));
    let Some(times) = times::around(&schedule, &zone, begin, since.max(begin), now) else {
        let why = "time difference between two schedules is less than 1 second";
        let message = format!("invalid schedule: {} : {why}", spec.schedule);
        return warn("InvalidSchedule", message);
    };
    plan.wake = times.next;
    let Some(time) = times.latest else {
        return;
    };
    if time < since {
        let time = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
        let message = format!("Missed scheduled time to start a job: {time}");
        return warn("MissSchedule", message);
    }
    let its_name = jobs::name_for(cron, time);
    if jobs.iter().any(|job| name(&job.metadata) == its_name) {
        return;
    }
    let active = status_of(cron).active.unwrap_or_default();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let why = "prior execution is running and concurrency policy is Forbid";
            let message = format!("Not starting job because {why}");
            return plan.news.push(news("Normal", "JobAlreadyActive", message));
        }
        Some("Replace") if !active.is_empty() => {
            let deleted = active.into_iter().map(|active| Step::Delete {
                job: active.name.unwrap_or_default(),
                uid: active.uid.unwrap_or_default(),
            });
            plan.steps.extend(deleted);
            plan.status = Some(Box::new(CronJobStatus {
                active: None,
                ..status_of(cron)
            }));
            return;
        }
        _ => {}
    }
    if times.is_many {
        let why = "too many missed start times";
        let what = "Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        warn("TooManyMissedTimes", format!("{why}. {what}"));
    }
    let job = jobs::make(cron, reference, time, &zone);
    plan.steps.push(Step::Create(Box::new(job)));
}

/// The time of the last Job that was made, or of the CronJob: its times come after that.
fn begin(cron: &CronJob, now: Timestamp) -> Timestamp {
    let last = cron.status.as_ref();
    let last = last.and_then(|status| status.last_schedule_time.as_ref());
    let begin = last.or(cron.metadata.creation_timestamp.as_ref());
    begin.map_or(now, |begin| begin.0)
}

/// The present status; no list of Jobs that run is an empty one.
fn status_of(cron: &CronJob) -> CronJobStatus {
    let mut status = cron.status.clone().unwrap_or_default();
    status.active = status.active.filter(|active| !active.is_empty());
    status
}

fn news(type_: &'static str, reason: &str, message: String) -> News {
    News {
        type_,
        reason: reason.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests;
