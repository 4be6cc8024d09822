//! What the engine remembers of sandboxes and containers, in small files, so that its successor knows what it knew.
//!
//! ```text
//! <state>/<sandbox>/sandbox.json
//! <state>/<sandbox>/<container>/container.json      and beside it upper/ and work/ of its root file system
//! <state>/mount-points/<id>/                        lowest layers of containers
//! <state>/roots/<id>/                               upper/ and work/ of a container to come
//! <run>/<sandbox>/                                  pause's files, shm/, resolv.conf, hostname
//! ```
//!
//! A record is a file of lines, each the whole of what there is to say; the last that can be read holds. A line is appended before
//! anybody relies on what it says: that is ten times cheaper than to replace a file, which makes ext4 write its contents out. A line
//! that was cut short counts for nothing. Nothing is synced: after a power cut no container runs, and a record that was lost is one
//! whose remains the next start removes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ports::images::ImageConfig;
use ports::runtime::{
    ContainerConfig, ContainerState, ContainerStatus, Id, Resources, SandboxConfig, SandboxState,
    SandboxStatus, UserStatus,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::wire::{ContainerReport, ExitRecord, Started};

/// Name of a sandbox's record.
const SANDBOX_FILE: &str = "sandbox.json";
/// Name of a container's record.
const CONTAINER_FILE: &str = "container.json";
/// A record larger than this, in bytes, is replaced by its last line.
const LONG: u64 = 64 * 1024;
/// What a container writes to its root file system is in this directory beside its record.
pub(super) const UPPER: &str = "upper";
/// What the overlay works in, beside it.
pub(super) const WORK: &str = "work";
/// An empty directory beside it, which stands below an image of one layer that is mounted.
pub(super) const EMPTY: &str = "empty";
/// What is beside the sandboxes; no id looks like these.
const MOUNT_POINTS: &str = "mount-points";
const ROOTS: &str = "roots";

/// A sandbox as remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: Id,
    pub(crate) config: SandboxConfig,
    pub(crate) created_at: Timestamp,
    pub(crate) state: SandboxState,
    pub(crate) ips: Vec<IpAddr>,
}

impl SandboxRecord {
    pub(crate) fn status(&self) -> SandboxStatus {
        SandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state,
            created_at: self.created_at,
            ips: self.ips.clone(),
            namespaces: self.config.namespaces,
            resources: self.config.resources.clone(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
        }
    }
}

/// A container as remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: Id,
    pub(crate) sandbox_id: Id,
    pub(crate) config: ContainerConfig,
    pub(crate) created_at: Timestamp,
    pub(crate) state: ContainerState,
    /// The image's defaults when the container was made.
    pub(crate) image: ImageConfig,
    pub(crate) image_ref: String,
    /// Unpacked layers, uppermost first.
    pub(crate) layers: Vec<PathBuf>,
    /// Those of the images it mounts, by image id.
    #[serde(default)]
    pub(crate) image_layers: BTreeMap<String, Vec<PathBuf>>,
    pub(crate) user: Option<UserStatus>,
    /// `HOME` from its passwd file.
    pub(crate) home: Option<String>,
    /// Limits in force.
    pub(crate) resources: Resources,
}

