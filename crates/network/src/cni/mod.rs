//! Network plugins (CNI, to version 1.1): programs that give Pods their interfaces and addresses, in place of the built-in network.
//!
//! With a directory of configurations the first of its files is the network of all Pods that come; it is followed, so a file that
//! appears or changes counts at once, for Pods that come after it. What was attached is detached by what attached it: a record of
//! each attachment holds configuration and result, and is written before a plugin is asked. Without a directory this does nothing but
//! detach what an earlier engine attached.
//!
//! What is decided (`config`, `version`, `request`, `result`) is apart from what is done (`directory`, `exec`, `pin`, `record`).
//!
//! Invariants: a plugin is asked about a Pod only while its record is on disk; the record goes after every plugin has said that it let
//! go; GC runs while nothing is attached or detached.

mod config;
mod directory;
mod exec;
mod pin;
mod record;
mod request;
mod result;
mod version;

#[cfg(test)]
mod testing;

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ports::network::{NetworkError, NetworkStatus, PodNetwork, Unready};
use ports::runtime::SandboxConfig;
use serde_json::Value;
use tokio::sync::{RwLock, watch};

use crate::{Network, kernel};
use directory::{Changes, Found};
use exec::ExecError;
use record::{Record, Records};
use request::{Attachment, Verb};
use result::ResultError;

/// How long a plugin may take: as upstream's agent waits for its runtime.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// A plugin that says it is not ready is asked again after this; nothing tells of it.
const AGAIN: Duration = Duration::from_secs(5);

/// Where plugins and their configurations are.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of configurations; `None` for the built-in network.
    pub conf_dir: Option<PathBuf>,
    /// Where programs are, the first first.
    pub bin_dirs: Vec<PathBuf>,
    /// Where attachments are recorded.
    pub state_dir: PathBuf,
    /// Where network namespaces have names: ends with the machine.
    pub run_dir: PathBuf,
    /// How long a plugin may take.
    pub patience: Duration,
}

/// Pods' places on the network: given by plugins if there is a directory of configurations, else by the built-in network.
#[derive(Debug)]
pub struct Plugins {
    config: Config,
    network: Arc<Network>,
    records: Records,
    found: watch::Sender<Result<Arc<Found>, String>>,
    readiness: watch::Sender<Unready>,
    /// Held for writing by GC.
    quiet: RwLock<()>,
}

/// Why a plugin did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Exec(ExecError),
    #[error(transparent)]
    Result(ResultError),
}

impl Plugins {
    /// Finds what an earlier engine attached, and reads the directory, which is made if it is not there. Blocks for a moment.
    ///
    /// # Errors
    /// Records cannot be read, or the directory cannot be made.
    pub fn open(config: Config, network: Arc<Network>) -> Result<Plugins, NetworkError> {
        let records = Records::open(config.state_dir.clone());
        let records = records.map_err(|error| kernel("read what is attached by plugins", error))?;
        if let Some(dir) = &config.conf_dir {
            std::fs::create_dir_all(dir)
                .map_err(|error| kernel(&format!("make {}", dir.display()), error))?;
        }
        let found = watch::Sender::new(Err(String::new()));
        let plugins = Plugins {
            config,
            network,
            records,
            found,
            readiness: watch::Sender::new(None),
            quiet: RwLock::default(),
        };
        for id in plugins.records.ids() {
            let record = plugins.records.get(&id);
            plugins.let_in(&record.map(|r| r.addresses()).unwrap_or_default())?;
        }
        if plugins.look() {
            plugins.readiness.send_replace(plugins.uninitialized());
        }
        Ok(plugins)
    }

    /// Whether plugins are asked at all. Then no place can be made before it is known for whom.
    pub fn are_used(&self) -> bool {
        self.config.conf_dir.is_some()
    }

