//! What is there now, as lists and the beginnings of watches see it.

use std::time::Duration;

use api::status::{self, StatusError};
use ports::store::{Entry, Revision, StoreError};

use crate::head::Selection;
use crate::registry;
use crate::server::Inner;
use api::resource::Resource;

/// How long a request waits for a revision that is not there yet.
const FUTURE: Duration = Duration::from_secs(3);
/// Objects taken from the store at once when selecting.
const PAGE: usize = 500;

/// The prefix of every object of `kind`, in one namespace unless that is empty. A selector for one name narrows it.
pub(crate) fn prefix(kind: &Resource, namespace: &str, selection: &Selection) -> String {
    let namespace = if namespace.is_empty() {
        selection
            .fields
            .required("metadata.namespace")
            .unwrap_or_default()
    } else {
        namespace
    };
    let mut prefix = registry::prefix(kind, namespace);
    if let Some(name) = selection.fields.required("metadata.name")
        && (!kind.namespaced || !namespace.is_empty())
    {
        prefix.push_str(name);
    }
    prefix
}

/// At most `limit` (0: all) selected objects after `after`, and whether there are more.
pub(crate) fn select(
    inner: &Inner,
    prefix: &str,
    selection: &Selection,
    after: Option<&str>,
    limit: usize,
) -> (Revision, Vec<Entry>, bool) {
    if selection.is_everything() {
        let asked = if limit == 0 { 0 } else { limit + 1 };
        let (revision, mut entries) = inner.store.range(prefix, after, asked);
        let more = limit != 0 && entries.len() > limit;
        if more {
            entries.truncate(limit);
        }
        return (revision, entries, more);
    }
    if limit == 0 {
        let (revision, mut entries) = inner.store.range(prefix, after, 0);
        entries.retain(|e| selection.matches(&e.key, &e.value));
        return (revision, entries, false);
    }
    page(inner, prefix, selection, after, limit)
}

fn page(
    inner: &Inner,
    prefix: &str,
    selection: &Selection,
    after: Option<&str>,
    limit: usize,
) -> (Revision, Vec<Entry>, bool) {
    let mut found: Vec<Entry> = Vec::new();
    let mut after = after.map(str::to_owned);
    let mut first = None;
    loop {
        let (revision, entries) = inner.store.range(prefix, after.as_deref(), PAGE);
        let first = *first.get_or_insert(revision);
        let last = entries.len() < PAGE;
        after = entries.last().map(|e| e.key.clone());
        found.extend(
            entries
                .into_iter()
                .filter(|e| selection.matches(&e.key, &e.value)),
        );
        if found.len() > limit {
            found.truncate(limit);
            return (first, found, true);
        }
        if last {
            return (first, found, false);
        }
    }
}

/// Waits until the store has reached `revision`, for a while; then 504.
pub(crate) async fn reach(inner: &Inner, revision: Revision) -> Result<(), StatusError> {
    let current = inner.store.revision();
    if current >= revision {
        return Ok(());
    }
    let wait = async {
        // Between two changes nothing can have happened.
        let Ok(mut changes) = inner.store.watch("/", current) else {
            return;
        };
        while inner.store.revision() < revision && changes.recv().await.is_some() {}
    };
    // Whether it was reached is asked below.
    let _ = tokio::time::timeout(FUTURE, wait).await;
    let current = inner.store.revision();
    if current >= revision {
        Ok(())
    } else {
        Err(status::too_large_resource_version(revision, current))
    }
}

/// Whether nothing under `prefix` changed after `revision`; an error when that is no longer known.
pub(crate) fn is_unchanged(
    inner: &Inner,
    prefix: &str,
    revision: Revision,
) -> Result<bool, StatusError> {
    match inner.store.watch(prefix, revision) {
        Ok(mut changes) => Ok(changes.try_recv().is_err()),
        Err(StoreError::Compacted { asked, oldest }) => {
            Err(status::too_old_resource_version(asked, oldest))
        }
        Err(StoreError::Future { asked, current }) => {
            Err(status::too_large_resource_version(asked, current))
        }
        Err(other) => Err(super::object::store_error(other)),
    }
}
