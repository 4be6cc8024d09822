//! Someone at a shell: a command-line client, a namespace of their own, and a watch on its Pods.

use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::board::{Board, Wait, watch_rows};
use crate::client::Api;
use crate::engine::Engine;

/// Longest wait for an event.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait for an object.
const A_MINUTE: Duration = Duration::from_secs(60);

/// Which program the user types.
#[derive(Debug, Clone)]
pub enum Program {
    /// A stock kubectl.
    Kubectl(PathBuf),
    /// An older stock kubectl, which is kept from WebSockets: it speaks SPDY.
    OlderKubectl(PathBuf),
    /// Our own command line.
    Carob(PathBuf),
}

/// A user of an engine.
pub struct User {
    engine: Arc<Engine>,
    program: Program,
    namespace: String,
    runtime: Arc<Runtime>,
    api: Api,
    board: Board,
    watching: JoinHandle<()>,
    leaves_namespace: bool,
}

/// A command that did not succeed, as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl User {
    /// Makes the namespace and begins to watch its Pods.
    pub fn new(
        engine: Arc<Engine>,
        program: Program,
        namespace: &str,
        runtime: Arc<Runtime>,
    ) -> anyhow::Result<User> {
        let api = runtime.block_on(Api::from_kubeconfig(&engine.kubeconfig()))?;
        engine.kubectl(["create", "namespace", namespace])?;
        let board = Board::default();
        let watching = runtime.block_on(watch_rows(&api, namespace, board.clone()))?;
        Ok(User {
            engine,
            program,
            namespace: namespace.to_owned(),
            runtime,
            api,
            board,
            watching,
            leaves_namespace: false,
        })
    }

    /// Goes away and leaves namespace and Pods behind.
    pub fn leave(mut self) {
        self.leaves_namespace = true;
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The same, to be kept when the user has gone.
    pub fn shared_engine(&self) -> Arc<Engine> {
        self.engine.clone()
    }

    /// The user's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Pods of the namespace and what was told of them, for whoever asks why a scenario failed.
    pub fn surroundings(&self) -> String {
        let asked = ["-n", &self.namespace, "get", "pods,events"];
        let shown = self.engine.kubectl(asked);
        shown.unwrap_or_else(|error| format!("{error:#}"))
    }

    /// The command, not yet started, in the user's namespace.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let path = match &self.program {
            Program::Kubectl(path) | Program::OlderKubectl(path) | Program::Carob(path) => path,
        };
        let mut command = Command::new(path);
        if matches!(self.program, Program::OlderKubectl(_)) {
            command
                .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
                .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false");
        }
        command
            .arg("--kubeconfig")
            .arg(self.engine.kubeconfig())
            .args(["-n", &self.namespace])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed and returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self
            .command(arguments)
            .output()
            .context("start the client")?;
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        ensure!(
            output.status.success(),
            "{} failed ({}):\n{stdout}{stderr}",
            arguments.join(" "),
            output.status
        );
        Ok(stdout.into_owned())
    }

    /// Runs a command that must fail.
    pub fn fails(&self, arguments: &[&str]) -> anyhow::Result<Failure> {
        let output = self
            .command(arguments)
            .output()
            .context("start the client")?;
        ensure!(
            !output.status.success(),
            "{} should have failed",
            arguments.join(" ")
        );
        Ok(Failure {
            code: output.status.code().unwrap_or(-1),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command with `input` as its standard input; it must succeed.
    pub fn pipe(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("the client's input")?
            .write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{} failed:\n{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a command that goes on, with its output to be read; it ends when the guard is dropped.
    pub fn start(&self, arguments: &[&str]) -> anyhow::Result<Running> {
        let mut command = self.command(arguments);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(child.spawn()?.into())
    }

    /// `apply -f -`
    pub fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        self.pipe(&["apply", "-f", "-"], manifest)
    }

    /// Waits until the Pod's row reads `ready status`.
    pub fn wait(&self, pod: &str, status: &str, ready: &str) -> anyhow::Result<()> {
        self.wait_for(&Wait {
            pod: pod.into(),
            status: vec![status.into()],
            ready: Some(ready.into()),
            timeout: 60,
            ..Wait::default()
        })
    }

    /// Waits until the Pod is gone.
    pub fn wait_gone(&self, pod: &str) -> anyhow::Result<()> {
        self.wait_for(&Wait {
            pod: pod.into(),
            gone: true,
            timeout: 60,
            ..Wait::default()
        })
    }

    /// Waits until the Pod's row reads as asked.
    pub fn wait_for(&self, wait: &Wait) -> anyhow::Result<()> {
        match self.runtime.block_on(self.board.wait(wait)) {
            Ok(()) => Ok(()),
            Err(last) => bail!(
                "waited for {wait:?}; last seen: {last:?}, after {:?}",
                self.rows(&wait.pod)
            ),
        }
    }

    /// Waits until the Pod is in this phase.
    pub fn wait_phase(&self, pod: &str, phase: &str) -> anyhow::Result<()> {
        let condition = format!("--for=jsonpath={{.status.phase}}={phase}");
        self.engine
            .kubectl([
                "-n",
                &self.namespace,
                "wait",
                &condition,
                &format!("pod/{pod}"),
                "--timeout=30s",
            ])
            .map(drop)
    }

    /// Every distinct row of a Pod so far.
    pub fn rows(&self, pod: &str) -> Vec<String> {
        self.board.history().remove(pod).unwrap_or_default()
    }

    /// Waits until nothing has changed for a while.
    pub fn settle(&self, quiet: Duration) {
        self.runtime.block_on(self.board.settle(quiet, None));
    }

    /// A Pod as the API has it.
    pub fn pod(&self, name: &str) -> anyhow::Result<Value> {
        self.runtime.block_on(self.api.get(&format!(
            "/api/v1/namespaces/{}/pods/{name}",
            self.namespace
        )))
    }

    /// A Pod's address.
    pub fn pod_ip(&self, name: &str) -> anyhow::Result<String> {
        self.pod(name)?["status"]["podIP"]
            .as_str()
            .map(str::to_owned)
            .context("the Pod has no address")
    }

    /// Watches objects from now on, the ones that are there first: those of `("/api/v1", "endpoints?labelSelector=a=b")`.
    pub fn watch(&self, group: &str, objects: &str) -> Watching {
        let sign = if objects.contains('?') { '&' } else { '?' };
        let path = format!(
            "{group}/namespaces/{}/{objects}{sign}watch=1",
            self.namespace
        );
        let (told, events) = tokio::sync::mpsc::unbounded_channel();
        let api = self.api.clone();
        let task = self.runtime.spawn(async move {
            // Whoever waited has gone otherwise.
            let each = |event| drop(told.send(event));
            if let Err(error) = api.watch(&path, "application/json", each).await {
                eprintln!("{error:#}");
            }
        });
        Watching {
            runtime: self.runtime.clone(),
            events,
            seen: Vec::new(),
            task,
        }
    }

    /// Waits for an event whose line, as [`User::events`] has them, begins so.
    pub fn wait_event(&self, start: &str) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{}/events?watch=1", self.namespace);
        let (found, mut is_found) = tokio::sync::oneshot::channel();
        let mut found = Some(found);
        // Without a version a watch begins with what is there.
        let watching = self.api.watch(&path, "application/json", |event| {
            if line(&event["object"]).starts_with(start)
                && let Some(found) = found.take()
            {
                // Whoever waited has given up otherwise.
                let _ = found.send(());
            }
        });
        let seen = self.runtime.block_on(async {
            tokio::select! {
                _ = watching => false,
                seen = timeout(PATIENCE, &mut is_found) => matches!(seen, Ok(Ok(()))),
            }
        });
        ensure!(seen, "no event {start:?} in {:?}", self.events()?);
        Ok(())
    }

    /// The events of the namespace as `Type Reason Object: Message`, in no order.
    pub fn events(&self) -> anyhow::Result<Vec<String>> {
        let events = self.runtime.block_on(
            self.api
                .get(&format!("/api/v1/namespaces/{}/events", self.namespace)),
        )?;
        Ok(events["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(line)
            .collect())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.watching.abort();
        if self.leaves_namespace {
            return;
        }
        let _ = self
            .engine
            .kubectl(["delete", "namespace", &self.namespace, "--wait=false"]);
    }
}

/// A watch of objects.
pub struct Watching {
    runtime: Arc<Runtime>,
    events: UnboundedReceiver<Value>,
    seen: Vec<String>,
    task: JoinHandle<()>,
}

impl Watching {
    /// Waits until `look` makes of an object what is `wanted`; later waits begin behind it.
    pub fn until(&mut self, wanted: &str, look: impl Fn(&Value) -> String) -> anyhow::Result<()> {
        self.until_event(wanted, |event| look(&event["object"]))
    }

    /// Waits until an object is deleted.
    pub fn until_gone(&mut self) -> anyhow::Result<()> {
        self.until_event("DELETED", |event| {
            event["type"].as_str().unwrap_or_default().to_owned()
        })
    }

    fn until_event(&mut self, wanted: &str, look: impl Fn(&Value) -> String) -> anyhow::Result<()> {
        let end = Instant::now() + A_MINUTE;
        loop {
            let next = async { timeout_at(end, self.events.recv()).await };
            match self.runtime.block_on(next) {
                Ok(Some(event)) => {
                    let looks = look(&event);
                    let is_right = looks == wanted;
                    self.seen.push(looks);
                    if is_right {
                        return Ok(());
                    }
                }
                Ok(None) => bail!(
                    "waited for {wanted:?}, the watch ended; seen: {:?}",
                    self.seen
                ),
                Err(_) => bail!("waited for {wanted:?}; seen: {:?}", self.seen),
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An event as `Type Reason Object: Message`.
fn line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {} {}: {}",
        text(&event["type"]),
        text(&event["reason"]),
        text(&event["involvedObject"]["name"]),
        text(&event["message"])
    )
}

/// A client that goes on until it is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl From<Child> for Running {
    fn from(child: Child) -> Self {
        Running(child)
    }
}

impl Running {
    /// Its standard output, once.
    pub fn stdout(&mut self) -> anyhow::Result<BufReader<ChildStdout>> {
        let output = self.0.stdout.take();
        Ok(BufReader::new(
            output.context("its output was taken already")?,
        ))
    }

    /// Its standard error, once.
    pub fn stderr(&mut self) -> anyhow::Result<BufReader<ChildStderr>> {
        let errors = self.0.stderr.take();
        Ok(BufReader::new(
            errors.context("its errors were taken already")?,
        ))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.0.wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
