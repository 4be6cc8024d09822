//! `port-forward` (§14.11): listens here, and carries each connection to a port inside a Pod.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::ctrl_c;
use tokio::task::JoinSet;

use super::exec::{one_pod, path_of};
use super::logs::waiting_time;
use crate::args::PortForwardArgs;
use crate::connect::{JSON, Server};
use crate::tunnel;

/// What listens here and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    /// 0 is the kernel's choice.
    local: u16,
    remote: u16,
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{} {}}}", self.local, self.remote)
    }
}

/// `carob port-forward`
pub(crate) async fn port_forward(
    server: Server,
    args: &PortForwardArgs,
) -> anyhow::Result<ExitCode> {
    let [word, ports @ ..] = args.words.as_slice() else {
        bail!("{USAGE}");
    };
    if ports.is_empty() {
        bail!("{USAGE}");
    }
    let timeout = waiting_time(args.pod_running_timeout.as_deref(), Duration::from_secs(60))?;
    let pod = one_pod(&server, word, timeout).await?;
    let service = service(&server, word).await?;
    let ports = ports
        .iter()
        .map(|text| parse(text, &pod, service.as_ref()))
        .collect::<anyhow::Result<Vec<Ports>>>()?;
    match pod["status"]["phase"].as_str() {
        Some("Running") => {}
        phase => bail!(
            "unable to forward port because pod is not running. Current status={}",
            phase.unwrap_or_default()
        ),
    }
    let addresses = addresses(&args.address)?;
    let path = path_of(&server, &pod);
    // Refusals are told before anybody listens.
    drop(tunnel::open(&server, &path).await?);
    let mut listeners = Vec::new();
    for ports in &ports {
        listeners.extend(listen(*ports, &addresses).await);
    }
    if listeners.is_empty() {
        let all: Vec<String> = ports.iter().map(Ports::to_string).collect();
        bail!(
            "unable to listen on any of the requested ports: [{}]",
            all.join(" ")
        );
    }
    let server = Arc::new(server);
    let mut accepting = JoinSet::new();
    for (listener, ports) in listeners {
        accepting.spawn(accept(listener, ports, server.clone(), path.clone()));
    }
    tokio::select! {
        _ = accepting.join_next() => bail!("lost connection to pod"),
        _ = ctrl_c() => Ok(ExitCode::SUCCESS),
    }
}

const USAGE: &str = "TYPE/NAME and list of ports are required for port-forward\nSee 'carob port-forward -h' for help and examples";

/// The Service a word names, if it names one.
async fn service(server: &Server, word: &str) -> anyhow::Result<Option<Value>> {
    match word.split_once('/') {
        Some(("svc" | "service" | "services", name)) => {
            let path = format!("/api/v1/namespaces/{}/services/{name}", server.namespace);
            Ok(Some(server.get(&path, JSON).await?))
        }
        _ => Ok(None),
    }
}

/// Reads `80`, `8080:80`, `:80`; the remote one may be a name.
fn parse(text: &str, pod: &Value, service: Option<&Value>) -> anyhow::Result<Ports> {
    let (local, remote) = match text.split_once(':') {
        Some((_, remote)) if remote.contains(':') => bail!("invalid port format '{text}'"),
        Some((local, remote)) => (Some(local), remote),
        None => (None, text),
    };
    let number = match service {
        Some(service) => through_service(remote, service, pod)?,
        None => match remote.parse() {
            Ok(number) => number,
            Err(_) if is_name(remote) => container_port(pod, remote).ok_or_else(|| {
                anyhow!(
                    "Pod '{}' does not have a named port '{remote}'",
                    pod["metadata"]["name"].as_str().unwrap_or_default()
                )
            })?,
            Err(error) => bail!("error parsing remote port '{remote}': {error}"),
        },
    };
    if number == 0 {
        bail!("remote port must be > 0");
    }
    let local = match local {
        Some("") => 0,
        Some(local) => local
            .parse()
            .map_err(|error| anyhow!("error parsing local port '{local}': {error}"))?,
        // The Service's own number, where there is one.
        None => remote.parse().unwrap_or(number),
    };
    Ok(Ports {
        local,
        remote: number,
    })
}

