//! A Pod's specification as a whole, in upstream's order of checks.

use api::field::{Error, ErrorList, Path};
use api::names;
use serde_json::Value;

use super::containers::{self, Around};
use super::{MIRROR, aggregate, ephemeral, scheduling, security, volumes, word};
use crate::meta::{self, invalid_text};
use crate::net;
use crate::resources::{self, Scope};
use crate::view::{At, dig, get, list, text};

/// Whose specification is being validated.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpecContext<'a> {
    /// The Pod's name, which claims for generic ephemeral volumes are made from; empty in templates.
    pub pod_name: &'a str,
    /// Whether this is a Pod and not a template.
    pub is_pod: bool,
}

const SECONDS_MAX: i64 = i32::MAX as i64;

/// A new Pod.
pub(super) fn validate_create(pod: &Value) -> ErrorList {
    let mut errors = validate_pod(pod);
    let spec = At::field(pod, "spec");
    let (extra, node) = (spec.get("ephemeralContainers"), spec.get("nodeName"));
    if extra.len() > 0 {
        errors.push(Error::forbidden(&extra.path, "cannot be set on create"));
    }
    if !node.text().is_empty() && spec.get("schedulingGates").len() > 0 {
        errors.push(Error::forbidden(
            &node.path,
            "cannot be set until all schedulingGates have been cleared",
        ));
    }
    errors
}

/// Metadata and specification of a Pod, new or changed.
pub(super) fn validate_pod(pod: &Value) -> ErrorList {
    let spec = At::field(pod, "spec");
    let mut errors = meta::validate(pod, true, names::dns1123_subdomain);
    errors.extend(annotations(
        &At::field(pod, "metadata").get("annotations"),
        &spec,
    ));
    errors.extend(validate(
        &spec,
        SpecContext {
            pod_name: text(dig(pod, &["metadata", "name"])),
            is_pod: true,
        },
    ));
    if spec.get("serviceAccountName").text().is_empty() {
        errors.extend(tokens_without_account(&spec));
    }
    for name in ["containers", "initContainers"] {
        errors.extend(
            spec.get(name)
                .items()
                .flat_map(|container| image_whitespace(&container)),
        );
    }
    errors
}

/// Annotations that say something about a Pod, or the Pods of a template.
pub(crate) fn annotations(at: &At<'_>, spec: &At<'_>) -> ErrorList {
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
    let entry = |name: &str| at.entries().find(|(key, _)| *key == name);
    let refuse = |value: At<'_>, why: &str| Error::invalid(&value.path, value.text(), why);
    let mut errors = ErrorList::new();
    if let Some((_, value)) = entry(MIRROR).filter(|_| spec.get("nodeName").text().is_empty()) {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(refuse(value, why));
    }
    if let Some((_, value)) = entry(COST).filter(|(_, value)| !is_deletion_cost(value.text())) {
        errors.push(refuse(value, "must be a 32bit integer"));
    }
    for (key, value) in at.entries() {
        let Some(name) = key.strip_prefix(APP_ARMOR) else {
            continue;
        };
        if !containers::every(spec).any(|container| container.get("name").text() == name) {
            errors.push(Error::invalid(&value.path, name, "container not found"));
        }
        let known = ["", "runtime/default", "unconfined"].contains(&value.text())
            || value.text().starts_with("localhost/");
        if !known {
            let why = format!("invalid AppArmor profile name: {:?}", value.text());
            errors.push(refuse(value, &why));
        }
    }
    errors
}

/// A number without plus sign or leading zeros.
fn is_deletion_cost(text: &str) -> bool {
    text.parse::<i32>()
        .is_ok_and(|number| number.to_string() == text)
}

fn tokens_without_account(spec: &At<'_>) -> ErrorList {
    let sources = spec
        .get("volumes")
        .items()
        .flat_map(|volume| volume.get("projected").get("sources").items());
    let tokens = sources
        .map(|source| source.get("serviceAccountToken"))
        .filter(At::given);
    tokens
        .map(|token| {
            Error::forbidden(
                &token.path,
                "must not be specified when serviceAccountName is not set",
            )
        })
        .collect()
}

/// An image name does not begin or end in white space.
pub(super) fn image_whitespace(container: &At<'_>) -> ErrorList {
    let image = container.get("image");
    if image.text().trim() == image.text() {
        return ErrorList::new();
    }
    vec![Error::invalid(
        &image.path,
        image.text(),
        "must not have leading or trailing whitespace",
    )]
}

/// Everything wrong with a Pod's specification, or a template's. Defaults must have been filled in.
pub fn validate_value(spec: &Value, path: &Path, context: SpecContext<'_>) -> ErrorList {
    validate(
        &At {
            value: spec,
            path: path.clone(),
        },
        context,
    )
}

