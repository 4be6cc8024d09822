//! Security contexts of Pods and containers (spec §11) and sysctls (§8.5).

use std::collections::BTreeSet;

use api::field::{Error, ErrorList};
use api::names;

use super::internal::{self, Kind};
use super::optional_word;
use super::volumes::local_path;
use crate::view::{At, is_zero};

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// A container's `securityContext`.
pub(super) fn container(context: &At<'_>, host_users: bool) -> ErrorList {
    let mut errors = ids(context, &["runAsUser", "runAsGroup"]);
    let mount = context.get("procMount");
    if mount.given() {
        errors.extend(optional_word(&mount, &["Default", "Unmasked"]));
        if host_users && mount.text() == "Unmasked" {
            errors.push(Error::invalid(
                &mount.path,
                mount.text(),
                "`hostUsers` must be false to use `Unmasked`",
            ));
        }
    }
    errors.extend(seccomp(&context.get("seccompProfile")));
    if context.get("allowPrivilegeEscalation").is_false() {
        errors.extend(escalation(context));
    }
    errors.extend(app_armor(&context.get("appArmorProfile")));
    errors
}

fn escalation(context: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut refuse = |detail: &str| {
        errors.push(internal::invalid(
            &context.path,
            Kind::SecurityContext,
            context.value,
            detail,
        ))
    };
    if context.get("privileged").is_true() {
        refuse("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
    }
    for capability in context.get("capabilities").get("add").items() {
        if capability.text() == "CAP_SYS_ADMIN" {
            refuse(
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    errors
}

fn ids(context: &At<'_>, fields: &[&str]) -> ErrorList {
    fields
        .iter()
        .flat_map(|name| id(&context.get(name)))
        .collect()
}

fn id(at: &At<'_>) -> ErrorList {
    match at.int() {
        Some(value) => names::user_id(value)
            .into_iter()
            .map(|message| Error::invalid(&at.path, value, message))
            .collect(),
        None => ErrorList::new(),
    }
}

fn seccomp(profile: &At<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    if !profile.given() {
        return errors;
    }
    let (kind, file) = (profile.get("type"), profile.get("localhostProfile"));
    match kind.text() {
        "" => errors.push(Error::required(
            &kind.path,
            "type is required when seccompProfile is set",
        )),
        known if PROFILES.contains(&known) => {}
        other => errors.push(Error::not_supported(&kind.path, other, &PROFILES)),
    }
    match (kind.text(), file.given()) {
        ("Localhost", false) => errors.push(Error::required(
            &file.path,
            "must be set when seccomp type is Localhost",
        )),
        ("Localhost", true) => errors.extend(local_path(&file.path, file.text())),
        (_, true) => {
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(internal::invalid(
                &file.path,
                Kind::SeccompProfile,
                profile.value,
                detail,
            ));
        }
        (_, false) => {}
    }
    errors
}

fn app_armor(profile: &At<'_>) -> ErrorList {
    const NEEDS: &str = "must be set when AppArmor type is Localhost";
    let mut errors = ErrorList::new();
    if !profile.given() {
        return errors;
    }
    let (kind, name) = (profile.get("type"), profile.get("localhostProfile"));
    match kind.text() {
        "Localhost" => {
            if name.text().trim() != name.text() {
                errors.push(Error::invalid(
                    &name.path,
                    name.text(),
                    "must not be padded with whitespace",
                ));
            } else if name.text().is_empty() {
                errors.push(Error::required(&name.path, NEEDS));
            }
            if name.text().len() > 4095 {
                errors.push(Error::too_long(&name.path, 4095));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if name.given() {
                errors.push(Error::invalid(
                    &name.path,
                    name.text(),
                    "can only be set when AppArmor type is Localhost",
                ));
            }
        }
        "" => errors.push(Error::required(
            &kind.path,
            "type is required when appArmorProfile is set",
        )),
        other => errors.push(Error::not_supported(&kind.path, other, &PROFILES)),
    }
    errors
}

/// A Pod's `securityContext`, with what stands beside it in `spec`.
pub(super) fn pod(spec: &At<'_>) -> ErrorList {
    let context = spec.get("securityContext");
    if !context.given() {
        return ErrorList::new();
    }
    let mut errors = ids(&context, &["fsGroup", "runAsUser", "runAsGroup"]);
    errors.extend(
        context
            .get("supplementalGroups")
            .items()
            .flat_map(|group| id(&group)),
    );
    if spec.get("shareProcessNamespace").is_true() && spec.get("hostPID").is_true() {
        let path = context.path.child("shareProcessNamespace");
        errors.push(Error::invalid(
            &path,
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    errors.extend(sysctls(&context.get("sysctls"), spec));
    errors.extend(optional_word(
        &context.get("fsGroupChangePolicy"),
        &["Always", "OnRootMismatch"],
    ));
    errors.extend(seccomp(&context.get("seccompProfile")));
    errors.extend(app_armor(&context.get("appArmorProfile")));
    errors.extend(optional_word(
        &context.get("supplementalGroupsPolicy"),
        &["Merge", "Strict"],
    ));
    errors.extend(optional_word(
        &context.get("seLinuxChangePolicy"),
        &["Recursive"],
    ));
    errors
}

fn sysctls(sysctls: &At<'_>, spec: &At<'_>) -> ErrorList {
    const SHAPE: &str = "must have at most 253 characters and match regex \
                         ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for sysctl in sysctls.items() {
        let name = sysctl.get("name");
        if name.text().is_empty() {
            errors.push(Error::required(&name.path, ""));
        } else if !is_sysctl_name(name.text()) {
            errors.push(Error::invalid(&name.path, name.text(), SHAPE));
        } else if seen.contains(name.text()) {
            errors.push(Error::duplicate(&name.path, name.text()));
        }
        let host = match namespace_of(name.text()) {
            Some(Namespace::Net) => "hostNetwork",
            Some(Namespace::Ipc) => "hostIPC",
            None => "",
        };
        if !host.is_empty() && spec.get(host).is_true() {
            errors.push(Error::invalid(
                &name.path,
                name.text(),
                format!("may not be specified when '{host}' is true"),
            ));
        }
        seen.insert(name.text());
    }
    errors
}

fn is_sysctl_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let segment = |text: &str| {
        text.starts_with(inner)
            && text.ends_with(inner)
            && text.chars().all(|c| inner(c) || c == '-' || c == '_')
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

enum Namespace {
    Net,
    Ipc,
}

/// The namespace a sysctl belongs to; `/`-separated names count as dotted ones.
fn namespace_of(name: &str) -> Option<Namespace> {
    let first = name.find(['.', '/']);
    let dotted = if first.is_some_and(|i| name.as_bytes()[i] == b'/') {
        name.replace('/', ".")
    } else {
        name.to_owned()
    };
    if dotted.starts_with("net.") {
        return Some(Namespace::Net);
    }
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."]
        .iter()
        .any(|prefix| dotted.starts_with(prefix))
        || dotted == "kernel.sem";
    ipc.then_some(Namespace::Ipc)
}

/// What does not go with user ids of its own (spec §11.6).
pub(super) fn host_users(spec: &At<'_>) -> ErrorList {
    const OWN_USERS: &str = "when `hostUsers` is false";
    if !spec.get("hostUsers").is_false() {
        return ErrorList::new();
    }
    let mut errors = ErrorList::new();
    for (field, reported) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if spec.get(field).is_true() {
            errors.push(Error::forbidden(&spec.path.child(reported), OWN_USERS));
        }
    }
    for devices in super::containers::every(spec)
        .map(|container| container.get("volumeDevices"))
        .filter(|devices| devices.len() > 0)
    {
        errors.push(Error::forbidden(&devices.path, OWN_USERS));
    }
    errors
}

/// `spec.os` and what a Linux Pod does not have. Pods for Windows run nowhere here, but are stored as upstream stores them.
pub(super) fn os(spec: &At<'_>) -> ErrorList {
    const WINDOWS_ONLY: &str = "windows options cannot be set for a linux pod";
    let os = spec.get("os");
    if !os.given() {
        return ErrorList::new();
    }
    match os.get("name").text() {
        "" => vec![Error::required(&os.path.child("name"), "")],
        "linux" => {
            let contexts = std::iter::once(spec.clone()).chain(super::containers::every(spec));
            let options =
                contexts.map(|holder| holder.get("securityContext").get("windowsOptions"));
            options
                .filter(At::given)
                .map(|options| Error::forbidden(&options.path, WINDOWS_ONLY))
                .collect()
        }
        "windows" => windows(spec),
        other => vec![Error::not_supported(&os.path, other, &["linux", "windows"])],
    }
}

fn windows(spec: &At<'_>) -> ErrorList {
    const REFUSED: &str = "cannot be set for a windows pod";
    const OF_POD: [&str; 15] = [
        "securityContext.appArmorProfile",
        "securityContext.seLinuxOptions",
        "hostUsers",
        "hostPID",
        "hostIPC",
        "securityContext.seccompProfile",
        "securityContext.fsGroup",
        "securityContext.fsGroupChangePolicy",
        "securityContext.sysctls",
        "shareProcessNamespace",
        "securityContext.runAsUser",
        "securityContext.runAsGroup",
        "securityContext.supplementalGroups",
        "securityContext.supplementalGroupsPolicy",
        "securityContext.seLinuxChangePolicy",
    ];
    const OF_CONTAINER: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let of_pod = OF_POD
        .iter()
        .map(|path| path.split('.').fold(spec.clone(), |at, name| at.get(name)));
    let is_set = |at: &At<'_>| {
        at.given()
            && !(is_zero(at.value) && ["spec.hostPID", "spec.hostIPC"].contains(&at.path.as_str()))
    };
    let mut errors: ErrorList = of_pod
        .filter(is_set)
        .map(|field| Error::forbidden(&field.path, REFUSED))
        .collect();
    for container in super::containers::every(spec) {
        let fields = OF_CONTAINER.map(|name| container.get("securityContext").get(name));
        errors.extend(
            fields
                .into_iter()
                .filter(At::given)
                .map(|field| Error::forbidden(&field.path, REFUSED)),
        );
    }
    errors
}
