//! Ingresses (upstream's pkg/apis/networking/validation and the plugin DefaultIngressClass). What upstream lets stand in Ingresses that
//! are older than a rule has no place here: none is.

use api::field::{Error, ErrorList};
use api::names;
use serde_json::{Value, json};

use crate::ingressclass;
use crate::meta::{self, annotation, invalid_text};
use crate::view::{At, dig, entry, object};
use crate::{Rules, Subresource, generic, net};

pub(crate) const RULES: Rules = Rules {
    namespaced: Some(true),
    default: generic::nothing,
    prepare_create: |ingress| {
        (generic::RULES.prepare_create)(ingress);
        object(ingress).insert("status".to_owned(), json!({"loadBalancer": {}}));
    },
    prepare_update: (generic::RULES).prepare_update,
    validate_create,
    validate_update,
};

/// Where the class stood before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];
const NOT_IN_PATHS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const NOT_AT_THE_END: [&str; 2] = ["/..", "/."];

/// Gives a new Ingress that names no class the default one of `classes`, if there is one.
pub fn admit(ingress: &mut Value, classes: &[Value]) {
    if class_name(ingress).is_string() || annotation(ingress, CLASS_ANNOTATION).is_some() {
        return;
    }
    if let Some(name) = ingressclass::default_of(classes) {
        object(entry(ingress, "spec")).insert("ingressClassName".to_owned(), name.into());
    }
}

/// What a client is told about a new Ingress besides the answer.
pub fn warning(ingress: &Value) -> Option<String> {
    let is_outdated =
        annotation(ingress, CLASS_ANNOTATION).is_some() && class_name(ingress).is_null();
    is_outdated.then(|| {
        format!(
            "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
        )
    })
}

fn class_name(ingress: &Value) -> &Value {
    dig(ingress, &["spec", "ingressClassName"])
}

fn validate_create(ingress: &Value) -> ErrorList {
    let mut errors = meta::validate(ingress, true, names::dns1123_subdomain);
    errors.extend(validate_spec(&At::field(ingress, "spec")));
    if let (Some(given), Some(class)) = (
        annotation(ingress, CLASS_ANNOTATION),
        class_name(ingress).as_str(),
    ) && given != class
    {
        // Upstream leaves `metadata` out.
        let path = api::field::Path::new("annotations").child(CLASS_ANNOTATION);
        errors.push(Error::invalid(
            &path,
            given,
            "must match `ingressClassName` when both are specified",
        ));
    }
    errors
}

fn validate_update(part: Subresource, new: &Value, _: &Value) -> ErrorList {
    match part {
        Subresource::Status => {
            let points = At::field(new, "status").get("loadBalancer").get("ingress");
            points
                .items()
                .flat_map(|point| validate_point(&point))
                .collect()
        }
        _ => validate_spec(&At::field(new, "spec")),
    }
}

fn validate_point(point: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let ip = point.get("ip");
    if !ip.text().is_empty() {
        errors.extend(net::ip(&ip.path, ip.text(), &[]));
    }
    let host = point.get("hostname");
    if !host.text().is_empty() {
        errors.extend(invalid_text(&host, names::dns1123_subdomain(host.text())));
        errors.extend(no_address(&host));
    }
    errors
}

