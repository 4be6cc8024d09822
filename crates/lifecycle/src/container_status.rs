//! One container's status (§3.4, §3.5).

use cri::{ContainerState, ContainerStatus as Record};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::kinds::{self, Member};
use crate::look::Look;
use crate::messages;
use crate::observed::{ContainerKind, WorkerPhase};
use crate::probe;
use crate::resize;
use crate::restart;
use crate::restart_all;
use crate::text;

/// Exit code of a run whose end nobody saw.
const LOST: i32 = 137;
const LOST_RUNNING: &str = "The container could not be located when the pod was deleted.  The container used to be Running";
const LOST_AT_END: &str = "The container could not be located when the pod was terminated";
const INIT_DONE: &str = "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally";

/// Scheme of `containerID`.
pub const RUNTIME_NAME: &str = "carob";

/// Builds the status of one container from its records and what was reported before.
pub(crate) fn build(
    look: &Look<'_>,
    member: &Member<'_>,
    previous: Option<&core::ContainerStatus>,
) -> core::ContainerStatus {
    let is_taken_back = look.takes_back(member.name());
    if let Some(previous) = previous.filter(|_| is_taken_back) {
        return previous.clone();
    }
    let records = look.records(member.name());
    let mut status = match records.first() {
        Some(newest) => from_records(look, member, &records, newest, previous),
        None => without_record(look, member, previous),
    };
    let waiting = status.state.as_ref().is_some_and(|s| s.waiting.is_some());
    let is_done = member.kind == ContainerKind::Init
        && any_app_record(look)
        && !look.seen.memory.restarting_all;
    if records.is_empty() && waiting && is_done {
        status.state = Some(terminated(synthetic(0, "Completed", INIT_DONE)));
    }
    if !is_taken_back {
        start_error(look, member, records.first().copied(), &mut status);
    }
    refresh(
        look,
        member,
        records.first().copied(),
        previous,
        &mut status,
    );
    status
}

/// Sets `started` and `ready` from the state (§3.5). Ephemeral containers have neither.
fn refresh(
    look: &Look<'_>,
    member: &Member<'_>,
    newest: Option<&Record>,
    previous: Option<&core::ContainerStatus>,
    status: &mut core::ContainerStatus,
) {
    if member.kind == ContainerKind::Ephemeral {
        return;
    }
    let state = status.state.as_ref();
    let running = newest.filter(|_| state.is_some_and(|s| s.running.is_some()));
    let ended = state.and_then(|s| s.terminated.as_ref());
    let is_done = ended.is_some_and(|t| t.exit_code == 0);
    let started =
        running.filter(|record| probe::is_started(look.seen, member, &record.id, previous));
    status.started = Some(started.is_some());
    status.ready = match member.kind {
        ContainerKind::Init => is_done,
        _ => started.is_some_and(|r| probe::is_ready(look.seen, member, &r.id, previous)),
    };
}

fn any_app_record(look: &Look<'_>) -> bool {
    kinds::apps(look.pod)
        .iter()
        .any(|m| look.newest(m.name()).is_some())
}

fn without_record(
    look: &Look<'_>,
    member: &Member<'_>,
    previous: Option<&core::ContainerStatus>,
) -> core::ContainerStatus {
    let has = |p: &core::ContainerStatus, what: fn(&core::ContainerState) -> bool| {
        p.state.as_ref().is_some_and(what)
    };
    if look.seen.memory.restarting_all && member.kind != ContainerKind::Ephemeral {
        return removed(look, member, previous);
    }
    if let Some(ended) = previous.filter(|p| has(p, |s| s.terminated.is_some())) {
        return ended.clone();
    }
    let mut status = core::ContainerStatus {
        name: member.name().to_owned(),
        image: member.image().to_owned(),
        state: Some(waiting(Some(default_reason(look)), None)),
        last_state: previous
            .and_then(|p| p.last_state.clone())
            .or_else(|| Some(core::ContainerState::default())),
        restart_count: previous.map_or(0, |p| p.restart_count),
        volume_mounts: volume_mounts(member, previous),
        ..core::ContainerStatus::default()
    };
    let ran = previous.is_some_and(|p| has(p, |s| s.running.is_some()));
    let has_last = status
        .last_state
        .as_ref()
        .is_some_and(|l| l.terminated.is_some());
    if ran && !has_last {
        status.last_state = Some(terminated(synthetic(
            LOST,
            "ContainerStatusUnknown",
            LOST_RUNNING,
        )));
        if !look.deleted() {
            status.restart_count = status.restart_count.saturating_add(1);
        }
    }
    status
}

