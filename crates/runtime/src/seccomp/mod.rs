//! Seccomp filters: the engine's default profile and profiles of users, compiled to BPF.
//!
//! Compiling happens in the engine, once per profile and set of capabilities; pause only installs the result. The filter decides
//! by binary search, so calls cost a dozen steps where a list of comparisons costs hundreds. Calls of 32-bit programs and of the
//! x32 interface fail with ENOSYS. Notifying a supervisor (`SCMP_ACT_NOTIFY`) is not offered.

mod compile;
mod json;
mod policy;
mod syscalls;
mod text;

use thiserror::Error;

use crate::launch::SeccompProgram;

/// Why a profile is of no use.
#[derive(Debug, Error)]
pub enum SeccompError {
    /// It is no JSON, or not of a profile's shape.
    #[error("decoding seccomp profile failed")]
    Json(#[source] serde_json::Error),
    /// An unknown or unsupported action.
    #[error("string {0} is not a valid action for seccomp")]
    Action(String),
    /// An unknown comparison.
    #[error("string {0} is not a valid operator for seccomp")]
    Operator(String),
    /// An unknown flag.
    #[error("unknown seccomp flag {0:?}")]
    Flag(String),
    /// There are six arguments.
    #[error("seccomp argument index {0} is not between 0 and 5")]
    Argument(u8),
    /// The kernel takes at most 4096 instructions.
    #[error("seccomp profile compiles to {0} instructions, more than the kernel takes")]
    TooLong(usize),
}

/// The default filter (`RuntimeDefault`) for a container with these bounding capabilities.
pub fn runtime_default(capabilities: u64) -> SeccompProgram {
    // The profile is part of the program; a test reads it for every kind of capability set.
    let policy = text::parse(text::DEFAULT, capabilities)
        .unwrap_or_else(|_| policy::Policy::new(policy::Action::KillProcess));
    SeccompProgram {
        instructions: compile::compile(&policy),
        flags: 0,
    }
}

/// The filter of a profile in OCI's or Docker's JSON (`Localhost`), for a container with these bounding capabilities.
pub fn compile_profile(json: &str, capabilities: u64) -> Result<SeccompProgram, SeccompError> {
    let (policy, flags) = json::parse(json, capabilities)?;
    let instructions = compile::compile(&policy);
    if instructions.len() > compile::MAX {
        return Err(SeccompError::TooLong(instructions.len()));
    }
    Ok(SeccompProgram {
        instructions,
        flags,
    })
}

#[cfg(test)]
mod tests;
