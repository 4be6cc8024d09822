//! What the level `restricted` forbids and requires beyond `baseline`.

use serde_json::Value;

use super::baseline::{proc_mount, seccomp, seccomp_of};
use super::{
    Check, Subject, Texts, Violation, containers, context, plural, quoted, setters, violation,
};
use crate::view::{dig, get, list, text};

/// In order of their names.
pub(super) const CHECKS: [Check; 7] = [
    check(
        "allowPrivilegeEscalation",
        &[(8, escalation), (25, escalation_but_windows)],
        "",
    ),
    check(
        "capabilities_restricted",
        &[(22, capabilities), (25, capabilities_but_windows)],
        "capabilities_baseline",
    ),
    check("procMount_restricted", &[(35, proc_mount)], "procMount"),
    check("restrictedVolumes", &[(0, volumes)], "hostPathVolumes"),
    check(
        "runAsNonRoot",
        &[(0, non_root), (35, non_root_of_host_users)],
        "",
    ),
    check("runAsUser", &[(23, user), (35, user_of_host_users)], ""),
    check(
        "seccompProfile_restricted",
        &[(19, seccomp_required), (25, seccomp_but_windows)],
        "seccompProfile_baseline",
    ),
];

const fn check(
    id: &'static str,
    versions: &'static [(u32, super::Rule)],
    instead_of: &'static str,
) -> Check {
    Check {
        id,
        versions,
        instead_of,
    }
}

fn escalation(pod: Subject<'_>) -> Option<Violation> {
    let names = pod.bad(|c| *get(context(c), "allowPrivilegeEscalation") != Value::Bool(false));
    if names.is_empty() {
        return None;
    }
    let who = containers(&names);
    violation(
        "allowPrivilegeEscalation != false",
        format!("{who} must set securityContext.allowPrivilegeEscalation=false"),
    )
}

fn escalation_but_windows(pod: Subject<'_>) -> Option<Violation> {
    if pod.is_windows() {
        None
    } else {
        escalation(pod)
    }
}

fn capabilities(pod: Subject<'_>) -> Option<Violation> {
    let keeping = pod.bad(|container| !listed(container, "drop").contains(&"ALL"));
    let mut added = Texts::new();
    let adding = pod.bad(|container| {
        let mut others = listed(container, "add");
        others.retain(|c| *c != "NET_BIND_SERVICE");
        added.extend(others.iter().map(|c| (*c).to_owned()));
        !others.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keeping)
        ));
    }
    if !adding.is_empty() {
        let (who, what) = (containers(&adding), quoted(&added));
        details.push(format!(
            "{who} must not include {what} in securityContext.capabilities.add"
        ));
    }
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

/// The capabilities that a container adds or drops.
fn listed<'a>(container: &'a Value, which: &str) -> Vec<&'a str> {
    let all = list(dig(context(container), &["capabilities", which])).iter();
    all.map(text).collect()
}

fn capabilities_but_windows(pod: Subject<'_>) -> Option<Violation> {
    if pod.is_windows() {
        None
    } else {
        capabilities(pod)
    }
}

const ALLOWED: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const FORBIDDEN: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn volumes(pod: Subject<'_>) -> Option<Violation> {
    let (mut names, mut types) = (Vec::new(), Texts::new());
    for volume in list(get(pod.spec, "volumes")) {
        let has = |kind: &&&str| !get(volume, kind).is_null();
        if ALLOWED.iter().any(|kind| has(&kind)) {
            continue;
        }
        names.push(text(get(volume, "name")));
        let kind = FORBIDDEN.iter().find(has).copied().unwrap_or("unknown");
        types.insert(kind.to_owned());
    }
    if names.is_empty() {
        return None;
    }
    let (noun, verb) = (
        plural("volume", "volumes", names.len()),
        plural("uses", "use", names.len()),
    );
    let what = plural(
        "restricted volume type",
        "restricted volume types",
        types.len(),
    );
    violation(
        "restricted volume types",
        format!("{noun} {} {verb} {what} {}", quoted(&names), quoted(&types)),
    )
}

fn non_root(pod: Subject<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let says = |context: &Value| get(context, "runAsNonRoot").as_bool();
    let whole = says(pod.context());
    let explicit = pod.bad(|container| says(context(container)) == Some(false));
    if let Some(who) = setters(whole == Some(false), &explicit) {
        return violation(
            REASON,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        );
    }
    let implicit = pod.bad(|container| whole != Some(true) && says(context(container)).is_none());
    if implicit.is_empty() {
        return None;
    }
    let who = containers(&implicit);
    violation(
        REASON,
        format!("pod or {who} must set securityContext.runAsNonRoot=true"),
    )
}

fn non_root_of_host_users(pod: Subject<'_>) -> Option<Violation> {
    if pod.has_own_users() {
        None
    } else {
        non_root(pod)
    }
}

fn user(pod: Subject<'_>) -> Option<Violation> {
    let is_root = |context: &Value| get(context, "runAsUser").as_i64() == Some(0);
    let names = pod.bad(|container| is_root(context(container)));
    let who = setters(is_root(pod.context()), &names)?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

fn user_of_host_users(pod: Subject<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { user(pod) }
}

fn seccomp_required(pod: Subject<'_>) -> Option<Violation> {
    if let Some(found) = seccomp(pod) {
        return Some(found);
    }
    let whole = seccomp_of(pod.context()).is_some();
    let implicit = pod.bad(|container| !whole && seccomp_of(context(container)).is_none());
    if implicit.is_empty() {
        return None;
    }
    let who = containers(&implicit);
    violation(
        "seccompProfile",
        format!(
            "pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        ),
    )
}

fn seccomp_but_windows(pod: Subject<'_>) -> Option<Violation> {
    if pod.is_windows() {
        None
    } else {
        seccomp_required(pod)
    }
}
