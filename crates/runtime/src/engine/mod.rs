//! The engine's side: sandboxes and containers as [`ContainerRuntime`] sees them, their records, and the talk with their pauses.
//!
//! Tasks: one per connected pause ([`link`]), which applies what pause says in the order it said it and so is the only one to move
//! a container from created to running to exited; beside it one per verb that must not stop half-way. Channels: commands to the
//! connection's task, one broadcast of [`RuntimeEvent`]s, one watch per container (has it ended) and per sandbox (is its pause gone).
//!
//! Invariants: a record is on disk before its event is sent and before pause may forget; locks of records are held across no
//! `await`; a verb's own lock (`work`) is taken sandbox first, then container.

mod assemble;
mod cgroups;
mod container;
mod forward;
mod link;
mod machine;
mod points;
mod record;
mod recovery;
mod resize;
mod roots;
mod sandbox;
mod session;
mod signal;
mod spare;
mod spawn;
mod streams;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ports::images::Images;
use ports::network::{PodNetwork, Unready};
use ports::runtime::{
    ContainerConfig, ContainerRuntime, ContainerStatus, Id, Resources, RuntimeError, RuntimeEvent,
    SandboxConfig, SandboxStatus, Stats,
};
use ports::streams::{ExecRequest, Reader, Session, StreamError, Writer};
use tokio::sync::{broadcast, watch};

use crate::launch::{Scratch, SeccompProgram};

use container::Container;
use record::Directories;
pub use record::{has_sandboxes, image_users};
use sandbox::Sandbox;
pub use spawn::PauseCommand;

/// Events a receiver may lag behind before it has to list again.
const EVENTS: usize = 4096;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Config {
    /// Records and writable layers; survives a reboot.
    pub state_dir: PathBuf,
    /// Sockets, exit files, shared memory; a tmpfs that is empty after a reboot.
    pub run_dir: PathBuf,
    /// Cgroup below the hierarchies' roots under which all Pods are, such as `carob`.
    pub cgroup_root: String,
    /// What to execute as the template of pauses.
    pub pause: PauseCommand,
}

/// The container runtime. Dropping it leaves every Pod as it is; the next one takes them over ([`Runtime::recover`]).
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

/// What every task of the runtime shares.
pub(crate) struct Inner {
    directories: Directories,
    images: Arc<dyn Images>,
    network: Arc<dyn PodNetwork>,
    cgroups: cgroups::Cgroups,
    template: spawn::Template,
    /// What every pause copies its containers' mount namespaces from.
    scratch: Scratch,
    /// Compiled default filters by bounding capabilities.
    seccomp: Mutex<BTreeMap<u64, SeccompProgram>>,
    spares: spare::Spares,
    points: points::MountPoints,
    roots: roots::Roots,
    table: Mutex<Table>,
    events: broadcast::Sender<RuntimeEvent>,
}

/// Everything there is.
#[derive(Default)]
struct Table {
    sandboxes: BTreeMap<Id, Arc<Sandbox>>,
    containers: BTreeMap<Id, Arc<Container>>,
}

/// Locks what no holder leaves half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> RuntimeError {
    let what = what.into();
    move |source| RuntimeError::Io { what, source }
}

/// Records hold environments, and those hold secrets.
fn private_directory(path: &std::path::Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

fn cgroup_error(what: &'static str) -> impl FnOnce(crate::cgroup::CgroupError) -> RuntimeError {
    move |error| RuntimeError::Io {
        what: what.into(),
        source: io::Error::other(error),
    }
}

/// Does what blocks for more than a moment away from the tasks.
async fn blocking<T: Send + 'static, E: Into<io::Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
        .map_err(Into::into)
}

