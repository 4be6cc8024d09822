//! What is told of the node itself (§14.2), but for its pressures, which are [`crate::pressure`]'s.

use k8s_openapi::api::core::v1::Node;

use crate::plan::Event;
use crate::pressure::Level;

/// The agent begins.
pub fn starting() -> Event {
    Event::normal("Starting", "Starting kubelet.")
}

/// What is told of a node that was registered; `before` is how the API had it until then.
pub fn registered(before: Option<&Node>, node: &Node) -> Vec<Event> {
    let mut events = Vec::new();
    let boot = |node: &Node| {
        let info = node.status.as_ref()?.node_info.as_ref()?;
        Some(info.boot_id.clone()).filter(|id| !id.is_empty())
    };
    if let (Some(old), Some(new)) = (before.and_then(boot), boot(node))
        && old != new
    {
        let message = format!("Node {} has been rebooted, boot id: {new}", name(node));
        events.push(Event::warning("Rebooted", message));
    }
    if is_ready(node) && !before.is_some_and(is_ready) {
        events.push(status(node, "NodeReady"));
    }
    events
}

/// What is told of a node that has become ready, or is so no more.
pub fn readiness(name: &str, is_ready: bool) -> Event {
    let reason = if is_ready {
        "NodeReady"
    } else {
        "NodeNotReady"
    };
    Event::normal(reason, format!("Node {name} status is now: {reason}"))
}

/// What is told of a node that has changed in the API.
pub fn changed(before: &Node, node: &Node) -> Option<Event> {
    let is_cordoned = |node: &Node| node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
    match (is_cordoned(before), is_cordoned(node)) {
        (false, true) => Some(status(node, "NodeNotSchedulable")),
        (true, false) => Some(status(node, "NodeSchedulable")),
        _ => None,
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

fn status(node: &Node, reason: &str) -> Event {
    let message = format!("Node {} status is now: {reason}", name(node));
    Event::normal(reason, message)
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// A process that was killed because the machine ran out of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Victim {
    /// Its name.
    pub process: String,
    /// Its process id.
    pub pid: u32,
}

/// What a record of the kernel's log (`/dev/kmsg`) tells of such a process: nothing if a cgroup ran out of memory, or if it is not the
/// kernel that speaks.
pub fn oom_victim(record: &str) -> Option<Victim> {
    let (prefix, message) = record.split_once(';')?;
    let priority: u32 = prefix.split(',').next()?.parse().ok()?;
    let is_kernel = priority < 8;
    let facts = message.strip_prefix("oom-kill:")?;
    if !is_kernel || !facts.contains(",global_oom,") {
        return None;
    }
    // A process's name may hold any character, an id only digits.
    let (facts, rest) = facts.rsplit_once(",pid=")?;
    let (_, process) = facts.split_once(",task=")?;
    Some(Victim {
        process: process.to_owned(),
        pid: rest.split(',').next()?.parse().ok()?,
    })
}

/// `ImageGCFailed` (§14.2): images that nobody needs could not be removed.
pub fn image_gc_failed(error: &str) -> Event {
    Event::warning("ImageGCFailed", error)
}

/// `ContainerGCFailed` (§14.2): what is left of containers or sandboxes that have ended could not be removed.
pub fn container_gc_failed(error: &str) -> Event {
    Event::warning("ContainerGCFailed", error)
}

/// `InvalidDiskCapacity` (§14.2): the file system says that it has no room at all, so nobody can tell how full it is.
pub fn invalid_disk_capacity(capacity: u64) -> Event {
    let message = format!("invalid capacity {capacity} on image filesystem");
    Event::warning("InvalidDiskCapacity", message)
}

/// `FreeDiskSpaceFailed` (§14.2): images do not take up what the disk lacks. `disk` is how it is after so many bytes of them were
/// removed.
pub fn disk_not_freed(disk: &Level, freed: u64) -> Event {
    let available = disk.available.min(disk.capacity);
    let left = u128::from(available) * 100 / u128::from(disk.capacity.max(1));
    let message = format!(
        "Insufficient free disk space on the node's image filesystem ({}% of {} used). Failed to free sufficient space by deleting \
         unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other \
         data.",
        100 - left,
        size(disk.capacity)
    );
    Event::warning("FreeDiskSpaceFailed", message)
}

/// Bytes for people, with one digit after the point: `1.5 GiB`.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let fits = |place: &usize| *place + 1 == units.len() || bytes >> (10 * (place + 2)) == 0;
    let Some(place) = (0..units.len()).find(fits).filter(|_| bytes >= 1024) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10 + (1 << (10 * place + 9))) >> (10 * (place + 1));
    format!("{}.{} {}", tenths / 10, tenths % 10, units[place])
}

