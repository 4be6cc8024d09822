//! `expose`: a Service in front of Pods, a workload's Pods, or those behind another Service.

use std::process::ExitCode;

use http::Method;
use serde_json::{Map, Value, json};

use super::write::{DryRun, Writer};
use crate::args::ExposeArgs;
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure;
use crate::select::{Item, Selection};

const MANAGER: &str = "kubectl-expose";
/// Longest name of a Service.
const LONGEST_NAME: usize = 63;

/// `carob expose`
pub(crate) async fn expose(server: &Server, args: &ExposeArgs) -> anyhow::Result<ExitCode> {
    let writer = Writer::new(&args.write, MANAGER)?;
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        words: &args.words,
        files: args.files.clone(),
        ..Selection::default()
    };
    let (items, mut failures) = selection.items(server, &resources).await?;
    for item in &items {
        failures.extend(one(server, args, &writer, item).await.err());
    }
    Ok(failure::outcome(&failures))
}

async fn one(
    server: &Server,
    args: &ExposeArgs,
    writer: &Writer,
    item: &Item,
) -> anyhow::Result<()> {
    let object = server.get(&item.path(), JSON).await?;
    let mut service = service(args, &object).map_err(anyhow::Error::msg)?;
    if writer.dry_run == DryRun::Client {
        if server.namespace_is_fixed {
            service["metadata"]["namespace"] = server.namespace.as_str().into();
        }
    } else {
        let namespace = item.namespace.as_deref().unwrap_or(&server.namespace);
        let query = writer.query(&[]);
        let path = format!("/api/v1/namespaces/{namespace}/services{query}");
        service = server.write(Method::POST, &path, &service).await?;
    }
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    writer.done(&format!("service/{name}"), "exposed", &service)
}

/// The Service for an object.
fn service(args: &ExposeArgs, object: &Value) -> Result<Value, String> {
    let is_empty = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let found = Exposed::of(object)?;
    let selector = match given(&args.selector) {
        Some(text) => labels(&text)?,
        None => found.selector.map_err(|reason| {
            format!("couldn't retrieve selectors via --selector flag or introspection: {reason}")
        })?,
    };
    let numbers: Vec<String> = match given(&args.port) {
        Some(text) => text.split(',').map(str::to_owned).collect(),
        None => {
            let mut numbers: Vec<String> = Vec::new();
            for (number, _) in &found.ports {
                let number = number.to_string();
                if !numbers.contains(&number) {
                    numbers.push(number);
                }
            }
            numbers
        }
    };
    let is_headless = args.cluster_ip.as_deref() == Some("None");
    if numbers.is_empty() && !is_headless {
        return Err("couldn't find port via --port flag or introspection".into());
    }
    let mut ports = Vec::new();
    for (place, text) in numbers.iter().enumerate() {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))?;
        let several = numbers.len() > 1;
        let name = several.then(|| format!("port-{}", place + 1));
        let protocols = protocols(args.protocol.as_deref(), &found.ports, number);
        let is_one = protocols.len() == 1;
        for protocol in protocols {
            let target = match given(&args.target_port) {
                Some(target) => target.parse::<i64>().map_or(json!(target), Value::from),
                None => number.into(),
            };
            let mut port = json!({"port": number, "protocol": protocol, "targetPort": target});
            let name = match is_one {
                true => name.clone(),
                false => Some(format!("port-{}-{}", place + 1, protocol.to_lowercase())),
            };
            if let Some(name) = name {
                port["name"] = name.into();
            }
            ports.push(port);
        }
    }
    let name = match given(&args.name) {
        Some(name) => name,
        None => found.name.chars().take(LONGEST_NAME).collect(),
    };
    let mut metadata = json!({ "name": name });
    let labels = match given(&args.labels) {
        Some(text) => labels(&text)?,
        None => found.labels,
    };
    if !labels.is_empty() {
        metadata["labels"] = labels.into();
    }
    let mut spec = json!({ "selector": selector });
    if !ports.is_empty() {
        spec["ports"] = ports.into();
    }
    if !matches!(
        args.session_affinity.as_deref(),
        None | Some("" | "None" | "ClientIP")
    ) {
        let how = args.session_affinity.as_deref().unwrap_or_default();
        return Err(format!("unknown session affinity: {how}"));
    }
    for (field, value) in [
        ("type", &args.kind),
        ("sessionAffinity", &args.session_affinity),
        ("clusterIP", &args.cluster_ip),
    ] {
        if !is_empty(value) {
            spec[field] = json!(value);
        }
    }
    if !is_empty(&args.external_ip) {
        spec["externalIPs"] = json!([args.external_ip]);
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": spec,
        "status": {"loadBalancer": {}},
    }))
}

/// What an object says of the Service it is to have.
struct Exposed {
    name: String,
    labels: Map<String, Value>,
    selector: Result<Map<String, Value>, String>,
    /// Numbers and protocols, in the object's order.
    ports: Vec<(i64, String)>,
}

