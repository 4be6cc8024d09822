//! The same container started by crun: an OCI bundle whose root is an overlay, as containerd hands it over.
//!
//! It runs in a mount namespace of its own, in which a v2 hierarchy beside v1 controllers is unmounted: crun does not take such
//! a machine for what it is.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use runtime::launch::capabilities;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

use crate::{own, stamp};

/// Name under which the program runs this.
pub(crate) const NAME: &str = "crun-side";
/// Where a v2 hierarchy is beside v1 controllers.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
/// The engine's default filter, of which crun gets the names of what is allowed.
const PROFILE: &str = include_str!("../../../crates/runtime/src/seccomp/default.profile");

/// What one series gave.
#[derive(Default)]
pub(crate) struct Samples {
    /// From before the root is mounted to the program's first line.
    pub(crate) launch: Vec<Duration>,
    /// `crun create`.
    pub(crate) create: Vec<Duration>,
    /// `crun start`.
    pub(crate) start: Vec<Duration>,
    /// From before `crun exec` to the program's first line.
    pub(crate) exec: Vec<Duration>,
}

impl Samples {
    /// As text for the process that asked: a line of nanoseconds for each series.
    fn print(&self) {
        for series in [&self.launch, &self.create, &self.start, &self.exec] {
            let words: Vec<String> = series.iter().map(|s| s.as_nanos().to_string()).collect();
            println!("{}", words.join(" "));
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut series = text.lines().map(|line| {
            let words = line.split_whitespace().map(str::parse);
            words
                .map(|word| word.ok().map(Duration::from_nanos))
                .collect()
        });
        let mut next = || -> Option<Vec<Duration>> { series.next()? };
        Some(Self {
            launch: next()?,
            create: next()?,
            start: next()?,
            exec: next()?,
        })
    }
}

/// Runs a series in a process of its own. `dir` holds `layer`; `cgroup` is where the containers' cgroups go.
pub(crate) fn measure(
    dir: &Path,
    cgroup: &str,
    seccomp: bool,
    runs: usize,
    rest: Duration,
) -> anyhow::Result<Samples> {
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe()?)
        .arg(NAME)
        .arg(dir)
        .args([cgroup, &seccomp.to_string(), &runs.to_string()])
        .arg(rest.as_millis().to_string())
        .stderr(Stdio::inherit())
        .output()
        .context("execute unshare")?;
    remove_groups(cgroup)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let samples = Samples::parse(&text).filter(|_| output.status.success());
    samples.with_context(|| format!("crun's side ended with {}", output.status))
}

