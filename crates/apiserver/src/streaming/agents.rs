//! Which agent serves a node: this server's own, in this process, or another's, over HTTPS.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::gvk::GroupResource;
use api::status::{self, StatusError};
use futures::future::try_join_all;
use ports::node::{LogOptions, NodeError, NodeServer, Target, Usage};
use ports::streams::LogStream;
use serde_json::Value;

use super::remote::Remote;
use crate::registry;
use crate::rest::{Rest, Stored, meta};

/// The agent of a node.
pub(crate) enum Agent {
    /// In this process.
    Own(Arc<dyn NodeServer>),
    /// Elsewhere.
    Other(Remote),
}

impl Agent {
    /// The one of the node with this name.
    pub(crate) fn of(rest: &Rest, name: &str) -> Result<Agent, StatusError> {
        let own = rest.inner.own_node();
        if let Some((_, server)) = own.as_ref().filter(|(own, _)| **own == *name) {
            return Ok(Agent::Own(server.clone()));
        }
        let node = match node(rest, name)? {
            Some(node) => node,
            // Until this server has an agent of its own, the node may be the one it will serve.
            None if own.is_none() => return Err(not_ready(name)),
            None => return Err(status::not_found(&GroupResource::new("", "nodes"), name)),
        };
        let tls = rest.inner.towards_nodes.clone();
        let remote = Remote::of(&node, tls, rest.inner.shutdown.clone());
        remote.map(Agent::Other).ok_or_else(|| not_ready(name))
    }

    /// The one of the node that a Pod is bound to.
    pub(crate) fn of_pod(rest: &Rest, pod: &Value) -> Result<Agent, StatusError> {
        Agent::of(rest, node_name(pod))
    }

    /// A container's log.
    pub(crate) async fn logs(
        &self,
        target: &Target,
        options: LogOptions,
    ) -> Result<LogStream, NodeError> {
        match self {
            Agent::Own(node) => node.logs(target, options).await,
            Agent::Other(remote) => remote.logs(target, &options).await,
        }
    }

    async fn usage(&self, pods: &[&Value]) -> Result<Usage, NodeError> {
        match self {
            Agent::Own(node) => {
                let uids: BTreeSet<String> =
                    pods.iter().map(|pod| meta(pod, "uid").into()).collect();
                node.usage(&uids).await
            }
            Agent::Other(remote) => remote.usage(pods).await,
        }
    }
}

/// The name of the node a Pod is bound to; empty if it is to none.
pub(super) fn node_name(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

fn node(rest: &Rest, name: &str) -> Result<Option<Value>, StatusError> {
    let kind = api::resource::find("", "v1", "nodes").ok_or_else(status::unknown_method)?;
    let entry = rest.inner.store.get(&registry::key(kind, "", name));
    entry
        .map(|entry| Ok(Stored::decode(entry)?.object))
        .transpose()
}

fn not_ready(name: &str) -> StatusError {
    status::service_unavailable(format!("the agent of node {name} is not ready"))
}

/// What these nodes use, and these Pods of theirs, as their agents measure it at the same time. Of those of other machines that do not
/// answer, nothing is known.
pub(crate) async fn usage(
    rest: &Rest,
    nodes: BTreeMap<&str, Vec<&Value>>,
) -> Result<Vec<Usage>, StatusError> {
    let measured = nodes.iter().map(|(name, pods)| async move {
        let agent = match Agent::of(rest, name) {
            Ok(agent) => agent,
            Err(error) if rest.inner.own_node().is_none() => return Err(error),
            Err(error) => {
                tracing::debug!(node = name, error = error.message, "nothing is measured");
                return Ok(None);
            }
        };
        match (agent.usage(pods).await, &agent) {
            (Ok(usage), _) => Ok(Some(usage)),
            (Err(error), Agent::Own(_)) => Err(super::node_error(error)),
            (Err(error), Agent::Other(_)) => {
                tracing::debug!(node = name, %error, "nothing is measured");
                Ok(None)
            }
        }
    });
    let measured = try_join_all(measured).await?;
    Ok(measured.into_iter().flatten().collect())
}
