//! How much of the node's disk a Pod may use: its emptyDir volumes, each container, and all of it together (§2.9). Who uses more is
//! evicted.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use crate::huge_pages;
use crate::kinds;
use crate::observed::{ContainerKind, Eviction, Verdict};
use crate::plan::EventType;
use crate::resources;

/// The resource.
const STORAGE: &str = "ephemeral-storage";
/// Seconds such a Pod has to end.
const GRACE: i64 = 1;

/// What a Pod uses, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of volumes that are the Pod's own, by name.
    pub volumes: BTreeMap<String, u64>,
    /// What containers wrote beside their volumes, logs too, by name.
    pub containers: BTreeMap<String, u64>,
}

/// Whether a Pod may use up what it is allowed, so that it has to be measured.
pub fn is_limited(pod: &Pod) -> bool {
    volumes(pod).any(|volume| size_limit(volume).is_some())
        || resources::limits(pod).contains_key(STORAGE)
}

/// Whether a volume is the Pod's own, on this node: what is in it is the Pod's use.
pub fn is_own(pod: &Pod, volume: &str) -> bool {
    volumes(pod)
        .any(|v| v.name == volume && v.host_path.is_none() && v.persistent_volume_claim.is_none())
}

/// Why a Pod that uses so much has to go, if it has to. Volumes are judged first, then the Pod, then containers.
pub fn judge(pod: &Pod, usage: &Usage) -> Option<Eviction> {
    let message = volume(pod, usage)
        .or_else(|| whole(pod, usage))
        .or_else(|| container(pod, usage))?;
    Some(Eviction {
        verdict: Verdict {
            phase: "Failed".to_owned(),
            reason: "Evicted".to_owned(),
            message,
            event_type: EventType::Warning,
            annotations: BTreeMap::new(),
            disruption: None,
        },
        grace_seconds: Some(GRACE),
    })
}

fn volume(pod: &Pod, usage: &Usage) -> Option<String> {
    volumes(pod).find_map(|volume| {
        let limit = size_limit(volume)?;
        let used = usage.volumes.get(&volume.name)?;
        let limit_text = limit.to_string();
        is_over(*used, &limit).then(|| {
            format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {limit_text:?}. ",
                volume.name
            )
        })
    })
}

fn whole(pod: &Pod, usage: &Usage) -> Option<String> {
    let limits = resources::limits(pod);
    let limit = limits.get(STORAGE)?;
    // Memory is not disk.
    let on_disk = |name: &String| !volumes(pod).any(|v| v.name == *name && is_in_memory(v));
    let volumes = usage.volumes.iter().filter(|(name, _)| on_disk(name));
    let used: u64 = volumes.chain(&usage.containers).map(|(_, used)| used).sum();
    is_over(used, limit).then(|| {
        format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. ")
    })
}

fn container(pod: &Pod, usage: &Usage) -> Option<String> {
    let members = kinds::members(pod);
    let lasting = members
        .iter()
        .filter(|member| matches!(member.kind, ContainerKind::Sidecar | ContainerKind::App));
    lasting.into_iter().find_map(|member| {
        let limit = storage_limit(member.spec)?;
        let used = usage.containers.get(member.name())?;
        let limit_text = limit.to_string();
        is_over(*used, &limit).then(|| {
            format!(
                "Container {} exceeded its local ephemeral storage limit {limit_text:?}. ",
                member.name()
            )
        })
    })
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.volumes.iter().flatten())
}

/// Whether it takes nothing of the disk.
fn is_in_memory(volume: &Volume) -> bool {
    let medium = volume.empty_dir.as_ref().and_then(|e| e.medium.as_deref());
    medium.is_some_and(|medium| medium == "Memory" || huge_pages::is_medium(medium))
}

/// None is as good as no limit, and so is zero.
fn size_limit(volume: &Volume) -> Option<Quantity> {
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
    Quantity::try_from(limit).ok().filter(|q| q.signum() > 0)
}

fn storage_limit(container: &Container) -> Option<Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref();
    resources::amount(limits, STORAGE).filter(|q| q.signum() > 0)
}

fn is_over(used: u64, limit: &Quantity) -> bool {
    u64::try_from(limit.value()).is_ok_and(|limit| used > limit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(volumes: serde_json::Value, limits: [Option<&str>; 2]) -> Pod {
        let container = |name: &str, limit: Option<&str>| {
            let limits = limit.map(|l| json!({"ephemeral-storage": l}));
            json!({"name": name, "resources": {"limits": limits}})
        };
        let spec = json!({
            "volumes": volumes,
            "containers": [container("a", limits[0]), container("b", limits[1])],
        });
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a Pod")
    }

    fn usage(volumes: &[(&str, u64)], containers: &[(&str, u64)]) -> Usage {
        let map = |list: &[(&str, u64)]| list.iter().map(|(n, u)| ((*n).to_owned(), *u)).collect();
        Usage {
            volumes: map(volumes),
            containers: map(containers),
        }
    }

    #[test]
    fn who_uses_more_than_allowed_is_evicted() {
        let none = json!([]);
        let dir = json!([{"name": "v", "emptyDir": {"sizeLimit": "1Ki"}}]);
        let free = json!([{"name": "v", "emptyDir": {}}]);
        let memory = json!([{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
        let table = [
            (
                pod(none.clone(), [None; 2]),
                usage(&[], &[("a", 1 << 40)]),
                None,
            ),
            (
                pod(dir.clone(), [None; 2]),
                usage(&[("v", 1024)], &[]),
                None,
            ),
            (
                pod(dir, [None; 2]),
                usage(&[("v", 1025)], &[]),
                Some("Usage of EmptyDir volume \"v\" exceeds the limit \"1Ki\". "),
            ),
            (
                pod(none.clone(), [Some("1M"), None]),
                usage(&[], &[("a", 1_000_001)]),
                Some(
                    "Pod ephemeral local storage usage exceeds the total limit of containers 1M. ",
                ),
            ),
            (
                pod(none, [Some("1M"), Some("2M")]),
                usage(&[], &[("a", 1_000_001), ("b", 1)]),
                Some("Container a exceeded its local ephemeral storage limit \"1M\". "),
            ),
            (
                pod(free, [Some("1M"), Some("2M")]),
                usage(&[("v", 2_000_000)], &[("a", 999_999), ("b", 2)]),
                Some(
                    "Pod ephemeral local storage usage exceeds the total limit of containers 3M. ",
                ),
            ),
            (
                pod(memory, [Some("1M"), Some("2M")]),
                usage(&[("v", 1 << 20)], &[("a", 1_000_000), ("b", 2_000_000)]),
                None,
            ),
        ];
        for (pod, usage, expected) in table {
            let judged = judge(&pod, &usage).map(|e| e.verdict.message);
            assert_eq!(judged.as_deref(), expected, "{usage:?}");
        }
    }

    #[test]
    fn only_limits_have_to_be_measured() {
        let sized = |limit: &str| json!([{"name": "v", "emptyDir": {"sizeLimit": limit}}]);
        assert!(!is_limited(&pod(
            json!([{"name": "v", "emptyDir": {}}]),
            [None; 2]
        )));
        assert!(!is_limited(&pod(sized("0"), [None; 2])));
        assert!(is_limited(&pod(sized("1"), [None; 2])));
        assert!(is_limited(&pod(json!([]), [None, Some("1Gi")])));
    }
}
