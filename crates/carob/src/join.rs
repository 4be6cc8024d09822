//! `carob node`: a node of a cluster whose API is served elsewhere, here or detached until it is Ready.

mod cluster;

use std::net::SocketAddr;

use anyhow::{Context, bail};
use cli::{Global, NodeArgs};
use kubelet::identity::{self, Identity, IdentityError};
use ports::network::PodNetwork;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::agent::{self, Agent};
use crate::effects::Effects;
use crate::foreground::{self, Running, absolute};
use crate::images::socket::Socket;
use crate::instance::Instance;
use crate::settings::Settings;
use cluster::Cluster;

/// Runs the node until it is told to end.
pub(crate) fn foreground(settings: &Settings, global: &Global) -> anyhow::Result<()> {
    foreground::run(settings, async |settings, told| {
        Joined::start(settings, global, told).await
    })
}

/// Starts the node in a session of its own and returns once it is Ready.
pub(crate) fn detached(
    settings: &Settings,
    global: &Global,
    args: &NodeArgs,
) -> anyhow::Result<()> {
    let name = foreground::detached(settings, &args.agent, |command| {
        command.arg("node");
        if let Some(path) = &global.kubeconfig {
            command.arg("--kubeconfig").arg(absolute(path)?);
        }
        let port = args.kubelet_port.iter();
        command.args(port.map(|port| format!("--kubelet-port={port}")));
        command.args(
            global
                .context
                .iter()
                .map(|name| format!("--context={name}")),
        );
        Ok(())
    })?;
    eprintln!("node {name} is Ready");
    Ok(())
}

/// A node that runs.
struct Joined {
    server: String,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    effects: Effects,
    _instance: Instance,
}

impl Joined {
    /// Starts everything and returns once the node is Ready, or waits for its network.
    async fn start(
        settings: &Settings,
        global: &Global,
        told: CancellationToken,
    ) -> anyhow::Result<Joined> {
        let paths = &settings.paths;
        let instance = Instance::acquire(&paths.lock())?;
        std::fs::create_dir_all(&paths.state)
            .with_context(|| format!("make {}", paths.state.display()))?;
        let socket = Socket::bind(&paths.run)
            .with_context(|| format!("make the socket below {}", paths.run.display()))?;
        let config = cluster::config(global).await?;
        // Before anything is made on this machine.
        let (own, cluster) = tokio::select! {
            learnt = learn(settings, &config) => learnt?,
            () = told.cancelled() => bail!("interrupted before the server has answered"),
        };
        let settings = &Settings {
            node_ip: cluster.towards,
            pod_ranges: Some(cluster.pod_ranges),
            ..settings.clone()
        };
        let effects = Effects::open(settings).await?;
        let mut joined = Joined {
            server: config.cluster_url.to_string(),
            shutdown: CancellationToken::new(),
            tasks: JoinSet::new(),
            effects,
            _instance: instance,
        };
        let client = own.client.clone();
        if let Err(error) = joined.run(settings, socket, own, &cluster).await {
            joined.give_up(settings).await;
            return Err(error);
        }
        let unready = joined.effects.plugins.readiness();
        let is_up = tokio::select! {
            is_up = agent::node_is_up(client, &settings.node_name, &unready) => is_up,
            () = told.cancelled() => Err(anyhow::anyhow!("interrupted before the node was Ready")),
        };
        if let Err(error) = is_up {
            joined.give_up(settings).await;
            return Err(error);
        }
        Ok(joined)
    }

    async fn run(
        &mut self,
        settings: &Settings,
        socket: Socket,
        own: Own,
        cluster: &Cluster,
    ) -> anyhow::Result<()> {
        let network = &self.effects.network;
        let services = network
            .services(Some(cluster.service_ranges))
            .context("bring the network of Services up")?;
        let policies = network.policies().context("get ready for policies")?;
        let firewalls = network.firewalls()?;
        let config = agent::kubelet_config(settings, &self.effects, cluster.dns);
        let at = SocketAddr::new(config.host_ips[0], settings.kubelet_port);
        let listener = TcpListener::bind(at).await;
        let listener = listener.with_context(|| format!("listen at {at}"))?;
        let served = nodeserver::Config {
            node_name: settings.node_name.clone(),
            addresses: config.host_ips.clone(),
            state_dir: settings.paths.state.join("kubelet/pki"),
            client_ca: cluster.authority.clone(),
        };
        let agent = Agent {
            settings,
            effects: &self.effects,
            socket,
            services,
            policies,
            firewalls,
            config: kubelet::Config {
                has_lease: true,
                kubelet_port: Some(listener.local_addr()?.port()),
                ..config
            },
            as_node: own.client.clone(),
            as_proxy: own.client.clone(),
        };
        let serves = agent.start(&mut self.tasks, &self.shutdown).await;
        let server = nodeserver::Server::new(served, own.client.clone(), serves)
            .context("get ready to serve the node")?;
        self.tasks
            .spawn(server.serve(listener, self.shutdown.clone()));
        if let Some(identity) = own.identity {
            let renewing = identity.renew(own.client, self.shutdown.clone());
            self.tasks.spawn(renewing);
        }
        Ok(())
    }
}

impl Running for Joined {
    fn greeting(&self, settings: &Settings) -> (String, String) {
        let name = settings.node_name.clone();
        let words = format!("node {name} of {} is Ready", self.server);
        (name, words)
    }

    async fn stop(&mut self) {
        self.shutdown.cancel();
        agent::end(&mut self.tasks).await;
    }

    async fn give_up(&mut self, settings: &Settings) {
        self.stop().await;
        self.effects.give_up(settings).await;
    }
}

/// Who the node is to the server.
struct Own {
    client: kube::Client,
    /// Unless the kubeconfig is the node's own already.
    identity: Option<Identity>,
}

/// Asks the server for what has to be known before anything is made.
async fn learn(settings: &Settings, config: &kube::Config) -> anyhow::Result<(Own, Cluster)> {
    let own = who(settings, config).await?;
    let cluster = Cluster::ask(&own.client, config, settings).await?;
    Ok((own, cluster))
}

/// The node's own identity: the kubeconfig's user if it is the node, else the one that was kept if the server still knows it, else a new
/// one.
async fn who(settings: &Settings, config: &kube::Config) -> anyhow::Result<Own> {
    let name = &settings.node_name;
    let path = settings.paths.state.join("pki/kubelet-client.pem");
    if let Some(kept) = Identity::kept(&path, name, jiff::Timestamp::now())? {
        let client = kept.client(config)?;
        match identity::who_am_i(&client).await {
            Ok(user) if user == identity::user_of(name) => return Ok(own(client, kept)),
            Err(error) if !is_unknown(&error) => return Err(error.into()),
            _ => tracing::info!(
                "the server does not know the node's certificate; asking for another"
            ),
        }
    }
    let asker = kube::Client::try_from(config.clone()).context("use the kubeconfig")?;
    if identity::who_am_i(&asker).await? == identity::user_of(name) {
        return Ok(Own {
            client: asker,
            identity: None,
        });
    }
    let new = Identity::asked_for(&asker, &path, name).await?;
    Ok(own(new.client(config)?, new))
}

fn own(client: kube::Client, identity: Identity) -> Own {
    Own {
        client,
        identity: Some(identity),
    }
}

/// Whether the server answered that it does not know who asks.
fn is_unknown(error: &IdentityError) -> bool {
    let IdentityError::Api { source, .. } = error else {
        return false;
    };
    matches!(&**source, kube::Error::Api(status) if matches!(status.code, 401 | 403))
}
