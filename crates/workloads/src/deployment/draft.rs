//! A Deployment and its ReplicaSets as they are to be, written down piece by piece; what has changed in the end are the steps.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::fence::{Fence, is_rolling};
use super::status::{self, NEW_SET_AVAILABLE, TIMED_OUT};
use super::{Failure, HASH_LABEL, Plan, REVISION, Step, annotation, template};
use crate::object::{by_age, name};

/// The longest name of a ReplicaSet.
const LONGEST_NAME: usize = 253;

/// A ReplicaSet of the Deployment.
pub(super) struct Set {
    /// As it is; `None` if it is to be made.
    pub(super) old: Option<ReplicaSet>,
    /// As it is to be.
    pub(super) new: ReplicaSet,
    /// It is to go.
    pub(super) is_doomed: bool,
}

impl Set {
    pub(super) fn replicas(&self) -> i32 {
        crate::replicaset::replicas(&self.new)
    }

    pub(super) fn available(&self) -> i32 {
        let status = self.new.status.as_ref();
        status.and_then(|s| s.available_replicas).unwrap_or(0)
    }

    /// How many are available and stay: those of a ReplicaSet that shrinks are counted until they have gone.
    pub(super) fn lasting(&self) -> i32 {
        self.available().min(self.replicas())
    }

    pub(super) fn meta(&self) -> &ObjectMeta {
        &self.new.metadata
    }
}

