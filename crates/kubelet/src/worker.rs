//! One Pod's worker: observes, asks `lifecycle` what to do, does it, reports, and sleeps until something happens.
//!
//! It is one task with an inbox. Steps of a plan run one after another as a future the worker holds (dropping it abandons the
//! step, which is how a deletion cuts a pull short); stops run beside them; the status write is a third, so that nothing waits for
//! it but what must: a restart waits until the exit before it was stored, and the final DELETE until the final status was. How soon
//! a change is written is [`pace`]'s to say.
//! What is reported is computed from the worker's own last report, not from the API's answer, so writes can be late but never
//! contradict each other.

mod pace;
mod perform;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use lifecycle::{NodePolicy, Observed, Plan, Step, VolumesSeen, WorkerPhase};
use ports::runtime::{ContainerState, ContainerStatus, Id, RuntimeEvent, SandboxStatus};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::agent::{Agent, View};
use crate::messages;
use crate::mounting::SetUp;
use crate::objects::{ObjectRef, Subscription};
use crate::records::Records;
use crate::report::{self, Written};
use crate::sources::Tokens;

use pace::Pace;
use perform::Done;

/// How long a failed stop waits before it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// The Pod was added or changed.
    Pod(Box<Pod>),
    /// The Pod left the API; its last state.
    Gone,
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
}

/// A Pod's worker.
pub(crate) struct Worker {
    agent: Arc<Agent>,
    inbox: mpsc::UnboundedReceiver<Message>,
    uid: String,
    pod_dir: Option<PathBuf>,
    /// The Pod as the API has it, but with the status the worker reported last.
    pod: Arc<Pod>,
    records: Records,
    seen: Observed,
    mounted: Mounted,
    /// Objects that volumes are made from.
    volume_objects: Vec<Subscription>,
    /// Objects that a failed start waits for.
    start_objects: Vec<Subscription>,
    queue: VecDeque<Step>,
    current: Option<BoxFuture<'static, Done>>,
    stops: FuturesUnordered<BoxFuture<'static, Id>>,
    refresh: Option<BoxFuture<'static, SetUp>>,
    writing: Option<BoxFuture<'static, Written>>,
    /// What the API holds.
    stored: Arc<PodStatus>,
    pace: Pace,
    /// When a status that is held back may be written.
    report_at: Option<Instant>,
    wake_at: Option<Timestamp>,
    finished: bool,
}

enum Event {
    Message(Option<Message>),
    Done(Done),
    Stopped(Id),
    Refreshed(SetUp),
    Written(Written),
    VolumeObject,
    StartObject,
    Timer,
    /// A status that was held back may be written.
    Report,
}

impl Worker {
    /// A worker for a Pod, with the records the runtime has of it.
    pub(crate) fn new(
        agent: Arc<Agent>,
        pod: Pod,
        records: Records,
        inbox: mpsc::UnboundedReceiver<Message>,
    ) -> Self {
        let stored = Arc::new(pod.status.clone().unwrap_or_default());
        Worker {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            seen: Observed {
                host_ips: agent.config.host_ips.clone(),
                ..Observed::default()
            },
            agent,
            inbox,
            pod_dir: None,
            pod: Arc::new(pod),
            records,
            mounted: Mounted::default(),
            volume_objects: Vec::new(),
            start_objects: Vec::new(),
            queue: VecDeque::new(),
            current: None,
            stops: FuturesUnordered::new(),
            refresh: None,
            writing: None,
            stored,
            pace: Pace::new(Instant::now()),
            report_at: None,
            wake_at: None,
            finished: false,
        }
    }

    /// Refuses the Pod for good if the node cannot take it (spec `§1.2`).
    pub(crate) fn refuse(&mut self, rejection: &lifecycle::Rejection) {
        let status = rejection.status(&self.pod, self.agent.now());
        self.agent.recorder.record(&self.pod, rejection.event());
        Arc::make_mut(&mut self.pod).status = Some(status);
    }

