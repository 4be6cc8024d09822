//! The server's side of calls with one message each way.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;

use crate::State;

/// Why a call has no answer.
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn internal(message: String) -> Refusal {
        Refusal {
            code: "13",
            message,
        }
    }

    pub(crate) fn unimplemented() -> Refusal {
        Refusal {
            code: grpc::UNIMPLEMENTED,
            message: "unknown method".to_owned(),
        }
    }
}

/// Answers every connection until it is dropped.
pub(crate) async fn serve(listener: UnixListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        let answering = service_fn(move |request| answer(state.clone(), request));
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), answering);
        // A client that leaves early has its reasons.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let outcome = match grpc::unframed(body) {
        Ok(message) => state.answer(&path, &message),
        Err(error) => Err(Refusal::internal(error.to_string())),
    };
    let (message, code, words) = match outcome {
        Ok(message) => (grpc::framed(&message), "0", String::new()),
        Err(refusal) => (Bytes::new(), refusal.code, refusal.message),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    if let Ok(words) = HeaderValue::from_str(&words) {
        trailers.insert("grpc-message", words);
    }
    let body = Full::new(message).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    Ok(response)
}
