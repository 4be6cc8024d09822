//! What the level `baseline` forbids.

use serde_json::Value;

use super::{
    Check, Subject, Texts, Violation, containers, context, plural, quoted, setters, violation,
};
use crate::view::{dig, entries, get, list, text};

/// In order of their names.
pub(super) const CHECKS: [Check; 12] = [
    check("appArmorProfile", &[(0, app_armor)]),
    check("capabilities_baseline", &[(0, capabilities)]),
    check("hostNamespaces", &[(0, host_namespaces)]),
    check("hostPathVolumes", &[(0, host_paths)]),
    check("hostPorts", &[(0, host_ports)]),
    check("hostProbesAndHostLifecycle", &[(34, probe_hosts)]),
    check("privileged", &[(0, privileged)]),
    check(
        "procMount",
        &[(0, proc_mount), (35, proc_mount_of_host_users)],
    ),
    check("seLinuxOptions", &[(0, selinux_1_0), (31, selinux_1_31)]),
    check(
        "seccompProfile_baseline",
        &[(0, seccomp_annotations), (19, seccomp)],
    ),
    check(
        "sysctls",
        &[
            (0, sysctls_1_0),
            (27, sysctls_1_27),
            (29, sysctls_1_29),
            (32, sysctls_1_32),
        ],
    ),
    check("windowsHostProcess", &[(0, windows_host_process)]),
];

const fn check(id: &'static str, versions: &'static [(u32, super::Rule)]) -> Check {
    Check {
        id,
        versions,
        instead_of: "",
    }
}

fn app_armor(pod: Subject<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = Texts::new();
    let mut bad = |context: &Value| {
        let profile = get(context, "appArmorProfile");
        let kind = text(get(profile, "type"));
        let bad = !profile.is_null() && !matches!(kind, "RuntimeDefault" | "Localhost");
        if bad {
            values.insert(kind.to_owned());
        }
        bad
    };
    let whole = bad(pod.context());
    let names = pod.bad(|container| bad(context(container)));
    let allowed = |v: &str| v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
    let annotations = entries(get(pod.metadata, "annotations"))
        .filter(|(key, value)| key.starts_with(ANNOTATION) && !allowed(text(value)))
        .map(|(key, value)| format!("{key}={}", api::gotext::quote(text(value))));
    let mut annotations: Vec<String> = annotations.collect();
    annotations.sort();
    let mut who: Vec<String> = setters(whole, &names).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    violation(
        plural(
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
            values.len(),
        ),
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            quoted(&values)
        ),
    )
}

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn capabilities(pod: Subject<'_>) -> Option<Violation> {
    let mut others = Texts::new();
    let names = pod.bad(|container| {
        let added = list(dig(context(container), &["capabilities", "add"]))
            .iter()
            .map(text);
        let bad: Texts = added
            .filter(|c| !CAPABILITIES.contains(c))
            .map(str::to_owned)
            .collect();
        let any = !bad.is_empty();
        others.extend(bad);
        any
    });
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    violation(
        "non-default capabilities",
        format!(
            "{who} must not include {} in securityContext.capabilities.add",
            quoted(&others)
        ),
    )
}

fn host_namespaces(pod: Subject<'_>) -> Option<Violation> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"];
    let set = fields
        .iter()
        .filter(|f| *get(pod.spec, f) == Value::Bool(true));
    let set: Vec<String> = set.map(|f| format!("{f}=true")).collect();
    if set.is_empty() {
        return None;
    }
    violation("host namespaces", set.join(", "))
}

fn host_paths(pod: Subject<'_>) -> Option<Violation> {
    let volumes = list(get(pod.spec, "volumes")).iter();
    let bad = volumes.filter(|volume| !get(volume, "hostPath").is_null());
    let names: Vec<&str> = bad.map(|volume| text(get(volume, "name"))).collect();
    if names.is_empty() {
        return None;
    }
    let noun = plural("volume", "volumes", names.len());
    violation("hostPath volumes", format!("{noun} {}", quoted(&names)))
}

fn host_ports(pod: Subject<'_>) -> Option<Violation> {
    let mut ports = Texts::new();
    let names = pod.bad(|container| {
        let all = list(get(container, "ports")).iter();
        let set = all
            .filter_map(|port| get(port, "hostPort").as_i64())
            .filter(|port| *port != 0);
        let set: Texts = set.map(|port| port.to_string()).collect();
        let any = !set.is_empty();
        ports.extend(set);
        any
    });
    if names.is_empty() {
        return None;
    }
    let (verb, noun) = (
        plural("uses", "use", names.len()),
        plural("hostPort", "hostPorts", ports.len()),
    );
    let ports: Vec<String> = ports.into_iter().collect();
    violation(
        "hostPort",
        format!("{} {verb} {noun} {}", containers(&names), ports.join(", ")),
    )
}

/// Probes and hooks that go elsewhere than to the Pod.
fn probe_hosts(pod: Subject<'_>) -> Option<Violation> {
    let places: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let (mut names, mut hosts) = (Texts::new(), Texts::new());
    for container in pod.containers() {
        for place in places {
            let handler = dig(container, place);
            for action in ["httpGet", "tcpSocket"] {
                let host = text(dig(handler, &[action, "host"]));
                if !host.is_empty() {
                    hosts.insert(host.to_owned());
                    names.insert(text(get(container, "name")).to_owned());
                }
            }
        }
    }
    if names.is_empty() {
        return None;
    }
    let verb = plural("uses", "use", names.len());
    let noun = plural(
        "probe or lifecycle host",
        "probe or lifecycle hosts",
        hosts.len(),
    );
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    violation(
        "probe or lifecycle host",
        format!("{} {verb} {noun} {}", containers(&names), quoted(&hosts)),
    )
}

