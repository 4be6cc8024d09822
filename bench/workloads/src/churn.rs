//! Jobs that come, have one Pod that ends at once, and go.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::timeout;

/// Where Jobs are made.
pub(crate) struct Churn {
    jobs: Api<Job>,
    pods: Api<Pod>,
    image: String,
    patience: Duration,
}

impl Churn {
    pub(crate) fn new(client: Client, image: &str, patience: Duration) -> Churn {
        Churn {
            jobs: Api::default_namespaced(client.clone()),
            pods: Api::default_namespaced(client),
            image: image.to_owned(),
            patience,
        }
    }

    /// Has so many Jobs come to their end, and only so many be there at a time: how long it is until the last is complete, and until none
    /// of them nor of their Pods is left.
    pub(crate) async fn run(
        &self,
        count: usize,
        at_a_time: usize,
    ) -> anyhow::Result<(Duration, Duration)> {
        let mut events = Box::pin(watcher(self.jobs.clone(), watcher::Config::default()));
        let (mut made, mut complete, mut gone) = (0, BTreeSet::new(), BTreeSet::new());
        let began = Instant::now();
        let mut last_complete = Duration::ZERO;
        while gone.len() < count {
            let room = at_a_time
                .saturating_sub(made - gone.len())
                .min(count - made);
            // The events of these wait meanwhile.
            self.make(made..made + room, at_a_time).await?;
            made += room;
            let event = timeout(self.patience, events.try_next()).await;
            let left = || format!("{} of {count} Jobs are complete", complete.len());
            let event = event.with_context(left)??;
            match event.context("the watch of Jobs has ended")? {
                Event::Apply(job) if ended(&job)? => {
                    if complete.insert(job.name_any()) {
                        last_complete = began.elapsed();
                    }
                }
                Event::Delete(job) => drop(gone.insert(job.name_any())),
                Event::Init | Event::InitApply(_) | Event::InitDone | Event::Apply(_) => {}
            }
        }
        anyhow::ensure!(complete == gone, "Jobs are gone that were not complete");
        let all_gone = began.elapsed();
        let left = self.pods.list(&ListParams::default()).await?.items;
        anyhow::ensure!(left.is_empty(), "{} Pods are left", left.len());
        Ok((last_complete, all_gone))
    }

    async fn make(&self, numbers: std::ops::Range<usize>, at_once: usize) -> anyhow::Result<()> {
        let made = futures::stream::iter(numbers).map(|number| self.make_one(number));
        made.buffer_unordered(at_once.max(1)).try_collect().await
    }

    /// It goes as soon as it is complete.
    async fn make_one(&self, number: usize) -> anyhow::Result<()> {
        let job = json!({
            "metadata": {"name": format!("job-{number}")},
            "spec": {
                "ttlSecondsAfterFinished": 0,
                "template": {"spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 0,
                    "automountServiceAccountToken": false,
                    "containers": [{"name": "main", "image": self.image, "command": ["true"]}],
                }},
            },
        });
        let job = serde_json::from_value(job)?;
        self.jobs.create(&PostParams::default(), &job).await?;
        Ok(())
    }
}

/// Whether a Job is complete; one that fails is an error.
fn ended(job: &Job) -> anyhow::Result<bool> {
    let status = job.status.as_ref();
    let conditions = status
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten();
    let mut holding = conditions.filter(|c| c.status == "True");
    if let Some(failed) = holding.clone().find(|c| c.type_ == "Failed") {
        bail!("{} has failed: {:?}", job.name_any(), failed.message);
    }
    Ok(holding.any(|c| c.type_ == "Complete"))
}
