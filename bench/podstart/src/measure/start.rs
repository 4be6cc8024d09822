//! Created → running, and deleted → gone, one Pod at a time.

use std::time::Duration;

use anyhow::Context;

use super::Bench;
use crate::figures::{Figures, Measure, Unit};
use crate::pods::Shape;
use crate::target::Session;

const HOW_RUNNING: &str = "from sending the POST to reading, on another connection, the first watch event with phase Running and \
     every container running; image present, serial, after a rest, servers in turn";
const HOW_GONE: &str = "from sending the DELETE to reading the DELETED event on another connection; grace period 0, serial";

/// Times of one server.
#[derive(Default)]
struct Times {
    running: Vec<Duration>,
    gone: Vec<Duration>,
}

/// Starts and ends `runs` Pods on each server, in turn, after one on each that does not count (it pulls the image).
pub(crate) async fn measure(
    bench: &Bench,
    shape: Shape,
    runs: usize,
) -> anyhow::Result<Vec<Measure>> {
    let mut sessions: Vec<(Session<'_>, Times)> = Vec::new();
    for target in bench.targets() {
        sessions.push((target.session().await?, Times::default()));
    }
    for index in 0..=runs {
        let pod = bench
            .recipe
            .pod(&bench.recipe.name(shape.id(), index), shape);
        for (session, times) in &mut sessions {
            tokio::time::sleep(bench.rest).await;
            let life = session.live(&pod).await?;
            if index > 0 {
                times.running.push(life.to_running);
                times.gone.push(life.to_gone);
            }
        }
    }
    let figures = |pick: fn(&Times) -> &Vec<Duration>| {
        let mut all = sessions
            .iter()
            .map(|(_, times)| Figures::of_times(pick(times)));
        let carob = all.next().flatten().context("no runs")?;
        anyhow::Ok((carob, all.next().flatten()))
    };
    let (goal, words) = match shape {
        Shape::One => (5.0, shape.words()),
        Shape::Multi => (15.0, shape.words()),
    };
    let (carob, peer) = figures(|times| &times.running)?;
    let running = Measure::new(
        format!("running-{}", shape.id()),
        format!("Pod created to running, {words}"),
        HOW_RUNNING,
        Unit::Milliseconds,
        carob,
    );
    let (carob, gone_peer) = figures(|times| &times.gone)?;
    let gone = Measure::new(
        format!("gone-{}", shape.id()),
        format!("Pod deleted to gone, {words}"),
        HOW_GONE,
        Unit::Milliseconds,
        carob,
    );
    Ok(vec![
        running.goal(goal).beside(peer),
        gone.beside(gone_peer),
    ])
}
