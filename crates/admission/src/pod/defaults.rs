//! Defaults of Pods (spec §15.1). [`pod_spec`] is for every Pod specification, templates included; [`pod`] for Pods alone.

use api::quantity::Quantity;
use serde_json::{Value, json};

use super::aggregate::{self, Which};
use crate::resources;
use crate::view::{
    self, entry, get, is_zero, list_mut, object, object_mut, set_if_absent, set_if_zero, text,
};

/// Fills in what a Pod's specification leaves open.
pub fn pod_spec(spec: &mut Value) {
    set_if_zero(spec, "dnsPolicy", "ClusterFirst");
    set_if_zero(spec, "restartPolicy", "Always");
    set_if_absent(spec, "securityContext", json!({}));
    set_if_absent(spec, "terminationGracePeriodSeconds", 30);
    set_if_zero(spec, "schedulerName", "default-scheduler");
    list_mut(spec, "volumes").iter_mut().for_each(volume);
    for containers in ["initContainers", "containers", "ephemeralContainers"] {
        list_mut(spec, containers).iter_mut().for_each(container);
    }
    if let Some(overhead) = object_mut(spec, "overhead") {
        round_up(overhead);
    }
    if let Some(resources) = object_mut(spec, "resources") {
        round_up_lists(resources);
    }
    account_names(spec);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are always there.
fn account_names(spec: &mut Value) {
    for (from, to) in [
        ("serviceAccountName", "serviceAccount"),
        ("serviceAccount", "serviceAccountName"),
    ] {
        let name = text(get(spec, from)).to_owned();
        if !name.is_empty() {
            object(spec).insert(to.to_owned(), name.into());
        }
    }
}

/// Writes limits and requests in upstream's form.
pub(crate) fn round_up_lists(resources: &mut Value) {
    for name in ["limits", "requests"] {
        resources.get_mut(name).into_iter().for_each(round_up);
    }
}

/// Upstream keeps no more than thousandths, and writes quantities in their canonical form.
pub(crate) fn round_up(list: &mut Value) {
    for value in list
        .as_object_mut()
        .into_iter()
        .flatten()
        .map(|(_, value)| value)
    {
        if let Ok(mut quantity) = Quantity::from_json(value) {
            quantity.round_up(-3);
            *value = quantity.canonical().into();
        }
    }
}

/// The tag an image without digest is pulled by.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return image
            .split('@')
            .next()
            .is_some_and(|name| tag(name) == Some("latest"));
    }
    tag(image).unwrap_or("latest") == "latest"
}

fn tag(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split_once(':').map(|(_, tag)| tag)
}

/// `Always` for `latest`, said or implied; a name that cannot be parsed has no tag.
fn pull_policy(image: &str) -> &'static str {
    if is_parseable(image) && is_latest(image) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// Whether the image name follows the grammar of references, as far as the pull policy depends on it.
fn is_parseable(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or("");
    let path = tag(name).map_or(name, |tag| &name[..name.len() - tag.len() - 1]);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:[]".contains(c);
    let (domain, rest) = path.split_once('/').map_or(("", path), |(first, rest)| {
        let is_domain = first.contains(['.', ':'])
            || first == "localhost"
            || first.chars().any(|c| c.is_ascii_uppercase());
        if is_domain { (first, rest) } else { ("", path) }
    });
    !rest.is_empty() && domain.chars().all(allowed) && rest.split('/').all(is_path_component)
}

fn is_path_component(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(inner)
        && text.ends_with(inner)
        && text.chars().all(|c| inner(c) || "._-".contains(c))
}

fn volume(volume: &mut Value) {
    let has_source = volume.as_object().is_some_and(|map| {
        map.iter()
            .any(|(name, value)| name != "name" && !value.is_null())
    });
    if !has_source {
        object(volume).insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object_mut(volume, source) {
            set_if_absent(source, "defaultMode", 0o644);
        }
    }
    if let Some(image) = object_mut(volume, "image") {
        let policy = pull_policy(text(get(image, "reference")));
        set_if_zero(image, "pullPolicy", policy);
    }
    if let Some(items) = object_mut(volume, "downwardAPI") {
        list_mut(items, "items").iter_mut().for_each(field_ref);
    }
    if let Some(projected) = object_mut(volume, "projected") {
        list_mut(projected, "sources")
            .iter_mut()
            .for_each(projection);
    }
    if let Some(claim) = object_mut(volume, "ephemeral")
        .and_then(|ephemeral| object_mut(ephemeral, "volumeClaimTemplate"))
    {
        set_if_absent(entry(claim, "spec"), "volumeMode", "Filesystem");
    }
    source(volume);
}

