//! An engine in the foreground, to be killed.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use e2e::client::Api;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub(crate) struct Victim {
    process: Child,
}

impl Victim {
    /// Starts the engine of `root`. What it says goes to the log in its state directory.
    pub(crate) fn start(carob: &Path, root: &Path) -> anyhow::Result<Victim> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(root.join("killed.log"))?;
        let process = Command::new(carob)
            .arg("--root")
            .arg(root)
            .args(["up", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("start the engine")?;
        Ok(Victim { process })
    }

    /// A client of it, once it is Ready.
    pub(crate) async fn api(&mut self, root: &Path) -> anyhow::Result<Api> {
        let stdout = self.process.stdout.as_mut().context("hear the engine")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        if !line.starts_with("ready ") {
            let said = std::fs::read_to_string(root.join("killed.log")).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            bail!("the engine did not start:\n{}", last.join("\n"));
        }
        Api::from_kubeconfig(&root.join("kubeconfig")).await
    }

    /// Kills it without a word.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("kill the engine")
    }

    /// Ends it in order; its Pods go on.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().context("the engine has ended")?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.process.wait().await?;
        ensure!(status.success(), "the engine ended with {status}");
        Ok(())
    }
}
