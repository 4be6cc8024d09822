//! Facts about this machine for the Node object.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kubelet::{Capacity, NodeInfo};
use ports::runtime::IdMapping;

/// Version of Kubernetes whose behaviour the node agent follows.
const KUBELET_VERSION: &str = "v1.36.3";

/// What the machine has to give.
pub(crate) fn capacity(state: &Path) -> Capacity {
    let cpus = std::thread::available_parallelism()
        .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    let memory_bytes = read("/proc/meminfo")
        .lines()
        .find_map(mem_total)
        .unwrap_or_default();
    let storage_bytes = rustix::fs::statvfs(state)
        .map(|fs| fs.f_blocks * fs.f_frsize)
        .unwrap_or_default();
    // Whatever is reached first (proc_sys_kernel(5)).
    let limits = ["pid_max", "threads-max"].map(|name| {
        let text = read(&format!("/proc/sys/kernel/{name}"));
        text.trim().parse::<u64>().ok()
    });
    Capacity {
        cpus,
        memory_bytes,
        storage_bytes,
        pids: limits.into_iter().flatten().min().unwrap_or_default(),
        huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
    }
}

/// Huge pages by the bytes of one, from the kernel's directory of their sizes (`admin-guide/mm/hugetlbpage`).
fn huge_pages(sizes: &Path) -> BTreeMap<u64, u64> {
    let entries = fs::read_dir(sizes).into_iter().flatten().flatten();
    let pages = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let kibibytes = name.to_str()?.strip_prefix("hugepages-")?;
        let kibibytes: u64 = kibibytes.strip_suffix("kB")?.parse().ok()?;
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?;
        Some((kibibytes * 1024, count.trim().parse().ok()?))
    };
    entries.filter_map(pages).collect()
}

/// Ids for Pods with users of their own, or why there are none.
pub(crate) fn user_ids(max_pods: u32) -> Result<IdMapping, String> {
    kubelet::user_ids(&read("/etc/subuid"), &read("/etc/subgid"), max_pods)
}

fn mem_total(line: &str) -> Option<u64> {
    let kibibytes: u64 = line
        .strip_prefix("MemTotal:")?
        .trim()
        .strip_suffix(" kB")?
        .parse()
        .ok()?;
    Some(kibibytes * 1024)
}

/// What `kubectl describe node` shows under System Info.
pub(crate) fn info() -> NodeInfo {
    NodeInfo {
        machine_id: read("/etc/machine-id").trim().to_owned(),
        system_uuid: read("/sys/class/dmi/id/product_uuid").trim().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        kernel_version: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        os_image: pretty_name(&read("/etc/os-release")),
        container_runtime_version: format!("carob://{}", env!("CARGO_PKG_VERSION")),
        kubelet_version: KUBELET_VERSION.to_owned(),
        architecture: architecture().to_owned(),
    }
}

fn pretty_name(os_release: &str) -> String {
    let line = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map(|name| name.trim_matches('"').to_owned())
        .unwrap_or_default()
}

/// Go's name of the processor, as the API uses it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A file's text; empty where the machine does not tell.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_are_told_by_size() {
        let sizes = tempfile::tempdir().unwrap();
        for (name, count) in [("hugepages-2048kB", "12\n"), ("hugepages-1048576kB", "0\n")] {
            let dir = sizes.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("nr_hugepages"), count).unwrap();
        }
        fs::create_dir(sizes.path().join("other")).unwrap();
        assert_eq!(
            huge_pages(sizes.path()),
            BTreeMap::from([(2 << 20, 12), (1 << 30, 0)])
        );
        assert_eq!(huge_pages(Path::new("/nowhere")), BTreeMap::new());
    }

    #[test]
    fn reads_the_machines_own_words() {
        assert_eq!(
            mem_total("MemTotal:       24684092 kB"),
            Some(24684092 * 1024)
        );
        assert_eq!(mem_total("MemFree: 1 kB"), None);
        assert_eq!(
            pretty_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
            "Debian GNU/Linux 12"
        );
    }
}
