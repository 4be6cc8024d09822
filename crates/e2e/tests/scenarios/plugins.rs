//! Network plugins in place of the built-in network: Debian's bridge, host-local, tuning and portmap, as other runtimes use them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::engine::{Engine, Outside};
use e2e::user::{Program, User};

use crate::services::{page, until};
use crate::shared::http_get;

/// Where Debian has them.
const PLUGINS: &str = "/usr/lib/cni";
/// A range nobody else uses here.
const RANGE: &str = "10.251.7";
const NOT_READY: &str = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized";

const POLICY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
"#;
const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

/// An engine of its own from its first start without a configuration to its end.
pub(crate) fn wire_pods(outside: &Outside) -> anyhow::Result<()> {
    let engine = Engine::prepare(outside)?;
    let bridge = format!("cni{}", std::process::id());
    let config = engine.root().join("config.yaml");
    let root = engine.root().display().to_string();
    let settings =
        fs::read_to_string(&config)? + &format!("cniConfDir: {root}/net.d\ncniBinDir: {PLUGINS}\n");
    fs::write(&config, settings)?;
    let before = Firewall::look()?;
    engine.up()?;
    let engine = Arc::new(engine);
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?,
    );
    let kubectl = Program::Kubectl(outside.kubectl.clone());
    let played =
        User::new(engine.clone(), kubectl.clone(), "plugged", runtime.clone()).and_then(|user| {
            network_is_missing(&user, &bridge)?;
            pods_are_reached(&user, &before)?;
            user.leave();
            engine.stop()?;
            engine.up()?;
            let user = User::new(engine.clone(), kubectl, "again", runtime)?;
            goes_on(&user)?;
            bad_configuration_is_told(&user)
        });
    let ipam = engine.root().join("ipam");
    let root = engine.root().to_owned();
    let ended = Arc::into_inner(engine)
        .context("the engine is still held")
        .and_then(|engine| {
            engine.carob(["down", "--all"])?;
            let held = addresses(&ipam)?;
            ensure!(held.is_empty(), "addresses are still held: {held:?}");
            let left = fs::read_dir(root.join("run/netns"))?.count();
            ensure!(left == 0, "network namespaces have names still");
            engine.down()
        });
    // What plugins share between Pods stays: it is theirs.
    let gone = Command::new("ip")
        .args(["link", "delete", &bridge])
        .status()?;
    let cleared = before.clear(&Firewall::look()?);
    played.and(ended)?;
    ensure!(gone.success(), "the plugin's bridge is not there");
    cleared
}

fn node(user: &User, path: &str) -> anyhow::Result<String> {
    user.run(&[
        "get",
        "nodes",
        "-o",
        &format!("jsonpath={{.items[0]{path}}}"),
    ])
}

