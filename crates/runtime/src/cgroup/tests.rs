//! Groups on this node's own hierarchies (root needed), and on a made-up v2 tree.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use ports::runtime::Resources;

use super::layout::{self, Layout};
use super::*;

/// A tree of its own, removed when dropped.
struct Own(Tree);

impl Own {
    fn new(name: &str) -> Self {
        let tree = Tree::new(
            detect().unwrap(),
            &format!("carob-test-{name}-{}", std::process::id()),
        );
        tree.prepare().unwrap();
        Self(tree)
    }

    fn container(&self, resources: &Resources) -> Group {
        let pod = self.0.group("burstable/podx");
        pod.create(&Resources::default(), Role::Parent, Devices::All)
            .unwrap();
        let group = pod.child("c");
        group
            .create(resources, Role::Container, Devices::Default)
            .unwrap();
        group
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let root = self.0.group("");
        let _ = root.kill();
        root.wait_empty(Duration::from_secs(10)).unwrap();
        root.remove().unwrap();
        assert!(root.dirs().iter().all(|d| !d.exists()), "nothing is left");
    }
}

/// Starts a shell that first puts itself into the group.
fn shell(group: &Group, script: &str) -> Child {
    let entry = group.entry();
    let joins: String = entry
        .v1
        .values()
        .chain(&entry.v2)
        .map(|d| format!("echo 0 > {}/cgroup.procs; ", d.display()))
        .collect();
    Command::new("sh")
        .arg("-c")
        .arg(format!("set -e; {joins}set +e; {script}"))
        .spawn()
        .unwrap()
}

fn wait_populated(group: &Group) {
    let events = group.events().expect("a v2 hierarchy");
    while !group.populated().unwrap() {
        let mut fd = rustix::event::PollFd::new(&events, rustix::event::PollFlags::PRI);
        rustix::event::poll(std::slice::from_mut(&mut fd), None).unwrap();
    }
}

#[test]
fn limits_are_in_force_and_can_be_changed() {
    let own = Own::new("limits");
    let limits = Resources {
        cpu_period_us: Some(100_000),
        cpu_quota_us: Some(50_000),
        cpu_shares: Some(512),
        memory_limit_bytes: Some(32 << 20),
        pids_limit: Some(20),
        ..Resources::default()
    };
    let group = own.container(&limits);
    let seen = |controller: &str, v1: &str, v2: &str| {
        let file = group
            .v1_file(controller, v1)
            .or_else(|| group.v2_file(v2))
            .unwrap();
        fs::read_to_string(file).unwrap().trim().to_owned()
    };
    let memory = || seen("memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory(), (32 << 20).to_string());
    assert_eq!(seen("pids", "pids.max", "pids.max"), "20");
    assert!(
        ["50000", "50000 100000"].contains(&seen("cpu", "cpu.cfs_quota_us", "cpu.max").as_str())
    );
    for limit in [64 << 20, 16 << 20] {
        group
            .update(&Resources {
                memory_limit_bytes: Some(limit),
                ..Resources::default()
            })
            .unwrap();
        assert_eq!(memory(), limit.to_string());
    }
    assert_eq!(
        seen("pids", "pids.max", "pids.max"),
        "20",
        "what is not given stays"
    );
}

#[test]
fn everything_in_a_group_is_killed_and_counted() {
    let own = Own::new("kill");
    let group = own.container(&Resources::default());
    let mut child = shell(&group, "sleep 1000 & sleep 1000 & wait");
    wait_populated(&group);
    let stats = group.stats().unwrap();
    assert!(
        stats.pids >= 1 && stats.memory_usage_bytes >= stats.memory_working_set_bytes,
        "{stats:?}"
    );
    assert!(matches!(
        group.wait_empty(Duration::from_millis(1)),
        Err(CgroupError::Busy { .. })
    ));
    assert!(group.remove().is_err(), "a group with processes stays");
    group.freeze(true).unwrap();
    group.freeze(false).unwrap();
    own.0.group("burstable/podx").kill().unwrap();
    group.wait_empty(Duration::from_secs(10)).unwrap();
    child.wait().unwrap();
    assert_eq!(group.oom_kills().unwrap(), 0);
    group.remove().unwrap();
    group.remove().unwrap();
}

#[test]
fn killing_goes_process_by_process_without_v2() {
    let Layout { v1, .. } = detect().unwrap();
    if v1.is_empty() {
        return;
    }
    let own = Own::new("each");
    let group = own.container(&Resources::default());
    let mut child = shell(&group, "sleep 1000 & wait");
    wait_populated(&group);
    let legacy = Tree::new(
        Layout { v2: None, v1 },
        own.0.group("").path().to_str().unwrap(),
    );
    let same = legacy.group("burstable/podx");
    assert!(same.populated().unwrap());
    while same.populated().unwrap() {
        same.kill().unwrap();
        if same.wait_empty(Duration::from_secs(10)).is_ok() {
            break;
        }
    }
    child.wait().unwrap();
    assert!(!group.populated().unwrap());
}

/// A process that ends leaves its hierarchies one after another, v2 first: whoever learns there that a group is empty must still
/// be able to remove all of it.
#[test]
fn a_group_that_is_empty_can_be_removed_at_once() {
    let own = Own::new("race");
    let pod = own.0.group("burstable/podx");
    pod.create(&Resources::default(), Role::Parent, Devices::All)
        .unwrap();
    let group = pod.child("c");
    for _ in 0..1000 {
        group
            .create(&Resources::default(), Role::Container, Devices::All)
            .unwrap();
        let null = fs::File::open("/dev/null").unwrap();
        let process = crate::launch::spawn_in(
            &group.entry(),
            Path::new("/bin/true"),
            &["true".into()],
            null.into(),
        )
        .unwrap();
        while group.populated().unwrap() {}
        group.remove().unwrap();
        let ended = rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&process));
        rustix::process::waitid(ended, rustix::process::WaitIdOptions::EXITED).unwrap();
    }
}

