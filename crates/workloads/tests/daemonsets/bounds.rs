//! What a plan may do.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use workloads::daemonset::{Plan, Step};
use workloads::{history, owner, pod};

use super::cluster::{Cluster, target};

/// What the template says of nodes.
pub(super) struct Wish {
    pub(super) is_fast: bool,
    is_tolerant: bool,
}

impl Cluster {
    pub(super) fn wish(&self) -> Wish {
        let template = &self.set.spec.as_ref().unwrap().template;
        let spec = template.spec.as_ref().unwrap();
        Wish {
            is_fast: spec.node_selector.is_some(),
            is_tolerant: spec.tolerations.is_some(),
        }
    }

    /// Whether a node is to have a Pod.
    fn is_wanted(&self, node: &str) -> bool {
        let wish = self.wish();
        let shape = self.shapes.get(node);
        shape.is_some_and(|shape| {
            (shape.is_fast || !wish.is_fast) && (shape.taint.is_none() || wish.is_tolerant)
        })
    }

    pub(super) fn wanted(&self) -> BTreeSet<String> {
        let names = self.nodes.keys().filter(|name| self.is_wanted(name));
        names.cloned().collect()
    }

    /// How many nodes may have two Pods, and how many none that is available; `None` where nothing is replaced.
    pub(super) fn bounds(&self) -> Option<(usize, usize)> {
        let strategy = self.set.spec.as_ref()?.update_strategy.as_ref()?;
        let bounds = strategy.rolling_update.as_ref()?;
        let wanted = self.wanted().len();
        let of = |bound: &Option<IntOrString>| match bound.as_ref().unwrap() {
            IntOrString::Int(number) => usize::try_from(*number).unwrap(),
            IntOrString::String(p) => {
                (p.trim_end_matches('%').parse::<usize>().unwrap() * wanted).div_ceil(100)
            }
        };
        let (surge, unavailable) = (of(&bounds.max_surge), of(&bounds.max_unavailable));
        let least = usize::from(surge == 0);
        Some((surge, unavailable.max(least)))
    }

    pub(super) fn on<'a>(&self, pods: &'a BTreeMap<String, Pod>, node: &str) -> Vec<&'a Pod> {
        let on = pods.values().filter(|pod| target(pod) == node);
        on.collect()
    }

    /// Whether a Pod is of the newest template.
    pub(super) fn is_new(&self, pod: &Pod) -> bool {
        let template = &self.set.spec.as_ref().unwrap().template;
        let own = word(&pod.metadata);
        let mut same = self.revisions.values().filter(|r| word(&r.metadata) == own);
        same.any(|r| history::has_template(r, template))
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let least = self.set.spec.as_ref().unwrap().min_ready_seconds;
        pod::is_active(pod) && pod::is_available(pod, least.unwrap_or(0), self.now)
    }

    /// A Pod is made for a node that is to have one, and has none; with a surge it may have an old one.
    pub(super) fn check_made(&self, made: &Pod) {
        let node = target(made);
        assert!(self.is_wanted(&node), "a Pod is made for {node}");
        let is_leaving = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        let mut there = self.on(&self.pods, &node);
        there.retain(|pod| owner::controller_of(&pod.metadata).is_some());
        assert!(self.is_new(made));
        if self.bounds().is_some_and(|(surge, _)| surge > 0) {
            there.retain(|pod| !is_leaving(pod));
            assert!(there.len() < 2, "{node} gets a third Pod");
            assert!(!there.iter().any(|pod| self.is_new(pod)), "{node} has it");
        } else {
            there.retain(|pod| !(pod::is_over(pod) && is_leaving(pod)));
            assert_eq!(there.len(), 0, "{node} gets two");
        }
    }

    /// What a plan takes from nodes, and what it puts beside old Pods, is within the bounds of updates.
    pub(super) fn check(&self, plan: &Plan) {
        let Some((surge, unavailable)) = self.bounds() else {
            return;
        };
        let mut after = self.pods.clone();
        let mut served = BTreeSet::new();
        for step in &plan.steps {
            match step {
                Step::Delete { pod, .. } => {
                    after.remove(pod);
                }
                Step::Create(pods) => served.extend(pods.iter().map(target)),
                _ => {}
            }
        }
        let works = |pods: &BTreeMap<String, Pod>, node: &str| {
            let mut pods = self.on(pods, node).into_iter();
            pods.any(|pod| self.is_available(pod))
        };
        let of_kinds = |node: &str| {
            let active = self.on(&self.pods, node).into_iter();
            active
                .filter(|pod| pod::is_active(pod))
                .partition::<Vec<&Pod>, _>(|pod| self.is_new(pod))
        };
        // Several Pods of a kind, or two without a surge, as there are after changes of the strategy, may lose the one that works.
        let nodes = self.wanted();
        let is_crowded = |node: &&String| {
            let (new, old) = of_kinds(node);
            new.len() > 1 || old.len() > 1 || (surge == 0 && new.len() + old.len() > 1)
        };
        let crowded = nodes.iter().filter(is_crowded).count();
        let working = |pods| {
            let others = nodes.iter().filter(|node| !is_crowded(node));
            others.filter(|node| works(pods, node)).count()
        };
        let (before, then) = (working(&self.pods), working(&after));
        if surge > 0 {
            assert_eq!(before, then, "with a surge, nothing that works is taken");
        } else {
            let least = nodes.len().saturating_sub(unavailable + crowded);
            assert!(then >= before.min(least), "{then} work, {least} are needed");
        }
        let beside = served.iter().filter(|node| works(&after, node)).count();
        let surging = nodes.iter().filter(|node| {
            let (new, old) = of_kinds(node);
            !old.is_empty() && !new.is_empty() && !new.iter().any(|pod| self.is_available(pod))
        });
        let most = surge.saturating_sub(surging.count());
        assert!(beside <= most, "{beside} get a second Pod, {most} may");
    }
}

/// The revision an object says it is of.
fn word(meta: &ObjectMeta) -> Option<&String> {
    meta.labels.as_ref()?.get(history::REVISION_LABEL)
}
