//! `pods/…/proxy` and `services/…/proxy`: any HTTP request, passed on to a port of a Pod, or of one behind a Service, and its answer
//! passed back (spec kubectl-and-api §10), with redirects and the links of HTML pages led through here. A Pod of this
//! server's node is reached as port forwarding reaches it, others are by their addresses; connections are not kept. With `https:` before its name it is asked over TLS, whoever it says it is, as upstream
//! does. Upgrades are left out.

mod html;
mod links;
mod page;
mod references;
mod tls;
mod url;

use std::net::{IpAddr, SocketAddr};

use api::gvk::GroupResource;
use api::query::percent_decode;
use api::status::{self, StatusError};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use ports::node::Target;
use ports::streams::{Reader, Writer};
use rand::seq::IndexedRandom;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::agents::Agent;
use super::remote::CONNECT;
use crate::respond::{self, Body, BoxError};
use crate::rest::{Rest, Stored};
use links::Links;
use page::{Codec, Page};

/// The port of an address without one, and of one that is asked over TLS.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// Headers that are about one connection (RFC 9110 7.6.1), and those that are for this server alone.
const NOT_PASSED_ON: [&str; 10] = [
    "authorization",
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Which Pod or Service, and which port of it: `[scheme:]name[:port]`.
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) port: Option<&'a str>,
    is_tls: bool,
}

/// A request of any method to a Pod.
pub(crate) async fn pod(rest: &Rest) -> Result<Response<Body>, StatusError> {
    let place = place("pod", &rest.target.name)?;
    pass_on(rest, place.is_tls, || {
        let pod = named(rest, "pods", place.name)?;
        let port = port(&pod, place.port)?;
        super::check_assigned(rest, &pod)?;
        Ok((pod, port))
    })
    .await
}

/// A request of any method to one of the Pods that are ready behind a Service.
pub(crate) async fn service(rest: &Rest) -> Result<Response<Body>, StatusError> {
    let place = place("service", &rest.target.name)?;
    pass_on(rest, place.is_tls, || {
        let service = named(rest, "services", place.name)?;
        let port = port_name(&service, &place)?;
        let endpoints = named(rest, "endpoints", place.name)?;
        let all = backends(&endpoints, port);
        let chosen = all.choose(&mut rand::rng()).ok_or_else(|| {
            let name = api::gotext::quote(&rest.target.name);
            status::service_unavailable(format!("no endpoints available for service {name}"))
        })?;
        Ok((named(rest, "pods", chosen.0)?, Some(chosen.1)))
    })
    .await
}

/// Passes a request on to a port of a Pod, if one is known.
async fn pass_on(
    rest: &Rest,
    is_tls: bool,
    find: impl FnOnce() -> Result<(Value, Option<u16>), StatusError>,
) -> Result<Response<Body>, StatusError> {
    let path = rest.call.parts.uri.path();
    let inner = inner_path(path, PARTS);
    if inner.is_empty() && matches!(rest.call.parts.method, Method::GET | Method::HEAD) {
        return Ok(moved(path, rest.call.parts.uri.query()));
    }
    let (pod, port) = find()?;
    let target = super::target(&pod, String::new());
    let usual = if is_tls { HTTPS } else { HTTP };
    let agent = Agent::of_pod(rest, &pod)?;
    let connected = connect(&agent, &pod, &target, port.unwrap_or(usual)).await;
    let (reader, writer) = connected.map_err(|why| unreachable(&why))?;
    let links = links(rest, &path[..path.len() - inner.len()], &pod, port);
    let request = request(rest, if inner.is_empty() { "/" } else { inner }, &links)?;
    let stream = tokio::io::join(reader, writer);
    let response = if is_tls {
        exchange(tls::connect(&pod, stream).await?, request).await
    } else {
        exchange(stream, request).await
    };
    let response = response.map_err(|error| unreachable(&error.to_string()))?;
    answer(response, links)
}

/// A Pod of this server's node is reached from inside it, others by their addresses.
async fn connect(
    agent: &Agent,
    pod: &Value,
    target: &Target,
    port: u16,
) -> Result<(Reader, Writer), String> {
    if let Agent::Own(node) = agent {
        let connected = node.port_forward(target, port).await;
        return connected.map_err(|error| error.message);
    }
    let ip = pod["status"]["podIP"].as_str().unwrap_or_default();
    let address = ip.parse().map(|ip: IpAddr| SocketAddr::new(ip, port));
    let address = address.map_err(|_| "the pod has no address".to_owned())?;
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
    let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let stream = connected.map_err(|error| format!("dial tcp {address}: {error}"))?;
    let (reader, writer) = stream.into_split();
    Ok((Box::pin(reader), Box::pin(writer)))
}