/// crun makes the containers' parent in every v1 hierarchy, also where the own runtime has nothing to do, and leaves it.
fn remove_groups(cgroup: &str) -> anyhow::Result<()> {
    for hierarchy in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        match fs::remove_dir(hierarchy.path().join(cgroup)) {
            // Where it still has groups it is the own runtime's, which removes it.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// What the process of its own does.
pub(crate) fn main(args: &[String]) -> anyhow::Result<()> {
    let [dir, cgroup, seccomp, runs, rest] = args else {
        anyhow::bail!("{NAME} is for this program's own use");
    };
    if Path::new(UNIFIED).exists() {
        unmount(UNIFIED, UnmountFlags::DETACH).context("unmount the v2 hierarchy")?;
    }
    let rest = Duration::from_millis(rest.parse()?);
    let bundle = Bundle::new(Path::new(dir), cgroup, seccomp == "true")?;
    let mut samples = Samples::default();
    for n in 0..=runs.parse::<usize>()? {
        std::thread::sleep(rest);
        let mut warm = Samples::default();
        // The first one warms up.
        let into = if n == 0 { &mut warm } else { &mut samples };
        bundle.run(&format!("bench-launch-{}-{n}", std::process::id()), into)?;
    }
    samples.print();
    Ok(())
}

struct Bundle {
    dir: PathBuf,
    layer: PathBuf,
}

impl Bundle {
    fn new(dir: &Path, cgroup: &str, seccomp: bool) -> anyhow::Result<Self> {
        let bundle = Self {
            dir: dir.join("bundle"),
            layer: dir.join("layer"),
        };
        fs::create_dir_all(bundle.dir.join("rootfs"))?;
        fs::write(
            bundle.dir.join("config.json"),
            serde_json::to_vec(&config(cgroup, seccomp))?,
        )?;
        Ok(bundle)
    }

    fn run(&self, id: &str, samples: &mut Samples) -> anyhow::Result<()> {
        let begin = stamp::now();
        let root = self.mount_root()?;
        let (reader, writer) = std::io::pipe()?;
        let mounted = stamp::now();
        let create = ["create", "--bundle", &self.dir.to_string_lossy(), id];
        succeed(crun(&create).stdout(writer))?;
        let created = stamp::now();
        succeed(&mut crun(&["start", id]))?;
        let started = stamp::now();
        let mut output = BufReader::new(reader);
        let first = next_stamp(&mut output)?;
        samples.exec.push(exec(id)?);
        succeed(&mut crun(&["delete", "--force", id]))?;
        output.read_to_end(&mut Vec::new())?;
        unmount(&root, UnmountFlags::DETACH)?;
        fs::remove_dir_all(self.dir.join("upper"))?;
        fs::remove_dir_all(self.dir.join("work"))?;
        samples.launch.push(first - begin);
        samples.create.push(created - mounted);
        samples.start.push(started - created);
        Ok(())
    }

    fn mount_root(&self) -> anyhow::Result<PathBuf> {
        let root = self.dir.join("rootfs");
        let (upper, work) = (self.dir.join("upper"), self.dir.join("work"));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={},volatile",
            self.layer.display(),
            upper.display(),
            work.display()
        );
        let options = std::ffi::CString::new(options)?;
        mount(
            "overlay",
            &root,
            "overlay",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )?;
        Ok(root)
    }
}

/// Whether crun is there.
pub(crate) fn is_installed() -> bool {
    succeed(Command::new("crun").arg("--version").stdout(Stdio::null())).is_ok()
}

fn crun(args: &[&str]) -> Command {
    let mut command = Command::new("crun");
    command
        .arg("--cgroup-manager=cgroupfs")
        .args(args)
        .stdin(Stdio::null());
    command
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("execute {command:?}"))?;
    anyhow::ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn exec(id: &str) -> anyhow::Result<Duration> {
    let (reader, writer) = std::io::pipe()?;
    let asked = stamp::now();
    succeed(crun(&["exec", id, "/stamp", stamp::NAME, "0"]).stdout(writer))?;
    Ok(next_stamp(&mut BufReader::new(reader))? - asked)
}

fn next_stamp(output: &mut impl BufRead) -> anyhow::Result<Duration> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    stamp::read(&line)
        .first()
        .copied()
        .context("the program wrote no time")
}

/// What the own runtime gives a container by default, in OCI's words.
fn config(cgroup: &str, seccomp: bool) -> Value {
    let capabilities: Vec<String> = capabilities::DEFAULT
        .iter()
        .map(|c| format!("CAP_{c}"))
        .collect();
    let limits = own::RESOURCES;
    let hardened = json!(["nosuid", "noexec", "nodev"]);
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/stamp", stamp::NAME, "10000"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "oomScoreAdj": limits.oom_score_adj,
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": hardened},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "nosuid", "noexec", "nodev"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": hardened},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "cgroupsPath": format!("/{cgroup}/crun"),
            "namespaces": [{"type": "pid"}, {"type": "mount"}],
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "cpu": {"shares": limits.cpu_shares, "quota": limits.cpu_quota_us, "period": limits.cpu_period_us},
                "memory": {"limit": limits.memory_limit_bytes},
                "pids": {"limit": limits.pids_limit},
            },
            "maskedPaths": runtime::launch::default_masked_paths(),
            "readonlyPaths": runtime::launch::default_readonly_paths(),
        },
    });
    if seccomp {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": allowed(), "action": "SCMP_ACT_ALLOW"}],
        });
    }
    config
}

/// System calls the profile allows whatever their arguments and the container's capabilities.
fn allowed() -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut is_allowed = false;
    for line in PROFILE.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') {
            is_allowed = line == "[allow]";
        } else if is_allowed {
            names.extend(line.split_whitespace().filter(|name| !name.contains('(')));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_come_back_as_they_were() {
        let samples = Samples::parse("1 2\n3\n\n4\n").expect("four lines");
        assert_eq!(samples.launch, [1, 2].map(Duration::from_nanos));
        assert_eq!(samples.start, Vec::<Duration>::new());
        assert!(Samples::parse("1\n2\n3\n").is_none(), "a line is missing");
        assert!(Samples::parse("1\nx\n3\n4\n").is_none(), "no number");
    }

    #[test]
    fn the_profile_gives_plain_names() {
        let names = allowed();
        assert!(names.len() > 300 && names.contains(&"execve"), "{names:?}");
        assert!(!names.contains(&"reboot"), "needs a capability");
    }
}
