//! The loop that accepts connections, and what becomes of each.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::respond::Body;
use crate::tls::Peer;

/// A client must finish its TLS handshake by then.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections get this long to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
/// Requests a client may have open on one HTTP/2 connection.
const STREAMS: u32 = 1000;

/// Serves `listener` until `shutdown`; then cancels `stop`, lets requests finish for a few seconds, and returns. Connections finish whenever
/// `stop` is cancelled. Requests of a connection go to what `service` makes for its client.
pub async fn serve<S>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    stop: CancellationToken,
    shutdown: impl Future<Output = ()> + Send,
    service: impl Fn(Option<Peer>) -> S + Clone + Send + 'static,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (acceptor, stop) = (acceptor.clone(), stop.clone());
                connections.spawn(connection(stream, acceptor, stop, service.clone()));
            }
            Err(error) => {
                // Out of descriptors or memory: other connections have to end first.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    stop.cancel();
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time");
    }
}

async fn connection<S>(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    stop: CancellationToken,
    service: impl Fn(Option<Peer>) -> S,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
{
    // Without it small answers wait for the client's acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "tls handshake failed"),
        Err(_) => return tracing::debug!("tls handshake took too long"),
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let service = service(certificate.and_then(Peer::of));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS);
    let mut serving =
        pin!(builder.serve_connection_with_upgrades(
            TokioIo::new(stream),
            TowerToHyperService::new(service)
        ));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
