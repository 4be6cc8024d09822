//! `rollout`: status, history and changes of workloads' rollouts.

mod history;
mod progress;
mod revision;
mod status;
mod undo;

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::write::Writer;
use crate::args::{RolloutChangeArgs, RolloutCommand, WorkloadArgs, WriteArgs};
use crate::connect::{JSON, Server};
use crate::discovery::{Resource, Resources};
use crate::failure;
use crate::select::{Item, Selection};

const MANAGER: &str = "kubectl-rollout";
/// Says when a template was last changed to get new Pods.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// `carob rollout`
pub(crate) async fn rollout(server: &Server, command: &RolloutCommand) -> anyhow::Result<ExitCode> {
    match command {
        RolloutCommand::Status(args) => status::status(server, args).await,
        RolloutCommand::History(args) => history::history(server, args).await,
        RolloutCommand::Undo(args) => undo::undo(server, args).await,
        RolloutCommand::Restart(args) => change(server, args, Change::Restart).await,
        RolloutCommand::Pause(args) => change(server, args, Change::Pause).await,
        RolloutCommand::Resume(args) => change(server, args, Change::Resume).await,
    }
}

/// The workloads that words, files or labels mean; a type without names is all of it.
async fn items(
    server: &Server,
    args: &WorkloadArgs,
) -> anyhow::Result<(Vec<Item>, Vec<anyhow::Error>)> {
    if args.words.is_empty() && args.files.filenames.is_empty() {
        bail!("required resource not specified");
    }
    let resources = Resources::discover(server).await?;
    let is_type_alone = args.words.len() == 1 && !args.words[0].contains('/');
    let selection = Selection {
        words: &args.words,
        files: args.files.clone(),
        label_selector: args.selector.as_deref(),
        all: is_type_alone,
        ..Selection::default()
    };
    let (items, failures) = selection.items(server, &resources).await?;
    if items.is_empty() && failures.is_empty() {
        eprintln!("No resources found in {} namespace.", server.namespace);
    }
    Ok((items, failures))
}

/// `deployments.apps`
fn plural(resource: &Resource) -> String {
    match resource.group.as_str() {
        "" => resource.plural.clone(),
        group => format!("{}.{group}", resource.plural),
    }
}

/// `Job.batch`
fn group_kind(resource: &Resource) -> String {
    match resource.group.as_str() {
        "" => resource.kind.clone(),
        group => format!("{}.{group}", resource.kind),
    }
}

/// What is said of a kind without revisions, which have no `part`: kubectl has other words for one that makes no Pods.
fn without_revisions(resource: &Resource, part: &str, wanted: &str) -> anyhow::Error {
    let (group, kind) = (resource.group.as_str(), resource.kind.as_str());
    let title = group_kind(resource);
    match (group, kind) {
        ("", "Pod" | "ReplicationController")
        | ("apps", "ReplicaSet")
        | ("batch", "Job" | "CronJob") => {
            anyhow!("no {part} has been implemented for {title:?}")
        }
        _ => anyhow!(
            "error retrieving {wanted} for {title:?}, no visitor method exists for {{{group} {kind}}}"
        ),
    }
}

/// The kind, if it is one of `apps`.
fn kind_of_apps(resource: &Resource) -> Option<&str> {
    (resource.group == "apps").then_some(resource.kind.as_str())
}

/// What changes a workload at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Restart,
    Pause,
    Resume,
}

impl Change {
    fn participle(self) -> &'static str {
        match self {
            Change::Restart => "restarted",
            Change::Pause => "paused",
            Change::Resume => "resumed",
        }
    }
}

/// `carob rollout restart`, `pause`, `resume`
async fn change(
    server: &Server,
    args: &RolloutChangeArgs,
    change: Change,
) -> anyhow::Result<ExitCode> {
    let write = WriteArgs {
        output: args.output.clone(),
        field_manager: args.field_manager.clone(),
        ..WriteArgs::default()
    };
    let writer = Writer::new(&write, MANAGER)?;
    let (items, mut failures) = items(server, &args.workloads).await?;
    for item in &items {
        let done = one(server, &writer, item, change).await;
        failures.extend(done.err());
    }
    Ok(failure::outcome(&failures))
}

