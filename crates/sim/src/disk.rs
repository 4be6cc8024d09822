//! The real store on a disk that may be full, committing as one step.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use ports::store::{
    Change, Durability, Entry, Revision, RevisionedStore, StoreError, Unchanged, Watch, Write,
};
use store::Store;

use crate::check;
use crate::world::{Holder, World};

/// A store that is committed to as if by a function call: while its thread works, nothing else does and no time passes.
pub(crate) struct Disk {
    pub(crate) world: Arc<World>,
    pub(crate) holder: Holder,
    pub(crate) store: Store,
}

const PODS: &str = "/registry/pods/";
const NODES: &str = "/registry/nodes/";
/// Among them certificates, which are new each time.
const CONFIG_MAPS: &str = "/registry/configmaps/";

#[async_trait]
impl RevisionedStore for Disk {
    fn revision(&self) -> Revision {
        self.store.revision()
    }

    fn get(&self, key: &str) -> Option<Entry> {
        self.store.get(key)
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Revision, Vec<Entry>) {
        self.store.range(prefix, after, limit)
    }

    async fn commit_all(
        &self,
        writes: Vec<Write>,
        unchanged: Option<Unchanged>,
        durability: Durability,
    ) -> Result<Vec<Entry>, StoreError> {
        self.world.step(self.holder).await;
        let passed = self.world.clock.passed();
        if passed < self.world.lock().full_until {
            return Err(StoreError::Storage("database or disk is full".to_owned()));
        }
        let are_deletions: Vec<bool> = writes
            .iter()
            .map(|write| matches!(write.change, Change::Delete(_)))
            .collect();
        let committed =
            futures::executor::block_on(self.store.commit_all(writes, unchanged, durability));
        for (entry, is_deletion) in committed.iter().flatten().zip(are_deletions) {
            let key = &*entry.key;
            let told = (!key.starts_with(CONFIG_MAPS)).then_some(&entry.value[..]);
            self.world.note((key, entry.mod_revision, told));
            if key.starts_with(PODS) {
                self.check(entry, is_deletion);
            } else if let Some(kind) = check::kind_of(key) {
                let mut state = self.world.lock();
                let object = serde_json::from_slice(&entry.value).unwrap_or_default();
                let found = state.checks.workload_stored(kind, object, is_deletion);
                self.world.found(&mut state, found);
            } else if key.starts_with(NODES)
                && let Ok(node) = serde_json::from_slice(&entry.value)
            {
                self.world.lock().checks.node_stored(node);
            }
        }
        self.world.step(self.holder).await;
        committed
    }

    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.store.watch(prefix, from)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        futures::executor::block_on(self.store.compact(revision))
    }
}

impl Disk {
    fn check(&self, entry: &Entry, is_deletion: bool) {
        let passed = self.world.clock.passed();
        let now = ports::clock::Clock::now(&*self.world.clock);
        let mut state = self.world.lock();
        let state = &mut *state;
        match serde_json::from_slice::<Pod>(&entry.value) {
            Ok(pod) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let is_new = !state.checks.knows(&uid);
                let (line, found) = if is_deletion {
                    state.checks.removed(pod, &state.machine, passed)
                } else {
                    state.checks.stored(pod, passed, now)
                };
                if let Some(line) = line {
                    self.world.trace_in(state, line);
                }
                self.world.found(state, found);
                if is_new {
                    let found = state.checks.pod_made(&uid, passed);
                    self.world.found(state, found);
                }
            }
            Err(error) => self
                .world
                .found(state, Err(format!("a stored pod cannot be read: {error}"))),
        }
    }
}
