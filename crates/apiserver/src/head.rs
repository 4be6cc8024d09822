//! The part of a stored object that selectors look at, read from its bytes without decoding the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::selector::{FieldSelector, Labels, Selector};
use serde::Deserialize;
use serde_json::Value;

/// A label and a field selector together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    pub(crate) labels: Selector,
    pub(crate) fields: FieldSelector,
}

#[derive(Deserialize)]
struct Labelled {
    metadata: Head,
}

/// The small part of `metadata` that is looked at often.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) namespace: String,
    labels: Option<BTreeMap<String, String>>,
}

/// Everything field selectors can ask of a core kind; values of any type, as kinds differ.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Selectable {
    spec: Option<Spec>,
    status: Option<State>,
    involved_object: Option<BTreeMap<String, Value>>,
    r#type: Value,
    reason: Value,
    reporting_component: Value,
    source: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Value,
    restart_policy: Value,
    scheduler_name: Value,
    service_account_name: Value,
    host_network: Value,
    unschedulable: Value,
    #[serde(rename = "clusterIP")]
    cluster_ip: Value,
    r#type: Value,
    signer_name: Value,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct State {
    phase: Value,
    #[serde(rename = "podIP")]
    pod_ip: Value,
    nominated_node_name: Value,
    replicas: Value,
    succeeded: Value,
}

impl Selection {
    /// Whether it selects everything.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether it selects the object stored under `key` with these bytes.
    pub(crate) fn matches(&self, key: &str, bytes: &[u8]) -> bool {
        if self.is_everything() {
            return true;
        }
        if !self.fields.is_everything() && !self.matches_fields(key, bytes) {
            return false;
        }
        self.labels.is_everything() || head(bytes).is_some_and(|head| self.labels.matches(&head))
    }

    fn matches_fields(&self, key: &str, bytes: &[u8]) -> bool {
        let by_key = self
            .fields
            .terms()
            .iter()
            .all(|t| matches!(t.path.as_str(), "metadata.name" | "metadata.namespace"));
        let body = if by_key {
            Selectable::default()
        } else {
            serde_json::from_slice(bytes).unwrap_or_default()
        };
        self.fields.matches(|path| match path {
            "metadata.name" => Cow::Borrowed(name_of(key)),
            "metadata.namespace" => Cow::Borrowed(namespace_of(key)),
            path => api::resource::field(path, |path| body.at(path)),
        })
    }
}

impl Labels for Head {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }
}

/// The head of a stored object; `None` when the bytes are no object.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    serde_json::from_slice::<Labelled>(bytes)
        .ok()
        .map(|l| l.metadata)
}

/// The node a stored Pod is bound to.
pub(crate) fn node_of(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Bound {
        spec: Place,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Place {
        node_name: Option<String>,
    }
    let bound = serde_json::from_slice::<Bound>(bytes).ok()?;
    bound.spec.node_name
}

/// The last part of a storage key.
pub(crate) fn name_of(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or_default()
}

/// The namespace in a storage key, empty at cluster scope: `/registry/pods/ns/name`.
pub(crate) fn namespace_of(key: &str) -> &str {
    let mut parts = key.split('/').skip(3);
    match (parts.next(), parts.next()) {
        (Some(namespace), Some(_)) => namespace,
        _ => "",
    }
}

impl Selectable {
    /// A field by its path.
    fn at(&self, path: &str) -> Option<&Value> {
        if let Some(name) = path.strip_prefix("involvedObject.") {
            return self.involved_object.as_ref()?.get(name);
        }
        let spec = |pick: fn(&Spec) -> &Value| self.spec.as_ref().map(pick);
        let status = |pick: fn(&State) -> &Value| self.status.as_ref().map(pick);
        match path {
            "spec.nodeName" => spec(|s| &s.node_name),
            "spec.restartPolicy" => spec(|s| &s.restart_policy),
            "spec.schedulerName" => spec(|s| &s.scheduler_name),
            "spec.serviceAccountName" => spec(|s| &s.service_account_name),
            "spec.hostNetwork" => spec(|s| &s.host_network),
            "spec.unschedulable" => spec(|s| &s.unschedulable),
            "spec.clusterIP" => spec(|s| &s.cluster_ip),
            "spec.type" => spec(|s| &s.r#type),
            "spec.signerName" => spec(|s| &s.signer_name),
            "status.phase" => status(|s| &s.phase),
            "status.podIP" => status(|s| &s.pod_ip),
            "status.nominatedNodeName" => status(|s| &s.nominated_node_name),
            "status.replicas" => status(|s| &s.replicas),
            "status.succeeded" => status(|s| &s.succeeded),
            "type" => Some(&self.r#type),
            "reason" => Some(&self.reason),
            "reportingComponent" => Some(&self.reporting_component),
            "source.component" => self.source.as_ref()?.get("component"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &[u8] =
        br#"{"kind":"Pod","metadata":{"name":"web","namespace":"a","labels":{"app":"x"}},
        "spec":{"nodeName":"n1","hostNetwork":true,"containers":[]},"status":{"phase":"Running"}}"#;

    fn selects(labels: &str, fields: &str) -> bool {
        let selection = Selection {
            labels: Selector::parse(labels).unwrap(),
            fields: FieldSelector::parse(fields).unwrap(),
        };
        selection.matches("/registry/pods/a/web", POD)
    }

    #[test]
    fn selectors_read_the_bytes() {
        assert!(selects("", ""));
        assert!(selects("app=x", "metadata.name=web,metadata.namespace=a"));
        assert!(selects(
            "app in (x,y)",
            "spec.nodeName=n1,status.phase!=Failed,spec.hostNetwork=true"
        ));
        assert!(!selects("app!=x", ""));
        assert!(!selects("", "metadata.name=other"));
        assert!(!selects("", "status.phase=Pending"));
        assert!(selects("!gone", "status.podIP="));
    }

    #[test]
    fn events_are_selected_by_who_tells() {
        let matches = |fields: &str, event: &str| {
            let selection = Selection {
                labels: Selector::parse("").unwrap(),
                fields: FieldSelector::parse(fields).unwrap(),
            };
            selection.matches("/registry/events/a/e", event.as_bytes())
        };
        let selects = |event: &str| matches("source=kubelet", event);
        for event in [
            r#"{"metadata":{},"source":{"component":"kubelet"}}"#,
            r#"{"metadata":{},"source":{"component":""},"reportingComponent":"kubelet"}"#,
            r#"{"metadata":{},"reportingComponent":"kubelet"}"#,
        ] {
            assert!(selects(event), "{event}");
        }
        for event in [
            r#"{"metadata":{}}"#,
            r#"{"metadata":{},"source":{"component":"other"},"reportingComponent":"kubelet"}"#,
        ] {
            assert!(!selects(event), "{event}");
        }
        let event =
            r#"{"metadata":{},"involvedObject":{"name":"web"},"reportingComponent":"kubelet"}"#;
        for fields in ["reportingController=kubelet", "regarding.name=web"] {
            assert!(matches(fields, event), "{fields}");
        }
        assert!(!matches("regarding.name=other", event));
    }

    #[test]
    fn keys_name_their_object() {
        assert_eq!(
            (
                namespace_of("/registry/pods/a/web"),
                name_of("/registry/pods/a/web")
            ),
            ("a", "web")
        );
        assert_eq!(
            (
                namespace_of("/registry/nodes/n"),
                name_of("/registry/nodes/n")
            ),
            ("", "n")
        );
    }
}
