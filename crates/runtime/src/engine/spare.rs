//! Places for Pods made ahead, and the template of their pauses: a new network namespace, wired to the network, takes longer than the
//! rest of a sandbox.
//!
//! One task makes them, and makes the next once the Pod that took the last one has started a container and no other start has followed
//! for a moment, so that the two do not compete. A sandbox gets the id its place was made with. Where there is none, or the Pod wants other namespaces, pause makes
//! its own. What a killed engine leaves of a spare is an address and a run directory, which its successor frees ([`super::recovery`]).

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ports::network::NetworkStatus;
use ports::runtime::{Id, NamespaceMode, NamespaceOptions, RuntimeError};
use tokio::sync::Notify;

use super::roots::Ready;
use super::sandbox::{self, Sandbox};
use super::{Inner, blocking, io_error, lock};
use crate::namespaces::Namespaces;

/// The next one is made this long after one was taken, if no container starts meanwhile.
const AT_LATEST: Duration = Duration::from_secs(1);
/// How long no container may have started: init containers are followed by others, and the last start is still to be told.
const QUIET: Duration = Duration::from_millis(25);

/// A place for a Pod.
pub(super) struct Spare {
    pub(super) id: Id,
    pub(super) namespaces: Namespaces,
    pub(super) network: NetworkStatus,
    /// At the socket in its run directory.
    pub(super) listener: UnixListener,
}

/// What is there for the next Pods.
#[derive(Default)]
pub(super) struct Spares {
    ready: Mutex<Vec<Spare>>,
    taken: Notify,
    started: Notify,
}

impl Spares {
    /// A place for a Pod with these namespaces.
    pub(super) fn take(&self, namespaces: &NamespaceOptions) -> Option<Spare> {
        // A Pod with users of its own has namespaces that those own.
        let own = namespaces.network != NamespaceMode::Node
            && namespaces.ipc != NamespaceMode::Node
            && namespaces.users.is_none();
        if !own {
            return None;
        }
        // Also when none was there: making one may have failed before.
        self.more();
        lock(&self.ready).pop()
    }

    /// There is something to be made, when no Pod is in the making.
    fn more(&self) {
        self.taken.notify_one();
    }

    /// A container was started.
    pub(super) fn started(&self) {
        self.started.notify_waiters();
    }

    /// Returns when a spare was wanted and its Pod is no longer in the making.
    async fn wanted(&self) {
        self.taken.notified().await;
        // Whichever comes first; a Pod whose image is being pulled may not start for long.
        let _ = tokio::time::timeout(AT_LATEST, self.started.notified()).await;
        while tokio::time::timeout(QUIET, self.started.notified())
            .await
            .is_ok()
        {}
    }
}

/// Keeps `count` spares until `shutdown`, and gives them back.
pub(super) async fn keep(inner: &Arc<Inner>, count: usize, shutdown: impl Future<Output = ()>) {
    let mut shutdown = std::pin::pin!(shutdown);
    if let Err(error) = inner.template.prepare() {
        tracing::debug!(%error, "no template ahead of the first pause");
    }
    loop {
        fill(inner, count).await;
        fill_roots(inner).await;
        tokio::select! {
            () = &mut shutdown => break,
            () = inner.spares.wanted() => {}
        }
    }
    inner.template.end();
    let left = std::mem::take(&mut *lock(&inner.spares.ready));
    for spare in left {
        give_back(inner, &spare.id).await;
    }
    inner.roots.clear();
}

async fn fill_roots(inner: &Arc<Inner>) {
    let inner = Arc::clone(inner);
    let filled = tokio::task::spawn_blocking(move || inner.roots.fill()).await;
    if let Err(error) = filled {
        tracing::warn!(%error, "making roots ahead broke off");
    }
}

/// A root of these layers for a container of the sandbox.
pub(super) fn root(inner: &Inner, sandbox: &Sandbox, layers: &[PathBuf]) -> Option<Ready> {
    // Layers of a Pod with users of its own are mounted with those.
    if sandbox.has_own_users() {
        return None;
    }
    inner.spares.more();
    inner.roots.take(layers)
}

async fn fill(inner: &Inner, count: usize) {
    while lock(&inner.spares.ready).len() < count {
        match make(inner).await {
            Ok(spare) => lock(&inner.spares.ready).push(spare),
            Err(error) => {
                // Pods make their own, and tell of it if they cannot.
                tracing::debug!(%error, "no namespaces ahead of the next Pod");
                return;
            }
        }
    }
}

async fn make(inner: &Inner) -> Result<Spare, RuntimeError> {
    let id = Inner::new_id();
    let namespaces = blocking(Namespaces::new)
        .await
        .map_err(io_error("failed to make namespaces"))?;
    match place(inner, &id, &namespaces).await {
        Ok((listener, network)) => Ok(Spare {
            id,
            namespaces,
            network,
            listener,
        }),
        Err(error) => {
            give_back(inner, &id).await;
            Err(error)
        }
    }
}

/// A run directory with its socket, and a place on the network.
async fn place(
    inner: &Inner,
    id: &Id,
    namespaces: &Namespaces,
) -> Result<(UnixListener, NetworkStatus), RuntimeError> {
    let run = inner.directories.sandbox_run(id);
    let made = blocking(move || sandbox::make_run(&run, &NamespaceOptions::default())).await;
    let listener = made.map_err(io_error("failed to make a run directory"))?;
    let network = sandbox::attach(inner, id, None, &namespaces.network).await?;
    Ok((listener, network))
}

/// Frees a place: what it has on the network, and its files.
pub(super) async fn give_back(inner: &Inner, id: &str) {
    if let Err(error) = inner.network.detach(id).await {
        tracing::warn!(sandbox = id, %error, "a place on the network is left");
    }
    if let Err(error) = sandbox::remove_run(&inner.directories.sandbox_run(id)) {
        tracing::warn!(sandbox = id, %error, "a run directory is left");
    }
}