/// A container that was removed to restart all (§1.10).
fn removed(
    look: &Look<'_>,
    member: &Member<'_>,
    previous: Option<&core::ContainerStatus>,
) -> core::ContainerStatus {
    let state = |p: &core::ContainerStatus| p.state.clone().unwrap_or_default();
    let reason = |p: &core::ContainerStatus| state(p).waiting.and_then(|w| w.reason);
    let ran =
        |p: &core::ContainerStatus| p.container_id.as_deref().is_some_and(|id| !id.is_empty());
    let again = previous.is_some_and(|p| reason(p).as_deref() == Some(restart_all::REASON));
    if let Some(previous) = previous.filter(|_| again) {
        return previous.clone();
    }
    if !previous.is_some_and(ran) {
        return core::ContainerStatus {
            state: Some(waiting(Some(default_reason(look)), None)),
            ..previous.cloned().unwrap_or_else(|| core::ContainerStatus {
                name: member.name().to_owned(),
                image: member.image().to_owned(),
                volume_mounts: volume_mounts(member, None),
                ..core::ContainerStatus::default()
            })
        };
    }
    core::ContainerStatus {
        name: member.name().to_owned(),
        image: member.image().to_owned(),
        state: Some(waiting(
            Some(restart_all::REASON),
            Some(restart_all::MESSAGE),
        )),
        last_state: Some(terminated(synthetic(
            LOST,
            restart_all::REASON,
            restart_all::MESSAGE,
        ))),
        restart_count: previous.map_or(0, |p| p.restart_count.saturating_add(1)),
        volume_mounts: volume_mounts(member, previous),
        ..core::ContainerStatus::default()
    }
}

/// `PodInitializing` for every container of a Pod that has init containers, else `ContainerCreating`.
fn default_reason(look: &Look<'_>) -> &'static str {
    if kinds::init(look.pod).is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    }
}

fn from_records(
    look: &Look<'_>,
    member: &Member<'_>,
    records: &[&Record],
    newest: &Record,
    previous: Option<&core::ContainerStatus>,
) -> core::ContainerStatus {
    let id = container_id(newest);
    let before = previous
        .map(|p| p.state.clone().unwrap_or_default())
        .unwrap_or_default();
    let mut count = i32::try_from(newest.attempt).unwrap_or(i32::MAX);
    if let Some(previous) = previous {
        let another = previous
            .container_id
            .as_deref()
            .is_some_and(|old| old != id);
        let again = another
            && before.terminated.is_some()
            && matches!(newest.state, ContainerState::Running { .. });
        let least = if again {
            previous.restart_count.saturating_add(1)
        } else {
            previous.restart_count
        };
        count = count.max(least);
    }
    let was_running = before.running.is_some()
        && previous.and_then(|p| p.container_id.as_deref()) == Some(id.as_str());
    if newest.state == ContainerState::Unknown && was_running {
        count = previous.map_or(0, |p| p.restart_count).saturating_add(1);
    }
    let last_state = records
        .get(1)
        .and_then(|r| ended(look, r))
        .or_else(|| last_reported(&id, previous, before));
    core::ContainerStatus {
        name: member.name().to_owned(),
        image: newest.image.clone(),
        image_id: newest.image_ref.clone(),
        container_id: Some(id),
        state: Some(state(look, newest, was_running)),
        last_state: Some(last_state.unwrap_or_default()),
        restart_count: count,
        allocated_resources: member
            .spec
            .resources
            .as_ref()
            .and_then(|r| r.requests.clone()),
        resources: Some(resize::shown_container(member, newest)),
        volume_mounts: volume_mounts(member, previous),
        user: user(newest),
        stop_signal: member
            .spec
            .lifecycle
            .as_ref()
            .and_then(|hooks| hooks.stop_signal.clone()),
        allocated_resources_status: previous.and_then(|p| p.allocated_resources_status.clone()),
        ..core::ContainerStatus::default()
    }
}

