//! Images as the node agent and the runtime see them: CRI's ImageService, and what a root file system is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An image in the content store (CRI `Image`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of the image's configuration, `sha256:<64 hex>`; what `crictl` calls the image id.
    pub id: String,
    /// Names it is known by, fully qualified: `docker.io/library/busybox:1.36`.
    pub repo_tags: Vec<String>,
    /// Names by digest: `docker.io/library/busybox@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Compressed size of its layers plus configuration, in bytes.
    pub size_bytes: u64,
    /// Its run-time defaults.
    pub config: ImageConfig,
}

/// The part of the OCI image configuration that a runtime needs (OCI image spec, `config`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `USER`: `name`, `uid`, `name:group` or `uid:gid`; empty is root.
    pub user: String,
    /// `ENV`, each `NAME=value`.
    pub env: Vec<String>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `WORKDIR`; empty is `/`.
    pub working_dir: String,
    /// `STOPSIGNAL` as written: `SIGTERM`, `TERM` or a number; empty when absent.
    pub stop_signal: String,
    /// `VOLUME` paths.
    pub volumes: Vec<String>,
    /// `LABEL`s.
    pub labels: BTreeMap<String, String>,
}

/// What a container's root is stacked from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// Unpacked layer directories, uppermost first, in overlayfs's own whiteout format.
    pub layers: Vec<PathBuf>,
}

/// Registry credentials from an image pull secret (CRI `AuthConfig`).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// User name.
    pub username: String,
    /// Password or access token.
    pub password: String,
    /// Token to be exchanged at the registry's token server, when given instead of a password.
    pub identity_token: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// How far a pull has come; sent as it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// Digest of the layer or configuration.
    pub digest: String,
    /// Bytes read so far.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// What is being done with it.
    pub stage: PullStage,
}

/// The stages of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullStage {
    /// It was here already.
    Exists,
    /// Bytes are coming, and are unpacked and hashed as they come.
    Downloading,
    /// Verified and in place.
    Done,
}

/// Receives progress; called from the pulling tasks.
pub type ProgressSink = std::sync::Arc<dyn Fn(PullProgress) + Send + Sync>;

/// Why an image operation failed.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The reference does not follow the distribution grammar.
    #[error("couldn't parse image name {reference:?}: {reason}")]
    InvalidName {
        /// What was asked for.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No such image here (local operations) or at the registry (pulls).
    #[error("{reference}: not found")]
    NotFound {
        /// What was asked for.
        reference: String,
    },
    /// The registry could not be reached at all; worth trying again.
    #[error("failed to reach registry {host}")]
    Unreachable {
        /// Registry host.
        host: String,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry refused the credentials, or wanted some.
    #[error("pull access denied for {reference}: {reason}")]
    Unauthorized {
        /// What was asked for.
        reference: String,
        /// The registry's words.
        reason: String,
    },
    /// A layer, manifest or archive is malformed, hostile or does not match its digest; nothing of it was kept.
    #[error("{what} refused: {reason}")]
    Refused {
        /// Which blob or archive.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image is used by a container or by several names.
    #[error("image {reference} is in use: {by}")]
    InUse {
        /// The image.
        reference: String,
        /// By what.
        by: String,
    },
    /// The content store's disk failed.
    #[error("image store: {what}")]
    Io {
        /// What was tried.
        what: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// CRI's ImageService, plus what the runtime needs to mount an image.
#[async_trait]
pub trait Images: Send + Sync {
    /// Looks an image up by tag, digest or id. `None` when it is not here; no network is touched.
    async fn image_status(&self, reference: &str) -> Result<Option<Image>, ImageError>;

    /// Every image here.
    async fn list_images(&self) -> Result<Vec<Image>, ImageError>;

    /// Fetches what is missing and returns the image. Safe to call at once for the same image: the work is shared.
    /// Dropping the future abandons the pull and leaves nothing half-made.
    async fn pull_image(
        &self,
        reference: &str,
        auth: Option<AuthConfig>,
        progress: Option<ProgressSink>,
    ) -> Result<Image, ImageError>;

    /// Removes a name, and the image with its last name.
    async fn remove_image(&self, reference: &str) -> Result<(), ImageError>;

    /// The layers of the image with this id ([`Image::id`]).
    async fn rootfs(&self, image_id: &str) -> Result<Rootfs, ImageError>;
}
