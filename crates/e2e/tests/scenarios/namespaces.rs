//! Namespaces shared within a Pod, borrowed from the node, and of the Pod's own users; names, hosts and sysctls.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::board::Wait;
use e2e::user::User;

use crate::Scenario;

pub(crate) const SCENARIOS: &[(&str, Scenario)] = &[
    ("namespaces::processes_are_shared", processes_are_shared),
    ("namespaces::of_the_node", of_the_node),
    ("namespaces::names_and_hosts", names_and_hosts),
    ("namespaces::sysctls", sysctls),
    ("namespaces::users_of_its_own", users_of_its_own),
];

/// Prints how many zombies are to be seen, without starting a process that could be counted.
const ZOMBIES: &str = "n=0; for f in /proc/[0-9]*/stat; do read -r line < $f && case ${line##*)} in ' Z '*) n=$((n+1));; esac; done 2>/dev/null; echo $n";

/// What a shell in a container says.
fn shell(user: &User, pod: &str, container: &str, script: &str) -> anyhow::Result<String> {
    user.run(&["exec", pod, "-c", container, "--", "sh", "-c", script])
}

fn processes_are_shared(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: "nginx:latest"}
  - {name: shell, image: "busybox:1.36", command: [sleep, "34567"]}
"#,
    )?;
    user.wait("shared", "Running", "2/2")?;
    let seen = shell(user, "shared", "shell", "ps; cat /proc/1/comm")?;
    ensure!(
        seen.contains("nginx") && seen.contains("sleep 34567") && seen.ends_with("pause\n"),
        "{seen}"
    );
    // The pipe's end is that of the last process forked twice.
    let forks = "i=0; { while [ $i -lt 2000 ]; do ( : & ); i=$((i+1)); done; } | cat; echo done";
    ensure!(shell(user, "shared", "shell", forks)? == "done\n");
    let end = Instant::now() + Duration::from_secs(60);
    while shell(user, "shared", "shell", ZOMBIES)? != "0\n" {
        ensure!(Instant::now() < end, "zombies are left");
    }
    // From one container to a program of another, and to that one alone.
    let master = "for p in /proc/[0-9]*; do case \"$(cat $p/cmdline 2>/dev/null)\" in nginx:*master*|nginx-g*) kill -QUIT ${p#/proc/};; esac; done";
    shell(user, "shared", "shell", master)?;
    user.wait_for(&Wait {
        pod: "shared".into(),
        status: vec!["Running".into()],
        ready: Some("2/2".into()),
        restarts: Some(1),
        timeout: 60,
        ..Wait::default()
    })?;
    let counts = user.run(&[
        "get",
        "pod",
        "shared",
        "-o",
        "jsonpath={range .status.containerStatuses[*]}{.name}={.restartCount} {end}",
    ])?;
    ensure!(counts.trim() == "shell=0 web=1", "{counts}");
    Ok(())
}

fn of_the_node(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: on-node}
spec:
  hostNetwork: true
  hostPID: true
  hostIPC: true
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"]}
---
apiVersion: v1
kind: Pod
metadata: {name: apart}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"]}
"#,
    )?;
    let links = |pod: &str, kind: &str| {
        let link = format!("readlink /proc/self/ns/{kind}");
        shell(user, pod, "app", &link)
    };
    user.wait("on-node", "Running", "1/1")?;
    user.wait("apart", "Running", "1/1")?;
    for kind in ["net", "uts", "ipc", "pid"] {
        let node = std::fs::read_link(format!("/proc/self/ns/{kind}"))?;
        let node = format!("{}\n", node.display());
        ensure!(links("on-node", kind)? == node, "{kind} is the node's");
        ensure!(links("apart", kind)? != node, "{kind} is the Pod's own");
    }
    let pod = user.pod("on-node")?;
    ensure!(
        pod["status"]["podIP"] == pod["status"]["hostIP"],
        "{}",
        pod["status"]
    );
    let hosts = shell(user, "on-node", "app", "cat /etc/hosts")?;
    ensure!(
        hosts.starts_with("# Kubernetes-managed hosts file (host network).\n"),
        "{hosts}"
    );
    for (field, words) in [
        (
            "hostPID: true, shareProcessNamespace: true",
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ),
        (
            "hostUsers: false, hostNetwork: true",
            "spec.hostNetwork: Forbidden: when `hostUsers` is false",
        ),
        (
            "hostUsers: false, hostPID: true",
            "spec.HostPID: Forbidden: when `hostUsers` is false",
        ),
        (
            "hostUsers: false, hostIPC: true",
            "spec.HostIPC: Forbidden: when `hostUsers` is false",
        ),
    ] {
        let manifest = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: refused}}, spec: {{{field}, containers: [{{name: a, image: b}}]}}}}"
        );
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        std::fs::write(file.path(), manifest)?;
        let refused = user.fails(&["create", "-f", &file.path().to_string_lossy()])?;
        ensure!(refused.stderr.contains(words), "{field}: {refused:?}");
    }
    Ok(())
}

