//! DaemonSets.

use informer::Key;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use workloads::daemonset::{self, Failure, Memory, Seen, Step};
use workloads::owner;

use super::Work;
use super::outcome::{Outcome, Trouble};
use super::steps::{Hands, Subject};
use super::world::World;

/// What there is to do for a DaemonSet.
pub(super) fn plan(
    hands: &Hands,
    world: &World,
    key: &Key,
    held: Option<&Trouble>,
) -> Option<Work> {
    static NONE: std::sync::LazyLock<Memory> = std::sync::LazyLock::new(Memory::default);
    let set = world.daemon_sets.get(key)?.clone();
    let failure = held.map(|trouble| match trouble {
        Trouble::Collision(before) => Failure::Collision(*before),
        _ => Failure::Held,
    });
    let reference = owner::reference("apps/v1", "DaemonSet", &set.metadata);
    let pods: Vec<&Pod> = world.pods.of_namespace(&key.0).collect();
    let nodes: Vec<&Node> = world.nodes.iter().map(|(_, node)| node).collect();
    let revisions: Vec<_> = world.revisions.of_namespace(&key.0).collect();
    let memory = world.memories.get(key).unwrap_or(&NONE);
    let seen = Seen {
        pods: &pods,
        nodes: &nodes,
        revisions: &revisions,
        memory,
        failure: failure.as_ref(),
    };
    let plan = daemonset::plan(&set, &reference, seen, hands.now());
    let learned = (plan.memory != *memory).then_some(plan.memory);
    let subject = Subject::new(&set.metadata, &reference, "daemonset-controller");
    let collisions = set.status.as_ref().and_then(|s| s.collision_count);
    let (hands, key) = (hands.clone(), key.clone());
    let doing = async move {
        let mut outcome = take(&hands, &subject, plan.steps, collisions.unwrap_or(0)).await;
        if let Some(memory) = learned {
            outcome.written.push(Box::new(move |world| {
                world.memories.insert(key, memory);
            }));
        }
        let news = plan.news.into_iter();
        let news = news.map(|news| subject.news(news.type_, news.reason, news.message));
        outcome.news.extend(news);
        if !outcome.is_fine() {
            return outcome;
        }
        if let Some(status) = plan.status {
            let report = DaemonSet {
                status: Some(*status),
                ..DaemonSet::clone(&set)
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

async fn take(hands: &Hands, subject: &Subject, steps: Vec<Step>, collisions: i32) -> Outcome {
    let mut outcome = Outcome::default();
    let mut doomed = Vec::new();
    for step in steps {
        if !matches!(step, Step::Delete { .. }) {
            outcome.add(hands.delete_pods(subject, &doomed).await);
            doomed.clear();
            if !outcome.is_fine() {
                return outcome;
            }
        }
        let taken = match step {
            Step::HandOver(pod) => hands.hand_over::<DaemonSet, Pod>(subject, &pod).await,
            Step::HandOverRevision(revision) => {
                let handing = hands.hand_over::<DaemonSet, ControllerRevision>(subject, &revision);
                handing.await
            }
            Step::CreateRevision(revision) => {
                hands.create_revision(subject, &revision, collisions).await
            }
            Step::UpdateRevision(revision) => hands.update_revision(subject, &revision).await,
            Step::Relabel { pod, patch } => hands.patch::<Pod>(subject, &pod, &patch).await,
            Step::Delete { pod, uid } => {
                doomed.push((pod, uid));
                continue;
            }
            Step::Create(pods) => hands.create_pods(subject, &pods).await,
            Step::DeleteRevision { revision, uid } => {
                hands.delete_revision(subject, &revision, uid).await
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
