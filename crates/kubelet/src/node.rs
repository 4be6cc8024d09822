//! The node's own object: made when the agent starts, changed only when a fact changes.
//!
//! Nothing beats here; `lastHeartbeatTime` is the time of the last change. An agent, its server and the node on one machine live and die
//! together; elsewhere there is a Lease ([`crate::lease`]).

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints,
    NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use lifecycle::huge_pages;
use lifecycle::pressure::{PRESSURES, Pressure};
use lifecycle::share::Share;
use ports::images::Image;

use crate::config::Config;

/// Most images listed in `status.images`, as upstream's `nodeStatusMaxImages`.
const MAX_IMAGES: usize = 50;

/// Makes the Node object, or brings an existing one up to date; as it was before, if it was there, and as it is then. Writes nothing
/// when nothing differs.
///
/// # Errors
/// Whatever the API answers, except that the node exists already.
pub(crate) async fn register(
    api: &Api<Node>,
    config: &Config,
    images: &[Image],
    pressures: &BTreeSet<Pressure>,
    unready: Option<&str>,
    now: Timestamp,
) -> Result<(Option<Node>, Node), kube::Error> {
    let wanted = node(config, images, conditions(pressures, unready, now));
    let (before, stored) = match api.create(&PostParams::default(), &wanted).await {
        Ok(stored) => (None, stored),
        Err(kube::Error::Api(e)) if e.code == 409 => {
            let stored = update(api, &wanted).await?;
            (Some(stored.clone()), stored)
        }
        Err(e) => return Err(e),
    };
    let node = write_status(api, stored, wanted.status.unwrap_or_default()).await?;
    Ok((before, node))
}

/// The node as it will be registered, but for its images.
pub(crate) fn unregistered(
    config: &Config,
    pressures: &BTreeSet<Pressure>,
    now: Timestamp,
) -> Node {
    node(config, &[], conditions(pressures, None, now))
}

/// Reports the images of the node after one was added or removed.
///
/// # Errors
/// Whatever the API answers.
pub(crate) async fn report_images(
    api: &Api<Node>,
    name: &str,
    images: &[Image],
) -> Result<(), kube::Error> {
    let patch = serde_json::json!({"status": {"images": image_list(images)}});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
}

/// Brings labels and ranges up to date.
async fn update(api: &Api<Node>, wanted: &Node) -> Result<Node, kube::Error> {
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    let stored = api.get(name).await?;
    let old = stored.metadata.labels.clone().unwrap_or_default();
    let labels = wanted.metadata.labels.clone().unwrap_or_default();
    let has_labels = labels.iter().all(|(k, v)| old.get(k) == Some(v));
    let (had, has) = (ranges(&stored), ranges(wanted));
    if !had.is_empty() && had != has {
        return again(api, stored, wanted).await;
    }
    if has_labels && had == has {
        return Ok(stored);
    }
    let mut patch = serde_json::json!({"metadata": {"labels": labels}});
    if had != has {
        patch["spec"] = serde_json::json!({"podCIDR": has.first(), "podCIDRs": has});
    }
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
}

/// The ranges of a node's Pods.
fn ranges(node: &Node) -> &[String] {
    let spec = node.spec.as_ref();
    spec.and_then(|spec| spec.pod_cidrs.as_deref())
        .unwrap_or_default()
}

/// Makes a node anew whose Pods have their addresses elsewhere than they had, which cannot be changed. What users have said of it stays.
async fn again(api: &Api<Node>, mut node: Node, wanted: &Node) -> Result<Node, kube::Error> {
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    api.delete(name, &DeleteParams::default()).await?;
    let meta = std::mem::take(&mut node.metadata);
    let mut labels = meta.labels.unwrap_or_default();
    labels.extend(wanted.metadata.labels.clone().unwrap_or_default());
    node.metadata = ObjectMeta {
        name: meta.name,
        labels: Some(labels),
        annotations: meta.annotations,
        ..ObjectMeta::default()
    };
    let spec = node.spec.get_or_insert_default();
    spec.pod_cidr = wanted.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
    spec.pod_cidrs = Some(ranges(wanted).to_vec());
    api.create(&PostParams::default(), &node).await
}

