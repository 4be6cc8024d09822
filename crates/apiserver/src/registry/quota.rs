//! ResourceQuotas: looked up for `admission::quota`, which says what is used once an object is there.
//!
//! What a write is charged goes into the store together with it, and only if no quota of the namespace has changed since they were
//! looked at: so nothing is used that is not counted, and nothing is there that no quota was asked about. A quota that has not been
//! counted yet is written again as it is, which whoever is counting notices.

use admission::Subresource;
use admission::quota::{self, Request};
use api::status::{self, StatusError};
use ports::store::{Unchanged, Write};
use serde_json::Value;
use tokio::sync::MutexGuard;

use crate::rest::{Rest, Stored, meta, put_write};

/// What has to be stored together with an object, and must hold for that.
#[derive(Default)]
pub(crate) struct Charges<'a> {
    pub(crate) writes: Vec<Write>,
    pub(crate) unchanged: Option<Unchanged>,
    /// Held until it is stored, so that writes that are charged do not get into each other's way.
    _turn: Option<MutexGuard<'a, ()>>,
}

/// What the quotas of the namespace are charged for a write, or why one of them refuses it.
pub(crate) async fn charge<'a>(
    rest: &'a Rest,
    part: Subresource,
    new: &Value,
    old: Option<&Value>,
) -> Result<Charges<'a>, StatusError> {
    let kind = rest.group_resource().to_string();
    let request = Request {
        kind: &kind,
        part,
        new,
        old,
        now: rest.inner.clock.now(),
    };
    if !rest.kind.namespaced || !request.is_counted() {
        return Ok(Charges::default());
    }
    let prefix = format!("/registry/resourcequotas/{}/", rest.target.namespace);
    let unchanged = |since| {
        let prefix = prefix.clone();
        Some(Unchanged { prefix, since })
    };
    let (since, entries) = rest.inner.store.range(&prefix, None, 1);
    if entries.is_empty() {
        return Ok(Charges {
            unchanged: unchanged(since),
            ..Charges::default()
        });
    }
    let turn = rest.inner.quotas.lock().await;
    let (since, entries) = rest.inner.store.range(&prefix, None, 0);
    let stored = entries.into_iter().map(Stored::decode);
    let stored: Vec<Stored> = stored.collect::<Result<_, _>>()?;
    let quotas: Vec<Value> = stored.iter().map(|quota| quota.object.clone()).collect();
    let refuse = |why| status::forbidden(&rest.group_resource(), meta(new, "name"), why);
    let mut charged = quota::charge(&request, &quotas).map_err(refuse)?;
    let mut writes = Vec::new();
    for (index, (quota, mut object)) in stored.iter().zip(quotas).enumerate() {
        let used = charged.remove(&index);
        if used.is_none() && !quota::is_uncounted(&object, &kind) {
            continue;
        }
        if let Some(used) = used {
            quota::set_used(&mut object, used);
        }
        writes.push(put_write(&quota.entry.key, quota.expect(), object));
    }
    Ok(Charges {
        writes,
        unchanged: unchanged(since),
        _turn: Some(turn),
    })
}
