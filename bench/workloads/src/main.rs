//! What workloads cost beside the Pods they consist of: how long a Deployment takes until all its Pods are ready, and until a rollout has
//! put others in their place, against as many starts of one Pod in the same run; how that goes on with many; and how many Jobs come to
//! their end in a second.
//!
//! It starts an engine of its own, and leaves judging to whoever reads: no figure makes it fail.

mod churn;
mod site;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use e2e::engine::{Engine, Outside};
use e2e::figures;

use crate::churn::Churn;
use crate::site::Site;

/// Measures Deployments and Jobs. Needs root, and a registry that has the image.
#[derive(Debug, Parser)]
struct Args {
    /// The `carob` binary to measure; a release build
    #[arg(long, value_name = "PATH")]
    carob: PathBuf,
    /// Registry that stands in for all others, over plain HTTP
    #[arg(long, value_name = "HOST:PORT")]
    registry: String,
    /// Image of every container; needs `sleep` and `true`
    #[arg(long, default_value = "docker.io/library/busybox:1.36")]
    image: String,
    /// Single Pods that are timed, one after the other
    #[arg(long, default_value_t = 20)]
    pods: usize,
    /// Replicas of the Deployment that is held against them
    #[arg(long, default_value_t = 100)]
    replicas: usize,
    /// Replicas of the one with many
    #[arg(long, default_value_t = 500)]
    many: usize,
    /// Jobs of one Pod each that come and go
    #[arg(long, default_value_t = 1000)]
    jobs: usize,
    /// How many of them are there at a time, at most
    #[arg(long, default_value_t = 100)]
    at_a_time: usize,
    /// Seconds to wait for one thing to happen
    #[arg(long, default_value_t = 300)]
    patience: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tokio::runtime::Builder::new_current_thread()
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
    let patience = Duration::from_secs(args.patience);
    let site = Site::new(client.clone(), &args.image, patience);
    println!(
        "{:52}{:>10}{:>10}{:>10}",
        "milliseconds", "p50", "p99", "longest"
    );
    let single = figures::line("one Pod, created to Ready", &site.singles(args.pods).await?)?;
    against(&site, args.replicas, single).await?;
    many(&site, args.many).await?;
    let churn = Churn::new(client, &args.image, patience);
    let (complete, gone) = churn.run(args.jobs, args.at_a_time).await?;
    let (jobs, at_a_time) = (args.jobs, args.at_a_time);
    let what = format!("{jobs} Jobs, {at_a_time} at a time, to all Complete");
    rate(&what, jobs, complete, "Jobs");
    rate("  to all gone, with their Pods", jobs, gone, "Jobs");
    engine.down()
}

/// A Deployment and its rollout, against as many single Pods.
async fn against(site: &Site, replicas: usize, single: f64) -> anyhow::Result<()> {
    let ready = site.deploy("few", replicas).await?;
    let rolled = site.roll("few", replicas).await?;
    let gone = site.remove("few").await?;
    for (what, took) in [
        (
            format!("{replicas} Pods of a Deployment, to all Ready"),
            ready,
        ),
        ("  all rolled out anew".to_owned(), rolled),
    ] {
        let took = took.as_secs_f64();
        let share = took * 1000.0 / (single * replicas as f64);
        println!("{what:52}{took:>9.2} s, {share:.2} of {replicas} single starts");
    }
    rate("  deleted, to all gone", replicas, gone, "Pods");
    Ok(())
}

async fn many(site: &Site, replicas: usize) -> anyhow::Result<()> {
    let ready = site.deploy("many", replicas).await?;
    let gone = site.remove("many").await?;
    let what = format!("{replicas} Pods of a Deployment, to all Ready");
    rate(&what, replicas, ready, "Pods");
    rate("  deleted, to all gone", replicas, gone, "Pods");
    Ok(())
}

/// Prints how long so many of them took, and how many that is in a second.
fn rate(what: &str, count: usize, took: Duration, of: &str) {
    let took = took.as_secs_f64();
    let each = count as f64 / took;
    println!("{what:52}{took:>9.2} s, {each:.1} {of} a second");
}
