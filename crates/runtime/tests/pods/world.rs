//! What the scenarios run in: a busybox image, a network that gives an address, directories and cgroups of their own, and at the end
//! the proof that nothing is left.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ports::images::{AuthConfig, Image, ImageConfig, ImageError, Images, ProgressSink, Rootfs};
use ports::network::{NetworkError, NetworkStatus, PodNetwork};
use ports::runtime::{
    ContainerConfig, ContainerRuntime, ContainerState, ContainerStatus, Id, RuntimeEvent,
    SandboxConfig, SandboxMetadata, SeccompProfile, SecurityContext,
};
use runtime::{Config, PauseCommand, Runtime};
use tempfile::TempDir;
use tokio::sync::broadcast::Receiver;
use tokio::sync::watch;

/// No step of a scenario takes this long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Address every sandbox gets; nothing is wired.
pub(crate) const POD_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 2));
const APPLETS: [&str; 27] = [
    "sh", "cat", "echo", "sleep", "true", "false", "ls", "id", "env", "stty", "ps", "kill",
    "hostname", "head", "yes", "tty", "printf", "wc", "dd", "touch", "seq", "tr", "readlink",
    "stat", "mount", "umount", "grep",
];

/// One scenario's world.
pub(crate) struct World {
    dir: TempDir,
    cgroup_root: String,
    network: Arc<FakeNetwork>,
    engine: Option<Runtime>,
}

impl World {
    /// A fresh one.
    pub(crate) fn new(image_config: ImageConfig) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = TempDir::with_prefix("pods-").expect("tempdir");
        let cgroup_root = format!(
            "pods-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let layer = dir.path().join("layer");
        busybox_layer(&layer);
        fs::write(
            dir.path().join("image.json"),
            serde_json::to_vec(&image_config).expect("encode"),
        )
        .expect("write");
        let network = Arc::new(FakeNetwork::default());
        let runtime = open(dir.path(), &cgroup_root, Arc::clone(&network));
        Self {
            dir,
            cgroup_root,
            network,
            engine: Some(runtime),
        }
    }

    /// Drops the engine's side and starts another, which takes over.
    pub(crate) async fn restart_engine(&mut self) {
        self.engine = None;
        self.replace_engine().await;
    }

    /// What another engine finds after this one is gone; `between` runs while there is none.
    pub(crate) async fn without_engine<F: AsyncFnOnce()>(&mut self, between: F) {
        self.engine = None;
        between().await;
        self.replace_engine().await;
    }

    async fn replace_engine(&mut self) {
        self.engine = Some(open(
            self.dir.path(),
            &self.cgroup_root,
            Arc::clone(&self.network),
        ));
        self.runtime().recover().await.expect("recover");
    }

    /// The engine's side.
    pub(crate) fn runtime(&self) -> &Runtime {
        self.engine.as_ref().expect("an engine runs")
    }

    /// Waits until so many sandboxes are on the network; which.
    pub(crate) async fn attached(&self, count: usize) -> Vec<String> {
        let mut attached = self.network.attached.subscribe();
        let awaited = within(attached.wait_for(|attached| attached.len() == count)).await;
        awaited.expect("the network is there").clone()
    }

    /// A path inside the world.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A sandbox's configuration.
    pub(crate) fn sandbox_config(&self) -> SandboxConfig {
        SandboxConfig {
            metadata: SandboxMetadata {
                name: "pod".into(),
                uid: "uid-1".into(),
                namespace: "default".into(),
                ..SandboxMetadata::default()
            },
            hostname: "web-0".into(),
            log_directory: self.path("logs/default_pod_uid-1"),
            dns: Some(ports::runtime::DnsConfig {
                servers: vec!["10.96.0.10".into()],
                ..Default::default()
            }),
            cgroup_parent: "burstable/poduid-1".into(),
            ..SandboxConfig::default()
        }
    }

