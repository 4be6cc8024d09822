//! Which Pods every node is short of and has too many of, whatever template they are of.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::fleet::{Fleet, is_bound, is_leaving};
use super::{BURST, Memory, Place, Step, delete, make};
use crate::job::News;
use crate::object::name;
use crate::pod;

/// What is to be made and deleted.
pub(super) struct Changes<'a> {
    doomed: Vec<&'a Pod>,
    /// Nodes that get a Pod.
    served: Vec<&'a str>,
    pub(super) memory: Memory,
    pub(super) news: Vec<News>,
    pub(super) wake: Option<Timestamp>,
}

impl<'a> Changes<'a> {
    /// Nothing so far.
    pub(super) fn new(memory: Memory) -> Self {
        Changes {
            doomed: Vec::new(),
            served: Vec::new(),
            memory,
            news: Vec::new(),
            wake: None,
        }
    }

    pub(super) fn is_none(&self) -> bool {
        self.doomed.is_empty() && self.served.is_empty()
    }

    /// Deletions come first: what cannot be made does not keep anything.
    pub(super) fn steps(&self, fleet: &Fleet<'_>, reference: &OwnerReference) -> Vec<Step> {
        let make = |node: &&str| make::pod(fleet.set, reference, fleet.hash, node);
        let mut steps: Vec<Step> = self.doomed.iter().map(|pod| delete(pod)).collect();
        if !self.served.is_empty() {
            steps.push(Step::Create(self.served.iter().map(make).collect()));
        }
        steps
    }

    /// Deletes a Pod now, unless that are too many for once.
    pub(super) fn delete(&mut self, pod: &'a Pod) -> bool {
        let may = self.doomed.len() < BURST;
        if may {
            self.doomed.push(pod);
        }
        may
    }

    /// Makes a Pod for a node now, unless that are too many for once.
    pub(super) fn create(&mut self, node: &'a str) {
        if self.served.len() < BURST {
            self.served.push(node);
        }
    }

    /// What nodes are short of and have too many of.
    pub(super) fn manage(&mut self, fleet: &Fleet<'a>) {
        for (node, place) in &fleet.places {
            let pods = fleet.on(node);
            match place {
                Place::Runs if pods.is_empty() => self.create(node),
                Place::Runs | Place::Stays => self.sort_out(fleet, node, *place, pods),
                Place::Unfit => self.delete_all(pods),
            }
        }
        // No node ends them, and who collects what nodes have left looks for Pods that were bound.
        for (node, pods) in &fleet.pods {
            if !fleet.places.contains_key(node) {
                let unbound: Vec<&Pod> = pods.iter().copied().filter(|p| !is_bound(p)).collect();
                self.delete_all(&unbound);
            }
        }
    }

    fn delete_all(&mut self, pods: &[&'a Pod]) {
        for pod in pods.iter().filter(|pod| !is_leaving(pod)) {
            self.delete(pod);
        }
    }

    /// Which of the Pods of a node that may have some stay.
    fn sort_out(&mut self, fleet: &Fleet<'a>, node: &'a str, place: Place, pods: &[&'a Pod]) {
        let mut running = Vec::new();
        let mut is_vacant = true;
        for pod in pods.iter().copied().filter(|pod| !is_leaving(pod)) {
            is_vacant = false;
            match pod::phase(pod) {
                "Failed" => self.replace_failed(pod, node, fleet.now),
                "Succeeded" => {
                    if self.delete(pod) {
                        self.tell("Normal", "Succeeded", pod, node);
                    }
                }
                _ => running.push(pod),
            }
        }
        if !fleet.may_surge() {
            self.delete_all(running.get(1..).unwrap_or_default());
        } else if !running.is_empty() {
            self.keep_pair(fleet, &running);
        } else if is_vacant && place == Place::Runs {
            // The one before it may take its time. One that has failed is not followed at once, or resting would be of no use.
            self.create(node);
        }
    }

    /// Deletes a failed Pod if it has been kept for long enough.
    fn replace_failed(&mut self, pod: &'a Pod, node: &str, now: Timestamp) {
        if let Some(end) = self.memory.rests_until(node, now) {
            self.wake = self.wake.into_iter().chain([end]).min();
        } else if self.delete(pod) {
            self.memory.note(node, now);
            self.tell("Warning", "Failed", pod, node);
        }
    }

    /// Of the Pods of a node where two may be, the oldest of the new template and the oldest of others stay; both only as long as the
    /// old one is ready and the new one not available.
    fn keep_pair(&mut self, fleet: &Fleet<'a>, running: &[&'a Pod]) {
        let (new, old): (Vec<&Pod>, Vec<&Pod>) =
            running.iter().copied().partition(|pod| fleet.is_new(pod));
        self.delete_all(new.get(1..).unwrap_or_default());
        self.delete_all(old.get(1..).unwrap_or_default());
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pod::is_ready(old) || fleet.is_available(new))
        {
            self.delete(old);
        }
    }

    fn tell(&mut self, type_: &'static str, phase: &str, pod: &Pod, node: &str) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let end = if phase == "Failed" { "kill" } else { "delete" };
        let message = format!(
            "Found {} daemon pod {namespace}/{} on node {node}, will try to {end} it",
            phase.to_lowercase(),
            name(&pod.metadata),
        );
        self.news.push(News {
            type_,
            reason: format!("{phase}DaemonPod"),
            message,
        });
    }
}
