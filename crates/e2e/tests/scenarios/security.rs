//! Security contexts, field by field, as a program inside finds them and as the API refuses them.

use anyhow::ensure;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("security::users_and_groups", users_and_groups),
    ("security::rights", rights),
    ("security::filters_and_paths", filters_and_paths),
    ("security::non_root_is_checked", non_root_is_checked),
    (
        "security::what_does_not_go_together",
        what_does_not_go_together,
    ),
];

/// Runs a Pod with these contexts whose program is `script`, and returns what it writes.
fn program(
    user: &User,
    name: &str,
    of_pod: &str,
    own: &str,
    script: &str,
) -> anyhow::Result<String> {
    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  {of_pod}
  volumes: [{{name: v, emptyDir: {{}}}}]
  containers:
  - name: app
    image: "busybox:1.36"
    command: [sh, -c, "{script}"]
    volumeMounts: [{{name: v, mountPath: /v}}]
    securityContext: {own}
"#
    ))?;
    user.wait(name, "Completed", "0/1")?;
    user.run(&["logs", name])
}

fn users_and_groups(user: &User) -> anyhow::Result<()> {
    let script = "id -u; id -g; id -G; touch /v/f && stat -c '%u:%g' /v/f; stat -c %g:%a /v";
    let pod = "securityContext: {runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000, fsGroupChangePolicy: OnRootMismatch, supplementalGroups: [4000, 5000]}";
    let said = program(user, "of-pod", pod, "{}", script)?;
    ensure!(
        said == "1000\n3000\n3000 2000 4000 5000\n1000:2000\n2000:2777\n",
        "{said}"
    );
    let said = program(
        user,
        "own",
        pod,
        "{runAsUser: 1001, runAsGroup: 0}",
        "id -u; id -g",
    )?;
    ensure!(said == "1001\n0\n", "the container's fields win: {said}");
    // Root is in groups of the image's own file, unless only those of the Pod count.
    let groups = |policy: &str| {
        let name = format!("policy-{}", policy.to_lowercase());
        let pod = format!(
            "securityContext: {{supplementalGroups: [4000], supplementalGroupsPolicy: {policy}}}"
        );
        program(user, &name, &pod, "{}", "id -G")
    };
    let (merged, strict) = (groups("Merge")?, groups("Strict")?);
    ensure!(strict == "0 4000\n", "{strict}");
    ensure!(
        merged.starts_with("0 ") && merged.ends_with("4000\n") && merged.len() >= strict.len(),
        "{merged}"
    );
    let linux = "jsonpath={.status.containerStatuses[0].user.linux}";
    let shown = user.run(&["get", "pod", "of-pod", "-o", linux])?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let want = serde_json::json!({"uid": 1000, "gid": 3000, "supplementalGroups": [2000, 3000, 4000, 5000]});
    ensure!(shown == want, "{shown}");
    Ok(())
}

fn rights(user: &User) -> anyhow::Result<()> {
    let caps = "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status | tr -d '\\t'";
    let caps = caps.replace('\\', "\\\\");
    for (name, own, want) in [
        // Bits of containerd's fourteen.
        (
            "default",
            "{}",
            "CapEff:00000000a80425fb\nCapBnd:00000000a80425fb\nNoNewPrivs:0\n",
        ),
        (
            "dropped",
            "{capabilities: {drop: [ALL], add: [NET_ADMIN]}, allowPrivilegeEscalation: false}",
            "CapEff:0000000000001000\nCapBnd:0000000000001000\nNoNewPrivs:1\n",
        ),
        (
            "added",
            "{capabilities: {add: [SYS_TIME], drop: [CHOWN]}}",
            "CapEff:00000000aa0425fa\nCapBnd:00000000aa0425fa\nNoNewPrivs:0\n",
        ),
        (
            "not-root",
            "{runAsUser: 1000}",
            "CapEff:0000000000000000\nCapBnd:00000000a80425fb\nNoNewPrivs:0\n",
        ),
    ] {
        let said = program(user, name, "", own, &caps)?;
        ensure!(said == want, "{name}: {said}");
    }
    let look = "ls /dev/kmsg 2>/dev/null; touch /sys/fs/cgroup/x 2>&1 | grep -c Read-only; awk '$2 == \\\"/proc/sys\\\"' /proc/self/mounts | wc -l";
    let said = program(user, "privileged", "", "{privileged: true}", look)?;
    ensure!(said.ends_with("0\n0\n"), "{said}");
    let said = program(user, "not-privileged", "", "{}", look)?;
    ensure!(said == "1\n1\n", "{said}");
    let write = "touch /x 2>&1; touch /v/x && echo in the volume";
    let said = program(
        user,
        "read-only",
        "",
        "{readOnlyRootFilesystem: true}",
        write,
    )?;
    ensure!(
        said == "touch: /x: Read-only file system\nin the volume\n",
        "{said}"
    );
    Ok(())
}

