//! Pods by themselves and Pods of Deployments, all alike.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Where Pods and Deployments are made.
pub(crate) struct Site {
    pods: Api<Pod>,
    deployments: Api<Deployment>,
    image: String,
    patience: Duration,
}

impl Site {
    pub(crate) fn new(client: Client, image: &str, patience: Duration) -> Site {
        Site {
            pods: Api::default_namespaced(client.clone()),
            deployments: Api::default_namespaced(client),
            image: image.to_owned(),
            patience,
        }
    }

    /// Starts Pods one after the other, each when the one before is gone: how long each takes to be ready. One more at the start does not
    /// count.
    pub(crate) async fn singles(&self, count: usize) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::new();
        for number in 0..=count {
            let name = format!("single-{number}");
            let pod =
                json!({"metadata": {"name": name, "labels": {"of": name}}, "spec": self.spec()});
            let pod = serde_json::from_value(pod)?;
            let began = Instant::now();
            self.pods.create(&PostParams::default(), &pod).await?;
            let ready = await_condition(self.pods.clone(), &name, is_ready);
            timeout(self.patience, ready).await.context("not ready")??;
            times.push(began.elapsed());
            self.pods.delete(&name, &DeleteParams::default()).await?;
            self.gone(&name).await?;
        }
        Ok(times.split_off(1))
    }

    /// Makes a Deployment: how long it is until all its Pods are ready.
    pub(crate) async fn deploy(&self, name: &str, replicas: usize) -> anyhow::Result<Duration> {
        let labels = json!({"of": name});
        let deployment = json!({
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": self.spec()},
            },
        });
        let deployment = serde_json::from_value(deployment)?;
        let began = Instant::now();
        self.deployments
            .create(&PostParams::default(), &deployment)
            .await?;
        self.complete(name, replicas).await?;
        Ok(began.elapsed())
    }

    /// Changes its template: how long it is until all its Pods are new ones, and ready.
    pub(crate) async fn roll(&self, name: &str, replicas: usize) -> anyhow::Result<Duration> {
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"round": "2"}}}}});
        let began = Instant::now();
        self.deployments
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        self.complete(name, replicas).await?;
        Ok(began.elapsed())
    }

    /// Deletes it: how long it is until the last of its Pods is gone.
    pub(crate) async fn remove(&self, name: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.deployments
            .delete(name, &DeleteParams::background())
            .await?;
        self.gone(name).await?;
        Ok(began.elapsed())
    }

    async fn complete(&self, name: &str, replicas: usize) -> anyhow::Result<()> {
        let complete = await_condition(self.deployments.clone(), name, is_complete(replicas));
        let complete = timeout(self.patience, complete).await;
        complete.with_context(|| format!("{name} is not complete"))??;
        Ok(())
    }

    /// Waits until there is no Pod of this label.
    async fn gone(&self, of: &str) -> anyhow::Result<()> {
        let selected = watcher::Config::default().labels(&format!("of={of}"));
        let mut events = Box::pin(watcher(self.pods.clone(), selected));
        let gone = async {
            let mut there = BTreeSet::new();
            while let Some(event) = events.try_next().await? {
                match &event {
                    Event::InitApply(pod) | Event::Apply(pod) => drop(there.insert(pod.name_any())),
                    Event::Delete(pod) => drop(there.remove(&pod.name_any())),
                    Event::Init => there.clear(),
                    Event::InitDone => {}
                }
                let is_known = matches!(event, Event::InitDone | Event::Delete(_));
                if is_known && there.is_empty() {
                    break;
                }
            }
            anyhow::Ok(())
        };
        let gone = timeout(self.patience, gone).await;
        gone.with_context(|| format!("Pods of {of} are left"))?
    }

    fn spec(&self) -> Value {
        json!({
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{"name": "main", "image": self.image, "command": ["sleep", "100000"]}],
        })
    }
}

fn is_ready(pod: Option<&Pod>) -> bool {
    let status = pod.and_then(|pod| pod.status.as_ref());
    let mut conditions = status
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

/// It has as many Pods as it wants, all of them new and ready, and is known to.
fn is_complete(replicas: usize) -> impl Condition<Deployment> {
    let wanted = i32::try_from(replicas).ok();
    move |found: Option<&Deployment>| {
        let Some((meta, status)) = found.and_then(|d| Some((&d.metadata, d.status.as_ref()?)))
        else {
            return false;
        };
        let numbers = [
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
        ];
        status.observed_generation == meta.generation && numbers.iter().all(|n| *n == wanted)
    }
}
