//! What the node's Pods were allocated, who is let in, and who waits for more (spec `§1.2`, `§12.7`): the one table that all workers
//! share. Who gets what is decided by [`lifecycle::room`]; here it is kept, and whoever waits is told.
//!
//! Nobody is answered before all Pods of the node are known. What was granted counts at once; that it is on disk before anything
//! relies on it is the worker's to see to.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Node, Pod};
use lifecycle::preempt::Standing;
use lifecycle::room::{Answer, Ask, Room};
use lifecycle::share::Share;
use lifecycle::{Rejection, UnsafeSysctls};
use tokio::sync::watch;

/// The table.
pub(crate) struct Allocations {
    table: Mutex<Table>,
    changed: watch::Sender<()>,
}

struct Table {
    room: Room,
    /// All Pods of the node are in it.
    is_whole: bool,
    /// Pods that were granted what they asked for last.
    granted: BTreeSet<String>,
}

impl Table {
    fn hold(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.room.hold(uid, Share::of(pod));
        self.room.stand(uid, Standing::of(pod));
    }
}

impl Allocations {
    /// Those of a node that has so much.
    pub(crate) fn new(capacity: Share) -> Self {
        let table = Table {
            room: Room::new(capacity),
            is_whole: false,
            granted: BTreeSet::new(),
        };
        Allocations {
            table: Mutex::new(table),
            changed: watch::Sender::new(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table, grants what fits then, and tells whoever waits.
    fn change(&self, change: impl FnOnce(&mut Table)) {
        let mut table = self.lock();
        change(&mut table);
        if table.is_whole {
            let granted = table.room.grant();
            table.granted.extend(granted);
            self.changed.send_replace(());
        }
    }

    /// All Pods of the node are known.
    pub(crate) fn whole(&self) {
        self.change(|table| table.is_whole = true);
    }

    /// The node has so much from now on.
    pub(crate) fn resize(&self, capacity: Share) {
        if *self.lock().room.capacity() != capacity {
            self.change(|table| table.room.resize(capacity));
        }
    }

    /// Lets a Pod in, which is allocated what it asks for then; UIDs of the Pods that have to go before it begins.
    ///
    /// # Errors
    /// Why the node does not take it.
    pub(crate) fn admit(
        &self,
        pod: &Pod,
        node: &Node,
        unsafe_sysctls: &UnsafeSysctls,
    ) -> Result<Vec<String>, Rejection> {
        // Nobody else is granted what this one was told to be left.
        let mut table = self.lock();
        let victims = lifecycle::admit(pod, node, &table.room, unsafe_sysctls)?;
        table.hold(pod);
        Ok(victims)
    }

    /// A Pod was allocated what its spec says.
    pub(crate) fn hold(&self, pod: &Pod) {
        self.change(|table| table.hold(pod));
    }

    /// UIDs of Pods that were allocated something.
    pub(crate) fn holders(&self) -> BTreeSet<String> {
        self.lock().room.holders().map(str::to_owned).collect()
    }

    /// Waits until a Pod holds nothing any more.
    pub(crate) async fn left(&self, uid: &str) {
        let mut changes = self.changes();
        while self.lock().room.is_held(uid) {
            // It never closes: the sender is here.
            let _ = changes.changed().await;
        }
    }

    /// A Pod is done with what it was allocated.
    pub(crate) fn leave(&self, uid: &str) {
        self.change(|table| {
            table.room.leave(uid);
            table.granted.remove(uid);
        });
    }

    /// A Pod asks for another size, or for none but what it has.
    pub(crate) fn ask(&self, uid: &str, ask: Option<Ask>) {
        self.change(|table| {
            table.granted.remove(uid);
            table.room.ask(uid, ask);
        });
    }

    /// What became of a Pod's question, once there is an answer.
    pub(crate) fn answer(&self, uid: &str) -> Option<Answer> {
        let table = self.lock();
        if table.granted.contains(uid) {
            return Some(Answer::Granted);
        }
        let obstacle = table.room.obstacle(uid).filter(|_| table.is_whole);
        obstacle.map(Answer::Deferred)
    }

    /// Changes whenever an answer may have.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