#[test]
fn oom_kills_are_counted() {
    let own = Own::new("oom");
    let group = own.container(&Resources {
        memory_limit_bytes: Some(8 << 20),
        ..Resources::default()
    });
    let status = shell(&group, "head -c 100000000 /dev/zero | tail")
        .wait()
        .unwrap();
    assert!(!status.success());
    let kills = group.oom_kills().unwrap();
    if own.0.mode() == Mode::Unified {
        // The kernel counts the one it chose twice.
        assert!(
            kills >= 3,
            "the shell and both programs die together: {kills}"
        );
    } else {
        assert_eq!(kills, 1);
    }
}

/// Huge pages of a size added to the machine's, and a file system of them. All is given back when dropped.
struct Pages {
    count: std::path::PathBuf,
    before: u64,
    dir: tempfile::TempDir,
}

impl Pages {
    fn set_aside(page_bytes: u64, more: u64) -> Self {
        let size = format!("hugepages-{}kB/nr_hugepages", page_bytes >> 10);
        let count = Path::new("/sys/kernel/mm/hugepages").join(size);
        let counted = || -> u64 { fs::read_to_string(&count).unwrap().trim().parse().unwrap() };
        let before = counted();
        fs::write(&count, (before + more).to_string()).unwrap();
        assert_eq!(counted(), before + more, "the machine has memory for them");
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("pagesize={page_bytes}")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("none", dir.path(), "hugetlbfs", flags, options.as_c_str()).unwrap();
        Self { count, before, dir }
    }

    /// Whether a process of the group gets this many bytes of them.
    fn got_by(&self, group: &Group, bytes: u64) -> bool {
        let file = self.dir.path().join("pages");
        let script = format!("fallocate -l {bytes} {} 2>/dev/null", file.display());
        let got = shell(group, &script).wait().unwrap().success();
        fs::remove_file(file).unwrap();
        got
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        rustix::mount::unmount(self.dir.path(), rustix::mount::UnmountFlags::empty()).unwrap();
        fs::write(&self.count, self.before.to_string()).unwrap();
    }
}

#[test]
fn huge_pages_are_limited() {
    const PAGE: u64 = 2 << 20;
    let layout = detect().unwrap();
    let offered = |mount: &std::path::PathBuf| {
        let controllers = fs::read_to_string(mount.join("cgroup.controllers")).unwrap();
        controllers.contains(layout::HUGE_PAGES)
    };
    if layout.v1_dir(layout::HUGE_PAGES, Path::new("")).is_none()
        && !layout.v2.as_ref().is_some_and(offered)
    {
        return;
    }
    let pages = Pages::set_aside(PAGE, 4);
    let own = Own::new("huge");
    let limit = |count: u64| Resources {
        huge_pages: [(PAGE, count * PAGE)].into(),
        ..Resources::default()
    };
    let pod = own.0.group("burstable/podx");
    pod.create(&limit(3), Role::Parent, Devices::All).unwrap();
    let group = pod.child("c");
    group
        .create(&limit(2), Role::Container, Devices::Default)
        .unwrap();
    assert!(pages.got_by(&group, 2 * PAGE));
    assert!(!pages.got_by(&group, 3 * PAGE), "beyond the container's");
    group.update(&limit(4)).unwrap();
    assert!(pages.got_by(&group, 3 * PAGE));
    assert!(!pages.got_by(&group, 4 * PAGE), "beyond the Pod's");
    group.update(&limit(0)).unwrap();
    assert!(!pages.got_by(&group, PAGE));
}

