//! Manifests, indexes and image configurations (OCI image spec 1.1, Docker schema 2): only the fields that are used here.

use std::collections::BTreeMap;

use ports::images::{ImageConfig, ImageError};
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::error::refused;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a registry is asked for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*";

/// overlayfs takes at most this many lower layers.
pub(crate) const LAYERS_MAX: usize = 500;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) variant: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

/// What a manifest URL may answer with.
pub(crate) enum Document {
    Index(Index),
    Manifest(Manifest),
}

impl Document {
    /// Reads a manifest or an index. The body decides, not the `Content-Type`, which lies at times.
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            #[serde(default)]
            schema_version: u32,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
        }
        let malformed = |e: serde_json::Error| refused(what, format!("malformed manifest: {e}"));
        let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
        match (
            head.schema_version,
            head.manifests.is_some(),
            head.layers.is_some(),
        ) {
            (1, _, _) => Err(refused(what, "manifest schema 1 is not supported")),
            (2, true, true) => Err(refused(what, "manifest is also an index")),
            (2, true, false) => Ok(Self::Index(
                serde_json::from_slice(bytes).map_err(malformed)?,
            )),
            (2, false, _) => {
                let manifest: Manifest = serde_json::from_slice(bytes).map_err(malformed)?;
                manifest.check(what)?;
                Ok(Self::Manifest(manifest))
            }
            (version, _, _) => Err(refused(
                what,
                format!("manifest schema {version} is not supported"),
            )),
        }
    }
}

impl Manifest {
    fn check(&self, what: &str) -> Result<(), ImageError> {
        if self.layers.len() > LAYERS_MAX {
            return Err(refused(
                what,
                format!("{} layers, more than {LAYERS_MAX}", self.layers.len()),
            ));
        }
        let kind = self.config.media_type.as_str();
        if !matches!(kind, "" | OCI_CONFIG | DOCKER_CONFIG) {
            return Err(refused(
                what,
                format!("not a container image: its configuration is {kind}"),
            ));
        }
        Ok(())
    }

    /// Compressed size of layers and configuration, in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.layers
            .iter()
            .map(|l| l.size)
            .fold(self.config.size, u64::saturating_add)
    }
}

impl Index {
    /// The manifest for this machine.
    pub(crate) fn choose(&self, what: &str) -> Result<&Descriptor, ImageError> {
        let host = Platform::host();
        let fits = |d: &&Descriptor| {
            d.platform
                .as_ref()
                .is_some_and(|p| p.os == host.os && p.architecture == host.architecture)
        };
        let variant = |d: &Descriptor| {
            d.platform
                .as_ref()
                .map(|p| p.variant.clone())
                .unwrap_or_default()
        };
        let mut best: Option<&Descriptor> = None;
        for candidate in self.manifests.iter().filter(fits) {
            let better = best
                .is_none_or(|b| variant(b) != host.variant && variant(candidate) == host.variant);
            if better {
                best = Some(candidate);
            }
        }
        // An index without platforms, as image layouts have for a single image.
        let lone = || match self.manifests.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        };
        best.or_else(lone).ok_or_else(|| {
            refused(
                what,
                format!(
                    "no match for platform {}/{} in manifest",
                    host.os, host.architecture
                ),
            )
        })
    }
}

impl Platform {
    /// This machine in the OCI's words (Go's GOARCH).
    pub(crate) fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "x86" => ("386", ""),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: variant.to_owned(),
        }
    }
}

/// The image configuration document.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) config: RunConfig,
    pub(crate) rootfs: RootFs,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) diff_ids: Vec<Digest>,
}

/// Its `config` member, in Docker's spelling.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    #[serde(deserialize_with = "null_is_default")]
    user: String,
    #[serde(deserialize_with = "null_is_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    working_dir: String,
    #[serde(deserialize_with = "null_is_default")]
    stop_signal: String,
    #[serde(deserialize_with = "null_is_default")]
    volumes: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "null_is_default")]
    labels: BTreeMap<String, String>,
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl ConfigFile {
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Self, ImageError> {
        serde_json::from_slice(bytes)
            .map_err(|e| refused(what, format!("malformed image configuration: {e}")))
    }

    /// Refuses a configuration made for other layers or another machine.
    pub(crate) fn check(&self, what: &str, layers: usize) -> Result<(), ImageError> {
        let found = self.rootfs.diff_ids.len();
        if found != layers {
            return Err(refused(
                what,
                format!(
                    "mismatched image rootfs and manifest layers: {found} diff ids, {layers} layers"
                ),
            ));
        }
        let host = Platform::host();
        let other = |mine: &str, theirs: &str| !theirs.is_empty() && mine != theirs;
        if other(&host.os, &self.os) || other(&host.architecture, &self.architecture) {
            let reason = format!(
                "made for {}/{}, this machine is {}/{}",
                self.os, self.architecture, host.os, host.architecture
            );
            return Err(refused(what, reason));
        }
        Ok(())
    }
}

impl From<RunConfig> for ImageConfig {
    fn from(c: RunConfig) -> Self {
        Self {
            user: c.user,
            env: c.env,
            entrypoint: c.entrypoint,
            cmd: c.cmd,
            working_dir: c.working_dir,
            stop_signal: c.stop_signal,
            volumes: c.volumes.into_keys().collect(),
            labels: c.labels,
        }
    }
}

impl From<ImageConfig> for RunConfig {
    fn from(c: ImageConfig) -> Self {
        Self {
            user: c.user,
            env: c.env,
            entrypoint: c.entrypoint,
            cmd: c.cmd,
            working_dir: c.working_dir,
            stop_signal: c.stop_signal,
            volumes: c
                .volumes
                .into_iter()
                .map(|v| (v, serde_json::json!({})))
                .collect(),
            labels: c.labels,
        }
    }
}

/// Name of a stack of layers: the OCI image spec's chain id, one per layer, bottom first.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        let next = match chain.last() {
            None => diff.clone(),
            Some(below) => Digest::of(format!("{below} {diff}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}
