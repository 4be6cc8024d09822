//! Making, changing and removing the groups of the engine's tree.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ports::runtime::{Resources, Stats};

use super::devices::{self, Devices};
use super::error::CgroupError;
use super::layout::{HUGE_PAGES, Layout, Mode};
use super::values::{self, Role, keyed};
use crate::launch::CgroupEntry;

/// Controllers handed down the v2 tree, where they exist.
const DELEGATED: [&str; 5] = ["cpu", "memory", "pids", "io", HUGE_PAGES];

/// The engine's tree: `<root>/[burstable|besteffort/]pod<uid>/<container>` in every hierarchy (spec `§12.3`).
#[derive(Debug, Clone)]
pub struct Tree {
    layouts: Arc<Layouts>,
    root: PathBuf,
}

/// The node's hierarchies, and those that groups further down have directories in.
#[derive(Debug)]
struct Layouts {
    whole: Layout,
    limiting: Layout,
    killing: Layout,
}

/// Which hierarchies a group has directories in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// All: the engine's root.
    Root,
    /// Those with something to limit or to kill by: Pods and containers.
    Inner,
    /// Those to kill by: pause.
    Leaf,
}

/// A group: one directory of the same name in each hierarchy that matters for it.
#[derive(Debug, Clone)]
pub struct Group {
    layouts: Arc<Layouts>,
    place: Place,
    path: PathBuf,
}

pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let written = OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut f| f.write_all(value.as_bytes()));
    written.map_err(|e| CgroupError::io(format!("write {value} to"), path, e))
}

pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    std::fs::read_to_string(path).map_err(|e| CgroupError::io("read", path, e))
}

fn make(path: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::io("mkdir", path, e))
        }
        _ => Ok(()),
    }
}

