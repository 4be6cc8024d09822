//! One Pod's worker: observes, asks `lifecycle` what to do, does it, reports, and sleeps until something happens.
//!
//! It is one task with an inbox. Steps of a plan run one after another as a future the worker holds (dropping it abandons the
//! step, which is how a deletion cuts a pull short); stops run beside them; the status write is a third, so that nothing waits for
//! it but what must: a restart waits until the exit before it was stored, and the final DELETE until the final status was. How soon
//! a change is written is [`pace`]'s to say.
//! What is reported is computed from the worker's own last report, not from the API's answer, so writes can be late but never
//! contradict each other.

mod hearing;
mod mirror;
mod pace;
mod perform;
mod reporting;
mod resize;
mod stops;
mod storage;
mod volumes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use lifecycle::storage::Usage;
use lifecycle::{Eviction, NodePolicy, Observed, Plan, Step, VolumesSeen, WorkerPhase};
use ports::runtime::{ContainerStatus, Id, RuntimeEvent, SandboxStatus};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, View};
use crate::mounting::SetUp;
use crate::objects::Subscription;
use crate::probe::{self, Found, Probes};
use crate::records::Records;
use crate::report::Written;
use crate::sources::Tokens;

use mirror::Face;
use pace::Pace;
use perform::Done;
use storage::Measuring;

/// How long a failed stop waits before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// The Pod was added or changed.
    Pod(Box<Pod>),
    /// The Pod left the API; its last state.
    Gone,
    /// What stands for a static Pod in the API now.
    Mirror(Option<Box<Pod>>),
    /// A static Pod is to end: its manifest is gone, or another.
    End,
    /// The node will not have it any longer.
    Evict(Box<Eviction>),
    /// Something happened in the runtime.
    Runtime(RuntimeEvent),
    /// The runtime's records, listed after events were missed.
    Records(Vec<SandboxStatus>, Vec<ContainerStatus>),
}

/// The volumes of the Pod as the worker knows them.
#[derive(Default)]
struct Mounted {
    paths: Arc<BTreeMap<String, PathBuf>>,
    tokens: Tokens,
    failures: u32,
    /// Since when nothing is waited for but that volumes are attached.
    waits_since: Option<Timestamp>,
}

/// A Pod's worker.
pub(crate) struct Worker {
    agent: Arc<Agent>,
    inbox: mpsc::UnboundedReceiver<Message>,
    uid: String,
    pod_dir: Option<PathBuf>,
    /// The Pod as the API or its manifest has it, but with the status the worker reported last.
    pod: Arc<Pod>,
    face: Face,
    records: Records,
    seen: Observed,
    mounted: Mounted,
    /// Objects that volumes are made from.
    volume_objects: Vec<Subscription>,
    /// Objects that a failed start waits for.
    start_objects: Vec<Subscription>,
    queue: VecDeque<Step>,
    current: Option<BoxFuture<'static, Done>>,
    /// The run that is being started, with its `postStart` hook.
    starting: Option<(String, u32)>,
    /// What is being started takes the place of a run that was stopped for that.
    replaces: bool,
    /// `preStop` hooks that run.
    hooks: FuturesUnordered<BoxFuture<'static, Id>>,
    stops: FuturesUnordered<BoxFuture<'static, Id>>,
    /// Cancelled when the Pod is to end.
    ending: CancellationToken,
    probes: Probes,
    has_probes: bool,
    /// Something of it is limited that has to be measured.
    is_measured: bool,
    /// Runs that were found running when this worker began.
    adopted: BTreeSet<Id>,
    refresh: Option<BoxFuture<'static, SetUp>>,
    /// Something has changed since the refresh under way began.
    refreshes_again: bool,
    measuring: Measuring,
    writing: Option<BoxFuture<'static, Written>>,
    /// What the API holds.
    stored: Arc<PodStatus>,
    /// What the API refused to hold.
    refused: Option<Arc<PodStatus>>,
    pace: Pace,
    /// When a status that is held back may be written.
    report_at: Option<Instant>,
    wake_at: Option<Timestamp>,
    /// Changes when there is another answer to what the Pod asked the node for.
    room: watch::Receiver<()>,
    /// Changes when a driver of storage comes or goes.
    drivers: watch::Receiver<()>,
    /// It has asked the node for another size.
    has_asked: bool,
    /// What it was allocated is given back.
    has_left: bool,
    finished: bool,
}