async fn write_status(
    api: &Api<Node>,
    stored: Node,
    mut wanted: NodeStatus,
) -> Result<Node, kube::Error> {
    let old = stored.status.clone().unwrap_or_default();
    keep_times(&mut wanted, &old);
    let unchanged = wanted.conditions == old.conditions
        && wanted.addresses == old.addresses
        && wanted.capacity == old.capacity
        && wanted.allocatable == old.allocatable
        && wanted.node_info == old.node_info
        && wanted.features == old.features
        && wanted.runtime_handlers == old.runtime_handlers
        && wanted.daemon_endpoints == old.daemon_endpoints
        && wanted.images == old.images;
    if unchanged {
        return Ok(stored);
    }
    let patch = serde_json::json!({"status": wanted});
    let name = stored.metadata.name.as_deref().unwrap_or_default();
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
}

/// A condition that says what it said before keeps its times.
fn keep_times(wanted: &mut NodeStatus, old: &NodeStatus) {
    for condition in wanted.conditions.iter_mut().flatten() {
        let before = old
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == condition.type_);
        if let Some(before) = before.filter(|c| c.status == condition.status) {
            condition.last_transition_time = before.last_transition_time.clone();
            if before.reason == condition.reason && before.message == condition.message {
                condition.last_heartbeat_time = before.last_heartbeat_time.clone();
            }
        }
    }
}

fn node(config: &Config, images: &[Image], conditions: Vec<NodeCondition>) -> Node {
    let arch = &config.info.architecture;
    let labels = [
        ("beta.kubernetes.io/arch", arch.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
    ]
    .into_iter()
    .chain([
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
    ])
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect();
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            pod_cidr: config.pod_ranges.first().cloned(),
            pod_cidrs: (!config.pod_ranges.is_empty()).then(|| config.pod_ranges.clone()),
            ..NodeSpec::default()
        }),
        status: Some(status(config, images, conditions)),
    }
}

fn status(config: &Config, images: &[Image], conditions: Vec<NodeCondition>) -> NodeStatus {
    let mut addresses: Vec<NodeAddress> = config
        .host_ips
        .iter()
        .map(|ip| NodeAddress {
            type_: "InternalIP".into(),
            address: ip.to_string(),
        })
        .collect();
    addresses.push(NodeAddress {
        type_: "Hostname".into(),
        address: config.node_name.clone(),
    });
    NodeStatus {
        addresses: Some(addresses),
        allocatable: Some(allocatable(config)),
        capacity: Some(capacity(config)),
        conditions: Some(conditions),
        images: Some(image_list(images)),
        node_info: Some(system_info(config)),
        features: Some(NodeFeatures {
            supplemental_groups_policy: Some(true),
        }),
        runtime_handlers: Some(vec![NodeRuntimeHandler {
            // The default one.
            name: Some(String::new()),
            features: Some(NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(true),
                user_namespaces: Some(config.user_ids.is_ok()),
            }),
        }]),
        daemon_endpoints: config.kubelet_port.map(|port| NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: port.into() }),
        }),
        ..NodeStatus::default()
    }
}

/// `status.capacity`: what there is.
pub(crate) fn capacity(config: &Config) -> BTreeMap<String, Quantity> {
    of_memory(config, config.capacity.memory_bytes)
}

/// `status.allocatable`: what Pods can have. Nothing is reserved, but memory that was set aside as huge pages is nothing else.
pub(crate) fn allocatable(config: &Config) -> BTreeMap<String, Quantity> {
    let pages = config.capacity.huge_pages.iter();
    let huge = pages.fold(0, |sum: u64, (size, count)| {
        sum.saturating_add(size.saturating_mul(*count))
    });
    of_memory(config, config.capacity.memory_bytes.saturating_sub(huge))
}

fn of_memory(config: &Config, memory_bytes: u64) -> BTreeMap<String, Quantity> {
    let c = &config.capacity;
    let amounts = [
        ("cpu", c.cpus.to_string()),
        ("ephemeral-storage", format!("{}Ki", c.storage_bytes / 1024)),
        ("memory", format!("{}Ki", memory_bytes / 1024)),
        ("pods", config.max_pods.to_string()),
    ];
    let amounts = amounts.into_iter().map(|(k, v)| (k.to_owned(), v));
    let huge = c.huge_pages.iter().map(|(size, count)| {
        let bytes = i64::try_from(size.saturating_mul(*count)).unwrap_or(i64::MAX);
        let bytes = api::quantity::Quantity::from_bytes(bytes);
        (huge_pages::resource(*size), bytes.to_string())
    });
    let all = amounts.chain(huge);
    all.map(|(name, amount)| (name, Quantity(amount))).collect()
}

