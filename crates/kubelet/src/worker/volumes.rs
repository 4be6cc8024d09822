//! The Pod's volumes: setting them up, and keeping them as the objects they are made from.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use lifecycle::{Event, VolumesSeen, WorkerPhase};

use super::Worker;
use super::perform::later;
use crate::mounting::{self, Before, SetUp};
use crate::objects::{ObjectRef, Objects, Subscription};

/// Least and greatest wait between two tries of a volume (spec `§10.1`).
const VOLUME_RETRY: Duration = Duration::from_millis(500);
const VOLUME_RETRY_MAX: Duration = Duration::from_secs(122);

/// How long is waited for volumes to be attached before that is told of (upstream's podAttachAndMountTimeout).
const ATTACHING: SignedDuration = SignedDuration::from_secs(123);

impl Worker {
    pub(super) fn is_mounted(&self) -> bool {
        self.seen.volumes == VolumesSeen::Ready
    }

    pub(super) fn subscribe(&self, read: Vec<(ObjectRef, Option<String>)>) -> Vec<Subscription> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        read.into_iter()
            .map(|(reference, version)| {
                self.agent.watches.subscribe(namespace, &reference, version)
            })
            .collect()
    }

    pub(super) fn volume_object_changed(&mut self) {
        if matches!(self.seen.volumes, VolumesSeen::Failed { .. }) {
            // The next look sets them up.
            self.seen.volumes = VolumesSeen::Pending;
        }
    }

    pub(super) fn rotate_tokens(&mut self) {
        let now = self.agent.now();
        if self.is_mounted() && self.mounted.tokens.values().any(|t| t.refresh_at <= now) {
            self.start_refresh();
        }
    }

    /// Whether volumes follow what they are made from.
    pub(super) fn is_kept_up_to_date(&self) -> bool {
        self.is_mounted() && self.seen.memory.phase == WorkerPhase::Syncing
    }

    /// Begins to bring volumes up to date, one time after another: what replaces files removes those it has replaced.
    pub(super) fn start_refresh(&mut self) {
        self.refreshes_again = self.refresh.is_some();
        if self.is_kept_up_to_date() && !self.refreshes_again {
            self.refresh = Some(self.set_up_volumes(Before {
                paths: self.mounted.paths.clone(),
                objects: Objects::held_by(&self.volume_objects),
            }));
        }
    }

    pub(super) fn refreshed(&mut self, setup: SetUp) {
        self.refresh = None;
        for (volume, error) in setup.errors.iter().chain(&setup.unknown) {
            tracing::warn!(
                pod = self.uid,
                volume,
                error,
                "bringing a volume up to date"
            );
        }
        let is_done = setup.is_done();
        if is_done {
            self.mounted.paths = Arc::new(setup.paths);
        }
        self.mounted.tokens = setup.tokens;
        if !is_done {
            let later = self
                .agent
                .now()
                .checked_add(SignedDuration::from_secs(60))
                .unwrap_or(Timestamp::MAX);
            self.mounted
                .tokens
                .values_mut()
                .for_each(|t| t.refresh_at = t.refresh_at.max(later));
        }
        if self.refreshes_again {
            self.start_refresh();
        }
    }

    pub(super) fn set_up_volumes(&self, before: Before) -> BoxFuture<'static, SetUp> {
        mounting::set_up(
            self.agent.clone(),
            self.pod.clone(),
            self.pod_ips(),
            before,
            self.mounted.tokens.clone(),
        )
        .boxed()
    }

    pub(super) fn volumes_done(&mut self, setup: SetUp) {
        let complaints = setup.complaints(&self.pod);
        let (is_done, only_waits) = (setup.is_done(), setup.only_waits());
        self.volume_objects = self.subscribe(setup.read);
        self.mounted.tokens = setup.tokens;
        if is_done {
            self.mounted.paths = Arc::new(setup.paths);
            self.mounted.failures = 0;
            self.mounted.waits_since = None;
            self.seen.volumes = VolumesSeen::Ready;
            return;
        }
        if only_waits && self.may_wait() {
            return;
        }
        self.mounted.waits_since = None;
        for message in complaints {
            let event = Event::warning("FailedMount", message);
            self.agent.recorder.record(&self.pod, event);
        }
        let wait = VOLUME_RETRY
            .saturating_mul(1 << self.mounted.failures.min(8))
            .min(VOLUME_RETRY_MAX);
        self.mounted.failures = self.mounted.failures.saturating_add(1);
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
        self.seen.volumes = VolumesSeen::Failed {
            retry_at: later(self.agent.now(), wait),
        };
        self.queue.clear();
    }

    /// Whether volumes may still be attached in time; then nothing else is done but to wait for that.
    fn may_wait(&mut self) -> bool {
        let now = self.agent.now();
        let since = *self.mounted.waits_since.get_or_insert(now);
        let until = later(since, ATTACHING);
        let may_wait = now < until;
        if may_wait {
            self.seen.volumes = VolumesSeen::Failed { retry_at: until };
            self.queue.clear();
        }
        may_wait
    }
}
