//! Predictions: what `carob plan` says of a Pod, and what the engine then makes of it. Each Pod of [`cases`] is predicted without an
//! engine and run on one; the order of states has to be the same, as [`compare`] defines it.

mod cases;
mod compare;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use e2e::client::Api;
use e2e::engine::{Engine, Outside};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::cases::{CASES, Case};
use crate::compare::{Progress, Snapshot};

/// Pods at once: they wait more than they work.
const AT_ONCE: usize = 12;
/// Longer than any Pod takes to show what was predicted.
const PATIENCE: Duration = Duration::from_secs(120);
const PODS: &str = "/api/v1/namespaces/default/pods";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a trial needs.
struct Stage {
    engine: Engine,
    runtime: tokio::runtime::Runtime,
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let engine = Engine::start(&Outside::from_env()?)?;
    engine.carob(["image", "pull", cases::IMAGE])?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let stage = Arc::new(Stage { engine, runtime });
    let conclusion = libtest_mimic::run(arguments, trials(Some(&stage)));
    let stage = Arc::into_inner(stage).context("a trial still holds the engine")?;
    stage.engine.down()?;
    Ok(conclusion.exit_code())
}

fn trials(stage: Option<&Arc<Stage>>) -> Vec<Trial> {
    let trial = |case: &'static Case| {
        let stage = stage.cloned();
        Trial::test(case.name, move || {
            let stage = stage.ok_or("there is no engine to run on")?;
            check(&stage, case).map_err(|error| format!("{error:#}").into())
        })
    };
    CASES.iter().map(trial).collect()
}

fn check(stage: &Stage, case: &Case) -> anyhow::Result<()> {
    let predicted = predict(stage, case)?;
    let tracks = compare::tracks(&predicted);
    if let Some(wrong) = compare::disorder(&predicted) {
        bail!("predicted: {wrong}");
    }
    let recorded = stage.runtime.block_on(record(stage, case, &tracks))?;
    let here = compare::tracks(&recorded);
    if compare::follow_all(&tracks, &here) != Progress::Whole {
        bail!(
            "the order of states differs\n{}",
            compare::shown_beside(&tracks, &here)
        );
    }
    match compare::disorder(&recorded) {
        Some(wrong) => bail!("recorded: {wrong}"),
        None => Ok(()),
    }
}

/// Asks `carob plan`, which is not told of the engine.
fn predict(stage: &Stage, case: &Case) -> anyhow::Result<Vec<Snapshot>> {
    let file = stage.engine.root().join(format!("{}.yaml", case.name));
    std::fs::write(&file, case.manifest())?;
    let file = file.display().to_string();
    let mut command = std::process::Command::new(Outside::from_env()?.carob);
    command.args([
        "--kubeconfig",
        "/nonexistent",
        "plan",
        "-o",
        "json",
        "-f",
        &file,
    ]);
    let output = command
        .args(case.supposed)
        .output()
        .context("start carob plan")?;
    if !output.status.success() {
        bail!("carob plan: {}", String::from_utf8_lossy(&output.stderr));
    }
    let list: Value = serde_json::from_slice(&output.stdout).context("read the prediction")?;
    Ok(compare::predicted(&list["items"][0]))
}

/// Runs the Pod, and returns what its watch showed until all that was predicted has been seen, or something else.
async fn record(
    stage: &Stage,
    case: &Case,
    predicted: &compare::Tracks,
) -> anyhow::Result<Vec<Snapshot>> {
    let api = Api::from_kubeconfig(&stage.engine.kubeconfig()).await?;
    let now = api.get(PODS).await?["metadata"]["resourceVersion"].clone();
    let version = now.as_str().context("a list has a version")?;
    let path = format!(
        "{PODS}?watch=true&fieldSelector=metadata.name={}&resourceVersion={version}",
        case.name
    );
    let (sender, mut events) = mpsc::unbounded_channel();
    let watcher = api.clone();
    let watching = tokio::spawn(async move {
        watcher
            .watch(&path, "application/json", |event| {
                // Nobody listens any more once enough was seen.
                let _ = sender.send(event);
            })
            .await
    });
    api.create(PODS, &serde_saphyr::from_str(&case.manifest())?)
        .await?;
    let mut seen = Vec::new();
    let all = async {
        while let Some(event) = events.recv().await {
            if event["type"] == "DELETED" {
                break;
            }
            seen.push(compare::recorded(&event["object"]));
            if compare::follow_all(predicted, &compare::tracks(&seen)) != Progress::Partly {
                break;
            }
        }
    };
    // What is missing then is told by the comparison.
    let _ = tokio::time::timeout(PATIENCE, all).await;
    watching.abort();
    api.delete(&format!("{PODS}/{}?gracePeriodSeconds=0", case.name))
        .await?;
    Ok(seen)
}