    /// Looks after what is attached to the sandboxes that run (CHECK), has plugins forget all else (GC), and follows the directory,
    /// until dropped.
    pub async fn run(&self, running: &[String]) {
        let Some(dir) = &self.config.conf_dir else {
            return;
        };
        let changes = Changes::of(dir);
        self.look();
        self.check(running).await;
        self.collect().await;
        let mut changes = match changes {
            Ok(changes) => changes,
            Err(error) => {
                let dir = dir.display();
                tracing::error!(%dir, %error, "changes of networks are not heard of");
                return;
            }
        };
        loop {
            let is_ready = self.ask_status().await;
            let again = async {
                match is_ready {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(AGAIN).await,
                }
            };
            tokio::select! {
                changed = changes.next() => {
                    if let Err(error) = changed {
                        tracing::error!(%error, "changes of networks are not heard of any more");
                        return;
                    }
                    self.look();
                }
                () = again => {}
            }
        }
    }

    /// Reads the directory; whether there is something else than before.
    fn look(&self) -> bool {
        let Some(dir) = &self.config.conf_dir else {
            return false;
        };
        let found = directory::look(dir).map(Arc::new);
        self.found.send_if_modified(|before| {
            let is_new = *before != found;
            if is_new {
                match &found {
                    Ok(found) => tracing::info!(
                        network = found.network.name,
                        file = found.file.0,
                        "Pods are put on a network of plugins"
                    ),
                    Err(why) => tracing::warn!(why, "there is no network of plugins"),
                }
                *before = found;
            }
            is_new
        })
    }

    fn uninitialized(&self) -> Unready {
        let why = self.found.borrow().as_ref().err().cloned()?;
        Some(format!("cni plugin not initialized: {why}").into())
    }

    /// Asks plugins whether they can attach Pods, where they know that question, and tells it; whether all is said.
    async fn ask_status(&self) -> bool {
        let found = self.found.borrow().clone();
        let (unready, is_final) = match found {
            Err(_) => (self.uninitialized(), true),
            Ok(found) if !found.network.version.has_status() => (None, true),
            Ok(found) => match self.status_of(&found).await {
                Ok(()) => (None, true),
                Err(error) => (Some(error_chain(&error).into()), false),
            },
        };
        self.readiness.send_if_modified(|before| {
            let is_new = *before != unready;
            *before = unready;
            is_new
        });
        is_final
    }

    async fn status_of(&self, found: &Found) -> Result<(), NetworkError> {
        for plugin in &found.network.plugins {
            let stdin = request::stdin(&found.network, plugin, None, None);
            let asked = self.ask(
                &self.config.bin_dirs,
                &plugin.kind,
                Verb::Status,
                None,
                &stdin,
            );
            asked.await.map_err(|e| refused(plugin, Verb::Status, e))?;
        }
        Ok(())
    }

    /// Whether what was attached is as it was; where it is not, that is told, and the Pod goes on.
    async fn check(&self, running: &[String]) {
        let records = running.iter().filter_map(|id| self.records.get(id));
        for record in records {
            if let Err(error) = self.check_one(&record).await {
                let error = error_chain(&error);
                tracing::warn!(
                    sandbox = record.attachment.sandbox_id,
                    error,
                    "a Pod's network is not as it was"
                );
            }
        }
    }

    async fn check_one(&self, record: &Record) -> Result<(), NetworkError> {
        let network = record
            .network()
            .map_err(|e| kernel("read a record", io::Error::other(e)))?;
        let Some(result) = record
            .result
            .as_ref()
            .filter(|_| network.version.has_check() && !network.disable_check)
        else {
            return Ok(());
        };
        for plugin in &network.plugins {
            let stdin = request::stdin(&network, plugin, Some(result), Some(&record.attachment));
            let asked = self.ask(
                &record.directories,
                &plugin.kind,
                Verb::Check,
                Some(&record.attachment),
                &stdin,
            );
            asked.await.map_err(|e| refused(plugin, Verb::Check, e))?;
        }
        Ok(())
    }

