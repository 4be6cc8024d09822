//! `carob up -d`: from starting the command to its return, when the node is Ready and the API is served.

use std::time::{Duration, Instant};

use anyhow::Context;
use e2e::engine::{Engine, Outside};

use crate::figures::{Figures, Measure, Unit};

const HOW_FIRST: &str = "from starting `carob up -d` with an empty root to its return: the node is Ready and the API is served; keys, \
     certificates, store and network are made in that time";
const HOW_AGAIN: &str = "the same with the root of an engine that was ended by `carob down`";

/// Starts `boots` engines on empty roots, and each once again on its own.
pub(crate) fn measure(outside: &Outside, boots: usize) -> anyhow::Result<Vec<Measure>> {
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..boots {
        let begun = Instant::now();
        let engine = Engine::start(outside)?;
        first.push(begun.elapsed());
        engine.stop()?;
        let begun = Instant::now();
        engine.up()?;
        again.push(begun.elapsed());
        engine.down()?;
    }
    let line = |id: &str, what: &str, how, times: &[Duration]| {
        let figures = Figures::of_times(times).context("no boots")?;
        anyhow::Ok(Measure::new(id, what, how, Unit::Milliseconds, figures).goal(100.0))
    };
    Ok(vec![
        line("boot-first", "carob up -d, new root", HOW_FIRST, &first)?,
        line("boot-again", "carob up -d, known root", HOW_AGAIN, &again)?,
    ])
}