fn is_name(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// The port of a Service's Pod that a port of the Service leads to.
fn through_service(wanted: &str, service: &Value, pod: &Value) -> anyhow::Result<u16> {
    let ports = service["spec"]["ports"].as_array();
    let number = wanted.parse::<u16>().ok();
    let found = ports.into_iter().flatten().find(|port| match number {
        Some(number) => port["port"] == number,
        None => port["name"] == wanted,
    });
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let Some(port) = found else {
        bail!("Service {name} does not have a service port {wanted}");
    };
    if port["protocol"] == "UDP" {
        bail!("UDP protocol is not supported for {wanted}");
    }
    // Without a cluster address, clients reach Pods under the Pods' own ports.
    if service["spec"]["clusterIP"] == "None"
        && let Some(number) = number
    {
        return Ok(number);
    }
    let target = &port["targetPort"];
    let leads_to = match (target.as_u64(), target.as_str()) {
        (Some(0) | None, None) => port["port"].as_u64(),
        (Some(number), _) => Some(number),
        (None, Some(name)) => container_port(pod, name).map(u64::from),
    };
    let leads_to = leads_to.and_then(|number| u16::try_from(number).ok());
    leads_to.ok_or_else(|| {
        anyhow!(
            "Pod '{}' does not have a named port '{}'",
            pod["metadata"]["name"].as_str().unwrap_or_default(),
            target.as_str().unwrap_or_default()
        )
    })
}

/// A port of a Pod by its name; sidecars have them too.
fn container_port(pod: &Value, name: &str) -> Option<u16> {
    let lists = ["containers", "initContainers"];
    let containers = lists.into_iter().filter_map(|list| {
        let containers = pod["spec"][list].as_array()?;
        Some(containers.iter())
    });
    let ports = containers
        .flatten()
        .filter_map(|container| container["ports"].as_array());
    let port = ports.flatten().find(|port| port["name"] == name)?;
    u16::try_from(port["containerPort"].as_u64()?).ok()
}

/// Addresses of ours, and whether each is one of `localhost`'s two, of which one is enough.
fn addresses(words: &[String]) -> anyhow::Result<Vec<(IpAddr, bool)>> {
    let mut addresses = Vec::new();
    for word in words {
        if word == "localhost" {
            addresses.push((Ipv4Addr::LOCALHOST.into(), true));
            addresses.push((Ipv6Addr::LOCALHOST.into(), true));
        } else {
            let address = word
                .parse()
                .map_err(|_| anyhow!("{word} is not a valid IP"))?;
            addresses.push((address, false));
        }
    }
    if addresses.is_empty() {
        bail!("you must specify at least 1 address");
    }
    Ok(addresses)
}

/// Listens at every address, or tells why not and listens at none.
async fn listen(mut ports: Ports, addresses: &[(IpAddr, bool)]) -> Vec<(TcpListener, Ports)> {
    let mut listeners = Vec::new();
    let mut failures = Vec::new();
    let (mut has_localhost, mut lacks_another) = (false, false);
    for (address, is_localhost) in addresses {
        let place = SocketAddr::new(*address, ports.local);
        let listening = TcpListener::bind(place)
            .await
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        match listening {
            Ok((place, listener)) => {
                // The same port at every address.
                ports.local = place.port();
                has_localhost |= is_localhost;
                say(&format!("Forwarding from {place} -> {}", ports.remote));
                listeners.push((listener, ports));
            }
            Err(error) => {
                let family = if address.is_ipv4() { "tcp4" } else { "tcp6" };
                lacks_another |= !is_localhost;
                failures.push(format!(
                    "unable to create listener: Error listen {family} {place}: bind: {}",
                    reason(&error)
                ));
            }
        }
    }
    let lacks_localhost = addresses.iter().any(|(_, is)| *is) && !has_localhost;
    if !lacks_localhost && !lacks_another {
        return listeners;
    }
    eprintln!(
        "Unable to listen on port {}: Listeners failed to create with the following errors: [{}]",
        ports.local,
        failures.join(" ")
    );
    Vec::new()
}

/// The kernel's words, without the number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    words.to_lowercase()
}

