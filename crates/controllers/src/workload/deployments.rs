//! Deployments.

use informer::Key;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use workloads::deployment::{self, Failure, Step};
use workloads::{owner, pod};

use super::Work;
use super::outcome::{Failed, Outcome, Trouble, is_namespace_ending, is_taken, words_of};
use super::steps::{Hands, Subject};
use super::world::World;

/// What there is to do for a Deployment.
pub(super) fn plan(
    hands: &Hands,
    world: &World,
    key: &Key,
    held: Option<&Trouble>,
) -> Option<Work> {
    let deployment = world.deployments.get(key)?;
    let failure = match held {
        None => None,
        Some(Trouble::Deployment(failure)) => Some(failure),
        Some(_) => return None,
    };
    let sets: Vec<&ReplicaSet> = world.sets.of_namespace(&key.0).collect();
    let reference = owner::reference("apps/v1", "Deployment", &deployment.metadata);
    let has_pods = |uid: &str| {
        let is_of = |pod: &Pod| owner::controller_of(&pod.metadata).is_some_and(|o| o.uid == uid);
        let mut pods = world.pods.of_namespace(&key.0);
        pods.any(|pod| is_of(pod) && !pod::is_over(pod))
    };
    let now = hands.now();
    let plan = deployment::plan(deployment, &reference, &sets, has_pods, failure, now);
    let subject = Subject::new(&deployment.metadata, &reference, "deployment-controller");
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    let hands = hands.clone();
    let doing = async move {
        let mut outcome = Outcome::default();
        for step in plan.steps {
            let taken = take(&hands, &subject, step, collisions.unwrap_or(0)).await;
            outcome.add(taken);
            if !outcome.is_fine() {
                return outcome;
            }
        }
        if let Some(report) = plan.write {
            outcome.add(hands.report(&subject, &*report).await);
        }
        outcome
    };
    Some(Work {
        doing: Box::pin(doing),
        wake: plan.wake,
    })
}

async fn take(hands: &Hands, subject: &Subject, step: Step, collisions: i32) -> Outcome {
    match step {
        Step::HandOver(set) => {
            hands
                .hand_over::<Deployment, ReplicaSet>(subject, &set)
                .await
        }
        Step::Create(set) => create(hands, subject, &set, collisions).await,
        Step::Update { set, scaled_from } => update(hands, subject, &set, scaled_from).await,
        Step::Delete { set, uid } => match hands.remove::<ReplicaSet>(subject, &set, &uid).await {
            Ok(()) => Outcome::default(),
            Err(error) => Failed::because(&error).into(),
        },
    }
}

async fn create(hands: &Hands, subject: &Subject, set: &ReplicaSet, collisions: i32) -> Outcome {
    let mut outcome = Outcome::default();
    let sets: Api<ReplicaSet> = hands.api(&subject.namespace);
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let error = match sets.create(&PostParams::default(), set).await {
        Ok(made) => {
            let size = workloads::replicaset::replicas(&made);
            if size > 0 {
                let news = scaled(subject, name, 0, size);
                outcome.news.push(news);
            }
            outcome.wrote(made);
            return outcome;
        }
        Err(error) => error,
    };
    let failed = if is_taken(&error) {
        match sets.get_opt(name).await {
            // An answer that was not heard, or a watch that is behind.
            Ok(Some(found)) if deployment::is_same_set(&found, set) => {
                outcome.wrote(found);
                return outcome;
            }
            Ok(Some(_)) => Failed::Held(Trouble::Deployment(Failure::Collision(collisions))),
            Ok(None) => Failed::Held(Trouble::Unsaid),
            Err(error) => Failed::because(&error),
        }
    } else if is_namespace_ending(&error) {
        Failed::Moot
    } else {
        let failure = Failure::Create {
            set: name.to_owned(),
            message: words_of(&error),
        };
        let message = failure.to_string();
        let news = subject.news("Warning", "ReplicaSetCreateError", message);
        outcome.news.push(news);
        Failed::Held(Trouble::Deployment(failure))
    };
    outcome.failed = Some(failed);
    outcome
}

async fn update(
    hands: &Hands,
    subject: &Subject,
    set: &ReplicaSet,
    scaled_from: Option<i32>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let answer = hands.replace(subject, set).await;
    if let (Ok(changed), Some(from)) = (&answer, scaled_from) {
        let to = workloads::replicaset::replicas(changed);
        outcome.news.push(scaled(subject, name, from, to));
    }
    outcome.note(answer);
    outcome
}

fn scaled(subject: &Subject, set: &str, from: i32, to: i32) -> super::outcome::News {
    let way = if from < to { "up" } else { "down" };
    let message = format!("Scaled {way} replica set {set} from {from} to {to}");
    subject.news("Normal", "ScalingReplicaSet", message)
}
