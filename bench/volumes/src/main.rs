//! How long it takes until what was written to a ConfigMap is in the files of all containers that mount it.
//!
//! It starts an engine and Pods of its own, and leaves judging to whoever reads: no figure makes it fail.

mod mounts;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use e2e::engine::{Engine, Outside};
use e2e::figures;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;

use crate::mounts::Mounts;

/// Name of the ConfigMap, of the volume, and of the directory it is mounted on.
const NAME: &str = "config";
/// Pods that are made at once.
const AT_ONCE: usize = 8;
/// Longest wait for one thing to happen.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures edits of a ConfigMap. Needs root, and a registry that has the image.
#[derive(Debug, Parser)]
struct Args {
    /// The `carob` binary to measure; a release build
    #[arg(long, value_name = "PATH")]
    carob: PathBuf,
    /// Registry that stands in for all others, over plain HTTP
    #[arg(long, value_name = "HOST:PORT")]
    registry: String,
    /// Image of every container; needs `sleep`
    #[arg(long, default_value = "docker.io/library/busybox:1.36")]
    image: String,
    /// How many Pods mount it, one measurement after the other
    #[arg(long, value_delimiter = ',', default_value = "1,50,500")]
    pods: Vec<usize>,
    /// Edits that are timed
    #[arg(long, default_value_t = 30)]
    edits: usize,
    /// Milliseconds of rest before each
    #[arg(long, default_value_t = 200)]
    rest: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // Requests go on while this thread waits for the files.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?
        .block_on(measure(&args))
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let outside = Outside {
        carob: std::path::absolute(&args.carob)?,
        kubectl: "kubectl".into(),
        older_kubectl: "kubectl".into(),
        registry: args.registry.clone(),
    };
    let engine = Engine::start(&outside)?;
    let client = e2e::client::connect(&engine.kubeconfig()).await?;
    let configs: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let pods: Api<Pod> = Api::default_namespaced(client);
    let config = json!({"metadata": {"name": NAME}, "data": {"text": "0"}});
    let config = serde_json::from_value(config)?;
    configs.create(&PostParams::default(), &config).await?;
    let volumes = engine.root().join("state/kubelet/files/plain");
    let mut mounts = Mounts::new()?;
    println!(
        "{:52}{:>10}{:>10}{:>10}",
        "milliseconds from an edit to the files", "p50", "p99", "longest"
    );
    let mut edit = 0;
    for count in &args.pods {
        let missing = mounts.count()..*count;
        let made = stream::iter(missing).map(|number| pod(&pods, number, &args.image));
        let uids: Vec<String> = made.buffered(AT_ONCE).try_collect().await?;
        for uid in uids {
            mounts.follow(&volumes.join(uid).join(NAME))?;
        }
        let mut times = Vec::new();
        for _ in 0..args.edits {
            tokio::time::sleep(Duration::from_millis(args.rest)).await;
            edit += 1;
            let patch = json!({"data": {"text": edit.to_string()}});
            let configs = configs.clone();
            let began = Instant::now();
            let written = tokio::spawn(async move {
                let patch = Patch::Merge(&patch);
                configs.patch(NAME, &PatchParams::default(), &patch).await
            });
            let changed = mounts.all_changed(PATIENCE)?;
            written.await??;
            times.extend(changed.into_iter().map(|at| at.duration_since(began)));
        }
        figures::line(&format!("  of {} Pods", mounts.count()), &times)?;
    }
    drop(mounts);
    engine.down()
}

/// Makes a Pod that mounts the ConfigMap, and waits until it runs; its UID.
async fn pod(pods: &Api<Pod>, number: usize, image: &str) -> anyhow::Result<String> {
    let name = format!("reader-{number}");
    let pod = json!({
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "volumes": [{"name": NAME, "configMap": {"name": NAME}}],
            "containers": [{
                "name": "main", "image": image, "command": ["sleep", "100000"],
                "volumeMounts": [{"name": NAME, "mountPath": format!("/{NAME}")}],
            }],
        },
    });
    let pod = serde_json::from_value(pod)?;
    let made = pods.create(&PostParams::default(), &pod).await?;
    let running = await_condition(pods.clone(), &name, conditions::is_pod_running());
    tokio::time::timeout(PATIENCE, running).await??;
    made.metadata.uid.context("a Pod without a UID")
}