enum Event {
    Message(Option<Message>),
    Probed(Found),
    Done(Box<Done>),
    Hooked(Id),
    Stopped(Id),
    Refreshed(SetUp),
    Measured(Usage),
    /// It is time to measure.
    Measure,
    Written(Written),
    VolumeObject,
    StartObject,
    Timer,
    /// A status that was held back may be written.
    Report,
    /// Other Pods were allocated more or less.
    Room,
}

impl Worker {
    /// A worker for a Pod, with the records the runtime has of it.
    pub(crate) fn new(
        agent: Arc<Agent>,
        pod: Pod,
        records: Records,
        inbox: mpsc::UnboundedReceiver<Message>,
    ) -> Self {
        let pod = Arc::new(pod);
        let stored = Arc::new(pod.status.clone().unwrap_or_default());
        let face = Face::of(&pod);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        // Until it has looked, what was reported holds: logs can be read from the first moment.
        agent.views.publish(
            &uid,
            View {
                pod: pod.clone(),
                status: (*stored).clone(),
                containers: records.containers.clone(),
                mirror: None,
            },
        );
        let room = agent.allocations.changes();
        let drivers = agent.drivers_changed.subscribe();
        Worker {
            uid,
            seen: Observed {
                host_ips: agent.config.host_ips.clone(),
                ..Observed::default()
            },
            has_probes: probe::has_probes(&pod),
            is_measured: lifecycle::storage::is_limited(&pod),
            adopted: records.containers.iter().map(|c| c.id.clone()).collect(),
            probes: Probes::new(),
            agent,
            inbox,
            pod_dir: None,
            pod,
            face,
            records,
            mounted: Mounted::default(),
            volume_objects: Vec::new(),
            start_objects: Vec::new(),
            queue: VecDeque::new(),
            current: None,
            starting: None,
            replaces: false,
            hooks: FuturesUnordered::new(),
            stops: FuturesUnordered::new(),
            ending: CancellationToken::new(),
            refresh: None,
            refreshes_again: false,
            measuring: Measuring::default(),
            writing: None,
            stored,
            refused: None,
            pace: Pace::new(Instant::now()),
            report_at: None,
            wake_at: None,
            room,
            drivers,
            has_asked: false,
            has_left: false,
            finished: false,
        }
    }

    /// The Pod it was made for.
    pub(crate) fn pod(&self) -> Arc<Pod> {
        self.pod.clone()
    }

    /// Refuses the Pod for good, as the node cannot take it (spec `§1.2`). One that is not refused begins with its allocation.
    pub(crate) fn refuse(&mut self, rejection: &lifecycle::Rejection) {
        let status = rejection.status(&self.pod, self.agent.now());
        self.has_left = true;
        self.agent.recorder.record(&self.pod, rejection.event());
        Arc::make_mut(&mut self.pod).status = Some(status);
    }

    /// Works until the Pod is gone and nothing of it is left, or the agent ends and the inbox closes.
    pub(crate) async fn run(mut self) {
        self.read_messages_of_the_dead().await;
        self.rotate_logs();
        loop {
            if self.current.is_none() && self.queue.is_empty() {
                self.look();
            }
            self.next_step();
            self.report();
            self.follow_probes();
            if self.finished && self.current.is_none() && self.stops.is_empty() {
                break;
            }
            let event = self.next_event().await;
            if !self.take(event).await {
                return;
            }
        }
        self.leave_allocations();
        perform::remove_logs(self.agent.log_directory(&self.pod)).await;
        self.agent.views.remove(&self.uid);
    }

    /// Asks what to do now, and queues it.
    fn look(&mut self) {
        let plan = self.plan();
        self.adopt(plan);
    }

    fn plan(&mut self) -> Plan {
        self.observe();
        let policy: &NodePolicy = &self.agent.config.policy;
        lifecycle::plan(&self.pod, &self.seen, self.agent.now(), policy)
    }