fn privileged(pod: Subject<'_>) -> Option<Violation> {
    let names = pod.bad(|container| *get(context(container), "privileged") == Value::Bool(true));
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    violation(
        "privileged",
        format!("{who} must not set securityContext.privileged=true"),
    )
}

pub(super) fn proc_mount(pod: Subject<'_>) -> Option<Violation> {
    let mut kinds = Texts::new();
    let names = pod.bad(|container| {
        let kind = get(context(container), "procMount");
        let bad = !kind.is_null() && text(kind) != "Default";
        if bad {
            kinds.insert(text(kind).to_owned());
        }
        bad
    });
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    violation(
        "procMount",
        format!(
            "{who} must not set securityContext.procMount to {}",
            quoted(&kinds)
        ),
    )
}

fn proc_mount_of_host_users(pod: Subject<'_>) -> Option<Violation> {
    if pod.has_own_users() {
        None
    } else {
        proc_mount(pod)
    }
}

fn selinux_1_0(pod: Subject<'_>) -> Option<Violation> {
    selinux(
        pod,
        &["", "container_t", "container_init_t", "container_kvm_t"],
    )
}

fn selinux_1_31(pod: Subject<'_>) -> Option<Violation> {
    selinux(
        pod,
        &[
            "",
            "container_t",
            "container_init_t",
            "container_kvm_t",
            "container_engine_t",
        ],
    )
}

fn selinux(pod: Subject<'_>, allowed: &[&str]) -> Option<Violation> {
    let (mut types, mut user, mut role) = (Texts::new(), false, false);
    let mut bad = |context: &Value| {
        let options = get(context, "seLinuxOptions");
        let kind = text(get(options, "type"));
        let sets = |field: &str| !text(get(options, field)).is_empty();
        let bad_type = !allowed.contains(&kind);
        if bad_type {
            types.insert(kind.to_owned());
        }
        user |= sets("user");
        role |= sets("role");
        bad_type || sets("user") || sets("role")
    };
    let whole = bad(pod.context());
    let names = pod.bad(|container| bad(context(container)));
    let who = setters(whole, &names)?;
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!(
            "{} {}",
            plural("type", "types", types.len()),
            quoted(&types)
        ));
    }
    if user {
        what.push("user may not be set".to_owned());
    }
    if role {
        what.push("role may not be set".to_owned());
    }
    let what = what.join("; ");
    violation(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {what}"),
    )
}

fn seccomp_annotations(pod: Subject<'_>) -> Option<Violation> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let allowed =
        |v: &str| matches!(v, "runtime/default" | "docker/default") || v.starts_with("localhost/");
    let names = pod
        .containers()
        .map(|c| format!("{CONTAINER}{}", text(get(c, "name"))));
    let mut forbidden = Texts::new();
    for key in names.chain([POD.to_owned()]) {
        if let Some(value) = pod.annotation(&key).filter(|v| !allowed(v)) {
            forbidden.insert(format!("{key}={}", api::gotext::quote(value)));
        }
    }
    if forbidden.is_empty() {
        return None;
    }
    let noun = plural("annotation", "annotations", forbidden.len());
    let forbidden: Vec<String> = forbidden.into_iter().collect();
    violation(
        "seccompProfile",
        format!("forbidden {noun} {}", forbidden.join(", ")),
    )
}

/// Whether a security context names a seccomp profile, and whether it may.
pub(super) fn seccomp_of(context: &Value) -> Option<Result<(), &str>> {
    let profile = get(context, "seccompProfile");
    if profile.is_null() {
        return None;
    }
    Some(match text(get(profile, "type")) {
        "RuntimeDefault" | "Localhost" => Ok(()),
        other => Err(other),
    })
}

pub(super) fn seccomp(pod: Subject<'_>) -> Option<Violation> {
    let mut values = Texts::new();
    let mut bad = |context: &Value| match seccomp_of(context) {
        Some(Err(kind)) => {
            values.insert(kind.to_owned());
            true
        }
        _ => false,
    };
    let whole = bad(pod.context());
    let names = pod.bad(|container| bad(context(container)));
    let who = setters(whole, &names)?;
    violation(
        "seccompProfile",
        format!(
            "{who} must not set securityContext.seccompProfile.type to {}",
            quoted(&values)
        ),
    )
}

/// Sysctls that stay within a Pod: the first 5 from the beginning, then with 1.27, 1.29 and 1.32.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn sysctls_1_0(pod: Subject<'_>) -> Option<Violation> {
    sysctls(pod, &SYSCTLS[..5])
}

fn sysctls_1_27(pod: Subject<'_>) -> Option<Violation> {
    sysctls(pod, &SYSCTLS[..6])
}

fn sysctls_1_29(pod: Subject<'_>) -> Option<Violation> {
    sysctls(pod, &SYSCTLS[..10])
}

fn sysctls_1_32(pod: Subject<'_>) -> Option<Violation> {
    sysctls(pod, &SYSCTLS)
}

fn sysctls(pod: Subject<'_>, allowed: &[&str]) -> Option<Violation> {
    let names = list(get(pod.context(), "sysctls"))
        .iter()
        .map(|s| text(get(s, "name")));
    let forbidden: Vec<&str> = names.filter(|name| !allowed.contains(name)).collect();
    if forbidden.is_empty() {
        return None;
    }
    violation("forbidden sysctls", forbidden.join(", "))
}

fn windows_host_process(pod: Subject<'_>) -> Option<Violation> {
    let is_host =
        |context: &Value| *dig(context, &["windowsOptions", "hostProcess"]) == Value::Bool(true);
    let names = pod.bad(|container| is_host(context(container)));
    let who = setters(is_host(pod.context()), &names)?;
    violation(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}
