//! What all lives of the engine share: the machine, the checks, the dice, and who is dead.
//!
//! Every port call and commit is a *step*. Before and after its effect it asks [`World::step`] whether its caller still lives; the
//! calls of the dead never return. So a death comes exactly between two effects, and whatever the dead one's tasks would still do
//! does not happen.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Notify, watch};

use crate::Outcome;
use crate::check::{Checks, Lack};
use crate::clock::Clock;
use crate::machine::{Exit, Machine};
use crate::scenario::{Death, Mishap, Odds, Scenario};

/// One holder of ports or of a client: an engine (`agent` is `None`) or one of its agents. Later ones have greater numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) engine: u64,
    pub(crate) agent: Option<u64>,
}

/// Why a life ends, or the agent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    AgentDied,
    EngineDied(Duration),
    Violation,
}

/// What is behind the lock.
pub(crate) struct State {
    pub(crate) machine: Machine,
    pub(crate) checks: Checks,
    pub(crate) scenario: Scenario,
    pub(crate) dice: StdRng,
    pub(crate) engine: u64,
    pub(crate) agent: u64,
    pub(crate) full_until: Duration,
    pub(crate) cut_until: Duration,
    /// So much memory is left, until then.
    pub(crate) short: Option<(u64, Duration)>,
    is_calm: bool,
    is_dead: bool,
    steps: u64,
    steps_left: Option<(u32, Death)>,
    ends: Vec<End>,
    deaths: u64,
    violation: Option<String>,
    trace: Vec<String>,
    /// Over everything that was seen to happen.
    digest: DefaultHasher,
}

/// All lives' world.
pub(crate) struct World {
    pub(crate) clock: Arc<Clock>,
    pub(crate) dir: PathBuf,
    state: Mutex<State>,
    /// Rung when a death or a violation is to be seen to.
    pub(crate) ended: Notify,
    /// Rung when something may end sooner than before.
    pub(crate) moved: Notify,
    /// Rung when something ended.
    pub(crate) exited: Notify,
    /// Counts how often all watches were cut.
    pub(crate) cuts: watch::Sender<u64>,
}