    /// Has plugins that know GC let go of all that has no record.
    async fn collect(&self) {
        let found = self.found.borrow().clone();
        let Ok(found) = found else { return };
        if !found.network.version.has_status() || found.network.disable_gc {
            return;
        }
        let _quiet = self.quiet.write().await;
        let attached = self.records.ids();
        for plugin in &found.network.plugins {
            let stdin = request::stdin_of_gc(&found.network, plugin, &attached);
            let asked = self.ask(&self.config.bin_dirs, &plugin.kind, Verb::Gc, None, &stdin);
            if let Err(error) = asked.await {
                let error = error_chain(&refused(plugin, Verb::Gc, error));
                tracing::warn!(error, "remains of attachments may be left");
            }
        }
    }

    async fn add(&self, found: &Found, record: &mut Record) -> Result<Vec<IpAddr>, NetworkError> {
        let network = &found.network;
        let mut result = None;
        for plugin in &network.plugins {
            let stdin = request::stdin(network, plugin, result.as_ref(), Some(&record.attachment));
            let asked = self.ask(
                &record.directories,
                &plugin.kind,
                Verb::Add,
                Some(&record.attachment),
                &stdin,
            );
            let answer = asked.await.and_then(|answer| {
                result::convert(&answer, network.version).map_err(Failure::Result)
            });
            result = Some(answer.map_err(|e| refused(plugin, Verb::Add, e))?);
        }
        let result = result.unwrap_or_default();
        let addresses = result::addresses(&result, network.version);
        let addresses = addresses.map_err(|error| match network.plugins.last() {
            Some(last) => refused(last, Verb::Add, Failure::Result(error)),
            None => kernel("read a result", io::Error::other(error)),
        })?;
        record.result = Some(result);
        Ok(addresses)
    }

    /// Has all plugins let go, the last first; ends at the first that does not.
    async fn del(&self, record: &Record) -> Result<(), NetworkError> {
        let network = record
            .network()
            .map_err(|e| kernel("read a record", io::Error::other(e)))?;
        let result = record
            .result
            .as_ref()
            .filter(|_| network.version.has_check());
        for plugin in network.plugins.iter().rev() {
            let stdin = request::stdin(&network, plugin, result, Some(&record.attachment));
            let asked = self.ask(
                &record.directories,
                &plugin.kind,
                Verb::Del,
                Some(&record.attachment),
                &stdin,
            );
            asked.await.map_err(|e| refused(plugin, Verb::Del, e))?;
        }
        let id = &record.attachment.sandbox_id;
        let forget = || {
            pin::unpin(&self.pin(id))?;
            self.records.forget(id)
        };
        forget().map_err(|error| kernel("forget an attachment", error))?;
        self.leave(&record.addresses())
    }

    async fn ask(
        &self,
        directories: &[PathBuf],
        kind: &str,
        verb: Verb,
        attachment: Option<&Attachment>,
        stdin: &Value,
    ) -> Result<Vec<u8>, Failure> {
        let program = exec::find(kind, directories).map_err(Failure::Exec)?;
        let netns = attachment.map(|attachment| {
            let path = self.pin(&attachment.sandbox_id);
            // Where the machine was started anew, it is gone, and plugins are told so.
            let path = Some(path).filter(|path| pin::is_pinned(path));
            path.map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default()
        });
        let about = attachment.zip(netns.as_deref());
        let environment = request::environment(verb, &exec::path(directories), about);
        let stdin = stdin.to_string().into_bytes();
        let ran = exec::run(&program, environment, stdin, self.config.patience).await;
        tracing::debug!(
            plugin = kind,
            verb = verb.word(),
            ok = ran.is_ok(),
            "asked a plugin"
        );
        ran.map_err(Failure::Exec)
    }

    /// The name of a sandbox's network namespace.
    fn pin(&self, sandbox_id: &str) -> PathBuf {
        self.config.run_dir.join(sandbox_id)
    }

    fn let_in(&self, addresses: &[IpAddr]) -> Result<(), NetworkError> {
        let mut addresses = addresses.iter();
        addresses.try_for_each(|ip| self.network.let_in(*ip))
    }

    fn leave(&self, addresses: &[IpAddr]) -> Result<(), NetworkError> {
        let mut addresses = addresses.iter();
        addresses.try_for_each(|ip| self.network.shut_out(*ip))
    }

