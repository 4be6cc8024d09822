//! `rollout undo`: back to the template of an earlier revision.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use serde_json::{Map, Value, json};

use super::{group_kind, items, kind_of_apps};
use crate::args::{RolloutUndoArgs, WriteArgs};
use crate::connect::{JSON, Server};
use crate::describe;
use crate::failure;
use crate::select::Item;
use crate::verbs::write::{DryRun, Writer};
use crate::workloads::{REVISION, bare, is_same_template, of_revision, replica_sets};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations that each object keeps for itself.
const OWN: [&str; 6] = [
    LAST_APPLIED,
    REVISION,
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
];

/// `carob rollout undo`
pub(super) async fn undo(server: &Server, args: &RolloutUndoArgs) -> anyhow::Result<ExitCode> {
    let write = WriteArgs {
        output: args.output.clone(),
        dry_run: args.dry_run.clone(),
        field_manager: None,
    };
    let writer = Writer::new(&write, super::MANAGER)?;
    let (items, mut failures) = items(server, &args.workloads).await?;
    for item in &items {
        let done = one(server, &writer, item, args.to_revision).await;
        failures.extend(done.err());
    }
    Ok(failure::outcome(&failures))
}

async fn one(server: &Server, writer: &Writer, item: &Item, wanted: i64) -> anyhow::Result<()> {
    let deployment = server.get(&item.path(), JSON).await?;
    if deployment["metadata"]["annotations"][LAST_APPLIED].is_string() {
        eprintln!(
            "Warning: resource {}/{} was previously managed with 'carob apply'. Rolling back will not update the {LAST_APPLIED} annotation, which may cause unexpected behavior on future 'carob apply' operations. Consider using 'carob apply' with your previous configuration file instead.",
            item.resource.plural, item.name
        );
    }
    if kind_of_apps(&item.resource) != Some("Deployment") {
        bail!(
            "no rollbacker has been implemented for {:?}",
            group_kind(&item.resource)
        );
    }
    let sets = replica_sets(server, &deployment).await?;
    let set = of_revision(&sets, wanted).ok_or_else(|| match wanted {
        0 => anyhow!("no rollout history found for deployment {:?}", item.name),
        _ => anyhow!("unable to find specified revision {wanted} in history"),
    })?;
    let template = &set["spec"]["template"];
    let participle = if writer.dry_run == DryRun::Client {
        describe::template(template)
    } else if deployment["spec"]["paused"] == true {
        bail!(
            "you cannot rollback a paused deployment; resume it first with 'carob rollout resume' and try again"
        );
    } else if is_same_template(template, &deployment["spec"]["template"]) {
        format!("skipped rollback (current template already matches revision {wanted})")
    } else {
        let path = format!("{}{}", item.path(), writer.query(&[]));
        let patch = patch(&deployment, set);
        let answer = server
            .patch(&path, "application/json-patch+json", &patch)
            .await;
        answer.map_err(|error| {
            anyhow!(
                "failed restoring revision {wanted}: {}",
                failure::words(&error)
            )
        })?;
        "rolled back".to_owned()
    };
    writer.done(&item.label(), &participle, &deployment)
}

/// Puts the template of a ReplicaSet and its annotations into a Deployment.
fn patch(deployment: &Value, set: &Value) -> Value {
    let annotations = |object: &Value, own: bool| -> Map<String, Value> {
        let all = object["metadata"]["annotations"].as_object();
        let pairs = all.into_iter().flatten();
        pairs
            .filter(|(key, _)| OWN.contains(&key.as_str()) == own)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let mut kept = annotations(deployment, true);
    kept.extend(annotations(set, false));
    json!([
        {"op": "replace", "path": "/spec/template", "value": bare(&set["spec"]["template"])},
        {"op": "replace", "path": "/metadata/annotations", "value": kept},
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_keeps_its_own_annotations() {
        let deployment =
            json!({"metadata": {"annotations": {LAST_APPLIED: "{}", REVISION: "2", "why": "new"}}});
        let set = json!({"metadata": {"annotations": {REVISION: "1", "deployment.kubernetes.io/max-replicas": "4", "why": "old"}},
            "spec": {"template": {"metadata": {"labels": {"app": "web", "pod-template-hash": "x"}}, "spec": {}}}});
        assert_eq!(
            patch(&deployment, &set),
            json!([
                {"op": "replace", "path": "/spec/template", "value": {"metadata": {"labels": {"app": "web"}}, "spec": {}}},
                {"op": "replace", "path": "/metadata/annotations", "value": {LAST_APPLIED: "{}", REVISION: "2", "why": "old"}},
            ])
        );
    }
}
