//! Working towards the spec (§1.3 to §1.9): volumes, sandbox, init containers, app containers, old records.

use cri::{ContainerState, ContainerStatus};

use crate::cause::Cause;
use crate::ephemeral;
use crate::events;
use crate::init;
use crate::kinds::{self, Member};
use crate::look::Look;
use crate::observed::{ContainerKind, VolumesSeen};
use crate::plan::{NodePolicy, Plan, Start, Step, Stop};
use crate::probe;
use crate::resize;
use crate::restart;
use crate::restart_all;
use crate::sandbox::{self, Verdict};
use crate::starting::{self, Attempt};
use crate::status;
use crate::stopping;
use crate::termination;
use crate::text;

/// Newest records kept of each container: its state and the one before (`kubectl logs --previous`).
const KEPT_RECORDS: usize = 2;

/// Text of the `Killing` event of a run whose `postStart` hook failed (§1.9 step 9).
const HOOK_FAILED: &str = "FailedPostStartHook";

/// The Pod has nothing left to run and ends, for this reason.
pub(crate) struct Ends(pub(crate) String);

/// Plans one sync.
pub(crate) fn plan(look: &Look<'_>, policy: &NodePolicy) -> Result<Plan, Ends> {
    let mut plan = Plan {
        resizing: look.seen.memory.resizing.progress.clone(),
        ..Plan::default()
    };
    if let Some(at) = termination::deadline(look.pod) {
        plan.wake(at);
    }
    if plan.held_by_retry(look) || !volumes_ready(look, &mut plan) {
        return Ok(plan);
    }
    match sandbox::decide(look) {
        Verdict::GiveUp(why) => Err(Ends(why.to_owned())),
        Verdict::Create { attempt, changed } => {
            create_sandbox(look, attempt, changed, &mut plan);
            Ok(plan)
        }
        Verdict::Keep(sandbox) => containers(look, policy, &sandbox, plan),
    }
}

fn volumes_ready(look: &Look<'_>, plan: &mut Plan) -> bool {
    match look.seen.volumes {
        VolumesSeen::Ready => return true,
        VolumesSeen::Failed { retry_at } if look.now < retry_at => {
            plan.wake(retry_at);
            plan.because(
                None,
                format!(
                    "waits for its volumes; mounting is tried again at {}",
                    text::clock(retry_at)
                ),
            );
        }
        _ => {
            plan.steps.push(Step::SetUpVolumes);
            plan.because(None, "its volumes are set up before anything else");
        }
    }
    false
}

fn create_sandbox(look: &Look<'_>, attempt: u32, changed: bool, plan: &mut Plan) {
    if look.seen.containers.iter().any(|c| look.alive(c)) {
        plan.because(
            None,
            "its sandbox has to be replaced, so everything in it is stopped first",
        );
        termination::stop_containers(
            look,
            termination::began(look),
            termination::spec_grace(look.pod),
            plan,
        );
        return;
    }
    for old in look
        .sandboxes()
        .iter()
        .filter(|s| s.state == cri::SandboxState::Ready)
    {
        plan.steps.push(Step::StopSandbox { id: old.id.clone() });
    }
    if changed && !plan.tell(look, format!("sandbox/{attempt}")) {
        plan.steps.push(Step::Event(events::sandbox_changed()));
    }
    plan.steps.push(Step::CreateSandbox { attempt });
    plan.because(
        None,
        if attempt == 0 {
            "it needs a sandbox"
        } else {
            "its sandbox is gone and is made anew; init containers run again"
        },
    );
}

fn containers(
    look: &Look<'_>,
    policy: &NodePolicy,
    sandbox: &str,
    mut plan: Plan,
) -> Result<Plan, Ends> {
    ephemeral::plan(look, policy, &mut plan);
    take_back(look, sandbox, &mut plan);
    if restart_all::plan(look, policy, sandbox, &mut plan) {
        return Ok(plan);
    }
    let work = init::decide(look, sandbox);
    if let Some(member) = work.failed {
        return Err(Ends(format!(
            "init container {} failed and is not restarted",
            member.name()
        )));
    }
    if resize::plan(look, policy, sandbox, &mut plan) {
        return Ok(plan);
    }
    stop_strays(look, sandbox, &mut plan);
    for (member, record, cause) in &work.stop {
        stop_one(look, member, record, cause, &mut plan);
    }
    if let Some(member) = work.running {
        plan.because(
            Some(member.name()),
            "runs; the containers after it wait for it to finish",
        );
    }
    let mut go_on = true;
    for member in work
        .start
        .iter()
        .filter(|m| !work.stop.iter().any(|(s, ..)| s.name() == m.name()))
    {
        if go_on {
            let planned = start(look, policy, member, &mut plan);
            go_on = planned || member.is_sidecar();
        }
    }
    if work.initialized {
        if go_on && !apps(look, policy, &mut plan) {
            return Err(Ends("no app container is left to run".to_owned()));
        }
    } else {
        waiting_for_init(look, sandbox, &mut plan);
    }
    collect_old(look, &mut plan);
    resize::settle(look, sandbox, &mut plan);
    // Who is stopped waits for no start (§1.4 steps 2 and 9).
    plan.steps
        .sort_by_key(|step| !matches!(step, Step::PreStop(_) | Step::Stop(_)));
    Ok(plan)
}

