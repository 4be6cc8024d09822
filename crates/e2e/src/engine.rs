//! An engine of a test's own: below a directory of its own, at a port of the kernel's choice, pulling from the test registry.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail, ensure};

/// Counts engines.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// What a test needs from outside, named by environment variables that `cargo xtask test` sets.
#[derive(Debug, Clone)]
pub struct Outside {
    /// The `carob` binary (`CAROB_BIN`).
    pub carob: PathBuf,
    /// kubectl 1.36 (`CAROB_KUBECTL`).
    pub kubectl: PathBuf,
    /// An older kubectl (`CAROB_OLDER_KUBECTL`).
    pub older_kubectl: PathBuf,
    /// `HOST:PORT` of a registry that holds the images tests use (`CAROB_REGISTRY`).
    pub registry: String,
}

impl Outside {
    /// Reads the environment; the error says how to run the tests.
    pub fn from_env() -> anyhow::Result<Outside> {
        let read = |name: &str| {
            std::env::var(name).with_context(|| {
                format!("{name} is not set: end-to-end tests are run by `cargo xtask test e2e`")
            })
        };
        Ok(Outside {
            carob: read("CAROB_BIN")?.into(),
            kubectl: read("CAROB_KUBECTL")?.into(),
            older_kubectl: read("CAROB_OLDER_KUBECTL")?.into(),
            registry: read("CAROB_REGISTRY")?,
        })
    }
}

/// A running engine. [`Engine::down`] ends it and proves that nothing is left; dropping it only ends it.
#[derive(Debug)]
pub struct Engine {
    outside: Outside,
    root: tempfile::TempDir,
    /// What it is told to do, `up` or `node`, and the flags of that.
    verb: Vec<String>,
    /// The network namespace it is in, if it is in one of its own.
    namespace: Option<String>,
    is_down: bool,
}

impl Engine {
    /// Starts an engine and returns once its node is Ready.
    pub fn start(outside: &Outside) -> anyhow::Result<Engine> {
        let engine = Engine::prepare(outside)?;
        engine.up()?;
        Ok(engine)
    }

    /// A root whose engine has not been started.
    pub fn prepare(outside: &Outside) -> anyhow::Result<Engine> {
        let root = tempfile::Builder::new()
            .prefix("carob-e2e-")
            .tempdir()
            .context("make a root")?;
        let hosts = root.path().join("certs.d/_default");
        fs::create_dir_all(&hosts)?;
        fs::write(
            hosts.join("hosts.toml"),
            format!(
                "[host.\"http://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
                outside.registry
            ),
        )?;
        // A name that no other engine takes once this one has gone, so that what is left of it can be told from theirs.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let bridge = format!("e2e{}n{number}", std::process::id());
        fs::write(
            root.path().join("config.yaml"),
            format!("bridge: {bridge}\n"),
        )?;
        Ok(Engine {
            outside: outside.clone(),
            root,
            verb: ["up", "--listen", "127.0.0.1:0"].map(String::from).into(),
            namespace: None,
            is_down: false,
        })
    }

    /// Listens at this address instead.
    pub fn listen_at(&mut self, address: &str) {
        self.verb = ["up", "--listen", address].map(String::from).into();
    }

    /// Is a node of the cluster that this kubeconfig leads to instead, in a network namespace of its own.
    pub fn join(&mut self, kubeconfig: &Path, namespace: &str) {
        let kubeconfig = kubeconfig.display().to_string();
        self.verb = vec!["node".into(), "--kubeconfig".into(), kubeconfig];
        self.namespace = Some(namespace.to_owned());
    }

    /// Adds lines to its settings file.
    pub fn settings(&self, lines: &str) -> anyhow::Result<()> {
        let path = self.root.path().join("config.yaml");
        let before = fs::read_to_string(&path)?;
        Ok(fs::write(path, before + lines)?)
    }

    /// Starts it again after [`Engine::stop`] or a kill.
    pub fn up(&self) -> anyhow::Result<()> {
        must(self.up_command().arg("-d")).map(drop)
    }

