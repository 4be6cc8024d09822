//! Which sysctls a Pod may set on this node (§8.5).

use k8s_openapi::api::core::v1 as core;
use thiserror::Error;

/// The namespace a sysctl belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

impl Namespace {
    fn name(self) -> &'static str {
        match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
        }
    }
}

/// Those that are safe: isolated between Pods, and no danger to the node. Each exists on every kernel the engine runs on.
const SAFE: [(&str, Namespace); 12] = [
    ("kernel.shm_rmid_forced", Namespace::Ipc),
    ("net.ipv4.ip_local_port_range", Namespace::Net),
    ("net.ipv4.tcp_syncookies", Namespace::Net),
    ("net.ipv4.ping_group_range", Namespace::Net),
    ("net.ipv4.ip_unprivileged_port_start", Namespace::Net),
    ("net.ipv4.ip_local_reserved_ports", Namespace::Net),
    ("net.ipv4.tcp_keepalive_time", Namespace::Net),
    ("net.ipv4.tcp_fin_timeout", Namespace::Net),
    ("net.ipv4.tcp_keepalive_intvl", Namespace::Net),
    ("net.ipv4.tcp_keepalive_probes", Namespace::Net),
    ("net.ipv4.tcp_rmem", Namespace::Net),
    ("net.ipv4.tcp_wmem", Namespace::Net),
];

/// A sysctl with dots between its parts. Names may be written with slashes, and then a dot belongs to a part: what is an interface
/// name stays whole.
fn normalise(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('/') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Sysctls that Pods of a node may set although they are not safe (`allowedUnsafeSysctls`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnsafeSysctls(Vec<(String, Namespace)>);

/// Why a sysctl cannot be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("allowedUnsafeSysctls: {pattern:?}: {why}")]
pub struct BadSysctl {
    pattern: String,
    why: &'static str,
}

impl UnsafeSysctls {
    /// Reads names of sysctls; a `*` at the end of one stands for whatever follows.
    ///
    /// # Errors
    /// The first that is no such name, or that all Pods and the node have in common.
    pub fn read(patterns: &[String]) -> Result<Self, BadSysctl> {
        let read = |written: &String| {
            let bad = |why| BadSysctl {
                pattern: written.clone(),
                why,
            };
            let pattern = normalise(written);
            let name = pattern.strip_suffix('*').unwrap_or(&pattern);
            if name.is_empty() || name.contains(|c: char| c == '*' || c.is_whitespace()) {
                return Err(bad(
                    "only names, and beginnings of names with a * behind them, are allowed",
                ));
            }
            let namespace = namespace_of(name);
            let namespace = namespace.ok_or_else(|| bad("it is not known to be namespaced"))?;
            Ok((pattern, namespace))
        };
        patterns
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn namespace(&self, name: &str) -> Option<Namespace> {
        let is_of = |pattern: &str| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        };
        let allowed = self.0.iter().find(|(pattern, _)| is_of(pattern));
        allowed.map(|(_, namespace)| *namespace)
    }
}

/// The namespace that sysctls of this name, or with this beginning, belong to.
fn namespace_of(name: &str) -> Option<Namespace> {
    const IPC: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    if IPC.iter().any(|known| name.starts_with(known)) {
        Some(Namespace::Ipc)
    } else {
        name.starts_with("net.").then_some(Namespace::Net)
    }
}

/// The first sysctl the node refuses, in the words of the event.
pub(crate) fn forbidden(pod: &core::Pod, allowed: &UnsafeSysctls) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let sysctls = spec.security_context.as_ref()?.sysctls.as_ref()?;
    let on_host = |namespace| match namespace {
        Namespace::Ipc => spec.host_ipc,
        Namespace::Net => spec.host_network,
    };
    sysctls.iter().find_map(|sysctl| {
        let name = normalise(&sysctl.name);
        let safe = SAFE.iter().find(|(safe, _)| *safe == name);
        let safe = safe.map(|(_, namespace)| *namespace);
        let why = match safe.or_else(|| allowed.namespace(&name)) {
            None => "not allowlisted".to_owned(),
            Some(namespace) if on_host(namespace) == Some(true) => {
                format!("not allowed with host {} enabled", namespace.name())
            }
            Some(_) => return None,
        };
        Some(format!("forbidden sysctl: {name:?} {why}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_safe_ones_of_the_pods_own_namespaces() {
        let allowed = ["kernel/sem".to_owned(), "net.ipv4.route.*".to_owned()];
        let allowed = UnsafeSysctls::read(&allowed).expect("both have a namespace");
        let table = [
            (
                json!({}),
                vec!["kernel.sem", "net/ipv4/route/min_pmtu"],
                None,
            ),
            (
                json!({"hostIPC": true}),
                vec!["kernel.sem"],
                Some("forbidden sysctl: \"kernel.sem\" not allowed with host IPC enabled"),
            ),
            (json!({}), vec!["kernel.shm_rmid_forced"], None),
            (json!({}), vec!["net/ipv4/tcp_syncookies"], None),
            (
                json!({}),
                vec!["net.ipv4.tcp_rmem", "kernel.msgmax"],
                Some("forbidden sysctl: \"kernel.msgmax\" not allowlisted"),
            ),
            (
                json!({}),
                vec!["net/core/somaxconn"],
                Some("forbidden sysctl: \"net.core.somaxconn\" not allowlisted"),
            ),
            (
                json!({"hostIPC": true}),
                vec!["kernel.shm_rmid_forced"],
                Some(
                    "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host IPC enabled",
                ),
            ),
            (
                json!({"hostNetwork": true}),
                vec!["net.ipv4.tcp_fin_timeout"],
                Some(
                    "forbidden sysctl: \"net.ipv4.tcp_fin_timeout\" not allowed with host Net enabled",
                ),
            ),
        ];
        for (mut spec, names, want) in table {
            let sysctls: Vec<_> = names
                .iter()
                .map(|name| json!({"name": name, "value": "1"}))
                .collect();
            spec["containers"] = json!([]);
            spec["securityContext"] = json!({"sysctls": sysctls});
            let pod: core::Pod = serde_json::from_value(json!({"spec": spec})).expect("a Pod");
            assert_eq!(forbidden(&pod, &allowed).as_deref(), want, "{names:?}");
        }
    }

    #[test]
    fn what_is_not_namespaced_cannot_be_allowed() {
        for (pattern, want) in [
            ("vm.swappiness", "it is not known to be namespaced"),
            ("kernel.*", "it is not known to be namespaced"),
            ("net.*.x", "only names, and"),
            ("*", "only names, and"),
            (" net.a", "only names, and"),
        ] {
            let error = UnsafeSysctls::read(&[pattern.to_owned()]).expect_err(pattern);
            assert!(error.to_string().contains(want), "{error}");
        }
        let whole = ["kernel.shm*", "kernel.msg*", "fs.mqueue.*", "net.*"];
        let whole = whole.map(str::to_owned);
        assert!(UnsafeSysctls::read(&whole).is_ok());
    }

    #[test]
    fn slashes_are_dots() {
        for (name, want) in [
            ("kernel.sem", "kernel.sem"),
            ("kernel/sem", "kernel.sem"),
            (
                "net/ipv4/conf/eno2.100/rp_filter",
                "net.ipv4.conf.eno2/100.rp_filter",
            ),
            (
                "net.ipv4.conf.eno2/100.rp_filter",
                "net.ipv4.conf.eno2/100.rp_filter",
            ),
        ] {
            assert_eq!(normalise(name), want);
        }
    }
}