impl ContainerRecord {
    pub(crate) fn status(&self, sandbox: &SandboxRecord) -> ContainerStatus {
        ContainerStatus {
            id: self.id.clone(),
            sandbox_id: self.sandbox_id.clone(),
            pod_uid: sandbox.config.metadata.uid.clone(),
            name: self.config.name.clone(),
            attempt: self.config.attempt,
            state: self.state.clone(),
            created_at: self.created_at,
            image: self.config.image.clone(),
            image_ref: self.image_ref.clone(),
            user: self.user.clone(),
            log_path: sandbox.config.log_directory.join(&self.config.log_path),
            resources: self.resources.clone(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }

    /// Its first process may still run, or its end may still be told.
    pub(crate) fn is_open(&self) -> bool {
        matches!(
            self.state,
            ContainerState::Created | ContainerState::Running { .. }
        )
    }

    /// Takes note of its start.
    pub(crate) fn started(&mut self, started: &Started) {
        self.user = Some(started.user.clone());
        self.home = started.home.clone();
        self.state = ContainerState::Running {
            started_at: started.at,
        };
    }

    /// Takes note of its end (reasons: spec/pod-lifecycle 12.6, 3.4).
    pub(crate) fn exited(&mut self, exit: &ExitRecord) {
        let reason = match exit {
            ExitRecord {
                start_error: Some(_),
                ..
            } => "StartError",
            ExitRecord {
                oom_killed: true, ..
            } => "OOMKilled",
            ExitRecord { code: 0, .. } => "Completed",
            _ => "Error",
        };
        self.state = ContainerState::Exited {
            started_at: exit.started_at.unwrap_or(Timestamp::UNIX_EPOCH),
            finished_at: exit.finished_at,
            exit_code: exit.code,
            reason: reason.to_string(),
            message: exit.start_error.clone().unwrap_or_default(),
        };
    }

    /// Takes note of what pause reports; `true` if that was news.
    pub(crate) fn adopt(&mut self, report: &ContainerReport) -> bool {
        let before = self.state.clone();
        if !self.is_open() {
            return false;
        }
        if let Some(started) = &report.started {
            self.started(started);
        }
        if let Some(exit) = &report.exit {
            self.exited(exit);
        }
        self.state != before
    }
}

/// Writes a record so that a reader sees the old one or the new one.
fn save<T: Serialize>(record: &T, directory: &Path, name: &str) -> io::Result<()> {
    // Begins a line of its own, whatever the last one was cut short to.
    let mut line = vec![b'\n'];
    serde_json::to_writer(&mut line, record)?;
    let path = directory.join(name);
    let mut file = File::options().append(true).create(true).open(&path)?;
    if file.metadata()?.len() > LONG {
        let aside = directory.join(format!("{name}.tmp"));
        std::fs::write(&aside, line)?;
        return std::fs::rename(&aside, path);
    }
    file.write_all(&line)
}

/// The last line that can be read: none that was cut short is a record.
fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = std::fs::read(path)?;
    if text.is_empty() {
        // It was opened to be written to, and whoever did was killed.
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut lines = text.rsplit(|byte| *byte == b'\n');
    lines
        .find_map(|line| serde_json::from_slice(line).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "holds no readable record"))
}

/// Where sandboxes' files are.
#[derive(Debug, Clone)]
pub(crate) struct Directories {
    pub(crate) state: PathBuf,
    pub(crate) run: PathBuf,
}

impl Directories {
    pub(crate) fn sandbox_state(&self, id: &str) -> PathBuf {
        self.state.join(id)
    }

    /// Where [`super::points`] are.
    pub(crate) fn mount_points(&self) -> PathBuf {
        self.state.join(MOUNT_POINTS)
    }

    /// Where [`super::roots`] are.
    pub(crate) fn roots(&self) -> PathBuf {
        self.state.join(ROOTS)
    }

    pub(crate) fn sandbox_run(&self, id: &str) -> PathBuf {
        self.run.join(id)
    }

    pub(crate) fn container_state(&self, sandbox: &str, id: &str) -> PathBuf {
        self.state.join(sandbox).join(id)
    }

    pub(crate) fn save_sandbox(&self, record: &SandboxRecord) -> io::Result<()> {
        save(record, &self.sandbox_state(&record.id), SANDBOX_FILE)
    }

    pub(crate) fn save_container(&self, record: &ContainerRecord) -> io::Result<()> {
        save(
            record,
            &self.container_state(&record.sandbox_id, &record.id),
            CONTAINER_FILE,
        )
    }

    /// Every sandbox that left a directory; with `None` for a record that cannot be read.
    pub(crate) fn load_sandboxes(&self) -> io::Result<Vec<(Id, Option<SandboxRecord>)>> {
        Ok(sandboxes(&self.state)?
            .into_iter()
            .map(|(id, path)| (id, load(&path.join(SANDBOX_FILE)).ok()))
            .collect())
    }

    /// Every container of a sandbox that left a directory; with `None` for a record that cannot be read.
    pub(crate) fn load_containers(
        &self,
        sandbox: &str,
    ) -> io::Result<Vec<(Id, Option<ContainerRecord>)>> {
        let containers = subdirectories(&self.sandbox_state(sandbox))?;
        Ok(containers
            .into_iter()
            .map(|(id, path)| (id, load(&path.join(CONTAINER_FILE)).ok()))
            .collect())
    }

    /// Every sandbox that has a run directory.
    pub(crate) fn runs(&self) -> io::Result<Vec<Id>> {
        let found = subdirectories(&self.run)?;
        Ok(found.into_iter().map(|(id, _)| id).collect())
    }

    /// The end of a container that its pause left behind.
    pub(crate) fn load_exit(&self, sandbox: &str, container: &str) -> Option<ExitRecord> {
        load(
            &self
                .sandbox_run(sandbox)
                .join(crate::wire::exit_file_name(container)),
        )
        .ok()
    }
}

/// A container of each image that is used, by image id, as the records in `state_dir` say: they are there whether an engine runs or not.
///
/// # Errors
/// A record that is there but cannot be read: without it nobody knows what is in use.
pub fn image_users(state_dir: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut users = BTreeMap::new();
    for (_, sandbox) in sandboxes(state_dir)? {
        for (_, container) in subdirectories(&sandbox)? {
            let Some(record) = find::<ContainerRecord>(&container.join(CONTAINER_FILE))? else {
                continue;
            };
            let pod = find::<SandboxRecord>(&sandbox.join(SANDBOX_FILE))?.map_or_else(
                || "unknown".to_owned(),
                |sandbox| {
                    let metadata = sandbox.config.metadata;
                    format!("{}/{}", metadata.namespace, metadata.name)
                },
            );
            let user = format!("container {} of Pod {pod}", record.config.name);
            let mounted = record.image_layers.into_keys();
            let used = mounted.chain([record.config.image_id]);
            users.extend(used.map(|image| (image, user.clone())));
        }
    }
    Ok(users)
}

/// Whether an engine left sandboxes in `state_dir`.
///
/// # Errors
/// It is there but cannot be read.
pub fn has_sandboxes(state_dir: &Path) -> io::Result<bool> {
    Ok(!sandboxes(state_dir)?.is_empty())
}

/// What vanishes meanwhile was not there.
fn find<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match load(path) {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::other(format!("{}: {error}", path.display()))),
    }
}

