//! Sandboxes: making, stopping, removing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use jiff::Timestamp;
use ports::network::NetworkStatus;
use ports::runtime::{
    DnsConfig, Id, IdMapping, NamespaceMode, NamespaceOptions, Resources, RuntimeError,
    RuntimeEvent, SandboxConfig, SandboxState, SandboxStatus, Stats,
};
use tokio::sync::watch;

use super::assemble::SandboxFiles;
use super::container;
use super::link::{Connected, Link, LinkError, Listener};
use super::record::SandboxRecord;
use super::spare::Spare;
use super::spawn::{self, SpawnError};
use super::{Inner, blocking, cgroup_error, io_error, lock};
use crate::wire::{ExitRecord, PauseSpec, Request, VERSION};

/// `oom_score_adj` of pause (spec/pod-lifecycle 12.5).
const PAUSE_OOM_SCORE_ADJ: i32 = -998;
/// A Pod's shared memory, in its run directory.
const SHM: &str = "shm";
/// Size of a Pod's shared memory in bytes (spec/pod-lifecycle 8.1).
const SHM_OPTIONS: &str = "mode=1777,size=67108864";
/// Killed processes are gone by then, or hang in the kernel.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// A sandbox as the engine holds it.
pub(crate) struct Sandbox {
    pub(crate) id: Id,
    record: Mutex<SandboxRecord>,
    link: Mutex<Option<Link>>,
    netns: Mutex<Option<Arc<OwnedFd>>>,
    /// Whether its pause is gone.
    gone: watch::Sender<bool>,
    /// Held by the verbs that change it.
    work: tokio::sync::Mutex<()>,
}

