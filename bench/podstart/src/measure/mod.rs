//! One module a measure. Each makes its Pods, removes them, and returns lines of the report.

pub(crate) mod boot;
pub(crate) mod exit;
pub(crate) mod idle;
pub(crate) mod many;
pub(crate) mod podman;
pub(crate) mod start;

use std::time::Duration;

use crate::pods::Recipe;
use crate::target::Target;

/// What measures on running servers work with.
pub(crate) struct Bench {
    pub(crate) carob: Target,
    pub(crate) peer: Option<Target>,
    pub(crate) recipe: Recipe,
    /// Before each Pod that is measured alone.
    pub(crate) rest: Duration,
}

impl Bench {
    /// Carob, then the peer if there is one.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.carob).chain(&self.peer)
    }
}
