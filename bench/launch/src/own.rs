//! The runtime under measurement, with an image of one layer and a network that does nothing.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use ports::images::{AuthConfig, Image, ImageConfig, ImageError, Images, ProgressSink, Rootfs};
use ports::network::{NetworkError, NetworkStatus, PodNetwork};
use ports::runtime::{
    ContainerConfig, ContainerRuntime, ContainerState, Resources, RuntimeEvent, SandboxConfig,
    SandboxMetadata, SeccompProfile, SecurityContext,
};
use ports::streams::ExecRequest;
use runtime::{Config, PauseCommand, Runtime};
use tokio::io::AsyncReadExt;

use crate::stamp;

/// Limits of every container, crun's too.
pub(crate) const RESOURCES: Resources = Resources {
    cpu_period_us: Some(100_000),
    cpu_quota_us: Some(100_000),
    cpu_shares: Some(256),
    memory_limit_bytes: Some(256 << 20),
    pids_limit: Some(100),
    oom_group: Some(true),
    oom_score_adj: Some(1000),
    huge_pages: BTreeMap::new(),
};
/// How long a container runs: long enough for an exec in it on a busy machine.
const RUN: Duration = Duration::from_millis(250);

/// What one series gave.
#[derive(Default)]
pub(crate) struct Samples {
    /// `run_sandbox`.
    pub(crate) sandbox: Vec<Duration>,
    /// `create_container`.
    pub(crate) create: Vec<Duration>,
    /// `start_container`, to its return.
    pub(crate) start: Vec<Duration>,
    /// From before `create_container` to the program's first line.
    pub(crate) launch: Vec<Duration>,
    /// From before `exec` to the program's first line.
    pub(crate) exec: Vec<Duration>,
    /// From the program's last line to the runtime's event.
    pub(crate) exit: Vec<Duration>,
    /// Stopping and removing the sandbox and its container.
    pub(crate) remove: Vec<Duration>,
}

/// A runtime of its own in a directory.
pub(crate) struct World {
    runtime: Runtime,
    dir: PathBuf,
    cgroup_root: String,
}

impl World {
    /// Makes one that executes `pause`; `dir` holds the directory `layer`.
    pub(crate) fn new(dir: &Path, pause: PauseCommand) -> anyhow::Result<Self> {
        let cgroup_root = format!("bench-launch-{}", std::process::id());
        let config = Config {
            state_dir: dir.join("state"),
            run_dir: dir.join("run"),
            cgroup_root: cgroup_root.clone(),
            pause,
        };
        let image = Arc::new(OneImage {
            layer: dir.join("layer"),
        });
        Ok(Self {
            runtime: Runtime::new(config, image, Arc::new(NoNetwork))?,
            dir: dir.to_owned(),
            cgroup_root,
        })
    }

    /// The engine's directory of cgroups, below which crun's containers have theirs.
    pub(crate) fn cgroup_root(&self) -> &str {
        &self.cgroup_root
    }

    /// One sandbox with one container, from nothing to nothing.
    pub(crate) async fn run(&self, seccomp: bool, samples: &mut Samples) -> anyhow::Result<()> {
        let runtime = &self.runtime;
        let mut events = runtime.events();
        let begin = stamp::now();
        let sandbox = runtime.run_sandbox(self.sandbox()).await?;
        let made = stamp::now();
        let id = runtime
            .create_container(&sandbox.id, container(seccomp))
            .await?;
        let created = stamp::now();
        let started = runtime.start_container(&id).await?;
        let running = stamp::now();
        let exec = self.exec(&id).await?;
        let ended = loop {
            if let RuntimeEvent::Container(status) = events.recv().await?
                && let (true, ContainerState::Exited { exit_code, .. }) =
                    (status.id == id, &status.state)
            {
                anyhow::ensure!(*exit_code == 0, "the program ended with {exit_code}");
                break stamp::now();
            }
        };
        let log = fs::read_to_string(&started.log_path)?;
        let [first, last] = stamp::read(&log)[..] else {
            anyhow::bail!("the program wrote {log:?}");
        };
        let leaving = stamp::now();
        runtime.stop_sandbox(&sandbox.id).await?;
        runtime.remove_sandbox(&sandbox.id).await?;
        fs::remove_file(&started.log_path)?;
        samples.sandbox.push(made - begin);
        samples.create.push(created - made);
        samples.start.push(running - created);
        samples.launch.push(first - made);
        samples.exec.push(exec);
        samples.exit.push(ended.saturating_sub(last));
        samples.remove.push(stamp::now() - leaving);
        Ok(())
    }

