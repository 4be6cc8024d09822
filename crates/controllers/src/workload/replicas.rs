//! ReplicaSets and ReplicationControllers.

use std::sync::Arc;

use informer::Key;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use workloads::replicaset::{self, Plan, Seen, Step};
use workloads::{owner, replication};

use super::Work;
use super::kinds::Kept;
use super::outcome::{Outcome, Trouble};
use super::steps::{Hands, Subject};
use super::world::World;

/// What the two kinds do differently.
trait Replicating: Kept {
    /// With another status; `None` if it is the same.
    fn reporting(&self, status: ReplicaSetStatus) -> Option<Self>;
}

impl Replicating for ReplicaSet {
    fn reporting(&self, status: ReplicaSetStatus) -> Option<Self> {
        let is_new = self.status.as_ref() != Some(&status);
        is_new.then(|| ReplicaSet {
            status: Some(status),
            ..self.clone()
        })
    }
}

impl Replicating for ReplicationController {
    fn reporting(&self, status: ReplicaSetStatus) -> Option<Self> {
        let status = replication::status(status);
        let is_new = self.status.as_ref() != Some(&status);
        is_new.then(|| ReplicationController {
            status: Some(status),
            ..self.clone()
        })
    }
}

/// What there is to do for a ReplicaSet.
pub(super) fn plan_set(
    hands: &Hands,
    world: &World,
    key: &Key,
    held: Option<&Trouble>,
) -> Option<Work> {
    let set = world.sets.get(key)?.clone();
    let reference = owner::reference("apps/v1", "ReplicaSet", &set.metadata);
    let controller = owner::controller_of(&set.metadata).map(|o| &o.uid);
    let all = world.sets.of_namespace(&key.0);
    let siblings: Vec<&ReplicaSet> = match controller {
        None => vec![&*set],
        Some(uid) => all
            .filter(|other| owner::controller_of(&other.metadata).is_some_and(|o| o.uid == *uid))
            .collect(),
    };
    let plan = decide(hands, world, &set, &siblings, &reference, held)?;
    work(hands, set.clone(), reference, "replicaset-controller", plan)
}

/// What there is to do for a ReplicationController.
pub(super) fn plan_controller(
    hands: &Hands,
    world: &World,
    key: &Key,
    held: Option<&Trouble>,
) -> Option<Work> {
    let controller = world.controllers.get(key)?.clone();
    let reference = owner::reference("v1", "ReplicationController", &controller.metadata);
    let set = replication::as_set(&controller);
    let plan = decide(hands, world, &set, &[&set], &reference, held)?;
    work(hands, controller, reference, "replication-controller", plan)
}

fn decide(
    hands: &Hands,
    world: &World,
    set: &ReplicaSet,
    siblings: &[&ReplicaSet],
    reference: &OwnerReference,
    held: Option<&Trouble>,
) -> Option<Plan> {
    let failure = match held {
        None => None,
        Some(Trouble::Objects(why)) => Some(why.as_str()),
        Some(_) => return None,
    };
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let pods: Vec<&Pod> = world.pods.of_namespace(namespace).collect();
    let seen = Seen {
        pods: &pods,
        siblings,
        failure,
    };
    Some(replicaset::plan(set, reference, seen, hands.now()))
}

fn work<K: Replicating>(
    hands: &Hands,
    object: Arc<K>,
    reference: OwnerReference,
    component: &'static str,
    plan: Plan,
) -> Option<Work> {
    let subject = Subject::new(object.meta(), &reference, component);
    let hands = hands.clone();
    let report = plan.status.and_then(|status| object.reporting(status));
    let doing = async move {
        let mut outcome = take::<K>(&hands, &subject, plan.steps).await;
        if outcome.is_fine()
            && let Some(report) = report
        {
            outcome.add(hands.report(&subject, &report).await);
        }
        outcome
    };
    Some(Work {
        doing: Box::pin(doing),
        wake: plan.wake,
    })
}

async fn take<K: Replicating>(hands: &Hands, subject: &Subject, steps: Vec<Step>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut doomed = Vec::new();
    for step in steps {
        let taken = match step {
            Step::HandOver(pod) => hands.hand_over::<K, Pod>(subject, &pod).await,
            Step::Create { pod, count } => {
                let pods = vec![*pod; count];
                hands.create_pods(subject, &pods).await
            }
            Step::Delete { pod, uid } => {
                doomed.push((pod, uid));
                continue;
            }
        };
        outcome.add(taken);
        if !outcome.is_fine() {
            return outcome;
        }
    }
    outcome.add(hands.delete_pods(subject, &doomed).await);
    outcome
}