/// How the Pod is seen from here and from where the client is.
fn links(rest: &Rest, prefix: &str, pod: &Value, port: Option<u16>) -> Links {
    let parts = &rest.call.parts;
    let ip = pod["status"]["podIP"].as_str().unwrap_or_default();
    let ip = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    // Every request of HTTP/2 has an origin; one of HTTP/1 that does was meant for a proxy.
    let own = Some(&parts.uri).filter(|_| parts.version < http::Version::HTTP_2);
    let own = own.map(|uri| (uri.scheme_str(), uri.authority()));
    let (scheme, host) = own.unwrap_or_default();
    Links {
        prefix: percent_decode(prefix),
        scheme: scheme.unwrap_or_default().to_owned(),
        host: host.map(ToString::to_string).unwrap_or_default(),
        backend: port.map_or(ip.clone(), |port| format!("{ip}:{port}")),
        asked: String::from_utf8_lossy(asked(parts).as_bytes()).into_owned(),
    }
}

/// The host that the client asked for.
fn asked(parts: &http::request::Parts) -> HeaderValue {
    let host = parts.headers.get(header::HOST).cloned();
    let host = host.or_else(|| HeaderValue::try_from(parts.uri.authority()?.as_str()).ok());
    host.unwrap_or(HeaderValue::from_static("localhost"))
}

pub(super) fn place<'a>(what: &str, text: &'a str) -> Result<Place<'a>, StatusError> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name] => Ok(Place {
            name,
            port: None,
            is_tls: false,
        }),
        [name, port] | ["" | "http" | "https", name, port] => Ok(Place {
            name,
            port: Some(*port).filter(|port| !port.is_empty()),
            is_tls: parts.len() == 3 && parts[0] == "https",
        }),
        _ => Err(status::bad_request(format!(
            "invalid {what} request {}",
            api::gotext::quote(text)
        ))),
    }
}

/// An object of the request's namespace.
fn named(rest: &Rest, plural: &str, name: &str) -> Result<Value, StatusError> {
    let kind = api::resource::find("", "v1", plural);
    let key = kind.map(|kind| kind.key(Some(&rest.target.namespace), Some(name)));
    let entry = key.and_then(|key| rest.inner.store.get(&key));
    let entry = entry.ok_or_else(|| status::not_found(&GroupResource::new("", plural), name))?;
    Ok(Stored::decode(entry)?.object)
}

/// The name of the Service's port that is meant, which may be empty; a number is that of a port it has.
fn port_name<'a>(service: &'a Value, place: &Place<'a>) -> Result<&'a str, StatusError> {
    let asked = place.port.unwrap_or_default();
    let Ok(number) = asked.parse::<i64>() else {
        return Ok(asked);
    };
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let found = ports.find(|port| port["port"].as_i64() == Some(number));
    let found = found.ok_or_else(|| {
        let name = api::gotext::quote(place.name);
        status::service_unavailable(format!("no service port {number} found for service {name}"))
    })?;
    Ok(found["name"].as_str().unwrap_or_default())
}

/// The Pods that are ready behind a port of this name, and the number it has there.
fn backends<'a>(endpoints: &'a Value, port: &str) -> Vec<(&'a str, u16)> {
    let list = |value: &'a Value| value.as_array().into_iter().flatten();
    let mut found = Vec::new();
    for subset in list(&endpoints["subsets"]) {
        let is_it = |p: &&Value| p["name"].as_str().unwrap_or_default() == port;
        let number = list(&subset["ports"]).find(is_it);
        let number = number.and_then(|p| u16::try_from(p["port"].as_u64()?).ok());
        let pods = list(&subset["addresses"]).map(|address| &address["targetRef"]);
        let pods = pods.filter(|target| target["kind"] == "Pod");
        let pods = pods.filter_map(|target| target["name"].as_str());
        found.extend(pods.filter_map(|pod| Some((pod, number?))));
    }
    found
}