impl Runtime {
    /// A runtime that knows nothing yet; call [`Runtime::recover`] before anything else.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when directories cannot be made or no usable cgroup hierarchy is mounted.
    pub fn new(
        config: Config,
        images: Arc<dyn Images>,
        network: Arc<dyn PodNetwork>,
    ) -> Result<Self, RuntimeError> {
        let directories = Directories {
            state: config.state_dir.clone(),
            run: config.run_dir.clone(),
        };
        for directory in [&directories.state, &directories.run] {
            let made = private_directory(directory);
            made.map_err(io_error(format!("failed to make {}", directory.display())))?;
        }
        let scratch = Scratch::new()
            .map_err(|error| io_error("failed to prepare mounts")(io::Error::other(error)))?;
        // Last, because cgroups stay when something fails after them.
        let cgroups = cgroups::Cgroups::new(&config.cgroup_root)
            .map_err(cgroup_error("failed to prepare cgroups"))?;
        let points = points::MountPoints::new(directories.mount_points());
        let roots = roots::Roots::new(directories.roots());
        let template = spawn::Template::new(config.pause.clone(), directories.run.clone());
        let inner = Inner {
            directories,
            images,
            network,
            cgroups,
            template,
            scratch,
            seccomp: Mutex::default(),
            spares: spare::Spares::default(),
            points,
            roots,
            table: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Takes over what an earlier engine left: connects to pauses that run, and learns from the files of those that do not. What no
    /// record explains is removed.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when the state directory cannot be read.
    pub async fn recover(&self) -> Result<(), RuntimeError> {
        recovery::recover(&self.inner).await
    }

    /// Keeps the template of pauses and `count` places for Pods ready (namespaces, wired to the network), and root file systems as they are
    /// asked for, so that sandboxes and containers are made in less time; until `shutdown`, when they are given back.
    pub async fn keep_spares(self, count: usize, shutdown: impl Future<Output = ()> + Send) {
        spare::keep(&self.inner, count, shutdown).await;
    }

    /// Removes the engine's own cgroups: what is left to do once every sandbox was removed and no engine is to follow.
    ///
    /// # Errors
    /// [`RuntimeError::Io`] when one of them still holds a process.
    pub fn remove_cgroups(&self) -> Result<(), RuntimeError> {
        let removed = self.inner.cgroups.remove_all();
        removed.map_err(cgroup_error("failed to remove the engine's cgroups"))
    }
}

impl Inner {
    fn find_sandbox(&self, id: &str) -> Result<Arc<Sandbox>, RuntimeError> {
        let found = lock(&self.table).sandboxes.get(id).cloned();
        found.ok_or_else(|| RuntimeError::NotFound {
            what: "sandbox",
            id: id.to_string(),
        })
    }

    fn find_container(&self, id: &str) -> Result<Arc<Container>, RuntimeError> {
        let found = lock(&self.table).containers.get(id).cloned();
        found.ok_or_else(|| RuntimeError::NotFound {
            what: "container",
            id: id.to_string(),
        })
    }

    fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        lock(&self.table)
            .containers
            .values()
            .filter(|container| container.sandbox.id == sandbox)
            .cloned()
            .collect()
    }

    fn has_containers(&self, sandbox: &str) -> bool {
        let table = lock(&self.table);
        let mut containers = table.containers.values();
        containers.any(|container| container.sandbox.id == sandbox)
    }

    /// Tells whoever listens; nobody may.
    fn announce(&self, event: RuntimeEvent) {
        let _ = self.events.send(event);
    }

    /// 64 hex digits that nothing else has.
    fn new_id() -> Id {
        let bytes: [u8; 32] = rand::random();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Runs a verb that must come to its end even if its caller does not wait for it.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, RuntimeError>> + Send + 'static,
) -> Result<T, RuntimeError> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => Err(io_error("the runtime is going down")(io::Error::other(
            error,
        ))),
    }
}

/// A gone sandbox or container is what its removal wants.
fn absent_is_done(result: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    match result {
        Err(RuntimeError::NotFound { .. }) => Ok(()),
        other => other,
    }
}

