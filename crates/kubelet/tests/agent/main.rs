//! The agent among fakes: an API, a runtime, images and volumes in memory, on paused time.

mod admission;
mod ephemeral;
mod hooks;
mod images;
mod node;
mod pressure;
mod probes;
mod resize;
mod statics;
mod support;
mod worker;
