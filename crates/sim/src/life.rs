//! Lives of the engine, one after another on the same machine and store, and what its user does meanwhile.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use apiserver::{ApiServer, Router, ServiceRange, UserInfo};
use lifecycle::pressure::{Policy, Settings};
use ports::clock::Clock;
use tokio::runtime::Builder;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::ports_of::Ports;
use crate::story::{self, Stage};
use crate::wire;
use crate::world::{End, Holder, World};

const NODE: &str = "node";

/// Memory of the machine, in bytes.
pub(crate) const MEMORY: u64 = 1 << 30;

/// Lets engines live until all is done or something is broken.
pub(crate) fn live(world: &Arc<World>) -> anyhow::Result<()> {
    let mut down = Duration::ZERO;
    let mut stage = Stage::Acting;
    loop {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .context("start the async runtime")?;
        let end = runtime.block_on(async {
            world.clock.begin(down);
            let end = one_life(world, &mut stage).await;
            world.clock.end();
            end
        });
        match end? {
            Some(after) => down = after,
            None => return Ok(()),
        }
    }
}

/// One engine's life. How long nobody restarts it when it died; `None` when there is nothing more to do.
async fn one_life(world: &Arc<World>, stage: &mut Stage) -> anyhow::Result<Option<Duration>> {
    let holder = world.new_engine();
    world.trace("an engine begins".to_owned());
    tokio::spawn(containers_live(world.clone()));
    tokio::spawn(story::mishaps(world.clone()));
    let mut engine = tokio::select! {
        biased;
        end = ended(world) => return Ok(after(end)),
        engine = Engine::start(world, holder) => engine?,
    };
    let client = wire::client(world, holder, &engine.router, UserInfo::admin("user"));
    let mut story = std::pin::pin!(story::tell(world, client, stage));
    loop {
        let end = tokio::select! {
            biased;
            end = ended(world) => end,
            () = &mut story => return Ok(None),
        };
        if end != End::AgentDied {
            return Ok(after(end));
        }
        engine.new_agent(world);
    }
}

fn after(end: End) -> Option<Duration> {
    match end {
        End::EngineDied(down) => Some(down),
        End::AgentDied | End::Violation => None,
    }
}

async fn ended(world: &World) -> End {
    loop {
        if let Some(end) = world.take_end() {
            world.trace(format!("{end:?}"));
            return end;
        }
        world.ended.notified().await;
    }
}

