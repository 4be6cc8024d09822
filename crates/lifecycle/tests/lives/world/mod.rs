//! The node in memory with its one Pod, and what can happen to it from outside, under the eyes of [`invariants`]: breaking one of
//! §16 panics.

mod invariants;

use std::ops::{Deref, DerefMut};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lifecycle::forecast::{self, Answers, Node};
use lifecycle::probe::Kind;
use testkit::at;

pub(crate) use lifecycle::forecast::Starts;

use invariants::Watcher;

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Run {
    /// Ends by itself after so many seconds; `None` runs on.
    pub(crate) lasts: Option<i64>,
    /// Exit code of that end.
    pub(crate) code: i32,
    /// Seconds it takes to end after the stop signal, and the exit code then; `None` ignores the signal.
    pub(crate) on_stop: Option<(i64, i32)>,
    /// Whether it gets that far.
    pub(crate) start: Starts,
    /// Seconds its `preStop` hook takes.
    pub(crate) hook: i64,
    /// Seconds its `postStart` hook takes, and whether it fails then.
    pub(crate) post_start: (i64, bool),
    /// From which second to which its probes succeed.
    pub(crate) healthy: (i64, i64),
}

impl Run {
    /// Runs on, and ends with 0 when asked to.
    pub(crate) const fn on() -> Self {
        Run {
            lasts: None,
            code: 0,
            on_stop: Some((0, 0)),
            start: Starts::Well,
            hook: 0,
            post_start: (0, false),
            healthy: (0, i64::MAX),
        }
    }

    /// Ends by itself.
    pub(crate) const fn ends(after: i64, code: i32) -> Self {
        Run {
            lasts: Some(after),
            code,
            ..Run::on()
        }
    }

    /// Does not start.
    pub(crate) const fn fails(start: Starts) -> Self {
        Run { start, ..Run::on() }
    }

    fn in_full(self) -> forecast::Run {
        let seconds = SignedDuration::from_secs;
        let (from, until) = self.healthy;
        let answers = Answers(vec![(seconds(from), true), (seconds(until), false)]);
        forecast::Run {
            lasts: self.lasts.map(seconds),
            code: self.code,
            on_stop: self.on_stop.map(|(after, code)| (seconds(after), code)),
            start: self.start,
            post_start: seconds(self.post_start.0),
            post_start_fails: self.post_start.1,
            pre_stop: seconds(self.hook),
            probes: Kind::ALL.map(|kind| (kind, answers.clone())).into(),
        }
    }
}

/// What happens to the Pod from outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Outside {
    /// `kubectl delete --grace-period=N`.
    Delete(i64),
    /// `kubectl delete --force --grace-period=0`.
    Force,
    /// The sandbox and everything in it dies.
    SandboxDies,
    /// `kubectl debug`: an ephemeral container is added.
    Debug,
    /// The agent dies after so many more steps and comes back at once.
    AgentDies(u32),
}

/// The node.
pub(crate) struct World(Node<Watcher>);

impl Deref for World {
    type Target = Node<Watcher>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl World {
    pub(crate) fn new(pod: Pod, scripts: &[(&str, &[Run])]) -> Self {
        let node = Node::new(pod, Default::default(), at(0), Watcher::default());
        let mut world = World(node);
        for (name, runs) in scripts {
            world.script(name, runs);
        }
        world
    }

    /// What a container does from its next start on.
    pub(crate) fn script(&mut self, name: &str, runs: &[Run]) {
        let runs = runs.iter().map(|run| run.in_full()).collect();
        self.conduct.insert(name.to_owned(), runs);
    }

    /// Runs until `second`.
    pub(crate) fn run_to(&mut self, second: i64) {
        let until = at(second);
        if let Err(error) = self.live_until(until) {
            panic!("{error}");
        }
        if !self.seen.gone {
            self.now = self.now.max(until);
        }
    }

    /// Lets something happen now.
    pub(crate) fn outside(&mut self, what: Outside) {
        match what {
            Outside::Delete(grace) => self.delete(grace),
            Outside::Force => self.delete(0),
            Outside::SandboxDies => {
                self.watch.sandbox_died();
                self.kill_sandbox();
            }
            Outside::Debug => self.debug(),
            Outside::AgentDies(steps) => self.dies_after = Some(steps),
        }
    }

    /// DELETE as the API server serves it (§2.1).
    fn delete(&mut self, grace: i64) {
        if self.seen.gone {
            return;
        }
        let stored = self.pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let grace = if matches!(stored, Some("Succeeded" | "Failed")) {
            0
        } else {
            grace
        };
        let now = self.now;
        let meta = &mut self.pod.metadata;
        match (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) {
            (Some(_), Some(old)) if grace > 0 && grace >= old => return,
            _ => {}
        }
        meta.deletion_timestamp = Some(Time(now + SignedDuration::from_secs(grace)));
        meta.deletion_grace_period_seconds = Some(grace);
        self.seen.gone = grace == 0;
    }

    fn debug(&mut self) {
        let spec = self.pod.spec.as_mut().expect("a spec");
        let list = spec.ephemeral_containers.get_or_insert_default();
        let name = format!("debug{}", list.len());
        list.push(EphemeralContainer {
            name,
            image: Some("debugger".to_owned()),
            ..EphemeralContainer::default()
        });
    }

    /// Phase, conditions and containers in a short form.
    pub(crate) fn summary(&self) -> String {
        let status = self.pod.status.clone().unwrap_or_default();
        let mut lines = vec![status.phase.unwrap_or_default()];
        let conditions = status.conditions.unwrap_or_default();
        lines.extend(conditions.iter().map(|c| {
            let reason = c
                .reason
                .as_deref()
                .map(|r| format!(" {r}"))
                .unwrap_or_default();
            let message = c
                .message
                .as_deref()
                .map(|m| format!(": {m}"))
                .unwrap_or_default();
            format!("{}={}{reason}{message}", c.type_, c.status)
        }));
        let init = status.init_container_statuses.unwrap_or_default();
        for c in init
            .iter()
            .chain(&status.container_statuses.unwrap_or_default())
        {
            let flags = format!(
                "{}{}",
                if c.ready { " ready" } else { "" },
                if c.started == Some(true) {
                    " started"
                } else {
                    ""
                }
            );
            let last = state_text(&c.last_state.clone().unwrap_or_default());
            let last = if last.is_empty() {
                String::new()
            } else {
                format!(", last {last}")
            };
            lines.push(format!(
                "{} #{}{flags}: {}{last}",
                c.name,
                c.restart_count,
                state_text(&c.state.clone().unwrap_or_default())
            ));
        }
        lines.join("\n")
    }
}

fn state_text(state: &k8s_openapi::api::core::v1::ContainerState) -> String {
    let with = |text: String, message: Option<&String>| {
        message.map_or(text.clone(), |m| format!("{text} ({m})"))
    };
    match (&state.running, &state.waiting, &state.terminated) {
        (Some(_), None, None) => "running".to_owned(),
        (None, Some(w), None) => with(
            format!("waiting {}", w.reason.as_deref().unwrap_or("-")),
            w.message.as_ref(),
        ),
        (None, None, Some(t)) => with(
            format!(
                "terminated {} {}",
                t.reason.as_deref().unwrap_or("-"),
                t.exit_code
            ),
            t.message.as_ref(),
        ),
        _ => String::new(),
    }
}