/// Takes connections until the Pod cannot be reached any more.
async fn accept(listener: TcpListener, ports: Ports, server: Arc<Server>, path: String) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    say(&format!("Handling connection for {}", ports.local));
                    connections.spawn(carry(stream, ports, server.clone(), path.clone()));
                }
                Err(error) => {
                    eprintln!("error accepting connection on port {}: {error}", ports.local);
                    return;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Ok(Err(error)) = ended {
                    eprintln!("an error occurred forwarding {} -> {}: {error:#}", ports.local, ports.remote);
                    return;
                }
            }
        }
    }
}

async fn carry(
    stream: TcpStream,
    ports: Ports,
    server: Arc<Server>,
    path: String,
) -> anyhow::Result<()> {
    // Refused only on a connection that is over already.
    let _ = stream.set_nodelay(true);
    let tunnel = tunnel::open(&server, &path).await?;
    match tunnel::carry(tunnel, ports.remote, stream).await? {
        Some(reason) => bail!("{reason}"),
        None => Ok(()),
    }
}

/// A line for whoever still reads.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str, service: Option<&Value>) -> Result<(u16, u16), String> {
        let pod = json!({"metadata": {"name": "web"}, "spec": {
            "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}],
            "initContainers": [{"ports": [{"name": "admin", "containerPort": 9000}]}]}});
        parse(text, &pod, service)
            .map(|ports| (ports.local, ports.remote))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn ports_of_a_pod() {
        for (text, ports) in [
            ("80", (80, 80)),
            ("8000:80", (8000, 80)),
            (":80", (0, 80)),
            ("0:80", (0, 80)),
            ("http", (8080, 8080)),
            ("1:http", (1, 8080)),
            ("admin", (9000, 9000)),
        ] {
            assert_eq!(read(text, None), Ok(ports), "{text}");
        }
        for (text, words) in [
            ("1:2:3", "invalid port format '1:2:3'"),
            ("0", "remote port must be > 0"),
            ("80:", "error parsing remote port ''"),
            ("70000", "error parsing remote port '70000'"),
            ("x:80", "error parsing local port 'x'"),
            ("https", "Pod 'web' does not have a named port 'https'"),
        ] {
            let refused = read(text, None).expect_err(text);
            assert!(refused.starts_with(words), "{text}: {refused}");
        }
    }

    #[test]
    fn ports_of_a_service() {
        let service = json!({"metadata": {"name": "front"}, "spec": {"clusterIP": "10.96.0.9", "ports": [
            {"name": "web", "port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 7}, {"port": 53, "protocol": "UDP"}]}});
        for (text, ports) in [
            ("80", (80, 8080)),
            ("web", (8080, 8080)),
            ("5:81", (5, 7)),
            (":80", (0, 8080)),
        ] {
            assert_eq!(read(text, Some(&service)), Ok(ports), "{text}");
        }
        for (text, words) in [
            ("82", "Service front does not have a service port 82"),
            ("53", "UDP protocol is not supported for 53"),
        ] {
            assert_eq!(read(text, Some(&service)), Err(words.to_owned()));
        }
        let headless = json!({"metadata": {"name": "front"}, "spec": {"clusterIP": "None", "ports": [{"port": 80, "targetPort": 8}]}});
        assert_eq!(read("80", Some(&headless)), Ok((80, 80)));
    }

    #[test]
    fn addresses_are_localhost_or_numbers() {
        let read = |word: &str| addresses(&[word.to_owned()]).map(|found| found.len());
        assert_eq!(read("localhost").ok(), Some(2));
        assert_eq!(read("0.0.0.0").ok(), Some(1));
        assert_eq!(
            read("here").expect_err("no address").to_string(),
            "here is not a valid IP"
        );
    }
}
