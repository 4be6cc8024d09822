//! Upstream's suite as a program, run by Ginkgo against an engine.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::report::{self, Outcome};
use crate::tools::{Suite, Tools};

/// Specs that run at a time. They wait more than they work.
const WORKERS: &str = "--procs=4";

/// Which specs run.
pub(super) enum Choice<'a> {
    /// Those whose labels match a Ginkgo label filter.
    Labels(&'a str),
    /// Those with these names.
    Names(Vec<&'a str>),
}

impl Choice<'_> {
    fn flag(&self) -> String {
        match self {
            Self::Labels(filter) => format!("--label-filter={filter}"),
            Self::Names(names) => {
                let names: Vec<String> = names.iter().map(|name| escaped(name)).collect();
                format!("--focus= (?:{})$", names.join("|"))
            }
        }
    }
}

/// Runs the chosen specs, for `minutes` at most, and leaves report and log in `directory`.
///
/// # Errors
/// When the suite does not start, or ends without a report.
pub(super) fn run(
    suite: &Suite,
    tools: &Tools,
    choice: &Choice<'_>,
    minutes: u32,
    kubeconfig: &Path,
    directory: &Path,
) -> Result<Vec<Outcome>> {
    fs::create_dir_all(directory)?;
    let report = directory.join("report.json");
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let log_path = directory.join("suite.log");
    let log = File::create(&log_path).context("make the suite's log")?;
    let path = |flag: &str, path: &Path| format!("{flag}={}", path.display());
    // Failed specs make Ginkgo fail: the report tells more.
    Command::new(&suite.ginkgo)
        .args([
            WORKERS,
            "--keep-going",
            "--no-color",
            &format!("--timeout={minutes}m"),
        ])
        .args([
            "--json-report=report.json",
            &path("--output-dir", directory),
        ])
        .arg(choice.flag())
        .arg(&suite.program)
        .arg("--")
        .args([
            "--provider=skeleton",
            "--disable-log-dump=true",
            "--allowed-not-ready-nodes=0",
        ])
        .arg(path("--kubeconfig", kubeconfig))
        .arg(path("--kubectl-path", &tools.kubectl))
        .arg(path("--report-dir", directory))
        .stdin(Stdio::null())
        .stderr(log.try_clone()?)
        .stdout(log)
        .status()
        .context("start ginkgo")?;
    let text = fs::read_to_string(&report)
        .with_context(|| format!("the suite wrote no report; see {}", log_path.display()))?;
    report::read(&text)
}

/// A text as a regular expression that matches it alone.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::Choice;

    #[test]
    fn names_become_one_expression() {
        let choice = Choice::Names(vec!["[sig-node] a.b (c)", "d *e*"]);
        assert_eq!(
            choice.flag(),
            r"--focus= (?:\[sig-node\] a\.b \(c\)|d \*e\*)$"
        );
    }
}
