//! What runs on every node, whether an engine's own or one alone: the node agent, the proxy and the guard, and what keeps effects ready.

use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use ports::clock::SystemClock;
use ports::network::{PodNetwork, Unready};
use ports::node::NodeServer;
use ports::runtime::{ContainerRuntime, Id, SandboxState};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::effects::Effects;
use crate::images::Service;
use crate::images::socket::Socket;
use crate::node;
use crate::settings::Settings;

/// Whom this machine asks about names.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Places kept ready for the next Pods.
const SPARES: usize = 2;

/// What is put together on a node.
pub(crate) struct Agent<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) effects: &'a Effects,
    /// Where commands about images are heard.
    pub(crate) socket: Socket,
    pub(crate) services: network::Services,
    pub(crate) policies: network::Policies,
    pub(crate) firewalls: network::Firewalls,
    /// What only the kind of node decides.
    pub(crate) config: kubelet::Config,
    pub(crate) as_node: kube::Client,
    pub(crate) as_proxy: kube::Client,
}

impl Agent<'_> {
    /// Starts all of it; what it serves to the API server.
    pub(crate) async fn start(
        self,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Arc<dyn NodeServer> {
        let Agent {
            settings, effects, ..
        } = self;
        let (guard, waiting) = proxy::Guard::new(self.as_proxy.clone(), Arc::new(self.policies));
        tasks.spawn(guard.run(shutdown.clone()));
        let agent = kubelet::Kubelet::new(
            self.config,
            self.as_node,
            effects.runtime.clone(),
            effects.images.clone(),
            effects.volumes.clone(),
            Arc::new(SystemClock),
            Some(Arc::new(waiting)),
        )
        .with_drivers(effects.volumes.clone());
        let server = agent.node_server();
        tasks.spawn(agent.run(shutdown.clone()));
        let proxy = proxy::Proxy::new(
            self.as_proxy.clone(),
            Arc::new(self.services),
            &settings.node_name,
        );
        tasks.spawn(proxy.run(shutdown.clone()));
        let ways = Arc::new(effects.network.routes());
        let pathfinder = proxy::Pathfinder::new(self.as_proxy, ways, &settings.node_name);
        tasks.spawn(pathfinder.run(shutdown.clone()));
        let spares = match effects.plugins.are_used() {
            true => 0,
            false => SPARES,
        };
        tasks.spawn(follow_plugins(effects, shutdown.clone()).await);
        tasks.spawn(until(shutdown.clone(), self.firewalls.run()));
        let runtime = effects.runtime.as_ref().clone();
        tasks.spawn(runtime.keep_spares(spares, shutdown.clone().cancelled_owned()));
        let service = Service::new(effects.images.clone(), settings.paths.runtime());
        tasks.spawn(self.socket.serve(service, shutdown.clone()));
        server
    }
}

/// What every node agent here is told.
pub(crate) fn kubelet_config(
    settings: &Settings,
    effects: &Effects,
    cluster_dns: Option<IpAddr>,
) -> kubelet::Config {
    let (state, agent) = (&settings.paths.state, &settings.agent);
    let pod_ranges = effects.network.pod_ranges();
    kubelet::Config {
        node_name: settings.node_name.clone(),
        root: state.join("kubelet"),
        log_root: state.join("log/pods"),
        static_pod_path: agent.static_pod_path.clone(),
        cluster_domain: settings.cluster_domain.clone(),
        cluster_dns: cluster_dns.into_iter().collect(),
        has_lease: false,
        kubelet_port: None,
        max_pods: agent.max_pods,
        user_ids: node::user_ids(agent.max_pods),
        capacity: node::capacity(state),
        host_ips: effects.network.node_ips(),
        pod_ranges: pod_ranges.iter().map(|range| range.to_string()).collect(),
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

/// What goes on until the node is stopped.
async fn until(shutdown: CancellationToken, task: impl Future<Output = ()>) {
    shutdown.run_until_cancelled(task).await;
}

/// Ends every component that was started.
pub(crate) async fn end(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a component failed");
        }
    }
}

/// Returns when the node is Ready; one that waits for its network is as ready as it can be made here.
pub(crate) async fn node_is_up(
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