    /// What is seen. A run whose `postStart` hook is under way is not seen yet: upstream's agent looks again when the hook is over.
    fn observe(&mut self) {
        self.seen.sandboxes.clone_from(&self.records.sandboxes);
        self.seen.containers.clone_from(&self.records.containers);
        if let Some((name, attempt)) = &self.starting {
            let is_it = |c: &ContainerStatus| c.name == *name && c.attempt == *attempt;
            self.seen.containers.retain(|c| !is_it(c));
        }
    }

    fn adopt(&mut self, plan: Plan) {
        if self.seen.memory.restarting_all && !plan.restarting_all {
            // That all of them are removed is told before they start again.
            self.pace.idle();
        }
        // An exit is reported before the restart that answers it, unless the agent brought it about.
        let starts = plan.steps.iter().filter_map(|step| match step {
            Step::Start(start) => Some(&start.container),
            _ => None,
        });
        let mut answers = starts.chain(plan.start_errors.keys());
        if !answers.any(|name| self.stopped_to_start(name)) {
            self.report();
        }
        self.finished = plan.is_last(&self.seen);
        let memory = &mut self.seen.memory;
        memory.phase = memory.phase.max(plan.phase);
        if memory.phase > WorkerPhase::Syncing {
            self.ending.cancel();
        }
        memory.restarts.extend(plan.restarts);
        memory.start_errors.extend(plan.start_errors);
        memory.owed.extend(plan.owed);
        memory.told = plan.told;
        memory.restarting_all = plan.restarting_all;
        if plan.termination.is_some() {
            memory.termination = plan.termination;
        }
        self.adopt_progress(plan.phase, plan.resizing);
        self.wake_at = plan.wake_at;
        self.queue = plan.steps.into();
        for reason in plan.reasons {
            tracing::debug!(
                pod = self.uid,
                container = reason.container,
                "{}",
                reason.text
            );
        }
    }

    /// Begins steps of the queue until one takes time.
    fn next_step(&mut self) {
        while self.current.is_none() {
            if self.is_held_up() {
                self.refresh_status();
                if !self.is_stored() {
                    break;
                }
            }
            let Some(step) = self.queue.pop_front() else {
                self.pace.idle();
                return;
            };
            self.begin(step);
        }
        self.pace.busy(Instant::now());
    }

    /// Whether the run before this one was stopped so that this one can be started. Upstream's agent does both in one go, and
    /// nobody sees the exit in between; where a back-off came between the two, it has been told.
    fn stopped_to_start(&self, container: &str) -> bool {
        let records = self.records.containers.iter();
        let newest = records
            .filter(|c| c.name == container)
            .max_by_key(|c| c.attempt);
        newest.is_some_and(|run| {
            let stop = self.seen.memory.stop_of(&run.id);
            stop.is_some_and(|stop| stop.then_restart) && !self.has_told_end(&run.id)
        })
    }

    /// Whether the next step waits for the status before it to be stored: a restart, and the end.
    fn is_held_up(&self) -> bool {
        if self.is_static() {
            return false;
        }
        match self.queue.front() {
            Some(Step::Start(start)) => {
                start.restart_count > 0
                    && !self.stopped_to_start(&start.container)
                    && !self.is_refused()
            }
            Some(Step::DeletePod) => true,
            _ => false,
        }
    }

    /// The next event that may ask for something to be done. Until then volumes follow what they are made from: no plan and no status
    /// depends on that, and an edit that many Pods mount makes neither.
    async fn next_event(&mut self) -> Event {
        loop {
            match self.wait().await {
                Event::VolumeObject if self.is_mounted() => self.start_refresh(),
                Event::Refreshed(setup) => self.refreshed(setup),
                event => return event,
            }
        }
    }