pub(super) fn validate(spec: &At<'_>, context: SpecContext<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let grace = spec.get("terminationGracePeriodSeconds");
    if !grace.given() {
        errors.push(Error::required(&grace.path, ""));
    }
    let (volumes, wrong_volumes) =
        volumes::validate(&spec.get("volumes"), context.pod_name, context.is_pod);
    errors.extend(wrong_volumes);
    let (claims, wrong_claims) = containers::resource_claims(&spec.get("resourceClaims"));
    errors.extend(wrong_claims);
    let host_users = !spec.get("hostUsers").is_false();
    let around = Around {
        spec: spec.clone(),
        volumes,
        claims,
        grace: grace.int(),
        host_users,
    };
    errors.extend(containers::app(&around));
    errors.extend(containers::init(&around));
    errors.extend(ephemeral::validate(&around));
    errors.extend(pod_resources(spec, &around));
    errors.extend(host_network_ports(spec, context.is_pod));
    errors.extend(word(
        &spec.get("restartPolicy"),
        &["Always", "OnFailure", "Never"],
    ));
    errors.extend(word(
        &spec.get("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    ));
    errors.extend(meta::labels(&spec.get("nodeSelector")));
    errors.extend(security::pod(spec));
    errors.extend(scheduling::affinity(&spec.get("affinity")));
    errors.extend(dns_config(
        &spec.get("dnsConfig"),
        spec.get("dnsPolicy").text(),
    ));
    for gate in spec.get("readinessGates").items() {
        let kind = gate.get("conditionType");
        errors.extend(invalid_text(&kind, names::qualified_name(kind.text())));
    }
    errors.extend(scheduling::gates(&spec.get("schedulingGates")));
    errors.extend(scheduling::spread(&spec.get("topologySpreadConstraints")));
    errors.extend(security::host_users(spec));
    errors.extend(hostname_override(spec));
    errors.extend(single_fields(spec, &around));
    errors.extend(volumes::file_key_volumes(spec));
    errors
}

/// The fields that stand for themselves, in their order.
fn single_fields(spec: &At<'_>, around: &Around<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let named = |name: &str, rule: fn(&str) -> Vec<String>| {
        let at = spec.get(name);
        if at.text().is_empty() {
            ErrorList::new()
        } else {
            invalid_text(&at, rule(at.text()))
        }
    };
    errors.extend(named("serviceAccountName", names::dns1123_subdomain));
    errors.extend(named("nodeName", names::dns1123_subdomain));
    let deadline = spec.get("activeDeadlineSeconds");
    if let Some(seconds) = deadline
        .int()
        .filter(|seconds| !(1..=SECONDS_MAX).contains(seconds))
    {
        errors.push(Error::invalid(
            &deadline.path,
            seconds,
            names::inclusive_range(1, SECONDS_MAX),
        ));
    }
    errors.extend(named("hostname", names::dns1123_label));
    errors.extend(named("subdomain", names::dns1123_label));
    errors.extend(scheduling::tolerations(&spec.get("tolerations")));
    for alias in spec.get("hostAliases").items() {
        let ip = alias.get("ip");
        errors.extend(net::ip(&ip.path, ip.text(), &[]));
        errors.extend(
            alias
                .get("hostnames")
                .items()
                .flat_map(|name| invalid_text(&name, names::dns1123_subdomain(name.text()))),
        );
    }
    errors.extend(named("priorityClassName", names::dns1123_subdomain));
    let class = spec.get("runtimeClassName");
    if class.given() {
        errors.extend(invalid_text(&class, names::dns1123_subdomain(class.text())));
    }
    let preemption = spec.get("preemptionPolicy");
    if preemption.given() {
        errors.extend(word(&preemption, &["PreemptLowerPriority", "Never"]));
    }
    let overhead = spec.get("overhead");
    if overhead.given() {
        let as_limits = serde_json::json!({"limits": overhead.value});
        errors.extend(resources::requirements(
            &At {
                value: &as_limits,
                path: overhead.path.clone(),
            },
            Scope::Container,
            &around.claims,
        ));
    }
    errors.extend(security::os(spec));
    errors
}

fn pod_resources(spec: &At<'_>, around: &Around<'_>) -> ErrorList {
    let whole = spec.get("resources");
    if !whole.given() {
        return ErrorList::new();
    }
    if spec.get("os").get("name").text() == "windows" {
        return vec![Error::forbidden(
            &whole.path,
            "may not be set for a windows pod",
        )];
    }
    let mut errors = ErrorList::new();
    if whole.get("claims").given() {
        errors.push(Error::forbidden(
            &whole.path.child("claims"),
            "claims may not be set for Resources at pod-level",
        ));
    }
    errors.extend(resources::requirements(&whole, Scope::Pod, &around.claims));
    errors.extend(whole_against_parts(spec, &whole));
    errors
}

fn whole_against_parts(spec: &At<'_>, whole: &At<'_>) -> ErrorList {
    let (limits, requests) = (
        resources::list(get(whole.value, "limits")),
        resources::list(get(whole.value, "requests")),
    );
    let mut errors = ErrorList::new();
    for (name, needed) in aggregate::containers(spec.value, aggregate::Which::Requests) {
        if let Some(have) = requests.get(&name).filter(|have| needed > **have) {
            let detail = format!(
                "must be greater than or equal to aggregate container requests of {}",
                needed.canonical()
            );
            errors.push(Error::invalid(
                &whole.path.child("requests").key(&name),
                have.canonical(),
                detail,
            ));
        }
    }
    for (name, needed) in aggregate::containers(spec.value, aggregate::Which::Limits) {
        if let Some(have) = limits
            .get(&name)
            .filter(|have| resources::is_huge_page(&name) && needed > **have)
        {
            let detail = format!(
                "must be greater than or equal to aggregate container limits of {}",
                needed.canonical()
            );
            errors.push(Error::invalid(
                &whole.path.child("limits").key(&name),
                have.canonical(),
                detail,
            ));
        }
    }
    for (i, container) in list(get(spec.value, "containers")).iter().enumerate() {
        for (name, limit) in resources::list(dig(container, &["resources", "limits"])) {
            if let Some(most) = limits.get(&name).filter(|most| limit > **most) {
                let path = whole
                    .path
                    .child("containers")
                    .index(i)
                    .key(&name)
                    .child("limits");
                errors.push(Error::invalid(
                    &path,
                    limit.canonical(),
                    format!(
                        "must be less than or equal to pod limits of {}",
                        most.canonical()
                    ),
                ));
            }
        }
    }
    errors
}

fn host_network_ports(spec: &At<'_>, is_pod: bool) -> ErrorList {
    if !spec.get("hostNetwork").is_true() {
        return ErrorList::new();
    }
    let ports = spec
        .get("containers")
        .items()
        .flat_map(|container| container.get("ports").items());
    let mismatched = ports.filter_map(|port| {
        let (host, container) = (
            port.get("hostPort").int().unwrap_or(0),
            port.get("containerPort").int().unwrap_or(0),
        );
        ((is_pod || host != 0) && host != container).then(|| (port.path.child("hostPort"), host))
    });
    mismatched
        .map(|(path, host)| {
            Error::invalid(
                &path,
                host,
                "must match `containerPort` when `hostNetwork` is true",
            )
        })
        .collect()
}

fn dns_config(config: &At<'_>, policy: &str) -> ErrorList {
    let (servers, searches) = (config.get("nameservers"), config.get("searches"));
    if policy == "None" {
        if !config.given() {
            return vec![Error::required(
                &config.path,
                "must provide `dnsConfig` when `dnsPolicy` is None",
            )];
        }
        if servers.len() == 0 {
            return vec![Error::required(
                &servers.path,
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            )];
        }
    }
    let mut errors = ErrorList::new();
    if servers.len() > 3 {
        errors.push(Error::invalid(
            &servers.path,
            servers.value.clone(),
            "must not have more than 3 nameservers",
        ));
    }
    errors.extend(
        servers
            .items()
            .flat_map(|server| net::ip(&server.path, server.text(), &[])),
    );
    if searches.len() > 32 {
        errors.push(Error::invalid(
            &searches.path,
            searches.value.clone(),
            "must not have more than 32 search paths",
        ));
    }
    let joined: Vec<&str> = list(searches.value).iter().map(text).collect();
    if joined.join(" ").len() > 2048 {
        let detail =
            "must not have more than 2048 characters (including spaces) in the search list";
        errors.push(Error::invalid(
            &searches.path,
            searches.value.clone(),
            detail,
        ));
    }
    for search in searches.items().filter(|search| search.text() != ".") {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        let wrong = names::dns1123_subdomain_with_underscore(name);
        errors.extend(
            wrong
                .into_iter()
                .map(|message| Error::invalid(&search.path, name, message)),
        );
    }
    for option in config
        .get("options")
        .items()
        .filter(|option| option.get("name").text().is_empty())
    {
        errors.push(Error::required(&option.path, "must not be empty"));
    }
    errors
}

fn hostname_override(spec: &At<'_>) -> ErrorList {
    let name = spec.get("hostnameOverride");
    let mut errors = ErrorList::new();
    if !name.given() {
        return errors;
    }
    for field in ["setHostnameAsFQDN", "hostNetwork"] {
        if spec.get(field).is_true() {
            errors.push(Error::forbidden(
                &name.path,
                format!("may not be specified when {field} is true"),
            ));
        }
    }
    if name.text().len() > 64 {
        errors.push(Error::too_long(&name.path, 64));
    }
    errors.extend(invalid_text(&name, names::dns1123_subdomain(name.text())));
    errors
}