    /// The first line of one of the kernel's files about a cgroup below the world's, whichever of `files` there is.
    pub(crate) fn kernel(&self, group: &str, files: &[&str]) -> String {
        let group = Path::new(&self.cgroup_root).join(group);
        let paths = hierarchies()
            .into_iter()
            .flat_map(|root| files.iter().map(move |file| (root.clone(), *file)))
            .map(|(root, file)| root.join(&group).join(file));
        let text = paths
            .filter_map(|path| fs::read_to_string(path).ok())
            .next();
        let text = text.unwrap_or_else(|| panic!("none of {files:?} in {}", group.display()));
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// Makes a sandbox.
    pub(crate) async fn sandbox(&self) -> Id {
        self.runtime()
            .run_sandbox(self.sandbox_config())
            .await
            .expect("run sandbox")
            .id
    }

    /// Makes and starts a container that runs a shell script.
    pub(crate) async fn script(&self, sandbox: &str, name: &str, script: &str) -> Id {
        self.start(
            sandbox,
            ContainerConfig {
                command: vec!["sh".into(), "-c".into(), script.into()],
                ..container(name)
            },
        )
        .await
    }

    /// Makes and starts a container.
    pub(crate) async fn start(&self, sandbox: &str, config: ContainerConfig) -> Id {
        let id = self
            .runtime()
            .create_container(sandbox, config)
            .await
            .expect("create");
        self.runtime().start_container(&id).await.expect("start");
        id
    }

    /// One container's status.
    pub(crate) async fn status(&self, id: &str) -> ContainerStatus {
        let all = self.runtime().list_containers(None).await;
        all.into_iter()
            .find(|status| status.id == id)
            .expect("container is listed")
    }

    /// Waits until a container has ended, and returns exit code and reason.
    pub(crate) async fn exit(&self, id: &str) -> (i32, String) {
        let mut events = self.runtime().events();
        if let Some(exit) = exit_of(&self.status(id).await) {
            return exit;
        }
        exit_event(&mut events, id).await
    }

    /// The log's records as `stream tag content`.
    pub(crate) async fn log(&self, id: &str) -> Vec<String> {
        let text = fs::read_to_string(self.status(id).await.log_path).expect("log");
        text.lines()
            .map(|line| line.split_once(' ').expect("time").1.to_string())
            .collect()
    }

    /// Waits until the log of a container holds a record.
    pub(crate) async fn log_line(&self, id: &str, record: &str) {
        let path = self.status(id).await.log_path;
        let found = async {
            let watch = inotify(&path);
            while !fs::read_to_string(&path)
                .unwrap_or_default()
                .lines()
                .any(|line| line.ends_with(record))
            {
                watch.changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("{record:?} is not in the log"));
    }

    /// Removes every sandbox and proves that nothing is left.
    pub(crate) async fn finish(mut self) {
        for sandbox in self.runtime().list_sandboxes(None).await {
            self.runtime()
                .remove_sandbox(&sandbox.id)
                .await
                .expect("remove sandbox");
        }
        assert!(
            self.runtime().list_sandboxes(None).await.is_empty(),
            "sandboxes are left"
        );
        assert!(
            self.runtime().list_containers(None).await.is_empty(),
            "containers are left"
        );
        assert_eq!(
            self.network.attached(),
            Vec::<String>::new(),
            "network is left"
        );
        // The template of pauses ends with its engine.
        self.engine = None;
        for name in ["state", "run"] {
            let left: Vec<_> = fs::read_dir(self.path(name))
                .expect("list")
                .flatten()
                .map(|entry| entry.path())
                // The next engine's business.
                .filter(|path| !path.ends_with("mount-points") && !path.ends_with("roots"))
                .collect();
            assert_eq!(left, Vec::<PathBuf>::new(), "files are left");
        }
        assert_eq!(
            processes_and_mounts(self.dir.path()),
            Vec::<String>::new(),
            "processes or mounts are left"
        );
        assert_eq!(
            cgroups(&self.cgroup_root),
            Vec::<PathBuf>::new(),
            "cgroups are left"
        );
    }
}

impl Drop for World {
    /// After a failed scenario, takes down what it can, so that the next one starts clean.
    fn drop(&mut self) {
        for root in hierarchies() {
            let base = root.join(&self.cgroup_root);
            kill_below(&base);
        }
        let shm = fs::read_dir(self.path("run"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("shm"));
        for mount in shm {
            let _ = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH);
        }
        for root in hierarchies() {
            remove_below(&root.join(&self.cgroup_root));
        }
    }
}

fn open(dir: &Path, cgroup_root: &str, network: Arc<FakeNetwork>) -> Runtime {
    let program = std::env::current_exe().expect("own path");
    let config = Config {
        state_dir: dir.join("state"),
        run_dir: dir.join("run"),
        cgroup_root: cgroup_root.to_string(),
        pause: PauseCommand {
            program,
            args: vec!["pause".into()],
        },
    };
    Runtime::new(
        config,
        Arc::new(FakeImages {
            dir: dir.to_path_buf(),
        }),
        network,
    )
    .expect("runtime")
}

/// A container that asks for nothing.
pub(crate) fn container(name: &str) -> ContainerConfig {
    ContainerConfig {
        name: name.into(),
        image_id: FakeImages::ID.into(),
        image: "docker.io/library/busybox:1.35".into(),
        security: SecurityContext {
            seccomp: SeccompProfile::RuntimeDefault,
            ..SecurityContext::default()
        },
        log_path: format!("{name}/0.log").into(),
        ..ContainerConfig::default()
    }
}

fn exit_of(status: &ContainerStatus) -> Option<(i32, String)> {
    match &status.state {
        ContainerState::Exited {
            exit_code, reason, ..
        } => Some((*exit_code, reason.clone())),
        _ => None,
    }
}

/// Waits for the event that says a container has ended.
pub(crate) async fn exit_event(events: &mut Receiver<RuntimeEvent>, id: &str) -> (i32, String) {
    let wait = async {
        loop {
            if let RuntimeEvent::Container(status) = events.recv().await.expect("event")
                && let (true, Some(exit)) = (status.id == id, exit_of(&status))
            {
                return exit;
            }
        }
    };
    within(wait).await
}

/// Awaits something that must come.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("did not come in time")
}

// ---- fakes -----------------------------------------------------------------------------------------------------------

/// The image of the containers, and two whose layers are made by those who mount them.
pub(crate) struct FakeImages {
    dir: PathBuf,
}

impl FakeImages {
    pub(crate) const ID: &str =
        "sha256:0000000000000000000000000000000000000000000000000000000000000001";
    pub(crate) const TWO_LAYERS: &str =
        "sha256:0000000000000000000000000000000000000000000000000000000000000002";
    pub(crate) const ONE_LAYER: &str =
        "sha256:0000000000000000000000000000000000000000000000000000000000000003";

