//! How containers behave, as somebody supposes it: what the rules cannot know.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::probe::Kind;

/// What one run of a container does. Times are counted from its start.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Ends by itself after so long; `None` runs on.
    pub lasts: Option<SignedDuration>,
    /// Exit code of that end.
    pub code: i32,
    /// How long it takes to end after the stop signal, and the exit code then; `None` ignores the signal.
    pub on_stop: Option<(SignedDuration, i32)>,
    /// Whether it gets that far.
    pub start: Starts,
    /// How long its `postStart` hook takes.
    pub post_start: SignedDuration,
    /// Whether that hook fails in the end.
    pub post_start_fails: bool,
    /// How long its `preStop` hook takes.
    pub pre_stop: SignedDuration,
    /// What its probes find.
    pub probes: BTreeMap<Kind, Answers>,
}

/// How a start goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starts {
    /// Well.
    Well,
    /// The image cannot be pulled.
    NoImage,
    /// The configuration names something that is not there.
    NoConfig,
    /// The program cannot be executed.
    NoProgram,
}

/// When a probe succeeds, in the course of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers(
    /// From which time on it succeeds, or does not, in order. Before the first of them it does the opposite; it always succeeds
    /// when there is none.
    pub Vec<(SignedDuration, bool)>,
);

impl Answers {
    /// Whether the probe succeeds when the run is so old.
    pub fn at(&self, age: SignedDuration) -> bool {
        let last = self.0.iter().rev().find(|(from, _)| *from <= age);
        match (last, self.0.first()) {
            (Some((_, answer)), _) => *answer,
            (None, Some((_, first))) => !first,
            (None, None) => true,
        }
    }
}

impl Run {
    /// Starts well, runs on, and ends with 0 as soon as it is asked to; hooks take no time, probes succeed.
    pub const fn on() -> Self {
        Run {
            lasts: None,
            code: 0,
            on_stop: Some((SignedDuration::ZERO, 0)),
            start: Starts::Well,
            post_start: SignedDuration::ZERO,
            post_start_fails: false,
            pre_stop: SignedDuration::ZERO,
            probes: BTreeMap::new(),
        }
    }

    /// Ends by itself.
    pub const fn ends(after: SignedDuration, code: i32) -> Self {
        let mut run = Run::on();
        run.lasts = Some(after);
        run.code = code;
        run
    }
}

/// What the runs of each container do, by its name; the last one is what all later ones do. A container that is not in it runs on.
pub type Conduct = BTreeMap<String, Vec<Run>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_hold_until_the_next() {
        let seconds = SignedDuration::from_secs;
        let answers = |list: &[(i64, bool)]| {
            Answers(list.iter().map(|(at, ok)| (seconds(*at), *ok)).collect())
        };
        for (list, ages) in [
            (&[][..], [true, true, true, true]),
            (&[(3, false)], [true, true, false, false]),
            (&[(3, true)], [false, false, true, true]),
            (&[(0, false), (5, true)], [false, false, false, true]),
            (
                &[(0, true), (3, false), (5, true)],
                [true, true, false, true],
            ),
        ] {
            assert_eq!(
                [0, 2, 3, 5].map(|age| answers(list).at(seconds(age))),
                ages,
                "{list:?}"
            );
        }
    }
}
