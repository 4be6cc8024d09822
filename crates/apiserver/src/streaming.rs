//! Logs, exec, attach and port forwarding: which container is meant, and the way to the node that has it (spec kubectl-and-api §13,
//! pod-lifecycle §13.2).

mod agents;
mod nodes;
mod proxy;
mod remote;

pub(crate) use agents::usage;
pub(crate) use nodes::proxy as proxy_to_node;
pub(crate) use proxy::{pod as proxy_to_pod, service as proxy_to_service};

use api::status::{self, StatusError};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Response, StatusCode};
use ports::node::{NodeError, Target};
use ports::streams::ExecRequest;
use serde_json::Value;
use streaming::{Destination, Ports, Process, Wanted};

use crate::respond::{self, Body};
use crate::rest::{Rest, Stored, meta};
use agents::Agent;

/// The Pod in the URL, decoded.
fn pod(rest: &Rest) -> Result<Value, StatusError> {
    Ok(Stored::decode(rest.entry()?)?.object)
}

fn names<'a>(pod: &'a Value, list: &str) -> Vec<&'a str> {
    let containers = pod["spec"][list].as_array().into_iter().flatten();
    containers.filter_map(|c| c["name"].as_str()).collect()
}

/// The container asked for, or the only one.
fn choose(pod: &Value, asked: &str) -> Result<String, StatusError> {
    let apps = names(pod, "containers");
    let mut all = names(pod, "initContainers");
    all.extend(&apps);
    all.extend(names(pod, "ephemeralContainers"));
    let name = meta(pod, "name");
    if asked.is_empty() {
        return match apps.as_slice() {
            [only] => Ok((*only).to_owned()),
            _ => Err(status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                all.join(" ")
            ))),
        };
    }
    if all.contains(&asked) {
        return Ok(asked.to_owned());
    }
    Err(status::bad_request(format!(
        "container {asked} is not valid for pod {name}"
    )))
}

fn target(pod: &Value, container: String) -> Target {
    Target {
        namespace: meta(pod, "namespace").into(),
        pod: meta(pod, "name").into(),
        uid: meta(pod, "uid").into(),
        container,
    }
}

fn node_error(error: NodeError) -> StatusError {
    let reason = match error.code {
        400 => "BadRequest",
        404 => "NotFound",
        500 => "InternalError",
        _ => "",
    };
    status::failure(error.code, reason, error.message, None)
}

fn is_assigned(pod: &Value) -> bool {
    !agents::node_name(pod).is_empty()
}

fn check_assigned(rest: &Rest, pod: &Value) -> Result<(), StatusError> {
    if is_assigned(pod) {
        return Ok(());
    }
    let name = &rest.target.name;
    Err(status::bad_request(format!(
        "pod {name} does not have a host assigned"
    )))
}

/// `GET pods/…/log`.
pub(crate) async fn logs(rest: &Rest) -> Result<Response<Body>, StatusError> {
    let now = rest.inner.clock.now();
    let options = streaming::log_options(&rest.call.query, &rest.target.name, now)?;
    let pod = pod(rest)?;
    let container = choose(&pod, rest.call.query.text("container"))?;
    let stream = if is_assigned(&pod) {
        Agent::of_pod(rest, &pod)?
            .logs(&target(&pod, container), options)
            .await
            .map_err(node_error)?
    } else {
        futures::stream::empty().boxed()
    };
    let stopped = rest.inner.shutdown.clone().cancelled_owned();
    let stream = stream.take_until(Box::pin(stopped));
    if streaming::wants_websocket(&rest.call.parts) {
        return streaming::logs(&rest.call.parts, stream.boxed()).map(switched);
    }
    Ok(https::stream(StatusCode::OK, "text/plain", stream))
}

/// `pods/…/exec` and `pods/…/attach`.
pub(crate) async fn connect(rest: &Rest, subresource: &str) -> Result<Response<Body>, StatusError> {
    if !matches!(rest.call.parts.method, Method::GET | Method::POST) {
        return Err(status::unknown_method());
    }
    let query = &rest.call.query;
    let tty = query.bool("tty");
    let wanted = Wanted {
        stdin: query.bool("stdin"),
        stdout: query.bool("stdout"),
        stderr: query.bool("stderr") && !tty,
        tty,
        code: subresource == "exec",
    };
    let pod = pod(rest)?;
    let container = choose(&pod, query.text("container"))?;
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    check_assigned(rest, &pod)?;
    let command: Vec<String> = query.all("command").map(str::to_owned).collect();
    if subresource == "exec" && command.is_empty() {
        return Err(status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    let target = target(&pod, container);
    let node = match Agent::of_pod(rest, &pod)? {
        Agent::Own(node) => node,
        Agent::Other(remote) => {
            let path = remote::process_path(subresource, &target, wanted, &command);
            return remote.pass_on(&rest.call, &path).await;
        }
    };
    let Some(way) = Process::prepare(&rest.call.parts)? else {
        return Ok(none_known(&Process::PROTOCOLS));
    };
    let session = if subresource == "exec" {
        let request = ExecRequest {
            command,
            tty,
            stdin: wanted.stdin,
            bound: false,
        };
        node.exec(&target, request).await
    } else {
        node.attach(&target, wanted.stdin).await
    };
    Ok(match session {
        Ok(session) => switched(way.accept(session, wanted)),
        Err(error) => refused(&error),
    })
}

/// What the node answers instead of upgrading is passed on as it is, and that is no Status: kubectl puts words of its own before it.
fn refused(error: &NodeError) -> Response<Body> {
    respond::text(error.code, error.message.clone())
}

/// `pods/…/portforward`.
pub(crate) async fn port_forward(rest: &Rest) -> Result<Response<Body>, StatusError> {
    if !matches!(rest.call.parts.method, Method::GET | Method::POST) {
        return Err(status::unknown_method());
    }
    let pod = pod(rest)?;
    check_assigned(rest, &pod)?;
    let target = target(&pod, String::new());
    let node = match Agent::of_pod(rest, &pod)? {
        Agent::Own(node) => node,
        Agent::Other(remote) => {
            let path = remote::ports_path(&target, rest.call.query.all("ports"));
            return remote.pass_on(&rest.call, &path).await;
        }
    };
    let destination = Destination { node, target };
    let named = rest.call.query.all("ports");
    Ok(match Ports::prepare(&rest.call.parts, named)? {
        Some(ports) => switched(ports.accept(destination)),
        None => none_known(&Ports::PROTOCOLS),
    })
}

/// From now on something else than HTTP is spoken.
fn switched(head: Response<()>) -> Response<Body> {
    head.map(|()| respond::full(Bytes::new()))
}

fn none_known(known: &[&'static str]) -> Response<Body> {
    streaming::name_known(respond::text(403, streaming::NONE_KNOWN), known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_are_chosen_as_upstream_chooses() {
        let many = json!({"metadata":{"name":"web"},"spec":{"initContainers":[{"name":"i1"}],"containers":[{"name":"a"},{"name":"b"}],
            "ephemeralContainers":[{"name":"e1"}]}});
        let one = json!({"metadata":{"name":"web"},"spec":{"initContainers":[{"name":"i1"}],"containers":[{"name":"a"}]}});
        for (pod, asked, want) in [
            (&one, "", Ok("a")),
            (&one, "i1", Ok("i1")),
            (&many, "e1", Ok("e1")),
            (
                &many,
                "",
                Err("a container name must be specified for pod web, choose one of: [i1 a b e1]"),
            ),
            (&one, "x", Err("container x is not valid for pod web")),
        ] {
            let got = choose(pod, asked).map_err(|e| e.message.clone());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{asked}");
        }
    }
}