/// The last state when the runtime has one record only: the end reported before, if it was another container's.
fn last_reported(
    id: &str,
    previous: Option<&core::ContainerStatus>,
    before: core::ContainerState,
) -> Option<core::ContainerState> {
    let previous = previous?;
    let other = previous
        .container_id
        .as_deref()
        .is_some_and(|old| old != id);
    if other && before.terminated.is_some() {
        return Some(before);
    }
    // A start error shows the newest record's end as last state; once the error is gone that end is the state itself.
    let is_this = |s: &core::ContainerState| {
        s.terminated
            .as_ref()
            .is_some_and(|t| t.container_id.as_deref() == Some(id))
    };
    previous.last_state.clone().filter(|last| !is_this(last))
}

fn container_id(record: &Record) -> String {
    format!("{RUNTIME_NAME}://{}", record.id)
}

fn state(look: &Look<'_>, record: &Record, was_running: bool) -> core::ContainerState {
    match &record.state {
        ContainerState::Created => waiting(None, None),
        ContainerState::Running { started_at } => core::ContainerState {
            running: Some(core::ContainerStateRunning {
                started_at: Some(Time(text::second(*started_at))),
            }),
            ..core::ContainerState::default()
        },
        ContainerState::Exited { .. } => ended(look, record).unwrap_or_default(),
        ContainerState::Unknown if was_running => {
            terminated(synthetic(LOST, "ContainerStatusUnknown", LOST_AT_END))
        }
        ContainerState::Unknown => waiting(None, None),
    }
}

/// The terminated state of a record that has exited.
fn ended(look: &Look<'_>, record: &Record) -> Option<core::ContainerState> {
    let ContainerState::Exited {
        started_at,
        finished_at,
        exit_code,
        reason,
        message,
    } = &record.state
    else {
        return None;
    };
    let own = look
        .seen
        .termination_messages
        .get(&record.id)
        .map(String::as_str)
        .unwrap_or_default();
    let message = messages::joined(message, own);
    let message = messages::share(&message, container_count(look));
    Some(terminated(core::ContainerStateTerminated {
        exit_code: *exit_code,
        reason: Some(reason.clone()),
        message: (!message.is_empty()).then(|| message.to_owned()),
        started_at: Some(Time(text::second(*started_at))),
        finished_at: Some(Time(text::second(*finished_at))),
        container_id: Some(container_id(record)),
        signal: None,
    }))
}

fn container_count(look: &Look<'_>) -> usize {
    let ephemeral = look
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.ephemeral_containers.as_ref())
        .map_or(0, Vec::len);
    kinds::members(look.pod).len() + ephemeral
}

/// A container that is due to be started and failed to shows why (§3.4 rule 5).
fn start_error(
    look: &Look<'_>,
    member: &Member<'_>,
    newest: Option<&Record>,
    status: &mut core::ContainerStatus,
) {
    let error = look.seen.memory.start_errors.get(member.name());
    let is_stale = error.is_some_and(|e| newest.is_none() && e.reason == "CrashLoopBackOff");
    let (reason, message) = match error {
        Some(error) => (error.reason.as_str(), Some(error.message.as_str())),
        None if newest.is_some_and(|record| comes_back(look, member, record)) => {
            (default_reason(look), None)
        }
        None => return,
    };
    let settled = status
        .state
        .as_ref()
        .and_then(|s| s.terminated.as_ref())
        .is_some_and(|t| t.exit_code == 0);
    // What nobody starts any more has got its end already.
    let is_over = look.seen.memory.phase >= WorkerPhase::Terminated
        && status
            .state
            .as_ref()
            .is_some_and(|s| s.terminated.is_some());
    if is_stale
        || is_over
        || !restart::due(look, member, newest)
        || (member.kind == ContainerKind::Init && settled)
    {
        return;
    }
    let state = status.state.take().unwrap_or_default();
    if state.terminated.is_some() {
        status.last_state = Some(state);
    }
    status.state = Some(waiting(Some(reason), message));
}

