//! An engine: every component, wired to the others.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use apiserver::{ApiServer, NameServer, ServiceRange, UserInfo};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use network::{IpRange, Ranges};
use ports::clock::{Clock, SystemClock};
use ports::network::{PodNetwork, Unready};
use ports::runtime::{ContainerRuntime, Id, SandboxState};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::effects::Effects;
use crate::images::Service;
use crate::images::socket::Socket;
use crate::instance::Instance;
use crate::node;
use crate::settings::Settings;

/// First argument of a process that is to be a Pod's pause.
pub(crate) const PAUSE: &str = "pause";
/// Fixed bits of the range of Services, unless told otherwise; of IPv4 and of IPv6.
const SERVICE_BITS: (u8, u8) = (16, 112);
/// Whom this machine asks about names.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Places kept ready for the next Pods.
const SPARES: usize = 2;

/// A running engine.
pub(crate) struct Engine {
    address: SocketAddr,
    api: Arc<ApiServer>,
    store: Arc<store::Store>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    effects: Effects,
    _instance: Instance,
}

impl Engine {
    /// Starts everything and returns once the node is Ready, or waits for its network, and the API is served.
    pub(crate) async fn start(settings: &Settings) -> anyhow::Result<Engine> {
        let paths = &settings.paths;
        let instance = Instance::acquire(&paths.lock())?;
        // First what changes nothing but files below the root: most of what can fail does so here.
        std::fs::create_dir_all(&paths.state)
            .with_context(|| format!("make {}", paths.state.display()))?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("listen at {}", settings.listen))?;
        let address = listener.local_addr()?;
        let store =
            Arc::new(store::Store::open(&paths.state.join("store.db")).context("open the store")?);
        let socket = Socket::bind(&paths.run)
            .with_context(|| format!("make the socket below {}", paths.run.display()))?;
        let effects = Effects::open(settings).await?;
        let served = match Served::start(settings, address, &store, &effects).await {
            Ok(served) => served,
            Err(error) => {
                effects.give_up(settings).await;
                return Err(error);
            }
        };
        let (api, clock) = (served.api, served.clock);

        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let client = |user: UserInfo| kube::Client::new(api.router().with_user(user), "default");
        let as_proxy = client(UserInfo::new("system:kube-proxy", &[]));
        let (guard, waiting) = proxy::Guard::new(as_proxy.clone(), Arc::new(served.policies));
        tasks.spawn(guard.run(shutdown.clone()));
        let agent = kubelet::Kubelet::new(
            kubelet_config(settings, &effects.network.node_ips(), served.cluster_dns),
            client(UserInfo::node(&settings.node_name)),
            effects.runtime.clone(),
            effects.images.clone(),
            effects.volumes.clone(),
            clock.clone(),
            Some(Arc::new(waiting)),
        )
        .with_drivers(effects.volumes.clone());
        api.set_node_server(&settings.node_name, agent.node_server());
        tasks.spawn(agent.run(shutdown.clone()));
        let as_scheduler = client(UserInfo::new("system:kube-scheduler", &[]));
        tasks.spawn(scheduler::run(
            as_scheduler,
            clock.clone(),
            shutdown.clone(),
        ));
        let controllers = controllers::Config {
            ca_pem: api.ca_certificate().to_owned(),
        };
        tasks.spawn(
            controllers::Controllers::new(
                client(UserInfo::new("system:kube-controller-manager", &[])),
                clock,
                controllers,
            )
            .with_authority(api.authority())
            .with_directories(Arc::new(volumes::LocalDirectories::new(
                paths.state.join("volumes"),
            )))
            .run(shutdown.clone()),
        );
        let services = Arc::new(served.services);
        tasks.spawn(
            proxy::Proxy::new(as_proxy, services, &settings.node_name).run(shutdown.clone()),
        );
        let as_dns = client(UserInfo::new("system:kube-dns", &[]));
        let config = dns_config(settings, served.cluster_dns);
        let name_server = dns::Dns::new(as_dns, served.name_server, config);
        tasks.spawn(name_server.run(shutdown.clone()));
        let spares = match effects.plugins.are_used() {
            true => 0,
            false => SPARES,
        };
        tasks.spawn(follow_plugins(&effects, shutdown.clone()).await);
        tasks.spawn(until(shutdown.clone(), served.firewalls.run()));
        let runtime = effects.runtime.as_ref().clone();
        tasks.spawn(runtime.keep_spares(spares, shutdown.clone().cancelled_owned()));
        let service = Service::new(effects.images.clone(), paths.runtime());
        tasks.spawn(socket.serve(service, shutdown.clone()));
        for listener in [Some(listener), served.for_pods].into_iter().flatten() {
            let serving = (api.clone(), shutdown.clone());
            tasks
                .spawn(async move { serving.0.serve(listener, serving.1.cancelled_owned()).await });
        }

