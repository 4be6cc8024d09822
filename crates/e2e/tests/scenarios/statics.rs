//! Static Pods: a manifest in a directory of the node is a Pod, whatever happens to the object that stands for it in the API.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::engine::{Engine, Outside};
use e2e::user::{Program, User, Watching};
use serde_json::Value;

use crate::restart::kill;

/// The node's name, which ends the names of its static Pods.
const NODE: &str = "box";

/// A manifest; the Pod notes on the machine that it was told to end.
fn manifest(name: &str, namespace: &str, edition: &str, out: &Path) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{edition: {edition}}}}}
spec:
  terminationGracePeriodSeconds: 10
  volumes: [{{name: out, hostPath: {{path: {out}, type: DirectoryOrCreate}}}}]
  containers:
  - name: c
    image: "busybox:1.36"
    command: [sh, -c, "trap 'echo {edition} >> /out/{name}; exit 0' TERM; echo begins {edition}; while true; do sleep 0.1; done"]
    volumeMounts: [{{name: out, mountPath: /out}}]
"#,
        out = out.display()
    )
}

/// Needs an object of the API.
const GREEDY: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: greedy, namespace: statics}
spec:
  containers: [{name: c, image: "busybox:1.36", env: [{name: E, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]
"#;

/// What it is, whether it is ready, and of which manifest.
fn looks(pod: &Value) -> String {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let is_ready = conditions.any(|c| c["type"] == "Ready" && c["status"] == "True");
    let edition = pod["metadata"]["labels"]["edition"].as_str();
    let name = pod["metadata"]["name"].as_str();
    let ready = if is_ready { "ready" } else { "not ready" };
    format!(
        "{} {} {ready}",
        name.unwrap_or_default(),
        edition.unwrap_or_default()
    )
}

/// The container's id and restarts, and since when the Pod is there.
fn run(pod: &Value) -> String {
    let container = &pod["status"]["containerStatuses"][0];
    let (id, count) = (&container["containerID"], &container["restartCount"]);
    format!("{id} {count} {}", pod["status"]["startTime"])
}

/// Files come, change, are bad and go; mirrors are deleted; the engine is killed.
pub(crate) fn follow_their_files(outside: &Outside) -> anyhow::Result<()> {
    let engine = Arc::new(Engine::prepare(outside)?);
    let (manifests, out) = (engine.root().join("manifests"), engine.root().join("out"));
    let config = engine.root().join("config.yaml");
    let settings = fs::read_to_string(&config)?;
    let path = manifests.display();
    fs::write(
        &config,
        format!("{settings}nodeName: {NODE}\nstaticPodPath: {path}\n"),
    )?;
    fs::create_dir_all(&manifests)?;
    let write = |file: &str, text: &str| fs::write(manifests.join(file), text);
    write("early.yaml", &manifest("early", "default", "one", &out))?;
    engine.up()?;
    let early = || -> anyhow::Result<Value> {
        engine.kubectl(["wait", "--for=create", "pod/early-box", "--timeout=30s"])?;
        engine.kubectl([
            "wait",
            "--for=condition=Ready",
            "pod/early-box",
            "--timeout=60s",
        ])?;
        let text = engine.kubectl(["get", "pod", "early-box", "-o", "json"])?;
        serde_json::from_str(&text).context("a Pod in JSON")
    };
    let before = early()?;
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    );
    let kubectl = Program::Kubectl(outside.kubectl.clone());
    let user = User::new(engine.clone(), kubectl, "statics", runtime)?;
    let mut pods = user.watch("/api/v1", "pods");
    write("web.yaml", &manifest("web", "statics", "one", &out))?;
    pods.until("web-box one ready", looks)?;
    stands_for_it(&user)?;
    comes_back(&user, &mut pods)?;

    // Neither of these is a Pod; what is read after them is.
    write("bad.yaml", "kind: [")?;
    write("greedy.yaml", GREEDY)?;
    write(".hidden.yaml", &manifest("hidden", "statics", "one", &out))?;
    let old = run(&user.pod("web-box")?);
    write("web.yaml", &manifest("web", "statics", "two", &out))?;
    pods.until("web-box two ready", looks)?;
    ensure!(run(&user.pod("web-box")?) != old, "it is another Pod");
    ensure!(
        fs::read_to_string(out.join("web"))? == "one\n",
        "the first was told to end"
    );
    ensure!(user.run(&["logs", "web-box"])? == "begins two\n");
    let log = fs::read_to_string(engine.root().join("state/engine.log"))?;
    for said in ["bad.yaml", "static pods may not reference secrets"] {
        ensure!(log.contains(said), "the log lacks {said:?}");
    }
    let names = user.run(&["get", "pods", "-o", "name"])?;
    ensure!(names == "pod/web-box\n", "there are {names:?}");

    fs::remove_file(manifests.join("web.yaml"))?;
    pods.until_gone()?;
    ensure!(
        fs::read_to_string(out.join("web"))? == "one\ntwo\n",
        "it was told to end"
    );
    drop(pods);
    user.leave();

    kill(&engine)?;
    write("late.yaml", &manifest("late", "default", "one", &out))?;
    engine.up()?;
    ensure!(run(&early()?) == run(&before), "it goes on as it was");
    engine.kubectl(["wait", "--for=create", "pod/late-box", "--timeout=30s"])?;
    // What goes while nobody looks is ended then, and nothing stands for it.
    engine.stop()?;
    fs::remove_file(manifests.join("early.yaml"))?;
    let waiting = ["wait", "--for=delete", "pod/early-box", "--timeout=30s"];
    engine.up()?;
    engine.kubectl(waiting)?;
    engine.kubectl([
        "wait",
        "--for=condition=Ready",
        "pod/late-box",
        "--timeout=60s",
    ])?;
    Arc::into_inner(engine)
        .context("the engine is still held")?
        .down()
}

/// The object in the API says what it is, and leads to the Pod's logs and containers.
fn stands_for_it(user: &User) -> anyhow::Result<()> {
    let pod = user.pod("web-box")?;
    let meta = &pod["metadata"];
    let note = |key: &str| &meta["annotations"][format!("kubernetes.io/config.{key}")];
    ensure!(note("source") == "file" && note("seen").is_string());
    ensure!(note("mirror").is_string() && note("mirror") == note("hash"));
    ensure!(note("mirror") != &meta["uid"]);
    let owner = &meta["ownerReferences"][0];
    ensure!(owner["kind"] == "Node" && owner["name"] == NODE && owner["controller"] == true);
    ensure!(pod["spec"]["serviceAccountName"].is_null());
    ensure!(user.run(&["logs", "web-box"])? == "begins one\n");
    ensure!(user.run(&["exec", "web-box", "--", "hostname"])? == "web-box\n");
    let described = user.run(&["describe", "pod", "web-box"])?;
    for said in ["Controlled By:  Node/box", "Container started", "Pulled"] {
        ensure!(described.contains(said), "{said:?} is not in {described}");
    }
    Ok(())
}

/// Deleting what stands for a Pod does nothing to the Pod.
fn comes_back(user: &User, pods: &mut Watching) -> anyhow::Result<()> {
    let before = user.pod("web-box")?;
    user.run(&["delete", "pod", "web-box", "--timeout=30s"])?;
    pods.until_gone()?;
    pods.until("web-box one ready", looks)?;
    let after = user.pod("web-box")?;
    ensure!(before["metadata"]["uid"] != after["metadata"]["uid"]);
    ensure!(
        run(&before) == run(&after),
        "{} {}",
        run(&before),
        run(&after)
    );
    ensure!(user.run(&["exec", "web-box", "--", "hostname"])? == "web-box\n");
    Ok(())
}
