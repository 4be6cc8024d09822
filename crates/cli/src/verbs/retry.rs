//! `retry`: what failed in a Pod is tried again at once, and its back-off begins anew. The node agent is asked by an annotation
//! ([`api::asks`]), so any client could do it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::exec::{one_pod, path_of, refuse_completed};
use crate::args::RetryArgs;
use crate::connect::{JSON, Server};
use crate::pods;

/// Others may write between reading and writing so often.
const ATTEMPTS: u32 = 5;

/// `carob retry`
pub(crate) async fn retry(server: &Server, args: &RetryArgs) -> anyhow::Result<ExitCode> {
    let pod = one_pod(server, &args.pod, Duration::from_secs(60)).await?;
    refuse_completed(&pod, "retry")?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let container = args.container.as_deref().unwrap_or_default();
    if !container.is_empty() {
        pods::choose(&pod, Some(container))?;
        if pods::names(&pod, "ephemeralContainers").any(|other| other == container) {
            bail!("container {container} is ephemeral and never runs again");
        }
    }
    let now = Timestamp::now();
    let value = |old: Option<&str>| api::asks::retry(old, container, now);
    annotate(server, &pod, api::asks::RETRY, value).await?;
    match container {
        "" => println!("pod/{name} retried"),
        container => println!("pod/{name} container {container} retried"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Changes an annotation of a Pod by what it was, and returns the Pod.
pub(super) async fn annotate(
    server: &Server,
    pod: &Value,
    key: &str,
    value: impl Fn(Option<&str>) -> String,
) -> anyhow::Result<Value> {
    let path = path_of(server, pod);
    let mut attempt = 1;
    let mut pod = pod.clone();
    loop {
        let metadata = &pod["metadata"];
        let new = value(metadata["annotations"][key].as_str());
        let patch = json!({"metadata": {
            "annotations": {key: new},
            "resourceVersion": metadata["resourceVersion"],
            "uid": metadata["uid"],
        }});
        let answer = server
            .patch(&path, "application/merge-patch+json", &patch)
            .await;
        match answer {
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {
                attempt += 1;
                pod = server.get(&path, JSON).await?;
            }
            answer => return Ok(answer?),
        }
    }
}
