//! Containers: making, starting, stopping, removing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use ports::images::{Image, ImageError, Rootfs};
use ports::runtime::{
    ContainerConfig, ContainerState, ContainerStatus, Id, Resources, RuntimeError, RuntimeEvent,
    SandboxState, Stats,
};
use tokio::sync::watch;

use super::link::{Link, LinkError};
use super::record::{self, ContainerRecord};
use super::sandbox::{Sandbox, remove_tree};
use super::{Inner, assemble, blocking, cgroup_error, io_error, lock, roots, spare};
use crate::launch;
use crate::wire::{
    ContainerReport, ExitRecord, Refusal, Reply, Request, StartSpec, exit_file_name,
};

/// A killed container is gone by then, or hangs in the kernel.
const KILLED_WITHIN: Duration = Duration::from_secs(30);

/// A container as the engine holds it.
pub(crate) struct Container {
    pub(crate) id: Id,
    pub(crate) sandbox: Arc<Sandbox>,
    record: Mutex<ContainerRecord>,
    /// Whether its first process has ended.
    ended: watch::Sender<bool>,
    /// Its stop signal was sent; a repeated stop does not send it again.
    asked_to_stop: AtomicBool,
    /// Its root, if it was mounted ahead of its start.
    root: Mutex<Option<OwnedFd>>,
    /// Held by the verbs that change it.
    work: tokio::sync::Mutex<()>,
}