fn names_and_hosts(user: &User) -> anyhow::Result<()> {
    let long = "a-name-that-is-longer-than-the-sixty-three-letters-a-host-name-x-may-have";
    user.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: named}}
spec:
  hostname: web-0
  subdomain: web
  terminationGracePeriodSeconds: 1
  hostAliases:
  - {{ip: 192.0.2.7, hostnames: [one.example, two.example]}}
  containers:
  - {{name: app, image: "busybox:1.36", command: [sleep, "3600"]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: full}}
spec:
  hostname: web-1
  subdomain: web
  setHostnameAsFQDN: true
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: app, image: "busybox:1.36", command: [sleep, "3600"]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: overridden}}
spec:
  hostnameOverride: db.example.com
  subdomain: web
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: app, image: "busybox:1.36", command: [sleep, "3600"]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {long}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: app, image: "busybox:1.36", command: [sleep, "3600"]}}
"#
    ))?;
    let domain = format!("web.{}.svc.cluster.local", user.namespace());
    let full = format!("web-1.{domain}");
    for (pod, hostname) in [
        ("named", "web-0"),
        ("full", full.as_str()),
        ("overridden", "db.example.com"),
        (long, long[..63].trim_end_matches('-')),
    ] {
        user.wait(pod, "Running", "1/1")?;
        let names = shell(
            user,
            pod,
            "app",
            "hostname; echo $HOSTNAME; cat /etc/hostname",
        )?;
        ensure!(
            names == format!("{hostname}\n").repeat(3),
            "{pod}: {names:?}"
        );
    }
    let hosts = shell(user, "named", "app", "cat /etc/hosts")?;
    let ip = user.pod_ip("named")?;
    ensure!(
        hosts.contains(&format!("{ip}\tweb-0.{domain}\tweb-0\n"))
            && hosts.ends_with(
                "\n# Entries added by HostAliases.\n192.0.2.7\tone.example\ttwo.example\n"
            ),
        "{hosts}"
    );
    let hosts = shell(user, "full", "app", "cat /etc/hosts")?;
    ensure!(hosts.contains(&format!("\t{full}\tweb-1\n")), "{hosts}");
    Ok(())
}

fn sysctls(user: &User) -> anyhow::Result<()> {
    user.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: tuned}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: "1"}, {name: net/ipv4/ip_unprivileged_port_start, value: "80"}]}
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"]}
---
apiVersion: v1
kind: Pod
metadata: {name: refused}
spec:
  securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: "1"}, {name: kernel.msgmax, value: "65536"}]}
  containers:
  - {name: app, image: "busybox:1.36", command: [sleep, "3600"]}
"#,
    )?;
    user.wait("tuned", "Running", "1/1")?;
    let set = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start";
    ensure!(shell(user, "tuned", "app", set)? == "1\n80\n");
    user.wait("refused", "SysctlForbidden", "0/1")?;
    let why = "forbidden sysctl: \"kernel.msgmax\" not allowlisted";
    user.wait_event(&format!("Warning SysctlForbidden refused: {why}"))?;
    let status = user.pod("refused")?["status"].clone();
    ensure!(
        status["phase"] == "Failed" && status["message"] == format!("Pod was rejected: {why}"),
        "{status}"
    );
    Ok(())
}

fn users_of_its_own(user: &User) -> anyhow::Result<()> {
    let host = tempfile::tempdir()?;
    std::fs::write(host.path().join("theirs"), "theirs\n")?;
    let manifest = format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: own}}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 1
  securityContext: {{fsGroup: 2000}}
  volumes:
  - {{name: data, emptyDir: {{}}}}
  - {{name: quick, emptyDir: {{medium: Memory}}}}
  - {{name: host, hostPath: {{path: "{}", type: Directory}}}}
  initContainers:
  - {{name: first, image: "busybox:1.36", command: [sh, -c, "id -u > /data/who"], volumeMounts: [{{name: data, mountPath: /data}}]}}
  containers:
  - name: web
    image: "nginx:latest"
  - name: shell
    image: "busybox:1.36"
    command: [sleep, "45678"]
    volumeMounts: [{{name: data, mountPath: /data}}, {{name: quick, mountPath: /quick}}, {{name: host, mountPath: /host}}]
    securityContext: {{capabilities: {{add: [SYS_ADMIN]}}}}
  - name: user
    image: "busybox:1.36"
    command: [sleep, "45679"]
    volumeMounts: [{{name: data, mountPath: /data}}]
    securityContext: {{runAsUser: 1000, runAsGroup: 1000}}
