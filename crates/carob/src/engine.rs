//! An engine: every component, wired to the others.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use apiserver::{ApiServer, ServiceRange, UserInfo};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use ports::clock::{Clock, SystemClock};
use ports::network::PodNetwork;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::images::Service;
use crate::images::socket::Socket;
use crate::instance::Instance;
use crate::node;
use crate::settings::Settings;

/// First argument of a process that is to be a Pod's pause.
pub(crate) const PAUSE: &str = "pause";
/// Most Pods of a node. Upstream's 110 is a default for machines that are one of many.
const MAX_PODS: u32 = 1000;

/// A running engine.
pub(crate) struct Engine {
    address: SocketAddr,
    api: Arc<ApiServer>,
    store: Arc<store::Store>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    _instance: Instance,
}

/// The effects of one engine, opened.
pub(crate) struct Effects {
    pub(crate) network: Arc<network::Network>,
    pub(crate) images: Arc<::images::Store>,
    pub(crate) volumes: Arc<volumes::LocalVolumes>,
    pub(crate) runtime: Arc<runtime::Runtime>,
}

impl Effects {
    /// Opens everything that touches the machine, and finds the Pods an earlier engine left running.
    pub(crate) async fn open(settings: &Settings) -> anyhow::Result<Effects> {
        let paths = &settings.paths;
        // First what only reads files: when it fails, nothing was made.
        let images = Arc::new(open_images(settings)?);
        let network_config = network_config(settings);
        let network = tokio::task::spawn_blocking(move || network::Network::open(&network_config))
            .await?
            .context("bring the Pod network up")?;
        let network = Arc::new(network);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let volumes = Arc::new(volumes::LocalVolumes::new(
            paths.state.join("kubelet"),
            clock,
        ));
        let config = runtime::Config {
            state_dir: paths.runtime(),
            run_dir: paths.run.join("pods"),
            cgroup_root: network.bridge().to_owned(),
            pause: runtime::PauseCommand {
                program: std::env::current_exe().context("find this program")?,
                args: vec![PAUSE.into()],
            },
        };
        let runtime = Arc::new(
            runtime::Runtime::new(config, images.clone(), network.clone())
                .context("set the runtime up")?,
        );
        runtime.recover().await.context("find running Pods again")?;
        Ok(Effects {
            network,
            images,
            volumes,
            runtime,
        })
    }
}

/// Opens the image store, which one process holds at a time.
pub(crate) fn open_images(settings: &Settings) -> anyhow::Result<::images::Store> {
    ::images::Store::open(&settings.paths.state.join("images"), hosts_config(settings))
        .context("open the image store")
}

/// Where registries are, and who we are to them.
fn hosts_config(settings: &Settings) -> ::images::HostsConfig {
    let directory = std::env::var_os("DOCKER_CONFIG").map(std::path::PathBuf::from);
    let directory = directory.or_else(|| Some(std::env::home_dir()?.join(".docker")));
    let docker_config = directory.map(|directory| directory.join("config.json"));
    ::images::HostsConfig {
        certs_dir: Some(settings.paths.certs_d.clone()),
        docker_config,
        ..::images::HostsConfig::default()
    }
}

/// How the Pod network is to be.
pub(crate) fn network_config(settings: &Settings) -> network::Config {
    network::Config {
        state_dir: settings.paths.network(),
        bridge: settings.bridge.clone(),
        pod_range: settings.pod_range,
    }
}

