//! StatefulSets.

use informer::Key;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::PostParams;
use workloads::job::News;
use workloads::owner;
use workloads::statefulset::{self, Failure, Seen, Step};

use super::Work;
use super::kinds::Kept;
use super::outcome::{Failed, Outcome, Trouble, is_namespace_ending, is_taken, words_of};
use super::steps::{Hands, Subject};
use super::world::World;
use crate::pods::is_moot;

/// What there is to do for a StatefulSet.
pub(super) fn plan(
    hands: &Hands,
    world: &World,
    key: &Key,
    held: Option<&Trouble>,
) -> Option<Work> {
    let set = world.stateful_sets.get(key)?.clone();
    let failure = held.map(|trouble| match trouble {
        Trouble::Collision(before) => Failure::Collision(*before),
        _ => Failure::Step,
    });
    let reference = owner::reference("apps/v1", "StatefulSet", &set.metadata);
    let pods: Vec<&Pod> = world.pods.of_namespace(&key.0).collect();
    let revisions: Vec<_> = world.revisions.of_namespace(&key.0).collect();
    let claims: Vec<_> = world.claims.of_namespace(&key.0).collect();
    let seen = Seen {
        pods: &pods,
        revisions: &revisions,
        claims: &claims,
        failure,
    };
    let plan = statefulset::plan(&set, &reference, seen, hands.now());
    let subject = Subject::new(&set.metadata, &reference, "statefulset-controller");
    let collisions = set.status.as_ref().and_then(|s| s.collision_count);
    let hands = hands.clone();
    let doing = async move {
        let mut outcome = Outcome::default();
        for step in plan.steps {
            outcome.add(take(&hands, &subject, step, collisions.unwrap_or(0)).await);
            if !outcome.is_fine() {
                return outcome;
            }
        }
        if let Some(status) = plan.status {
            let report = StatefulSet {
                status: Some(*status),
                ..StatefulSet::clone(&set)
            };
            outcome.add(hands.report(&subject, &report).await);
        }
        outcome
    };
    Some(Work {
        doing: Box::pin(doing),
        wake: plan.wake,
    })
}

async fn take(hands: &Hands, subject: &Subject, step: Step, collisions: i32) -> Outcome {
    let done = match &step {
        Step::HandOverPod(pod) => return hands.hand_over::<StatefulSet, Pod>(subject, pod).await,
        Step::AdoptRevision(revision) => {
            let adopting = hands.hand_over::<StatefulSet, ControllerRevision>(subject, revision);
            return adopting.await;
        }
        Step::CreateRevision(revision) => {
            return hands.create_revision(subject, revision, collisions).await;
        }
        Step::UpdateRevision(revision) => return hands.update_revision(subject, revision).await,
        Step::DeleteRevision { revision, uid } => {
            return hands.delete_revision(subject, revision, uid.clone()).await;
        }
        Step::CreateClaim { claim, .. } => {
            let claims: Api<PersistentVolumeClaim> = hands.api(&subject.namespace);
            let made = claims.create(&PostParams::default(), claim).await;
            made.map(written)
        }
        Step::UpdateClaim { claim, .. } => hands.replace(subject, &**claim).await.map(written),
        Step::CreatePod(pod) => {
            let pods: Api<Pod> = hands.api(&subject.namespace);
            let made = pods.create(&PostParams::default(), pod).await;
            made.map(written)
        }
        Step::UpdatePod(pod) => hands.replace(subject, &**pod).await.map(written),
        Step::DeletePod { pod, uid } => {
            let removed = hands.remove::<Pod>(subject, pod, uid).await;
            removed.map(|()| {
                let mut outcome = Outcome::default();
                let key = (subject.namespace.clone(), pod.clone());
                outcome.doomed::<Pod>(key, uid.clone());
                outcome
            })
        }
    };
    told(subject, &step, done)
}

fn written<K: Kept>(object: K) -> Outcome {
    let mut outcome = Outcome::default();
    outcome.wrote(object);
    outcome
}

/// What comes of a step, with what there is to tell of it.
fn told(subject: &Subject, step: &Step, done: Result<Outcome, kube::Error>) -> Outcome {
    let set = subject.about.name.as_deref().unwrap_or_default();
    let news = |news: News| subject.news(news.type_, news.reason, news.message);
    let error = match done {
        Ok(mut outcome) => {
            outcome.news.extend(step.news(set).map(news));
            return outcome;
        }
        Err(error) => error,
    };
    let is_claim = matches!(step, Step::CreateClaim { .. });
    if is_namespace_ending(&error) {
        return Failed::Moot.into();
    }
    // It may be another's.
    if is_taken(&error) {
        return Failed::Held(Trouble::Unsaid).into();
    }
    if is_moot(&error) && !is_claim {
        return Failed::Moot.into();
    }
    let words = words_of(&error);
    let bad_news = step.bad_news(set, &words).into_iter().map(news);
    Outcome {
        news: bad_news.collect(),
        ..Failed::Held(Trouble::Objects(words)).into()
    }
}
