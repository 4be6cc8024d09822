//! Which hierarchies a node has and where: cgroup v2 alone, v1, or v1 with a v2 beside it (hybrid).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::CgroupError;

/// v1 controllers with something to limit, count or forbid. `freezer` joins them where no v2 hierarchy can stop and kill.
const USED: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "devices"];
/// The controller of huge pages: wherever it is mounted, with v1 controllers or with v2.
pub(super) const HUGE_PAGES: &str = "hugetlb";

/// A v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    /// Its controllers; `name=systemd` and the like stand for themselves.
    pub(super) controllers: Vec<String>,
}

/// The hierarchies of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Mount of the unified hierarchy.
    pub(super) v2: Option<PathBuf>,
    /// v1 hierarchies by the name of their mount point.
    pub(super) v1: BTreeMap<String, Hierarchy>,
}

/// The kinds of layout, as users know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// cgroup v2 alone.
    Unified,
    /// Controllers on v1, a v2 hierarchy beside them: limits on v1, birth, freezing and killing on v2.
    Hybrid,
    /// v1 alone.
    Legacy,
}

/// Looks at the mounts of this process.
pub fn detect() -> Result<Layout, CgroupError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = std::fs::read_to_string(path).map_err(|e| CgroupError::io("read", path, e))?;
    parse(&text).ok_or(CgroupError::None)
}

/// Reads a layout from the text of `/proc/<pid>/mountinfo` (`proc_pid_mountinfo(5)`); `None` without any hierarchy.
pub(super) fn parse(mountinfo: &str) -> Option<Layout> {
    let mut layout = Layout::default();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut left = left.split(' ').skip(3);
        let (Some(_root), Some(point)) = (left.next(), left.next()) else {
            continue;
        };
        let mut right = right.split(' ');
        let (kind, options) = (
            right.next().unwrap_or_default(),
            right.nth(1).unwrap_or_default(),
        );
        let point = PathBuf::from(point);
        match kind {
            "cgroup2" => layout.v2 = layout.v2.or(Some(point)),
            "cgroup" => {
                let Some(name) = point.file_name().map(|n| n.to_string_lossy().into_owned()) else {
                    continue;
                };
                let controllers = options
                    .split(',')
                    .filter(|o| !is_mount_option(o))
                    .map(str::to_owned)
                    .collect();
                layout.v1.entry(name).or_insert(Hierarchy {
                    mount: point,
                    controllers,
                });
            }
            _ => {}
        }
    }
    layout.keep_used();
    (layout.v2.is_some() || !layout.v1.is_empty()).then_some(layout)
}

fn is_mount_option(option: &str) -> bool {
    let flags = [
        "rw",
        "ro",
        "none",
        "clone_children",
        "xattr",
        "noprefix",
        "cpuset_v2_mode",
    ];
    flags.contains(&option) || option.starts_with("release_agent=")
}

impl Layout {
    /// Drops hierarchies nothing is done with. The named one of systemd is kept: a service manager that stops the engine's unit
    /// would otherwise find containers among the engine's own processes.
    fn keep_used(&mut self) {
        let freezer = self.v2.is_none();
        let used = |c: &String| {
            USED.contains(&c.as_str())
                || c == HUGE_PAGES
                || c == "name=systemd"
                || (freezer && c == "freezer")
        };
        self.v1
            .retain(|_, hierarchy| hierarchy.controllers.iter().any(used));
    }

    /// The hierarchies in which a group below the engine's own is of use: all but those that only tell whose processes these are.
    pub(super) fn limiting(&self) -> Self {
        let mut layout = self.clone();
        layout
            .v1
            .retain(|_, hierarchy| hierarchy.controllers.iter().any(|c| c != "name=systemd"));
        layout
    }

    /// The hierarchies that stop and kill what is in a group.
    pub(super) fn killing(&self) -> Self {
        match &self.v2 {
            Some(v2) => Self {
                v2: Some(v2.clone()),
                v1: BTreeMap::new(),
            },
            None => self.limiting(),
        }
    }

    /// Which kind it is.
    pub fn mode(&self) -> Mode {
        match (
            &self.v2,
            self.v1
                .values()
                .any(|h| h.controllers.iter().any(|c| USED.contains(&c.as_str()))),
        ) {
            (Some(_), false) => Mode::Unified,
            (Some(_), true) => Mode::Hybrid,
            (None, _) => Mode::Legacy,
        }
    }

    /// The directory of `group` in the v1 hierarchy of a controller.
    pub(super) fn v1_dir(&self, controller: &str, group: &Path) -> Option<PathBuf> {
        let found = self
            .v1
            .values()
            .find(|h| h.controllers.iter().any(|c| c == controller))?;
        Some(found.mount.join(group))
    }

    /// The directory of `group` in the unified hierarchy.
    pub(super) fn v2_dir(&self, group: &Path) -> Option<PathBuf> {
        self.v2.as_ref().map(|mount| mount.join(group))
    }

    /// Every directory of `group`.
    pub(super) fn dirs(&self, group: &Path) -> Vec<PathBuf> {
        self.v1
            .values()
            .map(|h| h.mount.join(group))
            .chain(self.v2_dir(group))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(mountinfo: &str) -> String {
        let Some(layout) = parse(mountinfo) else {
            return "none".into();
        };
        let v1: Vec<_> = layout
            .v1
            .iter()
            .map(|(n, h)| format!("{n}={}", h.controllers.join("+")))
            .collect();
        let v2 = layout
            .v2
            .as_ref()
            .map(|p| p.display().to_string())
            .unwrap_or_default();
        format!("{:?} v1[{}] v2[{v2}]", layout.mode(), v1.join(" "))
    }

    const ROOT: &str = "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda rw\n";

    #[test]
    fn layouts_are_told_apart() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
        assert_eq!(
            shown(&format!("{ROOT}{v2}")),
            "Unified v1[] v2[/sys/fs/cgroup]"
        );
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                  35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  36 31 0:33 / /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb\n\
                  37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                  40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/l/systemd,name=systemd\n";
        assert_eq!(
            shown(v1),
            "Legacy v1[cpu,cpuacct=cpu+cpuacct freezer=freezer hugetlb=hugetlb memory=memory systemd=name=systemd] v2[]"
        );
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            shown(&format!("{v1}{unified}")),
            "Hybrid v1[cpu,cpuacct=cpu+cpuacct hugetlb=hugetlb memory=memory systemd=name=systemd] v2[/sys/fs/cgroup/unified]"
        );
        let systemd =
            "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,none,name=systemd\n";
        assert_eq!(
            shown(&format!("{v2}{systemd}")),
            "Unified v1[systemd=name=systemd] v2[/sys/fs/cgroup]"
        );
        let shorter = |part: fn(&Layout) -> Layout, text: &str| {
            let layout = part(&parse(text).unwrap());
            (
                layout.v1.into_keys().collect::<Vec<_>>().join(" "),
                layout.v2.is_some(),
            )
        };
        let hybrid = format!("{v1}{unified}");
        assert_eq!(
            shorter(Layout::limiting, &hybrid),
            ("cpu,cpuacct hugetlb memory".into(), true)
        );
        assert_eq!(shorter(Layout::killing, &hybrid), (String::new(), true));
        assert_eq!(
            shorter(Layout::killing, v1),
            ("cpu,cpuacct freezer hugetlb memory".into(), false)
        );
        assert_eq!(shown(ROOT), "none");
        assert_eq!(shown("garbage\n\n- - -\n"), "none");
    }
}