impl World {
    pub(crate) fn new(seed: u64, dir: &Path) -> Arc<World> {
        let mut scenario = Scenario::draw(seed);
        scenario.deaths.reverse();
        let steps_left = scenario.deaths.pop();
        let mut checks = Checks::default();
        let fills = |m: &(Duration, Mishap)| matches!(m.1, Mishap::DiskFull(_));
        if scenario.odds.runtime > 0 || scenario.mishaps.iter().any(fills) {
            checks.stops_may_fail();
        }
        let mut machine = Machine::default();
        machine.images.clone_from(&scenario.images);
        let state = State {
            machine,
            checks,
            scenario,
            dice: StdRng::seed_from_u64(!seed),
            engine: 0,
            agent: 0,
            full_until: Duration::ZERO,
            cut_until: Duration::ZERO,
            short: None,
            is_calm: false,
            is_dead: true,
            steps: 0,
            steps_left,
            ends: Vec::new(),
            deaths: 0,
            violation: None,
            trace: Vec::new(),
            digest: DefaultHasher::new(),
        };
        Arc::new(World {
            clock: Arc::new(Clock::default()),
            dir: dir.to_owned(),
            state: Mutex::new(state),
            ended: Notify::new(),
            moved: Notify::new(),
            exited: Notify::new(),
            cuts: watch::Sender::new(0),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new engine lives.
    pub(crate) fn new_engine(&self) -> Holder {
        let mut state = self.lock();
        state.engine += 1;
        state.is_dead = false;
        let engine = state.engine;
        Holder {
            engine,
            agent: None,
        }
    }

    /// A new agent lives, in the engine that lives.
    pub(crate) fn new_agent(&self) -> Holder {
        let mut state = self.lock();
        state.agent += 1;
        let (engine, agent) = (state.engine, Some(state.agent));
        state.checks.agent_began();
        Holder { engine, agent }
    }

    /// The next death or violation to be seen to.
    pub(crate) fn take_end(&self) -> Option<End> {
        self.lock().ends.pop()
    }

    /// Goes on only for the living: half a step is about to be taken.
    pub(crate) async fn step(&self, holder: Holder) {
        let passed = self.clock.passed();
        let goes_on = {
            let mut state = self.lock();
            (holder.engine, holder.agent, passed).hash(&mut state.digest);
            state.step(holder)
        };
        if !goes_on {
            self.ended.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// Time passes, up to so many milliseconds.
    pub(crate) async fn spend(&self, most: u64) {
        let millis = self.lock().dice.random_range(0..=most);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm_down(&self) {
        let mut state = self.lock();
        state.is_calm = true;
        state.steps_left = None;
        let now = self.clock.passed();
        state.full_until = now;
        state.cut_until = now;
        state.short = None;
        state.machine.clutter = 0;
        self.trace_in(&mut state, "calm".to_owned());
    }

    /// Something happens to the machine.
    pub(crate) fn mishap(&self, what: Mishap) {
        let (passed, now) = (self.clock.passed(), ports::clock::Clock::now(&*self.clock));
        let mut state = self.lock();
        self.trace_in(&mut state, format!("mishap: {what:?}"));
        match what {
            Mishap::WatchesLost(lasts) => {
                state.cut_until = passed + lasts;
                state.checks.blinded();
                self.cuts.send_modify(|cuts| *cuts += 1);
            }
            Mishap::ClockJumps(by) => {
                self.clock.set(by);
                state.checks.clock_jumped(by);
            }
            Mishap::DiskFull(lasts) => state.full_until = passed + lasts,
            Mishap::MemoryShort(left, lasts) => {
                state.short = Some((left, passed + lasts));
                state.checks.node_lacks(Lack::Memory);
            }
            Mishap::DiskShort(left) => {
                state.machine.clutter_to(left);
                state.checks.node_lacks(Lack::Disk);
            }
            Mishap::DiskCleared => state.machine.clutter = 0,
            Mishap::SandboxDies => {
                let ids = state.machine.sandboxes.iter();
                let ready = ids.filter(|(_, s)| s.state == ports::runtime::SandboxState::Ready);
                let ready: Vec<_> = ready
                    .map(|(id, s)| (id.clone(), s.metadata.uid.clone()))
                    .collect();
                if ready.is_empty() {
                    return;
                }
                let (id, uid) = ready[state.dice.random_range(0..ready.len())].clone();
                state.checks.sandbox_died(&uid);
                let exits = state.machine.kill_sandbox(&id, passed, now);
                self.ended_in(&mut state, exits);
            }
        }
    }

    /// Takes in that runs ended.
    pub(crate) fn ended_in(&self, state: &mut State, exits: Vec<Exit>) {
        let now = ports::clock::Clock::now(&*self.clock);
        for exit in exits {
            let line = format!(
                "{} of {} ended with {}",
                exit.name,
                state.checks.name(&exit.uid),
                exit.code
            );
            self.trace_in(state, line);
            let found = state.checks.ended(&exit, now);
            self.found(state, found);
        }
        self.exited.notify_waiters();
    }

    /// Remembers the first violation and ends everything.
    pub(crate) fn found(&self, state: &mut State, found: Result<(), String>) {
        let Err(text) = found else { return };
        if state.violation.is_none() {
            self.trace_in(state, format!("VIOLATION {text}"));
            state.violation = Some(text);
            state.is_dead = true;
            state.ends.push(End::Violation);
            self.ended.notify_one();
        }
    }

    pub(crate) fn trace(&self, line: String) {
        self.trace_in(&mut self.lock(), line);
    }

    /// Makes something that is not worth a line part of the digest.
    pub(crate) fn note(&self, what: impl Hash) {
        what.hash(&mut self.lock().digest);
    }

    pub(crate) fn trace_in(&self, state: &mut State, line: String) {
        let line = format!("{:>11.3} {line}", self.clock.passed().as_secs_f64());
        line.hash(&mut state.digest);
        state.trace.push(line);
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let state = self.lock();
        Outcome {
            violation: state.violation.clone(),
            trace: state.trace.clone(),
            steps: state.steps,
            runs: state.checks.runs(),
            deaths: state.deaths,
            digest: state.digest.finish(),
        }
    }
}

impl State {
    /// Whether something with these odds fails now.
    pub(crate) fn fails(&mut self, odds: impl Fn(&Odds) -> u32) -> bool {
        let odds = odds(&self.scenario.odds);
        !self.is_calm && self.dice.random_range(0..1000) < odds
    }

    fn lives(&self, holder: Holder) -> bool {
        !self.is_dead
            && holder.engine == self.engine
            && holder.agent.is_none_or(|agent| agent == self.agent)
    }

    fn step(&mut self, holder: Holder) -> bool {
        if !self.lives(holder) {
            return false;
        }
        self.steps += 1;
        let Some((left, death)) = &mut self.steps_left else {
            return true;
        };
        *left = left.saturating_sub(1);
        // An agent dies only at a step of its own.
        if *left > 0 || (*death == Death::Agent && holder.agent.is_none()) {
            return true;
        }
        let death = *death;
        self.steps_left = self.scenario.deaths.pop();
        self.deaths += 1;
        self.checks.agent_died();
        let end = match death {
            Death::Agent => {
                self.agent += 1;
                End::AgentDied
            }
            Death::Engine(down) => {
                self.is_dead = true;
                End::EngineDied(down)
            }
        };
        self.ends.insert(0, end);
        false
    }
}
