//! What is told of a budget in Events, once while it is so; upstream's reasons and texts.

use std::collections::BTreeSet;

use api::gotext;
use events::Words;
use informer::Key;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use lifecycle::budget::Outlook;

use super::Budgets;

impl Budgets {
    /// Tells how the budget is, as far as that was not so before, and which evictions have come to nothing.
    pub(super) fn tell(&mut self, key: &Key, budget: &PodDisruptionBudget, seen: &Outlook) {
        let words = words(budget, seen);
        let reasons: BTreeSet<_> = words.iter().map(|words| words.reason.clone()).collect();
        let before = self.told.insert(key.clone(), reasons).unwrap_or_default();
        for words in words {
            if !before.contains(&words.reason) {
                let about = reference(budget, "policy/v1", "PodDisruptionBudget", &key.1);
                self.recorder.record(about, words);
            }
        }
        for pod in &seen.overdue {
            // Upstream names the namespace twice.
            let message = format!(
                "Pod was expected by PDB {0}/{0} to be deleted but it wasn't",
                key.0
            );
            let words = Words::warning("NotDeleted", message);
            let pod_key = (key.0.clone(), pod.clone());
            let mut about = reference(budget, "v1", "Pod", pod);
            about.uid = self.pods.get(&pod_key).and_then(ResourceExt::uid);
            about.resource_version = None;
            self.recorder.record(about, words);
        }
    }
}

fn reference(
    budget: &PodDisruptionBudget,
    api_version: &str,
    kind: &str,
    name: &str,
) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: budget.namespace(),
        uid: budget.uid(),
        resource_version: budget.resource_version(),
        field_path: None,
    }
}

fn words(budget: &PodDisruptionBudget, seen: &Outlook) -> Vec<Words> {
    if let Some(why) = &seen.failed {
        let message = format!("Failed to calculate the number of expected pods: {why}");
        return vec![Words::warning("CalculateExpectedPodCountFailed", message)];
    }
    let mut words = Vec::new();
    if seen.selected == 0 {
        words.push(Words::normal("NoPods", "No matching pods found"));
    }
    if !seen.unmanaged.is_empty() {
        let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the PDB \
             cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \
             \".spec.minAvailable\" field of the PDB to an integer value.",
            selector.map_or_else(|| "nil".to_owned(), gotext::label_selector)
        );
        words.push(Words::warning("UnmanagedPods", message));
    }
    words
}