/// Missing means done, for what need not exist on every kernel.
fn if_there(result: Result<(), CgroupError>) -> Result<(), CgroupError> {
    match result {
        Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Tree {
    /// The tree below `root`, a relative path such as `carob`, in every hierarchy.
    pub fn new(layout: Layout, root: &str) -> Self {
        let layouts = Layouts {
            limiting: layout.limiting(),
            killing: layout.killing(),
            whole: layout,
        };
        Self {
            layouts: Arc::new(layouts),
            root: PathBuf::from(root.trim_start_matches('/')),
        }
    }

    /// The node's hierarchies.
    pub fn layout(&self) -> &Layout {
        &self.layouts.whole
    }

    /// The kind of hierarchies underneath.
    pub fn mode(&self) -> Mode {
        self.layout().mode()
    }

    /// The group at `path` below the root; empty is the root itself.
    pub fn group(&self, path: impl AsRef<Path>) -> Group {
        let path = path.as_ref();
        let place = if path.as_os_str().is_empty() {
            Place::Root
        } else {
            Place::Inner
        };
        Group {
            layouts: Arc::clone(&self.layouts),
            place,
            path: self.root.join(path),
        }
    }

    /// Makes the root and the groups of the QoS classes. May be repeated.
    pub fn prepare(&self) -> Result<(), CgroupError> {
        if let (Mode::Unified, Some(mount)) = (self.mode(), &self.layout().v2) {
            delegate_top(mount)?;
        }
        let minimal = Resources {
            cpu_shares: Some(2),
            ..Resources::default()
        };
        let root = self.group("");
        root.create(&Resources::default(), Role::Parent, Devices::All)?;
        root.count_memory_of_children();
        // Until it is said what its Pods ask for.
        self.group("burstable")
            .create(&minimal, Role::Parent, Devices::All)?;
        self.group("besteffort")
            .create(&minimal, Role::Parent, Devices::All)
    }
}

/// Hands controllers that it has to the children of a v2 group.
fn delegate(dir: &Path, controllers: &[&str]) -> Result<(), CgroupError> {
    let available = read(&dir.join("cgroup.controllers"))?;
    let control = dir.join("cgroup.subtree_control");
    let enabled = read(&control)?;
    let has = |list: &str, name: &str| list.split_whitespace().any(|c| c == name);
    let missing: Vec<String> = controllers
        .iter()
        .filter(|c| has(&available, c) && !has(&enabled, c))
        .map(|c| format!("+{c}"))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        write(&control, &missing.join(" "))
    }
}

/// The same at the top. In a cgroup namespace the top is an ordinary group, which may not hold processes and hand down
/// controllers (cgroup v2, "no internal process constraint"): its processes move to a leaf first.
fn delegate_top(mount: &Path) -> Result<(), CgroupError> {
    match delegate(mount, &DELEGATED) {
        Err(e) if e.errno() == Some(libc::EBUSY) => {
            let leaf = mount.join("init");
            make(&leaf)?;
            for pid in read(&mount.join("cgroup.procs"))?.lines() {
                // One that has ended meanwhile needs no moving.
                let _ = write(&leaf.join("cgroup.procs"), pid);
            }
            delegate(mount, &DELEGATED)
        }
        other => other,
    }
}

impl Group {
    /// Its path below the hierarchies' mounts.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Directories a process enters to be in it.
    pub fn entry(&self) -> CgroupEntry {
        let v1 = self
            .layout()
            .v1
            .iter()
            .map(|(name, h)| (name.clone(), h.mount.join(&self.path)))
            .collect();
        CgroupEntry {
            v2: self.layout().v2_dir(&self.path),
            v1,
        }
    }

    fn layout(&self) -> &Layout {
        match self.place {
            Place::Root => &self.layouts.whole,
            Place::Inner => &self.layouts.limiting,
            Place::Leaf => &self.layouts.killing,
        }
    }

    /// The group `name` in it.
    pub fn child(&self, name: &str) -> Self {
        Self {
            layouts: Arc::clone(&self.layouts),
            place: Place::Inner,
            path: self.path.join(name),
        }
    }

    /// The group `name` in it that has no limits of its own and is there to be killed by: where v2 stands beside v1, in v2 alone.
    pub fn leaf(&self, name: &str) -> Self {
        Self {
            place: Place::Leaf,
            ..self.child(name)
        }
    }

    pub(super) fn v1_file(&self, controller: &str, file: &str) -> Option<PathBuf> {
        self.layout()
            .v1_dir(controller, &self.path)
            .map(|d| d.join(file))
    }

    pub(super) fn v2_file(&self, file: &str) -> Option<PathBuf> {
        self.layout().v2_dir(&self.path).map(|d| d.join(file))
    }

    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        self.layout().dirs(&self.path)
    }

    pub(super) fn mode(&self) -> Mode {
        self.layouts.whole.mode()
    }

    /// Makes it without limits; what it is in must exist. May be repeated. A failure leaves nothing but what was there.
    pub fn make(&self) -> Result<(), CgroupError> {
        self.made_or_removed(|| self.make_directories())
    }

    /// Makes it with limits; what it is in must exist. May be repeated. A failure leaves nothing but what was there.
    pub fn create(
        &self,
        resources: &Resources,
        role: Role,
        devices: Devices,
    ) -> Result<(), CgroupError> {
        self.made_or_removed(|| self.try_create(resources, role, devices))
    }

    fn made_or_removed(
        &self,
        make: impl FnOnce() -> Result<(), CgroupError>,
    ) -> Result<(), CgroupError> {
        let there = self.dirs().first().is_some_and(|d| d.exists());
        let made = make();
        if made.is_err() && !there {
            // The first error is the one to tell.
            let _ = self.remove();
        }
        made
    }

    fn make_directories(&self) -> Result<(), CgroupError> {
        self.dirs().iter().try_for_each(|dir| make(dir))
    }

    fn try_create(
        &self,
        resources: &Resources,
        role: Role,
        devices: Devices,
    ) -> Result<(), CgroupError> {
        self.make_directories()?;
        if role == Role::Parent {
            self.delegate_down(resources)?;
        }
        self.apply(resources, role)?;
        if devices == Devices::Default {
            self.confine_devices()
        } else {
            Ok(())
        }
    }

    /// Lets what is in it have limits. Beside v1 controllers only that of huge pages can be with v2, and costs only those who have some.
    fn delegate_down(&self, resources: &Resources) -> Result<(), CgroupError> {
        let Some(mount) = &self.layout().v2 else {
            return Ok(());
        };
        if self.mode() == Mode::Unified {
            return delegate(&mount.join(&self.path), &DELEGATED);
        }
        if resources.huge_pages.is_empty() {
            return Ok(());
        }
        let mut above: Vec<&Path> = self.path.ancestors().collect();
        above.reverse();
        above
            .into_iter()
            .try_for_each(|group| delegate(&mount.join(group), &[HUGE_PAGES]))
    }

    /// Without it a Pod's limit would not cover its containers before Linux 5.11. Groups made in it inherit it.
    fn count_memory_of_children(&self) {
        if let Some(file) = self.v1_file("memory", "memory.use_hierarchy")
            && read(&file).is_ok_and(|v| v.trim() == "0")
        {
            let _ = write(&file, "1");
        }
    }

    fn confine_devices(&self) -> Result<(), CgroupError> {
        let Some(deny) = self.v1_file("devices", "devices.deny") else {
            return self
                .layout()
                .v2_dir(&self.path)
                .map_or(Ok(()), |dir| devices::confine_v2(&dir));
        };
        write(&deny, "a")?;
        let allow = deny.with_file_name("devices.allow");
        let mut file = OpenOptions::new()
            .write(true)
            .open(&allow)
            .map_err(|e| CgroupError::io("open", &allow, e))?;
        for rule in &devices::DEFAULT {
            let line = devices::v1_line(rule);
            file.write_all(line.as_bytes())
                .map_err(|e| CgroupError::io(format!("write {line} to"), &allow, e))?;
        }
        Ok(())
    }

    /// Changes its limits; fields that are `None` stay as they are.
    pub fn update(&self, resources: &Resources) -> Result<(), CgroupError> {
        let role = if self.is_parent() {
            Role::Parent
        } else {
            Role::Container
        };
        self.write_all(values::v2(resources, role), resources)
    }

    fn is_parent(&self) -> bool {
        self.path.file_name().is_some_and(|n| {
            let n = n.to_string_lossy();
            n.starts_with("pod") || n == "burstable" || n == "besteffort"
        })
    }

    fn apply(&self, resources: &Resources, role: Role) -> Result<(), CgroupError> {
        self.write_all(values::v2(resources, role), resources)
    }

    fn write_all(&self, v2: Vec<values::Write>, resources: &Resources) -> Result<(), CgroupError> {
        self.limit_huge_pages(&resources.huge_pages)?;
        if self.mode() == Mode::Unified {
            for (_, file, value) in v2 {
                if let Some(path) = self.v2_file(file) {
                    // Swap accounting and controllers can be missing; a limit asked for must not be.
                    let optional = file == "memory.swap.max" || file == "memory.oom.group";
                    let written = write(&path, &value);
                    if optional {
                        if_there(written)?
                    } else {
                        written?
                    }
                }
            }
            return Ok(());
        }
        for (controller, file, value) in values::v1(resources) {
            if let Some(path) = self.v1_file(controller, file) {
                write(&path, &value)?;
            }
        }
        resources
            .memory_limit_bytes
            .map_or(Ok(()), |limit| self.limit_v1_memory(limit))
    }

    /// A kernel without this controller, or one that does not count reservations, limits nothing, as upstream's runtimes do.
    fn limit_huge_pages(&self, limits: &BTreeMap<u64, u64>) -> Result<(), CgroupError> {
        for (page_bytes, limit) in limits {
            for (v2, v1) in values::huge_page_files(*page_bytes) {
                let file = self.v1_file(HUGE_PAGES, &v1).or_else(|| self.v2_file(&v2));
                if let Some(file) = file {
                    if_there(write(&file, &limit.to_string()))?;
                }
            }
        }
        Ok(())
    }

    /// Memory, and memory plus swap (equal to it: no swap). The first may never exceed the second, so their order depends on
    /// what is there.
    fn limit_v1_memory(&self, limit: i64) -> Result<(), CgroupError> {
        let Some(memory) = self.v1_file("memory", "memory.limit_in_bytes") else {
            return Ok(());
        };
        let both = memory.with_file_name("memory.memsw.limit_in_bytes");
        let value = if limit <= 0 { -1 } else { limit }.to_string();
        match write(&memory, &value) {
            Err(e) if e.errno() == Some(libc::EINVAL) => {
                write(&both, &value)?;
                write(&memory, &value)
            }
            Ok(()) => if_there(write(&both, &value)),
            other => other,
        }
    }

    /// What it uses now (spec `§12`; working set without inactive file pages, as cAdvisor counts).
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let number = |path: Option<PathBuf>| -> Result<u64, CgroupError> {
            path.map_or(Ok(0), |p| Ok(read(&p)?.trim().parse().unwrap_or(0)))
        };
        let text = |path: Option<PathBuf>| path.map_or(Ok(String::new()), |p| read(&p));
        let (cpu_usage_ns, usage, inactive, pids) = if self.mode() == Mode::Unified {
            let cpu = keyed(&text(self.v2_file("cpu.stat"))?, "usage_usec").unwrap_or(0) * 1000;
            let inactive = keyed(&text(self.v2_file("memory.stat"))?, "inactive_file").unwrap_or(0);
            (
                cpu,
                number(self.v2_file("memory.current"))?,
                inactive,
                number(self.v2_file("pids.current"))?,
            )
        } else {
            let cpu = number(self.v1_file("cpuacct", "cpuacct.usage"))?;
            let inactive = keyed(
                &text(self.v1_file("memory", "memory.stat"))?,
                "total_inactive_file",
            )
            .unwrap_or(0);
            let usage = number(self.v1_file("memory", "memory.usage_in_bytes"))?;
            (
                cpu,
                usage,
                inactive,
                number(self.v1_file("pids", "pids.current"))?,
            )
        };
        Ok(Stats {
            cpu_usage_ns,
            memory_working_set_bytes: usage.saturating_sub(inactive),
            memory_usage_bytes: usage,
            pids,
        })
    }

    /// How many of its processes were killed for want of memory since it was made (spec `§12.6`). Ask before removing it.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let file = match self.mode() {
            Mode::Unified => self.v2_file("memory.events"),
            Mode::Hybrid | Mode::Legacy => self.v1_file("memory", "memory.oom_control"),
        };
        let Some(file) = file else { return Ok(0) };
        Ok(keyed(&read(&file)?, "oom_kill").unwrap_or(0))
    }

    /// Removes it and the groups in it. They must be empty ([`Group::kill`], [`Group::wait_empty`]); absent is done.
    pub fn remove(&self) -> Result<(), CgroupError> {
        self.dirs().iter().try_for_each(|dir| remove_tree(dir))
    }
}

fn remove_tree(dir: &Path) -> Result<(), CgroupError> {
    match std::fs::remove_dir(dir) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Groups in it, or processes, or one that is just leaving; the second look tells.
        Err(e)
            if e.raw_os_error() == Some(libc::EBUSY)
                || e.raw_os_error() == Some(libc::ENOTEMPTY) => {}
        Err(e) => return Err(CgroupError::io("rmdir", dir, e)),
    }
    let entries = std::fs::read_dir(dir).map_err(|e| CgroupError::io("read", dir, e))?;
    for entry in entries
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
    {
        remove_tree(&entry.path())?;
    }
    // A process that ends leaves all its groups under one lock of the kernel, v2 first: who learns from v2 that it is gone can be
    // faster than its leaving of v1. Listing processes takes the same lock.
    let _ = read(&dir.join("cgroup.procs"));
    match std::fs::remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CgroupError::io("rmdir", dir, e)),
        _ => Ok(()),
    }
}
