//! Watches (spec kubectl-and-api §5.5–5.7): a response body that turns the store's changes into lines as it is polled.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use api::status::{self, StatusError};
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use ports::store::{Entry, Revision, StoreError, Watch, WatchEvent, WatchItem, WatchKind};
use rand::Rng;
use tokio::time::Instant;

use super::options::ListOptions;
use super::present::Presenter;
use super::{Rest, object, snapshot};
use crate::head::Selection;
use crate::respond::{self, Body, BoxError};
use crate::server::Inner;

const BOOKMARK: Duration = Duration::from_secs(60);
/// Upstream closes watches without a timeout after 30 to 60 minutes.
const TIMEOUT: std::ops::Range<u64> = 1800..3600;
/// A chunk ends when it has this many bytes.
const CHUNK: usize = 64 * 1024;

/// A watch being served.
struct Stream {
    inner: Arc<Inner>,
    selection: Selection,
    presenter: Presenter,
    /// Entries still to be shown as ADDED.
    initial: VecDeque<Entry>,
    /// Sent when the initial entries are out.
    initial_end: Option<Bytes>,
    /// `None` ends the stream.
    changes: Option<Watch>,
    revision: Revision,
    deadline: Instant,
    bookmark: Option<Instant>,
    last_bookmark: Revision,
}

enum Wake {
    Change(Option<WatchItem>),
    Bookmark,
    End,
}

impl Rest {
    pub(super) async fn watch(&self) -> Result<Response<Body>, StatusError> {
        let mut options = ListOptions::parse(&self.call.query, self.kind, true)?;
        if !self.target.name.is_empty() {
            // The legacy path that watches one object.
            options.selection.fields =
                api::selector::FieldSelector::equals("metadata.name", self.target.name.clone());
        }
        if let Some(asked) = options.revision {
            snapshot::reach(&self.inner, asked).await?;
        }
        let presenter = Presenter::new(self)?;
        let stream = self.stream(options, presenter)?;
        let chunks = stream::unfold(stream, |mut stream| async move {
            let chunk = stream.next().await?;
            Some((Ok::<_, BoxError>(Frame::data(chunk)), stream))
        });
        Ok(respond::with_type(
            StatusCode::OK,
            respond::JSON,
            BodyExt::boxed_unsync(StreamBody::new(chunks)),
        ))
    }

    fn stream(&self, options: ListOptions, presenter: Presenter) -> Result<Stream, StatusError> {
        let prefix = snapshot::prefix(self.kind, &self.target.namespace, &options.selection);
        let from = options.revision.unwrap_or_default();
        let synthetic = options.initial_events.unwrap_or(from == 0);
        let (start, initial) = if synthetic {
            let (revision, entries, _) =
                snapshot::select(&self.inner, &prefix, &options.selection, None, 0);
            (revision, entries)
        } else if from == 0 {
            (self.inner.store.revision(), Vec::new())
        } else {
            (from, Vec::new())
        };
        let seconds = options
            .timeout
            .filter(|t| *t > 0)
            .unwrap_or_else(|| rand::rng().random_range(TIMEOUT));
        let now = Instant::now();
        let ends = options.initial_events == Some(true) && options.bookmarks;
        let mut stream = Stream {
            inner: self.inner.clone(),
            initial_end: ends.then(|| presenter.bookmark(start, true)),
            selection: options.selection,
            presenter,
            initial: initial.into(),
            changes: None,
            revision: start,
            deadline: now + Duration::from_secs(seconds),
            bookmark: options.bookmarks.then(|| now + BOOKMARK),
            last_bookmark: 0,
        };
        match self.inner.store.watch(&prefix, start) {
            Ok(changes) => stream.changes = Some(changes),
            Err(StoreError::Compacted { asked, oldest }) => {
                stream.initial.clear();
                stream.initial_end =
                    Some(error_line(&status::too_old_resource_version(asked, oldest)));
            }
            Err(other) => return Err(object::store_error(other)),
        }
        Ok(stream)
    }
}

fn error_line(error: &StatusError) -> Bytes {
    line("ERROR", &error.to_json())
}

/// One event as it goes over the wire.
fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + 40);
    put_line(&mut out, kind, object);
    out.freeze()
}

fn put_line(out: &mut BytesMut, kind: &str, object: &[u8]) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
}

