//! `scale`: how many Pods a workload has, through its `scale` subresource.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use http::Method;
use serde_json::{Value, json};

use super::write::{DryRun, Writer};
use crate::args::ScaleArgs;
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure;
use crate::select::{Item, Selection};
use crate::watching;

const MANAGER: &str = "kubectl-scale";
/// Others may write between reading and writing so often.
const ATTEMPTS: u32 = 10;

/// `carob scale`
pub(crate) async fn scale(server: &Server, args: &ScaleArgs) -> anyhow::Result<ExitCode> {
    let Some(replicas) = args.replicas else {
        bail!("required flag(s) \"replicas\" not set");
    };
    if replicas < 0 {
        bail!(
            "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0"
        );
    }
    if args.current_replicas < -1 {
        bail!("The --current-replicas must specify an integer of -1 or greater");
    }
    let limit = match api::duration::parse_go(&args.timeout) {
        Ok(nanoseconds) => u64::try_from(nanoseconds).map_or(Duration::ZERO, Duration::from_nanos),
        Err(error) => bail!(
            "invalid argument {:?} for \"--timeout\" flag: {error}",
            args.timeout
        ),
    };
    let writer = Writer::new(&args.write, MANAGER)?;
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        words: &args.workloads.words,
        files: args.workloads.files.clone(),
        label_selector: args.workloads.selector.as_deref(),
        all: args.all,
        ..Selection::default()
    };
    let (items, mut failures) = selection.items(server, &resources).await?;
    if args.resource_version.is_some() && items.len() > 1 {
        bail!("cannot use --resource-version with multiple resources");
    }
    if items.is_empty() && failures.is_empty() {
        bail!("no objects passed to scale");
    }
    for item in &items {
        let done = one(server, args, &writer, item, replicas, limit).await;
        failures.extend(done.err());
    }
    Ok(failure::outcome(&failures))
}

async fn one(
    server: &Server,
    args: &ScaleArgs,
    writer: &Writer,
    item: &Item,
    replicas: i64,
    limit: Duration,
) -> anyhow::Result<()> {
    let mut object = server.get(&item.path(), JSON).await?;
    if writer.dry_run == DryRun::Client {
        object["spec"]["replicas"] = replicas.into();
        return writer.done(&item.label(), "scaled", &object);
    }
    let path = format!("{}/scale", item.path());
    let has_condition = args.current_replicas != -1 || args.resource_version.is_some();
    let scaled = if has_condition {
        replace(server, args, writer, &path, replicas).await?
    } else {
        let patch = json!({"spec": {"replicas": replicas}});
        let path = format!("{path}{}", writer.query(&[]));
        server
            .patch(&path, "application/merge-patch+json", &patch)
            .await?
    };
    if !limit.is_zero() && writer.dry_run == DryRun::No {
        let waiting = watching::until(server, item, |object| {
            let object = object.ok_or_else(|| anyhow!("object has been deleted"))?;
            Ok(is_reached(object, replicas).then_some(()))
        });
        match tokio::time::timeout(limit, waiting).await {
            Ok(end) => end?,
            Err(_) => bail!("timed out waiting for {:?} to be synced", item.name),
        }
    }
    object["spec"]["replicas"] = scaled["spec"]["replicas"].clone();
    writer.done(&item.label(), "scaled", &object)
}

/// Writes the scale that was read, if it is as asked for, so that nobody else has written in between.
async fn replace(
    server: &Server,
    args: &ScaleArgs,
    writer: &Writer,
    path: &str,
    replicas: i64,
) -> anyhow::Result<Value> {
    let mut attempt = 1;
    loop {
        let mut scale = server.get(path, JSON).await?;
        if let Some(reason) = differs(
            &scale,
            args.current_replicas,
            args.resource_version.as_deref(),
        ) {
            bail!("{reason}");
        }
        scale["spec"]["replicas"] = replicas.into();
        let path = format!("{path}{}", writer.query(&[]));
        match server.write(Method::PUT, &path, &scale).await {
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {
                attempt += 1;
            }
            answer => return Ok(answer?),
        }
    }
}

/// How a scale is not as it was expected to be.
fn differs(scale: &Value, size: i64, version: Option<&str>) -> Option<String> {
    let current = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if size != -1 && current != size {
        return Some(format!("Expected replicas to be {size}, was {current}"));
    }
    let found = scale["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let version = version.filter(|version| !version.is_empty() && *version != found)?;
    Some(format!(
        "Expected resource version to be {version}, was {found}"
    ))
}

/// Whether a workload has as many Pods as were asked for, or whether somebody else wants another number by now.
fn is_reached(object: &Value, replicas: i64) -> bool {
    let number = |part: &str| object[part]["replicas"].as_i64().unwrap_or(0);
    number("spec") != replicas || number("status") == replicas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_compared() {
        let scale = json!({"metadata": {"resourceVersion": "7"}, "spec": {"replicas": 3}});
        for (size, version, expected) in [
            (-1, None, None),
            (3, Some("7"), None),
            (-1, Some(""), None),
            (2, None, Some("Expected replicas to be 2, was 3")),
            (
                3,
                Some("6"),
                Some("Expected resource version to be 6, was 7"),
            ),
        ] {
            assert_eq!(differs(&scale, size, version).as_deref(), expected);
        }
        let none = json!({"metadata": {}, "spec": {}});
        assert_eq!(differs(&none, 0, None), None, "none is 0");
    }

    #[test]
    fn a_number_is_reached_or_given_up() {
        for (spec, status, expected) in [(3, 2, false), (3, 3, true), (4, 2, true)] {
            let object = json!({"spec": {"replicas": spec}, "status": {"replicas": status}});
            assert_eq!(is_reached(&object, 3), expected);
        }
    }
}
