//! The generic REST path: every verb of every kind, over the store's bytes.

mod apply;
mod create;
mod decode;
mod delete;
mod list;
mod object;
mod options;
mod ownership;
mod patch;
mod present;
mod scale;
mod snapshot;
mod update;
mod watch;

pub(crate) use create::random_suffix;
pub(crate) use delete::DeleteOptions;
pub(crate) use object::{Stored, meta, put, put_write, remove, store_error};

use std::sync::{Arc, Mutex};

use admission::Subresource;
use api::gvk::{GroupKind, GroupResource};
use api::status::{self, StatusError};
use http::{Response, StatusCode};
use ports::store::Entry;

use crate::registry;
use crate::request::Target;
use crate::respond::{self, Body};
use crate::router::Call;
use crate::server::Inner;
use api::resource::Resource;

/// One request about a known kind.
pub(crate) struct Rest {
    pub(crate) inner: Arc<Inner>,
    pub(crate) call: Call,
    pub(crate) kind: &'static Resource,
    pub(crate) target: Target,
    /// What the client is to be told besides the answer.
    warnings: Mutex<Vec<String>>,
}

/// Serves a request whose path names a resource.
pub(crate) async fn serve(
    inner: Arc<Inner>,
    mut call: Call,
) -> Result<Response<Body>, StatusError> {
    let target = call.info.resource.take().unwrap_or_default();
    let Some(kind) = registry::find(&target.group, &target.version, &target.resource) else {
        return Ok(registry::unknown(&inner, call.info.verb, &target));
    };
    let own_namespace = kind.plural == "namespaces";
    if !kind.namespaced && !target.namespace.is_empty() && !own_namespace {
        return Ok(page_not_found());
    }
    let rest = Rest {
        inner,
        call,
        kind,
        target,
        warnings: Mutex::default(),
    };
    if kind.namespaced
        && rest.target.namespace.is_empty()
        && !matches!(rest.call.info.verb, "list" | "watch")
    {
        return Err(status::method_not_allowed(
            &rest.group_resource(),
            rest.call.info.verb,
        ));
    }
    let mut response = rest.dispatch().await?;
    let warnings = rest
        .warnings
        .into_inner()
        .unwrap_or_else(|e| e.into_inner());
    respond::add_warnings(&mut response, &warnings);
    Ok(response)
}

/// What upstream's mux answers on unknown paths.
pub(crate) fn page_not_found() -> Response<Body> {
    let mut response = respond::text(404, "404 page not found\n");
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

impl Rest {
    async fn dispatch(&self) -> Result<Response<Body>, StatusError> {
        if !self.kind.is_stored() {
            return registry::virtual_kind(self).await;
        }
        match self.target.subresource.as_str() {
            "" => self.main().await,
            "status" if self.kind.has_status => self.part(Subresource::Status).await,
            "scale" if self.kind.subresource("scale").is_some() => self.scale().await,
            other => registry::subresource(self, other).await,
        }
    }

    /// Tells the client something besides the answer, once.
    pub(crate) fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(|e| e.into_inner());
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    async fn main(&self) -> Result<Response<Body>, StatusError> {
        match self.call.info.verb {
            "get" => self.get(),
            "list" => self.list().await,
            "watch" => self.watch().await,
            "create" if self.target.name.is_empty() => self.create().await,
            "update" if !self.target.name.is_empty() => self.update(Subresource::Main).await,
            "patch" if !self.target.name.is_empty() => self.patch(Subresource::Main).await,
            "delete" => self.delete().await,
            "deletecollection" => self.delete_collection().await,
            _ => Err(status::unknown_method()),
        }
    }

    /// GET, PUT and PATCH of a subresource that is a part of the object.
    pub(crate) async fn part(&self, part: Subresource) -> Result<Response<Body>, StatusError> {
        match self.call.info.verb {
            "get" => self.get(),
            "update" => self.update(part).await,
            "patch" => self.patch(part).await,
            _ => Err(status::unknown_method()),
        }
    }

    pub(crate) fn group_resource(&self) -> GroupResource {
        self.kind.group_resource()
    }

    pub(crate) fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.kind.gvk.group, self.kind.gvk.kind)
    }

    /// The key of the object the URL names.
    pub(crate) fn key(&self) -> String {
        registry::key(self.kind, &self.target.namespace, &self.target.name)
    }

    /// The object the URL names, or 404.
    pub(crate) fn entry(&self) -> Result<Entry, StatusError> {
        self.inner
            .store
            .get(&self.key())
            .ok_or_else(|| status::not_found(&self.group_resource(), &self.target.name))
    }

    fn get(&self) -> Result<Response<Body>, StatusError> {
        let entry = self.entry()?;
        self.present(200, &entry)
    }
}
