//! Containers of all three kinds.

use std::collections::BTreeSet;

use api::field::{Error, ErrorList};
use api::names;

use super::internal::{self, Kind};
use super::mounts::Volumes;
use super::{PULL_POLICIES, env, mounts, probes, security, word};
use crate::endpoints::PROTOCOLS;
use crate::meta::invalid_text;
use crate::resources::{self, Scope};
use crate::view::At;

/// What containers are checked against.
pub(super) struct Around<'a> {
    /// `spec`.
    pub(super) spec: At<'a>,
    /// The volumes that are in order.
    pub(super) volumes: Volumes<'a>,
    /// Names in `spec.resourceClaims`.
    pub(super) claims: BTreeSet<&'a str>,
    /// The Pod's grace period, in seconds.
    pub(super) grace: Option<i64>,
    /// Whether user ids are the host's.
    pub(super) host_users: bool,
}

/// Every container, init containers first.
pub(super) fn every<'a>(spec: &At<'a>) -> impl Iterator<Item = At<'a>> + use<'a> {
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|name| spec.get(name));
    lists.into_iter().flat_map(|list| list.items())
}

/// What all containers have in common.
pub(super) fn common(container: &At<'_>, around: &Around<'_>) -> ErrorList {
    let (name, image) = (container.get("name"), container.get("image"));
    let mut errors = ErrorList::new();
    match name.text() {
        "" => errors.push(Error::required(&name.path, "")),
        text => errors.extend(invalid_text(&name, names::dns1123_label(text))),
    }
    if image.text().is_empty() {
        errors.push(Error::required(&image.path, ""));
    }
    errors.extend(word(
        &container.get("terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
    ));
    errors.extend(ports(&container.get("ports")));
    errors.extend(env::variables(&container.get("env")));
    errors.extend(env::sources(&container.get("envFrom")));
    errors.extend(mounts::mounts(container, &around.volumes));
    errors.extend(mounts::devices(container, &around.volumes));
    errors.extend(word(&container.get("imagePullPolicy"), &PULL_POLICIES));
    errors.extend(resources::requirements(
        &container.get("resources"),
        Scope::Container,
        &around.claims,
    ));
    errors.extend(resize_policy(
        &container.get("resizePolicy"),
        around.spec.get("restartPolicy").text(),
    ));
    errors.extend(security::container(
        &container.get("securityContext"),
        around.host_users,
    ));
    errors
}

fn ports(ports: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let (name, number, host, protocol) = (
            port.get("name"),
            port.get("containerPort"),
            port.get("hostPort"),
            port.get("protocol"),
        );
        if !name.text().is_empty() {
            let wrong = names::port_name(name.text());
            if wrong.is_empty() && !seen.insert(name.text()) {
                errors.push(Error::duplicate(&name.path, name.text()));
            }
            errors.extend(invalid_text(&name, wrong));
        }
        match number.int().unwrap_or(0) {
            0 => errors.push(Error::required(&number.path, "")),
            _ => errors.extend(super::port_number(&number)),
        }
        if host.int().unwrap_or(0) != 0 {
            errors.extend(super::port_number(&host));
        }
        errors.extend(word(&protocol, &PROTOCOLS));
    }
    errors
}

fn resize_policy(policies: &At<'_>, restart_policy: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for policy in policies.items() {
        let (resource, restart) = (policy.get("resourceName"), policy.get("restartPolicy"));
        if !seen.insert(resource.text()) {
            errors.push(Error::duplicate(&policy.path, resource.text()));
        }
        errors.extend(word(
            &resource.reported_at(policies.path.clone()),
            &["cpu", "memory"],
        ));
        errors.extend(word(
            &restart.reported_at(policies.path.clone()),
            &["NotRequired", "RestartContainer"],
        ));
        if restart_policy == "Never" && restart.text() != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(&policies.path, restart.text(), detail));
        }
    }
    errors
}

/// `spec.containers`.
pub(super) fn app(around: &Around<'_>) -> ErrorList {
    let list = around.spec.get("containers");
    if list.len() == 0 {
        return vec![Error::required(&list.path, "")];
    }
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for container in list.items() {
        errors.extend(common(&container, around));
        let name = container.get("name");
        if !seen.insert(name.text()) {
            errors.push(Error::duplicate(&name.path, name.text()));
        }
        errors.extend(hooks_and_probes(&container, around));
        errors.extend(restart_policy(&container));
    }
    errors.extend(host_ports(list.items(), &list));
    errors
}

fn hooks_and_probes(container: &At<'_>, around: &Around<'_>) -> ErrorList {
    let lifecycle = container.get("lifecycle");
    let mut errors = ErrorList::new();
    if lifecycle.given() {
        errors.extend(probes::lifecycle(
            &lifecycle,
            around.grace,
            &around.spec.get("os"),
        ));
    }
    errors.extend(probes::all(container, around.grace));
    errors
}

