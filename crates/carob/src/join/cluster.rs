//! What a node has to know of its cluster before it starts.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};
use cli::Global;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use network::Ranges;
use pem::Pem;
use tokio::net::UdpSocket;

use crate::effects::network_config;
use crate::settings::Settings;

/// Facts of a cluster.
pub(super) struct Cluster {
    /// Where the node's Pods have their addresses.
    pub(super) pod_ranges: Ranges,
    /// Where Services have theirs.
    pub(super) service_ranges: Ranges,
    /// Where Pods reach the name server, if there is one.
    pub(super) dns: Option<IpAddr>,
    /// The certificates, in PEM, of who signs for clients of the API, the API server among them.
    pub(super) authority: String,
    /// The address by which this machine reaches the server, unless that is here.
    pub(super) towards: Option<IpAddr>,
}

/// How the server is reached, from the file that was named.
pub(super) async fn config(global: &Global) -> anyhow::Result<kube::Config> {
    let Some(path) = &global.kubeconfig else {
        bail!("carob node needs --kubeconfig FILE: how to reach the cluster, and as whom");
    };
    let file = Kubeconfig::read_from(path)
        .with_context(|| format!("error loading config file \"{}\"", path.display()))?;
    let options = KubeConfigOptions {
        context: global.context.clone(),
        ..KubeConfigOptions::default()
    };
    kube::Config::from_custom_kubeconfig(file, &options)
        .await
        .context("invalid kubeconfig")
}

impl Cluster {
    /// Asks the server.
    pub(super) async fn ask(
        client: &kube::Client,
        config: &kube::Config,
        settings: &Settings,
    ) -> anyhow::Result<Cluster> {
        Ok(Cluster {
            pod_ranges: pod_ranges(client, settings).await?,
            service_ranges: service_ranges(client).await?,
            dns: dns(client).await?,
            authority: authority(config)?,
            towards: towards(config).await?,
        })
    }
}

/// Those that the node had before, if nobody else has them now, or those that it is given.
async fn pod_ranges(client: &kube::Client, settings: &Settings) -> anyhow::Result<Ranges> {
    let name = &settings.node_name;
    if let Some(kept) = network::kept_ranges(&network_config(settings))? {
        let overlaps = |other: &str| other.parse().is_ok_and(|other| kept.overlaps(other));
        let rival = kubelet::rival(client, name, overlaps).await;
        if let Some((node, range)) = rival.context("ask for the ranges of other nodes")? {
            bail!(
                "node {node} has range {range}, where Pods of this node have addresses ({kept}); `carob down --all` ends those"
            );
        }
        return Ok(kept);
    }
    let given = kubelet::pod_ranges(client, name).await;
    let text = given.context("register the node")?.join(",");
    let given: Ranges = text
        .parse()
        .with_context(|| format!("the node was given {text:?} for its Pods"))?;
    let mut routed = network::routed()?.into_iter();
    if let Some(taken) = routed.find(|routed| given.overlaps((*routed).into())) {
        bail!(
            "the node was given {given} for its Pods, but this machine has a route to {taken}; delete node {name} once that has gone"
        );
    }
    Ok(given)
}

/// The ranges every cluster has an object of.
async fn service_ranges(client: &kube::Client) -> anyhow::Result<Ranges> {
    let ranges = Api::<ServiceCIDR>::all(client.clone())
        .get("kubernetes")
        .await
        .context("ask for the ranges of Services")?;
    let cidrs = ranges.spec.unwrap_or_default().cidrs.unwrap_or_default();
    let text = cidrs.join(",");
    text.parse()
        .with_context(|| format!("the cluster serves Services at {text:?}"))
}

/// The address of the Service of names, as kubeadm and engines call it.
async fn dns(client: &kube::Client) -> anyhow::Result<Option<IpAddr>> {
    let services = Api::<Service>::namespaced(client.clone(), "kube-system");
    let found = services.get_opt("kube-dns").await;
    let found = found.context("ask for the Service of names")?;
    let spec = found.and_then(|service| service.spec);
    let address = spec.and_then(|spec| spec.cluster_ip);
    Ok(address.and_then(|address| address.parse().ok()))
}

/// The authority that the kubeconfig trusts, which signs for the API server as a client, too.
fn authority(config: &kube::Config) -> anyhow::Result<String> {
    let trusted = config.root_cert.iter().flatten();
    let trusted: Vec<Pem> = trusted
        .map(|der| Pem::new("CERTIFICATE", der.as_slice()))
        .collect();
    if trusted.is_empty() {
        bail!(
            "the kubeconfig names no certificate-authority, by which the API server would be known here"
        );
    }
    Ok(pem::encode_many(&trusted))
}

/// The kernel tells by which address it would send; nothing is sent.
async fn towards(config: &kube::Config) -> anyhow::Result<Option<IpAddr>> {
    let url = &config.cluster_url;
    let host = url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(443);
    let mut found = tokio::net::lookup_host((host, port))
        .await
        .with_context(|| format!("find {host}"))?;
    let server = found.next().with_context(|| format!("find {host}"))?;
    let any: SocketAddr = match server.is_ipv4() {
        true => ([0; 4], 0).into(),
        false => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    let sends = socket.connect(server).await;
    sends.with_context(|| format!("find a way to {server}"))?;
    let ip = socket.local_addr()?.ip();
    Ok((!ip.is_loopback()).then_some(ip))
}
