//! `conformance/passing.tsv`: the specs that pass, one a line, with the seconds one took, and the number of nodes if one is not
//! enough. What is in it never fails again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::report::{End, Outcome};
use crate::run;

/// The specs that pass.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Passing(BTreeMap<String, Pass>);

/// How one passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pass {
    seconds: u64,
    /// The fewest it was seen to pass with.
    nodes: u8,
}

impl Passing {
    /// Reads the list; a missing file is an empty one.
    ///
    /// # Errors
    /// When a line is not a name and one or two numbers, with tabs between them.
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
            let mut parts = line.split('\t');
            let name = parts.next().unwrap_or_default().to_owned();
            let seconds = parts
                .next()
                .with_context(|| format!("no tab: {line}"))?
                .parse()
                .with_context(|| format!("no seconds: {line}"))?;
            let nodes = parts
                .next()
                .map_or(Ok(1), str::parse)
                .with_context(|| format!("no number of nodes: {line}"))?;
            Ok((name, Pass { seconds, nodes }))
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
        for (name, Pass { seconds, nodes }) in &self.0 {
            let _ = match nodes {
                1 => writeln!(text, "{name}\t{seconds}"),
                _ => writeln!(text, "{name}\t{seconds}\t{nodes}"),
            };
        }
        text
    }

    /// Takes over what passed with so many nodes, and returns how many are new. A known spec keeps its seconds while they are about right, so that
    /// the file changes with the engine and not with every run.
    pub(super) fn take(&mut self, outcomes: &[Outcome], nodes: u8) -> usize {
        let before = self.0.len();
        for outcome in outcomes.iter().filter(|outcome| outcome.end == End::Passed) {
            let seconds = outcome.seconds.ceil() as u64;
            let pass = Pass { seconds, nodes };
            let known = self.0.entry(outcome.name.clone()).or_insert(pass);
            if known.seconds.abs_diff(seconds) > 2 + known.seconds / 2 {
                known.seconds = seconds;
            }
            known.nodes = known.nodes.min(nodes);
        }
        self.0.len() - before
    }

    /// Those that take less than so many seconds, and need just so many nodes.
    pub(super) fn faster_than(&self, seconds: u64, nodes: u8) -> Vec<&str> {
        let is_wanted = |pass: &Pass| pass.seconds < seconds && pass.nodes == nodes;
        let fast = self.0.iter().filter(|(_, pass)| is_wanted(pass));
        fast.map(|(name, _)| name.as_str()).collect()
    }

    /// Is it in the list, and are so many nodes enough for it?
    pub(super) fn contains(&self, name: &str, nodes: u8) -> bool {
        self.0.get(name).is_some_and(|pass| pass.nodes <= nodes)
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
        let outcomes = [
            passed("b", 1.2),
            passed("a", 5.5),
            passed("c [Slow]", 20.0),
            failed,
        ];
        assert_eq!(list.take(&outcomes, 1), 1);
        assert_eq!(list.render(), "a\t4\nb\t2\nc [Slow]\t20\n");
        assert_eq!(list.faster_than(4, 1), ["b"]);
        assert!(!list.contains("d", 1));
    }

    #[test]
    fn a_spec_is_expected_to_pass_where_there_are_as_many_nodes_as_it_once_needed() {
        let mut list = Passing::parse("a\t4\nb\t3\t2\n").unwrap();
        let again = [passed("a", 4.0), passed("b", 3.0), passed("c", 2.0)];
        assert_eq!(list.take(&again, 2), 1);
        assert_eq!(list.render(), "a\t4\nb\t3\t2\nc\t2\t2\n");
        assert_eq!(list.faster_than(4, 2), ["b", "c"]);
        assert!(list.contains("c", 2) && !list.contains("c", 1));
        assert_eq!(list.take(&[passed("c", 2.0)], 1), 0);
        assert_eq!(list.faster_than(4, 1), ["c"]);
    }

    #[test]
    fn the_list_in_the_repository_can_be_read() {
        Passing::read().unwrap();
    }
}