    /// Directories of an image's layers.
    fn layers(id: &str) -> Option<&'static [&'static str]> {
        match id {
            Self::ID => Some(&["layer"]),
            Self::TWO_LAYERS => Some(&["data-upper", "data-lower"]),
            Self::ONE_LAYER => Some(&["data-lower"]),
            _ => None,
        }
    }
}

#[async_trait]
impl Images for FakeImages {
    async fn image_status(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        let config = fs::read(self.dir.join("image.json")).expect("image.json");
        let config = serde_json::from_slice(&config).expect("decode");
        let digest = "docker.io/library/busybox@sha256:2".to_string();
        Ok(Self::layers(reference).map(|_| Image {
            id: reference.into(),
            repo_tags: vec![],
            repo_digests: vec![digest],
            size_bytes: 0,
            config,
        }))
    }

    async fn list_images(&self) -> Result<Vec<Image>, ImageError> {
        Ok(Vec::new())
    }

    async fn pull_image(
        &self,
        reference: &str,
        _: Option<AuthConfig>,
        _: Option<ProgressSink>,
    ) -> Result<Image, ImageError> {
        Err(ImageError::NotFound {
            reference: reference.into(),
        })
    }

    async fn remove_image(&self, _: &str) -> Result<(), ImageError> {
        Ok(())
    }

    async fn rootfs(&self, id: &str) -> Result<Rootfs, ImageError> {
        let layers = Self::layers(id).unwrap_or_default().iter();
        Ok(Rootfs {
            layers: layers.map(|layer| self.dir.join(layer)).collect(),
        })
    }
}

/// Remembers who is attached.
#[derive(Default)]
struct FakeNetwork {
    attached: watch::Sender<Vec<String>>,
}

impl FakeNetwork {
    fn attached(&self) -> Vec<String> {
        self.attached.borrow().clone()
    }
}

