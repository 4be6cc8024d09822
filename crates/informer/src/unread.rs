//! Objects as they came, which are read when they have got through the watch: so that there is one watch in the program, whatever kinds
//! there are, and one object that cannot be read does not keep a watch from the others.

use std::borrow::Cow;

use kube::core::{DynamicResourceScope, ObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object's text without `managedFields`, of whose metadata nothing is known but the revision. `METADATA`: no more than metadata is
/// asked for.
#[derive(Debug, Clone)]
pub(crate) struct Unread<const METADATA: bool> {
    text: Box<str>,
    metadata: ObjectMeta,
}

/// What a watch goes by, and what nobody here reads.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    resource_version: Option<String>,
    #[serde(borrow)]
    managed_fields: Option<&'a RawValue>,
}

impl<'de, const METADATA: bool> Deserialize<'de> for Unread<METADATA> {
    /// The text is at hand as a whole only in JSON, and in an event only behind its type, where servers have it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text: Box<str> = Box::<RawValue>::deserialize(deserializer)?.into();
        let head: Head<'_> = serde_json::from_str(&text).map_err(D::Error::custom)?;
        let metadata = ObjectMeta {
            resource_version: head.metadata.resource_version,
            ..ObjectMeta::default()
        };
        let books = head.metadata.managed_fields.map(RawValue::get);
        let shorter = books.and_then(|books| without(&text, books));
        Ok(Unread {
            text: shorter.unwrap_or(text),
            metadata,
        })
    }
}

/// The text with `null` in the place of a part of it.
fn without(text: &str, part: &str) -> Option<Box<str>> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let (before, after) = (text.get(..start)?, text.get(start + part.len()..)?);
    Some([before, "null", after].concat().into())
}

/// Where the objects are found.
pub(crate) struct Path(String);

impl<const METADATA: bool> Resource for Unread<METADATA> {
    type DynamicType = Path;
    type Scope = DynamicResourceScope;

    fn kind(_: &Path) -> Cow<'_, str> {
        Cow::default()
    }

    fn group(_: &Path) -> Cow<'_, str> {
        Cow::default()
    }

    fn version(_: &Path) -> Cow<'_, str> {
        Cow::default()
    }

    fn plural(_: &Path) -> Cow<'_, str> {
        Cow::default()
    }

    fn url_path(path: &Path, _: Option<&str>) -> String {
        path.0.clone()
    }

    fn metadata_api() -> bool {
        METADATA
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The objects of another API, unread.
pub(crate) fn of<K: Resource, const METADATA: bool>(api: Api<K>) -> Api<Unread<METADATA>> {
    let path = Path(api.resource_url().to_owned());
    Api::all_with(api.into_client(), &path)
}

/// An event with its object read.
///
/// # Errors
/// The watch's own, and [`watcher::Error::WatchFailed`] for an object that cannot be read; what follows is as if it had not been told.
pub(crate) fn read<K: DeserializeOwned, const METADATA: bool>(
    event: watcher::Result<Event<Unread<METADATA>>>,
) -> watcher::Result<Event<K>> {
    let read = |unread: Unread<METADATA>| {
        let read = serde_json::from_str(&unread.text);
        read.map_err(|error| watcher::Error::WatchFailed(kube::Error::SerdeError(error)))
    };
    Ok(match event? {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(unread) => Event::InitApply(read(unread)?),
        Event::Apply(unread) => Event::Apply(read(unread)?),
        Event::Delete(unread) => Event::Delete(read(unread)?),
    })
}
