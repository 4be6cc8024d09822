//! From what is in force to what was allocated, in an order in which a Pod's limits always cover those of its containers.

use std::collections::BTreeMap;

use cri::{ContainerState, ContainerStatus, Id, Resources, SandboxStatus};
use k8s_openapi::api::core::v1::Pod;

use super::allocation::{ACTUATED, ALLOCATED};
use super::report::Progress;
use super::words;
use crate::kinds::{self, Member};
use crate::look::Look;
use crate::observed::ContainerKind;
use crate::plan::{NodePolicy, Plan, Step};
use crate::resources::{self, Amounts};
use crate::text;

/// Whose limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Those of the Pod as a whole.
    Pod {
        /// Its sandbox.
        sandbox: Id,
    },
    /// Those of one container.
    Container {
        /// Its record.
        id: Id,
        /// Its name.
        name: String,
    },
}

/// A memory limit that is to become less: it must stay above what is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrink {
    /// Whose.
    pub target: Target,
    /// The limit to come, in bytes.
    pub limit: i64,
}

/// Limits to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub target: Target,
    /// What is set; the rest stays.
    pub resources: Resources,
    /// What is noted in the record with it.
    pub annotations: BTreeMap<String, String>,
}

/// Limits to change while everything runs on: all changes in order, if none of what shrinks is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resize {
    /// What has to be looked at first.
    pub shrinks: Vec<Shrink>,
    /// What is changed, one after the other; the first failure ends it.
    pub changes: Vec<Change>,
}

/// Why memory limits cannot shrink, for the bytes in use where one is to; nothing if they can.
pub fn refused(shrinks: &[(Shrink, u64)]) -> Option<String> {
    let errors: Vec<String> = shrinks
        .iter()
        .filter(|(shrink, usage)| *usage >= shrink.limit.max(0).unsigned_abs())
        .map(|(shrink, usage)| {
            let whose = match &shrink.target {
                Target::Pod { .. } => "pod".to_owned(),
                Target::Container { name, .. } => format!("container {name:?}"),
            };
            let limit = shrink.limit;
            format!(
                "attempting to set {whose} memory limit ({limit}) below current usage ({usage})"
            )
        })
        .collect();
    match errors.as_slice() {
        [] => None,
        [one] => Some(format!("cannot decrease memory limits: {one}")),
        more => Some(format!(
            "cannot decrease memory limits: [{}]",
            more.join(", ")
        )),
    }
}

/// Whether a container that runs has to be restarted to be given what it was allocated (`resizePolicy`).
pub fn needs_restart(pod: &Pod, member: &Member<'_>, record: &ContainerStatus) -> bool {
    let Some(has) = actuated(record) else {
        return false;
    };
    let wants = Amounts::of(pod, member.spec);
    let policies = member.spec.resize_policy.as_deref().unwrap_or_default();
    let restarts = |name: &str| {
        let policy = policies.iter().find(|p| p.resource_name == name);
        policy.is_some_and(|p| p.restart_policy == "RestartContainer")
    };
    (cpu(has) != cpu(wants) && restarts("cpu"))
        || (memory(has) != memory(wants) && restarts("memory"))
}

/// What a container was given; unknown for a record without a note.
fn actuated(record: &ContainerStatus) -> Option<Amounts> {
    serde_json::from_str(record.annotations.get(ACTUATED)?).ok()
}

fn cpu(amounts: Amounts) -> (i64, i64) {
    (amounts.cpu_limit, amounts.cpu_request)
}

fn memory(amounts: Amounts) -> (i64, i64) {
    (amounts.memory_limit, amounts.memory_request)
}

/// Takes the next step towards what is wanted and allocated; `true` when nothing else is to be done before it. Containers are started
/// after limits were changed, whether that worked or not.
pub(crate) fn plan(look: &Look<'_>, policy: &NodePolicy, sandbox: &str, plan: &mut Plan) -> bool {
    let resizing = &look.seen.memory.resizing;
    if resizing.is_granted() {
        if let Some(at) = resizing.retry_at.filter(|at| look.now < *at) {
            plan.wake(at);
        } else {
            plan.because(
                None,
                "the node has room for its new size, which is noted first",
            );
            plan.steps.push(Step::Allocate);
            return true;
        }
    }
    let Some(sandbox) = look.seen.sandboxes.iter().find(|s| s.id == sandbox) else {
        return false;
    };
    let gap = Gap::of(look, sandbox);
    if gap.is_closed() || gap.restarts {
        return false;
    }
    let failed = resizing.progress.as_ref().and_then(|p| p.error.as_ref());
    let retry_at = failed.map(|error| text::after(error.at, policy.retry_after));
    if let Some(at) = retry_at.filter(|at| look.now < *at) {
        plan.because(
            None,
            format!(
                "its new size cannot be had; it is tried again at {}",
                text::clock(at)
            ),
        );
        plan.wake(at);
        return false;
    }
    plan.because(None, "is given its new size");
    plan.steps.push(Step::Resize(gap.close()));
    false
}

