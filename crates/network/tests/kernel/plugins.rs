//! Plugins that write down what they are asked, on a node of their own.

use std::fs;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use network::Network;
use network::cni::{Config, Plugins};
use ports::network::{NetworkError, NetworkStatus, PodNetwork};
use ports::runtime::{PortMapping, SandboxConfig, SandboxMetadata};
use serde_json::Value;

use crate::node::{block_on, new_netns, on_a_node};

const ID: &str = "1111111111111111";
const LIST: &str = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "first"},
    {"type": "second", "capabilities": {"portMappings": true}}]}"#;
/// Of the version before that: with the family of each address.
const FIRST: &str = r#"{"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}],
    "ips": [{"version": "4", "address": "10.99.0.5/24", "interface": 0}]}"#;
const SECOND: &str = r#"{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}],
    "ips": [{"address": "fd00::5/64", "interface": 0}, {"address": "10.99.0.5/24", "interface": 0}]}"#;

/// Plugins in a directory, and what they were asked.
struct World {
    dir: tempfile::TempDir,
    network: Arc<Network>,
    netns: OwnedFd,
}

impl World {
    fn new(config: &network::Config) -> World {
        let world = World {
            dir: tempfile::tempdir().expect("a directory"),
            network: Arc::new(Network::open(config).expect("a network")),
            netns: new_netns(),
        };
        for dir in ["conf", "bin"] {
            fs::create_dir(world.path(dir)).expect("makes");
        }
        for (name, answer) in [("first", FIRST), ("second", SECOND)] {
            world.answer(name, "ADD", answer);
            world.program(
                name,
                &format!(
                    r#"request=$(cat)
printf '%s\n' "{{\"verb\": \"$CNI_COMMAND {name}\", \"netns\": \"$CNI_NETNS\", \"args\": \"$CNI_ARGS\", \"asked\": $(echo $request)}}" >> {calls}
cat {answers}/{name}-$CNI_COMMAND 2>/dev/null
[ ! -e {answers}/{name}-$CNI_COMMAND-hangs ] || exec sleep 1000
[ ! -e {answers}/{name}-$CNI_COMMAND-fails ]"#,
                    calls = world.path("calls").display(),
                    answers = world.dir.path().display(),
                ),
            );
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    fn answer(&self, plugin: &str, verb: &str, text: &str) {
        fs::write(self.path(&format!("{plugin}-{verb}")), text).expect("writes");
    }

    fn fail(&self, plugin: &str, verb: &str) {
        let text = r#"{"code": 11, "msg": "no room", "details": "at all"}"#;
        self.answer(plugin, verb, text);
        self.answer(plugin, &format!("{verb}-fails"), "");
    }

    fn configure(&self, name: &str, text: &str) {
        fs::write(self.path("conf").join(name), text).expect("writes");
    }

    fn open(&self, has_directory: bool) -> Plugins {
        let config = Config {
            conf_dir: has_directory.then(|| self.path("conf")),
            bin_dirs: vec![self.path("nowhere"), self.path("bin")],
            state_dir: self.path("state"),
            run_dir: self.path("run"),
            patience: Duration::from_secs(60),
        };
        Plugins::open(config, self.network.clone()).expect("plugins")
    }

    async fn attach(&self, plugins: &Plugins) -> Result<NetworkStatus, NetworkError> {
        plugins.attach(ID, Some(&pod()), self.netns.as_fd()).await
    }

    fn has_asked(&self, verb: &str) -> bool {
        let calls = fs::read_to_string(self.path("calls"));
        calls.is_ok_and(|calls| calls.contains(verb) && calls.ends_with('\n'))
    }

    /// What was asked since the last look.
    fn calls(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        let calls = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("a call"));
        calls.collect()
    }

    fn verbs(&self) -> Vec<String> {
        let calls = self.calls();
        let verbs = calls
            .iter()
            .map(|call| call["verb"].as_str().expect("a verb").to_owned());
        verbs.collect()
    }

    /// Nothing is recorded, and no namespace has a name.
    fn is_clean(&self) {
        for dir in ["state", "run"] {
            let left = fs::read_dir(self.path(dir)).into_iter().flatten().count();
            assert_eq!(left, 0, "{dir}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&*self.dir.path().to_string_lossy()));
    }
}

fn pod() -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: "web".into(),
            uid: "uid".into(),
            namespace: "here".into(),
            ..SandboxMetadata::default()
        },
        hostname: "web".into(),
        log_directory: "/no/logs".into(),
        port_mappings: vec![PortMapping {
            protocol: "TCP".into(),
            container_port: 80,
            host_port: 8080,
            host_ip: String::new(),
        }],
        ..SandboxConfig::default()
    }
}