        let node = client(UserInfo::node(&settings.node_name));
        let mut engine = Engine {
            address,
            api,
            store,
            shutdown,
            tasks,
            effects,
            _instance: instance,
        };
        let unready = engine.effects.plugins.readiness();
        if let Err(error) = node_is_up(node, &settings.node_name, &unready).await {
            engine.give_up(settings).await;
            return Err(error);
        }
        Ok(engine)
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

    /// Ends it as if it had not been started.
    pub(crate) async fn give_up(&mut self, settings: &Settings) {
        self.stop().await;
        self.effects.give_up(settings).await;
    }

    /// Ends every component; containers go on.
    pub(crate) async fn stop(&mut self) {
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

/// The API, and what it needs to be reached.
struct Served {
    api: Arc<ApiServer>,
    clock: Arc<dyn Clock>,
    services: network::Services,
    policies: network::Policies,
    firewalls: network::Firewalls,
    /// Where Pods reach it, unless it listens everywhere.
    for_pods: Option<TcpListener>,
    name_server: dns::Sockets,
    /// Where Pods reach the name server.
    cluster_dns: Option<IpAddr>,
}

impl Served {
    async fn start(
        settings: &Settings,
        address: SocketAddr,
        store: &Arc<store::Store>,
        effects: &Effects,
    ) -> anyhow::Result<Served> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // The addresses of Services are from the range of the first start, whatever is free by now.
        let services = effects
            .network
            .services(wanted_ranges(settings, store.as_ref()))
            .context("bring the network of Services up")?;
        let policies = effects
            .network
            .policies()
            .context("get ready for policies")?;
        let firewalls = effects.network.firewalls()?;
        let gateway = effects.network.gateways()[0];
        let advertise = SocketAddr::new(gateway, address.port());
        // Who listens everywhere in IPv6 listens in IPv4 as well, but not the other way round.
        let is_everywhere = address.ip().is_unspecified();
        let for_pods = match is_everywhere && (address.is_ipv6() || gateway.is_ipv4()) {
            true => None,
            false => Some(
                TcpListener::bind(advertise)
                    .await
                    .with_context(|| format!("listen at {advertise}"))?,
            ),
        };
        let name_server = dns::Sockets::bind(gateway)
            .await
            .with_context(|| format!("answer questions about names at {gateway}"))?;
        let mut config = api_config(settings, address, advertise, services.ranges())?;
        config.name_server = Some(NameServer {
            udp: name_server.udp_address(),
            tcp: name_server.tcp_address(),
        });
        let api = ApiServer::new(config, store.clone(), clock.clone())
            .await
            .context("start the API server")?;
        let api = Arc::new(api);
        // Whoever uses it already waits until the API is served.
        let path = &settings.paths.kubeconfig;
        api.write_kubeconfig(path)
            .with_context(|| format!("write {}", path.display()))?;
        Ok(Served {
            api,
            clock,
            services,
            policies,
            firewalls,
            for_pods,
            name_server,
            cluster_dns: ApiServer::dns_address(store.as_ref()),
        })
    }
}

/// The ranges of Services that are asked for; what is left open is as at the last start.
fn wanted_ranges(settings: &Settings, store: &store::Store) -> Option<Ranges> {
    let kept = kept_ranges(store);
    let Some(asked) = settings.service_ranges else {
        return kept;
    };
    let second = asked.secondary().or(kept.and_then(Ranges::secondary));
    Ranges::new(asked.primary(), second).or(Some(asked))
}

/// The ranges of Services of the last start; before the engine wrote them down, there was one of the usual size.
fn kept_ranges(store: &store::Store) -> Option<Ranges> {
    let kept = ApiServer::service_ranges(store).join(",").parse().ok();
    kept.or_else(|| {
        let first = ApiServer::kubernetes_address(store)?;
        let bits = match first.is_ipv4() {
            true => SERVICE_BITS.0,
            false => SERVICE_BITS.1,
        };
        IpRange::new(first, bits).map(Ranges::from)
    })
}

/// Looks after the Pods that plugins attached, and follows where those are configured.
async fn follow_plugins(
    effects: &Effects,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let sandboxes = effects.runtime.list_sandboxes(None).await;
    let running = sandboxes
        .into_iter()
        .filter(|sandbox| sandbox.state == SandboxState::Ready);
    let running: Vec<Id> = running.map(|sandbox| sandbox.id).collect();
    let plugins = effects.plugins.clone();
    until(shutdown, async move { plugins.run(&running).await })
}

/// What goes on until the engine stops.
async fn until(shutdown: CancellationToken, task: impl Future<Output = ()>) {
    shutdown.run_until_cancelled(task).await;
}

/// Returns when the node is Ready; one that waits for its network is as ready as the engine can make it.
async fn node_is_up(
    client: kube::Client,
    name: &str,
    unready: &watch::Receiver<Unready>,
) -> anyhow::Result<()> {
    let nodes = kube::Api::<Node>::all(client);
    let mut seen = std::pin::pin!(watcher::watch_object(nodes, name).default_backoff());
    while let Some(node) = seen.next().await {
        let Some(node) = node.ok().flatten() else {
            continue;
        };
        if is_ready(&node) {
            return Ok(());
        }
        if let Some(why) = unready.borrow().as_deref() {
            tracing::warn!(why, "the node is up, but not Ready");
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

fn api_config(
    settings: &Settings,
    address: SocketAddr,
    advertise: SocketAddr,
    services: Ranges,
) -> anyhow::Result<apiserver::Config> {
    let range = |range: IpRange| {
        ServiceRange::new(range.base(), range.prefix())
            .with_context(|| format!("{range} is no range for Services"))
    };
    Ok(apiserver::Config {
        state_dir: settings.paths.state.join("pki"),
        address,
        advertise: Some(advertise),
        extra_addresses: Vec::new(),
        service_range: range(services.primary())?,
        second_service_range: services.secondary().map(range).transpose()?,
        name_server: None,
        cluster_domain: settings.cluster_domain.clone(),
    })
}

fn dns_config(settings: &Settings, cluster_dns: Option<IpAddr>) -> dns::Config {
    let own = cluster_dns.map(|ip| SocketAddr::new(ip, 53));
    dns::Config {
        domain: settings.cluster_domain.clone(),
        own: own.into_iter().collect(),
        upstreams: Box::new(|| dns::Upstreams::parse(&node::read(RESOLV_CONF))),
    }
}

fn kubelet_config(
    settings: &Settings,
    host_ips: &[IpAddr],
    cluster_dns: Option<IpAddr>,
) -> kubelet::Config {
    let (state, agent) = (&settings.paths.state, &settings.agent);
    kubelet::Config {
        node_name: settings.node_name.clone(),
        root: state.join("kubelet"),
        log_root: state.join("log/pods"),
        static_pod_path: agent.static_pod_path.clone(),
        cluster_domain: settings.cluster_domain.clone(),
        cluster_dns: cluster_dns.into_iter().collect(),
        max_pods: agent.max_pods,
        user_ids: node::user_ids(agent.max_pods),
        capacity: node::capacity(state),
        host_ips: host_ips.to_vec(),
        resolv_conf: RESOLV_CONF.into(),
        hosts_file: "/etc/hosts".into(),
        policy: agent.policy.clone(),
        evictions: agent.evictions.clone(),
        verification: agent.verification.clone(),
        pod_pids_limit: agent.pod_pids_limit,
        single_process_oom_kill: agent.single_process_oom_kill,
        unsafe_sysctls: agent.unsafe_sysctls.clone(),
        kernel_log: Some("/dev/kmsg".into()),
        info: node::info(),
    }
}