/// Notes at the end of a sync whether a resize is in progress, and tells when it is over.
pub(crate) fn settle(look: &Look<'_>, sandbox: &str, plan: &mut Plan) {
    let sandbox = look.seen.sandboxes.iter().find(|s| s.id == sandbox);
    let is_open = sandbox.is_some_and(|s| !Gap::of(look, s).is_closed());
    let in_progress = is_open || starts_anew(look, plan);
    match (&plan.resizing, in_progress) {
        (Some(progress), false) => {
            let event = words::completed(look.pod, progress.generation);
            plan.steps.push(Step::Event(event));
            plan.resizing = None;
        }
        (None, true) => {
            plan.resizing = Some(Progress {
                generation: look.pod.metadata.generation.unwrap_or(0),
                error: None,
            });
        }
        _ => {}
    }
}

/// Whether a container is about to be started that was stopped to be given another size.
fn starts_anew(look: &Look<'_>, plan: &Plan) -> bool {
    let members = kinds::members(look.pod);
    plan.steps.iter().any(|step| {
        let Step::Start(start) = step else {
            return false;
        };
        let member = members.iter().find(|m| m.name() == start.container);
        let record = look.newest(&start.container);
        let differs = |m: &Member<'_>, r: &ContainerStatus| {
            actuated(r).is_some_and(|has| has != Amounts::of(look.pod, m.spec))
        };
        let stopped = record.and_then(|r| look.seen.memory.stop_of(&r.id));
        stopped.is_some_and(|stop| stop.then_restart)
            && member.zip(record).is_some_and(|(m, r)| differs(m, r))
    })
}

/// What of a container is not yet as it was allocated.
struct Open<'a> {
    record: &'a ContainerStatus,
    has: Amounts,
    wants: Amounts,
    limits: Resources,
}

/// What of a Pod is not yet as it was allocated. Records without a note are of another engine, and left as they are.
struct Gap<'a> {
    sandbox: &'a SandboxStatus,
    pod: Resources,
    containers: Vec<Open<'a>>,
    /// A container has to be restarted first.
    restarts: bool,
}

/// The two resources, which are changed one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Memory,
    Cpu,
}

impl<'a> Gap<'a> {
    fn of(look: &Look<'a>, sandbox: &'a SandboxStatus) -> Self {
        let mut gap = Gap {
            sandbox,
            pod: Resources::default(),
            containers: Vec::new(),
            restarts: false,
        };
        if !sandbox.annotations.contains_key(ALLOCATED) {
            return gap;
        }
        gap.pod = differing(&sandbox.resources, &resources::pod(look.pod));
        for member in kinds::members(look.pod) {
            let running = look
                .newest_in(member.name(), &sandbox.id)
                .filter(|record| matches!(record.state, ContainerState::Running { .. }));
            let Some((record, has)) = running.and_then(|r| Some((r, actuated(r)?))) else {
                continue;
            };
            let wants = Amounts::of(look.pod, member.spec);
            if has == wants {
                continue;
            }
            gap.restarts |=
                member.kind != ContainerKind::Init && needs_restart(look.pod, &member, record);
            gap.containers.push(Open {
                record,
                has,
                wants,
                limits: resources::container_limits(look.pod, member.spec),
            });
        }
        gap
    }

    fn is_closed(&self) -> bool {
        self.pod == Resources::default() && self.containers.is_empty()
    }

    /// The changes that close it: per resource, memory first, growing limits of the Pod, its growing request, containers that shrink
    /// before those that grow, the Pod's shrinking request and limits last.
    fn close(&self) -> Resize {
        let mut resize = Resize {
            shrinks: self.shrinks(),
            changes: Vec::new(),
        };
        let changes = &mut resize.changes;
        for which in [Which::Memory, Which::Cpu] {
            let pod = self.pod_changes(which);
            let growing = pod.iter().filter(|(grows, _)| *grows);
            changes.extend(growing.map(|(_, resources)| self.of_pod(resources)));
            changes.extend(self.container_changes(which));
            let shrinking = pod.iter().rev().filter(|(grows, _)| !grows);
            changes.extend(shrinking.map(|(_, resources)| self.of_pod(resources)));
        }
        resize
    }

    fn of_pod(&self, resources: &Resources) -> Change {
        Change {
            target: self.target(),
            resources: resources.clone(),
            annotations: BTreeMap::new(),
        }
    }

