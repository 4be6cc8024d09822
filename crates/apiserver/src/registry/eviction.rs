//! `POST pods/…/eviction`: a deletion with the options in the body that asks the budget of the Pod first (spec pod-lifecycle §2.2)
//! and is said in a condition.
//!
//! [`lifecycle::budget`] decides; what it decided on must still be so when it is carried out. A budget is written before the Pod is
//! deleted, and only if it is as it was judged; a Pod that was let go because it is not ready is deleted only as it was judged.

use admission::pod;
use api::status::{self, Status, StatusError};
use http::Response;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use lifecycle::budget::{self, Blocked, Permit, Refusal};
use ports::store::StoreError;
use serde_json::Value;

use crate::registry;
use crate::respond::{self, Body};
use crate::rest::{DeleteOptions, Rest, Stored, meta, put, store_error};

/// Tries on objects that others change at the same time.
const TRIES: usize = 20;
/// Seconds after which a budget is worth asking again that nobody has looked at yet.
const SOON: i32 = 10;

/// An eviction as it was asked for.
struct Asked<'a> {
    rest: &'a Rest,
    options: DeleteOptions,
    dry: bool,
}

/// What became of a try.
enum Tried {
    Evicted,
    /// The Pod or the budget has changed meanwhile: all has to be decided anew.
    Changed,
}

/// Evicts a Pod, or says why not.
pub(super) async fn evict(rest: &Rest) -> Result<Response<Body>, StatusError> {
    let body = rest.decode_as("policy", "v1", "Eviction")?;
    if meta(&body, "name") != rest.target.name {
        return Err(status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let options: DeleteOptions = match body.get("deleteOptions") {
        Some(options) => serde_json::from_value(options.clone())
            .map_err(|e| status::bad_request(e.to_string()))?,
        None => DeleteOptions::default(),
    };
    let dry = rest.is_dry_run()? || options.is_dry_run();
    let asked = Asked { rest, options, dry };
    for _ in 0..TRIES {
        if let Tried::Evicted = asked.try_evict().await? {
            return Ok(respond::status(&Status::success(201, None)));
        }
    }
    Err(asked.changed())
}

impl Asked<'_> {
    async fn try_evict(&self) -> Result<Tried, StatusError> {
        let rest = self.rest;
        let stored = Stored::decode(rest.entry()?)?;
        rest.check_delete(&stored, &rest.target.name, &self.options)?;
        let budgets = self.budgets()?;
        let typed = serde_json::from_value(stored.object.clone()).map_err(status::internal)?;
        let judged = budgets.iter().map(|(_, budget)| budget);
        let now = rest.inner.clock.now();
        match budget::evict(&typed, judged, now).map_err(refused)? {
            Permit::Unasked { unchanged: true } => self.delete(stored, true).await,
            Permit::Unasked { unchanged: false } | Permit::Free => self.delete(stored, false).await,
            Permit::Unhealthy(name) => match self.delete(stored, true).await {
                Ok(Tried::Changed) if !self.options.names_revision() => {
                    Err(refused(Refusal::Blocked(Blocked::Behind(name))))
                }
                other => other,
            },
            Permit::Spends(name, status) => {
                let mut all = budgets.into_iter();
                let own = all.find(|(b, _)| meta(&b.object, "name") == name);
                let Some((budget, _)) = own else {
                    return Ok(Tried::Changed);
                };
                let status = serde_json::to_value(status).map_err(status::internal)?;
                match self.spend(budget, status).await? {
                    Tried::Evicted => self.delete(stored, false).await,
                    Tried::Changed => Ok(Tried::Changed),
                }
            }
        }
    }

    /// The budgets of the Pod's namespace.
    fn budgets(&self) -> Result<Vec<(Stored, PodDisruptionBudget)>, StatusError> {
        let rest = self.rest;
        let Some(kind) = registry::find("policy", "v1", "poddisruptionbudgets") else {
            return Ok(Vec::new());
        };
        let prefix = registry::prefix(kind, &rest.target.namespace);
        let (_, entries) = rest.inner.store.range(&prefix, None, 0);
        let decode = |entry| {
            let stored = Stored::decode(entry)?;
            let typed = serde_json::from_value(stored.object.clone()).map_err(status::internal)?;
            Ok((stored, typed))
        };
        entries.into_iter().map(decode).collect()
    }

    /// Gives the budget its new status, if it is as it was.
    async fn spend(&self, budget: Stored, status: Value) -> Result<Tried, StatusError> {
        if self.dry {
            return Ok(Tried::Evicted);
        }
        let expect = budget.expect();
        let mut object = budget.object;
        object["status"] = status;
        match put(&self.rest.inner, &budget.entry.key, expect, object).await {
            Ok(_) => Ok(Tried::Evicted),
            Err(StoreError::Conflict { .. }) => Ok(Tried::Changed),
            Err(other) => Err(store_error(other)),
        }
    }

    /// Says it in the Pod's condition and deletes it: as it is stored here only, or this Pod however it has changed.
    async fn delete(&self, mut stored: Stored, as_it_is: bool) -> Result<Tried, StatusError> {
        let rest = self.rest;
        let uid = meta(&stored.object, "uid").to_owned();
        for _ in 0..TRIES {
            let entry = if self.dry || pod::is_evicted(&stored.object) {
                Ok(stored.entry.clone())
            } else {
                let mut pod = stored.object.clone();
                pod::evict(&mut pod, &rest.now());
                put(&rest.inner, &rest.key(), stored.expect(), pod).await
            };
            match entry {
                Ok(entry) => {
                    let revision = as_it_is.then_some(entry.mod_revision);
                    let options = self.options.of(&uid, revision);
                    return match rest.delete_entry(entry, &options).await {
                        Ok(_) => Ok(Tried::Evicted),
                        Err(error) if as_it_is && error.code == 409 => Ok(Tried::Changed),
                        Err(error) => Err(error),
                    };
                }
                Err(StoreError::Conflict { .. }) if as_it_is => return Ok(Tried::Changed),
                Err(StoreError::Conflict { .. }) => {
                    stored = Stored::decode(rest.entry()?)?;
                    let same = self.options.of(&uid, None);
                    rest.check_delete(&stored, &rest.target.name, &same)?;
                    rest.check_delete(&stored, &rest.target.name, &self.options)?;
                }
                Err(other) => return Err(store_error(other)),
            }
        }
        Err(self.changed())
    }

    fn changed(&self) -> StatusError {
        let rest = self.rest;
        status::conflict(&rest.group_resource(), &rest.target.name, status::MODIFIED)
    }
}

/// A refusal in upstream's form.
fn refused(refusal: Refusal) -> StatusError {
    let message = refusal.to_string();
    match refusal {
        Refusal::Several => status::failure(500, "", message, None),
        Refusal::Forbidden(name, why) => {
            let budgets = api::gvk::GroupResource::new("policy", "poddisruptionbudget");
            status::forbidden(&budgets, &name, why)
        }
        Refusal::Blocked(blocked) => {
            let seconds = match blocked {
                Blocked::Behind(_) => SOON,
                _ => 0,
            };
            let cause = blocked.to_string();
            status::too_many_requests(message, seconds).with_cause("DisruptionBudget", cause, "")
        }
    }
}
