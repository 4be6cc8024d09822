//! Links by Pod, container and id to the logs of all runs, in one directory beside theirs: where collectors of logs look for them,
//! `/var/log/containers` upstream (spec `§1.6` step 8, `§2.7`).

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ports::runtime::ContainerStatus;

use crate::agent::Agent;
use crate::{blocking, sandbox};

/// Most bytes of a file's name.
const NAME_MAX: usize = 255;
const SUFFIX: &str = ".log";

fn directory(agent: &Agent) -> PathBuf {
    agent.config.log_root.with_file_name("containers")
}

fn name(record: &ContainerStatus) -> String {
    let label = |what| {
        let label = record.labels.get(&sandbox::identity_label(what));
        label.map_or("", String::as_str)
    };
    let (pod, namespace) = (label("name"), label("namespace"));
    let mut name = format!("{pod}_{namespace}_{}-{}", record.name, record.id);
    // All of it is ASCII.
    name.truncate(NAME_MAX - SUFFIX.len());
    name + SUFFIX
}

/// Links to the log of a run that has begun.
pub(crate) async fn make(agent: &Agent, record: &ContainerStatus) {
    let (dir, log) = (directory(agent), record.log_path.clone());
    let link = dir.join(name(record));
    let make = move || match symlink(&log, &link) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(&dir)?;
            symlink(&log, &link)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    };
    if let Err(error) = blocking::run(make).await {
        tracing::warn!(%error, "linking to a log");
    }
}

/// Removes the links to the logs of these runs.
pub(crate) async fn remove(agent: &Agent, records: impl Iterator<Item = &ContainerStatus>) {
    let dir = directory(agent);
    let links: Vec<PathBuf> = records.map(|record| dir.join(name(record))).collect();
    if links.is_empty() {
        return;
    }
    blocking::run(move || links.iter().for_each(|link| unlink(link))).await;
}

/// All links there are.
pub(crate) async fn list(agent: &Agent) -> Vec<PathBuf> {
    let dir = directory(agent);
    blocking::run(move || {
        // Without runs there is no such directory.
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    })
    .await
}

/// Removes those that lead to no log.
pub(crate) async fn sweep(links: Vec<PathBuf>) {
    blocking::run(move || {
        let dangling = links.iter().filter(|link| !link.exists());
        dangling.for_each(|link| unlink(link));
    })
    .await;
}

fn unlink(link: &Path) {
    match fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(link = %link.display(), %error, "removing a link to a log");
        }
        _ => {}
    }
}
