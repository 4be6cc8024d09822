//! Measuring what a Pod with a limit uses of the node's disk (spec `§2.9`). Only that polls: the kernel tells nobody.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use lifecycle::WorkerPhase;
use lifecycle::storage::{self, Usage};
use tokio::time::Instant;

use super::Worker;
use crate::blocking;
use crate::disk;

/// How often (upstream's monitoring interval).
const PERIOD: Duration = Duration::from_secs(10);

/// When a Pod is measured, and the measurement that is under way.
#[derive(Default)]
pub(super) struct Measuring {
    pub(super) at: Option<Instant>,
    pub(super) running: Option<BoxFuture<'static, Usage>>,
}

impl Worker {
    /// When the Pod is to be measured next: never if nothing of it is limited, or while it is being measured.
    pub(super) fn measure_at(&mut self) -> Option<Instant> {
        let wanted = self.is_measured
            && self.is_mounted()
            && self.seen.memory.phase == WorkerPhase::Syncing
            && self.seen.memory.eviction.is_none();
        if !wanted || self.measuring.running.is_some() {
            self.measuring.at = None;
            return None;
        }
        Some(
            *self
                .measuring
                .at
                .get_or_insert_with(|| Instant::now() + PERIOD),
        )
    }

    /// Begins to measure.
    pub(super) fn measure(&mut self) {
        let volumes = self.mounted.paths.iter();
        let own: BTreeMap<String, PathBuf> = volumes
            .filter(|(name, _)| storage::is_own(&self.pod, name))
            .map(|(name, path)| (name.clone(), path.clone()))
            .collect();
        let runtime = self.agent.runtime.clone();
        let containers = self.records.containers.clone();
        let logs = self.agent.log_directory(&self.pod);
        let measured = async move {
            let mut layers = Vec::new();
            for container in containers {
                // One that was removed meanwhile uses nothing.
                if let Ok(layer) = runtime.writable_layer(&container.id).await {
                    layers.push((container.name, layer));
                }
            }
            blocking::run(move || disk::usage(own, layers, &logs)).await
        };
        self.measuring.running = Some(measured.boxed());
    }

    /// Takes in what was measured.
    pub(super) fn measured(&mut self, usage: &Usage) {
        self.seen.memory.eviction = storage::judge(&self.pod, usage);
    }
}
