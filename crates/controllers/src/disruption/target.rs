//! Pods that were marked to be disrupted and are still there: whoever marked them has not gone through with it (spec `§3.2`).

use informer::Key;
use k8s_openapi::api::core::v1::Pod;
use lifecycle::budget;
use tokio::time::Instant;

use super::{AGAIN, Budgets, until};
use crate::pods;

impl Budgets {
    /// Notes until when a Pod may be marked.
    pub(super) fn note_target(&mut self, key: &Key) {
        match self.pods.get(key).and_then(budget::target_until) {
            Some(end) => {
                let end = Instant::now() + until(end, self.clock.now());
                self.targets.insert(key.clone(), end);
            }
            None => drop(self.targets.remove(key)),
        }
    }

    /// Notes it of every Pod.
    pub(super) fn note_targets(&mut self) {
        self.targets.clear();
        let keys: Vec<Key> = self.pods.iter().map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.note_target(&key);
        }
    }

    /// Unmarks the Pods whose time has come.
    pub(super) async fn unmark(&mut self) {
        let now = Instant::now();
        let over = self.targets.iter().filter(|(_, end)| **end <= now);
        for key in over.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.targets.remove(&key);
            let Some(pod) = self.pods.get(&key) else {
                continue;
            };
            match self.unmark_one(pod).await {
                Ok(()) => {}
                Err(error) if pods::is_moot(&error) => {}
                Err(error) => {
                    tracing::warn!(pod = key.1, %error, "unmarking a pod");
                    self.targets.insert(key, now + AGAIN);
                }
            }
        }
    }

    async fn unmark_one(&self, pod: &Pod) -> Result<(), kube::Error> {
        let status = serde_json::json!({"conditions": [pods::target(pod, None, self.clock.now())]});
        // As it was judged: it could be going by now.
        let version = pod.metadata.resource_version.as_deref();
        pods::patch_status(&self.client, pod, version, status).await
    }
}