/// `SystemOOM` (§14.2).
pub fn system_oom(victim: &Victim) -> Event {
    let Victim { process, pid } = victim;
    let message = format!("System OOM encountered, victim process: {process}, pid: {pid}");
    Event::warning("SystemOOM", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(boot: &str, ready: &str, is_cordoned: bool) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "spec": {"unschedulable": is_cordoned},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "nodeInfo": {"bootID": boot, "architecture": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                    "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""},
            },
        }))
        .expect("a node")
    }

    #[test]
    fn a_disk_that_stays_full_is_told_of() {
        for (capacity, available, freed, told) in [
            (
                1 << 30,
                1 << 29,
                0,
                "(50% of 1.0 GiB used). Failed to free sufficient space by deleting unused images (freed 0 bytes)",
            ),
            (
                3 << 29,
                1,
                7,
                "(100% of 1.5 GiB used). Failed to free sufficient space by deleting unused images (freed 7 bytes)",
            ),
            (1000, 2000, 0, "(0% of 1000 B used)"),
            (1024, 0, 0, "(100% of 1.0 KiB used)"),
            (5 << 50, 0, 0, "(100% of 5120.0 TiB used)"),
            (0, 0, 0, "(100% of 0 B used)"),
        ] {
            let event = disk_not_freed(
                &Level {
                    capacity,
                    available,
                },
                freed,
            );
            assert!(event.message.contains(told), "{}", event.message);
        }
    }

    #[test]
    fn what_is_new_of_a_node_is_told() {
        let here = node("b", "True", false);
        let ready = "NodeReady: Node n status is now: NodeReady";
        let rebooted = "Rebooted: Node n has been rebooted, boot id: b";
        for (before, told) in [
            (None, vec![ready]),
            (Some(node("b", "True", false)), vec![]),
            (Some(node("b", "False", false)), vec![ready]),
            (Some(node("a", "True", false)), vec![rebooted]),
            (Some(node("a", "Unknown", false)), vec![rebooted, ready]),
            (Some(node("", "True", false)), vec![]),
        ] {
            let events = registered(before.as_ref(), &here);
            let words: Vec<String> = events
                .iter()
                .map(|e| format!("{}: {}", e.reason, e.message))
                .collect();
            assert_eq!(words, told, "{before:?}");
        }
        let cordoned = node("b", "True", true);
        let reason = |before, after| changed(before, after).map(|event| event.reason);
        assert_eq!(
            reason(&here, &cordoned).as_deref(),
            Some("NodeNotSchedulable")
        );
        assert_eq!(reason(&cordoned, &here).as_deref(), Some("NodeSchedulable"));
        assert_eq!(reason(&here, &here), None);
    }

    #[test]
    fn only_the_machines_own_shortage_is_told_of() {
        let facts = |constraint: &str, more: &str, task: &str| {
            format!(
                "oom-kill:constraint={constraint},nodemask=(null),cpuset=/,mems_allowed=0,{more},task={task},pid=42,uid=0"
            )
        };
        let global = facts("CONSTRAINT_NONE", "global_oom,task_memcg=/a", "eater");
        let odd = facts("CONSTRAINT_NONE", "global_oom,task_memcg=/a", "a,pid=7");
        let of_group = facts("CONSTRAINT_MEMCG", "oom_memcg=/a,task_memcg=/a/b", "eater");
        let rows = [
            (format!("6,12,345,-;{global}"), Some("eater")),
            (format!("6,12,345,-;{odd}"), Some("a,pid=7")),
            (format!("6,12,345,-;{of_group}"), None),
            (format!("14,12,345,-;{global}"), None),
            (global, None),
            (
                "6,12,345,-;eater invoked oom-killer: order=0".to_owned(),
                None,
            ),
            (" SUBSYSTEM=cpu".to_owned(), None),
        ];
        for (record, process) in rows {
            let victim = oom_victim(&record);
            let want = process.map(|process| Victim {
                process: process.to_owned(),
                pid: 42,
            });
            assert_eq!(victim, want, "{record}");
        }
        let event = system_oom(&Victim {
            process: "eater".into(),
            pid: 42,
        });
        let text = "System OOM encountered, victim process: eater, pid: 42";
        assert_eq!(
            (event.reason.as_str(), event.message.as_str()),
            ("SystemOOM", text)
        );
    }
}
