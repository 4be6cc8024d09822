//! Security contexts merged into what the runtime is told (spec `§11`).

use std::path::Path;

use k8s_openapi::api::core::v1::{
    Container, Pod, PodSecurityContext, SeccompProfile as Wire, SecurityContext as ContainerContext,
};
use ports::images::ImageConfig;
use ports::runtime::{SeccompProfile, SecurityContext};

/// What the runtime is told about a container's identity and rights. `root` is the agent's, for local seccomp profiles.
///
/// # Errors
/// The text of a `CreateContainerConfigError` (spec `§11.2`).
pub(crate) fn context(
    pod: &Pod,
    container: &Container,
    image: &ImageConfig,
    root: &Path,
) -> Result<SecurityContext, String> {
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|s| s.security_context.clone())
        .unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let run_as_user = own.run_as_user.or(of_pod.run_as_user);
    let run_as_group = own.run_as_group.or(of_pod.run_as_group);
    let non_root = own
        .run_as_non_root
        .or(of_pod.run_as_non_root)
        .unwrap_or(false);
    if non_root {
        check_non_root(pod, &container.name, run_as_user, &image.user)?;
    }
    let capabilities = own.capabilities.clone().unwrap_or_default();
    Ok(SecurityContext {
        privileged: own.privileged.unwrap_or(false),
        run_as_user: run_as_user.map(|id| id_of(id, "runAsUser")).transpose()?,
        run_as_group: run_as_group.map(|id| id_of(id, "runAsGroup")).transpose()?,
        supplemental_groups: groups(&of_pod)?,
        strict_groups: of_pod.supplemental_groups_policy.as_deref() == Some("Strict"),
        run_as_non_root: non_root,
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        seccomp: seccomp(&own, &of_pod, root),
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
        pid_target: None,
    })
}

/// `spec.securityContext.fsGroup`.
pub(crate) fn fs_group(pod: &Pod) -> Option<u32> {
    pod.spec
        .as_ref()?
        .security_context
        .as_ref()?
        .fs_group
        .and_then(|g| u32::try_from(g).ok())
}

/// Whether what is at the top of a volume says that its files were given to the group before (`fsGroupChangePolicy`).
pub(crate) fn trusts_root(pod: &Pod) -> bool {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let policy = context.and_then(|c| c.fs_group_change_policy.as_deref());
    policy == Some("OnRootMismatch")
}

fn id_of(id: i64, field: &str) -> Result<u32, String> {
    u32::try_from(id).map_err(|_| format!("{field} {id} is out of range"))
}

fn groups(of_pod: &PodSecurityContext) -> Result<Vec<u32>, String> {
    let all = of_pod
        .fs_group
        .iter()
        .chain(of_pod.supplemental_groups.iter().flatten());
    all.map(|id| id_of(*id, "supplementalGroups")).collect()
}

fn check_non_root(
    pod: &Pod,
    container: &str,
    run_as_user: Option<i64>,
    image_user: &str,
) -> Result<(), String> {
    let place = format!(
        "(pod: {:?}, container: {container})",
        lifecycle::text::pod_format(pod)
    );
    match run_as_user {
        Some(0) => {
            return Err(format!(
                "container's runAsUser breaks non-root policy {place}"
            ));
        }
        Some(_) => return Ok(()),
        None => {}
    }
    let user = image_user.split(':').next().unwrap_or_default();
    if user.is_empty() {
        return Err(format!(
            "container has runAsNonRoot and image will run as root {place}"
        ));
    }
    match user.parse::<i64>() {
        Ok(0) => Err(format!(
            "container has runAsNonRoot and image will run as root {place}"
        )),
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {place}"
        )),
    }
}

fn seccomp(own: &ContainerContext, of_pod: &PodSecurityContext, root: &Path) -> SeccompProfile {
    let profile: Option<&Wire> = own
        .seccomp_profile
        .as_ref()
        .or(of_pod.seccomp_profile.as_ref());
    match profile.map(|p| {
        (
            p.type_.as_str(),
            p.localhost_profile.as_deref().unwrap_or_default(),
        )
    }) {
        Some(("RuntimeDefault", _)) => SeccompProfile::RuntimeDefault,
        Some(("Localhost", file)) => SeccompProfile::Localhost(root.join("seccomp").join(file)),
        _ => SeccompProfile::Unconfined,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn build(of_pod: Value, own: Value, user: &str) -> Result<SecurityContext, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": of_pod, "containers": [{"name": "c", "securityContext": own}]}}))
        .unwrap();
        let image = ImageConfig {
            user: user.into(),
            ..ImageConfig::default()
        };
        context(
            &pod,
            &pod.spec.as_ref().unwrap().containers[0],
            &image,
            Path::new("/r"),
        )
    }

    #[test]
    fn the_container_wins_field_by_field() {
        let context = build(
            json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4], "seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"runAsUser": 5, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}),
            "",
        )
        .unwrap();
        assert_eq!(
            (context.run_as_user, context.run_as_group),
            (Some(5), Some(2))
        );
        assert_eq!(context.supplemental_groups, [3, 4]);
        assert!(context.no_new_privs && !context.privileged);
        assert_eq!(
            (context.drop_capabilities, context.seccomp),
            (vec!["ALL".to_owned()], SeccompProfile::RuntimeDefault)
        );
        let local = build(
            json!({}),
            json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b.json"}}),
            "",
        )
        .unwrap();
        assert_eq!(
            local.seccomp,
            SeccompProfile::Localhost("/r/seccomp/a/b.json".into())
        );
    }

    #[test]
    fn root_is_refused_in_upstreams_words() {
        let place = "(pod: \"p_n(u)\", container: c)";
        let rows = [
            (
                json!({"runAsUser": 0}),
                "",
                format!("container's runAsUser breaks non-root policy {place}"),
            ),
            (
                json!({}),
                "",
                format!("container has runAsNonRoot and image will run as root {place}"),
            ),
            (
                json!({}),
                "0:0",
                format!("container has runAsNonRoot and image will run as root {place}"),
            ),
            (
                json!({}),
                "web",
                format!(
                    "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root {place}"
                ),
            ),
        ];
        for (own, user, want) in rows {
            assert_eq!(
                build(json!({"runAsNonRoot": true}), own, user).err(),
                Some(want),
                "{user}"
            );
        }
        for (own, user) in [
            (json!({"runAsUser": 7}), "web"),
            (json!({}), "7"),
            (json!({"runAsNonRoot": false}), ""),
        ] {
            assert!(build(json!({"runAsNonRoot": true}), own, user).is_ok());
        }
    }
}
