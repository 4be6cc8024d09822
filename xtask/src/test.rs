//! `cargo xtask test`: what CI runs, part by part, closed by one line that adds all test runners up.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::{conformance, deny, images, run, schema, setup, tidy, tools};

/// The parts, in the order they run.
const PARTS: [&str; 7] = [
    "tidy",
    "deny",
    "schema",
    "crates",
    "e2e",
    "golden",
    "conformance",
];

/// The simulated lives CI looks at.
const SEEDS: &str = "1..1000";

/// What runs against an engine but the recordings. None of them runs by default: `e2e` says so in its manifest.
const END_TO_END: [&str; 6] = [
    "scenarios",
    "predictions",
    "images",
    "play",
    "leaks",
    "kills",
];

/// Tests that passed and failed so far.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    passed: u64,
    failed: u64,
}

/// Runs the named parts, or all of them. A part that fails does not keep the next from running.
pub(crate) fn test(parts: &[String]) -> anyhow::Result<()> {
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("there is no part {unknown}; parts are {}", PARTS.join(", "));
    }
    setup::install()?;
    let mut count = Count::default();
    let mut broken = Vec::new();
    for part in PARTS
        .iter()
        .filter(|part| parts.is_empty() || parts.iter().any(|wanted| wanted == *part))
    {
        eprintln!("== {part}");
        let ended = match *part {
            "tidy" => house_rules(),
            "deny" => deny::check(),
            "schema" => schema::check(),
            "crates" => cargo_test(&[], &[("SIM_SEEDS", SEEDS.into())], &mut count),
            "e2e" => end_to_end(&END_TO_END, &mut count),
            "golden" => end_to_end(&["golden"], &mut count),
            _ => conformance(&mut count),
        };
        if let Err(error) = ended {
            eprintln!("{part}: {error:#}");
            broken.push(*part);
        }
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    if !broken.is_empty() {
        bail!("not green: {}", broken.join(", "));
    }
    Ok(())
}

/// Cases of each property when nobody says how many.
const CASES: u32 = 100_000;

/// Where the invariants of the lifecycle specification (§16) are properties, as arguments of `cargo test`.
const PROPERTIES: [&[&str]; 5] = [
    &["-p", "lifecycle", "--test", "lives"],
    &["-p", "admission", "--test", "properties"],
    &["-p", "volumes", "--test", "versions"],
    &["-p", "kubelet", "--lib", "env::properties"],
    &["-p", "apiserver", "--lib", "rest::delete::properties"],
];

/// Tries the invariants with many cases, others than CI's: the slow profile.
pub(crate) fn properties(cases: &[String]) -> anyhow::Result<()> {
    let cases = match cases {
        [] => CASES,
        [cases] => cases.parse().context("CASES is a number")?,
        _ => bail!("properties takes one number of cases"),
    };
    for tests in PROPERTIES {
        let mut command = run::cargo();
        command.args(["test", "--locked", "--release"]).args(tests);
        run::command(command.env("PROPTEST_CASES", cases.to_string()))?;
    }
    Ok(())
}

/// Format, lints, arrows.
fn house_rules() -> anyhow::Result<()> {
    run::command(run::cargo().args(["fmt", "--all", "--check"]))?;
    run::command(run::cargo().args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    tidy::check()
}

/// Tests against a running engine: the release binary, stock kubectl, a registry on loopback.
fn end_to_end(tests: &[&str], count: &mut Count) -> anyhow::Result<()> {
    let tools = tools::build_all()?;
    let carob = run::build_release(&[])?;
    let registry = images::Registry::start_filled(&tools)?;
    let environment: [(&str, OsString); 4] = [
        ("CAROB_BIN", carob.into()),
        ("CAROB_KUBECTL", tools.kubectl.into()),
        ("CAROB_OLDER_KUBECTL", tools.older_kubectl.into()),
        ("CAROB_REGISTRY", registry.address().into()),
    ];
    cargo_test(tests, &environment, count)
}

/// Upstream's specs that passed before and are fast, against the release binary.
fn conformance(count: &mut Count) -> anyhow::Result<()> {
    let mut tally = conformance::Tally::default();
    let ended = conformance::fast(&mut tally);
    count.passed += tally.passed;
    count.failed += tally.failed;
    ended
}

/// Runs `cargo test`, shows what it says, and adds its result lines up: all tests that run by default, or the named ones.
///
/// Always of the whole workspace: Cargo unites the features that the chosen packages ask of a dependency, and would compile all
/// of them again for a part of it.
fn cargo_test(
    tests: &[&str],
    environment: &[(&str, OsString)],
    count: &mut Count,
) -> anyhow::Result<()> {
    let mut command = run::cargo();
    command
        .args(["test", "--locked", "--no-fail-fast", "--workspace"])
        .args(tests.iter().flat_map(|name| ["--test", name]))
        .envs(environment.iter().cloned());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo test")?;
    for line in BufReader::new(child.stdout.take().context("hear cargo test")?).lines() {
        let line = line?;
        println!("{line}");
        if let Some(result) = result_line(&line) {
            count.passed += result.passed;
            count.failed += result.failed;
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo test failed ({status})");
    }
    Ok(())
}

/// Reads `test result: ok. 6 passed; 0 failed; …`.
fn result_line(line: &str) -> Option<Count> {
    let (_, result) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        result
            .split("; ")
            .find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
    };
    Some(Count {
        passed: number("passed")?,
        failed: number("failed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::result_line;

    #[test]
    fn reads_the_runners_last_line() {
        let ok = result_line(
            "test result: ok. 6 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        assert_eq!(ok.map(|count| (count.passed, count.failed)), Some((6, 0)));
        let bad = result_line(
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!(bad.map(|count| (count.passed, count.failed)), Some((2, 3)));
        assert!(result_line("test a ... ok").is_none());
    }
}
