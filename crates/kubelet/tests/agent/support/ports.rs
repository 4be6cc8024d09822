//! Ports in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use ports::clock::Clock;
use ports::images::{AuthConfig, Image, ImageError, Images, ProgressSink, Rootfs};
use ports::network::Unready;
use ports::runtime::{
    ContainerConfig, ContainerRuntime, ContainerState, ContainerStatus, Id, Mount, Resources,
    RuntimeError, RuntimeEvent, SandboxConfig, SandboxState, SandboxStatus, Stats,
};
use ports::streams::{ExecRequest, ExitStatus, Reader, Session, StreamError, Writer};
use ports::volumes::{Space, VolumeError, VolumeSpec, Volumes};
use tokio::sync::{broadcast, watch};

/// Tokio's time, counted from a fixed moment.
pub(crate) struct FakeClock(tokio::time::Instant);

impl FakeClock {
    /// It is the beginning of 2026.
    pub(crate) fn new() -> Self {
        FakeClock(tokio::time::Instant::now())
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        start.checked_add(self.0.elapsed()).unwrap()
    }
}

/// What is set of limits, as `shares=2 quota=1000 memory=4096`.
fn shown(resources: &Resources) -> String {
    let set = [
        resources.cpu_shares.map(|n| format!("shares={n}")),
        resources.cpu_quota_us.map(|n| format!("quota={n}")),
        resources.memory_limit_bytes.map(|n| format!("memory={n}")),
    ];
    set.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A runtime whose containers run until they are ended.
pub(crate) struct FakeRuntime {
    state: Mutex<State>,
    events: broadcast::Sender<RuntimeEvent>,
    network: watch::Sender<Unready>,
    clock: FakeClock,
}

#[derive(Default)]
struct State {
    ids: u64,
    resizes_take: Duration,
    sandboxes: BTreeMap<Id, SandboxStatus>,
    containers: BTreeMap<Id, (ContainerStatus, ContainerConfig)>,
    calls: Vec<String>,
    /// Exit code and output of programs that are run in a container, by its name; the others end with 0.
    answers: BTreeMap<String, (i32, String)>,
    /// Programs run so far: container, then command.
    execs: Vec<String>,
    /// So many stops will fail.
    refused_stops: u32,
    refused_removals: u32,
    measured: Vec<Id>,
    /// Bytes of memory that each running container uses.
    memory_of_each: u64,
}

impl FakeRuntime {
    /// With nothing in it.
    pub(crate) fn new() -> Self {
        FakeRuntime {
            state: Mutex::default(),
            events: broadcast::channel(64).0,
            network: watch::Sender::new(None),
            clock: FakeClock::new(),
        }
    }

    /// From now on Pods cannot have a network, for this reason, or can.
    pub(crate) fn set_network(&self, why: Option<&str>) {
        self.network.send_replace(why.map(Into::into));
    }

    /// What was asked for, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// From now on programs run in this container end like this.
    pub(crate) fn answer(&self, container: &str, code: i32, output: &str) {
        let answer = (code, output.to_owned());
        let mut state = self.state.lock().unwrap();
        state.answers.insert(container.to_owned(), answer);
    }

    /// UIDs of the Pods of containers that were measured, once for each time.
    pub(crate) fn measured(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let ids = state.measured.iter();
        ids.map(|id| state.containers[id].0.pod_uid.clone())
            .collect()
    }

    /// From now on each running container uses so much memory.
    pub(crate) fn use_memory(&self, bytes_each: u64) {
        self.state.lock().unwrap().memory_of_each = bytes_each;
    }

    /// Changes of a Pod's limits take so long from now on.
    pub(crate) fn slow_resizes(&self, takes: Duration) {
        self.state.lock().unwrap().resizes_take = takes;
    }

    /// The next so many stops fail.
    pub(crate) fn refuse_stops(&self, count: u32) {
        self.state.lock().unwrap().refused_stops = count;
    }

    /// The next so many removals of containers fail.
    pub(crate) fn refuse_removals(&self, count: u32) {
        self.state.lock().unwrap().refused_removals = count;
    }

    /// Programs that were run in containers, in order.
    pub(crate) fn execs(&self) -> Vec<String> {
        self.state.lock().unwrap().execs.clone()
    }

    /// The newest run of a container.
    pub(crate) fn newest(&self, name: &str) -> (ContainerStatus, ContainerConfig) {
        let state = self.state.lock().unwrap();
        state
            .containers
            .values()
            .filter(|(c, _)| c.name == name)
            .max_by_key(|(c, _)| c.attempt)
            .unwrap()
            .clone()
    }

    /// Ends the newest run of a container.
    pub(crate) fn exit(&self, name: &str, exit_code: i32) {
        let id = self.newest(name).0.id;
        self.end(&id, exit_code);
    }

    /// Sandboxes left.
    pub(crate) fn sandboxes(&self) -> usize {
        self.state.lock().unwrap().sandboxes.len()
    }

    fn end(&self, id: &str, exit_code: i32) {
        let mut state = self.state.lock().unwrap();
        let Some((status, _)) = state.containers.get_mut(id) else {
            return;
        };
        if let ContainerState::Running { started_at } = status.state {
            let reason = if exit_code == 0 { "Completed" } else { "Error" }.to_owned();
            let finished_at = self.clock.now();
            status.state = ContainerState::Exited {
                started_at,
                finished_at,
                exit_code,
                reason,
                message: String::new(),
            };
            let _ = self
                .events
                .send(RuntimeEvent::Container(Box::new(status.clone())));
        }
    }

    fn call(&self, text: String) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(text);
        state
    }
}