"#,
        host.path().display()
    );
    user.apply(&manifest)?;
    user.apply(
        &manifest
            .replace("name: own", "name: twin")
            .replace("4567", "5678"),
    )?;
    user.wait("own", "Running", "3/3")?;
    user.wait("twin", "Running", "3/3")?;

    let able = "jsonpath={.items[0].status.runtimeHandlers[0].features.userNamespaces}";
    ensure!(user.run(&["get", "nodes", "-o", able])? == "true");
    let map = |pod: &str| -> anyhow::Result<(u32, u32, u32)> {
        let text = shell(user, pod, "shell", "cat /proc/self/uid_map")?;
        let numbers: Vec<u32> = text
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [inside, outside, length] = numbers[..] else {
            anyhow::bail!("{text}")
        };
        Ok((inside, outside, length))
    };
    let (inside, first, length) = map("own")?;
    ensure!((inside, length) == (0, 65536) && first >= 65536 && first % 65536 == 0);
    ensure!(map("twin")?.1 != first, "no two Pods have the same ids");
    ensure!(
        sleepers("45678")?.contains(&first) && sleepers("45679")?.contains(&(first + 1000)),
        "its root is nobody on the node"
    );

    let owners = shell(
        user,
        "own",
        "shell",
        "id -u; cat /data/who; touch /quick/new /host/new; stat -c '%u:%g %n' /data/who /quick/new /host/new /etc/passwd /etc/hosts",
    )?;
    ensure!(
        owners
            == "0\n0\n0:2000 /data/who\n0:2000 /quick/new\n0:0 /host/new\n0:0 /etc/passwd\n0:0 /etc/hosts\n",
        "{owners}"
    );
    let own = "touch /data/mine && stat -c '%u:%g %n' /data/mine; touch /etc/x 2>&1";
    let refused = user.fails(&["exec", "own", "-c", "user", "--", "sh", "-c", own])?;
    ensure!(refused.code == 1, "{refused:?}");
    ensure!(shell(user, "own", "shell", "stat -c %u:%g /data/mine")? == "1000:2000\n");

    let ip = user.pod_ip("twin")?;
    let net = format!(
        "ping -c 1 -W 10 {ip} > /dev/null && wget -q -O - http://127.0.0.1/ | head -n 4; hostname renamed && hostname"
    );
    let net = shell(user, "own", "shell", &net)?;
    ensure!(
        net.to_lowercase().contains("nginx") && net.ends_with("renamed\n"),
        "{net}"
    );
    // Master of its own namespaces only.
    let node = shell(
        user,
        "own",
        "shell",
        "echo 1 > /proc/sys/kernel/panic; umount /proc/kcore; true",
    );
    ensure!(node?.is_empty());
    let seen = user.run(&[
        "debug",
        "own",
        "--image=busybox:1.36",
        "--target=shell",
        "-c",
        "look",
        "--",
        "sh",
        "-c",
        "cat /proc/self/uid_map; tr '\\0' ' ' < /proc/1/cmdline",
    ])?;
    let done = "--for=jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}=0";
    user.run(&["wait", "pod/own", done, "--timeout=60s"])
        .with_context(|| seen.clone())?;
    let log = user.run(&["logs", "own", "-c", "look"])?;
    ensure!(
        log.contains(&first.to_string()) && log.contains("sleep 45678"),
        "{log}"
    );
    Ok(())
}

/// Whose the processes are, on the node, that sleep so long. Other users' Pods are the same.
fn sleepers(seconds: &str) -> anyhow::Result<Vec<u32>> {
    use std::os::unix::fs::MetadataExt;
    let mut owners = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if words == format!("sleep\0{seconds}\0").as_bytes() {
            // It may have ended meanwhile.
            owners.extend(std::fs::metadata(entry.path()).map(|meta| meta.uid()));
        }
    }
    Ok(owners)
}
