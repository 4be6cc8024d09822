//! Owners that are known not to exist.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::Object;

/// So many are remembered, as upstream does; of others the API is asked again.
const MOST: usize = 500;

/// The latest of them.
#[derive(Debug, Default)]
pub(super) struct Absent {
    known: BTreeSet<Arc<Object>>,
    order: VecDeque<Arc<Object>>,
}

impl Absent {
    pub(super) fn insert(&mut self, object: Arc<Object>) {
        if !self.known.insert(object.clone()) {
            return;
        }
        self.order.push_back(object);
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(super) fn has(&self, object: &Object) -> bool {
        self.known.contains(object)
    }
}
