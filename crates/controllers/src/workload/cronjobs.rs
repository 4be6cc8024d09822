//! CronJobs.

use informer::Key;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::DeleteParams;
use workloads::cronjob::{self, Step};
use workloads::owner;

use super::Work;
use super::outcome::{Failed, Outcome, Trouble};
use super::steps::{Hands, Saying, Subject};
use super::world::World;

const COMPONENT: &str = "cronjob-controller";

const JOB: Saying = Saying {
    created: "Created job",
    not_created: "Error creating job",
    deleted: "Deleted job",
    not_deleted: "Deleted job",
    many: "jobs",
};

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
    let jobs: Vec<&Job> = world.jobs.of_namespace(&key.0).collect();
    let reference = owner::reference("batch/v1", "CronJob", &cron.metadata);
    let plan = cronjob::plan(&cron, &reference, &jobs, hands.now());
    let subject = Subject::new(&cron.metadata, &reference, COMPONENT);
    let hands = hands.clone();
    let doing = async move {
        let mut outcome = Outcome::default();
        let with_pods = DeleteParams::background();
        for step in plan.steps {
            let is_true = match step {
                Step::Miss { job, uid } => miss(&hands, &subject, &job, &uid, &mut outcome).await,
                Step::Delete { job, uid } => {
                    let deleted = hands.delete::<Job>(&subject, &job, &uid, &with_pods, &JOB);
                    outcome.add(deleted.await);
                    true
                }
                Step::Create(job) => {
                    outcome.add(hands.create(&subject, &*job, &JOB).await);
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
            outcome.add(hands.report(&subject, &report).await);
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
            outcome.wrote(job);
            false
        }
        Ok(_) => true,
        Err(error) => {
            outcome.failed = Some(Failed::because(&error));
            false
        }
    }
}
