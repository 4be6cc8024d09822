//! What can be told of a [`super::Node`] while it lives.

use cri::Id;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use crate::observed::{Memory, Observed};
use crate::plan::{Event, Plan, Start, Step};
use crate::probe::{Health, Kind};

/// Hears of everything that happens on a node.
#[expect(unused_variables, reason = "a watch hears what it wants to")]
pub trait Watch {
    /// A plan was made with this memory, and is about to be carried out.
    fn planned(&mut self, memory: &Memory, plan: &Plan, now: Timestamp) {}

    /// A step is about to be taken.
    fn about_to(&mut self, step: &Step, pod: &Pod, seen: &Observed, now: Timestamp) {}

    /// A run began, or was made and could not begin.
    fn started(&mut self, start: &Start) {}

    /// A run ended.
    fn ended(&mut self, container: &str, at: Timestamp, exit_code: i32, memory: &Memory) {}

    /// A registry was asked for an image it does not have.
    fn pull_failed(&mut self, image: &str, now: Timestamp) {}

    /// A probe established something of a run.
    fn probed(&mut self, id: &Id, kind: Kind, health: Health) {}

    /// An event was reported.
    fn told(&mut self, event: &Event, now: Timestamp) {}

    /// A status was reported: the new one is not yet in `pod`. It may be the same as the last.
    fn reported(&mut self, pod: &Pod, seen: &Observed, status: &PodStatus, now: Timestamp) {}

    /// The agent died, and came back with nothing but what it can see.
    fn agent_died(&mut self) {}
}

impl Watch for () {}