fn validate_spec(spec: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (rules, backend) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.len() == 0 && !backend.given() {
        errors.push(Error::invalid(
            &spec.path,
            rules.value.clone(),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if backend.given() {
        errors.extend(validate_backend(&backend));
    }
    errors.extend(rules.items().flat_map(|rule| validate_rule(&rule)));
    errors.extend(spec.get("tls").items().flat_map(|tls| validate_tls(&tls)));
    let class = spec.get("ingressClassName");
    if class.given() {
        errors.extend(invalid_text(&class, names::dns1123_subdomain(class.text())));
    }
    errors
}

fn validate_rule(rule: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let host = rule.get("host");
    if !host.text().is_empty() {
        errors.extend(no_address(&host));
        errors.extend(validate_host(&host));
    }
    let http = rule.get("http");
    if http.given() {
        let paths = http.get("paths");
        if paths.len() == 0 {
            errors.push(Error::required(&paths.path, ""));
        }
        errors.extend(paths.items().flat_map(|path| validate_path(&path)));
    }
    errors
}

fn validate_tls(tls: &At<'_>) -> ErrorList {
    let hosts = tls.get("hosts");
    let mut errors: ErrorList = hosts
        .items()
        .flat_map(|host| validate_host(&host))
        .collect();
    let secret = tls.get("secretName");
    if !secret.text().is_empty() {
        errors.extend(invalid_text(
            &secret,
            names::dns1123_subdomain(secret.text()),
        ));
    }
    errors
}

/// A DNS name, of which the first label may be `*`.
fn validate_host(host: &At<'_>) -> ErrorList {
    let rule = if host.text().contains('*') {
        names::wildcard_dns1123_subdomain
    } else {
        names::dns1123_subdomain
    };
    invalid_text(host, rule(host.text()))
}

fn no_address(host: &At<'_>) -> ErrorList {
    let is_address = net::parse_sloppy(host.text()).is_some();
    let why = "must be a DNS name, not an IP address";
    let error = is_address.then(|| Error::invalid(&host.path, host.text(), why));
    error.into_iter().collect()
}

fn validate_path(item: &At<'_>) -> ErrorList {
    let (path, kind) = (item.get("path"), item.get("pathType"));
    if !kind.given() {
        return vec![Error::required(&kind.path, "pathType must be specified")];
    }
    let mut errors = ErrorList::new();
    let mut refuse = |why: String| errors.push(Error::invalid(&path.path, path.text(), why));
    let is_strict = ["Exact", "Prefix"].contains(&kind.text());
    let is_loose = kind.text() == "ImplementationSpecific" && !path.text().is_empty();
    if (is_strict || is_loose) && !path.text().starts_with('/') {
        refuse("must be an absolute path".to_owned());
    }
    if is_strict {
        let inside = NOT_IN_PATHS.iter();
        for part in inside.filter(|part| path.text().contains(**part)) {
            refuse(format!("must not contain '{part}'"));
        }
        let last = NOT_AT_THE_END.iter();
        for end in last.filter(|end| path.text().ends_with(**end)) {
            refuse(format!("cannot end with '{end}'"));
        }
    }
    if !PATH_TYPES.contains(&kind.text()) {
        errors.push(Error::not_supported(&kind.path, kind.text(), &PATH_TYPES));
    }
    errors.extend(validate_backend(&item.get("backend")));
    errors
}

fn validate_backend(backend: &At<'_>) -> ErrorList {
    let (resource, service) = (backend.get("resource"), backend.get("service"));
    let refuse = |why: &str| vec![Error::invalid(&backend.path, "", why)];
    match (resource.given(), service.given()) {
        (true, true) => refuse("cannot set both resource and service backends"),
        (true, false) => ingressclass::validate_reference(&resource),
        (false, true) => validate_service(backend, &service),
        (false, false) => refuse("resource or service backend is required"),
    }
}

fn validate_service(backend: &At<'_>, service: &At<'_>) -> ErrorList {
    let name = service.get("name");
    let mut errors = match name.text() {
        "" => vec![Error::required(&name.path, "")],
        text => invalid_text(&name, names::dns1123_label(text)),
    };
    let port = service.get("port");
    let (called, number) = (port.get("name"), port.get("number"));
    errors.extend(
        match (called.text(), number.int().filter(|number| *number != 0)) {
            ("", None) => vec![Error::required(
                &backend.path,
                "port name or number is required",
            )],
            ("", Some(value)) => names::port_number(value)
                .into_iter()
                .map(|why| Error::invalid(&number.path, value, why))
                .collect(),
            (text, None) => invalid_text(&called, names::port_name(text)),
            _ => vec![Error::invalid(
                &backend.path,
                "",
                "cannot set both port name & port number",
            )],
        },
    );
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{admit, warning};
    use crate::{Subresource, prepare_create, prepare_update};

    const RESOURCE: &str = "ingresses.networking.k8s.io";

    fn class(name: &str, created: &str, is_default: &str) -> Value {
        let mark = json!({"ingressclass.kubernetes.io/is-default-class": is_default});
        json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": mark}})
    }

    #[test]
    fn the_newest_default_class_is_taken() {
        let classes = [
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("a", "2026-01-02T00:00:00Z", "true"),
            class("newer", "2026-01-03T00:00:00Z", "false"),
        ];
        let with_annotation = json!({"annotations": {"kubernetes.io/ingress.class": ""}});
        for (behaviour, ingress, classes, wanted) in [
            ("the newest", json!({}), &classes[..], json!("a")),
            ("none is one", json!({}), &classes[3..], Value::Null),
            (
                "a class of its own",
                json!({"spec": {"ingressClassName": "own"}}),
                &classes[..],
                json!("own"),
            ),
            (
                "a class by annotation",
                json!({"metadata": with_annotation}),
                &classes[..],
                Value::Null,
            ),
        ] {
            let mut ingress = ingress;
            admit(&mut ingress, classes);
            let taken = ingress["spec"].get("ingressClassName");
            assert_eq!(taken.cloned().unwrap_or_default(), wanted, "{behaviour}");
        }
    }

    #[test]
    fn a_class_by_annotation_is_warned_of() {
        let mut ingress =
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}});
        let text = "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead";
        assert_eq!(warning(&ingress).as_deref(), Some(text));
        ingress["spec"] = json!({"ingressClassName": "a"});
        assert_eq!(warning(&ingress), None);
        assert_eq!(warning(&json!({})), None);
    }

    #[test]
    fn changes_are_counted_and_status_has_its_own_path() {
        let point = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
        let mut ingress = json!({"metadata": {"name": "i"}, "spec": {"rules": [{"host": "a.b"}]}, "status": point});
        prepare_create(RESOURCE, &mut ingress);
        assert_eq!(ingress["metadata"]["generation"], 1);
        assert_eq!(ingress["status"], json!({"loadBalancer": {}}));
        let mut changed = ingress.clone();
        changed["spec"]["rules"][0]["host"] = "c.d".into();
        changed["status"] = point.clone();
        let mut seen = changed.clone();
        prepare_update(RESOURCE, Subresource::Main, &mut changed, &ingress);
        assert_eq!(changed["metadata"]["generation"], 2);
        assert_eq!(changed["status"], ingress["status"]);
        prepare_update(RESOURCE, Subresource::Status, &mut seen, &ingress);
        assert_eq!(seen["metadata"]["generation"], 1);
        assert_eq!((&seen["spec"], &seen["status"]), (&ingress["spec"], &point));
    }
}
