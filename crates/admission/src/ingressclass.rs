//! IngressClasses (upstream's pkg/apis/networking), and which of them is for Ingresses that name none.

use std::cmp::Reverse;

use api::field::{Error, ErrorList};
use api::names;
use serde_json::Value;

use crate::meta::{self, annotation, immutable, invalid_text};
use crate::view::{At, dig, entry, object_mut, set_if_absent, text};
use crate::{Rules, Subresource, generic};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(false),
    default: |class| {
        if let Some(parameters) = object_mut(entry(class, "spec"), "parameters") {
            set_if_absent(parameters, "scope", CLUSTER);
        }
    },
    prepare_create: (generic::RULES).prepare_create,
    prepare_update: (generic::RULES).prepare_update,
    validate_create: |class| meta::validate_new(class, false, "spec", validate_spec),
    validate_update,
};

/// Marks the class of Ingresses that name none.
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";
const CLUSTER: &str = "Cluster";
const NAMESPACE: &str = "Namespace";
const MAX_CONTROLLER: usize = 250;
const PATH_PATTERN: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";

/// The name of the class for Ingresses that name none, of all classes: of several the newest, and of those the first by name.
pub(crate) fn default_of(classes: &[Value]) -> Option<&str> {
    let metadata = |class: &'_ Value, field| text(dig(class, &["metadata", field])).to_owned();
    let marked = |class: &&Value| annotation(class, DEFAULT_ANNOTATION) == Some("true");
    let newest = classes.iter().filter(marked).max_by_key(|class| {
        let name = metadata(class, "name");
        (metadata(class, "creationTimestamp"), Reverse(name))
    })?;
    Some(text(dig(newest, &["metadata", "name"])))
}

fn validate_update(_: Subresource, new: &Value, old: &Value) -> ErrorList {
    let spec = At::field(new, "spec");
    let mut errors = immutable(&spec.get("controller"), dig(old, &["spec", "controller"]));
    errors.extend(validate_spec(&spec));
    errors
}

fn validate_spec(spec: &At<'_>) -> ErrorList {
    let controller = spec.get("controller");
    let mut errors = ErrorList::new();
    if controller.text().len() > MAX_CONTROLLER {
        errors.push(Error::too_long(&controller.path, MAX_CONTROLLER));
    }
    errors.extend(domain_prefixed_path(&controller));
    let parameters = spec.get("parameters");
    if parameters.given() {
        errors.extend(validate_reference(&parameters));
        errors.extend(validate_scope(&parameters));
    }
    errors
}

/// `acme.io/foo`; errors show the part that is wrong.
fn domain_prefixed_path(at: &At<'_>) -> ErrorList {
    let refuse = |part: &str, why: String| Error::invalid(&at.path, part, why);
    let (domain, path) = match at.text().split_once('/') {
        _ if at.text().is_empty() => return vec![Error::required(&at.path, "")],
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => (domain, path),
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            return vec![refuse(at.text(), why.to_owned())];
        }
    };
    let wrong = names::dns1123_subdomain(domain).into_iter();
    let mut errors: ErrorList = wrong.map(|why| refuse(domain, why)).collect();
    let is_inside = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(is_inside) {
        errors.push(refuse(
            path,
            names::regex_error("Invalid path", PATH_PATTERN, &[]),
        ));
    }
    errors
}

/// What a reference to an object of any kind has to say.
pub(crate) fn validate_reference(reference: &At<'_>) -> ErrorList {
    let group = reference.get("apiGroup");
    let mut errors = ErrorList::new();
    if group.given() {
        errors.extend(invalid_text(&group, names::dns1123_subdomain(group.text())));
    }
    for name in ["kind", "name"] {
        errors.extend(required_segment(&reference.get(name)));
    }
    errors
}

/// A word that has to be there and fits into a URL.
pub(crate) fn required_segment(at: &At<'_>) -> ErrorList {
    match at.text() {
        "" => vec![Error::required(&at.path, "")],
        text => invalid_text(at, names::path_segment(text)),
    }
}

/// Where the object with the parameters is.
fn validate_scope(parameters: &At<'_>) -> ErrorList {
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    match scope.text() {
        NAMESPACE if !namespace.given() => vec![Error::required(
            &namespace.path,
            "`parameters.scope` is set to 'Namespace'",
        )],
        NAMESPACE => invalid_text(&namespace, names::dns1123_label(namespace.text())),
        CLUSTER if namespace.given() => vec![Error::forbidden(
            &namespace.path,
            "`parameters.scope` is set to 'Cluster'",
        )],
        CLUSTER => ErrorList::new(),
        other => vec![Error::not_supported(
            &scope.path,
            other,
            &[CLUSTER, NAMESPACE],
        )],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::default;

    #[test]
    fn parameters_are_of_the_cluster_unless_told_otherwise() {
        let resource = "ingressclasses.networking.k8s.io";
        for (parameters, wanted) in [
            (json!({"kind": "P"}), json!("Cluster")),
            (json!({"scope": "Namespace"}), json!("Namespace")),
        ] {
            let mut class = json!({"spec": {"parameters": parameters}});
            default(resource, &mut class);
            assert_eq!(class["spec"]["parameters"]["scope"], wanted);
        }
        let mut without = json!({"spec": {"controller": "a.b/c"}});
        default(resource, &mut without);
        assert_eq!(without, json!({"spec": {"controller": "a.b/c"}}));
    }
}
