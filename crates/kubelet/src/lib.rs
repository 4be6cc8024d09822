//! The node agent: makes the Pods bound to this node run, and says how they fare.
//!
//! It knows the Kubernetes API through a [`kube::Client`], and Linux through the ports. Every decision about a Pod is taken by the
//! pure functions of `lifecycle`; what is here observes, carries out, and reports.
//!
//! Tasks: the dispatcher ([`Kubelet::run`]) watches Pods, in the API and in a directory of manifests, and hears the runtime's events,
//! and hands all of it to one worker task per Pod UID; the recorder writes Events in order; one part looks at what the node has left, one reads the kernel's log for what memory ran out for; one hears of drivers that mount volumes; one task per probe that is to run makes its attempts and tells the Pod's worker; one task
//! per referenced ConfigMap or Secret watches that single object. Everything is keyed by Pod UID, so a Pod and its successor of the same name never meet.

mod agent;
mod allocations;
mod blocking;
mod claims;
mod config;
mod container;
mod disk;
mod dispatch;
mod door;
mod drivers;
mod env;
mod expand;
mod fields;
mod handlers;
mod hooks;
mod hosts;
pub mod identity;
mod keyring;
mod lease;
mod leaving;
mod links;
mod logs;
mod messages;
mod mounting;
mod mounts;
mod network;
mod node;
mod objects;
mod oom;
mod orphans;
mod pressure;
mod probe;
mod pull;
mod pulls;
mod ranges;
mod reclaim;
mod recorder;
mod records;
mod report;
mod sandbox;
mod security;
mod server;
mod sources;
mod statics;
mod usage;
mod users;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use kube::Client;
use ports::clock::Clock;
use ports::drivers::Drivers;
use ports::images::Images;
use ports::network::Gate;
use ports::node::NodeServer;
use ports::runtime::ContainerRuntime;
use ports::volumes::Volumes;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use agent::{Agent, Views};
use allocations::Allocations;
use events::Poster;
use pulls::KeptPulls;
use users::Users;

pub use config::{Capacity, Config, NodeInfo};
pub use ranges::{pod_ranges, rival};
pub use users::user_ids;

/// A node agent.
pub struct Kubelet {
    agent: Arc<Agent>,
    poster: Poster,
}

impl Kubelet {
    /// An agent for one node. Nothing happens before [`Kubelet::run`]. If there is a gate, Pods with addresses of their own pass it before
    /// anything of them starts.
    pub fn new(
        config: Config,
        client: Client,
        runtime: Arc<dyn ContainerRuntime>,
        images: Arc<dyn Images>,
        volumes: Arc<dyn Volumes>,
        clock: Arc<dyn Clock>,
        gate: Option<Arc<dyn Gate>>,
    ) -> Self {
        let (recorder, poster) =
            recorder::new(client.clone(), config.node_name.clone(), clock.clone());
        let agent = Agent {
            allocatable: node::allocatable(&config),
            allocations: Allocations::new(node::share(&config, None)),
            watches: objects::Watches::new(client.clone()),
            services: RwLock::new(BTreeMap::new()),
            images_changed: Notify::new(),
            views: Views::default(),
            users: Users::new(config.user_ids.clone()),
            // Who is not told to look has nothing to find.
            pressures: watch::Sender::new(
                config.evictions.thresholds.is_empty().then(BTreeSet::new),
            ),
            listed: watch::Sender::new(false),
            removing_image: tokio::sync::RwLock::default(),
            pulls: KeptPulls::new(&config.root),
            config,
            client,
            runtime,
            images,
            volumes,
            drivers: None,
            in_use: drivers::InUse::default(),
            drivers_changed: watch::Sender::new(()),
            clock,
            gate,
            recorder,
        };
        Kubelet {
            agent: Arc::new(agent),
            poster,
        }
    }

    /// Has drivers mount volumes, too. To be called before anything is made of this agent.
    ///
    /// # Panics
    /// If something was.
    #[must_use]
    pub fn with_drivers(mut self, drivers: Arc<dyn Drivers>) -> Self {
        let agent = Arc::get_mut(&mut self.agent);
        agent.expect("nobody shares the agent yet").drivers = Some(drivers);
        self
    }

    /// Logs, exec and attach of this node's containers, for the API server. Works while [`Kubelet::run`] does.
    pub fn node_server(&self) -> Arc<dyn NodeServer> {
        Arc::new(server::Server::new(self.agent.clone()))
    }

    /// Registers the node, adopts what runs, and works until `shutdown`. Containers are left running.
    pub async fn run(self, shutdown: CancellationToken) {
        let (evictor, evictions) = mpsc::unbounded_channel();
        let pressure = pressure::run(self.agent.clone(), evictor, shutdown.clone());
        let oom = oom::run(self.agent.clone(), shutdown.clone());
        let network = network::run(self.agent.clone(), shutdown.clone());
        let lease = lease::run(self.agent.clone(), shutdown.clone());
        let drivers = drivers::run(self.agent.clone(), shutdown.clone());
        let dispatch = dispatch::run(self.agent, evictions, shutdown.clone());
        tokio::join!(
            self.poster.run(shutdown),
            dispatch,
            pressure,
            oom,
            network,
            lease,
            drivers
        );
    }
}
