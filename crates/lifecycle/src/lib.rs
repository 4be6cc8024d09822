//! The life of a Pod, decided: what to do next, and what to report.
//!
//! Two pure functions hold every rule of the Pod lifecycle. [`plan`] reads the Pod, what is observed of it and the time, and
//! returns steps, the reasons for them and the next time to look. [`status`] reads the same and returns the status to report.
//! Nothing here waits, acts, or asks what time it is: same input, same output. The node agent, the simulator and `carob plan`
//! all drive these same functions.
//!
//! Rules are cited by section of the Pod lifecycle specification (`§1.6` and so on).

mod admit;
pub mod budget;
mod cause;
mod conditions;
mod container_status;
mod decide;
mod display;
mod ephemeral;
pub mod events;
pub mod forecast;
pub mod huge_pages;
pub mod image;
mod init;
pub mod kinds;
mod look;
pub mod messages;
pub mod node_events;
mod observed;
mod phase;
mod plan;
pub mod preempt;
pub mod pressure;
pub mod probe;
pub mod reference;
pub mod resize;
pub mod resources;
pub mod restart;
mod restart_all;
pub mod room;
mod sandbox;
pub mod share;
mod starting;
mod status;
mod stopping;
pub mod storage;
mod sync;
mod sysctl;
pub mod termination;
pub mod text;

pub use admit::{Rejection, admit, is_about_labels};
pub use container_status::RUNTIME_NAME;
pub use decide::plan;

pub use observed::{
    BackOff, ContainerKind, Eviction, Memory, Observed, PreStopping, PullBackOff, Retry,
    StartError, Stopping, Termination, Verdict, VolumesSeen, WorkerPhase,
};
pub use plan::{Event, EventType, NodePolicy, Plan, PreStop, Reason, Start, Step, Stop};
pub use status::status;
pub use sysctl::{BadSysctl, UnsafeSysctls};
