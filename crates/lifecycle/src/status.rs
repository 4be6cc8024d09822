//! The status to report (§3).

use api::pod::is_final;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::admit;
use crate::conditions;
use crate::container_status;
use crate::kinds::{self, Member};
use crate::look::Look;
use crate::observed::{ContainerKind, Observed, Verdict, WorkerPhase};
use crate::phase;
use crate::resize;
use crate::text;

/// The status of a Pod as observed. What was reported before is `pod.status`; fields of others are kept.
///
/// Not to be written for a Pod that is [`Observed::gone`]. Writing it when it equals `pod.status` can be left out.
pub fn status(pod: &core::Pod, seen: &Observed, now: Timestamp) -> core::PodStatus {
    let look = Look { pod, seen, now };
    if let Some(rejected) = pod.status.as_ref().filter(|s| admit::was_rejected(s)) {
        // All there is to say of it (§1.2).
        return rejected.clone();
    }
    let previous = pod.status.as_ref().map(kept).unwrap_or_default();
    let (mut init, mut apps) = containers(&look);
    let released = seen.memory.phase >= WorkerPhase::Terminated;
    let computed = computed_phase(&look, &init, &apps);
    if released {
        container_status::finalize(&look, &mut init, &mut apps);
    }
    let verdict = seen
        .memory
        .termination
        .as_ref()
        .and_then(|t| t.verdict.as_ref());
    let phase = if released && !is_final(&computed) && !look.is_static() {
        "Failed".to_owned()
    } else {
        computed
    };
    let mut out = core::PodStatus {
        conditions: Some(conditions::build(&look, &phase, &init, &apps)),
        observed_generation: if seen.memory.resizing.is_behind() {
            previous.observed_generation
        } else {
            pod.metadata.generation
        },
        start_time: previous
            .start_time
            .clone()
            .or_else(|| Some(Time(text::second(now)))),
        ..previous
    };
    let named = |list: Vec<core::ContainerStatus>| (!list.is_empty()).then_some(list);
    out.init_container_statuses = named(init);
    apps.sort_by(|a, b| a.name.cmp(&b.name));
    out.container_statuses = named(apps);
    out.ephemeral_container_statuses = named(ephemeral(&look));
    set_phase(&mut out, &phase, verdict, released);
    set_addresses(&look, &mut out);
    let (resources, allocated) = resize::shown_pod(&look);
    out.resources = Some(resources);
    out.allocated_resources = allocated;
    out
}

/// What was reported before, but for what is built anew each time.
fn kept(previous: &core::PodStatus) -> core::PodStatus {
    core::PodStatus {
        allocated_resources: None,
        conditions: None,
        container_statuses: None,
        ephemeral_container_statuses: None,
        extended_resource_claim_status: previous.extended_resource_claim_status.clone(),
        host_ip: previous.host_ip.clone(),
        host_ips: previous.host_ips.clone(),
        init_container_statuses: None,
        message: previous.message.clone(),
        node_allocatable_resource_claim_statuses: previous
            .node_allocatable_resource_claim_statuses
            .clone(),
        nominated_node_name: previous.nominated_node_name.clone(),
        observed_generation: previous.observed_generation,
        phase: previous.phase.clone(),
        pod_ip: previous.pod_ip.clone(),
        pod_ips: previous.pod_ips.clone(),
        qos_class: previous.qos_class.clone(),
        reason: previous.reason.clone(),
        resize: previous.resize.clone(),
        resource_claim_statuses: previous.resource_claim_statuses.clone(),
        resources: None,
        start_time: previous.start_time.clone(),
    }
}

/// What was reported before about one container.
pub(crate) fn previous<'a>(
    pod: &'a core::Pod,
    member: &Member<'_>,
) -> Option<&'a core::ContainerStatus> {
    let status = pod.status.as_ref()?;
    let list = match member.kind {
        ContainerKind::Init | ContainerKind::Sidecar => &status.init_container_statuses,
        ContainerKind::App => &status.container_statuses,
        ContainerKind::Ephemeral => &status.ephemeral_container_statuses,
    };
    list.as_deref()
        .unwrap_or_default()
        .iter()
        .find(|s| s.name == member.name())
}

