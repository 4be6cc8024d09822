//! Which sysctls a Pod may set on this node (§8.5).

use k8s_openapi::api::core::v1 as core;

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

/// The first sysctl the node refuses, in the words of the event.
pub(crate) fn forbidden(pod: &core::Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let sysctls = spec.security_context.as_ref()?.sysctls.as_ref()?;
    let on_host = |namespace| match namespace {
        Namespace::Ipc => spec.host_ipc,
        Namespace::Net => spec.host_network,
    };
    sysctls.iter().find_map(|sysctl| {
        let name = normalise(&sysctl.name);
        let why = match SAFE.iter().find(|(safe, _)| *safe == name) {
            None => "not allowlisted".to_owned(),
            Some((_, namespace)) if on_host(*namespace) == Some(true) => {
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
        let table = [
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
            assert_eq!(forbidden(&pod).as_deref(), want, "{names:?}");
        }
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