#[test]
fn devices_are_confined() {
    let own = Own::new("devices");
    let group = own.container(&Resources::default());
    // The kernel's log: readable for root, and on no container's list.
    let script = "cat /dev/null || exit 1; head -c1 /dev/urandom >/dev/zero || exit 2; head -c1 /dev/kmsg 2>/dev/null && exit 3; exit 0";
    assert_eq!(shell(&group, script).wait().unwrap().code(), Some(0));
}

#[test]
fn devices_are_confined_by_program_on_v2() {
    let Some(mount) = detect().unwrap().v2 else {
        return;
    };
    let own = Own::new("bpf");
    let only_v2 = Layout {
        v2: Some(mount.clone()),
        ..Layout::default()
    };
    let group = Tree::new(only_v2, own.0.group("").path().to_str().unwrap()).group("leaf");
    fs::create_dir(mount.join(group.path())).unwrap();
    super::devices::confine_v2(&mount.join(group.path())).unwrap();
    let script = "cat /dev/null || exit 1; head -c1 /dev/urandom >/dev/zero || exit 2; head -c1 /dev/kmsg 2>/dev/null && exit 3; exit 0";
    assert_eq!(shell(&group, script).wait().unwrap().code(), Some(0));
}

#[test]
fn a_v2_tree_is_made_level_by_level() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path();
    let layout = layout::parse(&format!(
        "30 23 0:26 / {} rw - cgroup2 cgroup2 rw\n",
        mount.display()
    ))
    .unwrap();
    assert_eq!(layout.mode(), Mode::Unified);
    let tree = Tree::new(layout, "carob");
    let level = |path: &str, files: &[&str]| {
        let dir = mount.join(path);
        fs::create_dir_all(&dir).unwrap();
        fs::write(
            dir.join("cgroup.controllers"),
            "cpuset cpu io memory pids\n",
        )
        .unwrap();
        for file in ["cgroup.subtree_control"].iter().chain(files) {
            fs::write(dir.join(file), "").unwrap();
        }
    };
    let read = |path: &str| fs::read_to_string(mount.join(path)).unwrap();
    level("", &[]);
    level("carob", &[]);
    level("carob/burstable", &["cpu.weight"]);
    level("carob/besteffort", &["cpu.weight"]);
    tree.prepare().unwrap();
    for path in ["", "carob", "carob/burstable"] {
        let control = Path::new(path).join("cgroup.subtree_control");
        assert_eq!(
            read(control.to_str().unwrap()),
            "+cpu +memory +pids +io",
            "{path}"
        );
    }
    assert_eq!(read("carob/besteffort/cpu.weight"), "1");
    assert_eq!(read("carob/burstable/cpu.weight"), "1");

    level(
        "carob/podx",
        &["cpu.weight", "cpu.max", "memory.max", "memory.oom.group"],
    );
    let pod = tree.group("podx");
    let limits = Resources {
        cpu_shares: Some(1024),
        cpu_quota_us: Some(20_000),
        memory_limit_bytes: Some(1 << 20),
        ..Resources::default()
    };
    pod.create(&limits, Role::Parent, Devices::All).unwrap();
    assert_eq!(
        (read("carob/podx/cpu.weight"), read("carob/podx/cpu.max")),
        ("39".into(), "20000 100000".into())
    );
    assert_eq!(
        (
            read("carob/podx/memory.max"),
            read("carob/podx/memory.oom.group")
        ),
        ((1 << 20).to_string(), String::new())
    );
    assert_eq!(pod.entry().v2.unwrap(), mount.join("carob/podx"));

    fs::write(
        mount.join("carob/podx/memory.events"),
        "low 0\noom 2\noom_kill 3\noom_group_kill 1\n",
    )
    .unwrap();
    fs::write(
        mount.join("carob/podx/memory.stat"),
        "anon 1\ninactive_file 30\n",
    )
    .unwrap();
    fs::write(mount.join("carob/podx/memory.current"), "100\n").unwrap();
    fs::write(mount.join("carob/podx/pids.current"), "4\n").unwrap();
    fs::write(
        mount.join("carob/podx/cpu.stat"),
        "usage_usec 5\nuser_usec 4\n",
    )
    .unwrap();
    let stats = pod.stats().unwrap();
    assert_eq!(
        (
            stats.cpu_usage_ns,
            stats.memory_working_set_bytes,
            stats.pids
        ),
        (5000, 70, 4)
    );
    assert_eq!(pod.oom_kills().unwrap(), 3);
    fs::write(mount.join("carob/podx/cgroup.kill"), "").unwrap();
    pod.kill().unwrap();
    assert_eq!(read("carob/podx/cgroup.kill"), "1");
}
