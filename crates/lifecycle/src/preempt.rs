//! Whom a critical Pod takes the place of where the node has too little left for it (§1.2, upstream's preemption by the node agent):
//! as few as possible of those that are less important, of the lowest class first.

use std::collections::BTreeMap;

use api::pod::{is_mirror, is_static};
use k8s_openapi::api::core::v1::Pod;

use crate::observed::{Eviction, Verdict};
use crate::plan::EventType;
use crate::resources::{self, Qos};
use crate::room::Room;
use crate::share::{Share, Shortage};

/// The least priority of Pods that the cluster cannot do without.
const CRITICAL: i32 = 2_000_000_000;

/// How important a Pod is beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    priority: Option<i32>,
    is_critical: bool,
    qos: Qos,
}

impl Standing {
    /// Of a Pod.
    pub fn of(pod: &Pod) -> Self {
        Standing {
            priority: priority(pod),
            is_critical: is_critical(pod),
            qos: resources::qos(pod),
        }
    }

    /// Whether a Pod that stands so may take the place of the other.
    fn is_above(self, other: Self) -> bool {
        let is_higher = self
            .priority
            .zip(other.priority)
            .is_some_and(|(a, b)| a > b);
        (self.is_critical && !other.is_critical) || is_higher
    }
}

fn priority(pod: &Pod) -> Option<i32> {
    pod.spec.as_ref().and_then(|spec| spec.priority)
}

/// Whether the cluster cannot do without a Pod: a static one, what stands for one, or one of high priority.
pub fn is_critical(pod: &Pod) -> bool {
    is_static(pod) || is_mirror(pod) || priority(pod).is_some_and(|priority| priority >= CRITICAL)
}

/// What becomes of a Pod whose place is taken.
pub fn preempted() -> Eviction {
    Eviction {
        verdict: Verdict {
            phase: "Failed".to_owned(),
            reason: "Preempting".to_owned(),
            message: "Preempted in order to admit critical pod".to_owned(),
            event_type: EventType::Warning,
            annotations: BTreeMap::new(),
            disruption: Some(
                "Pod was preempted by Kubelet to accommodate a critical pod.".to_owned(),
            ),
        },
        grace_seconds: None,
    }
}

/// A Pod whose place may be taken.
#[derive(Debug, Clone, Copy)]
struct Candidate<'a> {
    uid: &'a str,
    share: &'a Share,
}

/// How much has to be given back, by resource.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Needs(Vec<(String, i64)>);

/// UIDs of the Pods that have to go so that there is enough for this one.
///
/// # Errors
/// Not even all of them hold enough; in upstream's words.
pub(crate) fn victims(pod: &Pod, short: &[Shortage], room: &Room) -> Result<Vec<String>, String> {
    let own = Standing::of(pod);
    let of_class = |qos: Qos| {
        let others = room
            .held()
            .filter(move |(_, _, standing)| standing.qos == qos && own.is_above(*standing));
        others
            .map(move |(uid, share, _)| Candidate { uid, share })
            .collect()
    };
    let best_effort: Vec<Candidate<'_>> = of_class(Qos::BestEffort);
    let burstable: Vec<Candidate<'_>> = of_class(Qos::Burstable);
    let guaranteed: Vec<Candidate<'_>> = of_class(Qos::Guaranteed);
    let needs = Needs::of(short);
    let all = [best_effort.clone(), burstable.clone(), guaranteed.clone()].concat();
    let unmet = needs.without(&all);
    if !unmet.0.is_empty() {
        return Err(unmet.to_string());
    }
    // What of each class is needed even if those below it all go, and those above it that have to.
    let lower = [best_effort.clone(), burstable.clone()].concat();
    let guaranteed = nearest(guaranteed, needs.without(&lower));
    let burstable = nearest(
        burstable,
        needs.without(&[best_effort.clone(), guaranteed.clone()].concat()),
    );
    let best_effort = nearest(
        best_effort,
        needs.without(&[burstable.clone(), guaranteed.clone()].concat()),
    );
    let gone = [best_effort, burstable, guaranteed].concat();
    Ok(gone.into_iter().map(|c| c.uid.to_owned()).collect())
}

/// Of these, those that together give back what is needed: one after another the one that leaves least to be found, of equals the
/// smaller one.
fn nearest<'a>(mut from: Vec<Candidate<'a>>, mut needs: Needs) -> Vec<Candidate<'a>> {
    let mut chosen = Vec::new();
    while !needs.0.is_empty() {
        let order = |a: &Candidate<'_>, b: &Candidate<'_>| {
            let distances = needs.distance(a).total_cmp(&needs.distance(b));
            let size = |c: &Candidate<'_>| ["memory", "cpu"].map(|name| c.share.amount(name));
            distances
                .then_with(|| size(a).cmp(&size(b)))
                .then_with(|| a.uid.cmp(b.uid))
        };
        let best = (0..from.len()).min_by(|a, b| order(&from[*a], &from[*b]));
        let Some(best) = best else { break };
        let best = from.swap_remove(best);
        needs = needs.without(&[best]);
        chosen.push(best);
    }
    chosen
}

impl Needs {
    fn of(short: &[Shortage]) -> Self {
        let missing = |s: &Shortage| {
            let left = s.capacity.saturating_sub(s.used);
            (s.resource.clone(), s.requested.saturating_sub(left))
        };
        Needs(short.iter().map(missing).collect())
    }

