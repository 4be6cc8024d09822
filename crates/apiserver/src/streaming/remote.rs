//! The server of another node's agent (upstream's kubelet server): where it is, and requests to it. It is not asked who it is, as upstream
//! does unless told of an authority for that; this server shows a certificate of its own.
//!
//! What a client is to talk over is passed on as it comes, byte by byte, in both directions, until either side ends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::query::percent_encode;
use api::status::{self, StatusError};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use ports::node::{LogOptions, NodeError, Target, Usage, Used};
use ports::streams::LogStream;
use rustls_pki_types::ServerName;
use serde_json::Value;
use streaming::Wanted;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::respond::{self, Body, BoxError};
use crate::rest::meta;
use crate::router::Call;

/// A node must have taken a connection by then.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
/// And must have told what is used by then: others wait to be shown beside it.
const SUMMARY: Duration = Duration::from_secs(10);
/// Which addresses of a node are tried, the best first.
const ADDRESSES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];
/// Bytes of an answer that is read as a whole.
const MOST: usize = 64 * 1024 * 1024;
/// What agents measure over; their summaries do not tell.
const WINDOW: Duration = Duration::from_millis(500);

/// The server of a node's agent.
pub(crate) struct Remote {
    node: String,
    host: String,
    port: u16,
    tls: Arc<rustls::ClientConfig>,
    shutdown: CancellationToken,
}

impl Remote {
    /// Where the status of a Node says it is, if it does.
    pub(super) fn of(
        node: &Value,
        tls: Arc<rustls::ClientConfig>,
        shutdown: CancellationToken,
    ) -> Option<Remote> {
        let (host, port) = place(node)?;
        Some(Remote {
            node: meta(node, "name").to_owned(),
            host: host.to_owned(),
            port,
            tls,
            shutdown,
        })
    }

    /// Whether this is its port.
    pub(super) fn is_at(&self, port: &str) -> bool {
        port.parse() == Ok(self.port)
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, String> {
        let name = match self.host.parse::<IpAddr>() {
            Ok(ip) => ServerName::IpAddress(ip.into()),
            Err(_) => ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?,
        };
        let connected = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            stream.set_nodelay(true)?;
            let connector = TlsConnector::from(self.tls.clone());
            connector.connect(name, stream).await
        };
        match tokio::time::timeout(CONNECT, connected).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err("i/o timeout".into()),
        }
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let authority = self.authority();
        let stream = self.connect().await;
        let stream = stream.map_err(|why| format!("dial tcp {authority}: {why}"))?;
        if let Ok(host) = HeaderValue::try_from(authority) {
            request.headers_mut().insert(HOST, host);
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        // Ends when the answer was read, or nobody reads it any more.
        tokio::spawn(connection.with_upgrades());
        let answer = sender.send_request(request).await;
        answer.map_err(|error| error.to_string())
    }

    /// Asks for something; what is no success is an error in the agent's words.
    async fn get(&self, path: &str) -> Result<Incoming, NodeError> {
        let request = Request::get(path).body(Full::default());
        let request = request.map_err(|error| dialing(&error.to_string()))?;
        let answer = self.send(request).await.map_err(|why| dialing(&why))?;
        let (code, body) = (answer.status(), answer.into_body());
        if code.is_success() {
            return Ok(body);
        }
        let text = Limited::new(body, MOST).collect().await;
        let text = text.map(|text| text.to_bytes()).unwrap_or_default();
        Err(NodeError {
            code: code.as_u16(),
            message: String::from_utf8_lossy(&text).trim_end().to_owned(),
        })
    }

    /// A container's log.
    pub(super) async fn logs(
        &self,
        target: &Target,
        options: &LogOptions,
    ) -> Result<LogStream, NodeError> {
        let body = self.get(&logs_path(target, options)).await?;
        let data = TryStreamExt::map_err(body.into_data_stream(), std::io::Error::other);
        Ok(data.boxed())
    }

    /// What the node uses, and these Pods of it.
    pub(super) async fn usage(&self, pods: &[&Value]) -> Result<Usage, NodeError> {
        let summary = tokio::time::timeout(SUMMARY, self.summary(pods)).await;
        summary.unwrap_or_else(|_| Err(dialing("i/o timeout")))
    }

    async fn summary(&self, pods: &[&Value]) -> Result<Usage, NodeError> {
        let body = self.get("/stats/summary").await?;
        let read = Limited::new(body, MOST).collect().await;
        let text = read
            .map_err(|error| dialing(&error.to_string()))?
            .to_bytes();
        let summary: Value =
            serde_json::from_slice(&text).map_err(|error| dialing(&error.to_string()))?;
        Ok(usage(&self.node, &summary, pods))
    }