impl Exposed {
    fn of(object: &Value) -> Result<Exposed, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let labels = map(&metadata["labels"]);
        let pods = &spec["template"]["spec"];
        let not_empty = |map: Map<String, Value>, reason: &str| match map.is_empty() {
            true => Err(reason.to_owned()),
            false => Ok(map),
        };
        let (selector, ports) = match (version.as_str(), kind.as_str()) {
            ("v1", "Pod") => {
                let reason = "the pod has no labels and cannot be exposed";
                (not_empty(labels.clone(), reason), container_ports(spec))
            }
            ("v1", "Service") => {
                let selector = map(&spec["selector"]);
                let reason = "the service has no pod selector set";
                (not_empty(selector, reason), list(&spec["ports"], "port"))
            }
            ("v1", "ReplicationController") => (Ok(map(&spec["selector"])), container_ports(pods)),
            ("apps/v1", "Deployment" | "ReplicaSet") => {
                let selector = &spec["selector"];
                let plain = match selector["matchExpressions"].as_array() {
                    Some(some) if !some.is_empty() => Err(format!(
                        "couldn't convert expressions - \"{}\" to map-based selector format",
                        selector["matchExpressions"]
                    )),
                    _ => Ok(map(&selector["matchLabels"])),
                };
                (plain, container_ports(pods))
            }
            _ => {
                let group = version
                    .split_once('/')
                    .map(|(group, _)| format!(".{group}"));
                return Err(format!(
                    "cannot expose a {kind}{}",
                    group.unwrap_or_default()
                ));
            }
        };
        Ok(Exposed {
            name: text(&metadata["name"]),
            labels,
            selector,
            ports,
        })
    }
}

fn container_ports(spec: &Value) -> Vec<(i64, String)> {
    let containers = spec["containers"].as_array().into_iter().flatten();
    containers
        .flat_map(|container| list(&container["ports"], "containerPort"))
        .collect()
}

fn list(ports: &Value, field: &str) -> Vec<(i64, String)> {
    let one = |port: &Value| {
        let protocol = port["protocol"].as_str().filter(|text| !text.is_empty());
        Some((port[field].as_i64()?, protocol.unwrap_or("TCP").to_owned()))
    };
    ports
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(one)
        .collect()
}

/// The protocols of a port: the one that was named, or the object's.
fn protocols(named: Option<&str>, ports: &[(i64, String)], number: i64) -> Vec<String> {
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        return vec![named.to_owned()];
    }
    let found: Vec<String> = ports
        .iter()
        .filter(|(other, _)| *other == number)
        .map(|(_, protocol)| protocol.clone())
        .collect();
    if found.is_empty() {
        return vec!["TCP".into()];
    }
    found
}

/// `a=b,c=d`
fn labels(text: &str) -> Result<Map<String, Value>, String> {
    text.split(',')
        .map(|pair| match pair.split('=').collect::<Vec<_>>()[..] {
            ["", _] => Err("unexpected empty label key".to_owned()),
            [key, value] => Ok((key.to_owned(), value.into())),
            _ => Err(format!("unexpected label spec: {pair}")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command, Verb};
    use clap::Parser;

    fn made(flags: &str, object: &Value) -> Result<Value, String> {
        let line = format!("carob expose x/web {flags}");
        match Cli::parse_from(line.split_whitespace()).command {
            Command::Verb(Verb::Expose(args)) => service(&args, object),
            other => panic!("{other:?}"),
        }
    }

    fn deployment(ports: Value) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"tier": "front"}},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {"containers": [{"ports": ports}]}}}})
    }

    #[test]
    fn services_stand_before_workloads() {
        let object = deployment(json!([{"containerPort": 8080, "protocol": "TCP"}]));
        let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": {"tier": "front"}}, "spec": spec, "status": {"loadBalancer": {}}});
        let selector = json!({"app": "web"});
        for (flags, spec) in [
            (
                "",
                json!({"selector": selector, "ports": [{"port": 8080, "protocol": "TCP", "targetPort": 8080}]}),
            ),
            (
                "--port=80 --target-port=http --type=NodePort --session-affinity=ClientIP",
                json!({"selector": selector, "type": "NodePort", "sessionAffinity": "ClientIP",
                    "ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}]}),
            ),
            (
                "--port=80,81 --target-port=8080 --protocol=UDP --cluster-ip=None --external-ip=192.0.2.1 --selector=a=b",
                json!({"selector": {"a": "b"}, "clusterIP": "None", "externalIPs": ["192.0.2.1"], "ports": [
                    {"name": "port-1", "port": 80, "protocol": "UDP", "targetPort": 8080},
                    {"name": "port-2", "port": 81, "protocol": "UDP", "targetPort": 8080}]}),
            ),
        ] {
            assert_eq!(made(flags, &object), Ok(service(spec)), "{flags}");
        }
        let named = made("--name=front --labels=c=d", &object).expect("a Service");
        assert_eq!(
            named["metadata"],
            json!({"name": "front", "labels": {"c": "d"}})
        );
        let both = deployment(
            json!([{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]),
        );
        assert_eq!(
            made("", &both).expect("a Service")["spec"]["ports"],
            json!([{"name": "port-1-udp", "port": 53, "protocol": "UDP", "targetPort": 53}, {"name": "port-1-tcp", "port": 53, "protocol": "TCP", "targetPort": 53}])
        );
    }

    #[test]
    fn mistakes_are_told() {
        let bare = deployment(json!([]));
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {}});
        let job = json!({"apiVersion": "batch/v1", "kind": "Job"});
        for (flags, object, words) in [
            (
                "",
                &bare,
                "couldn't find port via --port flag or introspection",
            ),
            (
                "--port=x",
                &bare,
                "strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "--port=1 --session-affinity=x",
                &bare,
                "unknown session affinity: x",
            ),
            ("--port=1 --selector=a", &bare, "unexpected label spec: a"),
            (
                "--port=1",
                &pod,
                "couldn't retrieve selectors via --selector flag or introspection: the pod has no labels and cannot be exposed",
            ),
            ("--port=1", &job, "cannot expose a Job.batch"),
        ] {
            assert_eq!(made(flags, object), Err(words.to_owned()), "{flags}");
        }
    }
}