/// What Pods can be allocated together: what the Node says, or else this agent.
pub(crate) fn share(config: &Config, node: Option<&Node>) -> Share {
    let told = node.and_then(|node| node.status.as_ref()?.allocatable.as_ref());
    match told {
        Some(list) => Share::listed(Some(list)),
        None => Share::listed(Some(&allocatable(config))),
    }
}

/// Reports which of these pressures the node is under, and which it is not.
///
/// # Errors
/// Whatever the API answers.
pub(crate) async fn report_pressures(
    api: &Api<Node>,
    name: &str,
    changed: &BTreeSet<Pressure>,
    pressures: &BTreeSet<Pressure>,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let conditions = changed
        .iter()
        .map(|p| pressure(p, pressures.contains(p), now));
    let conditions: Vec<NodeCondition> = conditions.collect();
    let patch = serde_json::json!({"status": {"conditions": conditions}});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch))
        .await
        .map(drop)
}

/// Reports whether the node is ready, or what is missing; `false` where that is known already.
///
/// # Errors
/// Whatever the API answers.
pub(crate) async fn report_readiness(
    api: &Api<Node>,
    name: &str,
    unready: Option<&str>,
    now: Timestamp,
) -> Result<bool, kube::Error> {
    let wanted = ready(unready, now);
    let stored = api.get(name).await?.status.unwrap_or_default();
    let mut known = stored.conditions.iter().flatten();
    let known = known.find(|c| c.type_ == wanted.type_);
    if known.is_some_and(|c| c.status == wanted.status && c.message == wanted.message) {
        return Ok(false);
    }
    let changes = known.is_none_or(|c| c.status != wanted.status);
    let patch = serde_json::json!({"status": {"conditions": [wanted]}});
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch))
        .await?;
    Ok(changes)
}

/// Whether somebody says that nothing is heard of the node.
pub(crate) fn is_unknown(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c.type_ == "Ready" && c.status == "Unknown")
}

fn conditions(
    pressures: &BTreeSet<Pressure>,
    unready: Option<&str>,
    now: Timestamp,
) -> Vec<NodeCondition> {
    PRESSURES
        .iter()
        .map(|p| pressure(p, pressures.contains(p), now))
        .chain([ready(unready, now)])
        .collect()
}

fn ready(unready: Option<&str>, now: Timestamp) -> NodeCondition {
    let words = match unready {
        Some(why) => ["KubeletNotReady", why],
        None => ["KubeletReady", "kubelet is posting ready status"],
    };
    condition("Ready", unready.is_none(), words, now)
}

fn pressure(pressure: &Pressure, is_pressed: bool, now: Timestamp) -> NodeCondition {
    let words = if is_pressed {
        pressure.pressed
    } else {
        pressure.relieved
    };
    condition(pressure.condition, is_pressed, words, now)
}

fn condition(
    kind: &str,
    holds: bool,
    [reason, message]: [&str; 2],
    now: Timestamp,
) -> NodeCondition {
    NodeCondition {
        type_: kind.into(),
        status: if holds { "True" } else { "False" }.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn system_info(config: &Config) -> NodeSystemInfo {
    let info = config.info.clone();
    NodeSystemInfo {
        architecture: info.architecture,
        boot_id: info.boot_id,
        container_runtime_version: info.container_runtime_version,
        kernel_version: info.kernel_version,
        kube_proxy_version: String::new(),
        kubelet_version: info.kubelet_version,
        machine_id: info.machine_id,
        operating_system: "linux".into(),
        os_image: info.os_image,
        swap: None,
        system_uuid: info.system_uuid,
    }
}

fn image_list(images: &[Image]) -> Vec<ContainerImage> {
    let mut images: Vec<&Image> = images.iter().collect();
    images.sort_by(|a, b| {
        b.size_bytes
            .cmp(&a.size_bytes)
            .then_with(|| a.id.cmp(&b.id))
    });
    images
        .into_iter()
        .take(MAX_IMAGES)
        .map(|i| ContainerImage {
            names: Some(i.repo_digests.iter().chain(&i.repo_tags).cloned().collect()),
            size_bytes: i64::try_from(i.size_bytes).ok(),
        })
        .collect()
}
