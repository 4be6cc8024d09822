//! What will become of a Pod if its containers behave as somebody supposes: the same [`crate::plan`] and [`crate::status`] as on a
//! node, under a clock that jumps from one happening to the next, without containers.
//!
//! [`forecast`] is what `carob plan` shows. [`Node`] is what it runs on, and what the properties of the Pod lifecycle are tested on.
//! What takes time on a real node and is not up to the rules (mounts, pulls, starts, attempts at probes) takes none here.

mod conduct;
mod node;
mod probing;
mod steps;
mod timeline;
mod watch;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

pub use conduct::{Answers, Conduct, Run, Starts};
pub use node::{Node, Restless};
pub use timeline::{Moment, Shown, State, Told};
pub use watch::Watch;

use timeline::Recorder;

/// When every forecast begins: it does not depend on the day it is made.
const BEGIN: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// The predicted life of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// What is reported, each change at its time, in order.
    pub moments: Vec<Moment>,
    /// Events, in order.
    pub events: Vec<Told>,
    /// The Pod has ended and nothing is left to do about it; else it goes on beyond the horizon.
    pub is_finished: bool,
}

/// Predicts the life of a Pod that has its defaults and is bound to a node, up to the horizon.
///
/// # Errors
/// When the plans for it never come to rest.
pub fn forecast(pod: Pod, conduct: Conduct, horizon: SignedDuration) -> Result<Forecast, Restless> {
    let mut node = Node::new(pod, conduct, BEGIN, Recorder::new(BEGIN));
    node.live_until(crate::text::after(BEGIN, horizon))?;
    let is_finished = node.is_finished();
    let (moments, events) = node.watch.moments();
    Ok(Forecast {
        moments,
        events,
        is_finished,
    })
}
