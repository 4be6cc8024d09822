//! What stands for the Pod in the API: itself, or, for a static Pod, a mirror that comes and goes without it. A static Pod waits for
//! nothing that is written there.

use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use lifecycle::termination::spec_grace;

use super::Worker;
use super::perform::later;
use crate::report;

/// What stands for a Pod in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Face {
    /// The Pod itself.
    Itself,
    /// There has been nothing yet since this worker began.
    Unheard,
    /// An object of its own UID, if there is one now.
    Mirror(Option<String>),
}

impl Face {
    pub(super) fn of(pod: &Pod) -> Self {
        match api::pod::is_static(pod) {
            true => Face::Unheard,
            false => Face::Itself,
        }
    }
}

impl Worker {
    pub(super) fn is_static(&self) -> bool {
        self.face != Face::Itself
    }

    /// The UID of what the status is written to, if there is anything.
    pub(super) fn face_uid(&self) -> Option<&str> {
        match &self.face {
            Face::Itself => Some(&self.uid),
            Face::Unheard => None,
            Face::Mirror(uid) => uid.as_deref(),
        }
    }

    /// Takes in what stands for a static Pod from now on, or as it has changed.
    pub(super) fn mirrored(&mut self, mirror: Option<Pod>) {
        let Some(mirror) = mirror else {
            if self.face != Face::Unheard {
                self.face = Face::Mirror(None);
            }
            return;
        };
        let face = Face::Mirror(mirror.metadata.uid.clone());
        let foreign = mirror.status.unwrap_or_default();
        let mut reported = self.pod.status.clone().unwrap_or_default();
        if self.face == face {
            self.stored = Arc::new(report::adopt(Some(&foreign), &self.stored));
        } else {
            if self.face == Face::Unheard {
                reported = report::carry_on(&foreign, reported);
            }
            self.stored = Arc::new(foreign.clone());
            self.refused = None;
            self.writing = None;
        }
        self.face = face;
        Arc::make_mut(&mut self.pod).status = Some(report::adopt(Some(&foreign), &reported));
    }

    /// The Pod is not wanted any more, and has its grace to end.
    pub(super) fn end(&mut self) {
        let grace = spec_grace(&self.pod);
        let at = later(self.agent.now(), SignedDuration::from_secs(grace));
        let meta = &mut Arc::make_mut(&mut self.pod).metadata;
        meta.deletion_timestamp = Some(Time(at));
        meta.deletion_grace_period_seconds = Some(grace);
    }
}
