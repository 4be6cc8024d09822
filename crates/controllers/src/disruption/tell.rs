//! What is told of a budget in Events, once while it is so; upstream's reasons and texts.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Event as Told, EventSource, ObjectReference};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use lifecycle::budget::Outlook;

use super::{Budgets, Key};

/// Who the events are from.
const COMPONENT: &str = "controllermanager";

/// Type, reason and message.
type Words = (&'static str, &'static str, String);

impl Budgets {
    /// Tells how the budget is, as far as that was not so before, and which evictions have come to nothing.
    pub(super) async fn tell(&mut self, key: &Key, budget: &PodDisruptionBudget, seen: &Outlook) {
        let words = words(budget, seen);
        let reasons: BTreeSet<_> = words.iter().map(|(_, reason, _)| *reason).collect();
        let before = self.told.insert(key.clone(), reasons).unwrap_or_default();
        for (type_, reason, message) in words {
            if !before.contains(reason) {
                let about = reference(budget, "policy/v1", "PodDisruptionBudget", &key.1);
                self.send(about, type_, reason, message).await;
            }
        }
        for pod in &seen.overdue {
            // Upstream names the namespace twice.
            let message = format!(
                "Pod was expected by PDB {0}/{0} to be deleted but it wasn't",
                key.0
            );
            let mut about = reference(budget, "v1", "Pod", pod);
            about.uid = self.uid(&key.0, pod);
            about.resource_version = None;
            self.send(about, "Warning", "NotDeleted", message).await;
        }
    }

    fn uid(&self, namespace: &str, pod: &str) -> Option<String> {
        let key = (namespace.to_owned(), pod.to_owned());
        let pod = self.pods.as_ref().and_then(|pods| pods.get(&key));
        pod.and_then(ResourceExt::uid)
    }

    async fn send(&self, about: ObjectReference, type_: &str, reason: &str, message: String) {
        let namespace = about.namespace.clone().unwrap_or_default();
        let name = about.name.clone().unwrap_or_default();
        let now = self.clock.now();
        let event = Told {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:016x}", now.as_nanosecond())),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: about,
            type_: Some(type_.into()),
            reason: Some(reason.into()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            source: Some(EventSource {
                component: Some(COMPONENT.into()),
                host: None,
            }),
            reporting_component: Some(COMPONENT.into()),
            ..Told::default()
        };
        let api: Api<Told> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(%error, "reporting on a disruption budget");
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
        return vec![("Warning", "CalculateExpectedPodCountFailed", message)];
    }
    let mut words = Vec::new();
    if seen.selected == 0 {
        words.push(("Normal", "NoPods", "No matching pods found".to_owned()));
    }
    if !seen.unmanaged.is_empty() {
        let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the PDB \
             cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \
             \".spec.minAvailable\" field of the PDB to an integer value.",
            selector.map_or_else(|| "nil".to_owned(), shown)
        );
        words.push(("Warning", "UnmanagedPods", message));
    }
    words
}

/// A selector as Go prints it.
fn shown(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(k, v)| format!("{k}: {v},")).collect();
    let expressions = selector.match_expressions.iter().flatten();
    let expressions: String = expressions
        .map(|e| {
            let values = e.values.as_deref().unwrap_or_default().join(" ");
            let (key, operator) = (&e.key, &e.operator);
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_are_shown_as_go_shows_them() {
        let selector = json!({"matchLabels": {"a": "1", "b": "2"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["x", "y"]}]});
        let selector = serde_json::from_value(selector).unwrap();
        assert_eq!(
            shown(&selector),
            "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:c,Operator:In,Values:[x y],},},}"
        );
    }
}
