//! `delete` (§14.6), and waiting until an object is gone.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};

use super::write::{DryRun, print};
use crate::args::DeleteArgs;
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure::{self, is_not_found};
use crate::select::{Item, Selection};

/// `carob delete`
pub(crate) async fn delete(server: &Server, args: &DeleteArgs) -> anyhow::Result<ExitCode> {
    let grace = grace(args)?;
    let by_name_only = matches!(args.output.as_deref(), Some("name"));
    if let Some(other) = args.output.as_deref().filter(|_| !by_name_only) {
        bail!("unexpected -o output mode: {other}. We only support '-o name'");
    }
    if args.force {
        eprintln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely."
        );
    }
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        words: &args.words,
        files: args.files.clone(),
        label_selector: args.selector.as_deref(),
        field_selector: args.field_selector.as_deref(),
        all: args.all,
        all_namespaces: args.all_namespaces,
    };
    let (items, mut failures) = selection.items(server, &resources).await?;
    if server.namespace_is_fixed && items.iter().any(|item| !item.resource.namespaced) {
        eprintln!(
            "Warning: deleting cluster-scoped resources, not scoped to the provided namespace"
        );
    }
    if items.is_empty() && failures.is_empty() && !args.ignore_not_found {
        eprintln!("No resources found");
    }
    let body = options(args, grace);
    let mut going = Vec::new();
    for item in items {
        let deleted = if args.dry_run == "client" {
            server.get(&item.path(), JSON).await
        } else {
            server.write(Method::DELETE, &item.path(), &body).await
        };
        match deleted {
            Ok(answer) => {
                let text = if by_name_only {
                    item.label() + "\n"
                } else {
                    told(&item, grace, DryRun::parse(&args.dry_run))
                };
                print(&text)?;
                going.push((item, uid(&answer)));
            }
            Err(error) if is_not_found(&error) && (args.ignore_not_found || args.all) => {}
            Err(error) => failures.push(match &item.source {
                Some(source) => {
                    anyhow::Error::from(error).context(format!("error when deleting {source:?}"))
                }
                None => error.into(),
            }),
        }
    }
    if args.wait && args.dry_run == "none" {
        let limit = timeout(&args.timeout)?;
        for (item, uid) in &going {
            failures.extend(until_gone(server, item, uid.as_deref(), limit).await.err());
        }
    }
    Ok(failure::outcome(&failures))
}

/// Seconds to send; `None` leaves it to the Pod.
fn grace(args: &DeleteArgs) -> anyhow::Result<Option<i64>> {
    if args.now && args.grace_period != -1 {
        bail!("--now and --grace-period cannot be specified together");
    }
    if args.force && args.grace_period > 0 {
        bail!("--force and --grace-period greater than 0 cannot be specified together");
    }
    Ok(match (args.grace_period, args.now, args.force) {
        (_, true, false) => Some(1),
        (_, _, true) => Some(0),
        // Without --force even zero waits for the containers.
        (0, ..) => Some(1),
        (seconds, ..) => (seconds > 0).then_some(seconds),
    })
}

fn options(args: &DeleteArgs, grace: Option<i64>) -> Value {
    let policy = match args.cascade.as_str() {
        "foreground" => "Foreground",
        "orphan" => "Orphan",
        _ => "Background",
    };
    let mut options =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
    if let Some(seconds) = grace {
        options["gracePeriodSeconds"] = seconds.into();
    }
    if args.dry_run == "server" {
        options["dryRun"] = json!(["All"]);
    }
    options
}

/// `pod "web" deleted from default namespace`
fn told(item: &Item, grace: Option<i64>, dry_run: DryRun) -> String {
    let participle = if grace == Some(0) {
        "force deleted"
    } else {
        "deleted"
    };
    let place = match &item.namespace {
        Some(namespace) => format!(" from {namespace} namespace"),
        None => String::new(),
    };
    format!(
        "{} {:?} {participle}{place}{}\n",
        item.resource.qualified(),
        item.name,
        dry_run.suffix()
    )
}

/// The uid of a deleted object, which the server returns as the object or inside a Status.
fn uid(answer: &Value) -> Option<String> {
    [&answer["metadata"]["uid"], &answer["details"]["uid"]]
        .into_iter()
        .find_map(|uid| uid.as_str().map(str::to_owned))
}

/// A Go duration as a limit; zero is none.
pub(crate) fn timeout(text: &str) -> anyhow::Result<Option<Duration>> {
    match api::duration::parse_go(text) {
        Ok(0) => Ok(None),
        Ok(nanoseconds) => Ok(Some(Duration::from_nanos(
            u64::try_from(nanoseconds).unwrap_or(0),
        ))),
        Err(error) => bail!("invalid argument {text:?} for \"--timeout\" flag: {error}"),
    }
}

/// Waits until the object, the one with this uid if given, is not there any more.
pub(crate) async fn until_gone(
    server: &Server,
    item: &Item,
    uid: Option<&str>,
    limit: Option<Duration>,
) -> anyhow::Result<()> {
    let waiting = gone(server, item, uid);
    let ended = match limit {
        None => Ok(waiting.await),
        Some(limit) => tokio::time::timeout(limit, waiting).await,
    };
    match ended {
        Ok(result) => result,
        Err(_) => bail!(
            "timed out waiting for the condition on {}",
            item.plural_label()
        ),
    }
}

async fn gone(server: &Server, item: &Item, uid: Option<&str>) -> anyhow::Result<()> {
    loop {
        let query = format!("fieldSelector=metadata.name%3D{}", item.name);
        let list = match server.list(&item.collection(), &query, JSON).await {
            Ok(list) => list,
            // Who may delete but not look does not wait.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 405) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let there = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|object| uid.is_none_or(|uid| object["metadata"]["uid"] == uid));
        if !there {
            return Ok(());
        }
        let version = list["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        let query = format!("{query}&resourceVersion={version}");
        let mut events = std::pin::pin!(server.watch(&item.collection(), &query, JSON).await?);
        while let Some(event) = events.next().await {
            let event = event?;
            match event["type"].as_str() {
                Some("DELETED") => return Ok(()),
                // The watch is too old or broken: look again.
                Some("ERROR") => break,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parsed(flags: &[&str]) -> DeleteArgs {
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            args: DeleteArgs,
        }
        Only::parse_from([&["delete", "pod", "web"], flags].concat()).args
    }

    #[test]
    fn grace_periods() {
        for (flags, expected) in [
            (&[][..], Some(None)),
            (&["--grace-period=7"], Some(Some(7))),
            (&["--grace-period=0"], Some(Some(1))),
            (&["--grace-period=0", "--force"], Some(Some(0))),
            (&["--force"], Some(Some(0))),
            (&["--now"], Some(Some(1))),
            (&["--now", "--grace-period=3"], None),
            (&["--force", "--grace-period=3"], None),
        ] {
            assert_eq!(grace(&parsed(flags)).ok(), expected, "{flags:?}");
        }
    }

    #[test]
    fn options_carry_policy_and_grace() {
        assert_eq!(
            options(&parsed(&["--cascade=orphan"]), Some(3)),
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Orphan", "gracePeriodSeconds": 3})
        );
        assert_eq!(
            options(&parsed(&[]), None)["propagationPolicy"],
            "Background"
        );
    }
}
