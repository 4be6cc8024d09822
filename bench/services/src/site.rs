//! Pods and the Services in front of them.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use e2e::engine::Engine;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;

use crate::{at, peer};

/// Requests at once.
const AT_ONCE: usize = 16;
/// Longest wait for one thing to happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at whether a change is in force.
const LOOK: Duration = Duration::from_micros(100);

/// Servers, a client, and Services without selectors that lead to the servers.
pub(crate) struct Site<'e> {
    engine: &'e Engine,
    services: Api<Service>,
    slices: Api<EndpointSlice>,
    /// Addresses of the servers.
    servers: Vec<IpAddr>,
    /// Cluster addresses of the Services.
    addresses: Vec<IpAddr>,
}

impl<'e> Site<'e> {
    /// Starts the Pods.
    pub(crate) async fn build(
        engine: &'e Engine,
        image: &str,
        servers: usize,
    ) -> anyhow::Result<Site<'e>> {
        let client = e2e::client::connect(&engine.kubeconfig()).await?;
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let own = std::env::current_exe()?;
        let names = (0..servers).map(|number| format!("server-{number}"));
        let mut addresses = Vec::new();
        for name in names.chain(["client".to_owned()]) {
            let pod = json!({
                "metadata": {"name": name},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "volumes": [{"name": "bench", "hostPath": {"path": own, "type": "File"}}],
                    "containers": [{
                        "name": "main", "image": image, "command": ["/bench", "serve", peer::PORT.to_string()],
                        "volumeMounts": [{"name": "bench", "mountPath": "/bench"}],
                    }],
                },
            });
            let pod = serde_json::from_value(pod)?;
            pods.create(&PostParams::default(), &pod).await?;
            let running = await_condition(pods.clone(), &name, conditions::is_pod_running());
            tokio::time::timeout(PATIENCE, running).await??;
            let pod = pods.get(&name).await?;
            let address = pod.status.and_then(|status| status.pod_ip);
            addresses.push(address.context("a Pod without an address")?.parse()?);
        }
        addresses.truncate(servers);
        let mut site = Site {
            engine,
            services: Api::default_namespaced(client.clone()),
            slices: Api::default_namespaced(client),
            servers: addresses,
            addresses: Vec::new(),
        };
        // The first is the one that changes.
        let probe = site.service(0).await?;
        site.addresses.push(probe);
        Ok(site)
    }

    /// Adds Services until there are so many beside the one that changes, and waits until the last is in force.
    pub(crate) async fn grow(&mut self, count: usize) -> anyhow::Result<()> {
        let there = self.addresses.len();
        let made = stream::iter(there..=count).map(|number| {
            let site = &*self;
            async move {
                let address = site.service(number).await?;
                site.slice(number).await?;
                anyhow::Ok(address)
            }
        });
        let made: Vec<IpAddr> = made.buffered(AT_ONCE).try_collect().await?;
        self.addresses.extend(made);
        for address in &self.addresses[1..] {
            until(|| Ok(is_reached(*address)?.is_some()))?;
        }
        Ok(())
    }

    /// Has endpoints appear and vanish: how long it is until either is in force.
    pub(crate) async fn changes(
        &self,
        count: usize,
    ) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
        let address = self.addresses[0];
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let began = Instant::now();
            self.slice(0).await?;
            until(|| Ok(is_reached(address)?.is_some()))?;
            begun.push(began.elapsed());
            let began = Instant::now();
            self.slices
                .delete(&name(0), &DeleteParams::default())
                .await?;
            until(|| Ok(is_reached(address)?.is_none()))?;
            ended.push(began.elapsed());
        }
        Ok((begun, ended))
    }

    /// How long connections take, from the node, to a Service and to a Pod, in turn.
    pub(crate) fn connections(
        &self,
        count: usize,
    ) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
        let (mut service, mut pod) = (Vec::new(), Vec::new());
        for _ in 0..count {
            for (times, address) in [&mut service, &mut pod].into_iter().zip(self.ways()) {
                times.push(is_reached(address)?.context("it refuses connections")?);
            }
        }
        Ok((service, pod))
    }

    /// The last Service, and a Pod behind it.
    pub(crate) fn ways(&self) -> [IpAddr; 2] {
        [self.addresses[self.addresses.len() - 1], self.servers[0]]
    }

    /// Bytes in a second that the client gets from there.
    pub(crate) fn transfer(&self, address: IpAddr, seconds: u64) -> anyhow::Result<f64> {
        let (server, seconds) = (at(address).to_string(), seconds.to_string());
        let told = self
            .engine
            .carob(["exec", "client", "--", "/bench", "pull", &server, &seconds])?;
        let rate = told.trim();
        rate.parse().with_context(|| format!("it says {rate:?}"))
    }

    async fn service(&self, number: usize) -> anyhow::Result<IpAddr> {
        let service =
            json!({"metadata": {"name": name(number)}, "spec": {"ports": [{"port": peer::PORT}]}});
        let service = serde_json::from_value(service)?;
        let made = self
            .services
            .create(&PostParams::default(), &service)
            .await?;
        let address = made.spec.and_then(|spec| spec.cluster_ip);
        Ok(address.context("a Service without an address")?.parse()?)
    }

    async fn slice(&self, number: usize) -> anyhow::Result<()> {
        let servers = self.servers.iter();
        let endpoints = servers.map(|address| json!({"addresses": [address]}));
        let slice = json!({
            "metadata": {"name": name(number), "labels": {"kubernetes.io/service-name": name(number)}},
            "addressType": "IPv4",
            "ports": [{"port": peer::PORT}],
            "endpoints": endpoints.collect::<Vec<_>>(),
        });
        let slice = serde_json::from_value(slice)?;
        self.slices.create(&PostParams::default(), &slice).await?;
        Ok(())
    }
}

fn name(number: usize) -> String {
    format!("bench-{number}")
}

/// How long it takes to be connected; `None` if that is refused.
fn is_reached(address: IpAddr) -> anyhow::Result<Option<Duration>> {
    let began = Instant::now();
    match TcpStream::connect_timeout(&at(address), PATIENCE) {
        Ok(_) => Ok(Some(began.elapsed())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error).with_context(|| format!("connect to {address}")),
    }
}

/// The kernel tells nobody when a rule is in force.
fn until(holds: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !holds()? {
        if began.elapsed() > PATIENCE {
            bail!("it does not come about");
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
