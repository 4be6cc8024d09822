//! Objects and lists in the form the client asked for (spec kubectl-and-api §2.2, §12.1).

use std::sync::Arc;

use api::field::{Error, Path};
use api::gvk::GroupKind;
use api::status::{self, StatusError};
use api::table::{IncludeObject, Table};
use bytes::{BufMut, Bytes, BytesMut};
use http::Response;
use ports::clock::Clock;
use ports::store::Entry;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Rest;
use super::list::Page;
use crate::negotiate::{self, Form};
use crate::registry;
use crate::respond::{self, Body};
use api::resource::Resource;

/// Turns stored bytes of one kind into what is sent.
pub(crate) struct Presenter {
    kind: &'static Resource,
    /// Whose columns tables have.
    printed: String,
    form: Form,
    include: IncludeObject,
    clock: Arc<dyn Clock>,
    /// Whether the next table says what its columns are.
    with_columns: bool,
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
    pub(crate) fn new(rest: &Rest) -> Result<Presenter, StatusError> {
        let call = &rest.call;
        let asked = call.query.text("includeObject");
        let Some(include) = IncludeObject::parse(asked) else {
            let error = Error::not_supported(
                &Path::new("includeObject"),
                asked,
                &["Metadata", "None", "Object", ""],
            );
            return Err(status::invalid(
                &GroupKind::new("meta.k8s.io", "TableOptions"),
                "",
                vec![error],
            ));
        };
        Ok(Presenter {
            kind: rest.kind,
            printed: rest.group_resource().to_string(),
            form: negotiate::form(&call.parts.headers, call.info.verb == "watch")?,
            include,
            clock: rest.inner.clock.clone(),
            with_columns: true,
        })
    }

    /// One object, or that of a watch event. Only the first table of a watch says what its columns are.
    pub(crate) fn object(&mut self, object: &Bytes) -> Bytes {
        match self.form {
            Form::Object => registry::shown_bytes(self.kind, object),
            Form::Metadata => partial(object),
            Form::Table => {
                let value: Value = serde_json::from_slice(object).unwrap_or_default();
                let revision = json!({"resourceVersion": value["metadata"]["resourceVersion"]});
                let table = self.table(revision, vec![value]);
                self.with_columns = false;
                table
            }
        }
    }

    fn list(&self, page: &Page) -> Bytes {
        let (kind, version) = self.list_kind();
        match self.form {
            Form::Object => splice(
                (kind, version),
                page,
                page.entries
                    .iter()
                    .map(|e| registry::shown_bytes(self.kind, &e.value)),
            ),
            Form::Metadata => splice(
                (kind, version),
                page,
                page.entries.iter().map(|e| partial(&e.value)),
            ),
            Form::Table => {
                let objects = page
                    .entries
                    .iter()
                    .filter_map(|e| serde_json::from_slice(&e.value).ok())
                    .collect();
                self.table(list_metadata(page), objects)
            }
        }
    }

    fn table(&self, metadata: Value, mut objects: Vec<Value>) -> Bytes {
        objects
            .iter_mut()
            .for_each(|object| registry::to_shown(self.kind, object));
        let table = Table {
            resource: &self.printed,
            include: self.include,
            with_columns: self.with_columns,
            now: self.clock.now(),
        };
        Bytes::from(table.of(metadata, &objects).to_string())
    }

    fn list_kind(&self) -> (String, String) {
        match self.form {
            Form::Metadata => (
                "PartialObjectMetadataList".to_owned(),
                "meta.k8s.io/v1".to_owned(),
            ),
            _ => (self.kind.list_kind(), self.kind.group_version().to_string()),
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
        let bytes = Presenter::new(self)?.object(object);
        Ok(respond::json(code, self.pretty(bytes)))
    }

    /// A Scale, which is made from the object.
    pub(super) fn present_scale(&self, scale: &Value) -> Result<Response<Body>, StatusError> {
        let mut presenter = Presenter::new(self)?;
        presenter.printed = "scales.autoscaling".to_owned();
        let bytes = presenter.object(&Bytes::from(scale.to_string()));
        Ok(respond::json(200, self.pretty(bytes)))
    }

    pub(super) fn present_list(&self, page: &Page) -> Result<Response<Body>, StatusError> {
        let bytes = Presenter::new(self)?.list(page);
        Ok(respond::json(200, self.pretty(bytes)))
    }

    /// Indented when `?pretty=` asks for it.
    fn pretty(&self, bytes: Bytes) -> Bytes {
        if !self.call.query.bool("pretty") {
            return bytes;
        }
        let value: Result<Value, _> = serde_json::from_slice(&bytes);
        value
            .and_then(|v| serde_json::to_vec_pretty(&v))
            .map_or(bytes, Bytes::from)
    }
}

/// `metadata` of a list.
pub(super) fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
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
