//! CronJobs.

use informer::Key;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions, PropagationPolicy};
use workloads::cronjob::{self, Step};
use workloads::owner;

use super::Work;
use super::outcome::{Failed, Outcome, Trouble, Written, is_namespace_ending, words_of};
use super::steps::{Hands, Subject};
use super::world::World;
use crate::pods::is_moot;

const COMPONENT: &str = "cronjob-controller";

/// What there is to do for a CronJob; nothing while it rests from something that failed.
pub(super) fn plan(
    hands: &Hands,
    world: &World,
    key: &Key,
    held: Option<&Trouble>,
) -> Option<Work> {
    let cron = world.cronjobs.get(key)?.clone();
    if held.is_some() {
        return None;
    }
    let jobs = world.jobs.of_namespace(&key.0).map(|(_, job)| &**job);
    let jobs: Vec<&Job> = jobs.collect();
    let reference = owner::reference("batch/v1", "CronJob", &cron.metadata);
    let plan = cronjob::plan(&cron, &reference, &jobs, hands.now());
    let subject = Subject::new(&cron.metadata, &reference, COMPONENT);
    let hands = hands.clone();
    let doing = async move {
        let mut outcome = Outcome::default();
        for step in plan.steps {
            let is_true = match step {
                Step::Miss { job, uid } => miss(&hands, &subject, &job, &uid, &mut outcome).await,
                Step::Delete { job, uid } => {
                    outcome.add(delete(&hands, &subject, &job, &uid).await);
                    true
                }
                Step::Create(job) => {
                    outcome.add(create(&hands, &subject, &job).await);
                    true
                }
            };
            if !is_true || !outcome.is_fine() {
                return outcome;
            }
        }
        if let Some(status) = plan.status {
            let report = CronJob {
                status: Some(*status),
                ..CronJob::clone(&cron)
            };
            let name = report.metadata.name.clone().unwrap_or_default();
            let cronjobs: Api<CronJob> = hands.api(&subject.namespace);
            // Its resourceVersion makes this conditional.
            let answer = cronjobs
                .replace_status(&name, &PostParams::default(), &report)
                .await;
            outcome.note(answer, Written::CronJob);
        }
        if outcome.is_fine() {
            let news = plan.news.into_iter();
            let news = news.map(|news| subject.news(news.type_, news.reason, news.message));
            outcome.news.extend(news);
        }
        outcome
    };
    Some(Work {
        doing: Box::pin(doing),
        wake: plan.wake,
    })
}

/// Whether a Job is really gone; if not, it is known from now on.
async fn miss(
    hands: &Hands,
    subject: &Subject,
    name: &str,
    uid: &str,
    outcome: &mut Outcome,
) -> bool {
    match hands.api::<Job>(&subject.namespace).get_opt(name).await {
        Ok(Some(job)) if job.metadata.uid.as_deref() == Some(uid) => {
            outcome.written.push(Written::Job(Box::new(job)));
            false
        }
        Ok(_) => true,
        Err(error) => {
            outcome.failed = Some(Failed::because(&error));
            false
        }
    }
}

async fn create(hands: &Hands, subject: &Subject, job: &Job) -> Outcome {
    let mut outcome = Outcome::default();
    let jobs: Api<Job> = hands.api(&subject.namespace);
    match jobs.create(&PostParams::default(), job).await {
        Ok(made) => {
            let name = made.metadata.name.as_deref().unwrap_or_default();
            let message = format!("Created job {name}");
            let news = subject.news("Normal", "SuccessfulCreate", message);
            outcome.news.push(news);
            outcome.written.push(Written::Job(Box::new(made)));
        }
        // One of its name is there, of which the watch is about to tell; or its namespace ends.
        Err(error) if is_already_there(&error) || is_namespace_ending(&error) => {
            outcome.failed = Some(Failed::Moot);
        }
        Err(error) => {
            let message = format!("Error creating job: {}", words_of(&error));
            let news = subject.news("Warning", "FailedCreate", message);
            outcome.news.push(news);
            outcome.failed = Some(Failed::Held(Trouble::Unsaid));
        }
    }
    outcome
}

fn is_already_there(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "AlreadyExists")
}

/// Deletes a Job, and its Pods after it.
async fn delete(hands: &Hands, subject: &Subject, name: &str, uid: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let this = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let this = this.preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    });
    let jobs: Api<Job> = hands.api(&subject.namespace);
    match jobs.delete(name, &this).await {
        Ok(_) => {
            let message = format!("Deleted job {name}");
            let news = subject.news("Normal", "SuccessfulDelete", message);
            outcome.news.push(news);
        }
        // It is gone; the watch is about to say so.
        Err(error) if is_moot(&error) => {}
        Err(error) => {
            let message = format!("Deleted job: {}", words_of(&error));
            let news = subject.news("Warning", "FailedDelete", message);
            outcome.news.push(news);
            outcome.failed = Some(Failed::Held(Trouble::Unsaid));
            return outcome;
        }
    }
    let key = (subject.namespace.clone(), name.to_owned());
    let gone = Written::DoomedJob(key, uid.to_owned());
    outcome.written.push(gone);
    outcome
}
