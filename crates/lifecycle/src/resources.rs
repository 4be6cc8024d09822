//! Requests and limits of containers and Pods, and what they are in the units of the kernel (§12.2 to §12.5).

use std::collections::BTreeMap;

use api::quantity::Quantity;
use cri::Resources;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use serde::{Deserialize, Serialize};

use crate::kinds;
use crate::observed::ContainerKind;

/// CFS period in microseconds.
const PERIOD_US: u64 = 100_000;
/// Shares of what asks for nothing, and the most there are.
pub(crate) const LEAST_SHARES: i64 = 2;
const MOST_SHARES: i64 = 262_144;
const LEAST_QUOTA_US: i64 = 1000;

/// Amounts by resource name, as the API has them.
pub type List = BTreeMap<String, Wire>;

/// Quality of service classes (§12.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Every limit is set, and is what is requested.
    Guaranteed,
    /// Something is asked for.
    Burstable,
    /// Nothing is asked for.
    BestEffort,
}

/// The Pod's class, as the API server computed it.
pub fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        _ => Qos::BestEffort,
    }
}

/// The Pod's cgroup below the engine's (§12.3).
pub fn cgroup_parent(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match qos(pod) {
        Qos::Guaranteed => format!("pod{uid}"),
        Qos::Burstable => format!("burstable/pod{uid}"),
        Qos::BestEffort => format!("besteffort/pod{uid}"),
    }
}

/// What a container asks for and may use: thousandths of a processor and bytes; 0 is nothing, or no limit. A limit it does not
/// have itself is its Pod's (§12.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Amounts {
    /// `requests.cpu`.
    pub cpu_request: i64,
    /// `limits.cpu`.
    pub cpu_limit: i64,
    /// `requests.memory`.
    pub memory_request: i64,
    /// `limits.memory`.
    pub memory_limit: i64,
}

impl Amounts {
    /// Those of a container.
    pub fn of(pod: &Pod, container: &Container) -> Self {
        let own = container.resources.as_ref();
        let limit = |name| {
            amount(own.and_then(|r| r.limits.as_ref()), name)
                .or_else(|| amount(pod_level(pod).and_then(|r| r.limits.as_ref()), name))
        };
        let request = |name| amount(own.and_then(|r| r.requests.as_ref()), name);
        Amounts {
            cpu_request: request("cpu").map_or(0, |q| q.milli_value()),
            cpu_limit: limit("cpu").map_or(0, |q| q.milli_value()),
            memory_request: request("memory").map_or(0, |q| q.value()),
            memory_limit: limit("memory").map_or(0, |q| q.value()),
        }
    }
}

/// A container's own limits; `node_memory` in bytes scales the Burstable `oom_score_adj`.
pub fn container(pod: &Pod, container: &Container, node_memory: u64) -> Resources {
    Resources {
        oom_score_adj: Some(oom_score_adj(pod, container, node_memory)),
        ..container_limits(pod, container)
    }
}

/// A container's own limits: those that can change while it runs.
pub fn container_limits(pod: &Pod, container: &Container) -> Resources {
    let own = container.resources.as_ref();
    let amounts = Amounts::of(pod, container);
    let cpu_request = amount(own.and_then(|r| r.requests.as_ref()), "cpu")
        .map_or(amounts.cpu_limit, |q| q.milli_value());
    Resources {
        cpu_shares: Some(shares(cpu_request)),
        cpu_period_us: Some(PERIOD_US),
        cpu_quota_us: quota(amounts.cpu_limit),
        memory_limit_bytes: Some(amounts.memory_limit).filter(|bytes| *bytes > 0),
        pids_limit: None,
        oom_group: None,
        oom_score_adj: None,
        huge_pages: BTreeMap::new(),
    }
}

/// The limits of the whole Pod (§12.4).
pub fn pod(pod: &Pod) -> Resources {
    let request = requests(pod).get("cpu").map_or(0, Quantity::milli_value);
    let (class, limits) = (qos(pod), limits(pod));
    let limit = |name: &str| {
        let covers = class != Qos::BestEffort && all_limited(pod, name);
        limits.get(name).filter(|_| covers)
    };
    Resources {
        cpu_shares: Some(if class == Qos::BestEffort {
            shares(0)
        } else {
            shares(request)
        }),
        cpu_period_us: Some(PERIOD_US),
        cpu_quota_us: limit("cpu").and_then(|q| quota(q.milli_value())),
        memory_limit_bytes: limit("memory").map(Quantity::value).filter(|b| *b > 0),
        pids_limit: None,
        oom_group: None,
        oom_score_adj: None,
        huge_pages: BTreeMap::new(),
    }
}