/// Without a configuration the node is not Ready, and Pods wait; those on the node's network do not.
fn network_is_missing(user: &User, bridge: &str) -> anyhow::Result<()> {
    let ready = ".status.conditions[?(@.type==\"Ready\")]";
    let told = node(user, &format!("{ready}.message"))?;
    ensure!(told.starts_with(NOT_READY), "{told}");
    let name = node(user, ".metadata.name")?;
    let bound = |pod: &str, more: &str| {
        format!(
            r#"
---
apiVersion: v1
kind: Pod
metadata: {{name: {pod}}}
spec:
  nodeName: {name}
  terminationGracePeriodSeconds: 1
  {more}
  containers: [{{name: app, image: "busybox:1.36", command: [sleep, "3600"]}}]
"#
        )
    };
    user.apply(&(bound("client", "") + &bound("host", "hostNetwork: true")))?;
    user.wait("host", "Running", "1/1")?;
    user.wait_event(&format!(
        "Warning NetworkNotReady client: network is not ready: {NOT_READY}"
    ))?;
    let status = user.pod("client")?["status"].clone();
    ensure!(status["phase"] == "Pending", "{status:#}");

    let root = user.engine().root().display();
    let list = format!(
        r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [
            {{"type": "bridge", "bridge": "{bridge}", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
              "ipam": {{"type": "host-local", "dataDir": "{root}/ipam", "ranges": [[{{"subnet": "{RANGE}.0/24"}}]]}}}},
            {{"type": "tuning", "sysctl": {{"net.core.somaxconn": "500"}}}},
            {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#
    );
    write(user, "10-pods.conflist", &list)?;
    user.wait("client", "Running", "1/1")?;
    user.run(&[
        "wait",
        "node",
        &name,
        "--for=condition=Ready",
        "--timeout=20s",
    ])?;
    Ok(())
}

/// Puts a configuration there as careful programs do.
fn write(user: &User, name: &str, text: &str) -> anyhow::Result<()> {
    let dir = user.engine().root().join("net.d");
    fs::write(dir.join("new"), text)?;
    Ok(fs::rename(dir.join("new"), dir.join(name))?)
}

fn ask(user: &User, url: &str) -> anyhow::Result<String> {
    user.run(&["exec", "client", "--", "wget", "-q", "-O", "-", url])
}

fn pods_are_reached(user: &User, before: &Firewall) -> anyhow::Result<()> {
    let port = 20_000 + std::process::id() % 10_000;
    let web = page("web").replace(
        "containerPort: 8080",
        &format!("containerPort: 8080, hostPort: {port}"),
    );
    user.apply(&(SERVICE.to_owned() + &web))?;
    user.wait("web", "Running", "1/1")?;
    let (client, web) = (user.pod_ip("client")?, user.pod_ip("web")?);
    for ip in [&client, &web] {
        ensure!(ip.starts_with(RANGE), "{ip} is of another network");
        let held = addresses(&user.engine().root().join("ipam"))?;
        ensure!(held.contains(ip), "{ip} is not among {held:?}");
    }
    let tuned = user.run(&["exec", "web", "--", "cat", "/proc/sys/net/core/somaxconn"])?;
    ensure!(tuned.trim() == "500", "somaxconn is {tuned}");
    let direct = format!("http://{web}:8080/name");
    ensure!(ask(user, &direct)? == "web\n", "Pod to Pod");
    ensure!(
        http_get(&web, 8080, "/name")?.ends_with("web\n"),
        "machine to Pod"
    );
    // The name server, its Service and this one.
    until("a name leads to the Service", || {
        Ok(ask(user, "http://web/name").is_ok_and(|page| page == "web\n"))
    })?;
    let cluster = user.run(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    ensure!(
        http_get(&cluster, 80, "/name")?.ends_with("web\n"),
        "machine to Service"
    );
    let host = user.run(&["get", "pod", "web", "-o", "jsonpath={.status.hostIP}"])?;
    let number = u16::try_from(port)?;
    ensure!(
        http_get(&host, number, "/name")?.ends_with("web\n"),
        "host port"
    );
    let rules = Firewall::look()?;
    let is_mapped =
        |rule: &&String| rule.contains(&format!("--dport {port}")) && rule.contains(&web);
    let mapped = rules
        .nat
        .difference(&before.nat)
        .any(|rule| is_mapped(&rule));
    ensure!(mapped, "portmap serves the port");

    // What goes from Pod to Pod on the plugin's bridge is filtered where the kernel hands it to the firewall.
    let handed = fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if handed.is_ok_and(|text| text.trim() == "1") {
        user.apply(POLICY)?;
        until("a policy keeps the client out", || {
            Ok(ask(user, &direct).is_err())
        })?;
        user.run(&["delete", "networkpolicy", "deny"])?;
        until("no policy, no refusal", || Ok(ask(user, &direct).is_ok()))?;
    }
    Ok(())
}

/// After a restart of the engine Pods are as they were, and end as they should.
fn goes_on(user: &User) -> anyhow::Result<()> {
    let there = |arguments: &[&str]| user.run(&[&["-n", "plugged"], arguments].concat());
    let log = fs::read_to_string(user.engine().root().join("state/engine.log"))?;
    // Where `ip6tables` works, Debian's portmap sometimes looks for IPv6 rules that it had no address for.
    let is_complaint = |line: &&str| line.contains("network is not as it was");
    let mut complaints = log.lines().filter(is_complaint);
    let is_known = |line: &str| line.contains("portmap") && line.contains("ipv6");
    ensure!(complaints.all(is_known), "CHECK failed:\n{log}");
    let get = [
        "get",
        "pod",
        "web",
        "-o",
        "jsonpath={.status.podIP} {.status.containerStatuses[0].restartCount}",
    ];
    let pod = there(&get)?;
    let (ip, restarts) = pod.split_once(' ').context("an address")?;
    ensure!(restarts == "0", "it was restarted");
    ensure!(
        http_get(ip, 8080, "/name")?.ends_with("web\n"),
        "it goes on"
    );
    let ipam = user.engine().root().join("ipam");
    ensure!(addresses(&ipam)?.contains(ip), "its address is held");
    there(&["delete", "pod", "web"])?;
    until("the address is free again", || {
        Ok(!addresses(&ipam)?.contains(ip))
    })
}

fn bad_configuration_is_told(user: &User) -> anyhow::Result<()> {
    let list = r#"{"cniVersion": "1.0.0", "name": "bad", "plugins": [{"type": "nothing"}]}"#;
    write(user, "00-bad.conflist", list)?;
    // When it is heard of is seen by what becomes of Pods that come.
    let mut number = 0;
    let refused = |pod: &str| -> anyhow::Result<bool> {
        let words = r#"plugin type="nothing" failed (add): failed to find plugin "nothing" in path [/usr/lib/cni]"#;
        user.apply(&page(pod))?;
        let mut is_refused = false;
        until("it runs, or is told why not", || {
            is_refused = user.events()?.iter().any(|event| {
                event.starts_with(&format!("Warning FailedCreatePodSandBox {pod}: Failed to create pod sandbox: failed to setup network for sandbox"))
                    && event.contains(words)
            });
            Ok(is_refused || user.pod(pod)?["status"]["phase"] == "Running")
        })?;
        Ok(is_refused)
    };
    let mut pod = String::new();
    until("a Pod is refused", || {
        number += 1;
        pod = format!("p{number}");
        refused(&pod)
    })?;
    fs::remove_file(user.engine().root().join("net.d/00-bad.conflist"))?;
    user.wait(&pod, "Running", "1/1")
}

/// What host-local has given out.
fn addresses(ipam: &Path) -> anyhow::Result<BTreeSet<String>> {
    let files = fs::read_dir(ipam.join("pods"))?;
    let names = files.map(|file| Ok(file?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<anyhow::Result<BTreeSet<String>>>()?;
    Ok(names
        .into_iter()
        .filter(|name| name.starts_with(RANGE))
        .collect())
}

/// What portmap uses of the firewall.
struct Firewall {
    nat: BTreeSet<String>,
    tables: BTreeSet<String>,
}

impl Firewall {
    fn look() -> anyhow::Result<Firewall> {
        let lines = |program: &str, arguments: &[&str]| -> anyhow::Result<BTreeSet<String>> {
            let output = Command::new(program).args(arguments).output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(text.lines().map(str::to_owned).collect())
        };
        let tables = lines("nft", &["list", "tables"])?;
        Ok(Firewall {
            // Looking at a table by this program makes it.
            nat: match tables.contains("table ip nat") {
                true => lines("iptables", &["-t", "nat", "-S"])?,
                false => BTreeSet::new(),
            },
            tables,
        })
    }

    /// Nothing of a Pod is left; the chains that all Pods share go here.
    fn clear(&self, after: &Firewall) -> anyhow::Result<()> {
        let left: Vec<&String> = after.nat.difference(&self.nat).collect();
        let of_pods = left.iter().filter(|rule| {
            rule.contains(RANGE) || rule.contains("CNI-DN-") || rule.contains("--dport 2")
        });
        let of_pods: Vec<_> = of_pods.collect();
        for rule in left.iter().filter(|rule| rule.starts_with("-A ")) {
            let rule = rule.replacen("-A", "-D", 1).replace('"', "'");
            let _ = Command::new("sh")
                .args(["-c", &format!("iptables -t nat {rule}")])
                .output()?;
        }
        for chain in left.iter().filter_map(|rule| rule.strip_prefix("-N ")) {
            let _ = Command::new("iptables")
                .args(["-t", "nat", "-X", chain])
                .output()?;
        }
        if !self.tables.contains("table ip nat") {
            let _ = Command::new("nft")
                .args(["delete", "table", "ip", "nat"])
                .output()?;
        }
        ensure!(of_pods.is_empty(), "rules of Pods are left: {of_pods:#?}");
        Ok(())
    }
}
