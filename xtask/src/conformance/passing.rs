//! `conformance/passing.tsv`: the specs that pass, one a line, with the seconds one took. What is in it never fails again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::report::{End, Outcome};
use crate::run;

/// The specs that pass, with their seconds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Passing(BTreeMap<String, u64>);

impl Passing {
    /// Reads the list; a missing file is an empty one.
    ///
    /// # Errors
    /// When a line is not a name, a tab and a number.
    pub(super) fn read() -> Result<Self> {
        let path = path();
        if path.exists() {
            Self::parse(&fs::read_to_string(&path)?)
                .with_context(|| format!("read {}", path.display()))
        } else {
            Ok(Self::default())
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(|line| {
            let (name, seconds) = line
                .rsplit_once('\t')
                .with_context(|| format!("no tab: {line}"))?;
            let seconds = seconds
                .parse()
                .with_context(|| format!("no seconds: {line}"))?;
            Ok((name.to_owned(), seconds))
        });
        lines.collect::<Result<_>>().map(Self)
    }

    /// Writes the list, sorted by name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&self) -> Result<()> {
        let path = path();
        fs::write(&path, self.render()).with_context(|| format!("write {}", path.display()))
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for (name, seconds) in &self.0 {
            let _ = writeln!(text, "{name}\t{seconds}");
        }
        text
    }

    /// Takes over what passed, and returns how many are new. A known spec keeps its seconds while they are about right, so that
    /// the file changes with the engine and not with every run.
    pub(super) fn take(&mut self, outcomes: &[Outcome]) -> usize {
        let before = self.0.len();
        for outcome in outcomes.iter().filter(|outcome| outcome.end == End::Passed) {
            let seconds = outcome.seconds.ceil() as u64;
            let known = self.0.entry(outcome.name.clone()).or_insert(seconds);
            if known.abs_diff(seconds) > 2 + *known / 2 {
                *known = seconds;
            }
        }
        self.0.len() - before
    }

    /// Those that take less than so many seconds.
    pub(super) fn faster_than(&self, seconds: u64) -> Vec<&str> {
        let fast = self.0.iter().filter(|(_, took)| **took < seconds);
        fast.map(|(name, _)| name.as_str()).collect()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

fn path() -> PathBuf {
    run::root().join(Path::new("conformance/passing.tsv"))
}

#[cfg(test)]
mod tests {
    use super::Passing;
    use crate::conformance::report::{End, Outcome};

    fn passed(name: &str, seconds: f64) -> Outcome {
        Outcome {
            name: name.to_owned(),
            seconds,
            end: End::Passed,
        }
    }

    #[test]
    fn a_list_grows_and_stays_the_same_otherwise() {
        let mut list = Passing::parse("a\t4\nc [Slow]\t60\n").unwrap();
        let failed = Outcome {
            end: End::Failed(String::new()),
            ..passed("d", 1.0)
        };
        let new = list.take(&[
            passed("b", 1.2),
            passed("a", 5.5),
            passed("c [Slow]", 20.0),
            failed,
        ]);
        assert_eq!(new, 1);
        assert_eq!(list.render(), "a\t4\nb\t2\nc [Slow]\t20\n");
        assert_eq!(list.faster_than(4), ["b"]);
        assert!(!list.contains("d"));
    }

    #[test]
    fn the_list_in_the_repository_can_be_read() {
        Passing::read().unwrap();
    }
}