async fn one(server: &Server, writer: &Writer, item: &Item, change: Change) -> anyhow::Result<()> {
    let before = server.get(&item.path(), JSON).await?;
    let patch = decide(
        change,
        kind_of_apps(&item.resource),
        &before,
        Timestamp::now(),
    )
    .map_err(|reason| anyhow!("{} {:?} {reason}", plural(&item.resource), item.name))?;
    let Some(patch) = patch else {
        bail!(
            "failed to create patch for {}: if restart has already been triggered within the past second, please wait before attempting to trigger another",
            item.name
        );
    };
    let path = format!("{}{}", item.path(), writer.query(&[]));
    let after = server
        .patch(&path, "application/strategic-merge-patch+json", &patch)
        .await
        .map_err(|error| anyhow!("failed to patch: {}", failure::words(&error)))?;
    writer.done(&item.label(), change.participle(), &after)
}

/// The patch; `None` if it would change nothing.
fn decide(
    change: Change,
    kind: Option<&str>,
    object: &Value,
    now: Timestamp,
) -> Result<Option<Value>, &'static str> {
    let is_paused = object["spec"]["paused"] == true;
    match (change, kind) {
        (Change::Restart, Some("Deployment" | "StatefulSet" | "DaemonSet")) => {
            if kind == Some("Deployment") && is_paused {
                return Err("can't restart paused deployment (run rollout resume first)");
            }
            let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let before = &object["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT];
            let metadata = json!({"annotations": {RESTARTED_AT: now}});
            let patch = json!({"spec": {"template": {"metadata": metadata}}});
            Ok((*before != now.as_str()).then_some(patch))
        }
        (Change::Restart, _) => Err("restarting is not supported"),
        (Change::Pause, Some("Deployment")) if is_paused => Err("is already paused"),
        (Change::Pause, Some("Deployment")) => Ok(Some(json!({"spec": {"paused": true}}))),
        (Change::Pause, _) => Err("pausing is not supported"),
        (Change::Resume, Some("Deployment")) if !is_paused => Err("is not paused"),
        (Change::Resume, Some("Deployment")) => Ok(Some(json!({"spec": {"paused": null}}))),
        (Change::Resume, _) => Err("resuming is not supported"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_become_patches() {
        let now: Timestamp = "2026-01-02T03:04:05.6Z".parse().expect("a time");
        let restarted = json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: "2026-01-02T03:04:05Z"}}}}});
        let (runs, paused) = (json!({"spec": {}}), json!({"spec": {"paused": true}}));
        let deployment = Some("Deployment");
        for (change, kind, object, expected) in [
            (
                Change::Restart,
                deployment,
                &runs,
                Ok(Some(restarted.clone())),
            ),
            (
                Change::Restart,
                Some("StatefulSet"),
                &runs,
                Ok(Some(restarted.clone())),
            ),
            (
                Change::Restart,
                Some("DaemonSet"),
                &runs,
                Ok(Some(restarted.clone())),
            ),
            (Change::Restart, deployment, &restarted, Ok(None)),
            (
                Change::Restart,
                deployment,
                &paused,
                Err("can't restart paused deployment (run rollout resume first)"),
            ),
            (
                Change::Restart,
                Some("ReplicaSet"),
                &runs,
                Err("restarting is not supported"),
            ),
            (Change::Pause, deployment, &runs, Ok(Some(paused.clone()))),
            (Change::Pause, deployment, &paused, Err("is already paused")),
            (
                Change::Pause,
                Some("StatefulSet"),
                &runs,
                Err("pausing is not supported"),
            ),
            (
                Change::Resume,
                deployment,
                &paused,
                Ok(Some(json!({"spec": {"paused": null}}))),
            ),
            (Change::Resume, deployment, &runs, Err("is not paused")),
            (
                Change::Resume,
                Some("DaemonSet"),
                &paused,
                Err("resuming is not supported"),
            ),
            (
                Change::Resume,
                None,
                &runs,
                Err("resuming is not supported"),
            ),
        ] {
            assert_eq!(
                decide(change, kind, object, now),
                expected,
                "{change:?} {object}"
            );
        }
    }
    #[test]
    fn kinds_without_revisions_are_told_apart() {
        for (group, kind, expected) in [
            ("", "Pod", "no rollbacker has been implemented for \"Pod\""),
            (
                "batch",
                "Job",
                "no rollbacker has been implemented for \"Job.batch\"",
            ),
            (
                "",
                "ConfigMap",
                "error retrieving history for \"ConfigMap\", no visitor method exists for { ConfigMap}",
            ),
            (
                "apps",
                "ControllerRevision",
                "error retrieving history for \"ControllerRevision.apps\", no visitor method exists for {apps ControllerRevision}",
            ),
        ] {
            let resource = Resource {
                group: group.into(),
                kind: kind.into(),
                ..Resource::default()
            };
            let error = without_revisions(&resource, "rollbacker", "history");
            assert_eq!(error.to_string(), expected);
        }
    }
}
