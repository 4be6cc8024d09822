//! What a plugin is asked: environment and standard input of a call.

use std::collections::BTreeMap;

use ports::runtime::SandboxConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::config::{Network, Plugin};

/// Name of the Pod's interface, as every runtime calls it.
const INTERFACE: &str = "eth0";
/// What fits into the bucket of a limit: all there is, as upstream's runtimes have it.
const BURST: i32 = i32::MAX;

/// What plugins are asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
}

impl Verb {
    /// `CNI_COMMAND`.
    fn command(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
        }
    }

    /// As libcni names it in errors.
    pub(super) fn word(self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::Del => "delete",
            Verb::Check => "check",
            Verb::Gc => "gc",
            Verb::Status => "status",
        }
    }
}

/// A sandbox on a network: what each call about it is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Attachment {
    pub(super) sandbox_id: String,
    /// `CNI_ARGS`.
    args: String,
    /// What plugins that ask for it get (`runtimeConfig`), by capability.
    capabilities: BTreeMap<String, Value>,
}

impl Attachment {
    /// Of a Pod's sandbox.
    pub(super) fn of(sandbox_id: &str, pod: &SandboxConfig) -> Attachment {
        let meta = &pod.metadata;
        // None of these can hold a semicolon: they are names of the API, and ids.
        let args = [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", &meta.namespace),
            ("K8S_POD_NAME", &meta.name),
            ("K8S_POD_INFRA_CONTAINER_ID", sandbox_id),
            ("K8S_POD_UID", &meta.uid),
        ];
        Attachment {
            sandbox_id: sandbox_id.to_owned(),
            args: args
                .map(|(name, value)| format!("{name}={value}"))
                .join(";"),
            capabilities: capabilities(pod),
        }
    }
}

/// What there is to tell plugins of a Pod, under the conventions' names.
fn capabilities(pod: &SandboxConfig) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let ports: Vec<Value> = pod
        .port_mappings
        .iter()
        .map(|port| {
            json!({"hostPort": port.host_port, "containerPort": port.container_port,
                "protocol": port.protocol.to_lowercase(), "hostIP": port.host_ip})
        })
        .collect();
    if !ports.is_empty() {
        all.insert("portMappings".to_owned(), ports.into());
    }
    let mut limits = Map::new();
    let ways = [
        ("ingress", pod.bandwidth.ingress_bits),
        ("egress", pod.bandwidth.egress_bits),
    ];
    for (way, rate) in ways {
        if let Some(rate) = rate {
            limits.insert(format!("{way}Rate"), rate.into());
            limits.insert(format!("{way}Burst"), BURST.into());
        }
    }
    if !limits.is_empty() {
        all.insert("bandwidth".to_owned(), limits.into());
    }
    if !pod.annotations.is_empty() {
        let name = "io.kubernetes.cri.pod-annotations".to_owned();
        all.insert(name, json!(pod.annotations));
    }
    all
}

/// The environment of a call, beside what plugins have from the engine. `netns` is empty where it is gone; calls that are about no
/// sandbox (STATUS, GC) have neither.
pub(super) fn environment(
    verb: Verb,
    path: &str,
    about: Option<(&Attachment, &str)>,
) -> Vec<(&'static str, String)> {
    let mut environment = vec![
        ("CNI_COMMAND", verb.command().to_owned()),
        ("CNI_PATH", path.to_owned()),
    ];
    if let Some((attachment, netns)) = about {
        environment.extend([
            ("CNI_CONTAINERID", attachment.sandbox_id.clone()),
            ("CNI_NETNS", netns.to_owned()),
            ("CNI_IFNAME", INTERFACE.to_owned()),
            ("CNI_ARGS", attachment.args.clone()),
        ]);
    }
    environment
}

/// The plugin's configuration as it gets it: with the network's name and version, the result so far, and what it asked to be told.
pub(super) fn stdin(
    network: &Network,
    plugin: &Plugin,
    result: Option<&Value>,
    attachment: Option<&Attachment>,
) -> Value {
    let mut config = plugin.config.clone();
    config.insert("name".into(), network.name.clone().into());
    config.insert("cniVersion".into(), network.version.number().into());
    if let Some(result) = result {
        config.insert("prevResult".into(), result.clone());
    }
    let told: Map<String, Value> = plugin
        .capabilities
        .iter()
        .filter_map(|name| {
            let value = attachment?.capabilities.get(name)?;
            Some((name.clone(), value.clone()))
        })
        .collect();
    if !told.is_empty() {
        config.insert("runtimeConfig".into(), told.into());
    }
    Value::Object(config)
}

/// The same for GC: with all that is still attached.
pub(super) fn stdin_of_gc(network: &Network, plugin: &Plugin, attached: &[String]) -> Value {
    let mut config = stdin(network, plugin, None, None);
    let attached: Vec<Value> = attached
        .iter()
        .map(|id| json!({"containerID": id, "ifname": INTERFACE}))
        .collect();
    config["cni.dev/valid-attachments"] = attached.into();
    config
}

#[cfg(test)]
mod tests {
    use ports::runtime::{Bandwidth, PortMapping};

    use super::*;
    use crate::cni::{config, testing};

    fn pod() -> SandboxConfig {
        let mut pod = testing::pod("web");
        pod.port_mappings = vec![PortMapping {
            protocol: "TCP".into(),
            container_port: 80,
            host_port: 8080,
            host_ip: String::new(),
        }];
        pod.bandwidth = Bandwidth {
            ingress_bits: Some(1_000_000),
            egress_bits: None,
        };
        pod
    }

    #[test]
    fn calls_say_which_pod_they_are_about() {
        let attachment = Attachment::of("abc", &pod());
        let about = environment(Verb::Del, "/a:/b", Some((&attachment, "/run/x/netns/abc")));
        let about: BTreeMap<_, _> = about.into_iter().collect();
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=here;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=uid-web";
        for (name, value) in [
            ("CNI_COMMAND", "DEL"),
            ("CNI_PATH", "/a:/b"),
            ("CNI_CONTAINERID", "abc"),
            ("CNI_NETNS", "/run/x/netns/abc"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", args),
        ] {
            assert_eq!(about[name], value);
        }
        assert_eq!(environment(Verb::Gc, "/a", None).len(), 2);
    }

    #[test]
    fn plugins_are_told_what_they_ask_for() {
        let text = r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "name": "other", "mtu": 1400},
            {"type": "all", "capabilities": {"portMappings": true, "bandwidth": true, "ips": true, "mac": false}}]}"#;
        let network = config::parse("a.conflist", text).expect("a network");
        let attachment = Attachment::of("abc", &pod());
        let asks =
            |n: usize, result| stdin(&network, &network.plugins[n], result, Some(&attachment));
        assert_eq!(
            asks(0, None),
            json!({"type": "bridge", "name": "pods", "mtu": 1400, "cniVersion": "1.0.0"})
        );
        let told = asks(1, Some(&json!({"ips": []})));
        assert_eq!(told["prevResult"], json!({"ips": []}));
        let ports =
            json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]);
        assert_eq!(
            told["runtimeConfig"],
            json!({"portMappings": ports, "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": i32::MAX}})
        );
        let gc = stdin_of_gc(&network, &network.plugins[0], &["abc".to_owned()]);
        assert_eq!(
            gc["cni.dev/valid-attachments"],
            json!([{"containerID": "abc", "ifname": "eth0"}])
        );
    }
}
