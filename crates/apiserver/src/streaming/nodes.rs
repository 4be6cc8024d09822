//! `nodes/…/proxy`: any HTTP request, passed on to the server of a node's agent, upgrades included, and its answer passed back. The agent of
//! this server's own node has no server of its own: what it would serve is asked of the API.

use api::status::{self, StatusError};
use http::Response;

use super::agents::Agent;
use super::proxy::{inner_path, place};
use crate::respond::Body;
use crate::rest::Rest;

/// What stands before the path: `/api/v1/nodes/NAME/proxy`.
const PARTS: usize = 6;

/// A request of any method to a node's agent. Of the node's ports only the agent's own can be named.
pub(crate) async fn proxy(rest: &Rest) -> Result<Response<Body>, StatusError> {
    let asked = &rest.target.name;
    let place = place("node", asked)?;
    let name = place.name;
    let Agent::Other(remote) = Agent::of(rest, name)? else {
        let why = format!(
            "the agent of node {name} is in the same process as this server and serves no HTTP"
        );
        return Err(status::failure(404, "NotFound", why, None));
    };
    if place.port.is_some_and(|port| !remote.is_at(port)) {
        let asked = api::gotext::quote(asked);
        let why = format!("invalid node request {asked}: the port is not that of the agent");
        return Err(status::bad_request(why));
    }
    let uri = &rest.call.parts.uri;
    let path = match inner_path(uri.path(), PARTS) {
        "" => "/",
        path => path,
    };
    let query = uri.query().map_or(String::new(), |q| format!("?{q}"));
    remote.pass_on(&rest.call, &format!("{path}{query}")).await
}
