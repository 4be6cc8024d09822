//! Sizes (§12.7): 41, and that what is asked for comes to be.

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use lifecycle::{kinds, resources};
use ports::runtime::{ContainerStatus, SandboxState, SandboxStatus};

use super::{Checks, Known, ensure};
use crate::machine::Machine;

/// Thousandths of a processor that the node has.
const MILLI: i64 = 2_000;

/// A container has no more memory than its Pod: the Pod grows first and shrinks last.
pub(crate) fn fits(made: &ContainerStatus, sandbox: Option<&SandboxStatus>) -> Result<(), String> {
    let whole = sandbox.and_then(|s| s.resources.memory_limit_bytes);
    let own = made.resources.memory_limit_bytes;
    let is_more = whole.zip(own).is_some_and(|(whole, own)| own > whole);
    ensure(!is_more, || {
        format!("{} has {own:?} bytes of its pod's {whole:?}", made.name)
    })
}

/// 41: a Pod has a limit only if all its containers have one.
pub(super) fn check_limits(pod: &Pod, made: &SandboxStatus) -> Result<(), String> {
    let members = kinds::members(pod);
    let has = |name: &str| {
        members.iter().all(|m| {
            let limits = m.spec.resources.as_ref().and_then(|r| r.limits.as_ref());
            limits.is_some_and(|limits| limits.contains_key(name))
        })
    };
    let limits = &made.resources;
    let memory = limits.memory_limit_bytes.is_none_or(|limit| limit <= 0) || has("memory");
    let cpu = limits.cpu_quota_us.is_none_or(|quota| quota <= 0) || has("cpu");
    ensure(memory && cpu, || {
        format!("41: the pod is limited to {limits:?}")
    })
}

/// Containers that have another size now, and whether they have to be restarted for it.
pub(super) fn resized(old: &Pod, new: &Pod) -> Vec<(String, bool)> {
    let (old, new) = (kinds::members(old), kinds::members(new));
    let pairs = old.iter().zip(&new);
    let changed = pairs.filter(|(old, new)| old.spec.resources != new.spec.resources);
    let restarts = |m: &kinds::Member<'_>| {
        let mut policies = m.spec.resize_policy.iter().flatten();
        policies.any(|policy| policy.restart_policy == "RestartContainer")
    };
    changed
        .map(|(_, new)| (new.name().to_owned(), restarts(new)))
        .collect()
}

fn limit(pod: &Pod, container: &str, name: &str) -> Option<Quantity> {
    let members = kinds::members(pod);
    let member = members.iter().find(|m| m.name() == container)?;
    let limits = member.spec.resources.as_ref()?.limits.as_ref()?;
    Quantity::try_from(limits.get(name)?).ok()
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let all = pod.status.as_ref()?.conditions.as_ref()?;
    all.iter().find(|c| c.type_ == kind && c.status == "True")
}

fn milli(pod: &Pod) -> i64 {
    let requests = resources::requests(pod);
    requests.get("cpu").map_or(0, Quantity::milli_value)
}

impl Checks {
    /// What all Pods of the node that go on ask for, but this one.
    fn others(&self, uid: &str) -> i64 {
        let others = self.pods.iter().filter(|(other, _)| *other != uid);
        let bound = others.filter(|(_, k)| {
            let spec = k.pod.spec.as_ref();
            let node = spec.and_then(|s| s.node_name.as_deref());
            !k.is_gone && !k.is_over && node == Some("node")
        });
        bound.map(|(_, k)| milli(&k.pod)).sum()
    }

    /// Whether a Pod without a node waits with good reason.
    pub(super) fn waits_for_room(&self, uid: &str, pod: &Pod) -> bool {
        let is_placed = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        !is_placed && milli(pod) + self.others(uid) > MILLI
    }

    /// When all is quiet: containers have the size that is asked for, or the Pod says why not.
    pub(super) fn sizes_settled(
        &self,
        uid: &str,
        known: &Known,
        machine: &Machine,
    ) -> Result<(), String> {
        let pod = &known.pod;
        if let Some(pending) = condition(pod, "PodResizePending") {
            let is_right = pending.reason.as_deref() == Some("Deferred");
            let room = milli(pod) + self.others(uid);
            return ensure(is_right && room > MILLI, || {
                format!("a resize to {room} m in all waits: {pending:?}")
            });
        }
        if let Some(going) = condition(pod, "PodResizeInProgress") {
            let why = going.message.as_deref().unwrap_or_default();
            return ensure(why.contains("cannot decrease memory limits"), || {
                format!("a resize is in progress for good: {going:?}")
            });
        }
        let is_sound = |id: &str| {
            let sandbox = machine.sandboxes.get(id);
            sandbox.is_some_and(|s| s.state == SandboxState::Ready)
        };
        for made in machine.running(uid) {
            let (name, has) = (&made.status.name, &made.status.resources);
            let memory = limit(pod, name, "memory").map(|q| q.value());
            let quota = limit(pod, name, "cpu").map(|q| q.milli_value() * 100);
            let is_same = memory.is_none_or(|m| has.memory_limit_bytes == Some(m))
                && quota.is_none_or(|q| has.cpu_quota_us == Some(q));
            ensure(is_same || !is_sound(&made.status.sandbox_id), || {
                format!("{name} has {has:?} and not {memory:?} bytes, {quota:?} us")
            })?;
        }
        Ok(())
    }
}
