//! Objects and lists in the form the client asked for (spec kubectl-and-api §2.2, §12.1).

use api::status::StatusError;
use bytes::{BufMut, Bytes, BytesMut};
use http::Response;
use ports::store::Entry;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Rest;
use super::list::Page;
use crate::negotiate::{self, Form};
use crate::registry;
use crate::respond::{self, Body};
use crate::router::Call;
use api::resource::Resource;

/// Turns stored bytes of one kind into what is sent.
pub(crate) struct Presenter {
    kind: &'static Resource,
    form: Form,
}

#[derive(Deserialize)]
struct WithMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// `PartialObjectMetadata` of an object.
fn partial(object: &[u8]) -> Bytes {
    let metadata =
        serde_json::from_slice::<WithMetadata<'_>>(object).map_or("{}", |o| o.metadata.get());
    let text = format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{metadata}}}"#
    );
    Bytes::from(text)
}

impl Presenter {
    pub(crate) fn new(kind: &'static Resource, call: &Call) -> Result<Presenter, StatusError> {
        Ok(Presenter {
            kind,
            form: negotiate::form(&call.parts.headers)?,
        })
    }

    /// The object of a watch event.
    pub(crate) fn event_object(&mut self, object: &Bytes) -> Bytes {
        match self.form {
            Form::Object | Form::Table => registry::shown_bytes(self.kind, object),
            Form::Metadata => partial(object),
        }
    }

    /// What the objects of this stream say they are.
    pub(crate) fn kind_and_version(&self) -> (&str, String) {
        match self.form {
            Form::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned()),
            _ => (self.kind.gvk.kind, self.kind.group_version().to_string()),
        }
    }
}

impl Rest {
    /// A stored object.
    pub(crate) fn present(&self, code: u16, entry: &Entry) -> Result<Response<Body>, StatusError> {
        self.present_bytes(code, &entry.value)
    }

    /// An object given as its bytes.
    pub(crate) fn present_bytes(
        &self,
        code: u16,
        object: &Bytes,
    ) -> Result<Response<Body>, StatusError> {
        let bytes = match negotiate::form(&self.call.parts.headers)? {
            Form::Object | Form::Table => registry::shown_bytes(self.kind, object),
            Form::Metadata => partial(object),
        };
        Ok(respond::json(code, self.pretty(bytes)))
    }

    pub(super) fn present_list(&self, page: &Page) -> Result<Response<Body>, StatusError> {
        let bytes = match negotiate::form(&self.call.parts.headers)? {
            Form::Object | Form::Table => {
                let head = (
                    format!("{}List", self.kind.gvk.kind),
                    self.kind.group_version().to_string(),
                );
                splice(
                    head,
                    page,
                    page.entries
                        .iter()
                        .map(|e| registry::shown_bytes(self.kind, &e.value)),
                )
            }
            Form::Metadata => {
                let head = (
                    "PartialObjectMetadataList".to_owned(),
                    "meta.k8s.io/v1".to_owned(),
                );
                splice(head, page, page.entries.iter().map(|e| partial(&e.value)))
            }
        };
        Ok(respond::json(200, self.pretty(bytes)))
    }

    /// Indented when `?pretty=` asks for it.
    fn pretty(&self, bytes: Bytes) -> Bytes {
        if !self.call.query.bool("pretty") {
            return bytes;
        }
        let value: Result<serde_json::Value, _> = serde_json::from_slice(&bytes);
        value
            .and_then(|v| serde_json::to_vec_pretty(&v))
            .map_or(bytes, Bytes::from)
    }
}

/// `metadata` of a list.
pub(super) fn list_metadata(page: &Page) -> serde_json::Value {
    let mut metadata = serde_json::json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = next.as_str().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

/// A list around objects that are already encoded.
fn splice(
    (kind, version): (String, String),
    page: &Page,
    items: impl Iterator<Item = Bytes>,
) -> Bytes {
    let size: usize = page.entries.iter().map(|e| e.value.len() + 1).sum();
    let mut out = BytesMut::with_capacity(size + 256);
    let metadata = list_metadata(page);
    out.put_slice(
        format!(r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{metadata},"items":["#)
            .as_bytes(),
    );
    for (n, item) in items.enumerate() {
        if n > 0 {
            out.put_u8(b',');
        }
        out.put_slice(&item);
    }
    out.put_slice(b"]}");
    out.freeze()
}