/// Directories of sandboxes in a state directory.
fn sandboxes(state_dir: &Path) -> io::Result<Vec<(Id, PathBuf)>> {
    let mut found = subdirectories(state_dir)?;
    found.retain(|(id, _)| id != MOUNT_POINTS && id != ROOTS);
    Ok(found)
}

fn subdirectories(path: &Path) -> io::Result<Vec<(Id, PathBuf)>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_dir(), entry.file_name().into_string()) {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{container_config, sandbox_config};

    #[test]
    fn the_last_whole_line_of_a_record_holds() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("r.json");
        let save = |n: u32, text: &str| save(&(n, text), dir.path(), "r.json").expect("writes");
        let holds = || load::<(u32, String)>(&path).expect("reads").0;
        save(1, "a\nb");
        save(2, "");
        assert_eq!(holds(), 2);
        // The disk was full in the midst of a line, then it was not.
        let cut = |text: &str| {
            let mut file = File::options().append(true).open(&path).expect("opens");
            file.write_all(text.as_bytes()).expect("writes");
        };
        cut("\n[3,\"");
        assert_eq!(holds(), 2);
        save(4, "");
        assert_eq!(holds(), 4);
        cut("\n");
        assert_eq!(holds(), 4);
        // What was changed often does not grow for ever.
        let long = "x".repeat(1000);
        (0..200).for_each(|n| save(n, &long));
        assert_eq!(holds(), 199);
        let length = std::fs::metadata(&path).expect("is there").len();
        assert!(length < LONG + 2000, "{length} bytes");
        assert!(!dir.path().join("r.json.tmp").exists());
    }

    #[test]
    fn records_tell_which_images_are_used() {
        let state = tempfile::tempdir().expect("a directory");
        let users = || image_users(state.path());
        assert!(users().expect("nothing yet").is_empty());
        let has_any = || has_sandboxes(state.path()).expect("reads");
        // A container may have anything mounted, also on such a name.
        let layer = state.path().join(MOUNT_POINTS).join("layer");
        std::fs::create_dir_all(&layer).expect("makes");
        std::fs::write(layer.join(CONTAINER_FILE), "").expect("writes");
        assert!(users().expect("no containers").is_empty());
        assert!(!has_any());
        let directories = Directories {
            state: state.path().to_path_buf(),
            run: state.path().join("run"),
        };
        let container = directories.container_state("s", "c");
        std::fs::create_dir_all(container.join("upper")).expect("makes");
        assert!(users().expect("no record yet").is_empty(), "half-made");
        std::fs::write(container.join(CONTAINER_FILE), "").expect("writes");
        assert!(users().expect("no line yet").is_empty(), "half-made");
        assert!(has_any());
        let sandbox = SandboxRecord {
            id: "s".into(),
            config: sandbox_config("default", "web"),
            created_at: Timestamp::UNIX_EPOCH,
            state: SandboxState::Ready,
            ips: Vec::new(),
        };
        let record = ContainerRecord {
            id: "c".into(),
            sandbox_id: "s".into(),
            created_at: Timestamp::UNIX_EPOCH,
            state: ContainerState::Created,
            image: ImageConfig::default(),
            image_ref: String::new(),
            layers: Vec::new(),
            image_layers: [("sha256:2".to_owned(), Vec::new())].into(),
            user: None,
            home: None,
            resources: Resources::default(),
            config: ContainerConfig {
                image_id: "sha256:1".into(),
                ..container_config("main")
            },
        };
        directories.save_container(&record).expect("writes");
        let found = users().expect("reads");
        assert_eq!(found["sha256:1"], "container main of Pod unknown");
        directories.save_sandbox(&sandbox).expect("writes");
        let found = users().expect("reads");
        assert_eq!(found["sha256:1"], "container main of Pod default/web");
        assert_eq!(found["sha256:2"], found["sha256:1"], "it is mounted");
        std::fs::write(container.join(CONTAINER_FILE), "{").expect("writes");
        let error = users().expect_err("damaged").to_string();
        assert!(error.contains("container.json"), "{error}");
    }
}