    /// Works until the Pod is gone and nothing of it is left, or the agent ends and the inbox closes.
    pub(crate) async fn run(mut self) {
        self.read_messages_of_the_dead().await;
        loop {
            if self.current.is_none() && self.queue.is_empty() {
                self.look();
            }
            self.next_step();
            self.report();
            if self.finished && self.current.is_none() && self.stops.is_empty() {
                break;
            }
            let event = self.wait().await;
            if !self.take(event).await {
                return;
            }
        }
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

    fn observe(&mut self) {
        self.seen.sandboxes.clone_from(&self.records.sandboxes);
        self.seen.containers.clone_from(&self.records.containers);
    }

    fn adopt(&mut self, plan: Plan) {
        // An exit is reported before the restart that answers it.
        self.report();
        let memory = &mut self.seen.memory;
        memory.phase = memory.phase.max(plan.phase);
        memory.restarts.extend(plan.restarts);
        memory.start_errors.extend(plan.start_errors);
        memory.told = plan.told;
        if plan.termination.is_some() {
            memory.termination = plan.termination;
        }
        self.wake_at = plan.wake_at;
        self.finished =
            plan.phase == WorkerPhase::Finished && self.seen.gone && plan.steps.is_empty();
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

    /// Whether the next step waits for the status before it to be stored: a restart, and the end.
    fn is_held_up(&self) -> bool {
        match self.queue.front() {
            Some(Step::Start(start)) => start.restart_count > 0,
            Some(Step::DeletePod) => true,
            _ => false,
        }
    }

    /// Whether the API holds what is to be reported.
    fn is_stored(&self) -> bool {
        self.seen.gone
            || (self.writing.is_none() && self.pod.status.as_ref() == Some(&*self.stored))
    }

    /// Computes the status and publishes it.
    fn refresh_status(&mut self) {
        if self.seen.gone {
            return;
        }
        self.observe();
        let status = lifecycle::status(&self.pod, &self.seen, self.agent.now());
        if self.pod.status.as_ref() != Some(&status) {
            Arc::make_mut(&mut self.pod).status = Some(status.clone());
        }
        self.agent.views.publish(
            &self.uid,
            View {
                status,
                containers: self.records.containers.clone(),
            },
        );
    }

    /// Writes the status if it is new, no write is under way, and it is time.
    fn report(&mut self) {
        self.refresh_status();
        self.report_at = None;
        // What has been told already is taken in first: a container that was started and has ended is not reported as running.
        let is_behind = !self.inbox.is_empty();
        if is_behind || self.is_stored() || self.writing.is_some() || self.is_being_deleted() {
            return;
        }
        let now = Instant::now();
        let due = self.pace.due(self.current.is_none() && self.is_held_up());
        self.report_at = due.filter(|at| *at > now);
        if self.report_at.is_none() {
            self.pace.written(now);
            self.writing = Some(report::write(
                &self.agent.client,
                &self.pod,
                &self.stored,
                Arc::new(self.pod.status.clone().unwrap_or_default()),
            ));
        }
    }

    /// Whether a deleted Pod still has something to stop. Upstream's agent is busy stopping until then, and reports what came of
    /// all of it: a watch goes from `Terminating` to the end.
    fn is_being_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
            && self.seen.memory.phase == WorkerPhase::Terminating
    }

    async fn wait(&mut self) -> Event {
        let now = self.agent.now();
        let timer = self
            .due()
            .map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let report_at = self.report_at;
        tokio::select! {
            biased;
            message = self.inbox.recv() => Event::Message(message),
            done = settled(&mut self.current) => Event::Done(done),
            written = settled(&mut self.writing) => Event::Written(written),
            Some(id) = self.stops.next(), if !self.stops.is_empty() => Event::Stopped(id),
            setup = settled(&mut self.refresh) => Event::Refreshed(setup),
            () = any_change(&mut self.volume_objects) => Event::VolumeObject,
            () = any_change(&mut self.start_objects) => Event::StartObject,
            () = sleep(timer), if timer.is_some() => Event::Timer,
            () = sleep_until(report_at), if report_at.is_some() => Event::Report,
        }
    }

    /// The next time at which something is due by itself.
    fn due(&self) -> Option<Timestamp> {
        let rotation = self
            .mounted
            .tokens
            .values()
            .map(|t| t.refresh_at)
            .min()
            .filter(|_| self.refresh.is_none() && self.is_mounted());
        // While steps run, only an end that is due can interrupt them.
        let busy = self.current.is_some();
        let deadline = lifecycle::termination::deadline(&self.pod)
            .filter(|_| self.seen.memory.phase == WorkerPhase::Syncing);
        let wake = if busy { deadline } else { self.wake_at };
        wake.into_iter().chain(rotation).min()
    }

    fn is_mounted(&self) -> bool {
        self.seen.volumes == VolumesSeen::Ready
    }

    /// Takes in what happened; `false` when the agent ends.
    async fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Message(None) => return false,
            Event::Message(Some(message)) => self.told(message),
            Event::Done(done) => self.done(done).await,
            Event::Stopped(id) => self.stopped(&id).await,
            Event::Refreshed(setup) => self.refreshed(setup),
            Event::Written(written) => self.written(written),
            Event::VolumeObject => self.volume_object_changed(),
            Event::StartObject => self.seen.memory.changed_at = Some(self.agent.now()),
            Event::Timer => self.rotate_tokens(),
            // The next turn writes it.
            Event::Report => {}
        }
        self.interrupt().await;
        true
    }

    /// Abandons the running step when the Pod is told to end (spec `§1.1` step 4; sooner than upstream). A Pod that ends by itself
    /// waits for it: the container that is being started may be the one that has ended.
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
        if plan.phase == WorkerPhase::Syncing || !is_told {
            return;
        }
        if self.current.take().is_some() {
            self.relist().await;
        }
        self.queue.clear();
        self.refresh = None;
    }

    fn told(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => self.pod_changed(*pod),
            Message::Gone => {
                self.seen.gone = true;
                self.writing = None;
            }
            Message::Runtime(event) => {
                if let Some(id) = self.records.apply(event) {
                    self.read_message(&id);
                }
            }
            Message::Records(sandboxes, containers) => {
                self.records.replace(sandboxes, containers);
                self.read_missing_messages();
            }
        }
    }

    fn pod_changed(&mut self, mut pod: Pod) {
        if pod.spec != self.pod.spec {
            self.seen.memory.changed_at = Some(self.agent.now());
        }
        let foreign = pod.status.take();
        let reported = self.pod.status.clone().unwrap_or_default();
        pod.status = Some(report::adopt(foreign.as_ref(), &reported));
        self.stored = Arc::new(report::adopt(foreign.as_ref(), &self.stored));
        let meta_changed = pod.metadata.labels != self.pod.metadata.labels
            || pod.metadata.annotations != self.pod.metadata.annotations;
        self.pod = Arc::new(pod);
        if meta_changed {
            self.start_refresh();
        }
    }

    fn written(&mut self, written: Written) {
        self.writing = None;
        match written {
            Written::Stored(status) => {
                self.stored = report::adopt(self.pod.status.as_ref(), &status).into()
            }
            Written::Gone => self.seen.gone = true,
            Written::Failed(error) => {
                tracing::warn!(pod = self.uid, %error, "writing a status");
                self.pace.failed(Instant::now());
            }
        }
    }

    /// The pod directory, if it is known without asking again.
    fn read_message(&mut self, id: &str) {
        let Some(record) = self.records.containers.iter().find(|c| c.id == id) else {
            return;
        };
        if let Some(dir) = &self.pod_dir {
            let text = messages::read(dir, record);
            self.seen.termination_messages.insert(id.to_owned(), text);
        }
    }

    fn read_missing_messages(&mut self) {
        let dead = self
            .records
            .containers
            .iter()
            .filter(|c| matches!(c.state, ContainerState::Exited { .. }));
        let missing: Vec<Id> = dead
            .map(|c| c.id.clone())
            .filter(|id| !self.seen.termination_messages.contains_key(id))
            .collect();
        missing.iter().for_each(|id| self.read_message(id));
    }

    async fn read_messages_of_the_dead(&mut self) {
        if self.records.containers.is_empty() {
            return;
        }
        self.ask_pod_dir().await;
        self.read_missing_messages();
    }

    async fn ask_pod_dir(&mut self) {
        match self.agent.volumes.pod_dir(&self.uid).await {
            Ok(dir) => self.pod_dir = Some(dir),
            Err(error) => tracing::warn!(pod = self.uid, %error, "making the pod's directory"),
        }
    }

    /// Reads the runtime's records again, after a step whose outcome is not known.
    async fn relist(&mut self) {
        let runtime = &self.agent.runtime;
        let (sandboxes, containers) = tokio::join!(
            runtime.list_sandboxes(Some(&self.uid)),
            runtime.list_containers(Some(&self.uid))
        );
        self.records.replace(sandboxes, containers);
        self.read_missing_messages();
    }

    fn subscribe(&self, read: Vec<(ObjectRef, Option<String>)>) -> Vec<Subscription> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        read.into_iter()
            .map(|(reference, version)| {
                self.agent.watches.subscribe(namespace, &reference, version)
            })
            .collect()
    }

    fn volume_object_changed(&mut self) {
        if self.is_mounted() {
            self.start_refresh();
        } else if matches!(self.seen.volumes, VolumesSeen::Failed { .. }) {
            // The next look sets them up.
            self.seen.volumes = VolumesSeen::Pending;
        }
    }

    fn rotate_tokens(&mut self) {
        let now = self.agent.now();
        if self.is_mounted() && self.mounted.tokens.values().any(|t| t.refresh_at <= now) {
            self.start_refresh();
        }
    }

    fn start_refresh(&mut self) {
        if self.is_mounted() && self.seen.memory.phase == WorkerPhase::Syncing {
            self.refresh = Some(self.set_up_volumes());
        }
    }

    fn refreshed(&mut self, setup: SetUp) {
        self.refresh = None;
        for (volume, error) in &setup.errors {
            tracing::warn!(
                pod = self.uid,
                volume,
                error,
                "bringing a volume up to date"
            );
        }
        if setup.errors.is_empty() {
            self.mounted.paths = Arc::new(setup.paths);
        }
        self.mounted.tokens = setup.tokens;
        if !setup.errors.is_empty() {
            let later = self
                .agent
                .now()
                .checked_add(SignedDuration::from_secs(60))
                .unwrap_or(Timestamp::MAX);
            self.mounted
                .tokens
                .values_mut()
                .for_each(|t| t.refresh_at = t.refresh_at.max(later));
        }
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
