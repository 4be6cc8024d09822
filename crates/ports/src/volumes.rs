//! Volumes as directories on the node.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use thiserror::Error;

/// One volume, its references already resolved to bytes: the effect knows no ConfigMaps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VolumeSpec {
    /// An empty directory that lives as long as the Pod.
    EmptyDir {
        /// What it is kept in.
        medium: Medium,
        /// Most bytes it may hold; enforced on memory volumes by the kernel.
        size_limit_bytes: Option<u64>,
        /// Group that owns it (`fsGroup`).
        fs_group: Option<u32>,
    },
    /// A path of the node.
    HostPath {
        /// The path.
        path: PathBuf,
        /// What must be there, or be made.
        kind: HostPathKind,
    },
    /// A directory of the node that is a volume of the cluster (`local`).
    Local {
        /// The directory.
        path: PathBuf,
        /// Group its files are given to when the Pod begins to use it (`fsGroup`).
        fs_group: Option<u32>,
        /// What is at the top of it says whether that was done before (`fsGroupChangePolicy: OnRootMismatch`).
        trusts_root: bool,
    },
    /// An export of a file server (`nfs`).
    Nfs(NfsExport),
    /// Files whose contents are known (configMap, secret, downwardAPI, projected), replaced as one by a `..data` link.
    Files {
        /// Relative path to contents.
        files: BTreeMap<String, File>,
        /// No swap device may see them (secrets and tokens).
        is_secret: bool,
        /// Group that owns it (`fsGroup`).
        fs_group: Option<u32>,
    },
}

/// What of a file server is mounted, and how (`nfs`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NfsExport {
    /// The server's name or address.
    pub server: String,
    /// The path it exports.
    pub path: String,
    /// Nobody writes to it from here.
    pub is_read_only: bool,
    /// As mount(8) takes them with `-o`.
    pub options: Vec<String>,
}

/// What an empty directory is kept in (`emptyDir.medium`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Medium {
    /// The node's disk.
    Disk,
    /// Memory.
    Memory,
    /// Huge pages of so many bytes.
    HugePages {
        /// Bytes of a page.
        page_bytes: u64,
    },
}

/// A file of a [`VolumeSpec::Files`] volume.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct File {
    /// Contents.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner, root unless the Pod's tokens ask for the container's user.
    pub uid: Option<u32>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "File({} bytes, {:o})", self.data.len(), self.mode)
    }
}

/// `hostPath.type` (spec/pod-lifecycle 10.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostPathKind {
    /// No check.
    Unset,
    /// An existing directory.
    Directory,
    /// A directory, made with mode 0755 if absent.
    DirectoryOrCreate,
    /// An existing file.
    File,
    /// A file, made with mode 0644 if absent.
    FileOrCreate,
    /// A unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What the file system has on which everything of the node is. One that does not count inodes has none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub capacity_bytes: u64,
    /// Bytes that can still be written.
    pub available_bytes: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
}

/// Why a volume could not be set up. The text is what the `FailedMount` event says after its prefix.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// The node's path is not what `type` asks for.
    #[error("{reason}")]
    HostPathType {
        /// Upstream's words: `hostPath type check failed: /x is not a directory`.
        reason: String,
    },
    /// A path would leave its volume.
    #[error("{reason}")]
    Escapes {
        /// Which path, and how.
        reason: String,
    },
    /// A file server's export could not be mounted.
    #[error("{reason}")]
    Nfs {
        /// What was tried, and what came of it.
        reason: String,
    },
    /// The kernel or the disk refused.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// Makes, updates and removes the volumes of Pods. Everything is keyed by the Pod's UID and may be repeated.
#[async_trait]
pub trait Volumes: Send + Sync {
    /// Brings a volume to what `spec` says and returns its directory (or file) on the node. Called again with other `Files`,
    /// it replaces them atomically.
    async fn ensure(
        &self,
        pod_uid: &str,
        volume: &str,
        spec: &VolumeSpec,
    ) -> Result<PathBuf, VolumeError>;

    /// Opens a `subPath` inside a volume without following links out of it, making it if absent, and returns a path that stays
    /// what it is until [`Volumes::teardown`] (spec/pod-lifecycle 10.5).
    async fn ensure_sub_path(
        &self,
        pod_uid: &str,
        volume: &str,
        sub_path: &str,
        container: &str,
        index: usize,
    ) -> Result<PathBuf, VolumeError>;

    /// A private directory of the Pod for the agent's own files (hosts, resolv.conf, termination messages).
    async fn pod_dir(&self, pod_uid: &str) -> Result<PathBuf, VolumeError>;

    /// Has processes of this Pod fail that wait for a file server, if that is gone and no other Pod waits for it that was not given up.
    /// They may go on to wait for it again, so this is repeated until they have ended.
    async fn give_up(&self, pod_uid: &str) -> Result<(), VolumeError>;

    /// Unmounts and removes everything of this Pod. Host paths themselves are left alone.
    async fn teardown(&self, pod_uid: &str) -> Result<(), VolumeError>;

    /// UIDs of Pods that still have a directory.
    async fn pods(&self) -> Result<Vec<String>, VolumeError>;

    /// What is left of the disk that volumes, images, writable layers and logs share.
    async fn space(&self) -> Result<Space, VolumeError>;
}

/// Makes and removes directories that are volumes of the cluster, not of a Pod. Each is known by the volume's name, and both may be
/// repeated.
#[async_trait]
pub trait Directories: Send + Sync {
    /// Where the directory of a volume is, or would be.
    fn path(&self, volume: &str) -> PathBuf;

    /// Makes the directory of a volume, for everyone to write to, and returns where it is.
    async fn make(&self, volume: &str) -> Result<PathBuf, VolumeError>;

    /// Removes the directory of a volume and what is in it; one that is not there is fine.
    async fn remove(&self, volume: &str) -> Result<(), VolumeError>;
}