    async fn exec(&self, id: &str) -> anyhow::Result<Duration> {
        let request = ExecRequest {
            command: vec!["/stamp".into(), stamp::NAME.into(), "0".into()],
            ..ExecRequest::default()
        };
        let asked = stamp::now();
        let session = self.runtime.exec(id, request).await?;
        let mut text = String::new();
        let mut stdout = session.stdout.context("an exec without output")?;
        stdout.read_to_string(&mut text).await?;
        session.exit.await?;
        let first = stamp::read(&text).first().copied();
        Ok(first.context("the program in the container wrote nothing")? - asked)
    }

    /// Leaves nothing behind, also when a run has failed half-way.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        for sandbox in self.runtime.list_sandboxes(None).await {
            self.runtime.remove_sandbox(&sandbox.id).await?;
        }
        Ok(self.runtime.remove_cgroups()?)
    }

    fn sandbox(&self) -> SandboxConfig {
        SandboxConfig {
            metadata: SandboxMetadata {
                name: "bench".into(),
                uid: "bench".into(),
                namespace: "default".into(),
                ..SandboxMetadata::default()
            },
            hostname: "bench".into(),
            log_directory: self.dir.join("logs"),
            resources: RESOURCES,
            cgroup_parent: "podbench".into(),
            ..SandboxConfig::default()
        }
    }
}

fn container(seccomp: bool) -> ContainerConfig {
    ContainerConfig {
        name: "stamp".into(),
        image_id: "bench".into(),
        image: "bench".into(),
        command: vec![
            "/stamp".into(),
            stamp::NAME.into(),
            RUN.as_millis().to_string(),
        ],
        resources: RESOURCES,
        security: SecurityContext {
            seccomp: if seccomp {
                SeccompProfile::RuntimeDefault
            } else {
                SeccompProfile::Unconfined
            },
            ..SecurityContext::default()
        },
        log_path: "stamp.log".into(),
        ..ContainerConfig::default()
    }
}

struct OneImage {
    layer: PathBuf,
}

fn absent(reference: &str) -> ImageError {
    ImageError::NotFound {
        reference: reference.into(),
    }
}

#[async_trait]
impl Images for OneImage {
    async fn image_status(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        Ok(Some(Image {
            id: reference.into(),
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            size_bytes: 0,
            config: ImageConfig::default(),
        }))
    }

    async fn list_images(&self) -> Result<Vec<Image>, ImageError> {
        Ok(Vec::new())
    }

    async fn pull_image(
        &self,
        reference: &str,
        _: Option<AuthConfig>,
        _: Option<ProgressSink>,
    ) -> Result<Image, ImageError> {
        Err(absent(reference))
    }

    async fn remove_image(&self, reference: &str) -> Result<(), ImageError> {
        Err(absent(reference))
    }

    async fn rootfs(&self, _: &str) -> Result<Rootfs, ImageError> {
        Ok(Rootfs {
            layers: vec![self.layer.clone()],
        })
    }
}

struct NoNetwork;

#[async_trait]
impl PodNetwork for NoNetwork {
    async fn attach(
        &self,
        _: &str,
        _: Option<&SandboxConfig>,
        _: BorrowedFd<'_>,
    ) -> Result<NetworkStatus, NetworkError> {
        Ok(NetworkStatus { ips: Vec::new() })
    }

    async fn status(&self, _: &str) -> Option<NetworkStatus> {
        None
    }

    async fn holders(&self) -> Vec<String> {
        Vec::new()
    }

    async fn detach(&self, _: &str) -> Result<(), NetworkError> {
        Ok(())
    }

    fn node_ips(&self) -> Vec<IpAddr> {
        Vec::new()
    }
}
