//! One request: who asks, what for, and the answer.

use std::convert::Infallible;
use std::sync::Arc;

use api::query::Query;
use api::status::StatusError;
use futures::StreamExt;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use https::{Body, Peer};
use hyper::body::Incoming;
use jiff::Timestamp;
use ports::node::{NodeError, NodeServer, Target};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::route::Route;
use crate::{access, streams, usage};

/// What every request can reach.
pub(crate) struct Inner {
    pub(crate) node_name: String,
    pub(crate) client: kube::Client,
    pub(crate) node: Arc<dyn NodeServer>,
    pub(crate) stop: CancellationToken,
}

impl Inner {
    /// The answer to a request of a client whose certificate names `peer`.
    pub(crate) async fn answer(
        self: Arc<Self>,
        peer: Option<Arc<Peer>>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let (parts, _) = request.into_parts();
        let answer = match access::check(&self, peer.as_deref(), &parts).await {
            Ok(()) => self.serve(&parts).await,
            Err(error) => Err(error),
        };
        Ok(answer.unwrap_or_else(|error| https::text(error.code, error.message)))
    }

    async fn serve(&self, parts: &Parts) -> Result<Response<Body>, NodeError> {
        let Some(route) = Route::parse(parts.uri.path()) else {
            return Err(error(404, "404 page not found\n"));
        };
        if !route.takes(&parts.method) {
            return Err(error(405, "405: Method Not Allowed"));
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        match route {
            Route::Health => Ok(https::text(200, "ok")),
            Route::Pods => {
                let pods = self.node.pods().await;
                let list =
                    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods});
                Ok(https::json(200, list.to_string()))
            }
            Route::Summary => {
                let (used, pods) = self.measure().await?;
                Ok(https::json(200, usage::summary(&used, &pods).to_string()))
            }
            Route::Resource => {
                let (used, pods) = self.measure().await?;
                Ok(https::text(200, usage::metrics(&used, &pods)))
            }
            Route::Logs(target) => self.logs(&self.found(target).await?, &query).await,
            Route::Exec(target) => {
                streams::exec(self, self.found(target).await?, parts, &query).await
            }
            Route::Attach(target) => {
                streams::attach(self, self.found(target).await?, parts, &query).await
            }
            Route::PortForward(target) => {
                streams::port_forward(self, self.found(target).await?, parts, &query)
            }
        }
    }

    /// Every Pod of the node, and what they use.
    async fn measure(&self) -> Result<(ports::node::Usage, Vec<Value>), NodeError> {
        let pods = self.node.pods().await;
        let uid = |pod: &Value| pod["metadata"]["uid"].as_str().map(str::to_owned);
        let uids = pods.iter().filter_map(uid).collect();
        Ok((self.node.usage(&uids).await?, pods))
    }

    /// The same with the UID of the Pod that has the name, if the path has none. One that is not about to go comes first.
    async fn found(&self, mut target: Target) -> Result<Target, NodeError> {
        if target.uid.is_empty() {
            let pods = self.node.pods().await;
            let is_it = |pod: &&Value| {
                let meta = &pod["metadata"];
                meta["namespace"] == target.namespace && meta["name"] == target.pod
            };
            let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
            let found: Vec<&Value> = pods.iter().filter(is_it).collect();
            let found = found.iter().find(|pod| stays(pod)).or(found.first());
            let uid = found.and_then(|pod| pod["metadata"]["uid"].as_str());
            let missing = || error(404, format!("pod {:?} does not exist", target.pod));
            target.uid = uid.ok_or_else(missing)?.to_owned();
        }
        Ok(target)
    }

    async fn logs(&self, target: &Target, query: &Query) -> Result<Response<Body>, NodeError> {
        let options = streaming::log_options(query, &target.pod, Timestamp::now());
        let log = self.node.logs(target, options.map_err(refused)?).await?;
        let log = log.take_until(Box::pin(self.stop.clone().cancelled_owned()));
        Ok(https::stream(StatusCode::OK, "text/plain", log))
    }
}

pub(crate) fn error(code: u16, message: impl Into<String>) -> NodeError {
    let message = message.into();
    NodeError { code, message }
}

/// A refusal, in words alone.
pub(crate) fn refused(status: StatusError) -> NodeError {
    error(status.code, status.message.clone())
}
