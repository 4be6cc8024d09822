//! The service every request goes through: body limit, identity, authorisation, dispatch, error responses.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use api::query::Query;
use api::status::{self, StatusError};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower::Service;

use crate::identity::{self, UserInfo};
use crate::request::RequestInfo;
use crate::respond::{self, Body, BoxError};
use crate::server::Inner;
use crate::{impersonate, negotiate, rest, system};

/// Bytes a request body may have.
const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// Bytes beyond it that are read before it is refused.
const READ_ON: usize = 16 * BODY_LIMIT;
/// A request that is no stream must be done by then; upstream's limit for writes.
const TIMEOUT: Duration = Duration::from_secs(34);

/// The API as a `tower::Service`; cheap to clone.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
    user: Option<Arc<UserInfo>>,
}

/// A request as the handlers see it.
pub(crate) struct Call {
    pub(crate) parts: Parts,
    pub(crate) info: RequestInfo,
    pub(crate) query: Query,
    pub(crate) body: Bytes,
    pub(crate) user: Arc<UserInfo>,
}

impl Router {
    pub(crate) fn new(inner: Arc<Inner>) -> Router {
        Router { inner, user: None }
    }

    /// The same API, with `user` asking unless a request carries a bearer token. Without one, requests are anonymous.
    #[must_use]
    pub fn with_user(&self, user: UserInfo) -> Router {
        Router {
            inner: self.inner.clone(),
            user: Some(Arc::new(user)),
        }
    }

    async fn respond<B>(self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        self.inner.metrics.request();
        let yaml = negotiate::wants_yaml(&parts.headers);
        let response = match self.answer(parts, body).await {
            Ok(response) => response,
            Err(error) => respond::error(&error),
        };
        if yaml {
            return respond::to_yaml(response).await;
        }
        response
    }

    async fn answer<B>(self, parts: Parts, body: B) -> Result<Response<Body>, StatusError>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let user = self.identify(&parts)?;
        let user = match impersonate::impersonated(&user, &parts.headers)? {
            Some(other) => Arc::new(other),
            None => user,
        };
        let info = RequestInfo::parse(&parts.method, &parts.uri);
        identity::authorize(&user, &info)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        identity::node::check(&self.inner, &user, &info, &query)?;
        let body = collect(&parts.method, body).await?;
        let call = Call {
            parts,
            info,
            query,
            body,
            user,
        };
        if call.info.resource.is_none() {
            return Ok(system::serve(&self.inner, &call));
        }
        if call.is_stream() {
            return rest::serve(self.inner, call).await;
        }
        match tokio::time::timeout(TIMEOUT, rest::serve(self.inner, call)).await {
            Ok(result) => result,
            Err(_) => Err(status::timeout(
                "request did not complete within requested timeout - context deadline exceeded",
                0,
            )),
        }
    }

    fn identify(&self, parts: &Parts) -> Result<Arc<UserInfo>, StatusError> {
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let bearer = header
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        if let Some(user) = &self.user {
            return Ok(user.clone());
        }
        match bearer {
            Some((_, token)) => self
                .inner
                .tokens
                .authenticate(&self.inner, token.trim())
                .map(Arc::new),
            None => Ok(Arc::new(UserInfo::anonymous())),
        }
    }
}

impl Call {
    /// Whether the answer goes on for as long as the client likes.
    fn is_stream(&self) -> bool {
        let subresource = self
            .info
            .resource
            .as_ref()
            .map_or("", |t| t.subresource.as_str());
        self.info.verb == "watch"
            || matches!(
                subresource,
                "log" | "exec" | "attach" | "portforward" | "proxy"
            )
    }
}

async fn collect<B>(method: &Method, body: B) -> Result<Bytes, StatusError>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if method == Method::GET || method == Method::HEAD {
        return Ok(Bytes::new());
    }
    match tokio::time::timeout(TIMEOUT, read(body)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(status::request_entity_too_large(format_args!(
            "limit is {BODY_LIMIT}"
        ))),
        Ok(Err(error)) => Err(status::bad_request(format!(
            "unable to read the body: {error}"
        ))),
        Err(_) => Err(status::timeout("the body was not sent in time", 0)),
    }
}

/// The whole body; `None` if it is too large. That is read on for a while, since who still sends would meet a closed connection instead of
/// the refusal.
async fn read<B>(body: B) -> Result<Option<Bytes>, BoxError>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    match Limited::new(body.as_mut(), BODY_LIMIT).collect().await {
        Ok(collected) => return Ok(Some(collected.to_bytes())),
        Err(error) if !error.is::<LengthLimitError>() => return Err(error),
        Err(_) => {}
    }
    let mut more = 0;
    while more < READ_ON
        && let Some(frame) = body.frame().await
    {
        more += frame.map_err(Into::into)?.data_ref().map_or(0, Bytes::len);
    }
    Ok(None)
}

impl<B> Service<Request<B>> for Router
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let router = self.clone();
        Box::pin(async move { Ok(router.respond(request).await) })
    }
}