/// What a Pod asks for as a whole (§12.2): of its own, or together; overhead included.
pub fn requests(pod: &Pod) -> BTreeMap<String, Quantity> {
    let mut total = together(pod, |r| r.requests.as_ref());
    total.extend(own(pod, |r| r.requests.as_ref()));
    for (name, more) in overhead(pod) {
        let sum = total
            .get(&name)
            .map_or(more.clone(), |have| have.plus(&more));
        total.insert(name, sum);
    }
    total
}

/// What a Pod may use as a whole; overhead widens the limits there are.
pub fn limits(pod: &Pod) -> BTreeMap<String, Quantity> {
    let mut total = together(pod, |r| r.limits.as_ref());
    total.extend(own(pod, |r| r.limits.as_ref()));
    for (name, more) in overhead(pod) {
        if let Some(have) = total.get_mut(&name).filter(|have| !have.is_zero()) {
            *have = have.plus(&more);
        }
    }
    total
}

/// Whether every container has a limit, or the Pod as a whole.
fn all_limited(pod: &Pod, name: &str) -> bool {
    let limited = |resources: Option<&ResourceRequirements>| {
        amount(resources.and_then(|r| r.limits.as_ref()), name).is_some_and(|q| !q.is_zero())
    };
    let members = kinds::members(pod);
    limited(pod_level(pod)) || members.iter().all(|m| limited(m.spec.resources.as_ref()))
}

pub(crate) fn pod_level(pod: &Pod) -> Option<&ResourceRequirements> {
    pod.spec.as_ref()?.resources.as_ref()
}

pub(crate) fn amount(list: Option<&List>, name: &str) -> Option<Quantity> {
    Quantity::try_from(list?.get(name)?).ok()
}

/// Amounts the API can read; what it cannot was refused before.
pub(crate) fn parsed(list: Option<&List>) -> BTreeMap<String, Quantity> {
    let list = list.into_iter().flatten();
    list.filter_map(|(name, text)| Some((name.clone(), Quantity::try_from(text).ok()?)))
        .collect()
}

/// What the Pod sets for itself.
fn own(
    pod: &Pod,
    of: impl Fn(&ResourceRequirements) -> Option<&List>,
) -> BTreeMap<String, Quantity> {
    parsed(pod_level(pod).and_then(of))
}

fn overhead(pod: &Pod) -> BTreeMap<String, Quantity> {
    parsed(pod.spec.as_ref().and_then(|s| s.overhead.as_ref()))
}

/// App containers and sidecars, or what init needs at its peak if that is more.
fn together(
    pod: &Pod,
    of: impl Fn(&ResourceRequirements) -> Option<&List>,
) -> BTreeMap<String, Quantity> {
    let (mut total, mut sidecars, mut peak) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for member in kinds::members(pod) {
        let mut needed = parsed(member.spec.resources.as_ref().and_then(&of));
        match member.kind {
            ContainerKind::Init => add(&mut needed, &sidecars),
            ContainerKind::Sidecar => {
                add(&mut total, &needed);
                add(&mut sidecars, &needed);
                needed.clone_from(&sidecars);
            }
            _ => {
                add(&mut total, &needed);
                continue;
            }
        }
        raise(&mut peak, &needed);
    }
    raise(&mut total, &peak);
    total
}

fn add(total: &mut BTreeMap<String, Quantity>, more: &BTreeMap<String, Quantity>) {
    for (name, amount) in more {
        let sum = total
            .get(name)
            .map_or_else(|| amount.clone(), |have| have.plus(amount));
        total.insert(name.clone(), sum);
    }
}

fn raise(total: &mut BTreeMap<String, Quantity>, other: &BTreeMap<String, Quantity>) {
    for (name, amount) in other {
        if total.get(name).is_none_or(|have| have < amount) {
            total.insert(name.clone(), amount.clone());
        }
    }
}

fn shares(milli: i64) -> u64 {
    let shares = if milli <= 0 {
        LEAST_SHARES
    } else {
        (milli.saturating_mul(1024) / 1000).clamp(LEAST_SHARES, MOST_SHARES)
    };
    shares.unsigned_abs()
}

/// Thousandths of a processor that shares stand for; the inverse of what was rounded.
pub(crate) fn milli_of_shares(shares: u64) -> i64 {
    let shares = i64::try_from(shares).unwrap_or(MOST_SHARES);
    if shares < LEAST_SHARES {
        0
    } else {
        shares.saturating_mul(1000).saturating_add(1023) / 1024
    }
}

/// `None` for no limit.
fn quota(milli: i64) -> Option<i64> {
    (milli > 0).then(|| (milli.saturating_mul(100)).max(LEAST_QUOTA_US))
}

