//! The client: speaks to the engine, or to a service of its own when none runs.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{self, Body};
use super::{CALL, Call, Failure, Service, Told, socket};
use crate::effects;
use crate::settings::Settings;

/// Bytes between client and service within one process.
const PIPE: usize = 256 * 1024;

/// A connection to the service; one call at a time.
pub(super) struct Client {
    sender: SendRequest<Body>,
}

impl Client {
    /// Connects to the running engine; without one opens the store.
    pub(super) async fn connect(settings: &Settings) -> anyhow::Result<Client> {
        let run = &settings.paths.run;
        let engine = socket::connect(run)
            .await
            .with_context(|| format!("connect to the engine below {}", run.display()))?;
        if let Some(stream) = engine {
            return Client::over(stream).await;
        }
        let store = effects::open_images(settings)?;
        let service = Service::new(Arc::new(store), settings.paths.runtime());
        let (ours, theirs) = tokio::io::duplex(PIPE);
        tokio::spawn(service.serve(theirs));
        Client::over(ours).await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> anyhow::Result<Client> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its failure is told to whoever waits for an answer.
        tokio::spawn(connection);
        Ok(Client { sender })
    }

    /// Sends a call; a refusal is a [`Failure`].
    async fn send(&mut self, call: &Call, body: Body) -> anyhow::Result<Response<Incoming>> {
        let header = HeaderValue::from_bytes(&serde_json::to_vec(call)?)
            .context("a word of the command has characters that no image has")?;
        let request = Request::post("/images")
            .header(http::header::HOST, "carob")
            .header(CALL, header)
            .body(body)?;
        self.sender.ready().await.context(LOST)?;
        let response = self.sender.send_request(request).await.context(LOST)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let bytes = response.into_body().collect().await.context(LOST)?;
        let failure: Failure = serde_json::from_slice(&bytes.to_bytes()).context(ODD)?;
        Err(failure.into())
    }

    /// A call that is answered with a value.
    pub(super) async fn ask<T: DeserializeOwned>(
        &mut self,
        call: &Call,
        body: Body,
    ) -> anyhow::Result<T> {
        let response = self.send(call, body).await?;
        let bytes = response.into_body().collect().await.context(LOST)?;
        serde_json::from_slice(&bytes.to_bytes()).context(ODD)
    }

    /// A call without an archive.
    pub(super) async fn call<T: DeserializeOwned>(&mut self, call: &Call) -> anyhow::Result<T> {
        self.ask(call, body::whole(Bytes::new())).await
    }

    /// A call that is answered with an archive, handed on piece by piece.
    pub(super) async fn fetch(
        &mut self,
        call: &Call,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let response = self.send(call, body::whole(Bytes::new())).await?;
        let mut answer = response.into_body();
        while let Some(frame) = answer.frame().await {
            if let Ok(bytes) = frame.context(LOST)?.into_data() {
                each(&bytes)?;
            }
        }
        Ok(())
    }

    /// A pull; each line of its answer is handed on.
    pub(super) async fn pull(
        &mut self,
        call: &Call,
        mut each: impl FnMut(Told) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut line = Vec::new();
        self.fetch(call, |bytes| {
            for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if line.ends_with(b"\n") {
                    each(serde_json::from_slice(&line).context(ODD)?)?;
                    line.clear();
                }
            }
            Ok(())
        })
        .await
    }
}

const LOST: &str = "the connection to the image service broke off";
const ODD: &str = "the engine gave an answer this program does not know; is it another version?";
