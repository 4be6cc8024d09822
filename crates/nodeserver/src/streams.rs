//! Processes and ports: requests whose connections are no HTTP any more once they are answered. Parameters are those of upstream's agent,
//! not those of the API.

use api::query::Query;
use bytes::Bytes;
use http::Response;
use http::request::Parts;
use https::Body;
use ports::node::{NodeError, Target};
use ports::streams::{ExecRequest, Session};
use streaming::{Destination, Ports, Process, Wanted};

use crate::serve::{Inner, error, refused};

/// Another process in a container.
pub(crate) async fn exec(
    inner: &Inner,
    target: Target,
    parts: &Parts,
    query: &Query,
) -> Result<Response<Body>, NodeError> {
    let wanted = wanted(query, true)?;
    let request = ExecRequest {
        command: query.all("command").map(str::to_owned).collect(),
        tty: wanted.tty,
        stdin: wanted.stdin,
        bound: false,
    };
    if request.command.is_empty() {
        let why = "you must specify at least one command for the container";
        return Err(error(400, why));
    }
    talk(parts, wanted, inner.node.exec(&target, request)).await
}

/// A container's own streams.
pub(crate) async fn attach(
    inner: &Inner,
    target: Target,
    parts: &Parts,
    query: &Query,
) -> Result<Response<Body>, NodeError> {
    let wanted = wanted(query, false)?;
    talk(parts, wanted, inner.node.attach(&target, wanted.stdin)).await
}

/// Connections to a Pod's ports.
pub(crate) fn port_forward(
    inner: &Inner,
    target: Target,
    parts: &Parts,
    query: &Query,
) -> Result<Response<Body>, NodeError> {
    let Some(ports) = Ports::prepare(parts, query.all("port")).map_err(refused)? else {
        return Ok(none_known(&Ports::PROTOCOLS));
    };
    let node = inner.node.clone();
    Ok(switched(ports.accept(Destination { node, target })))
}

fn wanted(query: &Query, code: bool) -> Result<Wanted, NodeError> {
    let tty = query.bool("tty");
    let wanted = Wanted {
        stdin: query.bool("input"),
        stdout: query.bool("output"),
        stderr: query.bool("error") && !tty,
        tty,
        code,
    };
    if wanted.stdin || wanted.stdout || wanted.stderr {
        return Ok(wanted);
    }
    let why = "you must specify at least 1 of stdin, stdout, stderr";
    Err(error(400, why))
}

/// Connects the client with a process that is only begun when they can be connected.
async fn talk(
    parts: &Parts,
    wanted: Wanted,
    begin: impl Future<Output = Result<Session, NodeError>>,
) -> Result<Response<Body>, NodeError> {
    match Process::prepare(parts).map_err(refused)? {
        Some(process) => Ok(switched(process.accept(begin.await?, wanted))),
        None => Ok(none_known(&Process::PROTOCOLS)),
    }
}

/// From now on something else than HTTP is spoken.
fn switched(head: Response<()>) -> Response<Body> {
    head.map(|()| https::full(Bytes::new()))
}

fn none_known(known: &[&'static str]) -> Response<Body> {
    streaming::name_known(https::text(403, streaming::NONE_KNOWN), known)
}