/// The port asked for, else the first that a container says it has.
fn port(pod: &Value, asked: Option<&str>) -> Result<Option<u16>, StatusError> {
    let number = |text: &str| text.parse().ok().filter(|port| *port != 0);
    if let Some(text) = asked {
        return number(text).map(Some).ok_or_else(|| {
            let text = api::gotext::quote(text);
            status::bad_request(format!("unable to parse {text} as a port"))
        });
    }
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.filter_map(|c| c["ports"][0]["containerPort"].as_u64());
    Ok(ports.next().and_then(|port| u16::try_from(port).ok()))
}

/// What stands before the path that is asked for: `/api/v1/namespaces/…/pods/…/proxy`, or its like.
const PARTS: usize = 8;

/// What follows so many parts of a path, as it was written.
pub(super) fn inner_path(path: &str, parts: usize) -> &str {
    let before = path.split('/').take(parts).map(|part| part.len() + 1);
    path.get(before.sum::<usize>().saturating_sub(1)..)
        .unwrap_or_default()
}

/// Links of a page are relative to its directory, so that the root needs its slash.
fn moved(path: &str, query: Option<&str>) -> Response<Body> {
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    let mut response = respond::text(StatusCode::MOVED_PERMANENTLY.as_u16(), "");
    if let Ok(location) = HeaderValue::try_from(format!("{path}/{query}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn unreachable(why: &str) -> StatusError {
    status::service_unavailable(format!("error trying to reach service: {why}"))
}

fn request(rest: &Rest, path: &str, links: &Links) -> Result<Request<Full<Bytes>>, StatusError> {
    let parts = &rest.call.parts;
    let query = parts.uri.query().map_or(String::new(), |q| format!("?{q}"));
    let mut request = Request::builder()
        .method(parts.method.clone())
        .uri(format!("{path}{query}"))
        .body(Full::new(rest.call.body.clone()))
        .map_err(|error| status::bad_request(error.to_string()))?;
    let headers = request.headers_mut();
    *headers = passed_on(&parts.headers);
    headers.insert(header::HOST, asked(parts));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in [
        ("x-forwarded-uri", links.forwarded(path)),
        ("x-forwarded-host", links.host.clone().into_bytes()),
        ("x-forwarded-proto", links.scheme.clone().into_bytes()),
    ] {
        let value = HeaderValue::try_from(value).ok();
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            headers.insert(name, value);
        }
    }
    Ok(request)
}

pub(super) fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let is_ours = |name: &HeaderName| {
        NOT_PASSED_ON.contains(&name.as_str())
            || name == header::CONTENT_LENGTH
            || name.as_str().starts_with("impersonate-")
    };
    let kept = headers.iter().filter(|(name, _)| !is_ours(name));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends when the answer was read, or nobody reads it any more.
    tokio::spawn(connection);
    sender.send_request(request).await
}

fn answer(response: Response<Incoming>, links: Links) -> Result<Response<Body>, StatusError> {
    let (mut parts, body) = response.into_parts();
    parts.version = http::Version::default();
    drop_connections_own(&mut parts.headers);
    let location = parts.headers.get(header::LOCATION);
    if let Some(location) = location.filter(|value| !value.is_empty()) {
        let value = redirect(location, &links)?;
        parts.headers.insert(header::LOCATION, value);
    } else if let Some(codec) = page_codec(&parts.headers) {
        parts.headers.remove(header::CONTENT_LENGTH);
        // There is nothing in the answer to a HEAD.
        if !hyper::body::Body::is_end_stream(&body) {
            let page = Page::new(body, codec, links);
            return Ok(Response::from_parts(parts, page.boxed_unsync()));
        }
    }
    let body = body.map_err(|error| Box::new(error) as BoxError);
    Ok(Response::from_parts(parts, BodyExt::boxed_unsync(body)))
}

