//! `set`: images and environment variables of the containers of Pods and workloads.

mod env;
mod image;

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::args::SetCommand;
use crate::connect::Server;
use crate::failure;
use crate::select::Item;
use crate::verbs::write::{DryRun, Writer};

const MANAGER: &str = "kubectl-set";

/// `carob set`
pub(crate) async fn set(server: &Server, command: &SetCommand) -> anyhow::Result<ExitCode> {
    match command {
        SetCommand::Image(args) => image::image(server, args).await,
        SetCommand::Env(args) => env::env(server, args).await,
    }
}

/// Lists of a Pod's containers that can be changed.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Path of the spec of an object's Pods.
fn pod_spec(object: &Value) -> Option<&'static str> {
    [
        "/spec/jobTemplate/spec/template/spec",
        "/spec/template/spec",
        "/spec",
    ]
    .into_iter()
    .find(|path| object.pointer(&format!("{path}/containers")).is_some())
}

/// A patch of some fields of the spec at a path.
fn patch_at(path: &str, spec: Value) -> Value {
    path.rsplit('/')
        .filter(|field| !field.is_empty())
        .fold(spec, |inner, field| json!({ field: inner }))
}

/// Changes fields of the spec at a path of an object, and says so; `what` they are is part of the words.
async fn change(
    server: &Server,
    writer: &Writer,
    item: &Item,
    object: Value,
    path: &str,
    fields: Map<String, Value>,
    what: &str,
) -> anyhow::Result<()> {
    let after = if writer.dry_run == DryRun::Client {
        object
    } else {
        let url = format!("{}{}", item.path(), writer.query(&[]));
        let patch = patch_at(path, fields.into());
        server
            .patch(&url, "application/strategic-merge-patch+json", &patch)
            .await
            .map_err(|error| {
                let words = failure::words(&error);
                anyhow::anyhow!("failed to patch {what} update to pod template: {words}")
            })?
    };
    writer.done(&item.label(), &format!("{what} updated"), &after)
}

/// What is said of an object without Pods.
fn without_pods(item: &Item) -> anyhow::Error {
    anyhow::anyhow!(
        "{}/{} the object is not a pod or does not have a pod template",
        item.resource.plural,
        item.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_found_and_patched() {
        let of = |spec: Value| pod_spec(&json!({"spec": spec}));
        let pods = json!({"containers": []});
        let template = json!({"template": {"spec": pods}});
        let cron = json!({"jobTemplate": {"spec": template}});
        assert_eq!(of(pods), Some("/spec"));
        assert_eq!(of(template), Some("/spec/template/spec"));
        assert_eq!(of(cron), Some("/spec/jobTemplate/spec/template/spec"));
        assert_eq!(of(json!({"selector": {}})), None);
        assert_eq!(
            patch_at("/spec/template/spec", json!({"a": 1})),
            json!({"spec": {"template": {"spec": {"a": 1}}}})
        );
    }
}