    fn target(&self) -> Target {
        Target::Pod {
            sandbox: self.sandbox.id.clone(),
        }
    }

    /// The Pod's limit and then its request of a resource, where they change, and whether they grow.
    fn pod_changes(&self, which: Which) -> Vec<(bool, Resources)> {
        let (has, wants) = (&self.sandbox.resources, &self.pod);
        let mut changes = Vec::new();
        match which {
            Which::Memory => {
                if let Some(limit) = wants.memory_limit_bytes {
                    let grows = limit > has.memory_limit_bytes.unwrap_or(i64::MAX);
                    let set = Resources {
                        memory_limit_bytes: Some(limit),
                        ..Resources::default()
                    };
                    changes.push((grows, set));
                }
            }
            Which::Cpu => {
                if let Some(quota) = wants.cpu_quota_us {
                    let grows = quota > has.cpu_quota_us.unwrap_or(i64::MAX);
                    let set = Resources {
                        cpu_period_us: wants.cpu_period_us.or(has.cpu_period_us),
                        cpu_quota_us: Some(quota),
                        ..Resources::default()
                    };
                    changes.push((grows, set));
                }
                if let Some(shares) = wants.cpu_shares {
                    let set = Resources {
                        cpu_shares: Some(shares),
                        ..Resources::default()
                    };
                    changes.push((Some(shares) > has.cpu_shares, set));
                }
            }
        }
        changes
    }

    fn container_changes(&self, which: Which) -> Vec<Change> {
        let part = |amounts| match which {
            Which::Memory => memory(amounts),
            Which::Cpu => cpu(amounts),
        };
        let open = self.containers.iter();
        let mut open: Vec<_> = open.filter(|o| part(o.has) != part(o.wants)).collect();
        // Stable: those that shrink first, each kind in the Pod's order.
        open.sort_by_key(|o| unlimited_last(part(o.wants)) > unlimited_last(part(o.has)));
        open.into_iter().map(|o| o.change(which)).collect()
    }

    /// Memory limits that become less.
    fn shrinks(&self) -> Vec<Shrink> {
        let less = |limit: i64, has: Option<i64>| limit < has.unwrap_or(i64::MAX);
        let mut shrinks = Vec::new();
        if let Some(limit) = self.pod.memory_limit_bytes
            && less(limit, self.sandbox.resources.memory_limit_bytes)
        {
            let target = self.target();
            shrinks.push(Shrink { target, limit });
        }
        for open in &self.containers {
            if let Some(limit) = open.limits.memory_limit_bytes
                && less(limit, open.record.resources.memory_limit_bytes)
            {
                let target = open.target();
                shrinks.push(Shrink { target, limit });
            }
        }
        shrinks
    }
}

/// Limit and request, with no limit as more than any.
fn unlimited_last((limit, request): (i64, i64)) -> (i64, i64) {
    (if limit == 0 { i64::MAX } else { limit }, request)
}

impl Open<'_> {
    fn target(&self) -> Target {
        Target::Container {
            id: self.record.id.clone(),
            name: self.record.name.clone(),
        }
    }

    /// Memory is changed first, so cpu is still what it was then.
    fn change(&self, which: Which) -> Change {
        let (resources, amounts) = match which {
            Which::Memory => (
                Resources {
                    memory_limit_bytes: self.limits.memory_limit_bytes,
                    ..Resources::default()
                },
                Amounts {
                    memory_limit: self.wants.memory_limit,
                    memory_request: self.wants.memory_request,
                    ..self.has
                },
            ),
            Which::Cpu => (
                Resources {
                    memory_limit_bytes: None,
                    ..self.limits.clone()
                },
                self.wants,
            ),
        };
        Change {
            target: self.target(),
            resources,
            annotations: BTreeMap::from([amounts.note()]),
        }
    }
}

/// What of `wants` is set and different; a limit cannot be taken away.
fn differing(has: &Resources, wants: &Resources) -> Resources {
    fn of<T: PartialEq + Copy>(has: Option<T>, wants: Option<T>) -> Option<T> {
        wants.filter(|_| wants != has)
    }
    Resources {
        cpu_quota_us: of(has.cpu_quota_us, wants.cpu_quota_us),
        cpu_shares: of(has.cpu_shares, wants.cpu_shares),
        memory_limit_bytes: of(has.memory_limit_bytes, wants.memory_limit_bytes),
        ..Resources::default()
    }
}

impl Amounts {
    /// The annotation to note it in.
    pub fn note(&self) -> (String, String) {
        let text = serde_json::to_string(self).unwrap_or_default();
        (ACTUATED.to_owned(), text)
    }
}
