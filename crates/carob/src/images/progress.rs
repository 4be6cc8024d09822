//! How far pulls are: a bar a blob on a terminal, a line a stage elsewhere; always on standard error.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use ports::images::{PullProgress, PullStage};

/// Digits of a digest that are shown.
const SHORT: usize = 12;

/// Shows one pull.
pub(super) enum Progress {
    Quiet,
    Lines(BTreeMap<String, PullStage>),
    Bars(MultiProgress, BTreeMap<String, ProgressBar>),
}

impl Progress {
    /// As standard error allows.
    pub(super) fn new(quiet: bool) -> Progress {
        if quiet {
            Progress::Quiet
        } else if std::io::stderr().is_terminal() {
            Progress::Bars(MultiProgress::new(), BTreeMap::new())
        } else {
            Progress::Lines(BTreeMap::new())
        }
    }

    /// Takes note of a step.
    pub(super) fn note(&mut self, step: &PullProgress) {
        match self {
            Progress::Quiet => {}
            Progress::Lines(stages) => {
                if stages.insert(step.digest.clone(), step.stage) != Some(step.stage) {
                    eprintln!("{}: {}", short(&step.digest), word(step.stage));
                }
            }
            Progress::Bars(all, bars) => {
                let bar = bars
                    .entry(step.digest.clone())
                    .or_insert_with(|| all.add(new_bar(step)));
                bar.set_length(step.total_bytes);
                bar.set_position(step.done_bytes);
                bar.set_message(word(step.stage));
                if step.stage != PullStage::Downloading {
                    bar.set_position(step.total_bytes);
                    bar.abandon();
                }
            }
        }
    }
}

fn new_bar(step: &PullProgress) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{prefix}: {msg:11} [{bar:30}] {bytes:>10} / {total_bytes:10}",
    );
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(step.total_bytes)
        .with_style(style.progress_chars("=> "))
        .with_prefix(short(&step.digest).to_owned())
}

fn word(stage: PullStage) -> &'static str {
    match stage {
        PullStage::Exists => "exists",
        PullStage::Downloading => "downloading",
        PullStage::Done => "done",
    }
}

/// The digits a user tells digests apart by.
pub(super) fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..SHORT).unwrap_or(hex)
}
