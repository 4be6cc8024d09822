//! Fakes for worker tests: an API of a few routes, a runtime, images and volumes in memory, and a clock that follows tokio's.

pub(crate) mod api;
pub(crate) mod ports;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ::ports::node::NodeServer;
use kubelet::{Capacity, Config, Kubelet, NodeInfo};
use lifecycle::pressure::{Policy, Settings};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use api::FakeApi;
use ports::{FakeClock, FakeImages, FakeRuntime, FakeVolumes};

/// The directory of manifests, where there is one.
const MANIFESTS: &str = "manifests";

/// An agent among fakes.
pub(crate) struct World {
    /// What the agent talks to.
    pub(crate) api: FakeApi,
    /// What it runs containers with.
    pub(crate) runtime: Arc<FakeRuntime>,
    /// Its volumes.
    pub(crate) volumes: Arc<FakeVolumes>,
    /// Its images.
    pub(crate) images: Arc<FakeImages>,
    /// What it answers the API server with.
    pub(crate) server: Arc<dyn NodeServer>,
    /// What the kernel says.
    pub(crate) kernel: std::fs::File,
    stop: CancellationToken,
    dir: Arc<tempfile::TempDir>,
}

impl World {
    /// The links to logs, by name, and where they lead.
    pub(crate) fn links(&self) -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(self.dir.path().join("containers"));
        let entries = entries.into_iter().flatten().flatten();
        let link = |entry: std::fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read_link(entry.path()).unwrap())
        };
        entries.map(link).collect()
    }

    /// Another agent in the place of this one, on what it left.
    pub(crate) fn restart(self) -> World {
        self.stop.cancel();
        let ports = (self.runtime.clone(), self.images.clone());
        start_in(
            self.dir.clone(),
            self.api.clone(),
            ports,
            &Settings::default(),
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts an agent.
pub(crate) fn start() -> World {
    start_with(FakeApi::new(), Arc::new(FakeRuntime::new()))
}

/// Starts an agent on an API and a runtime that hold something already.
pub(crate) fn start_with(api: FakeApi, runtime: Arc<FakeRuntime>) -> World {
    start_evicting(api, runtime, &Settings::default())
}

/// Starts an agent that evicts Pods by these settings.
pub(crate) fn start_evicting(
    api: FakeApi,
    runtime: Arc<FakeRuntime>,
    evictions: &Settings,
) -> World {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let images = Arc::new(FakeImages::default());
    start_in(dir, api, (runtime, images), evictions)
}

/// Starts an agent with these manifests, by file name.
pub(crate) fn start_static(
    api: FakeApi,
    runtime: Arc<FakeRuntime>,
    manifests: &[(&str, &str)],
) -> World {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let path = dir.path().join(MANIFESTS);
    std::fs::create_dir(&path).unwrap();
    for (name, text) in manifests {
        std::fs::write(path.join(name), text).unwrap();
    }
    let images = Arc::new(FakeImages::default());
    start_in(dir, api, (runtime, images), &Settings::default())
}

fn start_in(
    dir: Arc<tempfile::TempDir>,
    api: FakeApi,
    (runtime, images): (Arc<FakeRuntime>, Arc<FakeImages>),
    evictions: &Settings,
) -> World {
    let volumes = Arc::new(FakeVolumes::new(dir.path().to_owned()));
    let kernel = pipe(&dir.path().join("kmsg"));
    let stop = CancellationToken::new();
    let config = Config {
        evictions: Policy::read(evictions).unwrap(),
        ..config(dir.path().to_owned())
    };
    let kubelet = Kubelet::new(
        config,
        api.client(),
        runtime.clone(),
        images.clone(),
        volumes.clone(),
        Arc::new(FakeClock::new()),
        None,
    );
    let server = kubelet.node_server();
    tokio::spawn(kubelet.run(stop.clone()));
    World {
        api,
        runtime,
        volumes,
        images,
        server,
        kernel,
        stop,
        dir,
    }
}

/// A named pipe, open at both ends so that it has no end.
fn pipe(path: &std::path::Path) -> std::fs::File {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    match rustix::fs::mkfifoat(rustix::fs::CWD, path, mode) {
        Err(rustix::io::Errno::EXIST) | Ok(()) => {}
        Err(error) => panic!("{error}"),
    }
    let mut options = std::fs::File::options();
    options.read(true).write(true).open(path).unwrap()
}

fn config(root: PathBuf) -> Config {
    let ip: IpAddr = "192.0.2.1".parse().unwrap();
    Config {
        node_name: "node".into(),
        log_root: root.join("logs"),
        cluster_domain: "cluster.local".into(),
        cluster_dns: vec!["10.96.0.10".parse().unwrap()],
        max_pods: 110,
        user_ids: kubelet::user_ids("", "", 110),
        capacity: Capacity {
            cpus: 2,
            memory_bytes: 1 << 30,
            storage_bytes: 1 << 30,
            pids: 1 << 15,
            // Of a gibibyte, a sixteenth.
            huge_pages: [(2 << 20, 32), (1 << 30, 0)].into(),
        },
        host_ips: vec![ip],
        pod_ranges: Vec::new(),
        has_lease: false,
        kubelet_port: None,
        resolv_conf: root.join("none"),
        hosts_file: root.join("none"),
        policy: Default::default(),
        evictions: Default::default(),
        verification: Default::default(),
        pod_pids_limit: None,
        single_process_oom_kill: false,
        static_pod_path: Some(root.join(MANIFESTS)).filter(|path| path.is_dir()),
        unsafe_sysctls: Default::default(),
        kernel_log: Some(root.join("kmsg")),
        info: NodeInfo {
            boot_id: "this boot".into(),
            ..NodeInfo::default()
        },
        root,
    }
}

/// A Pod bound to the node, with these fields added to its spec.
pub(crate) fn pod(name: &str, containers: Value, more: Value) -> Value {
    let mut spec = json!({
        "nodeName": "node", "restartPolicy": "Always", "enableServiceLinks": true, "terminationGracePeriodSeconds": 30,
        "containers": containers,
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "n", "uid": format!("uid-{name}"), "generation": 1},
        "spec": spec, "status": {"phase": "Pending", "qosClass": "BestEffort"},
    })
}

/// A container that runs until it is told otherwise.
pub(crate) fn container(name: &str) -> Value {
    json!({"name": name, "image": "busybox:1.36", "imagePullPolicy": "IfNotPresent"})
}