#[async_trait]
impl ContainerRuntime for Runtime {
    fn network_readiness(&self) -> watch::Receiver<Unready> {
        self.inner.network.readiness()
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxStatus, RuntimeError> {
        to_the_end(sandbox::run(Arc::clone(&self.inner), config)).await
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        absent_is_done(to_the_end(sandbox::stop(Arc::clone(&self.inner), id.to_string())).await)
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        absent_is_done(to_the_end(sandbox::remove(Arc::clone(&self.inner), id.to_string())).await)
    }

    async fn list_sandboxes(&self, pod_uid: Option<&str>) -> Vec<SandboxStatus> {
        let sandboxes: Vec<_> = lock(&self.inner.table)
            .sandboxes
            .values()
            .cloned()
            .collect();
        let statuses = sandboxes.iter().map(|sandbox| sandbox.status());
        statuses
            .filter(|status| pod_uid.is_none_or(|uid| status.metadata.uid == uid))
            .collect()
    }

    async fn create_container(
        &self,
        sandbox_id: &str,
        config: ContainerConfig,
    ) -> Result<Id, RuntimeError> {
        to_the_end(container::create(
            Arc::clone(&self.inner),
            sandbox_id.to_string(),
            config,
        ))
        .await
    }

    async fn start_container(&self, id: &str) -> Result<ContainerStatus, RuntimeError> {
        to_the_end(container::start(Arc::clone(&self.inner), id.to_string())).await
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        absent_is_done(container::stop(&self.inner, id, grace).await)
    }

    async fn remove_container(&self, id: &str, keep_log: bool) -> Result<(), RuntimeError> {
        absent_is_done(
            to_the_end(container::remove(
                Arc::clone(&self.inner),
                id.to_string(),
                keep_log,
            ))
            .await,
        )
    }

    async fn list_containers(&self, pod_uid: Option<&str>) -> Vec<ContainerStatus> {
        let containers: Vec<_> = lock(&self.inner.table)
            .containers
            .values()
            .cloned()
            .collect();
        let statuses = containers.iter().map(|container| container.status());
        statuses
            .filter(|status| pod_uid.is_none_or(|uid| status.pod_uid == uid))
            .collect()
    }

    async fn update_sandbox_resources(
        &self,
        id: &str,
        resources: Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<SandboxStatus, RuntimeError> {
        let inner = Arc::clone(&self.inner);
        to_the_end(resize::sandbox(
            inner,
            id.to_string(),
            resources,
            annotations,
        ))
        .await
    }

    async fn update_container_resources(
        &self,
        id: &str,
        resources: Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<ContainerStatus, RuntimeError> {
        let inner = Arc::clone(&self.inner);
        to_the_end(resize::container(
            inner,
            id.to_string(),
            resources,
            annotations,
        ))
        .await
    }

    async fn container_stats(&self, id: &str) -> Result<Stats, RuntimeError> {
        container::stats(&self.inner, id)
    }

    async fn writable_layer(&self, id: &str) -> Result<PathBuf, RuntimeError> {
        let container = self.inner.find_container(id)?;
        let directory = self
            .inner
            .directories
            .container_state(&container.sandbox.id, id);
        Ok(directory.join(record::UPPER))
    }

    async fn sandbox_stats(&self, id: &str) -> Result<Stats, RuntimeError> {
        sandbox::stats(&self.inner, id)
    }

    async fn node_stats(&self) -> Result<Stats, RuntimeError> {
        machine::stats()
    }

    async fn reopen_log(&self, id: &str) -> Result<(), RuntimeError> {
        container::reopen_log(&self.inner, id).await
    }

    async fn exec(&self, id: &str, request: ExecRequest) -> Result<Session, StreamError> {
        streams::exec(&self.inner, id, request).await
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<Session, StreamError> {
        streams::attach(&self.inner, id, stdin).await
    }

    async fn port_forward(
        &self,
        sandbox_id: &str,
        port: u16,
    ) -> Result<(Reader, Writer), StreamError> {
        forward::connect(&self.inner, sandbox_id, port).await
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.inner.events.subscribe()
    }
}
