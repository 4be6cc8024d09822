//! An engine of a command's own, below a directory of its own: started by nothing but `carob`, gone without a trace afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::run;

/// An engine's binary and root. Starting it is one of the commands; [`Engine::remove`] ends it.
pub(crate) struct Engine {
    pub(crate) carob: PathBuf,
    pub(crate) root: PathBuf,
    /// The network namespace it is in, if it is in one of its own.
    namespace: Option<String>,
}

impl Engine {
    /// An engine with an empty root at `target/NAME`. What an interrupted command left there is taken down first.
    pub(crate) fn fresh(carob: PathBuf, name: &str) -> anyhow::Result<Self> {
        let engine = Self::clear(carob, name)?;
        fs::create_dir_all(&engine.root).context("make the engine's directory")?;
        Ok(engine)
    }

    /// Takes down what an interrupted command left at `target/NAME`, and the network that was in.
    pub(crate) fn clear(carob: PathBuf, name: &str) -> anyhow::Result<Self> {
        let engine = Self {
            carob,
            root: run::target_dir().join(name),
            namespace: None,
        };
        if !engine.root.exists() {
            return Ok(engine);
        }
        let namespace = fs::read_to_string(engine.root.join("namespace"));
        engine.remove()?;
        if let Ok(namespace) = namespace
            && Path::new("/run/netns").join(&namespace).exists()
        {
            lan::remove(&namespace)?;
        }
        Ok(engine)
    }

    /// Starts it, and returns when its node is Ready.
    pub(crate) fn up(&self) -> anyhow::Result<()> {
        self.up_at("127.0.0.1:0")
    }

    /// Starts it to listen at this address.
    pub(crate) fn up_at(&self, address: &str) -> anyhow::Result<()> {
        self.carob(&["up", "-d", "--listen", address])
    }

    /// Starts a node of the cluster that this kubeconfig leads to instead.
    pub(crate) fn join(&self, kubeconfig: &Path) -> anyhow::Result<()> {
        let kubeconfig = kubeconfig.display().to_string();
        self.carob(&["node", "-d", "--kubeconfig", &kubeconfig])
    }

    /// Has it be in this network namespace.
    pub(crate) fn move_to(&mut self, namespace: &str) -> anyhow::Result<()> {
        fs::write(self.root.join("namespace"), namespace).context("note the namespace")?;
        self.namespace = Some(namespace.to_owned());
        Ok(())
    }

    /// Writes its settings file.
    pub(crate) fn settings(&self, lines: &str) -> anyhow::Result<()> {
        fs::write(self.root.join("config.yaml"), lines).context("write the settings")
    }

    /// Lets the registry at `address` answer for every other.
    pub(crate) fn mirror(&self, address: &str) -> anyhow::Result<()> {
        let hosts = self.root.join("certs.d/_default");
        fs::create_dir_all(&hosts)?;
        let text =
            format!("[host.\"http://{address}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        fs::write(hosts.join("hosts.toml"), text).context("name the mirror")
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// What a detached engine says.
    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("state/engine.log")
    }

    /// Ends the engine and its Pods, checks that nothing of them is left, and removes the directory.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        let bridge = self.bridge();
        self.carob(&["down", "--all"])?;
        let left = self.leftovers(bridge.as_deref())?;
        if !left.is_empty() {
            bail!("left behind:\n{}", left.join("\n"));
        }
        fs::remove_dir_all(&self.root).context("remove the engine's directory")
    }

    /// `carob` with this root, and our streams.
    pub(crate) fn carob(&self, arguments: &[&str]) -> anyhow::Result<()> {
        run::command(&mut self.command(arguments))
    }

    /// What `carob` prints.
    pub(crate) fn output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run::output(&mut self.command(arguments))
    }

    /// `carob` with this root, yet to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.namespace {
            Some(namespace) => lan::command_in(namespace, &self.carob),
            None => Command::new(&self.carob),
        };
        command.arg("--root").arg(&self.root).args(arguments);
        command
    }

    /// Name of its bridge and its cgroups.
    fn bridge(&self) -> Option<String> {
        let text = fs::read_to_string(self.root.join("state/network/network.json")).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        record["bridge"].as_str().map(str::to_owned)
    }

    /// Mounts and processes that name the directory, and what bears the bridge's name.
    fn leftovers(&self, bridge: Option<&str>) -> anyhow::Result<Vec<String>> {
        let root = self.root.to_string_lossy();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut left: Vec<String> = mounts
            .lines()
            .filter(|line| line.contains(&*root))
            .map(|line| format!("mount {line}"))
            .collect();
        for process in fs::read_dir("/proc")?.flatten() {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&*root) {
                left.push(format!("process {}", process.file_name().to_string_lossy()));
            }
        }
        if let Some(bridge) = bridge {
            let hierarchies = fs::read_dir("/sys/fs/cgroup")?.flatten();
            left.extend(
                hierarchies
                    .map(|entry| entry.path().join(bridge))
                    .chain(
                        ["/sys/class/net", "/sys/fs/cgroup"].map(|dir| Path::new(dir).join(bridge)),
                    )
                    .filter(|path| path.exists())
                    .map(|path| path.display().to_string()),
            );
        }
        Ok(left)
    }
}
