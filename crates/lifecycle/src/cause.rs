//! Why one container is stopped while its Pod lives on (§1.6, §1.7).

use cri::ContainerStatus;
use k8s_openapi::api::core::v1::Probe;

use crate::kinds::Member;
use crate::look::Look;
use crate::observed::ContainerKind;
use crate::probe::{self, Kind};
use crate::resize;
use crate::restart;
use crate::stopping;

/// The reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its name or image is another now.
    Changed,
    /// This probe of it failed for good.
    Failed(Kind),
    /// It has to be given another size.
    Resized,
    /// Nobody knows its state.
    Unknown,
    /// Its `preStop` hook was begun for a reason that is gone.
    Begun,
}

impl Cause {
    /// Why a container that runs is to be stopped, if it is. The first reason counts, in upstream's order.
    pub(crate) fn of(
        look: &Look<'_>,
        member: &Member<'_>,
        record: &ContainerStatus,
    ) -> Option<Self> {
        let failed =
            |kind| probe::is_bad(look.seen, &record.id, kind).then_some(Cause::Failed(kind));
        let changed = look.changed(member, record).then_some(Cause::Changed);
        let cause = if member.is_sidecar() {
            failed(Kind::Startup)
                .or(changed)
                .or_else(|| failed(Kind::Liveness))
        } else {
            changed
                .or_else(|| failed(Kind::Liveness))
                .or_else(|| failed(Kind::Startup))
        };
        let resized = || resize::needs_restart(look.pod, member, record).then_some(Cause::Resized);
        let cause = cause.or_else(resized);
        cause.or_else(|| stopping::is_begun(look, record).then_some(Cause::Begun))
    }

    /// Whether the container starts again once it has stopped, whatever its exit code.
    pub(crate) fn restarts(self, look: &Look<'_>, member: &Member<'_>) -> bool {
        match self {
            Cause::Changed | Cause::Resized | Cause::Unknown => true,
            // It was decided when the hook was begun.
            Cause::Begun => false,
            Cause::Failed(_) => {
                member.is_sidecar() || restart::restarts_after_stop(look.pod, member)
            }
        }
    }

    /// Text of the `Killing` event.
    pub(crate) fn message(self, look: &Look<'_>, member: &Member<'_>) -> String {
        let what = match self {
            Cause::Changed => "definition changed".to_owned(),
            Cause::Resized => {
                return format!("Container {} resize requires restart", member.name());
            }
            Cause::Begun => return format!("Stopping container {}", member.name()),
            Cause::Failed(kind) => format!("failed {} probe", kind.title().to_lowercase()),
            Cause::Unknown => {
                let kind = if member.kind == ContainerKind::App {
                    "Container"
                } else {
                    "Init container"
                };
                return format!("{kind} is in \"unknown\" state, try killing it before restart");
            }
        };
        match member.kind {
            ContainerKind::App if self.restarts(look, member) => {
                format!("Container {} {what}, will be restarted", member.name())
            }
            ContainerKind::App => format!("Container {} {what}", member.name()),
            _ => format!("Init container {} {what}", member.name()),
        }
    }

    /// The probe whose grace counts.
    pub(crate) fn probe<'a>(self, member: &Member<'a>) -> Option<&'a Probe> {
        match self {
            Cause::Failed(kind) => kind.of(member.spec),
            Cause::Changed | Cause::Resized | Cause::Unknown | Cause::Begun => None,
        }
    }
}
