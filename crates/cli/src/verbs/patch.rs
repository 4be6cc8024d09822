//! `patch` (§14.19).

use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};

use super::write::{DryRun, Writer};
use crate::args::PatchArgs;
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure;
use crate::manifest::from_yaml;
use crate::select::{Item, Selection};

use serde_json::Value;

/// `carob patch`
pub(crate) async fn patch(server: &Server, args: &PatchArgs) -> anyhow::Result<ExitCode> {
    let text = match (&args.patch, &args.patch_file) {
        (Some(text), None) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .with_context(|| format!("unable to read patch file: {path}"))?,
        (Some(_), Some(_)) => bail!("cannot specify --patch and --patch-file together"),
        (None, None) => {
            bail!("must specify --patch or --patch-file containing the contents of the patch")
        }
    };
    let body = from_yaml(&text).map_err(|error| anyhow!("unable to parse {text:?}: {error}"))?;
    let writer = Writer::new(&args.write, "kubectl-patch")?;
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        words: &args.words,
        files: args.files.clone(),
        ..Selection::default()
    };
    let (items, mut failures) = selection.items(server, &resources).await?;
    for item in &items {
        let done = one(server, args, &writer, item, &body).await;
        failures.extend(done.err());
    }
    Ok(failure::outcome(&failures))
}

async fn one(
    server: &Server,
    args: &PatchArgs,
    writer: &Writer,
    item: &Item,
    body: &Value,
) -> anyhow::Result<()> {
    let path = match &args.subresource {
        Some(subresource) => format!("{}/{subresource}", item.path()),
        None => item.path(),
    };
    let before = server.get(&path, JSON).await?;
    if writer.dry_run == DryRun::Client {
        return writer.done(&item.label(), "patched", &before);
    }
    let media_type = match args.kind.as_str() {
        "merge" => "application/merge-patch+json",
        "json" => "application/json-patch+json",
        _ => "application/strategic-merge-patch+json",
    };
    let answer = server
        .patch(&format!("{path}{}", writer.query(&[])), media_type, body)
        .await;
    let after = match answer {
        Err(kube::Error::Api(status)) if status.code == 415 => bail!(
            "{media_type} is not supported by {}/{}, Kind={}: {}",
            item.resource.group,
            item.resource.version,
            item.resource.kind,
            status.message
        ),
        answer => answer?,
    };
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let participle = if version(&before) == version(&after) {
        "patched (no change)"
    } else {
        "patched"
    };
    let label = match args.subresource.as_deref() {
        Some("scale") => format!("scale.autoscaling/{}", item.name),
        _ => item.label(),
    };
    writer.done(&label, participle, &after)
}
