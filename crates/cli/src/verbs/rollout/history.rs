//! `rollout history`: the revisions of a Deployment that can be gone back to.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::Value;

use super::{group_kind, items, kind_of_apps};
use crate::args::{RolloutHistoryArgs, WriteArgs};
use crate::connect::{JSON, Server};
use crate::describe::{self, Tabs};
use crate::failure;
use crate::select::Item;
use crate::verbs::write::{Writer, print};
use crate::workloads::{replica_sets, revision};

/// Says in people's words why a revision was made.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// `carob rollout history`
pub(super) async fn history(
    server: &Server,
    args: &RolloutHistoryArgs,
) -> anyhow::Result<ExitCode> {
    if args.revision < 0 {
        bail!("revision must be a positive integer: {}", args.revision);
    }
    let (items, mut failures) = items(server, &args.workloads).await?;
    for item in &items {
        failures.extend(one(server, args, item).await.err());
    }
    Ok(failure::outcome(&failures))
}

async fn one(server: &Server, args: &RolloutHistoryArgs, item: &Item) -> anyhow::Result<()> {
    let object = server.get(&item.path(), JSON).await?;
    if kind_of_apps(&item.resource) != Some("Deployment") {
        bail!(
            "no history viewer has been implemented for {:?}",
            group_kind(&item.resource)
        );
    }
    let sets = replica_sets(server, &object).await?;
    if args.output.is_none() {
        let text = text(&sets, args.revision)?;
        let with = match args.revision {
            0 => String::new(),
            number => format!("with revision #{number}"),
        };
        return print(&format!("{} {with}\n{text}\n", item.label()));
    }
    let write = WriteArgs {
        output: args.output.clone(),
        ..WriteArgs::default()
    };
    let writer = Writer::new(&write, "")?;
    let mut found = numbered(&sets);
    if args.revision > 0 {
        found.retain(|(number, _)| *number == args.revision);
        if found.is_empty() {
            bail!("unable to find the specified revision");
        }
    }
    for (_, set) in found {
        let name = set["metadata"]["name"].as_str().unwrap_or_default();
        let mut set = set.clone();
        set["apiVersion"] = "apps/v1".into();
        set["kind"] = "ReplicaSet".into();
        writer.done(&format!("replicaset.apps/{name}"), "", &set)?;
    }
    Ok(())
}

/// ReplicaSets with their revisions, in order.
fn numbered(sets: &[Value]) -> Vec<(i64, &Value)> {
    let mut numbered: Vec<(i64, &Value)> = sets
        .iter()
        .filter_map(|set| Some((revision(set)?, set)))
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    numbered
}

/// A table of all revisions, or the template of one.
fn text(sets: &[Value], wanted: i64) -> anyhow::Result<String> {
    let numbered = numbered(sets);
    if numbered.is_empty() {
        return Ok("No rollout history found.".into());
    }
    let cause = |set: &Value| {
        let cause = set["metadata"]["annotations"][CHANGE_CAUSE].as_str();
        cause.filter(|cause| !cause.is_empty()).map(str::to_owned)
    };
    if wanted > 0 {
        let Some((_, set)) = numbered.iter().find(|(number, _)| *number == wanted) else {
            bail!("unable to find the specified revision");
        };
        let mut template = set["spec"]["template"].clone();
        if let Some(cause) = cause(set) {
            template["metadata"]["annotations"][CHANGE_CAUSE] = cause.into();
        }
        return Ok(describe::template(&template));
    }
    let mut rows = Tabs::default();
    rows.line(0, "REVISION\tCHANGE-CAUSE");
    for (number, set) in numbered {
        let cause = cause(set).unwrap_or_else(|| "<none>".into());
        rows.line(0, format!("{number}\t{cause}"));
    }
    Ok(rows.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn revisions_stand_in_order() {
        let set = |revision: &str, cause: Option<&str>| {
            json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": revision, CHANGE_CAUSE: cause}}, "spec": {"template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "web:1"}]}}}})
        };
        let sets = [set("10", Some("newer web")), set("2", None)];
        assert_eq!(
            text(&sets, 0).ok().as_deref(),
            Some("REVISION  CHANGE-CAUSE\n2         <none>\n10        newer web\n")
        );
        assert_eq!(
            text(&[], 0).ok().as_deref(),
            Some("No rollout history found.")
        );
        assert_eq!(
            text(&sets, 3).expect_err("no such").to_string(),
            "unable to find the specified revision"
        );
        assert_eq!(
            text(&sets, 10).ok().as_deref(),
            Some(
                "Pod Template:\n  Labels:\tapp=web\n  Annotations:\tkubernetes.io/change-cause: newer web\n  Containers:\n   main:\n    Image:\tweb:1\n    Port:\t<none>\n    Host Port:\t<none>\n    Environment:\t<none>\n    Mounts:\t<none>\n  Volumes:\t<none>\n  Node-Selectors:\t<none>\n  Tolerations:\t<none>\n"
            )
        );
    }
}