    /// What is still needed when these have gone.
    fn without(&self, gone: &[Candidate<'_>]) -> Self {
        let left = |(name, needed): &(String, i64)| {
            let given = gone.iter().map(|c| c.share.amount(name));
            let left = given.fold(*needed, i64::saturating_sub);
            (left > 0).then(|| (name.clone(), left))
        };
        Needs(self.0.iter().filter_map(left).collect())
    }

    /// How far this one is from giving all of it: the squares of the parts that are left, every resource as heavy as another.
    fn distance(&self, candidate: &Candidate<'_>) -> f64 {
        let part = |(name, needed): &(String, i64)| {
            let left = needed.saturating_sub(candidate.share.amount(name)).max(0);
            (left as f64 / *needed as f64).powi(2)
        };
        self.0.iter().map(part).sum()
    }
}

impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [")?;
        for (name, needed) in &self.0 {
            write!(f, "(res: {name}, q: {needed}), ")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Pod of this class that asks for so much.
    fn pod(uid: &str, class: &str, priority: Option<i32>, cpu: &str, memory: i64) -> Pod {
        let requests = json!({"cpu": cpu, "memory": memory.to_string()});
        let spec = json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": requests}}]});
        serde_json::from_value(
            json!({"metadata": {"uid": uid}, "spec": spec, "status": {"qosClass": class}}),
        )
        .expect("a Pod")
    }

    fn room(pods: &[Pod]) -> Room {
        let list = json!({"pods": "110", "cpu": "4", "memory": "1000"});
        let list: resources::List = serde_json::from_value(list).expect("a list");
        let mut room = Room::new(Share::listed(Some(&list)));
        for pod in pods {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            room.hold(uid, Share::of(pod));
            room.stand(uid, Standing::of(pod));
        }
        room
    }

    fn found(pods: &[Pod], cpu: &str, memory: i64) -> Result<String, String> {
        let critical = pod("critical", "Burstable", Some(CRITICAL), cpu, memory);
        let room = room(pods);
        let short = room.shortages("critical", &Share::of(&critical));
        victims(&critical, &short, &room).map(|uids| uids.join(" "))
    }

    #[test]
    fn as_few_as_possible_go_and_the_least_first() {
        let low = |uid: &str, class: &str, cpu: &str, memory| pod(uid, class, Some(0), cpu, memory);
        let none = || low("none", "BestEffort", "0", 0);
        let table = [
            (
                "a Pod that asks for nothing gives nothing",
                vec![
                    none(),
                    low("b", "Burstable", "1", 0),
                    low("g", "Guaranteed", "3", 0),
                ],
                ("1", 0),
                Ok("b"),
            ),
            (
                "Burstable before Guaranteed",
                vec![
                    low("b", "Burstable", "2", 0),
                    low("g", "Guaranteed", "2", 0),
                ],
                ("2", 0),
                Ok("b"),
            ),
            (
                "both if one is not enough",
                vec![
                    low("b", "Burstable", "2", 0),
                    low("g", "Guaranteed", "2", 0),
                ],
                ("3", 0),
                Ok("b g"),
            ),
            (
                "none more than has to",
                vec![
                    low("b", "Burstable", "1", 0),
                    low("g", "Guaranteed", "3", 0),
                ],
                ("3", 0),
                Ok("g"),
            ),
            (
                "one large instead of two small",
                vec![
                    low("a", "Burstable", "1", 0),
                    low("b", "Burstable", "2", 0),
                    low("c", "Burstable", "1", 0),
                ],
                ("2", 0),
                Ok("b"),
            ),
            (
                "the smaller of two that are enough",
                vec![
                    low("a", "Burstable", "2", 500),
                    low("b", "Burstable", "2", 400),
                ],
                ("1", 0),
                Ok("b"),
            ),
            (
                "every resource counts alike",
                vec![
                    low("cpu", "Burstable", "3500m", 0),
                    low("both", "Burstable", "500m", 1000),
                ],
                ("1", 600),
                Ok("both cpu"),
            ),
            (
                "who is critical, or stands as high, stays",
                vec![
                    pod("high", "Burstable", Some(CRITICAL), "2", 0),
                    pod("unknown", "Burstable", None, "1", 0),
                    low("low", "Guaranteed", "1", 0),
                ],
                ("2", 0),
                Ok("unknown low"),
            ),
            (
                "not even all are enough",
                vec![
                    pod("high", "Burstable", Some(CRITICAL), "3", 0),
                    low("low", "Burstable", "1", 0),
                ],
                ("2", 0),
                Err(
                    "preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 1000), ]",
                ),
            ),
        ];
        for (name, pods, (cpu, memory), expected) in table {
            let found = found(&pods, cpu, memory);
            let found = found.as_deref().map_err(String::as_str);
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_higher_priority_is_above_a_lower_one() {
        let of = |priority| Standing::of(&pod("p", "Burstable", priority, "1", 1));
        for (mine, other, is_above) in [
            (Some(CRITICAL), Some(CRITICAL - 1), true),
            (Some(CRITICAL), None, true),
            (Some(CRITICAL + 1000), Some(CRITICAL), true),
            (Some(CRITICAL), Some(CRITICAL), false),
            (Some(5), Some(4), true),
            (Some(5), None, false),
        ] {
            assert_eq!(of(mine).is_above(of(other)), is_above, "{mine:?} {other:?}");
        }
        for key in [api::pod::MIRROR, api::pod::SOURCE] {
            let mut critical = pod("m", "Burstable", None, "1", 1);
            critical.metadata.annotations = Some([(key.to_owned(), "file".to_owned())].into());
            assert!(Standing::of(&critical).is_above(of(Some(7))), "{key}");
        }
    }
}