/// Evaluates app containers; `false` when none is kept and none is to be started (§1.7).
fn apps(look: &Look<'_>, policy: &NodePolicy, plan: &mut Plan) -> bool {
    let mut any = false;
    let mut stops = Vec::new();
    for member in kinds::apps(look.pod) {
        let newest = look.newest(member.name());
        match newest.map(|c| (c, &c.state)) {
            Some((record, ContainerState::Running { .. })) => {
                let cause = Cause::of(look, &member, record);
                // One that is stopped for good is not kept: without another the Pod ends as a whole.
                let is_kept = |cause: Cause| cause == Cause::Begun || cause.restarts(look, &member);
                any |= cause.is_none_or(is_kept);
                stops.extend(cause.map(|cause| (member, record, cause)));
            }
            Some((record, ContainerState::Unknown)) if look.alive(record) => {
                any = true;
                stop_one(look, &member, record, &Cause::Unknown, plan);
            }
            _ if restart::due(look, &member, newest) => {
                any = true;
                start(look, policy, &member, plan);
            }
            _ => plan.because(Some(member.name()), "has ended and is not restarted"),
        }
    }
    if any {
        for (member, record, cause) in &stops {
            stop_one(look, member, record, cause, plan);
        }
    }
    any
}

/// Plans a start, or says why it has to wait. `true` when it is planned.
pub(crate) fn start(
    look: &Look<'_>,
    policy: &NodePolicy,
    member: &Member<'_>,
    plan: &mut Plan,
) -> bool {
    if look.takes_back(member.name()) {
        // The run before it has yet to end.
        return false;
    }
    match starting::attempt(look, policy, member) {
        Attempt::Now { back_off } => {
            let newest = look.newest(member.name());
            let mut restart_count = next_count(look, member, newest);
            if let Some(unused) = newest.filter(|c| c.state == ContainerState::Created) {
                // It never ran, so its number is still free.
                plan.steps.push(Step::RemoveContainer {
                    id: unused.id.clone(),
                    keep_log: true,
                });
                restart_count = unused.attempt;
                // It was decided by whoever made the record.
                let ended = look.last_exit(member.name());
                plan.owed.extend(ended.map(|(record, _)| record.id.clone()));
            }
            plan.because(
                Some(member.name()),
                if restart_count == 0 {
                    "starts".to_owned()
                } else {
                    format!("starts, restart {restart_count}")
                },
            );
            plan.steps.push(Step::Start(Start {
                container: member.name().to_owned(),
                kind: member.kind,
                restart_count,
                back_off,
            }));
            true
        }
        Attempt::Later {
            at,
            why,
            error,
            events,
            key,
        } => {
            let told = key.is_some_and(|key| plan.tell(look, key));
            if !told {
                plan.steps.extend(events.into_iter().map(Step::Event));
            }
            if let Some(error) = error {
                let known = look.seen.memory.start_errors.get(member.name());
                if known.is_none_or(|k| (&k.reason, &k.message) != (&error.reason, &error.message))
                {
                    plan.start_errors.insert(member.name().to_owned(), error);
                }
            }
            plan.wake(at);
            plan.because(Some(member.name()), why);
            false
        }
    }
}

/// Number of the next run: one more than the newest record's; without a record, one more than the last reported run's (§1.9).
fn next_count(look: &Look<'_>, member: &Member<'_>, newest: Option<&ContainerStatus>) -> u32 {
    let ran = |state: &k8s_openapi::api::core::v1::ContainerState| {
        state.running.is_some() || state.terminated.is_some()
    };
    let reported = status::previous(look.pod, member)
        .filter(|s| s.state.as_ref().is_some_and(ran) || s.last_state.as_ref().is_some_and(ran));
    let after_record = newest.map(|c| c.attempt.saturating_add(1));
    let after_report = reported.map(|s| {
        let last = s.last_state.as_ref().and_then(|l| l.terminated.as_ref());
        // A run that was removed to restart all was counted then; one that came after it was not.
        let is_newer = s.state.as_ref().is_some_and(ran);
        let is_counted =
            !is_newer && last.is_some_and(|t| t.reason.as_deref() == Some(restart_all::REASON));
        let count = u32::try_from(s.restart_count).unwrap_or(0);
        count.saturating_add(u32::from(!is_counted))
    });
    after_record.or(after_report).unwrap_or(0)
}