impl Engine {
    /// Starts everything and returns once the node is Ready and the API is served.
    pub(crate) async fn start(settings: &Settings) -> anyhow::Result<Engine> {
        let paths = &settings.paths;
        let instance = Instance::acquire(&paths.lock())?;
        std::fs::create_dir_all(&paths.state)
            .with_context(|| format!("make {}", paths.state.display()))?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("listen at {}", settings.listen))?;
        let address = listener.local_addr()?;
        let store =
            Arc::new(store::Store::open(&paths.state.join("store.db")).context("open the store")?);
        let effects = Effects::open(settings).await?;
        let socket = Socket::bind(&paths.run)
            .with_context(|| format!("make the socket below {}", paths.run.display()))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let api = Arc::new(
            ApiServer::new(api_config(settings, address)?, store.clone(), clock.clone())
                .await
                .context("start the API server")?,
        );

        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let client = |user: UserInfo| kube::Client::new(api.router().with_user(user), "default");
        let agent = kubelet::Kubelet::new(
            kubelet_config(settings, &effects.network.node_ips()),
            client(UserInfo::node(&settings.node_name)),
            effects.runtime.clone(),
            effects.images.clone(),
            effects.volumes.clone(),
            clock,
        );
        api.set_node_server(agent.node_server());
        tasks.spawn(agent.run(shutdown.clone()));
        tasks.spawn(
            scheduler::Scheduler::new(client(UserInfo::new("system:kube-scheduler", &[])))
                .run(shutdown.clone()),
        );
        let controllers = controllers::Config {
            ca_pem: api.ca_certificate().to_owned(),
        };
        tasks.spawn(
            controllers::Controllers::new(
                client(UserInfo::new("system:kube-controller-manager", &[])),
                controllers,
            )
            .run(shutdown.clone()),
        );
        let service = Service::new(effects.images.clone(), paths.runtime());
        tasks.spawn(socket.serve(service, shutdown.clone()));
        let serving = (api.clone(), shutdown.clone());
        tasks.spawn(async move { serving.0.serve(listener, serving.1.cancelled_owned()).await });

        node_is_ready(
            client(UserInfo::node(&settings.node_name)),
            &settings.node_name,
        )
        .await?;
        api.write_kubeconfig(&paths.kubeconfig)
            .with_context(|| format!("write {}", paths.kubeconfig.display()))?;
        Ok(Engine {
            address,
            api,
            store,
            shutdown,
            tasks,
            _instance: instance,
        })
    }

    /// Where the API is served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The administrator, without a connection.
    pub(crate) fn client(&self) -> kube::Client {
        let user = UserInfo::admin("kubernetes-admin");
        kube::Client::new(self.api.router().with_user(user), "default")
    }

    /// Ends every component; containers go on.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.api.stop();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a component failed");
            }
        }
        let store = self.store.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "the store did not close");
        }
    }
}

async fn node_is_ready(client: kube::Client, name: &str) -> anyhow::Result<()> {
    let nodes = kube::Api::<Node>::all(client);
    let mut seen = std::pin::pin!(watcher::watch_object(nodes, name).default_backoff());
    while let Some(node) = seen.next().await {
        if node.ok().flatten().is_some_and(|node| is_ready(&node)) {
            return Ok(());
        }
    }
    anyhow::bail!("the node's watch ended before the node was Ready")
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn api_config(settings: &Settings, address: SocketAddr) -> anyhow::Result<apiserver::Config> {
    let range = settings.service_range;
    Ok(apiserver::Config {
        state_dir: settings.paths.state.join("pki"),
        address,
        advertise: None,
        extra_addresses: Vec::new(),
        service_range: ServiceRange::new(range.base(), range.prefix())
            .context("the Service range must have between 8 and 30 fixed bits")?,
        cluster_domain: settings.cluster_domain.clone(),
    })
}

fn kubelet_config(settings: &Settings, host_ips: &[IpAddr]) -> kubelet::Config {
    let state = &settings.paths.state;
    kubelet::Config {
        node_name: settings.node_name.clone(),
        root: state.join("kubelet"),
        log_root: state.join("log/pods"),
        cluster_domain: settings.cluster_domain.clone(),
        cluster_dns: node::name_servers(),
        max_pods: MAX_PODS,
        capacity: node::capacity(state),
        host_ips: host_ips.to_vec(),
        resolv_conf: "/etc/resolv.conf".into(),
        hosts_file: "/etc/hosts".into(),
        policy: lifecycle::NodePolicy::default(),
        info: node::info(),
    }
}
