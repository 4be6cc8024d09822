//! What is attached, on disk: written before a plugin is asked, so that whatever it did can be undone after a crash.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::Attachment;
use super::{config, result};
use crate::lock;

/// One sandbox on a network. It holds all that DEL needs, whatever becomes of files and settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) attachment: Attachment,
    /// Name and text of the network's file.
    pub(super) file: (String, String),
    /// Where its plugins are.
    pub(super) directories: Vec<PathBuf>,
    /// What they answered; not before all have.
    pub(super) result: Option<Value>,
}

impl Record {
    /// The network it is on.
    pub(super) fn network(&self) -> Result<config::Network, config::ConfigError> {
        config::parse(&self.file.0, &self.file.1)
    }

    /// What the Pod got; nothing while it is being attached.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let found = self.result.as_ref().zip(self.network().ok());
        let found = found.map(|(result, network)| result::addresses(result, network.version));
        found.and_then(Result::ok).unwrap_or_default()
    }
}

/// The records of one engine.
#[derive(Debug)]
pub(super) struct Records {
    dir: PathBuf,
    all: Mutex<BTreeMap<String, Record>>,
}

impl Records {
    /// Reads what is kept in `dir`. What cannot be read was never relied on, or is no record.
    pub(super) fn open(dir: PathBuf) -> io::Result<Records> {
        let mut all = BTreeMap::new();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for entry in entries {
            match read(&entry.path()) {
                Some(record) => drop(all.insert(record.attachment.sandbox_id.clone(), record)),
                None => {
                    tracing::warn!(path = %entry.path().display(), "no record of an attachment")
                }
            }
        }
        let all = Mutex::new(all);
        Ok(Records { dir, all })
    }

    /// Writes a record, which is on disk when this returns.
    pub(super) fn put(&self, record: Record) -> io::Result<()> {
        // Configurations may hold secrets.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let path = self.path(&record.attachment.sandbox_id);
        let temporary = path.with_extension("tmp");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        fs::File::open(&self.dir)?.sync_all()?;
        lock(&self.all).insert(record.attachment.sandbox_id.clone(), record);
        Ok(())
    }

    pub(super) fn get(&self, sandbox_id: &str) -> Option<Record> {
        lock(&self.all).get(sandbox_id).cloned()
    }

    /// Every sandbox that has a record.
    pub(super) fn ids(&self) -> Vec<String> {
        lock(&self.all).keys().cloned().collect()
    }

    pub(super) fn forget(&self, sandbox_id: &str) -> io::Result<()> {
        match fs::remove_file(self.path(sandbox_id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        lock(&self.all).remove(sandbox_id);
        Ok(())
    }

    fn path(&self, sandbox_id: &str) -> PathBuf {
        self.dir.join(format!("{sandbox_id}.json"))
    }
}

fn read(path: &Path) -> Option<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let own = format!("{}.json", record.attachment.sandbox_id);
    (path.file_name()?.to_str()? == own).then_some(record)
}
