//! After `down --all`, the machine is as it was before `up`. Runs alone, because it looks at the whole machine.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use e2e::engine::{Engine, Outside};

/// Everything an engine could leave: mounts, links, network namespaces in use, cgroups, firewall tables, processes.
fn traces() -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    traces.extend(mounts.lines().map(|line| {
        format!(
            "mount {}",
            line.split(' ').skip(3).collect::<Vec<_>>().join(" ")
        )
    }));
    for entry in fs::read_dir("/sys/class/net").expect("links").flatten() {
        traces.insert(format!("link {}", entry.file_name().to_string_lossy()));
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
        traces.insert(format!("cgroup {}", hierarchy.path().display()));
        for group in fs::read_dir(hierarchy.path())
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().is_dir())
        {
            traces.insert(format!("cgroup {}", group.path().display()));
        }
    }
    let tables = Command::new("nft")
        .args(["list", "tables"])
        .output()
        .expect("nft");
    traces.extend(
        String::from_utf8_lossy(&tables.stdout)
            .lines()
            .map(|line| format!("nft {line}")),
    );
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let path = process.path();
        let own = |file: &str| {
            fs::read_link(path.join(file))
                .map(|link| link.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        if own("exe").contains("carob") {
            traces.insert(format!("process {} {}", path.display(), own("exe")));
        }
        traces.insert(format!("network namespace {}", own("ns/net")));
    }
    traces
}

#[test]
fn down_all_leaves_nothing() {
    let outside = Outside::from_env().expect("the environment");
    let before = traces();
    let engine = Engine::start(&outside).expect("an engine");
    let manifest = engine.root().join("pods.yaml");
    let pod = |name: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"}}, "spec": {{
                "terminationGracePeriodSeconds": 1,
                "volumes": [{{"name": "m", "emptyDir": {{"medium": "Memory"}}}}, {{"name": "d", "emptyDir": {{}}}}],
                "initContainers": [{{"name": "side", "image": "busybox:1.36", "restartPolicy": "Always", "command": ["sleep", "3600"]}}],
                "containers": [{{"name": "main", "image": "busybox:1.36", "command": ["sleep", "3600"],
                    "volumeMounts": [{{"name": "m", "mountPath": "/m"}}, {{"name": "d", "mountPath": "/d", "subPath": "x"}}]}}]}}}}"#
        )
    };
    fs::write(
        &manifest,
        format!("{}\n---\n{}\n", pod("kept"), pod("deleted")),
    )
    .expect("writes");
    engine
        .kubectl(["apply", "-f", &manifest.to_string_lossy()])
        .expect("applies");
    engine
        .kubectl([
            "wait",
            "--for=condition=Ready",
            "pod/kept",
            "pod/deleted",
            "--timeout=60s",
        ])
        .expect("they run");
    engine
        .kubectl(["delete", "pod", "deleted"])
        .expect("deletes");
    let during = traces();
    assert!(
        during.difference(&before).count() > 4,
        "the test sees what an engine makes: {:?}",
        during.difference(&before)
    );
    engine.down().expect("ends");
    let after = traces();
    let left: Vec<_> = after.difference(&before).collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
}
