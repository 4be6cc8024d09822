//! Capability sets of a container (spec `§11.4`, `capabilities(7)`).

use thiserror::Error;

use super::spec::CapabilitySets;

/// Every capability by number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has unless told otherwise (containerd's default), without the prefix `CAP_`.
pub const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// All capabilities as a mask.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// A name that is no capability.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown capability {0:?}")]
pub struct UnknownCapability(pub String);

/// The number of a capability named with or without `CAP_`.
pub fn number(name: &str) -> Option<u32> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES.iter().position(|n| *n == name).map(|n| n as u32)
}

/// The sets of a container: the default ones, changed by `add` and `drop`. Explicit names win over `ALL`, drops over adds.
/// Inheritable and ambient stay empty.
pub fn resolve(
    privileged: bool,
    add: &[String],
    drop: &[String],
) -> Result<CapabilitySets, UnknownCapability> {
    let is_all = |name: &String| name.strip_prefix("CAP_").unwrap_or(name) == "ALL";
    let mask = |names: &[String]| {
        names
            .iter()
            .filter(|n| !is_all(n))
            .try_fold(0u64, |mask, name| {
                number(name)
                    .map(|n| mask | 1 << n)
                    .ok_or_else(|| UnknownCapability(name.clone()))
            })
    };
    let (added, dropped) = (mask(add)?, mask(drop)?);
    let start = if privileged {
        ALL
    } else if drop.iter().any(is_all) {
        0
    } else if add.iter().any(is_all) {
        ALL
    } else {
        DEFAULT
            .iter()
            .filter_map(|n| number(n))
            .fold(0, |mask, n| mask | 1 << n)
    };
    let set = if privileged {
        start
    } else {
        (start | added) & !dropped
    };
    Ok(CapabilitySets {
        bounding: set,
        effective: set,
        permitted: set,
        inheritable: 0,
        ambient: 0,
    })
}

/// Whether a set holds the capability of that name; profiles of seccomp ask.
pub fn has(set: u64, name: &str) -> bool {
    number(name).is_some_and(|n| set & 1 << n != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(privileged: bool, add: &[&str], drop: &[&str]) -> u64 {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let sets = resolve(privileged, &own(add), &own(drop)).unwrap();
        assert_eq!(
            (sets.effective, sets.permitted),
            (sets.bounding, sets.bounding)
        );
        assert_eq!((sets.inheritable, sets.ambient), (0, 0));
        sets.bounding
    }

    #[test]
    fn sets_follow_the_rules() {
        // The well-known mask of a container's CapBnd.
        assert_eq!(set(false, &[], &[]), 0xa804_25fb);
        assert_eq!(set(false, &["NET_ADMIN"], &[]), 0xa804_25fb | 1 << 12);
        assert_eq!(
            set(false, &["CAP_SYS_TIME"], &["CAP_CHOWN"]),
            (0xa804_25fb | 1 << 25) & !1
        );
        assert_eq!(set(false, &[], &["ALL"]), 0);
        assert_eq!(set(false, &["NET_BIND_SERVICE"], &["ALL"]), 1 << 10);
        assert_eq!(set(false, &["ALL"], &[]), ALL);
        assert_eq!(set(false, &["ALL"], &["SYS_ADMIN"]), ALL & !(1 << 21));
        assert_eq!(set(false, &["KILL"], &["KILL"]) & 1 << 5, 0);
        assert_eq!(set(true, &[], &["ALL"]), ALL);
    }

    #[test]
    fn unknown_names_are_refused() {
        let error = resolve(false, &["FLY".to_owned()], &[]).unwrap_err();
        assert_eq!(error.to_string(), "unknown capability \"FLY\"");
    }
}
