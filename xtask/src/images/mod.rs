//! `cargo xtask images`: stand-ins for the images manifests name, on machines that reach no registry.
//!
//! Each is built from Debian packages into a deterministic layer, kept below `target/images`, and pushed to a registry on
//! loopback under the path a mirror is asked for: `library/busybox` for docker.io, `e2e-test-images/agnhost` for
//! registry.k8s.io. Nothing is built or pushed twice while nothing changes.

mod databases;
mod packages;
mod push;
mod recipes;
mod server;
mod tree;
mod upstream;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::run;
use crate::tools::{self, Tools};
use recipes::Recipe;
pub(crate) use server::Registry;

/// A registry that has all stand-ins.
pub(crate) struct Filled {
    /// `HOST:PORT`.
    pub address: String,
    /// Every image, as a mirror serves it: `library/busybox:1.36`.
    pub images: Vec<String>,
    /// Our own registry, when none was named; it ends when this is dropped.
    pub registry: Option<Registry>,
}

/// `cargo xtask images [--registry HOST:PORT]`: fills that registry, or serves one of our own until interrupted.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let named = match arguments {
        [] => None,
        [flag, address] if flag == "--registry" => Some(address.as_str()),
        _ => bail!("usage: cargo xtask images [--registry HOST:PORT]"),
    };
    let tools = tools::build_all()?;
    let filled = fill(named, &run::target_dir(), Some(&tools))?;
    for image in &filled.images {
        println!("{}/{image}", filled.address);
    }
    match filled.registry {
        Some(registry) => {
            eprintln!(
                "serving at {}; as mirror of every registry: certs.d/_default/hosts.toml with",
                registry.address()
            );
            eprintln!("server = \"http://{}\"", registry.address());
            registry.wait()
        }
        None => Ok(()),
    }
}

impl Registry {
    /// Starts a registry that has all stand-ins.
    ///
    /// # Errors
    /// As [`fill`].
    pub(crate) fn start_filled(tools: &Tools) -> Result<Self> {
        fill(None, &run::target_dir(), Some(tools))?
            .registry
            .context("no registry was started")
    }
}

/// Fills the registry at `registry` (`HOST:PORT`, plain HTTP), or one started here, with all stand-ins. Builds are kept in
/// `target/images` of the directory `target`. The images around upstream's programs need those.
///
/// # Errors
/// When a program or package is missing, or the registry refuses.
pub(crate) fn fill(registry: Option<&str>, target: &Path, tools: Option<&Tools>) -> Result<Filled> {
    let cache = target.join("images");
    fs::create_dir_all(cache.join("built")).with_context(|| format!("make {}", cache.display()))?;
    let own = match registry {
        Some(_) => None,
        None => Some(Registry::start(&cache.join("registry"))?),
    };
    let address = registry
        .or(own.as_ref().map(Registry::address))
        .context("no registry")?
        .to_owned();
    let mut images = Vec::new();
    for recipe in recipes::all(&cache, tools)? {
        let built = Built::of(&recipe, &cache.join("built"))
            .with_context(|| format!("build {}", recipe.name))?;
        for (repository, tags) in recipe.repositories {
            for tag in *tags {
                built.push(&address, repository, tag)?;
                images.push(format!("{repository}:{tag}"));
            }
        }
    }
    Ok(Filled {
        address,
        images,
        registry: own,
    })
}

/// An image in the cache: a directory with `manifest.json`, `config.json` and `layer`.
struct Built {
    directory: std::path::PathBuf,
    manifest: Vec<u8>,
}

impl Built {
    fn of(recipe: &Recipe, cache: &Path) -> Result<Self> {
        let inputs = format!("{} {}", recipe.tree.fingerprint()?, recipe.config);
        let key = digest(inputs.as_bytes())["sha256:".len()..][..16].to_owned();
        let directory = cache.join(format!("{}-{key}", recipe.name));
        if !directory.exists() {
            let made = cache.join(format!("{}-{key}.new-{}", recipe.name, std::process::id()));
            fs::create_dir_all(&made)?;
            write(recipe, &made)?;
            // Someone else may have been faster with the same thing.
            if fs::rename(&made, &directory).is_err() {
                fs::remove_dir_all(&made)?;
            }
        }
        let manifest = fs::read(directory.join("manifest.json"))?;
        Ok(Self {
            directory,
            manifest,
        })
    }

    fn push(&self, registry: &str, repository: &str, tag: &str) -> Result<()> {
        if push::is_there(registry, repository, tag, &digest(&self.manifest))? {
            return Ok(());
        }
        for name in ["config.json", "layer"] {
            let bytes = fs::read(self.directory.join(name))?;
            push::blob(registry, repository, &digest(&bytes), &bytes)?;
        }
        push::manifest(registry, repository, tag, &self.manifest)
    }
}

fn write(recipe: &Recipe, directory: &Path) -> Result<()> {
    let (layer, diff_id) = recipe.tree.layer()?;
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": recipe.config,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &layer)],
    });
    fs::write(directory.join("layer"), layer)?;
    fs::write(directory.join("config.json"), config)?;
    fs::write(directory.join("manifest.json"), manifest.to_string())?;
    Ok(())
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// `sha256:<64 hex>`.
fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests;