    /// Ends the engine; containers go on.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.carob(["down"]).map(drop)
    }

    /// The directory everything of this engine is in.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Address of the registry its images come from.
    pub fn registry(&self) -> &str {
        &self.outside.registry
    }

    /// Its kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.path().join("kubeconfig")
    }

    /// Process id of the engine.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let text = fs::read_to_string(self.root.path().join("run/engine.lock"))?;
        text.parse()
            .context("the engine's lock holds no process id")
    }

    /// `carob` with this root, not yet started.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.here(&self.outside.carob);
        command
            .arg("--root")
            .arg(self.root.path())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// A program where the engine is.
    pub fn here(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.namespace {
            Some(namespace) => lan::command_in(namespace, program),
            None => Command::new(program),
        }
    }

    /// `carob up` with this root, at a port of the kernel's choice unless told otherwise, not yet started.
    pub fn up_command(&self) -> Command {
        self.command(&self.verb)
    }

    /// Runs `carob` with this root; a failure is an error with what it said.
    pub fn carob<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<String> {
        must(&mut self.command(arguments))
    }

    /// Runs kubectl 1.36 against this engine; a failure is an error with what it said.
    pub fn kubectl<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<String> {
        must(
            Command::new(&self.outside.kubectl)
                .arg("--kubeconfig")
                .arg(self.kubeconfig())
                .args(arguments),
        )
    }

    /// Runs kubectl and returns everything, success or not.
    pub fn try_kubectl<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.outside.kubectl);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .args(arguments)
            .stdin(Stdio::null());
        command.output().context("start kubectl")
    }

    /// Ends the engine and its Pods, and checks that nothing of them is left on the machine.
    pub fn down(mut self) -> anyhow::Result<()> {
        let bridge = self.bridge();
        self.carob(["down", "--all"])?;
        self.is_down = true;
        self.is_gone(bridge.as_deref())
    }

    /// Checks that nothing of it is left on the machine, files below its root aside.
    pub fn is_gone(&self, bridge: Option<&str>) -> anyhow::Result<()> {
        let left = self.leftovers(bridge);
        ensure!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
        Ok(())
    }

    /// What on this machine still belongs to an engine: processes, mounts, cgroups, its bridge and its firewall table.
    fn leftovers(&self, bridge: Option<&str>) -> Vec<String> {
        let mut left = Vec::new();
        let root_text = self.root().to_string_lossy();
        for process in numbered("/proc") {
            let command = fs::read(process.join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&*root_text) {
                left.push(format!(
                    "process {}: {}",
                    process.display(),
                    String::from_utf8_lossy(&command).replace('\0', " ")
                ));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&*root_text))
                .map(|line| format!("mount {line}")),
        );
        if let Some(bridge) = bridge {
            let link = self.here("ip").args(["link", "show", bridge]).output();
            if link.is_ok_and(|output| output.status.success()) {
                left.push(format!("bridge {bridge}"));
            }
            left.extend(
                cgroups(bridge)
                    .into_iter()
                    .map(|dir| format!("cgroup {}", dir.display())),
            );
            let tables = self
                .here("nft")
                .args(["list", "tables"])
                .output()
                .map(|output| output.stdout)
                .unwrap_or_default();
            let is_ours = |line: &&str| line.split(' ').next_back() == Some(bridge);
            left.extend(
                String::from_utf8_lossy(&tables)
                    .lines()
                    .filter(is_ours)
                    .map(|line| format!("nft {line}")),
            );
        }
        left
    }

    /// Name of its bridge, which names its cgroup and firewall table as well.
    pub fn bridge(&self) -> Option<String> {
        let text = fs::read_to_string(self.root.path().join("state/network/network.json")).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        record["bridge"].as_str().map(str::to_owned)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.is_down
            && let Err(error) = self.carob(["down", "--all"])
        {
            eprintln!(
                "the engine at {} did not end: {error:#}",
                self.root.path().display()
            );
        }
    }
}

fn must(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {:?}", command.get_program()))?;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!(
            "{} failed ({}):\n{stdout}{stderr}",
            arguments.join(" "),
            output.status
        );
    }
    Ok(stdout.into_owned())
}

fn numbered(dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .bytes()
                .all(|byte| byte.is_ascii_digit())
        })
        .map(|entry| entry.path())
        .collect()
}

/// The engine's directories at the top of each hierarchy.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    std::iter::once(top.to_owned())
        .chain(hierarchies)
        .map(|dir| dir.join(name))
        .filter(|dir| dir.is_dir())
        .collect()
}
