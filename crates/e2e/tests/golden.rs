//! Every recording of upstream under `golden/`, played against one engine. `golden FILTER` plays some of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use e2e::engine::{Engine, Outside};
use e2e::golden::{Case, Run, Stage, differences, play, warm};
use libtest_mimic::{Arguments, Failed, Trial};

/// Cases played at once: they wait more than they work.
const AT_ONCE: usize = 6;

/// Turns a case has. What a recording holds of a race (which of two exits a watch shows first) differs on upstream itself; a
/// case that needs more than one turn is told.
const TURNS: u32 = 3;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None).unwrap_or_default()).exit_code();
    }
    match play_all(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play_all(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let outside = Outside::from_env()?;
    let engine = Engine::start(&outside)?;
    let stage = Stage {
        kubeconfig: engine.kubeconfig(),
        kubectl: outside.kubectl,
    };
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    );
    runtime
        .block_on(warm(&stage))
        .context("bring the images of the cases in")?;
    let conclusion = libtest_mimic::run(arguments, trials(Some((stage, runtime)))?);
    engine.down()?;
    Ok(conclusion.exit_code())
}

type Played = (Stage, Arc<tokio::runtime::Runtime>);

fn trials(played: Option<Played>) -> anyhow::Result<Vec<Trial>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("cases"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    files.sort();
    let trial = |file: PathBuf| {
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let recording = folder.join("recorded").join(format!("{name}.json"));
        let played = played.clone();
        Trial::test(name, move || check(&file, &recording, played))
    };
    Ok(files.into_iter().map(trial).collect())
}

fn check(file: &Path, recording: &Path, played: Option<Played>) -> Result<(), Failed> {
    let Some((stage, runtime)) = played else {
        return Err("there is no engine to play against".into());
    };
    let compare = |turn: u32| -> anyhow::Result<Vec<String>> {
        let case = Case::read(file)?;
        let namespace = format!("g-{}-{}-{turn}", case.name, std::process::id());
        let run = runtime.block_on(play(&stage, &case, &namespace))?;
        Ok(differences(&Run::read_all(recording)?, &run))
    };
    let mut last = Vec::new();
    for turn in 1..=TURNS {
        match compare(turn) {
            Ok(lines) if lines.is_empty() => return Ok(()),
            Ok(lines) => last = lines,
            Err(error) => return Err(format!("{error:#}").into()),
        }
        eprintln!(
            "{}: turn {turn} of {TURNS} differs\n{}",
            file.display(),
            last.join("\n")
        );
    }
    Err(format!("differs from upstream:\n{}", last.join("\n")).into())
}
