//! Progress on standard error, logs on standard output: spinners on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// Where everything is shown.
#[derive(Debug)]
pub(super) struct Screen {
    quiet: bool,
    /// Spinners by container; `None` when nobody sees them.
    spinners: Option<(MultiProgress, BTreeMap<String, ProgressBar>)>,
}

impl Screen {
    pub(super) fn new(quiet: bool) -> Self {
        let is_seen = !quiet && io::stderr().is_terminal();
        Screen {
            quiet,
            spinners: is_seen.then(|| (MultiProgress::new(), BTreeMap::new())),
        }
    }

    /// A line about the whole.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            self.above(|| eprintln!("{text}"));
        }
    }

    /// The new state of a container. Whoever runs needs no spinner any more.
    pub(super) fn state(&mut self, container: &str, state: &str) {
        if self.quiet {
            return;
        }
        let line = visible(&format!("{container}: {state}"));
        let Some((all, spinners)) = &mut self.spinners else {
            eprintln!("{line}");
            return;
        };
        let is_settled = matches!(state, "running" | "ready") || state.starts_with("ended");
        if is_settled {
            if let Some(spinner) = spinners.remove(container) {
                spinner.finish_and_clear();
            }
            all.suspend(|| eprintln!("{line}"));
            return;
        }
        let spinner = spinners.entry(container.to_owned()).or_insert_with(|| {
            let spinner = all.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(TURN);
            spinner
        });
        spinner.set_message(line);
    }

    /// A line of a log, with its source; a line that lacks its end gets one.
    pub(super) fn log(&self, source: &str, line: &[u8]) -> io::Result<()> {
        let mut whole = format!("[{source}] ").into_bytes();
        whole.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            whole.push(b'\n');
        }
        self.above(|| {
            let mut out = io::stdout().lock();
            out.write_all(&whole)?;
            out.flush()
        })
    }

    /// Takes the spinners away.
    pub(super) fn clear(&mut self) {
        if let Some((_, spinners)) = &mut self.spinners {
            for spinner in std::mem::take(spinners).into_values() {
                spinner.finish_and_clear();
            }
        }
    }

    /// Writes with the spinners out of the way.
    fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.spinners {
            Some((all, _)) => all.suspend(write),
            None => write(),
        }
    }
}

/// One line, without anything that steers a terminal.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
