//! From resources to file contents (spec `§12.4`). Pure.

use ports::runtime::Resources;

/// Whose cgroup it is; the rules differ a little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A Pod's or a QoS class's: it holds groups, not processes.
    Parent,
    /// A container's.
    Container,
}

/// A file to write: controller, name, value.
pub(super) type Write = (&'static str, &'static str, String);

/// `cpu.weight` as the node agent converts it for Pods and classes: linear.
pub(super) fn linear_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// `cpu.weight` as OCI runtimes convert it for containers: 2 → 1, 1024 → 100, 262144 → 10000, evenly on a logarithmic scale.
pub(super) fn container_weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    if shares == 262_144 {
        return 10_000;
    }
    let l = (shares as f64).log2();
    (10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64).clamp(1, 10_000)
}

fn or_max(value: i64) -> String {
    if value <= 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// What a v2 group's files shall hold.
pub(super) fn v2(resources: &Resources, role: Role) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(shares) = resources.cpu_shares {
        let weight = if role == Role::Parent {
            linear_weight(shares)
        } else {
            container_weight(shares)
        };
        writes.push(("cpu", "cpu.weight", weight.to_string()));
    }
    if resources.cpu_quota_us.is_some() || resources.cpu_period_us.is_some() {
        let period = resources.cpu_period_us.unwrap_or(100_000);
        writes.push((
            "cpu",
            "cpu.max",
            format!("{} {period}", or_max(resources.cpu_quota_us.unwrap_or(-1))),
        ));
    }
    // No swap for containers (`NoSwap`), nor for a Pod beyond its limit; set first, so that a shrinking limit cannot push pages out.
    let swap = match (role, resources.memory_limit_bytes) {
        (Role::Container, _) => Some("0"),
        (Role::Parent, Some(limit)) => Some(if limit > 0 { "0" } else { "max" }),
        (Role::Parent, None) => None,
    };
    writes.extend(swap.map(|swap| ("memory", "memory.swap.max", swap.to_owned())));
    if let Some(limit) = resources.memory_limit_bytes {
        writes.push(("memory", "memory.max", or_max(limit)));
    }
    if let Some(limit) = resources.pids_limit {
        writes.push(("pids", "pids.max", or_max(limit)));
    }
    if let Some(together) = resources.oom_group {
        let value = u8::from(together).to_string();
        writes.push(("memory", "memory.oom.group", value));
    }
    writes
}

/// What a v1 group's files shall hold. Memory plus swap goes with the memory limit and is left to the caller, as their order
/// depends on what is there.
pub(super) fn v1(resources: &Resources) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(shares) = resources.cpu_shares {
        writes.push(("cpu", "cpu.shares", shares.clamp(2, 262_144).to_string()));
    }
    if let Some(period) = resources.cpu_period_us {
        writes.push(("cpu", "cpu.cfs_period_us", period.to_string()));
    }
    if let Some(quota) = resources.cpu_quota_us {
        writes.push((
            "cpu",
            "cpu.cfs_quota_us",
            if quota <= 0 { -1 } else { quota }.to_string(),
        ));
    }
    if let Some(limit) = resources.pids_limit {
        writes.push(("pids", "pids.max", or_max(limit)));
    }
    writes
}

/// Where the limit of huge pages of a size is in a group: in v2 and in v1, that of the pages in use and that of those reserved
/// (`admin-guide/cgroup-v1/hugetlb`, `admin-guide/cgroup-v2`).
pub(super) fn huge_page_files(page_bytes: u64) -> [(String, String); 2] {
    let units = [(30, "GB"), (20, "MB"), (10, "KB")];
    let (shift, unit) = units
        .into_iter()
        .find(|(shift, _)| page_bytes >> shift > 0)
        .unwrap_or((10, "KB"));
    let size = format!("hugetlb.{}{unit}", page_bytes >> shift);
    let files = |kind: &str| {
        (
            format!("{size}{kind}.max"),
            format!("{size}{kind}.limit_in_bytes"),
        )
    };
    [files(""), files(".rsvd")]
}

/// A number on a line of its own after `key` in a flat keyed file, such as `memory.stat`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        for (shares, linear, container) in [
            (0, 1, 1),
            (2, 1, 1),
            (102, 4, 17),
            (256, 10, 35),
            (512, 20, 59),
            (1024, 39, 100),
            (2048, 79, 174),
            (262_144, 10_000, 10_000),
            (u64::MAX, 10_000, 10_000),
        ] {
            assert_eq!(
                (linear_weight(shares), container_weight(shares)),
                (linear, container),
                "{shares}"
            );
        }
    }

    fn shown(writes: &[Write]) -> String {
        writes
            .iter()
            .map(|(_, file, value)| format!("{file}={value}"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    #[test]
    fn files() {
        let all = Resources {
            cpu_period_us: Some(100_000),
            cpu_quota_us: Some(50_000),
            cpu_shares: Some(1024),
            memory_limit_bytes: Some(64 << 20),
            pids_limit: Some(100),
            oom_group: Some(true),
            oom_score_adj: Some(5),
            ..Resources::default()
        };
        assert_eq!(
            shown(&v2(&all, Role::Container)),
            "cpu.weight=100, cpu.max=50000 100000, memory.swap.max=0, memory.max=67108864, pids.max=100, memory.oom.group=1"
        );
        assert_eq!(
            shown(&v2(&all, Role::Parent)),
            "cpu.weight=39, cpu.max=50000 100000, memory.swap.max=0, memory.max=67108864, pids.max=100, memory.oom.group=1"
        );
        assert_eq!(
            shown(&v1(&all)),
            "cpu.shares=1024, cpu.cfs_period_us=100000, cpu.cfs_quota_us=50000, pids.max=100"
        );
        let none = Resources::default();
        assert_eq!(
            (shown(&v1(&none)), shown(&v2(&none, Role::Parent))),
            (String::new(), String::new())
        );
        assert_eq!(shown(&v2(&none, Role::Container)), "memory.swap.max=0");
        let lifted = Resources {
            cpu_quota_us: Some(-1),
            memory_limit_bytes: Some(-1),
            pids_limit: Some(-1),
            ..Resources::default()
        };
        assert_eq!(shown(&v1(&lifted)), "cpu.cfs_quota_us=-1, pids.max=max");
        assert_eq!(
            shown(&v2(&lifted, Role::Parent)),
            "cpu.max=max 100000, memory.swap.max=max, memory.max=max, pids.max=max"
        );
    }

    #[test]
    fn files_of_huge_pages() {
        let shown = |page_bytes| huge_page_files(page_bytes).map(|(v2, v1)| format!("{v2} {v1}"));
        for (page_bytes, size) in [
            (64 << 10, "64KB"),
            (2 << 20, "2MB"),
            (512 << 20, "512MB"),
            (1 << 30, "1GB"),
            (16 << 30, "16GB"),
        ] {
            assert_eq!(
                shown(page_bytes),
                [
                    format!("hugetlb.{size}.max hugetlb.{size}.limit_in_bytes"),
                    format!("hugetlb.{size}.rsvd.max hugetlb.{size}.rsvd.limit_in_bytes"),
                ]
            );
        }
    }

    #[test]
    fn keyed_files() {
        let text = "inactive_file 12\ntotal_inactive_file 34\noom_kill 1\n";
        assert_eq!(keyed(text, "inactive_file"), Some(12));
        assert_eq!(keyed(text, "total_inactive_file"), Some(34));
        assert_eq!(keyed(text, "oom"), None);
    }
}