    /// Passes a request on to `path`, and the answer back; both sides may go on to talk of something else than HTTP.
    pub(crate) async fn pass_on(
        &self,
        call: &Call,
        path: &str,
    ) -> Result<Response<Body>, StatusError> {
        let parts = &call.parts;
        let request = Request::builder().method(parts.method.clone()).uri(path);
        let mut request = request
            .body(Full::new(call.body.clone()))
            .map_err(|error| status::bad_request(error.to_string()))?;
        let headers = request.headers_mut();
        *headers = super::proxy::passed_on(&parts.headers);
        let mut client = None;
        if let Some(upgrade) = parts.headers.get(UPGRADE) {
            headers.insert(UPGRADE, upgrade.clone());
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            client = Some(streaming::connection(parts)?);
        }
        let answer = self.send(request).await;
        let mut answer = answer.map_err(|why| super::node_error(dialing(&why)))?;
        let agent = hyper::upgrade::on(&mut answer);
        let (mut head, body) = answer.into_parts();
        head.version = http::Version::default();
        if let Some(client) = client.filter(|_| head.status == StatusCode::SWITCHING_PROTOCOLS) {
            tokio::spawn(splice(client, agent, self.shutdown.clone()));
            return Ok(Response::from_parts(head, respond::full(Bytes::new())));
        }
        super::proxy::drop_connections_own(&mut head.headers);
        let body = body.map_err(|error| Box::new(error) as BoxError);
        Ok(Response::from_parts(head, BodyExt::boxed_unsync(body)))
    }
}

/// Joins two connections until one of them ends.
async fn splice(client: OnUpgrade, agent: OnUpgrade, shutdown: CancellationToken) {
    let (client, agent) = match tokio::try_join!(client, agent) {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "upgrade failed"),
    };
    let (mut client, mut agent) = (TokioIo::new(client), TokioIo::new(agent));
    tokio::select! {
        ended = tokio::io::copy_bidirectional(&mut client, &mut agent) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to an agent ended");
            }
        }
        () = shutdown.cancelled() => {}
    }
}

/// That an agent cannot be talked with, as upstream's server says it.
fn dialing(why: &str) -> NodeError {
    NodeError {
        code: 500,
        message: format!("error dialing backend: {why}"),
    }
}

/// Where a Node's agent is served, as its status says.
fn place(node: &Value) -> Option<(&str, u16)> {
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64()?;
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    let all = node["status"]["addresses"].as_array()?;
    let first = |kind: &&str| {
        let found = all.iter().find(|address| address["type"] == **kind)?;
        found["address"].as_str()
    };
    Some((ADDRESSES.iter().find_map(first)?, port))
}

fn logs_path(target: &Target, options: &LogOptions) -> String {
    let Target {
        namespace,
        pod,
        container,
        ..
    } = target;
    let mut query = Vec::new();
    for (name, is_on) in [
        ("follow", options.follow),
        ("previous", options.previous),
        ("timestamps", options.timestamps),
    ] {
        query.extend(is_on.then(|| format!("{name}=true")));
    }
    query.extend(options.since.map(|at| format!("sinceTime={at}")));
    query.extend(options.tail_lines.map(|n| format!("tailLines={n}")));
    query.extend(options.limit_bytes.map(|n| format!("limitBytes={n}")));
    let query = query.join("&");
    format!("/containerLogs/{namespace}/{pod}/{container}?{query}")
}

/// Where an agent begins a process in a container (exec) or joins it (attach). The parameters' names are not those of the API.
pub(super) fn process_path(
    verb: &str,
    target: &Target,
    wanted: Wanted,
    command: &[String],
) -> String {
    let Target {
        namespace,
        pod,
        uid,
        container,
    } = target;
    let mut query: Vec<String> = command
        .iter()
        .map(|word| format!("command={}", percent_encode(word)))
        .collect();
    for (name, is_on) in [
        ("input", wanted.stdin),
        ("output", wanted.stdout),
        ("error", wanted.stderr),
        ("tty", wanted.tty),
    ] {
        query.extend(is_on.then(|| format!("{name}=1")));
    }
    let query = query.join("&");
    format!("/{verb}/{namespace}/{pod}/{uid}/{container}?{query}")
}

/// Where an agent connects to a Pod's ports.
pub(super) fn ports_path<'a>(target: &Target, named: impl Iterator<Item = &'a str>) -> String {
    let Target {
        namespace,
        pod,
        uid,
        ..
    } = target;
    let query: Vec<String> = named
        .map(|ports| format!("port={}", percent_encode(ports)))
        .collect();
    let query = query.join("&");
    format!("/portForward/{namespace}/{pod}/{uid}?{query}")
}