/// What becomes of a Deployment.
pub(super) struct Draft<'a> {
    pub(super) old: &'a Deployment,
    /// Its status and annotations as they are to be.
    pub(super) new: Deployment,
    pub(super) fence: Fence,
    pub(super) now: Timestamp,
    reference: &'a OwnerReference,
    /// Its ReplicaSets, the oldest first.
    pub(super) sets: Vec<Set>,
    /// Which of them has the template.
    pub(super) newest: Option<usize>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        deployment: &'a Deployment,
        reference: &'a OwnerReference,
        mut sets: Vec<ReplicaSet>,
        now: Timestamp,
    ) -> Self {
        sets.sort_by(|a, b| by_age(&a.metadata, &b.metadata));
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        let newest = sets.iter().position(|set| {
            let of = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            of.zip(template).is_some_and(|(a, b)| template::same(a, b))
        });
        let as_they_are = sets.into_iter().map(|set| Set {
            old: Some(set.clone()),
            new: set,
            is_doomed: false,
        });
        Draft {
            old: deployment,
            new: deployment.clone(),
            fence: Fence::of(deployment),
            now,
            reference,
            sets: as_they_are.collect(),
            newest,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        let spec = self.old.spec.as_ref();
        spec.and_then(|s| s.paused).unwrap_or(false)
    }

    pub(super) fn is_rolling(&self) -> bool {
        is_rolling(self.old.spec.as_ref().and_then(|s| s.strategy.as_ref()))
    }

    /// Whether its size has changed since it last sized one of its active ReplicaSets. Where it has several and recreates its Pods,
    /// nothing is kept in proportion; upstream finds nothing to do then, and never goes on.
    pub(super) fn is_scaling(&self) -> bool {
        if !self.is_rolling() && self.active().len() > 1 {
            return false;
        }
        let active = self.sets.iter().filter(|set| set.replicas() > 0);
        let mut sizes = active.filter_map(|set| annotation::desired(&set.new));
        sizes.any(|size| size != self.fence.replicas)
    }

    /// All but the one with the template, the oldest first.
    pub(super) fn past(&self) -> impl Iterator<Item = usize> + use<> {
        let newest = self.newest;
        (0..self.sets.len()).filter(move |i| Some(*i) != newest)
    }

    /// How many Pods all of them are to have.
    pub(super) fn total(&self) -> i32 {
        let sizes = self.sets.iter().map(Set::replicas);
        sizes.fold(0, i32::saturating_add)
    }

    /// How many of their Pods are available.
    pub(super) fn available(&self) -> i32 {
        let sizes = self.sets.iter().map(Set::available);
        sizes.fold(0, i32::saturating_add)
    }

    /// Lets a ReplicaSet have so many Pods; whether that is a change.
    pub(super) fn size(&mut self, index: usize, replicas: i32) -> bool {
        if self.sets[index].replicas() == replicas {
            return false;
        }
        self.note_size(index, replicas);
        true
    }

    /// As [`Draft::size`], and notes the Deployment's size in any case.
    pub(super) fn note_size(&mut self, index: usize, replicas: i32) {
        let set = &mut self.sets[index].new;
        set.spec.get_or_insert_default().replicas = Some(replicas);
        annotation::note_size(set, self.fence);
    }

    /// Keeps the numbers of revisions right, on the newest ReplicaSet and the Deployment; makes that ReplicaSet where there is none yet,
    /// if it is to be.
    pub(super) fn revise(&mut self, may_create: bool) {
        let past = self.past();
        let revision = annotation::next_revision(past.map(|i| &self.sets[i].new));
        match self.newest {
            Some(newest) => {
                let min_ready = self.old.spec.as_ref().and_then(|s| s.min_ready_seconds);
                let set = &mut self.sets[newest].new;
                annotation::mark(set, &self.old.metadata, revision);
                let spec = set.spec.get_or_insert_default();
                if spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
                    spec.min_ready_seconds = min_ready;
                }
                let annotations = self.sets[newest].meta().annotations.as_ref();
                let number = annotations.and_then(|a| a.get(REVISION)).cloned();
                self.number(number.unwrap_or_default());
                self.found();
            }
            None if may_create => self.create(revision),
            None => {}
        }
    }

    fn number(&mut self, revision: String) {
        let annotations = self.new.metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION.to_owned(), revision);
    }

    fn create(&mut self, revision: i64) {
        let spec = self.old.spec.clone().unwrap_or_default();
        let collisions = self.old.status.as_ref().and_then(|s| s.collision_count);
        let hash = template::hash(&spec.template, collisions);
        let mut template = spec.template;
        let metadata = template.metadata.get_or_insert_default();
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector;
        let matching = selector.match_labels.get_or_insert_default();
        matching.insert(HASH_LABEL.to_owned(), hash.clone());
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(set_name(name(&self.old.metadata), &hash)),
                namespace: self.old.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![self.reference.clone()]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(0),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        annotation::mark(&mut set, &self.old.metadata, revision);
        let text = format!("Created new replica set {:?}", name(&set.metadata));
        self.sets.push(Set {
            old: None,
            new: set,
            is_doomed: false,
        });
        let index = self.sets.len() - 1;
        self.newest = Some(index);
        let size = if self.is_rolling() {
            self.grown(index)
        } else {
            self.fence.replicas
        };
        self.note_size(index, size);
        self.number(revision.to_string());
        self.progress("True", "NewReplicaSetCreated", &text);
    }

    /// How many Pods the newest ReplicaSet can have now.
    pub(super) fn grown(&self, newest: usize) -> i32 {
        let size = self.sets[newest].replicas();
        let room = self.fence.most().saturating_sub(self.total());
        let wanted = self.fence.replicas.saturating_sub(size);
        size.saturating_add(room.min(wanted).max(0))
    }

    /// What there is to be done.
    pub(super) fn finish(self) -> Plan {
        let is_paused = self.is_paused();
        let mut steps = Vec::new();
        for set in self.sets {
            let Set {
                old,
                new,
                is_doomed,
            } = set;
            match old {
                None => steps.insert(0, Step::Create(Box::new(new))),
                Some(old) if is_doomed => steps.push(Step::Delete {
                    set: name(&old.metadata).to_owned(),
                    uid: old.metadata.uid.unwrap_or_default(),
                }),
                Some(old) if old != new => {
                    let before = crate::replicaset::replicas(&old);
                    let is_scaled = before != crate::replicaset::replicas(&new);
                    steps.push(Step::Update {
                        set: Box::new(new),
                        scaled_from: is_scaled.then_some(before),
                    });
                }
                Some(_) => {}
            }
        }
        let wake = progress_due(&self.new).filter(|_| !is_paused);
        let is_new = self.new != *self.old;
        Plan {
            steps,
            write: is_new.then(|| Box::new(self.new)),
            wake,
        }
    }

    /// Writes down what has failed.
    pub(super) fn note(&mut self, failure: &Failure) {
        match failure {
            Failure::Create { .. } => {
                self.progress("False", "ReplicaSetCreateError", &failure.to_string());
            }
            Failure::Collision(before) => {
                let status = self.new.status.get_or_insert_default();
                status.collision_count = Some(before.saturating_add(1));
            }
        }
    }
}

/// When it has to be asked whether there was progress; a second later, since times are kept in seconds.
fn progress_due(deployment: &Deployment) -> Option<Timestamp> {
    let deadline = status::deadline(deployment)?;
    let condition = status::progressing(deployment)?;
    let is_settled = matches!(
        condition.reason.as_deref(),
        Some(TIMED_OUT | NEW_SET_AVAILABLE)
    );
    if is_settled || status::is_complete(deployment) {
        return None;
    }
    let since = condition.last_update_time.as_ref()?.0;
    let patience = SignedDuration::from_secs(i64::from(deadline) + 1);
    since.checked_add(patience).ok()
}

/// A Deployment's name, shortened where it has to be, and the hash.
fn set_name(deployment: &str, hash: &str) -> String {
    let longest = LONGEST_NAME - 1 - hash.len();
    let (kept, _) = deployment.split_at(deployment.len().min(longest));
    format!("{kept}-{hash}")
}