/// Containers end by themselves, whether an engine lives or not: what ended meanwhile has ended when this begins.
async fn containers_live(world: Arc<World>) {
    loop {
        let next = {
            let passed = world.clock.passed();
            let now = world.clock.now();
            let mut state = world.lock();
            let due = state.machine.due(passed);
            let mut exits = Vec::new();
            for (id, at, code) in due {
                let shown = now.checked_sub(passed.saturating_sub(at)).unwrap_or(now);
                exits.extend(state.machine.end(&id, at, shown, code));
            }
            world.ended_in(&mut state, exits);
            state.machine.next_end()
        };
        let wait = async {
            match next {
                Some(at) => tokio::time::sleep_until(world.clock.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = world.moved.notified() => {}
            () = wait => {}
        }
    }
}

/// The components of one life, wired as the binary wires them.
struct Engine {
    router: Router,
    api: Arc<ApiServer>,
    agent: Option<AbortHandle>,
    tasks: JoinSet<()>,
    /// Nobody asks a component to stop: they die.
    shutdown: CancellationToken,
}

impl Engine {
    async fn start(world: &Arc<World>, holder: Holder) -> anyhow::Result<Engine> {
        let store = store::Store::open(&world.dir.join("store.db")).context("open the store")?;
        let disk = Arc::new(Disk {
            world: world.clone(),
            holder,
            store,
        });
        let api = loop {
            match ApiServer::new(api_config(world)?, disk.clone(), world.clock.clone()).await {
                Ok(api) => break Arc::new(api),
                // A full disk: whoever starts the engine starts it again.
                Err(error) => world.trace(format!("the server does not start: {error}")),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let mut engine = Engine {
            router: api.router(),
            api,
            agent: None,
            tasks: JoinSet::new(),
            shutdown: CancellationToken::new(),
        };
        engine.new_agent(world);
        let client =
            |name: &str| wire::client(world, holder, &engine.router, UserInfo::new(name, &[]));
        let scheduler = scheduler::run(
            client("system:kube-scheduler"),
            world.clock.clone(),
            engine.shutdown.clone(),
        );
        let config = controllers::Config {
            ca_pem: engine.api.ca_certificate().to_owned(),
        };
        let controllers =
            controllers::Controllers::new(client(wire::CONTROLLERS), world.clock.clone(), config);
        engine.tasks.spawn(scheduler);
        engine.tasks.spawn(controllers.run(engine.shutdown.clone()));
        Ok(engine)
    }

    /// Starts an agent, in the place of one that died.
    fn new_agent(&mut self, world: &Arc<World>) {
        if let Some(dead) = self.agent.take() {
            dead.abort();
        }
        let holder = world.new_agent();
        world.trace("an agent begins".to_owned());
        let client = wire::client(world, holder, &self.router, UserInfo::node(NODE));
        let ports = Arc::new(Ports {
            world: world.clone(),
            holder,
        });
        let agent = kubelet::Kubelet::new(
            agent_config(world),
            client,
            ports.clone(),
            ports.clone(),
            ports,
            world.clock.clone(),
            None,
        );
        self.api.set_node_server(NODE, agent.node_server());
        self.agent = Some(self.tasks.spawn(agent.run(self.shutdown.clone())));
    }
}

fn api_config(world: &World) -> anyhow::Result<apiserver::Config> {
    Ok(apiserver::Config {
        state_dir: world.dir.join("pki"),
        address: (Ipv4Addr::LOCALHOST, 6443).into(),
        advertise: None,
        extra_addresses: Vec::new(),
        second_service_range: None,
        service_range: ServiceRange::new(Ipv4Addr::new(10, 96, 0, 0), 24)
            .context("the Service range")?,
        name_server: None,
        cluster_domain: "cluster.local".to_owned(),
    })
}

/// What the node must have left, where the scenario says so.
fn thresholds(world: &World) -> Policy {
    if !world.lock().scenario.has_thresholds {
        return Policy::default();
    }
    let each = |value: &str| {
        let signals = ["memory.available", "nodefs.available"];
        signals
            .map(|signal| (signal.to_owned(), value.to_owned()))
            .into()
    };
    let settings = Settings {
        hard: each("100Mi"),
        soft: each("200Mi"),
        soft_grace_period: each("15s"),
        max_pod_grace_period: i64::try_from(crate::check::SOFT.as_secs()).unwrap_or_default(),
        transition_period: Some("30s".to_owned()),
        ..Settings::default()
    };
    Policy::read(&settings).unwrap_or_default()
}

fn agent_config(world: &World) -> kubelet::Config {
    let root = world.dir.join("agent");
    kubelet::Config {
        node_name: NODE.to_owned(),
        log_root: root.join("logs"),
        cluster_domain: "cluster.local".to_owned(),
        cluster_dns: Vec::new(),
        max_pods: 110,
        user_ids: kubelet::user_ids("", "", 110),
        capacity: kubelet::Capacity {
            cpus: 2,
            memory_bytes: MEMORY,
            storage_bytes: 1 << 30,
            pids: 1 << 15,
            huge_pages: Default::default(),
        },
        host_ips: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
        pod_ranges: Vec::new(),
        has_lease: false,
        kubelet_port: None,
        resolv_conf: root.join("resolv.conf"),
        hosts_file: root.join("hosts"),
        policy: lifecycle::NodePolicy::default(),
        evictions: thresholds(world),
        verification: Default::default(),
        pod_pids_limit: None,
        single_process_oom_kill: false,
        static_pod_path: None,
        unsafe_sysctls: Default::default(),
        kernel_log: None,
        info: kubelet::NodeInfo::default(),
        root,
    }
}
