//! An engine: every component, wired to the others.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use apiserver::{ApiServer, NameServer, ServiceRange, UserInfo};
use network::{IpRange, Ranges};
use ports::clock::{Clock, SystemClock};
use ports::network::PodNetwork;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::{self, Agent, RESOLV_CONF, node_is_up};
use crate::effects::Effects;
use crate::images::socket::Socket;
use crate::instance::Instance;
use crate::node;
use crate::settings::Settings;

/// First argument of a process that is to be a Pod's pause.
pub(crate) const PAUSE: &str = "pause";
/// Fixed bits of the range of Services, unless told otherwise; of IPv4 and of IPv6.
const SERVICE_BITS: (u8, u8) = (16, 112);

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
        let cluster_dns = served.cluster_dns;
        let pod_ranges = controllers::PodRanges {
            node: settings.node_name.clone(),
            own: effects.network.pod_ranges(),
            services: served.services.ranges(),
            avoid: served.routed,
        };
        let agent = Agent {
            settings,
            effects: &effects,
            socket,
            services: served.services,
            policies: served.policies,
            firewalls: served.firewalls,
            config: agent::kubelet_config(settings, &effects, cluster_dns),
            as_node: client(UserInfo::node(&settings.node_name)),
            as_proxy: client(UserInfo::new("system:kube-proxy", &[])),
        };
        let agent = agent.start(&mut tasks, &shutdown).await;
        api.set_node_server(&settings.node_name, agent);
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
            .with_pod_ranges(pod_ranges)
            .with_directories(Arc::new(volumes::LocalDirectories::new(
                paths.state.join("volumes"),
            )))
            .run(shutdown.clone()),
        );
        let as_dns = client(UserInfo::new("system:kube-dns", &[]));
        let config = dns_config(settings, cluster_dns);
        let name_server = dns::Dns::new(as_dns, served.name_server, config);
        tasks.spawn(name_server.run(shutdown.clone()));
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
        agent::end(&mut self.tasks).await;
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
    /// What the machine has routes to.
    routed: Vec<IpRange>,
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
        let routed = network::routed().context("look for ranges that are in use")?;
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
            routed,
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
