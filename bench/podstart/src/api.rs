//! The server's HTTPS API, spoken so that the measuring costs little: HTTP/1.1 on kept connections, TCP_NODELAY, no client
//! library between a frame's arrival and the clock.
//!
//! One task per connection drives it. A watch has a task of its own that stamps each frame with the time it was read and hands
//! the lines on; parsing happens later, in whoever asks for the next event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

use crate::kubeconfig::Access;
use crate::tls;
use crate::watch::Event;

/// A server, and how to be let in.
#[derive(Clone)]
pub(crate) struct Api {
    access: Access,
    tls: Arc<ClientConfig>,
}

impl Api {
    /// Prepares everything; nothing is sent yet.
    pub(crate) fn new(access: Access) -> anyhow::Result<Api> {
        let tls = Arc::new(tls::client(&access)?);
        Ok(Api { access, tls })
    }

    /// Opens a connection that is kept.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let (host, port) = (self.access.host.as_str(), self.access.port);
        let tcp = TcpStream::connect((host, port))
            .await
            .with_context(|| format!("connect to {host}:{port}"))?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        let tls = TlsConnector::from(self.tls.clone())
            .connect(name, tcp)
            .await
            .with_context(|| format!("speak TLS with {host}:{port}"))?;
        let (sender, connection) = handshake(TokioIo::new(tls)).await?;
        // It ends with the sender; what went wrong is told by the request that failed.
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            host: format!("{host}:{port}"),
            token: self.access.token.clone(),
        })
    }

    /// Watches a path on a connection of its own.
    pub(crate) async fn watch(&self, path: &str) -> anyhow::Result<Watch> {
        let mut connection = self.connect().await?;
        let response = connection.send(Method::GET, path, None).await?;
        let status = response.status();
        if !status.is_success() {
            bail!("watch {path}: {status}");
        }
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(read_lines(connection, response.into_body(), sender));
        Ok(Watch { lines })
    }
}

/// A kept connection: one request at a time.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    token: Option<String>,
}

impl Connection {
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> anyhow::Result<Response<Incoming>> {
        let what = format!("{method} {path}");
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(body.unwrap_or_default()))?;
        self.sender.send_request(request).await.context(what)
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, body))
    }

    /// The same; a refusal is an error with what the server said.
    pub(crate) async fn must(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> anyhow::Result<Bytes> {
        let what = format!("{method} {path}");
        let (status, body) = self.request(method, path, body).await?;
        if !status.is_success() {
            bail!("{what}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}

/// A watch under way.
pub(crate) struct Watch {
    lines: mpsc::UnboundedReceiver<(Instant, Bytes)>,
}

impl Watch {
    /// The next event and when it was read; an error when none has come by `deadline`.
    pub(crate) async fn next(&mut self, deadline: Instant) -> anyhow::Result<(Instant, Event)> {
        let line = timeout_at(deadline.into(), self.lines.recv())
            .await
            .context("nothing came in time")?;
        let (when, line) = line.context("the server ended the watch")?;
        Ok((when, Event::parse(&line)?))
    }

    /// Reads events until `is_it` says yes; when that one was read.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        patience: Duration,
        mut is_it: impl FnMut(&Event) -> bool,
    ) -> anyhow::Result<Instant> {
        let deadline = Instant::now() + patience;
        loop {
            let (when, event) = self
                .next(deadline)
                .await
                .with_context(|| format!("wait for {what}"))?;
            if is_it(&event) {
                return Ok(when);
            }
        }
    }
}

/// Stamps and splits what arrives, until the watch ends or nobody listens; the connection is kept open meanwhile.
async fn read_lines(
    connection: Connection,
    mut body: Incoming,
    lines: mpsc::UnboundedSender<(Instant, Bytes)>,
) {
    let _kept = connection;
    let mut partial = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        let now = Instant::now();
        let Ok(data) = frame.into_data() else {
            continue;
        };
        partial.extend_from_slice(&data);
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            let line = partial.split_to(end + 1).freeze();
            if lines.send((now, line)).is_err() {
                return;
            }
        }
    }
}
