//! The values field selectors compare with.

use super::{Resource, events};
use crate::selector::{FieldSelector, UnsupportedField};
use serde_json::Value;
use std::borrow::Cow;

impl Resource {
    /// Refuses a selector that names a path this kind cannot be selected by.
    pub fn check_fields(&self, selector: &FieldSelector) -> Result<(), UnsupportedField> {
        selector.check(|path| self.is_selectable(path))
    }

    fn is_selectable(&self, path: &str) -> bool {
        path == "metadata.name"
            || (path == "metadata.namespace" && self.namespaced)
            || self.selectable.contains(&path)
    }
}

/// The text a field selector compares with; empty when absent. `at` gives fields of the object as it is stored, so of Events as core
/// ones, by their path.
pub fn field<'a>(path: &str, at: impl Fn(&str) -> Option<&'a Value>) -> Cow<'a, str> {
    let path = &*events::core_path(path);
    let text = |path: &str| at(path).and_then(Value::as_str).unwrap_or_default();
    match path {
        // Selectable for compatibility, but upstream never gives it a value.
        "status.podIPs" => Cow::Borrowed(""),
        "spec.host" => Cow::Borrowed(text("spec.nodeName")),
        "spec.hostNetwork" | "spec.unschedulable" => {
            Cow::Borrowed(if at(path).and_then(Value::as_bool).unwrap_or(false) {
                "true"
            } else {
                "false"
            })
        }
        "status.replicas" | "status.successful" => {
            let counted = path.replace("successful", "succeeded");
            let count = at(&counted).and_then(Value::as_i64);
            Cow::Owned(count.unwrap_or_default().to_string())
        }
        "source" => match text("source.component") {
            "" => Cow::Borrowed(text("reportingComponent")),
            component => Cow::Borrowed(component),
        },
        _ => match at(path) {
            Some(Value::String(text)) => Cow::Borrowed(text),
            Some(Value::Bool(value)) => Cow::Owned(value.to_string()),
            Some(Value::Number(number)) => Cow::Owned(number.to_string()),
            _ => Cow::Borrowed(""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;
    use serde_json::json;

    fn matches(selector: &FieldSelector, object: &Value) -> bool {
        let at = |path: &str| object.pointer(&format!("/{}", path.replace('.', "/")));
        selector.matches(|path| field(path, at))
    }

    #[test]
    fn pods_by_field() {
        let pods = find("", "v1", "pods").unwrap();
        let pod = json!({"metadata": {"name": "web", "namespace": "d"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
        for (text, selected) in [
            ("metadata.name=web", true),
            ("spec.nodeName=n1,status.phase!=Failed", true),
            ("spec.host=n1", true),
            ("spec.hostNetwork=false", true),
            ("spec.hostNetwork=true", false),
            ("status.podIP=", true),
            ("spec.nodeName!=n1", false),
        ] {
            let selector = FieldSelector::parse(text).unwrap();
            pods.check_fields(&selector).unwrap();
            assert_eq!(matches(&selector, &pod), selected, "{text}");
        }
        let wrong = FieldSelector::parse("foo.bar=x").unwrap();
        assert_eq!(
            pods.check_fields(&wrong).unwrap_err().to_string(),
            "field label not supported: foo.bar"
        );
    }

    #[test]
    fn events_by_source() {
        let selector = FieldSelector::parse("source=kubelet").unwrap();
        assert!(matches(
            &selector,
            &json!({"source": {"component": "kubelet"}})
        ));
        assert!(matches(
            &selector,
            &json!({"reportingComponent": "kubelet"})
        ));
        assert!(!matches(&selector, &json!({})));
        let new = find("events.k8s.io", "v1", "events").unwrap();
        let selector = FieldSelector::parse("regarding.name=web").unwrap();
        new.check_fields(&selector).unwrap();
        assert!(matches(
            &selector,
            &json!({"involvedObject": {"name": "web"}})
        ));
    }
}
