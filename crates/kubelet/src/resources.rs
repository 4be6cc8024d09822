//! Requests and limits in the units of the kernel (spec `§12.3` to `§12.5`).

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;
use ports::runtime::Resources;

const PERIOD_US: u64 = 100_000;
const LEAST_SHARES: i64 = 2;
const MOST_SHARES: i64 = 262_144;
const LEAST_QUOTA_US: i64 = 1000;

/// Quality of service classes (spec `§12.1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// The Pod's class, as the API server computed it.
pub(crate) fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("Burstable") => Qos::Burstable,
        _ => Qos::BestEffort,
    }
}

/// The Pod's cgroup below the engine's (spec `§12.3`).
pub(crate) fn cgroup_parent(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match qos(pod) {
        Qos::Guaranteed => format!("pod{uid}"),
        Qos::Burstable => format!("burstable/pod{uid}"),
        Qos::BestEffort => format!("besteffort/pod{uid}"),
    }
}

/// A container's own limits; `node_memory` in bytes scales the Burstable `oom_score_adj`.
pub(crate) fn container(pod: &Pod, container: &Container, node_memory: u64) -> Resources {
    let limits = |name| {
        amount(
            container.resources.as_ref().and_then(|r| r.limits.as_ref()),
            name,
        )
    };
    let requests = |name| {
        amount(
            container
                .resources
                .as_ref()
                .and_then(|r| r.requests.as_ref()),
            name,
        )
    };
    let pod_limit = |name| amount(pod_level(pod).and_then(|r| r.limits.as_ref()), name);
    let cpu_limit = limits("cpu")
        .or_else(|| pod_limit("cpu"))
        .map(|q| q.milli_value());
    let cpu_request = requests("cpu")
        .or_else(|| limits("cpu"))
        .map_or(0, |q| q.milli_value());
    let memory = limits("memory")
        .or_else(|| pod_limit("memory"))
        .map(|q| q.value())
        .filter(|bytes| *bytes > 0);
    Resources {
        cpu_shares: Some(shares(cpu_request)),
        cpu_period_us: Some(PERIOD_US),
        cpu_quota_us: cpu_limit.and_then(quota),
        memory_limit_bytes: memory,
        pids_limit: None,
        oom_score_adj: Some(oom_score_adj(pod, container, node_memory)),
    }
}

/// The limits of the whole Pod (spec `§12.4`).
pub(crate) fn pod(pod: &Pod) -> Resources {
    let request = |name| pod_amount(pod, name, |r| r.requests.as_ref()).map_or(0, |total| total.0);
    let limit = |name| {
        pod_amount(pod, name, |r| r.limits.as_ref())
            .filter(|(_, every)| *every)
            .map(|total| total.0)
    };
    let class = qos(pod);
    let (cpu, memory) = if class == Qos::BestEffort {
        (None, None)
    } else {
        (limit("cpu"), limit("memory"))
    };
    Resources {
        cpu_shares: Some(if class == Qos::BestEffort {
            shares(0)
        } else {
            shares(request("cpu"))
        }),
        cpu_period_us: Some(PERIOD_US),
        cpu_quota_us: cpu.and_then(quota),
        memory_limit_bytes: memory.filter(|bytes| *bytes > 0),
        pids_limit: None,
        oom_score_adj: None,
    }
}

fn pod_level(pod: &Pod) -> Option<&ResourceRequirements> {
    pod.spec.as_ref()?.resources.as_ref()
}

fn amount(list: Option<&BTreeMap<String, Wire>>, name: &str) -> Option<Quantity> {
    Quantity::try_from(list?.get(name)?).ok()
}

type List = BTreeMap<String, Wire>;

/// The Pod's effective amount (spec `§12.2`), in thousandths for cpu, else plain, and whether every container has one.
fn pod_amount(
    pod: &Pod,
    name: &str,
    of: impl Fn(&ResourceRequirements) -> Option<&List>,
) -> Option<(i64, bool)> {
    let scalar = |q: Quantity| {
        if name == "cpu" {
            q.milli_value()
        } else {
            q.value()
        }
    };
    if let Some(own) = pod_level(pod).and_then(|r| amount(of(r), name)) {
        return Some((scalar(own), true));
    }
    let spec = pod.spec.as_ref()?;
    let each = |c: &Container| {
        c.resources
            .as_ref()
            .and_then(|r| amount(of(r), name))
            .map(scalar)
    };
    let mut every = true;
    let mut value = |c: &Container| {
        let amount = each(c);
        every &= amount.is_some();
        amount.unwrap_or(0)
    };
    let (mut sidecars, mut highest) = (0_i64, 0_i64);
    for container in spec.init_containers.iter().flatten() {
        let own = value(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.saturating_add(own);
            highest = highest.max(sidecars);
        } else {
            highest = highest.max(sidecars.saturating_add(own));
        }
    }
    let apps = spec
        .containers
        .iter()
        .fold(0_i64, |sum, c| sum.saturating_add(value(c)));
    let total = apps.saturating_add(sidecars).max(highest);
    let overhead = amount(spec.overhead.as_ref(), name).map_or(0, scalar);
    Some((
        if total > 0 {
            total.saturating_add(overhead)
        } else {
            total
        },
        every,
    ))
}

fn shares(milli: i64) -> u64 {
    let shares = if milli <= 0 {
        LEAST_SHARES
    } else {
        (milli.saturating_mul(1024) / 1000).clamp(LEAST_SHARES, MOST_SHARES)
    };
    shares.unsigned_abs()
}

/// `None` for no limit.
fn quota(milli: i64) -> Option<i64> {
    (milli > 0).then(|| (milli.saturating_mul(100)).max(LEAST_QUOTA_US))
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
            let own = burstable_score(container, node_memory);
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            let apps = pod
                .spec
                .as_ref()
                .map(|s| s.containers.as_slice())
                .unwrap_or_default();
            let smallest = apps
                .iter()
                .map(|c| burstable_score(c, node_memory))
                .max()
                .filter(|_| sidecar);
            smallest.map_or(own, |app| own.min(app))
        }
    }
}

fn burstable_score(container: &Container, node_memory: u64) -> i32 {
    let request = amount(
        container
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref()),
        "memory",
    )
    .map_or(0, |q| q.value());
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