/// Statuses of init and app containers, each in spec order.
pub(crate) fn containers(
    look: &Look<'_>,
) -> (Vec<core::ContainerStatus>, Vec<core::ContainerStatus>) {
    let build = |members: Vec<Member<'_>>| {
        members
            .iter()
            .map(|m| container_status::build(look, m, previous(look.pod, m)))
            .collect()
    };
    (build(kinds::init(look.pod)), build(kinds::apps(look.pod)))
}

/// Statuses of ephemeral containers, by name.
fn ephemeral(look: &Look<'_>) -> Vec<core::ContainerStatus> {
    let specs = kinds::ephemeral(look.pod);
    let members = specs.iter().map(|spec| Member {
        kind: ContainerKind::Ephemeral,
        spec,
    });
    let mut statuses: Vec<_> = members
        .map(|m| container_status::build(look, &m, previous(look.pod, &m)))
        .collect();
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    statuses
}

/// The phase as far as it is decided, not held back: a terminal one stays, a verdict overrides, else the containers say.
pub(crate) fn computed_phase(
    look: &Look<'_>,
    init: &[core::ContainerStatus],
    apps: &[core::ContainerStatus],
) -> String {
    if let Some(stored) = look.stored_phase().filter(|p| is_final(p)) {
        return stored.to_owned();
    }
    if let Some(verdict) = look
        .seen
        .memory
        .termination
        .as_ref()
        .and_then(|t| t.verdict.as_ref())
    {
        return verdict.phase.clone();
    }
    phase::compute(look, init, apps).to_owned()
}

/// Writes phase, reason and message; a terminal phase waits until the worker has finished killing (§3.1).
fn set_phase(out: &mut core::PodStatus, phase: &str, verdict: Option<&Verdict>, released: bool) {
    let already = out.phase.as_deref().is_some_and(is_final);
    if already {
        return;
    }
    if is_final(phase) && !released {
        // A Pod whose containers ran and ended between two reports was running all the same.
        let held = if has_run(out) { "Running" } else { "Pending" };
        if out.phase.as_deref().is_none_or(|phase| phase == "Pending") {
            out.phase = Some(held.to_owned());
        }
        return;
    }
    if out.phase.as_deref() != Some(phase) {
        out.phase = Some(phase.to_owned());
        out.reason = None;
        out.message = None;
    }
    if let Some(verdict) = verdict {
        out.reason = Some(verdict.reason.clone());
        out.message = Some(verdict.message.clone());
    }
}

/// Whether an app container runs or has ended.
fn has_run(out: &core::PodStatus) -> bool {
    let states = out
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|status| status.state.as_ref());
    states
        .into_iter()
        .any(|state| state.running.is_some() || state.terminated.is_some())
}

fn set_addresses(look: &Look<'_>, out: &mut core::PodStatus) {
    let hosts = &look.seen.host_ips;
    if let Some(first) = hosts.first() {
        out.host_ip = Some(first.to_string());
        out.host_ips = Some(
            one_per_family(hosts, hosts)
                .iter()
                .map(|ip| core::HostIP { ip: ip.to_string() })
                .collect(),
        );
    }
    let sandbox = look.usable_sandbox();
    let ips = match sandbox {
        Some(_) if look.host_network() => one_per_family(hosts, hosts),
        Some(sandbox) => one_per_family(&sandbox.ips, hosts),
        None => Vec::new(),
    };
    if let Some(first) = ips.first() {
        out.pod_ip = Some(first.to_string());
        out.pod_ips = Some(
            ips.iter()
                .map(|ip| core::PodIP { ip: ip.to_string() })
                .collect(),
        );
    }
}

/// The first address of each family, the node's primary family first (§3.3).
fn one_per_family(ips: &[IpAddr], hosts: &[IpAddr]) -> Vec<IpAddr> {
    let primary_v6 = hosts.first().is_some_and(IpAddr::is_ipv6);
    let first_of = |v6: bool| ips.iter().find(|ip| ip.is_ipv6() == v6).copied();
    [first_of(primary_v6), first_of(!primary_v6)]
        .into_iter()
        .flatten()
        .collect()
}
