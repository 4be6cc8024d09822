//! Profiles as OCI and Docker write them (OCI runtime specification, `linux.seccomp`; Docker's has conditions on top).

use serde::Deserialize;

use super::SeccompError;
use super::policy::{Action, Compare, Policy, Rule, Test};
use super::syscalls;
use crate::launch::capabilities;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Syscalls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls {
    #[serde(default)]
    names: Vec<String>,
    /// Docker's older form.
    name: Option<String>,
    action: String,
    errno_ret: Option<u16>,
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Conditions,
    #[serde(default)]
    excludes: Conditions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Docker's conditions. Kernel versions are all older than any this runs on.
#[derive(Deserialize, Default)]
struct Conditions {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

#[cfg(target_arch = "x86_64")]
const ARCH: &str = "amd64";
#[cfg(target_arch = "aarch64")]
const ARCH: &str = "arm64";

/// Reads a profile for a container with these capabilities; returns the policy and `seccomp(2)` flags.
pub(super) fn parse(text: &str, capabilities: u64) -> Result<(Policy, u32), SeccompError> {
    let profile: Profile = serde_json::from_str(text).map_err(SeccompError::Json)?;
    let mut policy = Policy::new(action(&profile.default_action, profile.default_errno_ret)?);
    for entry in profile.syscalls.iter().filter(|e| applies(e, capabilities)) {
        let action = action(&entry.action, entry.errno_ret)?;
        let tests = entry
            .args
            .iter()
            .flatten()
            .map(test)
            .collect::<Result<Vec<_>, _>>()?;
        for name in entry.names.iter().chain(&entry.name) {
            // Profiles name the calls of every architecture and kernel; runc passes over those it does not know, too.
            let Some(number) = syscalls::number(name) else {
                continue;
            };
            for tests in alternatives(&tests) {
                policy.add(number, Rule { tests, action });
            }
        }
    }
    let flags = profile
        .flags
        .iter()
        .map(|f| flag(f))
        .sum::<Result<u32, _>>()?;
    Ok((policy, flags))
}

fn applies(entry: &Syscalls, set: u64) -> bool {
    let has = |cap: &String| capabilities::has(set, cap);
    let (yes, no) = (&entry.includes, &entry.excludes);
    yes.caps.iter().all(has)
        && !no.caps.iter().any(has)
        && (yes.arches.is_empty() || yes.arches.iter().any(|a| a == ARCH))
        && !no.arches.iter().any(|a| a == ARCH)
}

/// Tests of one argument several times mean one or the other, as runc reads them; else all of them.
fn alternatives(tests: &[Test]) -> Vec<Vec<Test>> {
    let mut seen = [false; 6];
    let twice = tests
        .iter()
        .any(|t| std::mem::replace(&mut seen[usize::from(t.argument)], true));
    if twice {
        tests.iter().map(|t| vec![*t]).collect()
    } else {
        vec![tests.to_vec()]
    }
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, SeccompError> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        other => return Err(SeccompError::Action(other.to_owned())),
    })
}

fn test(argument: &Argument) -> Result<Test, SeccompError> {
    if argument.index > 5 {
        return Err(SeccompError::Argument(argument.index));
    }
    let (compare, value) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (Compare::NotEqual, argument.value),
        "SCMP_CMP_LT" => (Compare::Less, argument.value),
        "SCMP_CMP_LE" => (Compare::LessOrEqual, argument.value),
        "SCMP_CMP_EQ" => (Compare::Equal, argument.value),
        "SCMP_CMP_GE" => (Compare::GreaterOrEqual, argument.value),
        "SCMP_CMP_GT" => (Compare::Greater, argument.value),
        "SCMP_CMP_MASKED_EQ" => (Compare::Masked(argument.value), argument.value_two),
        other => return Err(SeccompError::Operator(other.to_owned())),
    };
    Ok(Test {
        argument: argument.index,
        compare,
        value,
    })
}

fn flag(name: &str) -> Result<u32, SeccompError> {
    match name {
        // A filter of one thread needs no synchronising.
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(0),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(2),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(4),
        other => Err(SeccompError::Flag(other.to_owned())),
    }
}