/// A container's own restart policy and the rules that go with it.
fn restart_policy(container: &At<'_>) -> ErrorList {
    let (policy, rules) = (
        container.get("restartPolicy"),
        container.get("restartPolicyRules"),
    );
    let mut errors = ErrorList::new();
    if !policy.given() {
        if rules.len() == 0 {
            return errors;
        }
        errors.push(Error::required(
            &policy.path,
            "must specify restartPolicy when restart rules are used",
        ));
    } else if !["Always", "Never", "OnFailure"].contains(&policy.text()) {
        errors.push(Error::not_supported(
            &policy.path,
            policy.text(),
            &["Always", "Never", "OnFailure"],
        ));
    }
    if rules.len() > 20 {
        errors.push(Error::too_many(&rules.path, rules.len(), 20));
    }
    errors.extend(rules.items().flat_map(|rule| restart_rule(&rule)));
    errors
}

fn restart_rule(rule: &At<'_>) -> ErrorList {
    const ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
    let (action, codes) = (rule.get("action"), rule.get("exitCodes"));
    let mut errors = ErrorList::new();
    if !ACTIONS.contains(&action.text()) {
        errors.push(Error::not_supported(&action.path, action.text(), &ACTIONS));
    }
    if !codes.given() {
        errors.push(Error::required(&codes.path, "must be specified"));
        return errors;
    }
    let (operator, values) = (codes.get("operator"), codes.get("values"));
    if !["In", "NotIn"].contains(&operator.text()) {
        errors.push(Error::not_supported(
            &operator.path,
            operator.text(),
            &["In", "NotIn"],
        ));
    }
    if values.len() > 255 {
        errors.push(Error::too_many(&values.path, values.len(), 255));
    }
    errors
}

/// Two containers cannot have one port of the host. Paths count from the list given.
fn host_ports<'a>(containers: impl Iterator<Item = At<'a>>, list: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for (i, container) in containers.enumerate() {
        for (j, port) in container.get("ports").items().enumerate() {
            let Some(number) = port.get("hostPort").int().filter(|number| *number != 0) else {
                continue;
            };
            let key = format!(
                "{}/{}/{number}",
                port.get("protocol").text(),
                port.get("hostIP").text()
            );
            if seen.contains(&key) {
                errors.push(Error::duplicate(
                    &list.path.index(i).child("ports").index(j).child("hostPort"),
                    key,
                ));
            } else {
                seen.insert(key);
            }
        }
    }
    errors
}

/// `spec.initContainers`, sidecars among them.
pub(super) fn init(around: &Around<'_>) -> ErrorList {
    let list = around.spec.get("initContainers");
    let mut errors = ErrorList::new();
    let mut seen: BTreeSet<&str> = around
        .spec
        .get("containers")
        .items()
        .map(|container| container.get("name").text())
        .collect();
    for container in list.items() {
        errors.extend(common(&container, around));
        errors.extend(restart_policy(&container));
        let name = container.get("name");
        if seen.contains(name.text()) {
            errors.push(Error::duplicate(&name.path, name.text()));
        } else if !name.text().is_empty() {
            seen.insert(name.text());
        }
        errors.extend(host_ports(std::iter::once(container.clone()), &list));
        if super::is_sidecar(container.value) {
            errors.extend(hooks_and_probes(&container, around));
        } else {
            errors.extend(refused_in_init(&container));
        }
    }
    errors
}

fn refused_in_init(container: &At<'_>) -> ErrorList {
    const ONLY_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";
    let fields = [
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ]
    .map(|name| container.get(name));
    let mut errors: ErrorList = fields
        .into_iter()
        .filter(At::given)
        .map(|field| Error::forbidden(&field.path, ONLY_SIDECARS))
        .collect();
    for policy in container.get("resizePolicy").items() {
        let restart = policy.get("restartPolicy");
        if restart.text() == "RestartContainer" {
            let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.push(Error::invalid(&restart.path, restart.text(), detail));
        }
    }
    errors
}

/// Names in `spec.resourceClaims`, and what is wrong with them.
pub(super) fn resource_claims<'a>(claims: &At<'a>) -> (BTreeSet<&'a str>, ErrorList) {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for claim in claims.items() {
        let name = claim.get("name");
        if name.text().is_empty() {
            errors.push(Error::required(&name.path, ""));
        } else if !seen.insert(name.text()) {
            errors.push(Error::duplicate(&name.path, name.text()));
        } else {
            errors.extend(invalid_text(&name, names::dns1123_label(name.text())));
        }
        let sources =
            ["resourceClaimName", "resourceClaimTemplateName"].map(|source| claim.get(source));
        match sources.iter().filter(|source| source.given()).count() {
            0 => {
                let detail =
                    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.push(internal::invalid(
                    &claim.path,
                    Kind::ResourceClaim,
                    claim.value,
                    detail,
                ));
            }
            1 => {}
            _ => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.push(internal::invalid(
                    &claim.path,
                    Kind::ResourceClaim,
                    claim.value,
                    detail,
                ));
            }
        }
        for source in sources.iter().filter(|source| source.given()) {
            errors.extend(invalid_text(
                source,
                names::dns1123_subdomain(source.text()),
            ));
        }
    }
    (seen, errors)
}