impl Stream {
    /// The next chunk of lines; `None` ends the response.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while let Some(entry) = self.initial.pop_front() {
            let shown = self.presenter.object(&entry.value);
            put_line(&mut out, "ADDED", &shown);
            if out.len() >= CHUNK {
                return Some(out.freeze());
            }
        }
        if let Some(end) = self.initial_end.take() {
            out.put_slice(&end);
        }
        while out.is_empty() {
            match self.wake().await {
                Wake::Change(Some(item)) => self.take(item, &mut out),
                Wake::Change(None) => {
                    // Closing store or server: just end. Else this watcher was too slow for the kept history.
                    self.changes = None;
                    if self.inner.shutdown.is_cancelled() {
                        return None;
                    }
                    let current = self.inner.store.revision();
                    return Some(error_line(&status::too_old_resource_version(
                        self.revision,
                        current,
                    )));
                }
                Wake::Bookmark => {
                    self.bookmark = Some(Instant::now() + BOOKMARK);
                    self.put_bookmark(&mut out);
                }
                Wake::End => {
                    self.changes = None;
                    if self.bookmark.take().is_some() {
                        self.put_bookmark(&mut out);
                    }
                    if out.is_empty() {
                        return None;
                    }
                }
            }
        }
        while out.len() < CHUNK {
            match self.changes.as_mut().map(Watch::try_recv) {
                Some(Ok(item)) => self.take(item, &mut out),
                _ => break,
            }
        }
        Some(out.freeze())
    }

    async fn wake(&mut self) -> Wake {
        let Some(changes) = &mut self.changes else {
            return Wake::End;
        };
        let bookmark = self.bookmark;
        let bookmark = async move {
            match bookmark {
                Some(at) => tokio::time::sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            item = changes.recv() => Wake::Change(item),
            () = self.inner.shutdown.cancelled() => Wake::End,
            () = tokio::time::sleep_until(self.deadline) => Wake::End,
            () = bookmark => Wake::Bookmark,
        }
    }

    fn put_bookmark(&mut self, out: &mut BytesMut) {
        if self.last_bookmark != self.revision {
            self.last_bookmark = self.revision;
            out.put_slice(&self.presenter.bookmark(self.revision, false));
        }
    }

    fn take(&mut self, item: WatchItem, out: &mut BytesMut) {
        match item {
            WatchItem::Progress(revision) => self.revision = revision,
            WatchItem::Event(event) => {
                self.revision = event.entry.mod_revision;
                self.put_event(&event, out);
            }
        }
    }

    /// Selectors make changes into additions and deletions: what begins to match is ADDED, what ceases to is DELETED.
    fn put_event(&mut self, event: &WatchEvent, out: &mut BytesMut) {
        let entry = &event.entry;
        let selected = |bytes: &Bytes| self.selection.matches(&entry.key, bytes);
        let before = event.previous.as_ref().is_some_and(selected);
        let after = event.kind != WatchKind::Deleted && selected(&entry.value);
        let (kind, bytes) = match (before, after) {
            (false, false) => return,
            (false, true) => ("ADDED", entry.value.clone()),
            (true, true) => ("MODIFIED", entry.value.clone()),
            (true, false) if event.kind == WatchKind::Deleted => ("DELETED", entry.value.clone()),
            (true, false) => ("DELETED", last_selected(event)),
        };
        let shown = self.presenter.object(&bytes);
        put_line(out, kind, &shown);
    }
}

/// The last state a selector matched, at the revision at which it ceased to.
fn last_selected(event: &WatchEvent) -> Bytes {
    let previous = event.previous.as_ref().unwrap_or(&event.entry.value);
    match serde_json::from_slice(previous) {
        Ok(object) => object::encode_at(object, event.entry.mod_revision),
        Err(_) => previous.clone(),
    }
}

impl Presenter {
    /// A BOOKMARK line; with `initial_end` the one that ends the initial events of a streaming list.
    fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let annotations = if initial_end {
            r#","annotations":{"k8s.io/initial-events-end":"true"}"#
        } else {
            ""
        };
        let (kind, version) = self.kind_and_version();
        let object = format!(
            r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{{"resourceVersion":"{revision}","creationTimestamp":null{annotations}}}}}"#
        );
        line("BOOKMARK", object.as_bytes())
    }
}
