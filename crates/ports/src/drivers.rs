//! Drivers of storage (CSI, <https://github.com/container-storage-interface/spec/blob/master/spec.md>): which of them are on this
//! node, and the volumes of Pods that they mount.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

/// A driver, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Its name: `hostpath.csi.k8s.io`.
    pub name: String,
    /// What it calls this node.
    pub node_id: String,
    /// Most volumes it can have on this node; it may not say.
    pub max_volumes: Option<i32>,
    /// Where this node is, by the driver's own keys.
    pub topology: BTreeMap<String, String>,
}

/// What happens to drivers.
#[derive(Debug)]
pub enum DriverEvent {
    /// One asks to be registered, and waits to hear of it.
    Came {
        /// The driver.
        driver: Driver,
        /// Whether it is registered, or why not.
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// One has taken its socket away.
    Gone {
        /// Its name.
        name: String,
    },
}

/// How a volume may be used (`accessModes` of a PersistentVolume).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// Of one node.
    ReadWriteOnce,
    /// Of many nodes, to be read.
    ReadOnlyMany,
    /// Of many nodes.
    ReadWriteMany,
    /// Of one Pod.
    ReadWriteOncePod,
}

/// To whom the files of a volume belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsGroup {
    /// The group (`fsGroup`).
    pub gid: u32,
    /// The node gives files to it, unless the driver does that itself.
    pub is_given: bool,
    /// What is at the top of the volume says whether that was done before (`fsGroupChangePolicy: OnRootMismatch`).
    pub trusts_root: bool,
}

/// A volume of a Pod that a driver is to mount.
#[derive(Clone, PartialEq, Eq)]
pub struct DriverVolume {
    /// Name of the PersistentVolume, or of the Pod's volume if it is of the Pod alone.
    pub name: String,
    /// The driver's name.
    pub driver: String,
    /// What the driver calls the volume.
    pub handle: String,
    /// It is of the Pod alone, and is gone with it.
    pub is_ephemeral: bool,
    /// How it may be used.
    pub access_mode: AccessMode,
    /// The file system that is to be on it; empty leaves that to the driver.
    pub fs_type: String,
    /// Options of the mount.
    pub options: Vec<String>,
    /// The Pod may only read it.
    pub is_read_only: bool,
    /// What the driver is told of the volume.
    pub attributes: BTreeMap<String, String>,
    /// What it is told of the Pod besides.
    pub of_pod: BTreeMap<String, String>,
    /// What was said when the volume was attached to the node.
    pub attachment: BTreeMap<String, String>,
    /// What is needed to bring the volume to the node.
    pub stage_secrets: BTreeMap<String, String>,
    /// What is needed to give it to the Pod.
    pub publish_secrets: BTreeMap<String, String>,
    /// To whom its files belong.
    pub fs_group: Option<FsGroup>,
}

impl std::fmt::Debug for DriverVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} ({})", self.handle, self.driver, self.name)
    }
}

/// Why a driver's volume is not there, or not away.
#[derive(Debug, Error)]
pub enum DriverError {
    /// It could not be brought to the node. The text is what the `FailedMount` event says.
    #[error("MountVolume.MountDevice failed for volume {volume:?} : {why}")]
    Stage {
        /// [`DriverVolume::name`].
        volume: String,
        /// The driver's words, or the node's.
        why: String,
    },
    /// It could not be given to the Pod. The text is what the `FailedMount` event says.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
    Publish {
        /// [`DriverVolume::name`].
        volume: String,
        /// The driver's words, or the node's.
        why: String,
    },
    /// What was asked cannot be read.
    #[error("{0}")]
    Records(#[source] crate::volumes::VolumeError),
    /// It could not be taken from the Pod.
    #[error("UnmountVolume.TearDown failed for volume {volume:?} : {why}")]
    Unpublish {
        /// [`DriverVolume::name`].
        volume: String,
        /// The driver's words, or the node's.
        why: String,
    },
    /// It could not be taken from the node.
    #[error("UnmountDevice failed for volume {volume:?} : {why}")]
    Unstage {
        /// [`DriverVolume::name`].
        volume: String,
        /// The driver's words, or the node's.
        why: String,
    },
}

/// Knows the drivers of this node, and has them mount volumes. What was asked of a driver is on disk before it is asked, so that it is
/// taken back also after a crash.
#[async_trait]
pub trait Drivers: Send + Sync {
    /// Begins to look for drivers, and tells of those that come and go until nobody listens.
    fn follow(&self) -> mpsc::UnboundedReceiver<DriverEvent>;

    /// Has a volume mounted for a Pod, which calls it `name`, and returns where it is. May be repeated; what is done is not done again.
    async fn mount(
        &self,
        pod_uid: &str,
        name: &str,
        volume: &DriverVolume,
    ) -> Result<PathBuf, DriverError>;

    /// Has every driver take back what it mounted for a Pod, and from the node what no other Pod uses; whether there was any. May be
    /// repeated.
    async fn unmount(&self, pod_uid: &str) -> Result<bool, DriverError>;

    /// What drivers have mounted for Pods, or were asked to, by driver and handle.
    async fn mounted(&self) -> Result<BTreeSet<(String, String)>, DriverError>;
}