/// What an answer says of the connection it came over.
pub(super) fn drop_connections_own(headers: &mut HeaderMap) {
    for name in [
        "connection",
        "keep-alive",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}

fn redirect(location: &HeaderValue, links: &Links) -> Result<HeaderValue, StatusError> {
    let wrong = |why: &dyn std::fmt::Display| {
        let url = api::gotext::quote(&String::from_utf8_lossy(location.as_bytes()));
        status::internal(format!(
            "error trying to parse Location header: parse {url}: {why}"
        ))
    };
    let url = links.rewrite(location.as_bytes());
    let url = url.map_err(|error| wrong(&error))?;
    HeaderValue::try_from(url).map_err(|error| wrong(&error))
}

/// How to read an HTML page; `None` if this is none, or is encoded in a way that is not understood.
fn page_codec(headers: &HeaderMap) -> Option<Codec> {
    let text = |name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let kind = text(header::CONTENT_TYPE)
        .split(|byte| *byte == b';')
        .next();
    let is_html = kind.is_some_and(|kind| kind.trim_ascii() == b"text/html");
    is_html.then(|| Codec::of(text(header::CONTENT_ENCODING)))?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_say_which_port() {
        for (text, want) in [
            ("p", Ok(("p", None, false))),
            ("p:80", Ok(("p", Some("80"), false))),
            ("p:", Ok(("p", None, false))),
            ("https:80", Ok(("https", Some("80"), false))),
            ("http:p:80", Ok(("p", Some("80"), false))),
            (":p:80", Ok(("p", Some("80"), false))),
            ("https:p:80", Ok(("p", Some("80"), true))),
            ("https:p:", Ok(("p", None, true))),
            ("ftp:p:80", Err("invalid pod request \"ftp:p:80\"")),
            ("a:b:c:d", Err("invalid pod request \"a:b:c:d\"")),
        ] {
            let got = place("pod", text).map(|place| (place.name, place.port, place.is_tls));
            let got = got.map_err(|error| error.message.clone());
            assert_eq!(
                got.as_ref().map_err(String::as_str),
                want.as_ref().map_err(|e| *e),
                "{text}"
            );
        }
    }

    #[test]
    fn the_first_port_of_a_container_is_asked() {
        let none = json!({"spec": {"containers": [{}]}});
        let some = json!({"spec": {"containers": [{}, {"ports": [{"containerPort": 8080}]}]}});
        for (pod, asked, want) in [
            (&none, None, Ok(None)),
            (&some, None, Ok(Some(8080))),
            (&some, Some("99"), Ok(Some(99))),
            (&some, Some("0"), Err("unable to parse \"0\" as a port")),
            (&some, Some("web"), Err("unable to parse \"web\" as a port")),
        ] {
            let got = port(pod, asked).map_err(|error| error.message.clone());
            assert_eq!(
                got.as_ref().map_err(String::as_str),
                want.as_ref().map_err(|e| *e)
            );
        }
    }

    #[test]
    fn a_service_leads_to_its_ready_pods() {
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80}, {"port": 81}]}});
        let endpoints = json!({"subsets": [
            {"addresses": [{"targetRef": {"kind": "Pod", "name": "a"}}, {"ip": "10.0.0.9"}],
                "notReadyAddresses": [{"targetRef": {"kind": "Pod", "name": "b"}}],
                "ports": [{"name": "web", "port": 8080}, {"port": 8081}]},
            {"addresses": [{"targetRef": {"kind": "Pod", "name": "c"}}], "ports": [{"name": "web", "port": 9090}]},
        ]});
        for (port, want) in [
            (Some("web"), Ok(vec![("a", 8080), ("c", 9090)])),
            (Some("80"), Ok(vec![("a", 8080), ("c", 9090)])),
            (Some("81"), Ok(vec![("a", 8081)])),
            (None, Ok(vec![("a", 8081)])),
            (Some("other"), Ok(vec![])),
            (
                Some("82"),
                Err("no service port 82 found for service \"s\""),
            ),
        ] {
            let place = Place {
                name: "s",
                port,
                is_tls: false,
            };
            let found = port_name(&service, &place).map(|port| backends(&endpoints, port));
            let found = found.map_err(|error| error.message.clone());
            let found = found.as_ref().map_err(String::as_str);
            assert_eq!(found, want.as_ref().map_err(|e| *e), "{port:?}");
        }
    }

    #[test]
    fn the_path_stays_as_it_was_written() {
        for (path, want) in [
            ("/api/v1/namespaces/n/pods/p/proxy", ""),
            ("/api/v1/namespaces/n/pods/p/proxy/", "/"),
            (
                "/api/v1/namespaces/pods/pods/p:80/proxy/a%2Fb//c/",
                "/a%2Fb//c/",
            ),
        ] {
            assert_eq!(inner_path(path, PARTS), want, "{path}");
        }
    }
}