    async fn wait(&mut self) -> Event {
        let now = self.agent.now();
        let timer = self
            .due(now)
            .map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let report_at = self.report_at;
        let measure_at = self.measure_at();
        tokio::select! {
            biased;
            message = self.inbox.recv() => Event::Message(message),
            done = settled(&mut self.current) => Event::Done(Box::new(done)),
            found = self.probes.next() => Event::Probed(found),
            written = settled(&mut self.writing) => Event::Written(written),
            Some(id) = self.hooks.next(), if !self.hooks.is_empty() => Event::Hooked(id),
            Some(id) = self.stops.next(), if !self.stops.is_empty() => Event::Stopped(id),
            setup = settled(&mut self.refresh) => Event::Refreshed(setup),
            usage = settled(&mut self.measuring.running) => Event::Measured(usage),
            () = sleep_until(measure_at), if measure_at.is_some() => Event::Measure,
            () = any_change(&mut self.volume_objects) => Event::VolumeObject,
            () = any_change(&mut self.start_objects) => Event::StartObject,
            () = sleep(timer), if timer.is_some() => Event::Timer,
            () = sleep_until(report_at), if report_at.is_some() => Event::Report,
            // It never closes: the agent holds the other side.
            _ = self.room.changed(), if self.seen.memory.resizing.pending.is_some() => Event::Room,
            _ = self.drivers.changed(), if matches!(self.seen.volumes, VolumesSeen::Failed { .. }) => Event::VolumeObject,
        }
    }

    /// The next time at which something is due by itself.
    fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let rotation = self
            .mounted
            .tokens
            .values()
            .map(|t| t.refresh_at)
            .min()
            .filter(|_| self.refresh.is_none() && self.is_kept_up_to_date());
        // While there are steps, the plan is carried out, and only an end that is due can interrupt it. One that has passed has had
        // its chance.
        let busy = self.current.is_some() || !self.queue.is_empty();
        let deadline = lifecycle::termination::deadline(&self.pod)
            .filter(|at| *at > now && self.seen.memory.phase == WorkerPhase::Syncing);
        let wake = if busy { deadline } else { self.wake_at };
        wake.into_iter().chain(rotation).min()
    }

    /// Takes in what happened; `false` when the agent ends.
    async fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Message(None) => return false,
            Event::Message(Some(message)) => self.told(message),
            Event::Probed(found) => self.probed(found),
            Event::Done(done) => self.done(*done).await,
            Event::Hooked(id) => self.hooked(&id),
            Event::Stopped(id) => self.stopped(&id).await,
            Event::Refreshed(setup) => self.refreshed(setup),
            Event::Measured(usage) => self.measured(&usage),
            Event::Measure => self.measure(),
            Event::Written(written) => self.written(written),
            Event::VolumeObject => self.volume_object_changed(),
            Event::StartObject => self.seen.memory.changed_at = Some(self.agent.now()),
            Event::Timer => self.rotate_tokens(),
            Event::Room => self.answered(),
            // The next turn writes it.
            Event::Report => {}
        }
        self.interrupt().await;
        true
    }

    /// Abandons the running step when the Pod is told to end (spec `§1.1` step 4; sooner than upstream). A Pod that ends by itself
    /// waits for it: the container that is being started may be the one that has ended. What a failed hook asks to be stopped
    /// waits for nothing.
    async fn interrupt(&mut self) {
        if self.seen.memory.phase != WorkerPhase::Syncing
            || (self.current.is_none() && self.queue.is_empty())
        {
            return;
        }
        let plan = self.plan();
        let has_verdict = plan.termination.is_some_and(|end| end.verdict.is_some());
        let is_told =
            self.seen.gone || self.pod.metadata.deletion_timestamp.is_some() || has_verdict;
        if plan.phase == WorkerPhase::Syncing {
            self.take_back(plan.steps);
            return;
        }
        if !is_told {
            return;
        }
        if self.current.take().is_some() {
            self.starting = None;
            self.replaces = false;
            self.relist().await;
        }
        self.queue.clear();
        self.refresh = None;
    }
}

/// Waits for a future that may not be there; takes it away when it is done.
async fn settled<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => {
            let out = future.await;
            *slot = None;
            out
        }
        None => std::future::pending().await,
    }
}

async fn any_change(subscriptions: &mut [Subscription]) {
    if subscriptions.is_empty() {
        return std::future::pending().await;
    }
    let changes = subscriptions.iter_mut().map(|s| Box::pin(s.changed()));
    futures::future::select_all(changes).await;
}

async fn sleep(timer: Option<Duration>) {
    tokio::time::sleep(timer.unwrap_or_default()).await;
}

async fn sleep_until(at: Option<Instant>) {
    tokio::time::sleep_until(at.unwrap_or_else(Instant::now)).await;
}