/// Fills in what sources leave open that volumes of Pods and of the cluster have in common. Those of old in-tree plugins are
/// kept so that manifests read back as upstream would show them.
pub(crate) fn source(volume: &mut Value) {
    if let Some(path) = object_mut(volume, "hostPath") {
        set_if_absent(path, "type", "");
    }
    if let Some(iscsi) = object_mut(volume, "iscsi") {
        set_if_zero(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = object_mut(volume, "rbd") {
        for (name, default) in [
            ("pool", "rbd"),
            ("user", "admin"),
            ("keyring", "/etc/ceph/keyring"),
        ] {
            set_if_zero(rbd, name, default);
        }
    }
    if let Some(disk) = object_mut(volume, "azureDisk") {
        set_if_absent(disk, "cachingMode", "ReadWrite");
        set_if_absent(disk, "fsType", "ext4");
        set_if_absent(disk, "readOnly", false);
        set_if_absent(disk, "kind", "Shared");
    }
    if let Some(scale) = object_mut(volume, "scaleIO") {
        set_if_zero(scale, "storageMode", "ThinProvisioned");
        set_if_zero(scale, "fsType", "xfs");
    }
}

fn projection(source: &mut Value) {
    if let Some(token) = object_mut(source, "serviceAccountToken") {
        set_if_absent(token, "expirationSeconds", 3600);
    }
    if let Some(api) = object_mut(source, "downwardAPI") {
        list_mut(api, "items").iter_mut().for_each(field_ref);
    }
}

/// `fieldRef` of anything that can have one.
fn field_ref(holder: &mut Value) {
    if let Some(reference) = object_mut(holder, "fieldRef") {
        set_if_zero(reference, "apiVersion", "v1");
    }
    if let Some(reference) = object_mut(holder, "resourceFieldRef") {
        set_if_absent(reference, "divisor", "0");
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(text(get(container, "image")));
    set_if_zero(container, "imagePullPolicy", policy);
    set_if_zero(container, "terminationMessagePath", "/dev/termination-log");
    set_if_zero(container, "terminationMessagePolicy", "File");
    set_if_absent(container, "resources", json!({}));
    for port in list_mut(container, "ports") {
        set_if_zero(port, "protocol", "TCP");
    }
    for variable in list_mut(container, "env") {
        if let Some(source) = object_mut(variable, "valueFrom") {
            field_ref(source);
            if let Some(file) = object_mut(source, "fileKeyRef") {
                set_if_absent(file, "optional", false);
            }
        }
    }
    if let Some(resources) = object_mut(container, "resources") {
        round_up_lists(resources);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object_mut(container, name) {
            default_probe(probe);
        }
    }
    if let Some(lifecycle) = object_mut(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(handler) = object_mut(lifecycle, hook) {
                default_handler(handler);
            }
        }
    }
}

fn default_probe(probe: &mut Value) {
    for (name, default) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        set_if_zero(probe, name, default);
    }
    default_handler(probe);
    if let Some(grpc) = object_mut(probe, "grpc") {
        set_if_absent(grpc, "service", "");
    }
}

fn default_handler(handler: &mut Value) {
    if let Some(http) = object_mut(handler, "httpGet") {
        set_if_zero(http, "path", "/");
        set_if_zero(http, "scheme", "HTTP");
    }
}

/// Fills in what a Pod leaves open, beyond [`pod_spec`].
pub(super) fn pod(pod: &mut Value) {
    let spec = entry(pod, "spec");
    pod_spec(spec);
    for containers in ["containers", "initContainers"] {
        for container in list_mut(spec, containers) {
            if let Some(resources) = object_mut(container, "resources") {
                requests_from_limits(resources);
            }
        }
    }
    if get(spec, "resources").is_object() {
        pod_level_huge_page_limits(spec);
        pod_level_requests(spec);
    }
    set_if_absent(spec, "enableServiceLinks", true);
    if *get(spec, "hostNetwork") == Value::Bool(true) {
        host_ports(spec);
    }
}

/// A limit asks for as much, unless less is asked for.
fn requests_from_limits(resources: &mut Value) {
    let limits = get(resources, "limits").clone();
    if limits.as_object().is_none_or(serde_json::Map::is_empty) {
        return;
    }
    let requests = entry(resources, "requests");
    for (name, limit) in view::entries(&limits) {
        set_if_absent(requests, name, limit.clone());
    }
}

fn pod_level_huge_page_limits(spec: &mut Value) {
    let ours = get(spec, "resources");
    if is_zero(get(ours, "limits")) && is_zero(get(ours, "requests")) {
        return;
    }
    let requested = get(ours, "requests").clone();
    for (name, amount) in aggregate::containers(spec, Which::Limits) {
        if resources::is_huge_page(&name) && get(&requested, &name).is_null() {
            set_if_absent(
                entry(entry(spec, "resources"), "limits"),
                &name,
                amount.canonical(),
            );
        }
    }
}

fn pod_level_requests(spec: &mut Value) {
    let limits = get(get(spec, "resources"), "limits").clone();
    if is_zero(&limits) {
        return;
    }
    for (name, amount) in aggregate::containers(spec, Which::Requests) {
        if resources::is_pod_level(&name) && resources::is_overcommit_allowed(&name) {
            set_if_absent(
                entry(entry(spec, "resources"), "requests"),
                &name,
                amount.canonical(),
            );
        }
    }
    for (name, limit) in view::entries(&limits).filter(|(name, _)| resources::is_pod_level(name)) {
        set_if_absent(
            entry(entry(spec, "resources"), "requests"),
            name,
            limit.clone(),
        );
    }
}

fn host_ports(spec: &mut Value) {
    for containers in ["containers", "initContainers"] {
        for container in list_mut(spec, containers) {
            for port in list_mut(container, "ports") {
                let number = get(port, "containerPort").clone();
                set_if_zero(port, "hostPort", number);
            }
        }
    }
}
