//! `plan`: what becomes of the Pods in files if their containers behave as the flags suppose. No engine is asked: defaults and
//! validation are those of the API server, the life is that of [`lifecycle::forecast`].

mod check;
mod show;
mod suppose;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::{Context, bail};
use jiff::SignedDuration;
use lifecycle::forecast::forecast;
use serde_json::json;

use self::suppose::Suppositions;
use crate::args::{Global, PlanArgs};
use crate::failure;
use crate::manifest;
use crate::output::{Format, qualified_name};

/// Longer than this nobody looks, and a Pod whose probes are asked every second comes to many attempts.
const FARTHEST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// `carob plan`
pub(crate) async fn plan(args: &PlanArgs, global: &Global) -> anyhow::Result<ExitCode> {
    if args.files.filenames.is_empty() {
        bail!("must specify -f");
    }
    let format = Format::parse(args.output.as_deref().unwrap_or_default())?;
    let horizon = suppose::duration(&args.until).context("--until")?;
    if horizon > FARTHEST {
        bail!(
            "--until {}: no more than a week can be looked ahead",
            args.until
        );
    }
    let suppositions = Suppositions::read(args)?;
    let read = manifest::read(&args.files).await;
    let mut failures = read.failures;
    let mut pods = Vec::new();
    for document in read.documents {
        if document.object["kind"] != "Pod" {
            eprintln!(
                "{} is no Pod and left out",
                qualified_name(&document.object)
            );
            continue;
        }
        match check::pod(document, global.namespace.as_deref()) {
            Ok(pod) => pods.push(pod),
            Err(error) => failures.push(error),
        }
    }
    if pods.is_empty() && failures.is_empty() {
        bail!("the files describe no Pod");
    }
    if let Some(name) = suppositions.unknown(&pods).filter(|_| failures.is_empty()) {
        bail!("no Pod has a container {name}");
    }
    let mut items = Vec::new();
    for pod in pods {
        let conduct = suppositions.conduct(&pod)?;
        let supposed = show::supposed(&pod, &conduct);
        let life = forecast(pod.clone(), conduct, horizon)?;
        match format {
            Format::Table { .. } => print!("{}", show::text(&pod, &supposed, &life, horizon)),
            _ => items.push(show::json(&pod, &supposed, &life)),
        }
    }
    if !items.is_empty() {
        print!("{}", format.print(&json!({"items": items}))?);
    }
    Ok(failure::outcome(&failures))
}
