//! What the status says of resources (§12.7): requests and limits as allocated, with what is in force in their place.

use cri::{ContainerState, ContainerStatus, Resources};
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Wire;

use api::quantity::Quantity;

use crate::kinds::Member;
use crate::look::Look;
use crate::resources::{self, LEAST_SHARES, List, amount, milli_of_quota, milli_of_shares};

/// The least limit that a quota can express; what is below is shown as it was allocated.
const LEAST_LIMIT_MILLI: i64 = 10;

/// `resources` of a container's status.
pub(crate) fn container(member: &Member<'_>, record: &ContainerStatus) -> ResourceRequirements {
    let mut shown = member.spec.resources.clone().unwrap_or_default();
    if matches!(record.state, ContainerState::Running { .. }) {
        let in_force = &record.resources;
        if let Some(limits) = &mut shown.limits {
            limit(limits, in_force);
        }
        if let Some(requests) = &mut shown.requests {
            request(requests, in_force);
        }
    }
    shown
}

/// `resources` and `allocatedResources` of a Pod's status.
pub(crate) fn pod(look: &Look<'_>) -> (ResourceRequirements, Option<List>) {
    let allocated = wire(resources::requests(look.pod));
    let is_running = look.stored_phase() == Some("Running");
    let in_force = look.usable_sandbox().filter(|_| is_running);
    let (mut requests, mut limits) = match in_force {
        Some(_) => own(look.pod),
        None => (allocated.clone(), wire(resources::limits(look.pod))),
    };
    if let Some(sandbox) = in_force {
        request(&mut requests, &sandbox.resources);
        limit(&mut limits, &sandbox.resources);
        if let Some(memory) = allocated.get("memory") {
            let entry = requests.entry("memory".to_owned());
            entry.or_insert_with(|| memory.clone());
        }
    }
    let some = |list: List| (!list.is_empty()).then_some(list);
    let shown = ResourceRequirements {
        requests: some(requests),
        limits: some(limits),
        claims: None,
    };
    (shown, some(allocated))
}

/// Requests and limits that the Pod sets for itself.
fn own(pod: &Pod) -> (List, List) {
    let own = resources::pod_level(pod).cloned().unwrap_or_default();
    (
        own.requests.unwrap_or_default(),
        own.limits.unwrap_or_default(),
    )
}

fn wire(list: std::collections::BTreeMap<String, Quantity>) -> List {
    let wire = |(name, amount): (String, Quantity)| (name, Wire::from(&amount));
    list.into_iter().map(wire).collect()
}

fn request(requests: &mut List, in_force: &Resources) {
    let milli = in_force.cpu_shares.map_or(0, milli_of_shares);
    replace_cpu(requests, milli, LEAST_SHARES);
}

fn limit(limits: &mut List, in_force: &Resources) {
    replace_cpu(limits, milli_of_quota(in_force), LEAST_LIMIT_MILLI);
    if let Some(bytes) = in_force.memory_limit_bytes.filter(|bytes| *bytes > 0) {
        limits.insert(
            "memory".to_owned(),
            Wire::from(&Quantity::from_bytes(bytes)),
        );
    }
}

/// Shows what the kernel has, unless both are so little that the kernel cannot tell them apart.
fn replace_cpu(list: &mut List, milli: i64, least: i64) {
    let allocated = amount(Some(list), "cpu").map_or(0, |q| q.milli_value());
    if milli > 0 && (milli > least || allocated > least) {
        list.insert("cpu".to_owned(), Wire::from(&Quantity::from_milli(milli)));
    }
}
