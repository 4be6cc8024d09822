//! `rollout undo`: back to the template of an earlier revision.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use serde_json::{Map, Value, json};

use super::revision::{Revision, find, revisions};
use super::{items, kind_of_apps, without_revisions};
use crate::args::{RolloutUndoArgs, WriteArgs};
use crate::connect::{JSON, Server};
use crate::describe;
use crate::failure;
use crate::select::Item;
use crate::verbs::write::{DryRun, Writer};
use crate::workloads::{REVISION, bare, is_same_template};

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
    let workload = server.get(&item.path(), JSON).await?;
    if workload["metadata"]["annotations"][LAST_APPLIED].is_string() {
        eprintln!(
            "Warning: resource {}/{} was previously managed with 'carob apply'. Rolling back will not update the {LAST_APPLIED} annotation, which may cause unexpected behavior on future 'carob apply' operations. Consider using 'carob apply' with your previous configuration file instead.",
            item.resource.plural, item.name
        );
    }
    let kind = kind_of_apps(&item.resource);
    let Some(revisions) = revisions(server, kind, &workload).await? else {
        let error = without_revisions(&item.resource, "rollbacker", "rollbacker");
        return Err(error);
    };
    let revision = find(&revisions, wanted).ok_or_else(|| match (wanted, kind) {
        (0, Some("Deployment")) => {
            anyhow!("no rollout history found for deployment {:?}", item.name)
        }
        (0, _) => anyhow!("no last revision to roll back to"),
        _ => anyhow!("unable to find specified revision {wanted} in history"),
    })?;
    let participle = if writer.dry_run == DryRun::Client {
        shown(revision)
    } else if workload["spec"]["paused"] == true {
        bail!(
            "you cannot rollback a paused deployment; resume it first with 'carob rollout resume' and try again"
        );
    } else if is_same_template(revision.template(), &workload["spec"]["template"]) {
        format!("skipped rollback (current template already matches revision {wanted})")
    } else {
        let path = format!("{}{}", item.path(), writer.query(&[]));
        let (media_type, patch) = patch(&workload, revision);
        let answer = server.patch(&path, media_type, &patch).await;
        answer.map_err(|error| {
            anyhow!(
                "failed restoring revision {wanted}: {}",
                failure::words(&error)
            )
        })?;
        "rolled back".to_owned()
    };
    writer.done(&item.label(), &participle, &workload)
}

/// What is said instead of going back.
fn shown(revision: &Revision) -> String {
    let template = describe::template(revision.template());
    match revision.patch {
        Some(_) => format!("will roll back to {template}"),
        None => template,
    }
}

/// What is kept of a revision, or the template of a ReplicaSet and its annotations for its Deployment; its media type comes first.
fn patch(workload: &Value, revision: &Revision) -> (&'static str, Value) {
    if let Some(patch) = &revision.patch {
        return ("application/strategic-merge-patch+json", patch.clone());
    }
    let annotations = |object: &Value, own: bool| -> Map<String, Value> {
        let all = object["metadata"]["annotations"].as_object();
        let pairs = all.into_iter().flatten();
        pairs
            .filter(|(key, _)| OWN.contains(&key.as_str()) == own)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let mut kept = annotations(workload, true);
    kept.extend(annotations(&revision.object, false));
    let patch = json!([
        {"op": "replace", "path": "/spec/template", "value": bare(revision.template())},
        {"op": "replace", "path": "/metadata/annotations", "value": kept},
    ]);
    ("application/json-patch+json", patch)
}

#[cfg(test)]
mod tests {
    use super::super::revision::tests::{of_deployment, of_stateful_set, stateful_set};
    use super::*;

    #[test]
    fn a_deployment_keeps_its_own_annotations() {
        let deployment =
            json!({"metadata": {"annotations": {LAST_APPLIED: "{}", REVISION: "2", "why": "new"}}});
        let mut revision = of_deployment("1", None, "web:1").expect("a revision");
        let annotations =
            json!({REVISION: "1", "deployment.kubernetes.io/max-replicas": "4", "why": "old"});
        revision.object["metadata"]["annotations"] = annotations;
        let pods = json!({"containers": [{"name": "main", "image": "web:1"}]});
        let expected = json!([
            {"op": "replace", "path": "/spec/template", "value": {"metadata": {"labels": {"app": "web"}}, "spec": pods}},
            {"op": "replace", "path": "/metadata/annotations", "value": {LAST_APPLIED: "{}", REVISION: "2", "why": "old"}},
        ]);
        let found = patch(&deployment, &revision);
        assert_eq!(found, ("application/json-patch+json", expected));
        assert!(shown(&revision).starts_with("Pod Template:\n"));
    }

    #[test]
    fn a_set_becomes_what_was_kept_of_it() {
        let revision = of_stateful_set(1, None);
        let (media_type, patch) = patch(&stateful_set(), &revision);
        assert_eq!(media_type, "application/strategic-merge-patch+json");
        let template = &patch["spec"]["template"];
        assert_eq!(template["$patch"], "replace");
        assert_eq!(template["spec"], revision.template()["spec"]);
        assert!(shown(&revision).starts_with("will roll back to Pod Template:\n"));
    }
}