/// What a summary tells of these Pods, which it knows by their names: what stands for a Pod in the API has another UID.
fn usage(node: &str, summary: &Value, pods: &[&Value]) -> Usage {
    let used = |figures: &Value| Used {
        nano_cpus: figures["cpu"]["usageNanoCores"]
            .as_u64()
            .unwrap_or_default(),
        cpu_ns: figures["cpu"]["usageCoreNanoSeconds"]
            .as_u64()
            .unwrap_or_default(),
        memory_bytes: figures["memory"]["workingSetBytes"]
            .as_u64()
            .unwrap_or_default(),
    };
    let all = list(&summary["pods"]);
    let measured = pods.iter().filter_map(|pod| {
        let is_it = |known: &&Value| {
            let place = &known["podRef"];
            place["namespace"] == meta(pod, "namespace") && place["name"] == meta(pod, "name")
        };
        let containers = list(&all.clone().find(is_it)?["containers"]);
        let containers = containers.map(|c| {
            let name = c["name"].as_str().unwrap_or_default();
            (name.to_owned(), used(c))
        });
        let containers: BTreeMap<_, _> = containers.collect();
        (!containers.is_empty()).then(|| (meta(pod, "uid").to_owned(), containers))
    });
    let at = summary["node"]["cpu"]["time"].as_str();
    Usage {
        at: at
            .and_then(|at| at.parse().ok())
            .unwrap_or_else(Timestamp::now),
        window: WINDOW,
        node_name: node.to_owned(),
        node: used(&summary["node"]),
        pods: measured.collect::<BTreeMap<_, _>>(),
    }
}

fn list(value: &Value) -> std::slice::Iter<'_, Value> {
    value
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_says_where_its_agent_is() {
        let internal = json!({"type": "InternalIP", "address": "10.0.0.2"});
        let external = json!({"type": "ExternalIP", "address": "192.0.2.7"});
        let host = json!({"type": "Hostname", "address": "n1"});
        for (port, addresses, want) in [
            (
                json!(10250),
                json!([host, external, internal]),
                Some(("10.0.0.2", 10250)),
            ),
            (json!(1), json!([host, external]), Some(("192.0.2.7", 1))),
            (json!(1), json!([host]), Some(("n1", 1))),
            (json!(1), json!([]), None),
            (json!(0), json!([host]), None),
            (json!(70000), json!([host]), None),
            (Value::Null, json!([host]), None),
        ] {
            let status = json!({
                "addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            });
            assert_eq!(place(&json!({"status": status})), want, "{status}");
        }
    }

    #[test]
    fn a_log_is_asked_for_as_it_is_wanted() {
        let target = Target {
            namespace: "n".into(),
            pod: "p".into(),
            uid: "u".into(),
            container: "c".into(),
        };
        let options = LogOptions {
            follow: true,
            timestamps: true,
            since: "2026-01-02T03:04:05Z".parse().ok(),
            tail_lines: Some(3),
            limit_bytes: Some(9),
            ..LogOptions::default()
        };
        for (options, want) in [
            (LogOptions::default(), ""),
            (
                options,
                "follow=true&timestamps=true&sinceTime=2026-01-02T03:04:05Z&tailLines=3&limitBytes=9",
            ),
        ] {
            let want = format!("/containerLogs/n/p/c?{want}");
            assert_eq!(logs_path(&target, &options), want);
        }
    }

    #[test]
    fn processes_and_ports_are_asked_for_in_the_agents_words() {
        let target = Target {
            namespace: "n".into(),
            pod: "p".into(),
            uid: "u".into(),
            container: "c".into(),
        };
        let wanted = Wanted {
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
            code: true,
        };
        let command = ["sh", "-c", "a & b"].map(String::from);
        assert_eq!(
            process_path("exec", &target, wanted, &command),
            "/exec/n/p/u/c?command=sh&command=-c&command=a%20%26%20b&input=1&output=1&tty=1"
        );
        assert_eq!(
            ports_path(&target, ["80", "81,82"].into_iter()),
            "/portForward/n/p/u?port=80&port=81%2C82"
        );
    }

    #[test]
    fn a_summary_tells_of_pods_by_name() {
        let figures = |n: u64| json!({"usageNanoCores": n, "usageCoreNanoSeconds": 7});
        let summary = json!({
            "node": {"cpu": {"time": "2026-01-02T03:04:05Z", "usageNanoCores": 5}, "memory": {"workingSetBytes": 6}},
            "pods": [
                {"podRef": {"name": "a", "namespace": "n", "uid": "elsewhere"},
                    "containers": [{"name": "c", "cpu": figures(3), "memory": {"workingSetBytes": 4}}]},
                {"podRef": {"name": "b", "namespace": "n"}, "containers": [{"name": "c", "cpu": figures(9)}]},
            ],
        });
        let pod = |name: &str| json!({"metadata": {"namespace": "n", "name": name, "uid": format!("uid-{name}")}});
        let (a, gone) = (pod("a"), pod("gone"));
        let usage = usage("n1", &summary, &[&a, &gone]);
        assert_eq!(usage.at.to_string(), "2026-01-02T03:04:05Z");
        assert_eq!((usage.node.nano_cpus, usage.node.memory_bytes), (5, 6));
        let used = Used {
            nano_cpus: 3,
            cpu_ns: 7,
            memory_bytes: 4,
        };
        let containers = BTreeMap::from([("c".to_owned(), used)]);
        assert_eq!(
            usage.pods,
            BTreeMap::from([("uid-a".to_owned(), containers)])
        );
    }
}