    async fn plug(
        &self,
        sandbox_id: &str,
        pod: &SandboxConfig,
        netns: BorrowedFd<'_>,
    ) -> Result<NetworkStatus, NetworkError> {
        let found = self.found.borrow().clone();
        let found = found.map_err(|why| NetworkError::NotReady {
            why: format!("cni plugin not initialized: {why}"),
        })?;
        // A plugin that cannot be asked would have to be asked to let go, too.
        for plugin in &found.network.plugins {
            exec::find(&plugin.kind, &self.config.bin_dirs)
                .map_err(|e| refused(plugin, Verb::Add, Failure::Exec(e)))?;
        }
        let mut record = Record {
            attachment: Attachment::of(sandbox_id, pod),
            file: found.file.clone(),
            directories: self.config.bin_dirs.clone(),
            result: None,
        };
        let put = |record: &Record| {
            let kept = self.records.put(record.clone());
            kept.map_err(|error| kernel("record an attachment", error))
        };
        put(&record)?;
        let attach = async {
            pin::pin(&self.config.run_dir, sandbox_id, netns)
                .map_err(|error| kernel("name the Pod's network namespace", error))?;
            let addresses = self.add(&found, &mut record).await?;
            put(&record)?;
            self.let_in(&addresses)?;
            Ok(addresses)
        };
        match attach.await {
            Ok(addresses) => Ok(status(addresses)),
            Err(error) => {
                // The first error is the one to tell; what is left is detached with the sandbox.
                if let Err(error) = self.del(&record).await {
                    tracing::warn!(
                        sandbox = sandbox_id,
                        error = error_chain(&error),
                        "an attachment that failed is left"
                    );
                }
                Err(error)
            }
        }
    }
}

#[async_trait]
impl PodNetwork for Plugins {
    async fn attach(
        &self,
        sandbox_id: &str,
        pod: Option<&SandboxConfig>,
        netns: BorrowedFd<'_>,
    ) -> Result<NetworkStatus, NetworkError> {
        if !self.are_used() {
            return self.network.attach(sandbox_id, pod, netns).await;
        }
        let pod = pod.ok_or_else(|| NetworkError::NotReady {
            why: "plugins have to know the Pod".into(),
        })?;
        let _others = self.quiet.read().await;
        match self.records.get(sandbox_id) {
            Some(record) if record.result.is_some() => Ok(status(record.addresses())),
            _ => self.plug(sandbox_id, pod, netns).await,
        }
    }

    async fn status(&self, sandbox_id: &str) -> Option<NetworkStatus> {
        match self.records.get(sandbox_id) {
            Some(record) => Some(status(record.addresses())),
            None => self.network.status(sandbox_id).await,
        }
    }

    async fn holders(&self) -> Vec<String> {
        let mut holders = self.network.holders().await;
        holders.extend(self.records.ids());
        holders
    }

    async fn detach(&self, sandbox_id: &str) -> Result<(), NetworkError> {
        let _others = self.quiet.read().await;
        match self.records.get(sandbox_id) {
            Some(record) => self.del(&record).await,
            None => self.network.detach(sandbox_id).await,
        }
    }

    fn node_ips(&self) -> Vec<IpAddr> {
        self.network.node_ips()
    }

    fn readiness(&self) -> watch::Receiver<Unready> {
        self.readiness.subscribe()
    }
}

/// What is told of a Pod's addresses: one of each family, as the API has it.
fn status(addresses: Vec<IpAddr>) -> NetworkStatus {
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in addresses {
        if ips.iter().all(|known| known.is_ipv4() != ip.is_ipv4()) {
            ips.push(ip);
        }
    }
    NetworkStatus { ips }
}

fn refused(plugin: &config::Plugin, verb: Verb, failure: Failure) -> NetworkError {
    NetworkError::Plugin {
        plugin: plugin.kind.clone(),
        verb: verb.word(),
        source: Box::new(failure),
    }
}

fn error_chain(error: &NetworkError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