fn stop_one(
    look: &Look<'_>,
    member: &Member<'_>,
    record: &ContainerStatus,
    cause: &Cause,
    plan: &mut Plan,
) {
    let then_restart = cause.restarts(look, member);
    plan.because(
        Some(member.name()),
        if then_restart {
            "is stopped to be started anew"
        } else {
            "is stopped"
        },
    );
    let stop = Stop {
        id: record.id.clone(),
        container: record.name.clone(),
        kind: member.kind,
        grace_seconds: stopping::single_grace(look.pod, cause.probe(member)),
        message: Some(cause.message(look, member)),
        then_restart,
    };
    stopping::stop_alone(look, stop, plan);
}

/// Stops runs whose `postStart` hook failed (§1.9 step 9). One that has ended meanwhile is said to be killed all the same.
fn take_back(look: &Look<'_>, sandbox: &str, plan: &mut Plan) {
    let memory = &look.seen.memory;
    let records = look.seen.containers.iter();
    let failed = records.filter(|c| c.sandbox_id == sandbox && memory.failed_hooks.contains(&c.id));
    for record in failed {
        let kind = kinds::kind_of(look.pod, &record.name);
        if look.alive(record) {
            plan.because(
                Some(&record.name),
                "is stopped because its postStart hook failed",
            );
            let stop = Stop {
                id: record.id.clone(),
                container: record.name.clone(),
                kind,
                grace_seconds: stopping::single_grace(look.pod, None),
                message: Some(HOOK_FAILED.to_owned()),
                then_restart: false,
            };
            stopping::stop_alone(look, stop, plan);
        } else if memory.stop_of(&record.id).is_none()
            && !plan.tell(look, format!("killing/{}", record.id))
        {
            let event = events::killing(kind, &record.name, HOOK_FAILED);
            plan.steps.push(Step::Event(event));
        }
    }
}

/// Stops what still runs in a sandbox that is no longer the Pod's.
fn stop_strays(look: &Look<'_>, sandbox: &str, plan: &mut Plan) {
    let strays = look
        .seen
        .containers
        .iter()
        .filter(|c| c.sandbox_id != sandbox && look.alive(c));
    for record in strays.filter(|c| !look.seen.memory.stopping.contains_key(&c.id)) {
        plan.because(
            Some(&record.name),
            "still runs in an old sandbox and is stopped",
        );
        let stop = Stop {
            id: record.id.clone(),
            container: record.name.clone(),
            kind: kinds::kind_of(look.pod, &record.name),
            grace_seconds: stopping::single_grace(look.pod, None),
            message: Some(format!("Stopping container {}", record.name)),
            then_restart: false,
        };
        stopping::stop_alone(look, stop, plan);
    }
}

/// Says whom the containers wait for that may not start yet.
fn waiting_for_init(look: &Look<'_>, sandbox: &str, plan: &mut Plan) {
    let done = |m: &Member<'_>| {
        look.newest_in(m.name(), sandbox)
            .is_some_and(|c| match (&c.state, m.kind) {
                (ContainerState::Running { .. }, ContainerKind::Sidecar) => {
                    probe::is_started(look.seen, m, &c.id, status::previous(look.pod, m))
                }
                (ContainerState::Exited { exit_code, .. }, ContainerKind::Init) => *exit_code == 0,
                _ => false,
            })
    };
    let members = kinds::members(look.pod);
    let Some(first) = members
        .iter()
        .position(|m| m.kind != ContainerKind::App && !done(m))
    else {
        return;
    };
    let awaited = &members[first];
    let what = if awaited.is_sidecar() {
        format!("sidecar {} to start", awaited.name())
    } else {
        format!("init container {} to finish", awaited.name())
    };
    for member in &members[first + 1..] {
        let acts = plan
            .reasons
            .iter()
            .any(|r| r.container.as_deref() == Some(member.name()));
        if !acts && !done(member) {
            plan.because(Some(member.name()), format!("waits for {what}"));
        }
    }
}

/// Removes records beyond the newest two of each container, and empty sandboxes that are not the newest (§2.7).
fn collect_old(look: &Look<'_>, plan: &mut Plan) {
    let mut going = Vec::new();
    for member in kinds::members(look.pod) {
        for old in look
            .records(member.name())
            .into_iter()
            .skip(KEPT_RECORDS)
            .filter(|c| !look.alive(c))
        {
            going.push(&old.id);
            plan.because(
                Some(member.name()),
                format!("of its records only the newest {KEPT_RECORDS} are kept"),
            );
            plan.steps.push(Step::RemoveContainer {
                id: old.id.clone(),
                keep_log: false,
            });
        }
    }
    for old in look.sandboxes().into_iter().skip(1) {
        let used = look
            .seen
            .containers
            .iter()
            .any(|c| c.sandbox_id == old.id && !going.contains(&&c.id));
        if !used && old.state == cri::SandboxState::NotReady {
            plan.because(None, "a sandbox that was replaced and is empty is removed");
            plan.steps.push(Step::RemoveSandbox { id: old.id.clone() });
        }
    }
}
