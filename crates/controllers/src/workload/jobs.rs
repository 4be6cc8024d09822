//! Jobs, and Pods that Jobs have left behind.

use futures::StreamExt;
use futures::stream;
use informer::Key;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use workloads::job::{self, News, Step};
use workloads::owner;

use super::Work;
use super::outcome::{Failed, Outcome, Trouble};
use super::steps::{Hands, Subject};
use super::world::World;

const COMPONENT: &str = "job-controller";
/// So many Pods are changed at a time.
const AT_A_TIME: usize = 16;

/// What there is to do for a Job.
pub(super) fn plan(
    hands: &Hands,
    world: &World,
    key: &Key,
    held: Option<&Trouble>,
) -> Option<Work> {
    let job = world.jobs.get(key)?.clone();
    let is_held = match held {
        None => false,
        Some(Trouble::Objects(_)) => true,
        Some(_) => return None,
    };
    let pods: Vec<&Pod> = world.pods.of_namespace(&key.0).collect();
    let reference = owner::reference("batch/v1", "Job", &job.metadata);
    let plan = job::plan(&job, &reference, &pods, is_held, hands.now());
    let subject = Subject::new(&job.metadata, &reference, COMPONENT);
    let hands = hands.clone();
    let doing = async move {
        let mut outcome = take(&hands, &subject, plan.steps).await;
        if let Some(status) = plan.status.filter(|_| outcome.is_fine()) {
            let report = Job {
                status: Some(*status),
                ..Job::clone(&job)
            };
            outcome.add(hands.report(&subject, &report).await);
        }
        if outcome.is_fine() {
            let news = plan.news.into_iter().map(|news| told(&subject, news));
            outcome.news.extend(news);
            outcome.add(untrack(&hands, &subject, plan.counted).await);
        }
        outcome
    };
    Some(Work {
        doing: Box::pin(doing),
        wake: plan.wake,
    })
}

/// What there is to do for a Pod that waits for being counted: nothing, as long as it has a Job that does.
pub(super) fn plan_tracked(
    hands: &Hands,
    world: &World,
    key: &Key,
    held: Option<&Trouble>,
) -> Option<Work> {
    let pod = world.pods.get(key)?;
    if held.is_some() || !job::is_left_behind(pod, world.job_of(pod)) {
        return None;
    }
    let owner = owner::controller_of(&pod.metadata);
    if owner.is_some_and(|o| (&*o.api_version, &*o.kind) != ("batch/v1", "Job")) {
        return None;
    }
    let reference = owner::reference("v1", "Pod", &pod.metadata);
    let subject = Subject::new(&pod.metadata, &reference, COMPONENT);
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let (hands, name) = (hands.clone(), key.1.clone());
    let doing = async move { untrack(&hands, &subject, vec![(name, uid)]).await };
    Some(Work {
        doing: Box::pin(doing),
        wake: None,
    })
}

fn told(subject: &Subject, news: News) -> super::outcome::News {
    subject.news(news.type_, news.reason, news.message)
}

async fn take(hands: &Hands, subject: &Subject, steps: Vec<Step>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut doomed = Vec::new();
    let mut free = Vec::new();
    for step in steps {
        let taken = match step {
            Step::HandOver(pod) => hands.hand_over::<Job, Pod>(subject, &pod).await,
            Step::Create(pods) => hands.create_pods(subject, &pods).await,
            Step::Delete { pod, uid, is_free } => {
                if is_free {
                    free.push((pod.clone(), uid.clone()));
                }
                doomed.push((pod, uid));
                continue;
            }
            Step::End => end(hands, subject).await,
        };
        outcome.add(taken);
        if !outcome.is_fine() {
            return outcome;
        }
    }
    outcome.add(untrack(hands, subject, free).await);
    if outcome.is_fine() {
        outcome.add(hands.delete_pods(subject, &doomed).await);
    }
    outcome
}

/// Takes the finalizer from Pods. One that is gone, or another by now, has lost it.
async fn untrack(hands: &Hands, subject: &Subject, pods: Vec<(String, String)>) -> Outcome {
    let changes = pods.into_iter().map(|(name, uid)| async move {
        let patch = job::untrack(&uid);
        let mut changed = hands.patch::<Pod>(subject, &name, &patch).await;
        if matches!(changed.failed, Some(Failed::Moot)) {
            changed.failed = None;
        }
        changed
    });
    let mut changes = stream::iter(changes).buffer_unordered(AT_A_TIME);
    let mut outcome = Outcome::default();
    while let Some(one) = changes.next().await {
        outcome.add(one);
    }
    outcome
}

/// Deletes the Job, and its Pods before it.
async fn end(hands: &Hands, subject: &Subject) -> Outcome {
    let this = DeleteParams::foreground().preconditions(Preconditions {
        uid: subject.about.uid.clone(),
        resource_version: subject.about.resource_version.clone(),
    });
    let jobs: Api<Job> = hands.api(&subject.namespace);
    let name = subject.about.name.as_deref().unwrap_or_default();
    match jobs.delete(name, &this).await {
        Ok(_) => Outcome::default(),
        Err(error) => Failed::because(&error).into(),
    }
}