#[async_trait]
impl PodNetwork for FakeNetwork {
    async fn attach(
        &self,
        sandbox_id: &str,
        _: Option<&SandboxConfig>,
        netns: BorrowedFd<'_>,
    ) -> Result<NetworkStatus, NetworkError> {
        let own = fs::read_link("/proc/self/ns/net").expect("own netns");
        let theirs = fs::read_link(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&netns)
        ))
        .expect("netns");
        assert!(
            theirs.to_string_lossy().starts_with("net:") && theirs != own,
            "a network namespace of its own: {theirs:?}"
        );
        self.attached
            .send_modify(|attached| attached.push(sandbox_id.to_string()));
        Ok(NetworkStatus { ips: vec![POD_IP] })
    }

    async fn status(&self, _: &str) -> Option<NetworkStatus> {
        None
    }

    async fn holders(&self) -> Vec<String> {
        self.attached()
    }

    async fn detach(&self, sandbox_id: &str) -> Result<(), NetworkError> {
        self.attached
            .send_modify(|attached| attached.retain(|id| id != sandbox_id));
        Ok(())
    }

    fn node_ips(&self) -> Vec<IpAddr> {
        Vec::new()
    }
}

/// Copies the node's busybox and the libraries it needs.
fn busybox_layer(layer: &Path) {
    for dir in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(layer.join(dir)).expect("mkdir");
    }
    fs::write(
        layer.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n",
    )
    .expect("passwd");
    fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:1000:\n").expect("group");
    fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).expect("symlink");
    }
    let ldd = std::process::Command::new("ldd")
        .arg("/bin/busybox")
        .output()
        .expect("ldd");
    let text = String::from_utf8_lossy(&ldd.stdout).into_owned();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = layer.join(library.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("parent")).expect("mkdir");
        fs::copy(library, target).expect("library");
    }
}

// ---- what is left ----------------------------------------------------------------------------------------------------

/// Processes that see a mount of this directory, or were started with it.
fn processes_and_mounts(dir: &Path) -> Vec<String> {
    let needle = dir.to_string_lossy().into_owned();
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let path = entry.path();
        let has = |file: &str| {
            fs::read(path.join(file))
                .is_ok_and(|text| String::from_utf8_lossy(&text).contains(&needle))
        };
        let is_process = entry
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|byte| byte.is_ascii_digit());
        if is_process && (has("mountinfo") || has("cmdline")) {
            left.push(path.display().to_string());
        }
    }
    left
}

fn hierarchies() -> Vec<PathBuf> {
    let nested = fs::read_dir("/sys/fs/cgroup")
        .expect("cgroups")
        .flatten()
        .map(|entry| entry.path());
    nested
        .chain([PathBuf::from("/sys/fs/cgroup")])
        .filter(|path| path.join("cgroup.procs").exists())
        .collect()
}

/// Sandboxes' and containers' cgroups: those below a Pod's.
fn cgroups(root: &str) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for hierarchy in hierarchies() {
        collect(&hierarchy.join(root), &mut left);
    }
    left.retain(|path| {
        path.components().any(|part| {
            part.as_os_str().to_string_lossy().starts_with("pod") && part.as_os_str() != root
        })
    });
    left
}

fn collect(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.push(entry.path());
            collect(&entry.path(), found);
        }
    }
}

fn kill_below(path: &Path) {
    let mut all = vec![path.to_path_buf()];
    collect(path, &mut all);
    for group in all {
        for pid in fs::read_to_string(group.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn remove_below(path: &Path) {
    let mut all = vec![path.to_path_buf()];
    collect(path, &mut all);
    for group in all.iter().rev() {
        let _ = fs::remove_dir(group);
    }
}

// ---- waiting for a file ----------------------------------------------------------------------------------------------

struct Inotify(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

/// Watches a file for writes.
fn inotify(path: &Path) -> Inotify {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
    add_watch(&fd, path, WatchFlags::MODIFY).expect("watch");
    // SAFETY: an OwnedFd names the same open file until it is dropped.
    Inotify(
        unsafe { tokio::io::unix::AsyncFd::register(fd) }
            .map_err(std::io::Error::from)
            .expect("register"),
    )
}

impl Inotify {
    async fn changed(&self) {
        loop {
            let mut guard = self.0.readable().await.expect("inotify");
            let mut buffer = [0u8; 4096];
            if guard
                .try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?))
                .is_ok()
            {
                return;
            }
        }
    }
}
