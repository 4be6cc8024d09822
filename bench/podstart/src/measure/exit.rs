//! A container's exit → its status in a watch.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::Bench;
use crate::figures::{Figures, Measure, Unit};
use crate::proc;

const HOW: &str = "from killing the container's process (SIGKILL, found by its command line on this machine) to reading the watch \
     event with its terminated state on another connection; the container has run for 250 ms, restartPolicy Never, serial, servers in turn";

/// How long a container runs before it is killed: its Pod's start is over then, and no other change is on its way.
const RUNS: Duration = Duration::from_millis(250);

/// Ends `runs` containers on each server.
pub(crate) async fn measure(bench: &Bench, runs: usize) -> anyhow::Result<Vec<Measure>> {
    let mut sessions = Vec::new();
    for target in bench.targets() {
        sessions.push((target.session().await?, Vec::new()));
    }
    for index in 0..=runs {
        let name = bench.recipe.name("exit", index);
        for (number, (session, times)) in sessions.iter_mut().enumerate() {
            // Nobody else sleeps exactly that long.
            let seconds = (100_000_000 + number * 10_000_000 + index * 1000).to_string();
            session
                .start(&bench.recipe.pod_once(&name, &seconds))
                .await?;
            tokio::time::sleep(RUNS).await;
            let killed = kill(&["sleep", &seconds])?;
            let told = session.ended(&name).await?;
            if index > 0 {
                times.push(told - killed);
            }
            session.end(&name).await?;
        }
    }
    let mut all = sessions
        .iter()
        .map(|(_, times): &(_, Vec<Duration>)| Figures::of_times(times));
    let carob = all.next().flatten().context("no runs")?;
    let what = "container exit to status in a watch";
    let measure = Measure::new("exit", what, HOW, Unit::Milliseconds, carob);
    Ok(vec![measure.goal(5.0).beside(all.next().flatten())])
}

/// Kills the one process with this command line; when the signal was sent.
fn kill(command: &[&str]) -> anyhow::Result<Instant> {
    let found = proc::find(|arguments| arguments == command);
    let [pid] = found.as_slice() else {
        bail!("{} processes run {}", found.len(), command.join(" "));
    };
    let pid = i32::try_from(*pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("a process id")?;
    let process = pidfd_open(pid, PidfdFlags::empty()).context("find the container's process")?;
    let now = Instant::now();
    pidfd_send_signal(&process, Signal::KILL).context("end the container's process")?;
    Ok(now)
}