#[async_trait]
impl ContainerRuntime for FakeRuntime {
    fn network_readiness(&self) -> watch::Receiver<Unready> {
        self.network.subscribe()
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxStatus, RuntimeError> {
        let mut state = self.call(format!("run sandbox {}", config.metadata.attempt));
        state.ids += 1;
        let status = SandboxStatus {
            id: format!("{:064x}", state.ids),
            metadata: config.metadata,
            state: SandboxState::Ready,
            created_at: self.clock.now(),
            ips: vec!["10.244.0.2".parse().unwrap()],
            namespaces: config.namespaces,
            resources: config.resources,
            labels: config.labels,
            annotations: config.annotations,
        };
        state.sandboxes.insert(status.id.clone(), status.clone());
        Ok(status)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let mut state = self.call("stop sandbox".into());
        if let Some(sandbox) = state.sandboxes.get_mut(id) {
            sandbox.state = SandboxState::NotReady;
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), RuntimeError> {
        let mut state = self.call("remove sandbox".into());
        state.sandboxes.remove(id);
        state.containers.retain(|_, (c, _)| c.sandbox_id != id);
        Ok(())
    }

    async fn list_sandboxes(&self, pod_uid: Option<&str>) -> Vec<SandboxStatus> {
        let state = self.state.lock().unwrap();
        state
            .sandboxes
            .values()
            .filter(|s| pod_uid.is_none_or(|uid| s.metadata.uid == uid))
            .cloned()
            .collect()
    }

    /// No image has anything at `missing`.
    async fn create_container(
        &self,
        sandbox_id: &str,
        config: ContainerConfig,
    ) -> Result<Id, RuntimeError> {
        let mut parts = config.image_mounts.iter().map(|mount| &mount.sub_path);
        if parts.any(|part| part == Path::new("missing")) {
            return Err(RuntimeError::ImageMount("missing is missing".into()));
        }
        let mut state = self.call(format!("create {} {}", config.name, config.attempt));
        state.ids += 1;
        let id = format!("{:064x}", state.ids);
        let status = ContainerStatus {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            pod_uid: state.sandboxes[sandbox_id].metadata.uid.clone(),
            name: config.name.clone(),
            attempt: config.attempt,
            state: ContainerState::Created,
            created_at: self.clock.now(),
            image: config.image.clone(),
            image_ref: config.image_id.clone(),
            user: None,
            log_path: config.log_path.clone(),
            resources: config.resources.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        };
        state.containers.insert(id.clone(), (status, config));
        Ok(id)
    }

    /// Containers named `lazy` take half a second; those named `brief` end, with some last words, before their start is told.
    async fn start_container(&self, id: &str) -> Result<ContainerStatus, RuntimeError> {
        let (name, mounts) = {
            let state = self.state.lock().unwrap();
            let (status, config) = &state.containers[id];
            (status.name.clone(), config.mounts.clone())
        };
        if name == "lazy" {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let status = {
            let mut state = self.state.lock().unwrap();
            let (status, _) = state.containers.get_mut(id).unwrap();
            status.state = ContainerState::Running {
                started_at: self.clock.now(),
            };
            status.clone()
        };
        let _ = self
            .events
            .send(RuntimeEvent::Container(Box::new(status.clone())));
        if name == "brief" {
            let is_log = |m: &&Mount| m.container_path == Path::new("/dev/termination-log");
            let log = mounts.iter().find(is_log).unwrap();
            std::fs::write(&log.host_path, "last words").unwrap();
            self.end(id, 0);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(status)
    }

    /// Containers end at once when they are asked to, except those named `slow`: they end when they want to, or are killed.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let name = self.state.lock().unwrap().containers[id].0.name.clone();
        {
            let mut state = self.call(format!("stop {name} {}", grace.as_secs()));
            if state.refused_stops > 0 {
                state.refused_stops -= 1;
                let source = std::io::ErrorKind::StorageFull.into();
                let what = "ask pause".to_owned();
                return Err(RuntimeError::Io { what, source });
            }
        }
        if name == "slow" {
            let mut events = self.events.subscribe();
            let ended = async {
                loop {
                    let told = events.recv().await.unwrap();
                    if matches!(told, RuntimeEvent::Container(c) if c.id == id) {
                        return;
                    }
                }
            };
            if tokio::time::timeout(grace, ended).await.is_ok() {
                return Ok(());
            }
            self.end(id, 137);
            return Ok(());
        }
        self.end(id, 143);
        Ok(())
    }

    async fn remove_container(&self, id: &str, _keep_log: bool) -> Result<(), RuntimeError> {
        let mut state = self.call("remove container".into());
        if state.refused_removals > 0 {
            state.refused_removals -= 1;
            return Err(RuntimeError::Io {
                what: "remove its record".to_owned(),
                source: std::io::ErrorKind::ReadOnlyFilesystem.into(),
            });
        }
        state.containers.remove(id);
        Ok(())
    }

    async fn list_containers(&self, pod_uid: Option<&str>) -> Vec<ContainerStatus> {
        let state = self.state.lock().unwrap();
        state
            .containers
            .values()
            .map(|(c, _)| c)
            .filter(|c| pod_uid.is_none_or(|uid| c.pod_uid == uid))
            .cloned()
            .collect()
    }

    async fn update_sandbox_resources(
        &self,
        id: &str,
        resources: Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<SandboxStatus, RuntimeError> {
        let takes = self.state.lock().unwrap().resizes_take;
        tokio::time::sleep(takes).await;
        let mut state = self.call(format!("resize pod {}", shown(&resources)));
        let sandbox = state.sandboxes.get_mut(id).unwrap();
        sandbox.resources = sandbox.resources.with(&resources);
        sandbox.annotations.extend(annotations);
        Ok(sandbox.clone())
    }

    async fn update_container_resources(
        &self,
        id: &str,
        resources: Resources,
        annotations: BTreeMap<String, String>,
    ) -> Result<ContainerStatus, RuntimeError> {
        let name = self.state.lock().unwrap().containers[id].0.name.clone();
        let mut state = self.call(format!("resize {name} {}", shown(&resources)));
        let (status, _) = state.containers.get_mut(id).unwrap();
        status.resources = status.resources.with(&resources);
        status.annotations.extend(annotations);
        Ok(status.clone())
    }

    async fn container_stats(&self, id: &str) -> Result<Stats, RuntimeError> {
        let mut state = self.state.lock().unwrap();
        state.measured.push(id.to_owned());
        Ok(Stats {
            memory_working_set_bytes: state.memory_of_each,
            ..Stats::default()
        })
    }

    async fn writable_layer(&self, id: &str) -> Result<PathBuf, RuntimeError> {
        Ok(PathBuf::from("/nowhere").join(id))
    }

    async fn sandbox_stats(&self, _id: &str) -> Result<Stats, RuntimeError> {
        Ok(Stats::default())
    }

    async fn node_stats(&self) -> Result<Stats, RuntimeError> {
        let state = self.state.lock().unwrap();
        let states = state.containers.values().map(|(c, _)| &c.state);
        let running = states.filter(|s| matches!(s, ContainerState::Running { .. }));
        Ok(Stats {
            memory_working_set_bytes: state.memory_of_each * running.count() as u64,
            ..Stats::default()
        })
    }

    async fn reopen_log(&self, _id: &str) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn exec(&self, id: &str, request: ExecRequest) -> Result<Session, StreamError> {
        let mut state = self.state.lock().unwrap();
        let Some((status, _)) = state.containers.get(id) else {
            return Err(StreamError::NotRunning { id: id.into() });
        };
        let name = status.name.clone();
        if !matches!(status.state, ContainerState::Running { .. }) {
            return Err(StreamError::NotRunning { id: id.into() });
        }
        let command = request.command.join(" ");
        state.execs.push(format!("{name}: {command}"));
        let (code, output) = state.answers.get(&name).cloned().unwrap_or_default();
        let (sender, exit) = tokio::sync::oneshot::channel();
        let _ = sender.send(ExitStatus { code });
        Ok(Session {
            stdin: None,
            stdout: Some(Box::pin(std::io::Cursor::new(output.into_bytes()))),
            stderr: Some(Box::pin(tokio::io::empty())),
            resize: None,
            exit,
        })
    }

    async fn attach(&self, id: &str, _stdin: bool) -> Result<Session, StreamError> {
        Err(StreamError::NotRunning { id: id.into() })
    }

    async fn port_forward(&self, id: &str, _port: u16) -> Result<(Reader, Writer), StreamError> {
        Err(StreamError::NotRunning { id: id.into() })
    }

    fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }
}

/// Every image is here but those named `never`, which are not, `slow`, whose pulls do not end, and `private`, which user `right` can
/// pull. Listed are those that were told; those named `stuck` cannot be removed.
#[derive(Default)]
pub(crate) struct FakeImages {
    listed: Mutex<Vec<Image>>,
    /// Users that pulls were tried as.
    users: Mutex<Vec<String>>,
    /// Nothing is here any more, and no pull ends.
    is_lost: AtomicBool,
    /// Rung when the removal of a heavy image begins, which takes a while.
    pub(crate) removing: tokio::sync::Notify,
}

impl FakeImages {
    /// Lists images of these names from now on; those with a digest came from a registry.
    pub(crate) fn list(&self, pulled: &[&str], loaded: &[&str]) {
        let image = |name: &str, digests: Vec<String>| Image {
            repo_digests: digests,
            ..here(name)
        };
        let pulled = pulled
            .iter()
            .map(|name| image(name, vec![format!("{name}@sha256:0")]));
        let loaded = loaded.iter().map(|name| image(name, vec![]));
        *self.listed.lock().unwrap() = pulled.chain(loaded).collect();
    }

    /// From now on no image is here, and pulls do not end.
    pub(crate) fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    fn is_slow(&self, reference: &str) -> bool {
        reference.starts_with("slow") || self.is_lost.load(Ordering::Relaxed)
    }

    /// The users that pulls were tried as, in order.
    pub(crate) fn users(&self) -> Vec<String> {
        self.users.lock().unwrap().clone()
    }

    /// The names of what is listed.
    pub(crate) fn names(&self) -> Vec<String> {
        let listed = self.listed.lock().unwrap();
        listed.iter().flat_map(|i| i.repo_tags.clone()).collect()
    }
}

fn here(reference: &str) -> Image {
    Image {
        id: format!("sha256:{reference}"),
        repo_tags: vec![format!("docker.io/library/{reference}")],
        repo_digests: vec![],
        size_bytes: 1,
        config: Default::default(),
    }
}

#[async_trait]
impl Images for FakeImages {
    async fn image_status(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        let is_private = reference.starts_with("private");
        let is_pulled = self.users().iter().any(|user| user == "right");
        if reference.starts_with("heavy") {
            let id = format!("sha256:{reference}");
            let listed = self.listed.lock().unwrap();
            return Ok(listed.iter().find(|image| image.id == id).cloned());
        }
        if reference.starts_with("never") || self.is_slow(reference) || (is_private && !is_pulled) {
            return Ok(None);
        }
        Ok(Some(here(reference)))
    }

    async fn list_images(&self) -> Result<Vec<Image>, ImageError> {
        Ok(self.listed.lock().unwrap().clone())
    }

    async fn pull_image(
        &self,
        reference: &str,
        auth: Option<AuthConfig>,
        _progress: Option<ProgressSink>,
    ) -> Result<Image, ImageError> {
        if self.is_slow(reference) {
            std::future::pending::<()>().await;
        }
        let user = auth.unwrap_or_default().username;
        let may = reference.starts_with("private") && user == "right";
        self.users.lock().unwrap().push(user);
        if may {
            return Ok(here(reference));
        }
        Err(ImageError::NotFound {
            reference: reference.into(),
        })
    }

    async fn remove_image(&self, reference: &str) -> Result<(), ImageError> {
        if reference.starts_with("sha256:stuck") {
            return Err(ImageError::InUse {
                reference: reference.into(),
                by: "somebody".into(),
            });
        }
        if reference.starts_with("sha256:heavy") {
            self.removing.notify_one();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        self.listed.lock().unwrap().retain(|i| i.id != reference);
        Ok(())
    }

    async fn rootfs(&self, _image_id: &str) -> Result<Rootfs, ImageError> {
        Ok(Rootfs { layers: vec![] })
    }
}

/// Volumes that are only remembered.
pub(crate) struct FakeVolumes {
    root: PathBuf,
    specs: Mutex<BTreeMap<String, VolumeSpec>>,
    /// There is no room for directories.
    is_full: AtomicBool,
    space: Mutex<Space>,
}

impl FakeVolumes {
    /// Pods' own directories are made below `root`.
    pub(crate) fn new(root: PathBuf) -> Self {
        FakeVolumes {
            root,
            is_full: AtomicBool::default(),
            space: Mutex::new(Space {
                capacity_bytes: 1 << 30,
                available_bytes: 1 << 29,
                inodes: 1 << 20,
                inodes_free: 1 << 19,
            }),
            specs: Mutex::default(),
        }
    }

    /// The disk has this from now on.
    pub(crate) fn have(&self, space: Space) {
        *self.space.lock().unwrap() = space;
    }

    /// From now on there is room for directories, or none.
    pub(crate) fn be_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
    }

    /// Writes so many bytes to a file of a volume, as a container would.
    pub(crate) fn fill(&self, volume: &str, bytes: usize) {
        let dir = self.root.join(volume);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("file"), vec![1; bytes]).unwrap();
    }

    /// A file of a volume.
    pub(crate) fn file(&self, volume: &str, path: &str) -> Option<String> {
        match self.specs.lock().unwrap().get(volume)? {
            VolumeSpec::Files { files, .. } => {
                Some(String::from_utf8(files.get(path)?.data.clone()).unwrap())
            }
            _ => None,
        }
    }
}

#[async_trait]
impl Volumes for FakeVolumes {
    async fn ensure(
        &self,
        _pod_uid: &str,
        volume: &str,
        spec: &VolumeSpec,
    ) -> Result<PathBuf, VolumeError> {
        self.specs
            .lock()
            .unwrap()
            .insert(volume.to_owned(), spec.clone());
        Ok(self.root.join(volume))
    }

    async fn ensure_sub_path(
        &self,
        _pod_uid: &str,
        volume: &str,
        sub_path: &str,
        _container: &str,
        _index: usize,
    ) -> Result<PathBuf, VolumeError> {
        Ok(self.root.join(volume).join(sub_path))
    }

    async fn pod_dir(&self, pod_uid: &str) -> Result<PathBuf, VolumeError> {
        let dir = self.root.join("pods").join(pod_uid);
        if self.is_full.load(Ordering::Relaxed) {
            return Err(VolumeError::Io {
                what: "make the directory".to_owned(),
                source: std::io::ErrorKind::StorageFull.into(),
            });
        }
        std::fs::create_dir_all(&dir).unwrap();
        Ok(dir)
    }

    async fn give_up(&self, _pod_uid: &str) -> Result<(), VolumeError> {
        Ok(())
    }

    async fn teardown(&self, pod_uid: &str) -> Result<(), VolumeError> {
        let _ = std::fs::remove_dir_all(self.root.join("pods").join(pod_uid));
        Ok(())
    }

    async fn pods(&self) -> Result<Vec<String>, VolumeError> {
        let Ok(entries) = std::fs::read_dir(self.root.join("pods")) else {
            return Ok(Vec::new());
        };
        Ok(entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect())
    }

    async fn space(&self) -> Result<Space, VolumeError> {
        Ok(*self.space.lock().unwrap())
    }
}
