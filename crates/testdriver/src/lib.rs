//! A driver of storage (CSI) for tests: its volumes are directories, it writes down what it is asked, and fails when it is told to.
//!
//! It runs in the process that starts it, as one task for each of its two sockets: that of its registrar, in the directory where the node
//! agent looks, and its own. Both go when it is dropped.

mod message;
mod server;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};
use tokio::net::UnixListener;
use tokio_util::task::AbortOnDropHandle;

use crate::message::Request;
use crate::server::Refusal;

/// What the driver was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The method without its service: `NodePublishVolume`.
    pub method: String,
    /// The volume's handle.
    pub volume: String,
    /// Where it was to be staged, or is.
    pub staging: PathBuf,
    /// Where it was to be mounted, or is.
    pub target: PathBuf,
    /// What the driver was told of volume and Pod.
    pub attributes: BTreeMap<String, String>,
    /// What was said when the volume was attached.
    pub attachment: BTreeMap<String, String>,
    /// Secrets.
    pub secrets: BTreeMap<String, String>,
    /// The Pod may only read it.
    pub is_read_only: bool,
    /// The file system asked for.
    pub fs_type: String,
    /// Options of the mount.
    pub options: Vec<String>,
    /// `VolumeCapability.AccessMode.Mode`
    pub access_mode: u64,
}

/// A running driver.
pub struct Driver {
    state: Arc<State>,
    sockets: [PathBuf; 2],
    _tasks: [AbortOnDropHandle<()>; 2],
}

/// What both sockets share.
struct State {
    name: String,
    endpoint: PathBuf,
    data: PathBuf,
    calls: Mutex<Vec<Call>>,
    /// Methods that fail, and what they say.
    failing: Mutex<BTreeMap<String, String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    /// Starts a driver of this name, which has its volumes below `data` and registers in `registry`.
    ///
    /// # Errors
    /// A socket cannot be made.
    pub async fn start(name: &str, registry: &Path, data: &Path) -> io::Result<Driver> {
        std::fs::create_dir_all(data)?;
        std::fs::create_dir_all(registry)?;
        let endpoint = data.join("csi.sock");
        let registrar = registry.join(format!("{name}-reg.sock"));
        let state = Arc::new(State {
            name: name.to_owned(),
            endpoint: endpoint.clone(),
            data: data.to_owned(),
            calls: Mutex::default(),
            failing: Mutex::default(),
        });
        let own = UnixListener::bind(&endpoint)?;
        // The driver answers when its registrar is found.
        let serving = server::serve(own, state.clone());
        let serving = AbortOnDropHandle::new(tokio::spawn(serving));
        let registering = server::serve(UnixListener::bind(&registrar)?, state.clone());
        let registering = AbortOnDropHandle::new(tokio::spawn(registering));
        Ok(Driver {
            state,
            sockets: [registrar, endpoint],
            _tasks: [registering, serving],
        })
    }

    /// What it was asked about volumes so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state.calls).clone()
    }

    /// What it was asked about a volume so far: methods alone.
    pub fn asked(&self, volume: &str) -> Vec<String> {
        let calls = self.calls();
        let its = calls.into_iter().filter(|call| call.volume == volume);
        its.map(|call| call.method).collect()
    }

    /// Has a method fail from now on, with status `Internal` and these words.
    pub fn fail(&self, method: &str, why: &str) {
        lock(&self.state.failing).insert(method.to_owned(), why.to_owned());
    }

    /// Has every method work again.
    pub fn work(&self) {
        lock(&self.state.failing).clear();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for socket in &self.sockets {
            if let Err(error) = std::fs::remove_file(socket) {
                eprintln!("{} stays: {error}", socket.display());
            }
        }
    }
}

impl State {
    /// Answers a call by its path.
    fn answer(&self, path: &str, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        let method = path.rsplit('/').next().unwrap_or_default();
        if let Some(why) = lock(&self.failing).get(method) {
            return Err(Refusal::internal(why.clone()));
        }
        match path {
            "/pluginregistration.Registration/GetInfo" => {
                Ok(message::plugin(&self.name, &self.endpoint))
            }
            "/pluginregistration.Registration/NotifyRegistrationStatus" => Ok(Vec::new()),
            "/csi.v1.Node/NodeGetInfo" => Ok(message::node(&format!("{}-node", self.name))),
            "/csi.v1.Node/NodeGetCapabilities" => Ok(message::capabilities(&[1])),
            path => {
                let request = Request::of(path).ok_or_else(Refusal::unimplemented)?;
                let call = message::call(request, method, message);
                let call = call.map_err(|error| Refusal::internal(error.to_string()))?;
                let done = self.carry_out(request, &call);
                lock(&self.calls).push(call);
                done.map(|()| Vec::new())
                    .map_err(|error| Refusal::internal(error.to_string()))
            }
        }
    }

    fn carry_out(&self, request: Request, call: &Call) -> io::Result<()> {
        let volume = self.data.join(&call.volume);
        match request {
            Request::Stage => {
                std::fs::create_dir_all(&volume)?;
                bind(&volume, &call.staging)
            }
            Request::Publish => {
                // A volume of one Pod alone is not staged.
                let source = match call.staging.as_os_str().is_empty() {
                    true => &volume,
                    false => &call.staging,
                };
                std::fs::create_dir_all(source)?;
                std::fs::create_dir_all(&call.target)?;
                bind(source, &call.target)?;
                if call.is_read_only {
                    mount_remount(&call.target, MountFlags::BIND | MountFlags::RDONLY, "")?;
                }
                Ok(())
            }
            Request::Unpublish => {
                release(&call.target)?;
                match std::fs::remove_dir(&call.target) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            }
            Request::Unstage => release(&call.staging),
        }
    }
}

/// Mounts a directory at another place, once.
fn bind(source: &Path, target: &Path) -> io::Result<()> {
    match is_mounted(target)? {
        true => Ok(()),
        false => Ok(mount_bind(source, target)?),
    }
}

/// Unmounts what is mounted at a place.
fn release(target: &Path) -> io::Result<()> {
    match is_mounted(target)? {
        true => Ok(unmount(target, UnmountFlags::NOFOLLOW)?),
        false => Ok(()),
    }
}

/// Whether something is mounted at a place. Paths of tests need no escaping.
pub fn is_mounted(target: &Path) -> io::Result<bool> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut points = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.any(|point| Path::new(point) == target))
}