/// Whether the run was stopped to be started again although its policy leaves it ended. The API lets no such end be taken back
/// (§3.7), so it is never shown as the container's state.
fn comes_back(look: &Look<'_>, member: &Member<'_>, record: &Record) -> bool {
    let ContainerState::Exited {
        exit_code, reason, ..
    } = &record.state
    else {
        return false;
    };
    let code = restart::deciding_code(member.kind, *exit_code, reason);
    restart::replaced(look, record) && !restart::restarts_after(look.pod, member, code)
}

fn volume_mounts(
    member: &Member<'_>,
    previous: Option<&core::ContainerStatus>,
) -> Option<Vec<core::VolumeMountStatus>> {
    if let Some(kept) = previous.and_then(|p| p.volume_mounts.as_ref()) {
        return Some(kept.clone());
    }
    let mounts = member.spec.volume_mounts.as_ref()?;
    let status = |mount: &core::VolumeMount| {
        let read_only = mount.read_only.unwrap_or(false);
        let recursive = matches!(
            mount.recursive_read_only.as_deref(),
            Some("Enabled" | "IfPossible")
        );
        core::VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only
                .then(|| if recursive { "Enabled" } else { "Disabled" }.to_owned()),
            ..core::VolumeMountStatus::default()
        }
    };
    Some(mounts.iter().map(status).collect())
}

fn user(record: &Record) -> Option<core::ContainerUser> {
    let user = record.user.as_ref()?;
    Some(core::ContainerUser {
        linux: Some(core::LinuxContainerUser {
            uid: i64::from(user.uid),
            gid: i64::from(user.gid),
            supplemental_groups: Some(
                user.supplemental_groups
                    .iter()
                    .map(|g| i64::from(*g))
                    .collect(),
            ),
        }),
    })
}

/// Gives every container that is not terminated a terminated state at the end of the Pod's life (§3.7).
pub(crate) fn finalize(
    look: &Look<'_>,
    init: &mut [core::ContainerStatus],
    apps: &mut [core::ContainerStatus],
) {
    let initialized = has_initialized(look, init, apps);
    let shown = init.iter().rposition(shows_a_run).unwrap_or(0) + 1;
    let reached = init.iter_mut().zip(kinds::init(look.pod)).take(shown);
    let apps = apps.iter_mut().filter(|_| initialized).filter_map(|s| {
        let member = kinds::apps(look.pod)
            .into_iter()
            .find(|m| m.name() == s.name)?;
        Some((s, member))
    });
    for (status, member) in reached.chain(apps) {
        if status.state.as_ref().is_none_or(|s| s.terminated.is_none()) {
            status.state = Some(terminated(synthetic(
                LOST,
                "ContainerStatusUnknown",
                LOST_AT_END,
            )));
            refresh(look, &member, None, None, status);
        }
    }
}

fn shows_a_run(status: &core::ContainerStatus) -> bool {
    let last = status
        .last_state
        .as_ref()
        .is_some_and(|s| s.terminated.is_some());
    last || status.state.as_ref().is_some_and(|s| s.waiting.is_none())
}

fn has_initialized(
    look: &Look<'_>,
    init: &[core::ContainerStatus],
    apps: &[core::ContainerStatus],
) -> bool {
    let members = kinds::init(look.pod);
    let (Some(member), Some(last)) = (members.last(), init.last()) else {
        return true;
    };
    let state = last.state.clone().unwrap_or_default();
    let last_done = match member.kind {
        ContainerKind::Sidecar => state.running.is_some() && last.started == Some(true),
        _ => state.terminated.is_some_and(|t| t.exit_code == 0),
    };
    last_done || apps.iter().any(shows_a_run)
}

fn synthetic(exit_code: i32, reason: &str, message: &str) -> core::ContainerStateTerminated {
    core::ContainerStateTerminated {
        exit_code,
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..core::ContainerStateTerminated::default()
    }
}

fn terminated(state: core::ContainerStateTerminated) -> core::ContainerState {
    core::ContainerState {
        terminated: Some(state),
        ..core::ContainerState::default()
    }
}

fn waiting(reason: Option<&str>, message: Option<&str>) -> core::ContainerState {
    core::ContainerState {
        waiting: Some(core::ContainerStateWaiting {
            reason: reason.map(str::to_owned),
            message: message.map(str::to_owned),
        }),
        ..core::ContainerState::default()
    }
}