impl Sandbox {
    pub(super) fn new(record: SandboxRecord) -> Arc<Self> {
        Arc::new(Self {
            id: record.id.clone(),
            record: Mutex::new(record),
            link: Mutex::default(),
            netns: Mutex::default(),
            gone: watch::Sender::new(true),
            work: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn record(&self) -> SandboxRecord {
        lock(&self.record).clone()
    }

    pub(super) fn status(&self) -> SandboxStatus {
        lock(&self.record).status()
    }

    /// Whether it has a user namespace of its own.
    pub(super) fn has_own_users(&self) -> bool {
        lock(&self.record).config.namespaces.users.is_some()
    }

    pub(super) fn netns(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.netns).clone()
    }

    /// The connection to its pause, while there is one.
    pub(super) fn link(&self) -> Result<Link, LinkError> {
        lock(&self.link).clone().ok_or(LinkError::Gone)
    }

    /// Takes a connection over and serves it.
    pub(super) fn connect(self: &Arc<Self>, inner: &Arc<Inner>, mut connected: Connected) {
        *lock(&self.netns) = connected.welcome.netns.take().map(Arc::new);
        self.gone.send_replace(false);
        let listener = Adapter {
            inner: Arc::downgrade(inner),
            sandbox: Arc::downgrade(self),
        };
        *lock(&self.link) = Some(Link::serve(connected, listener));
    }

    /// Changes its state, for the disk first and then for whoever listens.
    pub(super) fn set_state(&self, inner: &Inner, state: SandboxState) {
        let mut record = lock(&self.record);
        if record.state == state {
            return;
        }
        record.state = state;
        if let Err(error) = inner.directories.save_sandbox(&record) {
            tracing::warn!(sandbox = self.id, %error, "sandbox record not written");
        }
        inner.announce(RuntimeEvent::Sandbox(Box::new(record.status())));
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
        changed.config.resources = record.config.resources.with(resources);
        changed.config.annotations.extend(annotations);
        inner.directories.save_sandbox(&changed)?;
        *record = changed;
        Ok(())
    }

    /// The host name its processes see.
    pub(super) fn hostname(&self) -> String {
        let record = lock(&self.record);
        match record.config.namespaces.network {
            NamespaceMode::Pod | NamespaceMode::Container if !record.config.hostname.is_empty() => {
                record.config.hostname.clone()
            }
            _ => rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        }
    }

    pub(super) fn files(&self, inner: &Inner) -> SandboxFiles {
        files(&self.record(), &inner.directories.sandbox_run(&self.id))
    }
}

/// Brings what pause says to the tables. Weak, so that the connection keeps nothing alive.
struct Adapter {
    inner: Weak<Inner>,
    sandbox: Weak<Sandbox>,
}

impl Listener for Adapter {
    fn exited(&self, exit: &ExitRecord) -> bool {
        self.inner
            .upgrade()
            .is_some_and(|inner| container::exited(&inner, exit))
    }

    fn log_grown(&self, container: &str, bytes: u64) {
        if let (Some(inner), Some(sandbox)) = (self.inner.upgrade(), self.sandbox.upgrade()) {
            inner.announce(RuntimeEvent::LogGrown {
                pod_uid: sandbox.record().config.metadata.uid,
                id: container.to_owned(),
                bytes,
            });
        }
    }

    fn lost(&self) {
        if let (Some(inner), Some(sandbox)) = (self.inner.upgrade(), self.sandbox.upgrade()) {
            lost(&inner, &sandbox);
        }
    }
}

/// A sandbox without its pause: its containers are over, one way or another.
pub(super) fn lost(inner: &Inner, sandbox: &Arc<Sandbox>) {
    *lock(&sandbox.link) = None;
    *lock(&sandbox.netns) = None;
    for container in inner.containers_of(&sandbox.id) {
        container.orphaned(inner);
    }
    sandbox.set_state(inner, SandboxState::NotReady);
    sandbox.gone.send_replace(true);
}

fn files(record: &SandboxRecord, run: &Path) -> SandboxFiles {
    let own_hostname = record.config.namespaces.network != NamespaceMode::Node;
    SandboxFiles {
        resolv_conf: record.config.dns.is_some().then(|| run.join("resolv.conf")),
        hostname: own_hostname.then(|| run.join("hostname")),
        shm: if record.config.namespaces.ipc == NamespaceMode::Node {
            PathBuf::from("/dev/shm")
        } else {
            run.join(SHM)
        },
    }
}

/// containerd's layout of `resolv.conf` (spec/pod-lifecycle 8.4).
fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text
}

// ---- run -------------------------------------------------------------------------------------------------------------

/// Makes a sandbox. If that fails nothing of it is left, or it is listed as not ready.
pub(super) async fn run(
    inner: Arc<Inner>,
    config: SandboxConfig,
) -> Result<SandboxStatus, RuntimeError> {
    let spare = inner.spares.take(&config.namespaces);
    let record = SandboxRecord {
        id: spare.as_ref().map_or_else(Inner::new_id, |s| s.id.clone()),
        config,
        created_at: Timestamp::now(),
        state: SandboxState::NotReady,
        ips: spare
            .as_ref()
            .map_or_else(Vec::new, |s| s.network.ips.clone()),
    };
    let sandbox = Sandbox::new(record);
    match make(&inner, &sandbox, spare).await {
        Ok(()) => {
            lock(&inner.table)
                .sandboxes
                .insert(sandbox.id.clone(), Arc::clone(&sandbox));
            sandbox.set_state(&inner, SandboxState::Ready);
            Ok(sandbox.status())
        }
        Err(error) => {
            let removed = take_down(&inner, &sandbox).await;
            if let Err(error) = removed.and_then(|()| remove_files(&inner, &sandbox)) {
                tracing::warn!(sandbox = sandbox.id, %error, "remains of a failed sandbox are left");
                // Listed as not ready, so that whoever cleans up finds it.
                lock(&inner.table)
                    .sandboxes
                    .insert(sandbox.id.clone(), sandbox);
            }
            Err(error)
        }
    }
}

/// Makes everything of it that was not made ahead.
async fn make(
    inner: &Arc<Inner>,
    sandbox: &Arc<Sandbox>,
    ahead: Option<Spare>,
) -> Result<(), RuntimeError> {
    let (wired, listener) = ahead.map(|s| (s.namespaces, s.listener)).unzip();
    let netns = wired.as_ref().map(|wired| wired.network.try_clone());
    let netns = netns
        .transpose()
        .map_err(io_error("failed to keep the network namespace"))?;
    let record = sandbox.record();
    let run = inner.directories.sandbox_run(&sandbox.id);
    let listener = prepare(inner, sandbox, &record, &run, listener)?;
    let stream = spawn::pause(
        &inner.template,
        inner.cgroups.pause_entry(&record),
        &run,
        listener,
        &pause_spec(inner, &record, netns.is_some()),
        &inner.scratch,
        wired,
    )
    .map_err(pause_failed)?;
    if let Some(netns) = netns {
        let connected = match record.config.sysctls.is_empty() {
            // It is told where it lives and has nothing left to fail at: what is to come need not wait until it has come up.
            true => Connected::unheard(stream, netns),
            false => spawn::up(stream).await.map_err(pause_failed)?,
        };
        sandbox.connect(inner, connected);
        return Ok(());
    }
    sandbox.connect(inner, spawn::up(stream).await.map_err(pause_failed)?);
    if let Some(netns) = sandbox.netns() {
        let attached = attach(inner, &sandbox.id, Some(&record.config), &netns).await?;
        lock(&sandbox.record).ips = attached.ips;
    }
    Ok(())
}

fn pause_failed(error: SpawnError) -> RuntimeError {
    io_error("failed to start the Pod's pause")(io::Error::other(error))
}

fn pause_spec(inner: &Inner, record: &SandboxRecord, has_namespaces: bool) -> PauseSpec {
    let namespaces = record.config.namespaces;
    PauseSpec {
        version: VERSION,
        new_network: namespaces.network != NamespaceMode::Node,
        new_ipc: namespaces.ipc != NamespaceMode::Node,
        new_pid: namespaces.pid == NamespaceMode::Pod,
        users: namespaces.users,
        has_namespaces,
        hostname: record.config.hostname.clone(),
        sysctls: record.config.sysctls.clone(),
        oom_score_adj: PAUSE_OOM_SCORE_ADJ,
        cgroups: inner.cgroups.layout().clone(),
    }
}

/// Connects a network namespace to the network, for a Pod if there is one already.
pub(super) async fn attach(
    inner: &Inner,
    id: &Id,
    pod: Option<&SandboxConfig>,
    netns: &OwnedFd,
) -> Result<NetworkStatus, RuntimeError> {
    let attached = inner.network.attach(id, pod, netns.as_fd()).await;
    attached.map_err(|source| RuntimeError::Network {
        id: id.clone(),
        source,
    })
}

/// Everything pause finds when it starts; `listener` if its run directory was made ahead.
fn prepare(
    inner: &Inner,
    sandbox: &Sandbox,
    record: &SandboxRecord,
    run: &Path,
    listener: Option<UnixListener>,
) -> Result<UnixListener, RuntimeError> {
    let files = files(record, run);
    let write = || -> io::Result<UnixListener> {
        fs::create_dir_all(inner.directories.sandbox_state(&record.id))?;
        inner.directories.save_sandbox(record)?;
        let listener = listener.map_or_else(|| make_run(run, &record.config.namespaces), Ok)?;
        if let (Some(path), Some(dns)) = (&files.resolv_conf, &record.config.dns) {
            fs::write(path, resolv_conf(dns))?;
        }
        if let Some(path) = &files.hostname {
            fs::write(path, format!("{}\n", sandbox.hostname()))?;
        }
        Ok(listener)
    };
    let listener = write().map_err(io_error("failed to write the sandbox's files"))?;
    inner
        .cgroups
        .make_sandbox(record)
        .map_err(cgroup_error("failed to make the Pod's cgroup"))?;
    Ok(listener)
}

/// Makes a run directory: shared memory, and where later engines connect.
pub(super) fn make_run(run: &Path, namespaces: &NamespaceOptions) -> io::Result<UnixListener> {
    fs::create_dir_all(run)?;
    if namespaces.ipc != NamespaceMode::Node {
        mount_shm(&run.join(SHM), namespaces.users)?;
    }
    spawn::listen(run)
}

/// Removes a run directory that no sandbox has.
pub(super) fn remove_run(run: &Path) -> io::Result<()> {
    unmount_shm(run)?;
    remove_tree(run)
}

fn mount_shm(path: &Path, users: Option<IdMapping>) -> io::Result<()> {
    use rustix::mount::{MountFlags, mount};
    fs::create_dir_all(path)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let options = match users {
        Some(IdMapping { host_id, .. }) => format!("{SHM_OPTIONS},uid={host_id},gid={host_id}"),
        None => SHM_OPTIONS.to_owned(),
    };
    let options = std::ffi::CString::new(options)?;
    Ok(mount(
        "shm",
        path,
        "tmpfs",
        flags,
        Some(options.as_c_str()),
    )?)
}

// ---- stop and remove -------------------------------------------------------------------------------------------------

/// Ends everything that runs in a sandbox.
pub(super) async fn stop(inner: Arc<Inner>, id: Id) -> Result<(), RuntimeError> {
    let sandbox = inner.find_sandbox(&id)?;
    let _work = sandbox.work.lock().await;
    take_down(&inner, &sandbox).await
}

/// Kills, unwires and unmounts; may be repeated until it succeeds.
pub(super) async fn take_down(
    inner: &Arc<Inner>,
    sandbox: &Arc<Sandbox>,
) -> Result<(), RuntimeError> {
    let record = sandbox.record();
    for container in inner.containers_of(&sandbox.id) {
        container.kill(inner).await?;
    }
    if record.config.namespaces.network != NamespaceMode::Node {
        let detached = inner.network.detach(&sandbox.id).await;
        detached.map_err(|source| RuntimeError::Network {
            id: sandbox.id.clone(),
            source,
        })?;
    }
    if let Ok(link) = sandbox.link() {
        link.tell(Request::Shutdown);
    } else {
        inner.cgroups.kill_sandbox(&record);
    }
    wait_until_gone(inner, sandbox, &record).await?;
    let for_removal = Arc::clone(inner);
    let pause = inner.cgroups.pause(&record);
    let removed =
        blocking(move || for_removal.cgroups.remove(&pause).map_err(io::Error::other)).await;
    removed.map_err(io_error("failed to remove pause's cgroup"))?;
    sandbox.set_state(inner, SandboxState::NotReady);
    let forgotten = inner.cgroups.forget(&sandbox.id);
    forgotten.map_err(cgroup_error("failed to change the limits of all Pods"))?;
    unmount_shm(&inner.directories.sandbox_run(&sandbox.id))
        .map_err(io_error("failed to unmount shared memory"))
}

async fn wait_until_gone(
    inner: &Inner,
    sandbox: &Sandbox,
    record: &SandboxRecord,
) -> Result<(), RuntimeError> {
    let mut gone = sandbox.gone.subscribe();
    if tokio::time::timeout(KILLED_WITHIN, gone.wait_for(|gone| *gone))
        .await
        .is_ok()
    {
        return Ok(());
    }
    inner.cgroups.kill_sandbox(record);
    match tokio::time::timeout(KILLED_WITHIN, gone.wait_for(|gone| *gone)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(io_error("the Pod's pause does not end")(
            io::ErrorKind::TimedOut.into(),
        )),
    }
}

fn unmount_shm(run: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    use rustix::mount::{UnmountFlags, unmount};
    match unmount(run.join(SHM), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Not mounted (any more), or never made.
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes a sandbox with its containers. Logs are the Pod directory's and stay.
pub(super) async fn remove(inner: Arc<Inner>, id: Id) -> Result<(), RuntimeError> {
    let sandbox = inner.find_sandbox(&id)?;
    let _work = sandbox.work.lock().await;
    take_down(&inner, &sandbox).await?;
    for container in inner.containers_of(&id) {
        container::remove(Arc::clone(&inner), container.id.clone(), true).await?;
    }
    remove_files(&inner, &sandbox)?;
    lock(&inner.table).sandboxes.remove(&id);
    Ok(())
}

/// Removes the Pod's cgroup and the sandbox's directories, the record last, so that a crash in between is seen by the next start.
pub(super) fn remove_files(inner: &Inner, sandbox: &Sandbox) -> Result<(), RuntimeError> {
    inner
        .cgroups
        .remove_pod(&sandbox.record())
        .map_err(cgroup_error("failed to remove the Pod's cgroup"))?;
    for directory in [
        inner.directories.sandbox_run(&sandbox.id),
        inner.directories.sandbox_state(&sandbox.id),
    ] {
        remove_tree(&directory).map_err(io_error(format!(
            "failed to remove {}",
            directory.display()
        )))?;
    }
    Ok(())
}

pub(super) fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The kernel's figures for a Pod's cgroup.
pub(super) fn stats(inner: &Inner, id: &str) -> Result<Stats, RuntimeError> {
    let record = inner.find_sandbox(id)?.record();
    inner
        .cgroups
        .sandbox_stats(&record)
        .map_err(cgroup_error("failed to read the Pod's usage"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::strings;

    #[test]
    fn resolver_settings_are_laid_out_as_containerd_does() {
        let table = [
            (DnsConfig::default(), ""),
            (
                DnsConfig {
                    servers: strings(&["10.0.0.10", "1.1.1.1"]),
                    searches: strings(&["a.svc", "svc"]),
                    options: strings(&["ndots:5", "edns0"]),
                },
                "search a.svc svc\nnameserver 10.0.0.10\nnameserver 1.1.1.1\noptions ndots:5 edns0\n",
            ),
        ];
        for (dns, expected) in table {
            assert_eq!(resolv_conf(&dns), expected);
        }
    }
}