fn filters_and_paths(user: &User) -> anyhow::Result<()> {
    let seccomp = "grep -E '^Seccomp:' /proc/self/status | tr -d '\\\\t'";
    let profile = |kind: &str| format!("{{seccompProfile: {{type: {kind}}}}}");
    for (name, own, want) in [
        ("unset", "{}".to_owned(), "Seccomp:0\n"),
        ("unconfined", profile("Unconfined"), "Seccomp:0\n"),
        ("default", profile("RuntimeDefault"), "Seccomp:2\n"),
    ] {
        let said = program(user, name, "", &own, seccomp)?;
        ensure!(said == want, "{name}: {said}");
    }
    let of_pod = format!("securityContext: {}", profile("RuntimeDefault"));
    let said = program(user, "of-pod", &of_pod, &profile("Unconfined"), seccomp)?;
    ensure!(said == "Seccomp:0\n", "the container's wins: {said}");

    let masked = "awk '$2 ~ /^.proc./ {print $2}' /proc/self/mounts | wc -l";
    let said = program(user, "masked", "", "{}", masked)?;
    ensure!(said.trim().parse::<u32>()? > 3, "{said}");
    let unmasked = "{procMount: Unmasked}";
    let said = program(user, "unmasked", "hostUsers: false", unmasked, masked)?;
    ensure!(said == "0\n", "{said}");

    // Where nothing enforces them SELinux options mean nothing, and an AppArmor profile is refused.
    let said = program(
        user,
        "selinux",
        "",
        "{seLinuxOptions: {level: s0}}",
        "echo runs",
    )?;
    ensure!(said == "runs\n", "{said}");
    user.apply(
        r#"{apiVersion: v1, kind: Pod, metadata: {name: apparmor}, spec: {containers: [{name: app, image: "busybox:1.36",
            securityContext: {appArmorProfile: {type: RuntimeDefault}}}]}}"#,
    )?;
    user.wait("apparmor", "AppArmor", "0/1")?;
    user.wait_event(
        "Warning AppArmor apparmor: Cannot enforce AppArmor: AppArmor is not enabled on the host",
    )
}

fn non_root_is_checked(user: &User) -> anyhow::Result<()> {
    for (name, own) in [
        ("root-image", "{runAsNonRoot: true}"),
        ("root-asked", "{runAsNonRoot: true, runAsUser: 0}"),
        ("not-root", "{runAsNonRoot: true, runAsUser: 7}"),
    ] {
        user.apply(&format!(
            r#"{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1,
                containers: [{{name: app, image: "busybox:1.36", command: [sleep, "3600"], securityContext: {own}}}]}}}}"#
        ))?;
    }
    user.wait("not-root", "Running", "1/1")?;
    for (name, why) in [
        (
            "root-image",
            "container has runAsNonRoot and image will run as root",
        ),
        ("root-asked", "container's runAsUser breaks non-root policy"),
    ] {
        user.wait(name, "CreateContainerConfigError", "0/1")?;
        let uid = user.pod(name)?["metadata"]["uid"].clone();
        let place = format!(
            "(pod: \"{name}_{}({})\", container: app)",
            user.namespace(),
            uid.as_str().unwrap_or_default()
        );
        user.wait_event(&format!("Warning Failed {name}: Error: {why} {place}"))?;
    }
    Ok(())
}

/// Fields of a Pod's spec and of its container's context that are refused, and the words.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "",
        "{allowPrivilegeEscalation: false, privileged: true}",
        "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    ),
    (
        "",
        "{allowPrivilegeEscalation: false, capabilities: {add: [CAP_SYS_ADMIN]}}",
        "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
    ),
    (
        "",
        "{procMount: Unmasked}",
        "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
    ),
    (
        "",
        "{runAsUser: -1}",
        "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
    ),
    (
        "",
        "{seccompProfile: {type: Localhost}}",
        "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
    ),
    (
        "os: {name: linux}",
        "{windowsOptions: {runAsUserName: a}}",
        "spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
    ),
    (
        "hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.tcp_syncookies, value: \"1\"}]}",
        "{}",
        "may not be specified when 'hostNetwork' is true",
    ),
    (
        "hostIPC: true, securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: \"1\"}]}",
        "{}",
        "may not be specified when 'hostIPC' is true",
    ),
    (
        "securityContext: {supplementalGroupsPolicy: Some}",
        "{}",
        "spec.securityContext.supplementalGroupsPolicy: Unsupported value: \"Some\": supported values: \"Merge\", \"Strict\"",
    ),
    (
        "securityContext: {fsGroupChangePolicy: Never}",
        "{}",
        "spec.securityContext.fsGroupChangePolicy: Unsupported value: \"Never\": supported values: \"Always\", \"OnRootMismatch\"",
    ),
    (
        "hostnameOverride: a, setHostnameAsFQDN: true",
        "{}",
        "may not be specified when setHostnameAsFQDN is true",
    ),
];

fn what_does_not_go_together(user: &User) -> anyhow::Result<()> {
    for (of_pod, own, words) in REFUSED {
        let comma = if of_pod.is_empty() { "" } else { ", " };
        let manifest = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: refused}}, spec: {{{of_pod}{comma}containers: [{{name: a, image: b, securityContext: {own}}}]}}}}"
        );
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        std::fs::write(file.path(), manifest)?;
        let refused = user.fails(&["create", "-f", &file.path().to_string_lossy()])?;
        ensure!(
            refused.code == 1 && refused.stderr.contains(words),
            "{of_pod} {own}: {refused:?}"
        );
    }
    Ok(())
}
