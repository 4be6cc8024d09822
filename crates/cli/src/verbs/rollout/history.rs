//! `rollout history`: the revisions of a workload that can be gone back to.

use std::process::ExitCode;

use anyhow::bail;

use super::revision::{CHANGE_CAUSE, Revision, find, revisions};
use super::{items, kind_of_apps, without_revisions};
use crate::args::{RolloutHistoryArgs, WriteArgs};
use crate::connect::{JSON, Server};
use crate::describe::{self, Tabs};
use crate::failure;
use crate::select::Item;
use crate::verbs::write::{Writer, print};

/// `carob rollout history`
pub(super) async fn history(
    server: &Server,
    args: &RolloutHistoryArgs,
) -> anyhow::Result<ExitCode> {
    if args.revision < 0 {
        bail!("revision must be a positive integer: {}", args.revision);
    }
    let (items, mut failures) = items(server, &args.workloads).await?;
    let mut shown = 0;
    for item in &items {
        failures.extend(one(server, args, item, &mut shown).await.err());
    }
    Ok(failure::outcome(&failures))
}

/// Shows that of one workload, after so many objects of others.
async fn one(
    server: &Server,
    args: &RolloutHistoryArgs,
    item: &Item,
    shown: &mut usize,
) -> anyhow::Result<()> {
    let object = server.get(&item.path(), JSON).await?;
    let kind = kind_of_apps(&item.resource);
    let Some(mut revisions) = revisions(server, kind, &object).await? else {
        let error = without_revisions(&item.resource, "history viewer", "history");
        return Err(error);
    };
    if args.output.is_none() {
        let text = text(&revisions, args.revision)?;
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
    if args.revision > 0 {
        revisions.retain(|revision| revision.number == args.revision);
        if revisions.is_empty() {
            bail!("unable to find the specified revision");
        }
    }
    for revision in revisions {
        if *shown > 0 && args.output.as_deref() == Some("yaml") {
            print("---\n")?;
        }
        *shown += 1;
        writer.done(&revision.label(), "", &revision.object)?;
    }
    Ok(())
}

/// A table of all revisions, or the template of one.
fn text(revisions: &[Revision], wanted: i64) -> anyhow::Result<String> {
    if revisions.is_empty() {
        return Ok("No rollout history found.".into());
    }
    if wanted > 0 {
        let Some(revision) = find(revisions, wanted) else {
            bail!("unable to find the specified revision");
        };
        let mut template = revision.template().clone();
        // Of a Deployment, it stands in the template.
        if let (Some(cause), None) = (&revision.cause, &revision.patch) {
            template["metadata"]["annotations"][CHANGE_CAUSE] = cause.as_str().into();
        }
        return Ok(describe::template(&template));
    }
    let mut rows = Tabs::default();
    rows.line(0, "REVISION\tCHANGE-CAUSE");
    for revision in revisions {
        let cause = revision.cause.as_deref().unwrap_or("<none>");
        rows.line(0, format!("{}\t{cause}", revision.number));
    }
    Ok(rows.finish())
}

#[cfg(test)]
mod tests {
    use super::super::revision::tests::{of_deployment, of_stateful_set};
    use super::*;

    const REST: &str = "    Port:\t<none>\n    Host Port:\t<none>\n    Environment:\t<none>\n    Mounts:\t<none>\n  Volumes:\t<none>\n  Node-Selectors:\t<none>\n  Tolerations:\t<none>\n";

    fn shown(revisions: &[Revision], wanted: i64) -> String {
        text(revisions, wanted).unwrap_or_else(|error| format!("error: {error}"))
    }

    #[test]
    fn revisions_are_a_table() {
        let of_deployment = [
            of_deployment("2", None, "web:1"),
            of_deployment("10", Some("newer web"), "web:1"),
        ];
        let of_deployment: Vec<Revision> = of_deployment.into_iter().flatten().collect();
        let of_set = [of_stateful_set(1, None), of_stateful_set(2, Some("better"))];
        for (revisions, expected) in [
            (
                &of_deployment[..],
                "REVISION  CHANGE-CAUSE\n2         <none>\n10        newer web\n",
            ),
            (
                &of_set[..],
                "REVISION  CHANGE-CAUSE\n1         <none>\n2         better\n",
            ),
            (&[], "No rollout history found."),
        ] {
            assert_eq!(shown(revisions, 0), expected);
        }
        assert_eq!(
            shown(&of_set, 3),
            "error: unable to find the specified revision"
        );
        assert_eq!(
            shown(&of_deployment, 10),
            format!(
                "Pod Template:\n  Labels:\tapp=web\n\tpod-template-hash=x\n  Annotations:\tkubernetes.io/change-cause: newer web\n  Containers:\n   main:\n    Image:\tweb:1\n{REST}"
            )
        );
        assert_eq!(
            shown(&of_set, 2),
            format!(
                "Pod Template:\n  Labels:\tapp=db\n  Containers:\n   main:\n    Image:\tdb:2\n{REST}"
            )
        );
    }
}
