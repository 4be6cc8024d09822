//! An engine in the foreground, to be killed: started by its [`Engine`], of which it is the process while it lives.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::Api;
use crate::engine::Engine;

/// The process. Dropping it kills it.
#[derive(Debug)]
pub struct Foreground {
    process: Child,
    /// What it says goes here.
    log: PathBuf,
    kubeconfig: PathBuf,
}

impl Foreground {
    /// Starts an engine that does not run, and waits for nothing.
    pub fn start(engine: &Engine) -> anyhow::Result<Foreground> {
        let log = engine.root().join("foreground.log");
        let said = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)?;
        let process = Command::from(engine.up_command())
            .stdout(Stdio::piped())
            .stderr(said)
            .kill_on_drop(true)
            .spawn()
            .context("start the engine")?;
        Ok(Foreground {
            process,
            log,
            kubeconfig: engine.kubeconfig(),
        })
    }

    /// A client of it, once it is Ready.
    pub async fn api(&mut self) -> anyhow::Result<Api> {
        let stdout = self.process.stdout.as_mut().context("hear the engine")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        if !line.starts_with("ready ") {
            bail!("the engine did not start:\n{}", self.said(5));
        }
        Api::from_kubeconfig(&self.kubeconfig).await
    }

    /// The last lines of what it and the engines before it have said.
    pub fn said(&self, lines: usize) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = said.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Kills it without a word.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("kill the engine")
    }

    /// Ends it in order; its Pods go on.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().context("the engine has ended")?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("a process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.process.wait().await?;
        ensure!(status.success(), "the engine ended with {status}");
        Ok(())
    }
}