impl Container {
    pub(super) fn new(sandbox: Arc<Sandbox>, record: ContainerRecord) -> Arc<Self> {
        let ended = watch::Sender::new(!record.is_open());
        let (id, record) = (record.id.clone(), Mutex::new(record));
        Arc::new(Self {
            id,
            sandbox,
            record,
            ended,
            asked_to_stop: AtomicBool::new(false),
            root: Mutex::default(),
            work: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn record(&self) -> ContainerRecord {
        lock(&self.record).clone()
    }

    pub(super) fn status(&self) -> ContainerStatus {
        let sandbox = self.sandbox.record();
        lock(&self.record).status(&sandbox)
    }

    /// Becomes `true` when its first process has ended.
    pub(super) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    pub(super) fn is_running(&self) -> bool {
        lock(&self.record).is_running()
    }

    /// Changes its record: for the disk, for whoever listens, for whoever waits. `false` if there is nothing to change or the disk
    /// would not take it.
    fn update(&self, inner: &Inner, change: impl FnOnce(&mut ContainerRecord) -> bool) -> bool {
        let sandbox = self.sandbox.record();
        let mut record = lock(&self.record);
        if !change(&mut record) {
            return false;
        }
        let saved = inner.directories.save_container(&record);
        if let Err(error) = &saved {
            tracing::warn!(container = self.id, %error, "container record not written");
        }
        inner.announce(RuntimeEvent::Container(Box::new(record.status(&sandbox))));
        if !record.is_open() {
            self.ended.send_replace(true);
        }
        saved.is_ok()
    }

    /// Held by whoever changes it.
    pub(super) async fn work(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.work.lock().await
    }

    /// Takes note of limits and annotations, on disk.
    pub(super) fn note(
        &self,
        inner: &Inner,
        resources: &Resources,
        annotations: BTreeMap<String, String>,
    ) -> io::Result<()> {
        let mut record = lock(&self.record);
        let mut changed = record.clone();
        changed.resources = record.resources.with(resources);
        changed.config.annotations.extend(annotations);
        inner.directories.save_container(&changed)?;
        *record = changed;
        Ok(())
    }

    /// Takes note of what pause reports on connecting; `true` if its end is recorded and pause may forget it.
    pub(super) fn adopt(&self, inner: &Inner, report: &ContainerReport) -> bool {
        self.update(inner, |record| record.adopt(report));
        report.exit.is_some()
    }

    /// Its pause is gone: its end is what the exit file says, or unknown. Processes that are left are killed.
    pub(super) fn orphaned(&self, inner: &Inner) {
        if !lock(&self.record).is_open() {
            return;
        }
        let exit = inner.directories.load_exit(&self.sandbox.id, &self.id);
        self.update(inner, |record| {
            match &exit {
                Some(exit) => record.exited(exit),
                None if record.is_running() => record.state = ContainerState::Unknown,
                None => return false,
            }
            true
        });
        inner
            .cgroups
            .kill_container(&self.sandbox.record(), &self.id);
        // One that was never started will not be any more.
        self.ended.send_replace(true);
    }

    /// Kills every process of it and waits for its end.
    pub(super) async fn kill(&self, inner: &Inner) -> Result<(), RuntimeError> {
        if !self.is_running() {
            return Ok(());
        }
        let mut ended = self.ended();
        match self
            .call(Request::Kill {
                container: self.id.clone(),
            })
            .await
        {
            // It has ended meanwhile, and is about to be known to have.
            Ok(_) | Err(LinkError::Refused(Refusal::NotRunning) | LinkError::Gone) => {}
            Err(error) => return Err(link_error("failed to kill container")(error)),
        }
        if tokio::time::timeout(KILLED_WITHIN, ended.wait_for(|ended| *ended))
            .await
            .is_err()
        {
            inner
                .cgroups
                .kill_container(&self.sandbox.record(), &self.id);
            return Err(io_error(format!("container {} does not end", self.id))(
                io::ErrorKind::TimedOut.into(),
            ));
        }
        Ok(())
    }

    async fn call(&self, request: Request) -> Result<Reply, LinkError> {
        Ok(self.sandbox.link()?.call(request).await?.0)
    }

    fn directory(&self, inner: &Inner) -> PathBuf {
        inner
            .directories
            .container_state(&self.sandbox.id, &self.id)
    }
}

/// A container ended; `true` once this is on record. One that nobody knows (any more) needs no record.
pub(super) fn exited(inner: &Inner, exit: &ExitRecord) -> bool {
    let Ok(container) = inner.find_container(&exit.container) else {
        return true;
    };
    if !lock(&container.record).is_open() {
        return true;
    }
    container.update(inner, |record| {
        record.exited(exit);
        true
    })
}

pub(super) fn link_error(what: &'static str) -> impl FnOnce(LinkError) -> RuntimeError {
    move |error| RuntimeError::Io {
        what: what.into(),
        source: io::Error::other(error),
    }
}

/// The container whose processes this one is to see must run (containerd's words).
fn expect_target(
    inner: &Inner,
    sandbox: &Sandbox,
    config: &ContainerConfig,
) -> Result<(), RuntimeError> {
    let Some(id) = &config.security.pid_target else {
        return Ok(());
    };
    let target = inner.find_container(id).ok();
    let target = target.filter(|target| target.sandbox.id == sandbox.id);
    let wrong = match target.map(|target| target.status().state) {
        None => "does not exist",
        Some(ContainerState::Running { .. }) => return Ok(()),
        Some(ContainerState::Created) => "is not running - in state CONTAINER_CREATED",
        Some(ContainerState::Exited { .. }) => "is not running - in state CONTAINER_EXITED",
        Some(ContainerState::Unknown) => "is not running - in state CONTAINER_UNKNOWN",
    };
    let why = format!("invalid target container: container {id:?} {wrong}");
    Err(RuntimeError::Create(why))
}

// ---- create ----------------------------------------------------------------------------------------------------------

/// Makes a container's record and the directories of its root file system.
pub(super) async fn create(
    inner: Arc<Inner>,
    sandbox_id: Id,
    config: ContainerConfig,
) -> Result<Id, RuntimeError> {
    let sandbox = inner.find_sandbox(&sandbox_id)?;
    expect_ready(&sandbox)?;
    expect_target(&inner, &sandbox, &config)?;
    // For the first one pause prepares unasked.
    if let (true, Ok(link)) = (inner.has_containers(&sandbox.id), sandbox.link()) {
        link.tell(Request::Prepare);
    }
    let create = |error: ImageError| RuntimeError::Create(error.to_string());
    let (image, mut rootfs) = image(&inner, &config.image_id).await.map_err(create)?;
    let image_layers = image_layers(&inner, &config).await;
    let image_layers = image_layers.map_err(|error| RuntimeError::ImageMount(error.to_string()))?;
    assemble::argv(&config, &image.config)?;
    let mounts = assemble::mounts(&config, &sandbox.files(&inner));
    inner.points.put_below(&mut rootfs.layers, &mounts);
    let record = ContainerRecord {
        id: Inner::new_id(),
        sandbox_id,
        created_at: Timestamp::now(),
        state: ContainerState::Created,
        image_ref: image.repo_digests.first().cloned().unwrap_or(image.id),
        image: image.config,
        layers: rootfs.layers,
        image_layers,
        user: None,
        home: None,
        resources: config.resources.clone(),
        config,
    };
    // The seccomp profile and the capabilities are checked where a mistake can still be told.
    inner.seccomp_program(&record.config.security)?;
    let id = record.id.clone();
    let directory = inner.directories.container_state(&sandbox.id, &id);
    let ahead = spare::root(&inner, &sandbox, &record.layers);
    let made = make_directory(&directory, ahead).and_then(|mount| {
        check_images(&record, &directory)?;
        let saved = inner.directories.save_container(&record);
        saved.map(|()| mount).map_err(not_written)
    });
    let mount = match made {
        Ok(mount) => mount,
        Err(error) => {
            let _ = remove_tree(&directory);
            return Err(error);
        }
    };
    let container = Container::new(sandbox, record);
    *lock(&container.root) = mount;
    lock(&inner.table).containers.insert(id.clone(), container);
    Ok(id)
}

fn not_written(error: io::Error) -> RuntimeError {
    io_error("failed to write the container's files")(error)
}

/// Makes the container's directory, from a root that was made ahead if there is one, whose mount it gives.
fn make_directory(
    directory: &Path,
    ahead: Option<roots::Ready>,
) -> Result<Option<OwnedFd>, RuntimeError> {
    if let Some(mount) = ahead.and_then(|root| root.become_root_in(directory).ok()) {
        return Ok(Some(mount));
    }
    let made = roots::make_directories(directory);
    made.map(|()| None).map_err(not_written)
}

/// Whether all that is mounted of images is there: a container that lacks some of it is not made.
fn check_images(record: &ContainerRecord, directory: &Path) -> Result<(), RuntimeError> {
    if record.config.image_mounts.is_empty() {
        return Ok(());
    }
    fs::create_dir(directory.join(record::EMPTY)).map_err(not_written)?;
    let upper = directory.join(record::UPPER);
    let images = assemble::images(record, directory);
    let checked = images
        .iter()
        .try_for_each(|i| launch::check_image(i, &upper));
    checked.map_err(|error| RuntimeError::ImageMount(error.to_string()))
}

async fn image(inner: &Inner, id: &str) -> Result<(Image, Rootfs), ImageError> {
    let image = inner.images.image_status(id).await?;
    let image = image.ok_or_else(|| ImageError::NotFound {
        reference: id.to_owned(),
    })?;
    let rootfs = inner.images.rootfs(&image.id).await?;
    Ok((image, rootfs))
}

/// Layers of the images that are mounted, by image id.
async fn image_layers(
    inner: &Inner,
    config: &ContainerConfig,
) -> Result<BTreeMap<String, Vec<PathBuf>>, ImageError> {
    let mut layers = BTreeMap::new();
    for mount in &config.image_mounts {
        let (_, rootfs) = image(inner, &mount.image_id).await?;
        layers.insert(mount.image_id.clone(), rootfs.layers);
    }
    Ok(layers)
}

fn expect_ready(sandbox: &Sandbox) -> Result<(), RuntimeError> {
    match sandbox.status().state {
        SandboxState::Ready => Ok(()),
        SandboxState::NotReady => Err(RuntimeError::State {
            what: "sandbox",
            id: sandbox.id.clone(),
            state: "not ready".into(),
        }),
    }
}

// ---- start -----------------------------------------------------------------------------------------------------------

/// Starts a container; if that fails, its record says so.
pub(super) async fn start(inner: Arc<Inner>, id: Id) -> Result<ContainerStatus, RuntimeError> {
    let container = inner.find_container(&id)?;
    let _work = container.work.lock().await;
    let record = container.record();
    if record.state != ContainerState::Created {
        return Err(RuntimeError::State {
            what: "container",
            id,
            state: state_name(&record.state).into(),
        });
    }
    expect_ready(&container.sandbox)?;
    let sandbox = container.sandbox.record();
    let link = container
        .sandbox
        .link()
        .map_err(link_error("failed to start container"))?;
    let cgroup = inner
        .cgroups
        .make_container(&sandbox, &record)
        .map_err(cgroup_error("failed to make the container's cgroup"))?;
    let seccomp = inner.seccomp_program(&record.config.security)?;
    let files = container.sandbox.files(&inner);
    let hostname = container.sandbox.hostname();
    let spec = assemble::start(
        &record,
        &sandbox,
        &files,
        &container.directory(&inner),
        &cgroup,
        seccomp,
        &hostname,
    )?;
    let root = lock(&container.root).take();
    let asked = ask_to_start(&inner, &container, &link, spec, root).await;
    inner.spares.started();
    asked?;
    Ok(container.status())
}

async fn ask_to_start(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    link: &Link,
    spec: StartSpec,
    root: Option<OwnedFd>,
) -> Result<(), RuntimeError> {
    let request = Request::Start(Box::new(spec));
    let (for_inner, for_container) = (Arc::clone(inner), Arc::clone(container));
    let apply = Box::new(move |outcome: &Result<Reply, Refusal>| {
        let started_at = None;
        let container = for_container.id.clone();
        match outcome {
            Ok(Reply::Started(started)) => {
                for_container.update(&for_inner, |record| {
                    record.started(started);
                    true
                });
            }
            Ok(_) => {}
            Err(refusal) => {
                let start_error = Some(refusal.to_string());
                let finished_at = Timestamp::now();
                exited(
                    &for_inner,
                    &ExitRecord {
                        container,
                        code: 128,
                        started_at,
                        finished_at,
                        oom_killed: false,
                        start_error,
                    },
                );
            }
        }
    });
    let fds = root.into_iter().collect();
    match link.call_applied(request, fds, apply).await {
        Ok(_) => Ok(()),
        Err(LinkError::Refused(refusal)) => {
            link.tell(Request::Acknowledge {
                container: container.id.clone(),
            });
            Err(RuntimeError::Start {
                id: container.id.clone(),
                reason: refusal.to_string(),
            })
        }
        Err(error) => Err(link_error("failed to start container")(error)),
    }
}

fn state_name(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited { .. } => "exited",
        ContainerState::Unknown => "unknown",
    }
}

// ---- stop and remove -------------------------------------------------------------------------------------------------

/// Asks a container to end, and kills it when `grace` is over. Dropped, it does not kill any more: a later stop may have less
/// patience, or more.
pub(super) async fn stop(inner: &Inner, id: &str, grace: Duration) -> Result<(), RuntimeError> {
    let container = inner.find_container(id)?;
    if !container.is_running() {
        return Ok(());
    }
    let mut ended = container.ended();
    if !grace.is_zero() {
        if !container.asked_to_stop.swap(true, Ordering::Relaxed) {
            let record = container.record();
            let signal = assemble::stop_signal(&record.config, &record.image);
            match container
                .call(Request::Signal {
                    container: container.id.clone(),
                    signal,
                })
                .await
            {
                Ok(_) | Err(LinkError::Refused(Refusal::NotRunning) | LinkError::Gone) => {}
                Err(error) => return Err(link_error("failed to signal container")(error)),
            }
        }
        if tokio::time::timeout(grace, ended.wait_for(|ended| *ended))
            .await
            .is_ok()
        {
            return Ok(());
        }
    }
    container.kill(inner).await
}

/// Removes a container, killing it if it runs.
pub(super) async fn remove(inner: Arc<Inner>, id: Id, keep_log: bool) -> Result<(), RuntimeError> {
    let container = inner.find_container(&id)?;
    let _work = container.work.lock().await;
    container.kill(&inner).await?;
    let sandbox = container.sandbox.record();
    let log = (!keep_log).then(|| container.status().log_path);
    let directory = container.directory(&inner);
    let exit_file = inner
        .directories
        .sandbox_run(&sandbox.id)
        .join(exit_file_name(&id));
    let group = inner.cgroups.container(&sandbox, &id);
    let for_removal = Arc::clone(&inner);
    let removal = blocking(move || {
        for_removal
            .cgroups
            .remove(&group)
            .map_err(io::Error::other)?;
        let logs = log.map(|log| with_rotated(&log)).unwrap_or_default();
        for file in logs.into_iter().chain([exit_file]) {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        remove_tree(&directory)
    });
    removal
        .await
        .map_err(io_error("failed to remove the container"))?;
    lock(&inner.table).containers.remove(&id);
    inner.announce(RuntimeEvent::ContainerRemoved {
        pod_uid: sandbox.config.metadata.uid,
        id,
    });
    Ok(())
}

/// A log file and what it was renamed to when it was large: `<log>.<time>`, compressed or not.
fn with_rotated(log: &Path) -> Vec<PathBuf> {
    let name = log.file_name().unwrap_or_default().as_encoded_bytes();
    let is_rotated = |path: &Path| {
        let other = path.file_name().unwrap_or_default().as_encoded_bytes();
        other
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(b"."))
    };
    // There may be no directory, and then there is nothing to remove.
    let beside = log.parent().and_then(|dir| fs::read_dir(dir).ok());
    let entries = beside.into_iter().flatten().flatten();
    let rotated = entries.map(|entry| entry.path()).filter(|p| is_rotated(p));
    rotated.chain([log.to_path_buf()]).collect()
}

// ---- the rest --------------------------------------------------------------------------------------------------------

/// A running container's usage.
pub(super) fn stats(inner: &Inner, id: &str) -> Result<Stats, RuntimeError> {
    let container = inner.find_container(id)?;
    let record = container.record();
    if !record.is_running() {
        return Err(RuntimeError::State {
            what: "container",
            id: id.into(),
            state: state_name(&record.state).into(),
        });
    }
    inner
        .cgroups
        .container(&container.sandbox.record(), id)
        .stats()
        .map_err(cgroup_error("failed to read the container's usage"))
}

/// Makes pause write to a new log file.
pub(super) async fn reopen_log(inner: &Inner, id: &str) -> Result<(), RuntimeError> {
    let container = inner.find_container(id)?;
    container
        .call(Request::ReopenLog {
            container: id.to_string(),
        })
        .await
        .map(drop)
        .map_err(link_error("failed to reopen the container's log"))
}
