//! In-place resize of cpu and memory (§12.7): what was allocated, whether more can be, and how the kernel gets there.
//!
//! What a Pod's spec asks for becomes its *allocation* once the node has room ([`crate::room`]); until then the resize is pending. An
//! allocation is noted in the record of the Pod's sandbox before anything relies on it, so it outlives the agent. Everything else of
//! these rules, and the agent, works with the Pod as allocated ([`Allocation::apply`]). What a container was actually given is noted
//! in its own record ([`ACTUATED`]); while that differs from the allocation the resize is in progress.
//!
//! Left to others: what a user may ask for (`admission`), and the values in the kernel's units ([`crate::resources`]).

mod actuate;
mod allocation;
mod report;
mod shown;
mod words;

pub use actuate::{Change, Resize, Shrink, Target, needs_restart, refused};
pub use allocation::{ACTUATED, ALLOCATED, Allocation};
pub use report::{Pending, Progress, ResizeError, Resizing};
pub use words::{completed, deferred, failed, started};

pub(crate) use actuate::{plan, settle};
pub(crate) use report::{CONDITIONS, conditions};
pub(crate) use shown::{container as shown_container, pod as shown_pod};
