//! A registry of our own: Debian's `docker-registry` on a loopback port that the kernel chooses.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use serde_json::json;

/// A running registry; it ends when this is dropped, and what was pushed stays on disk.
pub(crate) struct Registry {
    child: Child,
    address: String,
    log: Option<JoinHandle<()>>,
}

impl Registry {
    /// Starts one that keeps its content below `storage`.
    ///
    /// # Errors
    /// When `docker-registry` is not installed or does not start.
    pub(crate) fn start(storage: &Path) -> Result<Self> {
        fs::create_dir_all(storage).with_context(|| format!("make {}", storage.display()))?;
        let config = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "http": {"addr": "127.0.0.1:0"},
            "storage": {"filesystem": {"rootdirectory": storage}},
        });
        // Several may run side by side on the same storage; each reads its own file, and only once.
        let file = storage.with_extension(format!("{}.yml", std::process::id()));
        fs::write(&file, config.to_string()).context("write the registry's configuration")?;
        let mut command = Command::new("docker-registry");
        let spawned = command
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child =
            spawned.context("start docker-registry (Debian package docker-registry)")?;
        let mut log = BufReader::new(child.stderr.take().context("docker-registry has no log")?);
        let address = listening(&mut log);
        let _removed = fs::remove_file(&file);
        // Its log has to be read, or it stops when the pipe is full.
        let reader = std::thread::spawn(move || {
            let _ended = std::io::copy(&mut log, &mut std::io::sink());
        });
        let mut registry = Self {
            child,
            address: String::new(),
            log: Some(reader),
        };
        registry.address = address?;
        Ok(registry)
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Registry {
    /// Waits until it ends.
    pub(crate) fn wait(mut self) -> Result<()> {
        let status = self.child.wait().context("wait for docker-registry")?;
        bail!("docker-registry ended ({status})")
    }
}

/// Reads the log until it says where the registry listens.
fn listening(log: &mut impl BufRead) -> Result<String> {
    let mut said = String::new();
    loop {
        let start = said.len();
        if log
            .read_line(&mut said)
            .context("read docker-registry's log")?
            == 0
        {
            bail!("docker-registry ended:\n{said}");
        }
        if let Some((_, rest)) = said[start..].split_once("listening on ") {
            let end = rest.find(['"', ' ', '\n']).unwrap_or(rest.len());
            return Ok(rest[..end].to_owned());
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Failing means that it has ended by itself.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
        if let Some(log) = self.log.take() {
            let _read = log.join();
        }
    }
}
