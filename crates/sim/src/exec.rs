//! Programs in containers: probes and hooks, which take their time and succeed when the container's script says so.

use std::time::Duration;

use ports::streams::{ExecRequest, ExitStatus, Session, StreamError};
use rand::Rng;
use tokio::sync::oneshot;

use crate::ports_of::{Ports, broken};
use crate::world::State;

/// A probe that hangs takes longer than any timeout.
const HANGS: Duration = Duration::from_secs(30);

impl Ports {
    /// Begins a program in a container; it is named after what it is for.
    pub(crate) async fn execute_in(
        &self,
        id: &str,
        request: ExecRequest,
    ) -> Result<Session, StreamError> {
        let what = request.command.into_iter().next().unwrap_or_default();
        let (takes, code) = self.step(3, |state| self.begins(state, id, &what)).await?;
        let (sender, exit) = oneshot::channel();
        tokio::spawn(
            self.clone()
                .runs_in(id.to_owned(), what, takes, code, sender),
        );
        Ok(Session {
            stdin: None,
            stdout: None,
            stderr: None,
            resize: None,
            exit,
        })
    }

    /// How long the program will take, and its exit code.
    fn begins(
        &self,
        state: &mut State,
        id: &str,
        what: &str,
    ) -> Result<(Duration, i32), StreamError> {
        if self.fails(state, |odds| odds.runtime) {
            // An attempt of a probe that comes to nothing does not count; a hook has failed.
            if what == "postStart" {
                self.answered(state, id, what, false);
            }
            return Err(StreamError::Io {
                what: "ask pause".to_owned(),
                source: broken(),
            });
        }
        let made = state.machine.containers.get(id).cloned();
        let Some((made, run)) = made.and_then(|made| {
            let run = made.run.filter(|_| made.is_running())?;
            Some((made, run))
        }) else {
            return Err(StreamError::NotRunning { id: id.to_owned() });
        };
        let agent = self.holder.agent;
        let found = state.checks.begins(&made, &state.machine, what, agent);
        if let Some(made) = state.machine.containers.get_mut(id)
            && what == "preStop"
        {
            made.pre_stopped_by = agent;
        }
        let line = format!(
            "{what} of {} of {}",
            made.status.name,
            state.checks.name(&made.status.pod_uid)
        );
        let age = self.world.clock.passed().saturating_sub(made.began);
        let (takes, code) = if matches!(what, "postStart" | "preStop") {
            self.world.trace_in(state, line);
            run.hook
        } else {
            let is_healthy = run.healthy.0 <= age && age < run.healthy.1;
            let hangs = !is_healthy && state.dice.random_bool(0.2);
            let takes = Duration::from_millis(state.dice.random_range(0..300));
            (if hangs { HANGS } else { takes }, i32::from(!is_healthy))
        };
        self.world.found(state, found);
        Ok((takes, code))
    }

    /// Lets the program come to its end, or to that of its container; whoever hung up does not hear of it.
    async fn runs_in(
        self,
        id: String,
        what: String,
        takes: Duration,
        code: i32,
        mut sender: oneshot::Sender<ExitStatus>,
    ) {
        let is_over = async {
            loop {
                let exited = self.world.exited.notified();
                if !self.runs(&id) {
                    break;
                }
                exited.await;
            }
        };
        let code = tokio::select! {
            biased;
            () = sender.closed() => {
                self.ended_in(&id, &what, false);
                return;
            }
            () = is_over => 137,
            () = tokio::time::sleep(takes) => code,
        };
        self.ended_in(&id, &what, code == 0);
        // Whoever waited may be dead by now.
        let _ = sender.send(ExitStatus { code });
    }

    fn ended_in(&self, id: &str, what: &str, is_well: bool) {
        self.answered(&mut self.world.lock(), id, what, is_well);
    }

    fn answered(&self, state: &mut State, id: &str, what: &str, is_well: bool) {
        if let Some(made) = state.machine.containers.get(id) {
            state.checks.answered(made, what, is_well);
        }
    }
}
