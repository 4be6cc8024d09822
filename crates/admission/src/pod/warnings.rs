//! What is allowed but unwise, or does nothing any more, in Pods and templates of them (upstream's pkg/api/pod). Clients are told in
//! `Warning` headers. Paths in volumes that overlap are not looked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use api::field::Path;
use api::gotext::quote;
use api::names;
use serde_json::Value;

use super::containers;
use crate::resources;
use crate::view::{At, get, text};

/// Labels of nodes that have other names now.
const OLD_LABELS: [(&str, &str); 8] = [
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
    ),
];
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const OLD_VOLUMES: [(&str, &str); 9] = [
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
/// What a container takes in bytes.
const BYTES: [&str; 2] = ["memory", "ephemeral-storage"];
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Of a new Pod.
pub fn of_pod(pod: &Value) -> Vec<String> {
    let name = At::field(pod, "metadata").get("name");
    let wrong = names::dns1123_label(name.text());
    let mut found = Vec::new();
    if !wrong.is_empty() {
        let wrong = wrong.join(" ");
        found.push(format!("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{wrong}]"));
    }
    let annotations = At::field(pod, "metadata").get("annotations");
    found.extend(of_spec(&At::field(pod, "spec"), &annotations));
    found
}

/// Of a template, new or changed.
pub(crate) fn of_template(template: &At<'_>) -> Vec<String> {
    let annotations = template.get("metadata").get("annotations");
    let spec = template.get("spec");
    let mut found = of_spec(&spec, &annotations);
    // A Pod is given the field that its annotation stands for.
    let of_pod = spec.get("securityContext").get("appArmorProfile");
    for container in containers::every(&spec) {
        let own = container.get("securityContext").get("appArmorProfile");
        let key = format!("{APP_ARMOR}{}", container.get("name").text());
        let annotation = get(annotations.value, &key);
        if annotation.is_string() && !own.given() && !says(text(annotation), of_pod.value) {
            let path = annotations.path.key(&key);
            found.push(format!(
                "{path}: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            ));
        }
    }
    found
}

/// Whether an annotation for AppArmor says what a profile does.
fn says(annotation: &str, profile: &Value) -> bool {
    match text(get(profile, "type")) {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => annotation == "runtime/default",
        "Localhost" => {
            annotation.strip_prefix("localhost/") == get(profile, "localhostProfile").as_str()
        }
        _ => false,
    }
}

fn of_spec(spec: &At<'_>, annotations: &At<'_>) -> Vec<String> {
    let mut found = of_nodes(spec);
    for (key, why) in OLD_ANNOTATIONS {
        if get(annotations.value, key).is_string() {
            found.push(format!("{}: {why}", annotations.path.key(key)));
        }
    }
    for volume in spec.get("volumes").items() {
        for (kind, why) in OLD_VOLUMES {
            let source = volume.get(kind);
            found.extend(source.given().then(|| format!("{}: {why}", source.path)));
        }
    }
    found.extend(repeated(&spec.get("hostAliases"), "ip"));
    found.extend(repeated(&spec.get("imagePullSecrets"), "name"));
    for secret in spec.get("imagePullSecrets").items() {
        let name = secret.get("name");
        let is_empty = name.text().is_empty();
        found.extend(is_empty.then(|| format!("{}: invalid empty name \"\"", name.path)));
    }
    found.extend(fractions(&spec.get("overhead"), &BYTES));
    let seccomp = |path: Path| {
        format!("{path}: non-functional in v1.27+; use the \"seccompProfile\" field instead")
    };
    let has_profile = |at: &At<'_>| at.get("securityContext").get("seccompProfile").given();
    let has = |key: &str| get(annotations.value, key).is_string();
    if !has_profile(spec) && has(SECCOMP_POD) {
        found.push(seccomp(annotations.path.key(SECCOMP_POD)));
    }
    for container in containers::every(spec) {
        let key = format!("{SECCOMP}{}", container.get("name").text());
        if !has_profile(&container) && has(&key) {
            found.push(seccomp(annotations.path.key(&key)));
        }
        found.extend(of_container(&container));
    }
    found.extend(ports(spec));
    let grace = spec.get("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|seconds| seconds < 0) {
        let path = grace.path;
        found.push(format!(
            "{path}: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    found.extend(of_neighbours(spec));
    let servers = spec.get("dnsConfig").get("nameservers");
    let aliases = spec.get("hostAliases");
    let aliases = aliases.items().map(|alias| alias.get("ip"));
    found.extend(servers.items().chain(aliases).filter_map(|ip| address(&ip)));
    found
}

/// Why a label of nodes is of no use any more.
pub(crate) fn deprecated_label(key: &str) -> Option<&'static str> {
    outdated(key).map(|(_, why)| *why)
}

fn outdated(key: &str) -> Option<&'static (&'static str, &'static str)> {
    OLD_LABELS.iter().find(|(old, _)| *old == key)
}

/// What is said in terms of a node selector of labels that are of no use any more.
pub(crate) fn deprecated_terms(terms: &At<'_>) -> Vec<String> {
    let terms = terms.items().map(|term| term.get("matchExpressions"));
    terms
        .flat_map(|items| deprecated_requirements(&items))
        .collect()
}

/// What is said of such labels in requirements.
pub(crate) fn deprecated_requirements(items: &At<'_>) -> Vec<String> {
    let keys = items.items().map(|item| item.get("key"));
    let found = keys.filter_map(|key| {
        let (old, why) = outdated(key.text())?;
        Some(format!("{}: {old} is {why}", key.path))
    });
    found.collect()
}

/// What is said of nodes by names they have no more, and spreading without saying of what.
fn of_nodes(spec: &At<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in spec.get("nodeSelector").entries() {
        found.extend(outdated(key).map(|(_, why)| format!("{}: {why}", value.path)));
    }
    let affinity = spec.get("affinity").get("nodeAffinity");
    let required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
    let preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution");
    let required = required.get("nodeSelectorTerms").items();
    let preferred = preferred.items().map(|term| term.get("preference"));
    let terms = required
        .map(|term| (term, false))
        .chain(preferred.map(|term| (term, true)));
    for (term, is_preference) in terms {
        for expression in term.get("matchExpressions").items() {
            let key = expression.get("key");
            let old = outdated(key.text());
            found.extend(old.map(|(old, why)| format!("{}: {old} is {why}", key.path)));
            let values = expression.get("values");
            for value in values.items().filter(|_| is_preference) {
                for why in names::label_value(value.text()) {
                    found.push(format!(
                        "{}: {} is invalid, {why}",
                        value.path,
                        value.text()
                    ));
                }
            }
        }
    }
    for constraint in spec.get("topologySpreadConstraints").items() {
        let key = constraint.get("topologyKey");
        let old = outdated(key.text());
        found.extend(old.map(|(old, why)| format!("{}: {old} is {why}", key.path)));
        found.extend(no_selector(&constraint));
    }
    found
}

fn no_selector(holder: &At<'_>) -> Option<String> {
    let selector = holder.get("labelSelector");
    let why = "a null labelSelector results in matching no pod";
    (!selector.given()).then(|| format!("{}: {why}", selector.path))
}

fn of_neighbours(spec: &At<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.get("affinity").get(kind);
        let required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution");
        let preferred = preferred.items().map(|term| term.get("podAffinityTerm"));
        found.extend(
            required
                .items()
                .chain(preferred)
                .filter_map(|term| no_selector(&term)),
        );
    }
    found
}

/// Elements of a list that say the same in a field as others before.
fn repeated(items: &At<'_>, field: &str) -> Vec<String> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for item in items.items() {
        let at = item.get(field);
        if seen.contains(&at.text()) {
            let value = quote(at.text());
            found.push(format!("{}: duplicate {field} {value}", at.path));
        }
        seen.push(at.text());
    }
    found
}

/// Parts of bytes in the amounts of some names.
pub(super) fn fractions(amounts: &At<'_>, names: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for &name in names {
        let amount = resources::quantity(get(amounts.value, name));
        if let Some(amount) = amount.filter(|amount| amount.milli_value() % 1000 != 0) {
            let (path, value) = (amounts.path.key(name), quote(&amount.canonical()));
            found.push(format!(
                "{path}: fractional byte value {value} is invalid, must be an integer"
            ));
        }
    }
    found
}

fn of_container(container: &At<'_>) -> Vec<String> {
    let given = container.get("resources");
    let parts = ["limits", "requests"].map(|part| fractions(&given.get(part), &BYTES));
    let mut found = Vec::new();
    // Upstream looks at memory first, in limits and requests.
    for name in ["[memory]", "[ephemeral-storage]"] {
        let all = parts.iter().flatten();
        found.extend(all.filter(|text| text.contains(name)).cloned());
    }
    let mut seen = Vec::new();
    for variable in container.get("env").items() {
        let name = variable.get("name").text();
        let (value, before) = (variable.get("value"), format!("$({name})"));
        let is_new = variable.get("valueFrom").given()
            || value.text() == before
            || !value.text().contains(&before);
        if seen.contains(&name) && is_new {
            let (path, name) = (variable.path, quote(name));
            found.push(format!(
                "{path}: hides previous definition of {name}, which may be dropped when using apply"
            ));
        }
        seen.push(name);
    }
    found
}

fn ports(spec: &At<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut taken: BTreeMap<(i64, &str), Vec<At<'_>>> = BTreeMap::new();
    let mut called: BTreeMap<&str, Path> = BTreeMap::new();
    let mut names = Vec::new();
    let all = containers::every(spec).flat_map(|container| container.get("ports").items());
    for port in all {
        let of = |port: &At<'_>| {
            let number = port.get("hostPort").int().unwrap_or(0);
            (number, text(get(port.value, "hostIP")).to_owned())
        };
        let (host, ip) = of(&port);
        let number = port.get("containerPort").int().unwrap_or(0);
        let (name, protocol) = (port.get("name").text(), port.get("protocol").text());
        if !ip.is_empty() && host == 0 {
            let shown = format!(
                "{{Name:{name} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:{ip}}}"
            );
            found.push(format!(
                "{}: hostIP set without hostPort: {shown}",
                port.path
            ));
        }
        let others = taken.entry((number, protocol)).or_default();
        for other in others.iter() {
            let (other_host, other_ip) = of(other);
            let what = if (host, &ip) == (other_host, &other_ip) {
                "duplicate"
            } else if host == 0 || other_host == 0 {
                "overlapping"
            } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            let (path, other) = (&port.path, &other.path);
            found.push(format!("{path}: {what} port definition with {other}"));
        }
        match called.get(name).filter(|_| !name.is_empty()) {
            Some(other) => names.push(format!("{}: duplicate port name {} with {other}, services and probes that select ports by name will use {other}", port.path, quote(name))),
            None => drop(called.insert(name, port.path.clone())),
        }
        others.push(port);
    }
    found.extend(names);
    found
}

/// An address that is not written as it should be.
fn address(at: &At<'_>) -> Option<String> {
    let ip: IpAddr = at.text().parse().ok()?;
    let ip: Ipv6Addr = match ip {
        IpAddr::V6(ip) => ip,
        IpAddr::V4(_) => return None,
    };
    let (path, value, canonical) = (&at.path, quote(at.text()), ip.to_string());
    (canonical != at.text()).then(|| {
        format!(
            "{path}: IPv6 address {value} should be in RFC 5952 canonical format ({})",
            quote(&canonical)
        )
    })
}
