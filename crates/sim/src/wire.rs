//! The way from a component to the server in the same process: requests can be lost on the way there or back, watches can end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use apiserver::{Router, UserInfo};
use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::{Body, Frame};
use kube::client::Body as ClientBody;
use tower::Service;

use crate::world::{Holder, World};

/// The user that controllers are.
pub(crate) const CONTROLLERS: &str = "system:kube-controller-manager";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A client's connection.
#[derive(Clone)]
pub(crate) struct Wire {
    world: Arc<World>,
    holder: Holder,
    router: Router,
    /// It is the controllers'.
    is_controllers: bool,
}

/// A client of `user`, for the components of the engine.
pub(crate) fn client(
    world: &Arc<World>,
    holder: Holder,
    router: &Router,
    user: UserInfo,
) -> kube::Client {
    let wire = Wire {
        world: world.clone(),
        holder,
        is_controllers: user.name == CONTROLLERS,
        router: router.with_user(user),
    };
    kube::Client::new(wire, "default")
}

impl Service<Request<ClientBody>> for Wire {
    type Response = Response<Cable>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Cable>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ClientBody>) -> Self::Future {
        let wire = self.clone();
        Box::pin(wire.send(request))
    }
}

impl Wire {
    async fn send(mut self, request: Request<ClientBody>) -> Result<Response<Cable>, BoxError> {
        let is_read = request.method() == Method::GET;
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query.contains("watch=true");
        let is_agents = self.holder.agent.is_some() && request.uri().path() == "/api/v1/pods";
        let makes_pods =
            request.method() == Method::POST && request.uri().path().ends_with("/pods");
        let doomed = self.is_controllers.then(|| deleted_pod(&request)).flatten();
        let line = format!("{} {}", request.method(), request.uri());
        let of_status = self.holder.agent.and_then(|_| pod_of_status(&request));
        // Taken before the request, so that no cut is missed.
        let mut cuts = self.world.cuts.subscribe();
        cuts.mark_unchanged();
        self.world.step(self.holder).await;
        if !is_read {
            self.world.spend(3).await;
        }
        self.refuse(is_read, &line)?;
        if let Some(pod) = doomed {
            let mut state = self.world.lock();
            let found = state.checks.pod_deleted_by_controllers(&pod);
            self.world.found(&mut state, found);
        }
        let response = self.router.call(request).await?;
        self.world.note((&line, response.status().as_u16()));
        if let Some(pod) = of_status.filter(|_| response.status().is_success()) {
            let mut state = self.world.lock();
            let found = state.checks.wrote_status(&pod);
            self.world.found(&mut state, found);
        }
        if !is_read {
            // The watch may be faster than the answer.
            self.world.spend(3).await;
        }
        let is_lost = !is_watch && self.world.lock().fails(|odds| odds.request / 2);
        self.world.step(self.holder).await;
        if is_lost {
            self.world.trace(format!("answer lost: {line}"));
            if makes_pods {
                let passed = self.world.clock.passed();
                self.world.lock().checks.making_unanswered(passed);
            }
            return Err(reset());
        }
        if is_agents && is_watch && response.status().is_success() {
            let passed = self.world.clock.passed();
            self.world.lock().checks.sees_pods(passed);
        }
        let cut: Option<Cut> = is_watch.then(|| {
            let cut: Cut = Box::pin(async move { drop(cuts.changed().await) });
            cut
        });
        Ok(response.map(|body| Cable { body, cut }))
    }

    fn refuse(&self, is_read: bool, line: &str) -> Result<(), BoxError> {
        let passed = self.world.clock.passed();
        let mut state = self.world.lock();
        let is_cut = is_read && self.holder.agent.is_some() && passed < state.cut_until;
        if is_cut || state.fails(|odds| odds.request / 2) {
            self.world
                .trace_in(&mut state, format!("request lost: {line}"));
            return Err(reset());
        }
        Ok(())
    }
}

/// The Pod whose status a request changes.
fn pod_of_status(request: &Request<ClientBody>) -> Option<String> {
    if request.method() != Method::PATCH {
        return None;
    }
    let of_pod = request.uri().path().strip_suffix("/status")?;
    let (_, pod) = of_pod.rsplit_once("/pods/")?;
    Some(pod.to_owned())
}

/// The Pod that a request deletes.
fn deleted_pod(request: &Request<ClientBody>) -> Option<String> {
    if request.method() != Method::DELETE {
        return None;
    }
    let (_, pod) = request.uri().path().rsplit_once("/pods/")?;
    Some(pod.to_owned())
}

fn reset() -> BoxError {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}

type Cut = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A response body that can break.
pub(crate) struct Cable {
    body: apiserver::Body,
    cut: Option<Cut>,
}

impl Body for Cable {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(cut) = &mut self.cut
            && cut.as_mut().poll(context).is_ready()
        {
            self.cut = None;
            return Poll::Ready(Some(Err(reset())));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}
