//! A blob as one unbroken stream of bytes, whatever happens to the connections below it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ports::images::ImageError;

use super::{Miss, Registry, note};
use crate::error::{chain, refused};
use crate::manifest::Descriptor;

/// Longest wait between two tries.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// Reads exactly as many bytes as the descriptor says, resuming where a connection broke off.
pub(crate) struct BlobReader<'a> {
    registry: &'a Registry,
    descriptor: &'a Descriptor,
    body: Option<Incoming>,
    offset: u64,
    /// Bytes to throw away because the server began at the start again.
    skip: u64,
    failures: u32,
    delay: Duration,
}

impl<'a> BlobReader<'a> {
    pub(crate) fn new(registry: &'a Registry, descriptor: &'a Descriptor) -> Self {
        Self {
            registry,
            descriptor,
            body: None,
            offset: 0,
            skip: 0,
            failures: 0,
            delay: registry.retry.first_delay,
        }
    }

    /// Bytes handed out so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes, or `None` when all have come.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ImageError> {
        loop {
            let mut body = match self.body.take() {
                Some(body) => body,
                None if self.offset == self.descriptor.size => return Ok(None),
                None => match self.open().await? {
                    Some(body) => body,
                    None => continue,
                },
            };
            let problem = match tokio::time::timeout(self.registry.retry.idle, body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    self.body = Some(body);
                    match frame.into_data().map(|data| self.accept(data)) {
                        Ok(Ok(Some(data))) => return Ok(Some(data)),
                        Ok(Ok(None)) | Err(_) => continue,
                        Ok(Err(error)) => return Err(error),
                    }
                }
                Ok(None) if self.offset == self.descriptor.size => return Ok(None),
                Ok(None) => format!(
                    "ended after {} of {} bytes",
                    self.offset, self.descriptor.size
                ),
                Ok(Some(Err(e))) => chain(&e),
                Err(_) => "no more bytes in time".to_owned(),
            };
            self.wait(problem).await?;
        }
    }

    /// Takes what arrived; `None` when it was all known.
    fn accept(&mut self, mut data: Bytes) -> Result<Option<Bytes>, ImageError> {
        let known = usize::try_from(self.skip)
            .unwrap_or(usize::MAX)
            .min(data.len());
        let fresh = data.split_off(known);
        self.skip -= known as u64;
        if fresh.is_empty() {
            return Ok(None);
        }
        self.offset += fresh.len() as u64;
        if self.offset > self.descriptor.size {
            return Err(refused(
                &self.descriptor.digest,
                format!(
                    "has more than the {} bytes its descriptor says",
                    self.descriptor.size
                ),
            ));
        }
        (self.failures, self.delay) = (0, self.registry.retry.first_delay);
        Ok(Some(fresh))
    }

    /// Asks the places in order. `None` after a wait: ask again.
    async fn open(&mut self) -> Result<Option<Incoming>, ImageError> {
        let path = format!("blobs/{}", self.descriptor.digest);
        let mut worst = None;
        for place in self.registry.places.iter().filter(|p| p.endpoint.pull) {
            match self
                .registry
                .request(place, Method::GET, &path, Some(self.offset))
                .await
            {
                Ok(answer) => return Ok(Some(self.begin(answer))),
                Err(miss) => note(&mut worst, place, miss),
            }
        }
        match &worst {
            Some((_, Miss::Status(StatusCode::RANGE_NOT_SATISFIABLE, _))) => {
                let reason = format!(
                    "has {} bytes, its descriptor says {}",
                    self.offset, self.descriptor.size
                );
                Err(refused(&self.descriptor.digest, reason))
            }
            Some((_, Miss::Unreachable(words)))
                if self.failures + 1 < self.registry.retry.attempts =>
            {
                let words = words.clone();
                self.wait(words).await.map(|()| None)
            }
            _ => Err(self.registry.failure(worst)),
        }
    }

    fn begin(&mut self, answer: Response<Incoming>) -> Incoming {
        self.skip = if answer.status() == StatusCode::PARTIAL_CONTENT {
            0
        } else {
            self.offset
        };
        answer.into_body()
    }

    async fn wait(&mut self, problem: String) -> Result<(), ImageError> {
        self.failures += 1;
        if self.failures >= self.registry.retry.attempts {
            let host = self.registry.reference.domain().to_owned();
            return Err(ImageError::Unreachable {
                host,
                source: format!("{}: {problem}", self.descriptor.digest).into(),
            });
        }
        tracing::debug!(blob = %self.descriptor.digest, problem, "download interrupted");
        tokio::time::sleep(self.delay).await;
        self.delay = (self.delay * 2).min(DELAY_MAX);
        Ok(())
    }
}