fn words(error: &NetworkError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[test]
fn plugins_are_asked_one_after_another_and_back() {
    on_a_node(|config| {
        let world = World::new(config);
        world.configure("10.conflist", LIST);
        world.configure("20.conflist", "never read");
        let plugins = world.open(true);
        block_on(async {
            let status = world.attach(&plugins).await.expect("attaches");
            let ips: Vec<String> = status.ips.iter().map(IpAddr::to_string).collect();
            assert_eq!(ips, ["10.99.0.5", "fd00::5"]);
            assert_eq!(world.attach(&plugins).await.expect("is"), status);
            let calls = world.calls();
            assert_eq!(calls.len(), 2, "{calls:#?}");
            let netns = world.path("run").join(ID).to_string_lossy().into_owned();
            assert!(calls.iter().all(|call| call["netns"] == *netns));
            let args = calls[0]["args"].as_str().expect("arguments");
            assert!(args.contains(&format!("K8S_POD_INFRA_CONTAINER_ID={ID};K8S_POD_UID=uid")));
            let second = &calls[1]["asked"];
            assert_eq!(second["prevResult"]["cniVersion"], "1.0.0", "converted");
            assert_eq!(second["prevResult"]["ips"][0]["version"], Value::Null);
            assert_eq!(second["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
            assert_eq!(calls[0]["asked"]["runtimeConfig"], Value::Null);

            plugins.detach(ID).await.expect("detaches");
            let calls = world.calls();
            let verbs: Vec<_> = calls.iter().map(|call| &call["verb"]).collect();
            assert_eq!(verbs, ["DEL second", "DEL first"]);
            let told = |call: &Value| call["asked"]["prevResult"]["ips"][0]["address"].clone();
            assert!(
                calls
                    .iter()
                    .all(|call| told(call) == "fd00::5/64" && call["netns"] == *netns)
            );
            plugins.detach(ID).await.expect("again");
            assert!(world.calls().is_empty());
        });
        world.is_clean();
    });
}

#[test]
fn what_failed_is_undone_and_told_as_upstream_words_it() {
    on_a_node(|config| {
        let world = World::new(config);
        world.configure("10.conflist", LIST);
        world.fail("second", "ADD");
        let plugins = world.open(true);
        block_on(async {
            let error = world.attach(&plugins).await.expect_err("it is refused");
            assert_eq!(
                words(&error),
                "plugin type=\"second\" failed (add): no room; at all"
            );
            let verbs = world.verbs();
            assert_eq!(
                verbs,
                ["ADD first", "ADD second", "DEL second", "DEL first"]
            );
            world.is_clean();
            fs::remove_file(world.path("second-ADD-fails")).expect("mends");
            for (answer, why) in [
                ("rubbish", "its result is no JSON object"),
                ("{}", "its result has no address of the Pod"),
                (
                    r#"{"cniVersion": "5.0.0"}"#,
                    "its result is of version \"5.0.0\"",
                ),
            ] {
                world.answer("second", "ADD", answer);
                let error = words(&world.attach(&plugins).await.expect_err(why));
                assert!(
                    error.starts_with(&format!("plugin type=\"second\" failed (add): {why}")),
                    "{error}"
                );
                world.is_clean();
            }
            // Nobody is asked where not all can be.
            world.calls();
            fs::rename(world.path("bin/second"), world.path("second")).expect("moves");
            let error = words(&world.attach(&plugins).await.expect_err("it is not there"));
            let start =
                "plugin type=\"second\" failed (add): failed to find plugin \"second\" in path [";
            assert!(
                error.starts_with(start) && world.calls().is_empty(),
                "{error}"
            );
            fs::rename(world.path("second"), world.path("bin/second")).expect("moves back");
            world.is_clean();
            // What does not let go is asked again, for as long as it takes.
            world.answer("second", "ADD", SECOND);
            world.attach(&plugins).await.expect("attaches");
            world.fail("first", "DEL");
            let error = plugins.detach(ID).await.expect_err("it stays");
            assert_eq!(
                words(&error),
                "plugin type=\"first\" failed (delete): no room; at all"
            );
            assert_eq!(plugins.holders().await, [ID]);
            fs::remove_file(world.path("first-DEL-fails")).expect("mends");
            plugins.detach(ID).await.expect("detaches");
        });
        world.is_clean();
    });
}

#[test]
fn what_a_killed_engine_began_is_detached() {
    on_a_node(|config| {
        let world = World::new(config);
        world.configure("10.conflist", LIST);
        world.answer("second", "ADD-hangs", "");
        block_on(async {
            let plugins = world.open(true);
            tokio::select! {
                _ = world.attach(&plugins) => panic!("it hangs"),
                () = until(|| world.has_asked("ADD second")) => {}
            }
            drop(plugins);
            world.calls();
            // The next engine may not use plugins any more.
            let next = world.open(false);
            assert_eq!(next.holders().await, [ID]);
            next.detach(ID).await.expect("detaches");
            let calls = world.calls();
            let verbs: Vec<_> = calls.iter().map(|call| &call["verb"]).collect();
            assert_eq!(verbs, ["DEL second", "DEL first"]);
            assert!(
                calls
                    .iter()
                    .all(|call| call["asked"]["prevResult"].is_null())
            );
        });
        world.is_clean();
    });
}

#[test]
fn a_new_engine_checks_and_collects() {
    on_a_node(|config| {
        let world = World::new(config);
        world.configure("10.conflist", &LIST.replace("1.0.0", "1.1.0"));
        block_on(async {
            let plugins = world.open(true);
            world.attach(&plugins).await.expect("attaches");
            world.calls();
            drop(plugins);
            let next = world.open(true);
            let status = next.status(ID).await.expect("is known");
            assert_eq!(status.ips.len(), 2);
            let running = [ID.to_owned()];
            tokio::select! {
                () = next.run(&running) => panic!("it follows"),
                () = until(|| world.has_asked("STATUS second")) => {}
            }
            let asked = world.calls();
            let verbs: Vec<_> = asked.iter().map(|call| call["verb"].as_str()).collect();
            let all = [
                "CHECK first",
                "CHECK second",
                "GC first",
                "GC second",
                "STATUS first",
                "STATUS second",
            ];
            assert_eq!(verbs, all.map(Some));
            let of = |verb: &str| {
                &asked
                    .iter()
                    .find(|call| call["verb"] == verb)
                    .expect("asked")["asked"]
            };
            assert_eq!(
                of("CHECK second")["prevResult"]["ips"][0]["address"],
                "fd00::5/64"
            );
            assert_eq!(
                of("GC first")["cni.dev/valid-attachments"][0]["containerID"],
                ID
            );
            next.detach(ID).await.expect("detaches");
        });
        world.is_clean();
    });
}

#[test]
fn networks_come_and_go_with_their_files() {
    on_a_node(|config| {
        let world = World::new(config);
        let plugins = world.open(true);
        let mut ready = plugins.readiness();
        block_on(async {
            let why = ready.borrow_and_update().clone().expect("it is not ready");
            let start = "cni plugin not initialized: no network config found in ";
            assert!(why.starts_with(start), "{why}");
            let error = world
                .attach(&plugins)
                .await
                .expect_err("there is no network");
            assert!(words(&error).starts_with(start), "{error}");
            let following = plugins.run(&[]);
            let told = async {
                world.configure("10.conflist", LIST);
                ready.wait_for(Option::is_none).await.expect("is told");
                world.configure("05.conf", "{\"name\": 3}");
                let why = ready
                    .wait_for(Option::is_some)
                    .await
                    .expect("is told")
                    .clone();
                let why = why.expect("words");
                assert!(why.contains("05.conf: it is no JSON object"), "{why}");
                world.configure(
                    "05.conf",
                    "{\"name\": \"a\", \"type\": \"first\", \"cniVersion\": \"1.1.0\"}",
                );
                world.fail("first", "STATUS");
                ready
                    .wait_for(|why| why.as_ref().is_some_and(|why| why.contains("no room")))
                    .await
                    .expect("is told");
                fs::remove_file(world.path("conf/05.conf")).expect("removes");
                ready.wait_for(Option::is_none).await.expect("is told");
            };
            tokio::select! { () = following => panic!("it follows"), () = told => {} }
        });
        world.is_clean();
    });
}

#[test]
fn without_a_directory_the_built_in_network_is_used() {
    on_a_node(|config| {
        let world = World::new(config);
        world.configure("10.conflist", LIST);
        let plugins = world.open(false);
        block_on(async {
            let status = world.attach(&plugins).await.expect("attaches");
            let range = world.network.pod_ranges().primary();
            assert!(matches!(status.ips[..], [ip] if range.contains(ip)));
            // One that uses plugins leaves that to the built-in network.
            let next = world.open(true);
            assert_eq!(next.status(ID).await, Some(status));
            next.detach(ID).await.expect("detaches");
            assert!(next.holders().await.is_empty() && world.calls().is_empty());
        });
    });
}

#[test]
fn pods_of_plugins_reach_the_gateway_and_others_do_not() {
    on_a_node(|config| {
        let world = World::new(config);
        world.configure("10.conflist", LIST);
        // Interface and address come by what is at hand; the answer tells of them.
        world.program("first", &wiring(&world));
        let plugins = world.open(true);
        let listener = TcpListener::bind((world.network.gateways()[0], 0)).expect("listens");
        let to = listener.local_addr().expect("an address");
        let reaches = |netns: &OwnedFd| {
            let tried = crate::node::inside(netns, move || {
                std::net::TcpStream::connect_timeout(&to, Duration::from_secs(5)).map(drop)
            });
            tried.join().expect("no panic").is_ok()
        };
        block_on(world.attach(&plugins)).expect("attaches");
        assert!(reaches(&world.netns), "as those on the bridge");
        // The plugin leaves the interface, but the node's address is for Pods alone.
        block_on(plugins.detach(ID)).expect("detaches");
        assert!(!reaches(&world.netns), "as all others");
        world.is_clean();
    });
}

/// A plugin that makes a pair of interfaces and answers with the address.
fn wiring(world: &World) -> String {
    format!(
        r#"[ $CNI_COMMAND = ADD ] || exit 0
nsenter --net=$CNI_NETNS ip link add eth0 type veth peer name outside0 netns $$
ip addr add 10.99.0.1/24 dev outside0 && ip link set outside0 up
nsenter --net=$CNI_NETNS sh -c 'ip addr add 10.99.0.5/24 dev eth0 && ip link set eth0 up && ip route add default via 10.99.0.1'
cat {}"#,
        world.path("first-ADD").display()
    )
}

/// Looks until it is so; other tasks go on between the looks.
async fn until(is_so: impl Fn() -> bool) {
    let look = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    let soon = tokio::time::timeout(Duration::from_secs(30), look).await;
    soon.expect("it is so soon");
}
