//! The probes of one Pod (spec `§5`): which run is decided by `lifecycle`, what they establish is told to the Pod's worker.
//!
//! Each probe that is to run is a task: it sleeps until its [`Prober`] wants an attempt, makes it, and sends what is new. A task
//! ends when its probe is no longer wanted, or when the worker does. Nothing is remembered here that a new agent would miss: it
//! begins with what was reported of a container, and asks anew.

mod attempt;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Probe};
use lifecycle::kinds;
use lifecycle::probe::{Answer, Health, Healths, Kind, Prober, Wanted};
use ports::runtime::Id;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::agent::Agent;

/// Something new that a probe established about a run.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: Id,
    pub(crate) kind: Kind,
    pub(crate) health: Health,
}

/// The probes of a Pod that run now.
pub(crate) struct Probes {
    tasks: BTreeMap<(Id, Kind), AbortOnDropHandle<()>>,
    sender: mpsc::UnboundedSender<Found>,
    found: mpsc::UnboundedReceiver<Found>,
}

/// What a probe's task works with.
struct Job {
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    pod_ips: Vec<IpAddr>,
    wanted: Wanted,
    probe: Probe,
}

/// Whether any container of the Pod has a probe.
pub(crate) fn has_probes(pod: &Pod) -> bool {
    let members = kinds::members(pod);
    let mut kinds = members
        .iter()
        .flat_map(|member| Kind::ALL.map(|kind| kind.of(member.spec)));
    kinds.any(|probe| probe.is_some())
}

impl Probes {
    /// None run yet.
    pub(crate) fn new() -> Self {
        let (sender, found) = mpsc::unbounded_channel();
        Probes {
            tasks: BTreeMap::new(),
            sender,
            found,
        }
    }

    /// Waits for something new.
    pub(crate) async fn next(&mut self) -> Found {
        match self.found.recv().await {
            Some(found) => found,
            // Never: a sender is kept.
            None => std::future::pending().await,
        }
    }

    /// Ends probes that are not wanted and begins those that are. `is_adopted` says which runs were found running by this agent:
    /// their probes begin spread over a period.
    pub(crate) fn follow(
        &mut self,
        wanted: Vec<Wanted>,
        agent: &Arc<Agent>,
        pod: &Arc<Pod>,
        pod_ips: &[IpAddr],
        is_adopted: impl Fn(&Id) -> bool,
    ) {
        let is_wanted = |id: &Id, kind: Kind| wanted.iter().any(|w| w.id == *id && w.kind == kind);
        self.tasks.retain(|(id, kind), _| is_wanted(id, *kind));
        for wanted in wanted {
            let key = (wanted.id.clone(), wanted.kind);
            if self.tasks.contains_key(&key) {
                continue;
            }
            let members = kinds::members(pod);
            let member = members.iter().find(|m| m.name() == wanted.container);
            let Some(probe) = member.and_then(|m| wanted.kind.of(m.spec)) else {
                continue;
            };
            let spread = is_adopted(&wanted.id).then(|| fraction(&wanted.id));
            let job = Job {
                agent: agent.clone(),
                pod: pod.clone(),
                pod_ips: pod_ips.to_vec(),
                probe: probe.clone(),
                wanted,
            };
            let task = tokio::spawn(run(job, spread, self.sender.clone()));
            self.tasks.insert(key, AbortOnDropHandle::new(task));
        }
    }
}

/// Forgets what is known of runs that have no record any more.
pub(crate) fn forget(probes: &mut BTreeMap<Id, Healths>, is_known: impl Fn(&Id) -> bool) {
    probes.retain(|id, _| is_known(id));
}

/// A number between 0 and 1 that differs from id to id.
fn fraction(id: &str) -> f64 {
    let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    f64::from(hash) / f64::from(u32::MAX)
}

async fn run(job: Job, spread: Option<f64>, sender: mpsc::UnboundedSender<Found>) {
    let began = Instant::now();
    let age = job.agent.now().duration_since(job.wanted.started_at);
    let age = Duration::try_from(age).unwrap_or_default();
    let mut prober = Prober::new(job.wanted.kind, &job.probe, age, spread);
    loop {
        tokio::time::sleep_until(began + prober.due()).await;
        let answer = attempt::make(&job).await;
        let taken = prober.take(&answer, began.elapsed());
        if taken.is_told {
            job.tell(&answer);
        }
        let Some(health) = taken.health else { continue };
        let found = Found {
            id: job.wanted.id.clone(),
            kind: job.wanted.kind,
            health,
        };
        if sender.send(found).is_err() {
            return;
        }
    }
}

impl Job {
    fn tell(&self, answer: &Answer) {
        let members = kinds::members(&self.pod);
        let member = members.iter().find(|m| m.name() == self.wanted.container);
        let event = member.and_then(|m| lifecycle::events::probed(m, self.wanted.kind, answer));
        if let Some(event) = event {
            self.agent.recorder.record(&self.pod, event);
        }
    }
}