/// Thousandths of a processor that a quota stands for; 0 without a limit.
pub(crate) fn milli_of_quota(resources: &Resources) -> i64 {
    let period = i64::try_from(resources.cpu_period_us.unwrap_or(PERIOD_US)).unwrap_or(i64::MAX);
    let quota = resources.cpu_quota_us.unwrap_or(-1).max(0);
    quota.saturating_mul(1000) / period.max(1)
}

fn oom_score_adj(pod: &Pod, container: &Container, node_memory: u64) -> i32 {
    let node_critical = pod
        .spec
        .as_ref()
        .and_then(|s| s.priority)
        .is_some_and(|p| p >= 2_000_001_000);
    match qos(pod) {
        _ if node_critical => -997,
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let spare = spare_memory(pod);
            let score = |c: &Container| {
                burstable_score(memory_request(c).saturating_add(spare), node_memory)
            };
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            let apps = kinds::apps(pod);
            let smallest = apps.iter().map(|m| score(m.spec)).max();
            let own = score(container);
            smallest.filter(|_| sidecar).map_or(own, |app| own.min(app))
        }
    }
}

fn memory_request(container: &Container) -> i64 {
    let own = container.resources.as_ref();
    amount(own.and_then(|r| r.requests.as_ref()), "memory").map_or(0, |q| q.value())
}

/// Each container's part of the memory that the Pod asks for and none of its containers does.
fn spare_memory(pod: &Pod) -> i64 {
    let Some(whole) = amount(pod_level(pod).and_then(|r| r.requests.as_ref()), "memory") else {
        return 0;
    };
    let asked = together(pod, |r| r.requests.as_ref());
    let asked = asked.get("memory").map_or(0, Quantity::value);
    let sharing = kinds::members(pod).len().max(1);
    let spare = whole.value().saturating_sub(asked).max(0);
    spare / i64::try_from(sharing).unwrap_or(i64::MAX)
}

fn burstable_score(request: i64, node_memory: u64) -> i32 {
    let share = i128::from(request) * 1000 / i128::from(node_memory.max(1));
    match i32::try_from((1000 - share).max(0)).unwrap_or(1000) {
        score if score < 3 => 3,
        1000 => 999,
        score => score,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn make(class: &str, containers: serde_json::Value, init: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": containers, "initContainers": init},
            "status": {"qosClass": class}}))
        .unwrap()
    }

    #[test]
    fn units_follow_the_formulas() {
        assert_eq!(
            [0, 1, 2, 100, 1000, 300_000].map(shares),
            [2, 2, 2, 102, 1024, 262_144]
        );
        assert_eq!(
            [0, 1, 10, 500].map(quota),
            [None, Some(1000), Some(1000), Some(50_000)]
        );
    }

    #[test]
    fn classes_have_their_cgroup_and_score() {
        let bare = json!([{"name": "a"}]);
        let full = json!([{"name": "a", "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}, "requests": {"cpu": "100m", "memory": "32Mi"}}}]);
        let part = json!([{"name": "a", "resources": {"requests": {"memory": "256Mi"}}}]);
        let rows = [
            ("BestEffort", bare, "besteffort/podu", 1000),
            ("Guaranteed", full, "podu", -997),
            ("Burstable", part, "burstable/podu", 750),
        ];
        for (class, containers, parent, score) in rows {
            let pod = make(class, containers, json!([]));
            assert_eq!(cgroup_parent(&pod), parent);
            let c = &pod.spec.as_ref().unwrap().containers[0];
            assert_eq!(
                container(&pod, c, 1 << 30).oom_score_adj,
                Some(score),
                "{class}"
            );
        }
    }

    #[test]
    fn init_containers_and_sidecars_count_as_they_run() {
        let with = |cpu: &str, policy: Option<&str>| json!({"name": cpu, "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}});
        let pod_of = |init| {
            make(
                "Burstable",
                json!([with("100m", None), with("200m", None)]),
                init,
            )
        };
        let rows = [
            (json!([]), 300),
            (json!([with("1", None)]), 1000),
            (json!([with("50m", Some("Always"))]), 350),
            (
                json!([with("50m", Some("Always")), with("320m", None)]),
                370,
            ),
        ];
        for (init, milli) in rows {
            let resources = pod(&pod_of(init.clone()));
            assert_eq!(resources.cpu_shares, Some(shares(milli)), "{init}");
            assert_eq!(resources.cpu_quota_us, quota(milli), "{init}");
        }
        let unlimited = make(
            "Burstable",
            json!([with("100m", None), {"name": "b"}]),
            json!([]),
        );
        assert_eq!(pod(&unlimited).cpu_quota_us, None);
    }
}
