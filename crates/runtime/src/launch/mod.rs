//! The launcher: makes a container's mount namespace and starts its first process, and runs further processes in it.
//!
//! Called by pause, synchronously, in its only thread:
//!
//! ```ignore
//! impl Launcher {
//!     pub fn new() -> Result<Launcher, LaunchError>;
//!     pub fn launch(&self, spec: &LaunchSpec, fds: LaunchFds<'_>) -> Result<Launched, LaunchError>;
//!     pub fn exec(&self, spec: &ExecSpec, fds: ExecFds<'_>) -> Result<Launched, LaunchError>;
//! }
//! ```

mod error;
mod spec;

pub use error::{Errno, LaunchError};
pub use spec::*;
