//! Update: PUT, and what PATCH and subresources share with it (spec kubectl-and-api §5.3, pod-lifecycle §15.4).

use admission::Subresource;
use api::apply;
use api::field;
use api::status::{self, StatusError};
use http::Response;
use ports::store::{Entry, StoreError};
use serde_json::Value;

use super::Rest;
use super::object::{self, Stored, is_held, meta, metadata_mut};
use super::ownership::Books;
use crate::registry::{self, Charges};
use crate::respond::Body;

/// Tries to make a change that depends on the newest object before giving up.
const TRIES: usize = 20;

/// The version of the object that an update is meant for; 0 is any.
fn given_revision(new: &Value) -> Option<&str> {
    let revision = meta(new, "resourceVersion");
    (!["", "0"].contains(&revision)).then_some(revision)
}

/// What an update came to.
pub(super) enum Updated {
    /// Stored, unchanged, or removed because nothing holds it any more.
    Entry(Entry),
    /// Dry run: the object as it would be.
    Dry(Value),
}

impl Rest {
    pub(super) async fn update(&self, part: Subresource) -> Result<Response<Body>, StatusError> {
        self.check_manager()?;
        let mut object = self.decode_body()?;
        self.check_identity(&mut object)?;
        if part == Subresource::Main
            && self.kind.create_on_update
            && self.inner.store.get(&self.key()).is_none()
        {
            metadata_mut(&mut object).remove("resourceVersion");
            return self.create_object(object, Books::Open).await;
        }
        let updated = self
            .modify(part, Books::Open, |_| Ok(object.clone()))
            .await?;
        self.present_updated(&updated)
    }

    pub(super) fn present_updated(&self, updated: &Updated) -> Result<Response<Body>, StatusError> {
        match updated {
            Updated::Entry(entry) => self.present(200, entry),
            Updated::Dry(object) => {
                self.present_bytes(200, &bytes::Bytes::from(object.to_string()))
            }
        }
    }

    /// Applies `change` to the newest object until it sticks. A result that carries an older resourceVersion than the newest is a
    /// conflict.
    pub(super) async fn modify(
        &self,
        part: Subresource,
        books: Books,
        change: impl Fn(&Value) -> Result<Value, StatusError>,
    ) -> Result<Updated, StatusError> {
        let dry = self.is_dry_run()?;
        for _ in 0..TRIES {
            let mut stored = Stored::decode(self.entry()?)?;
            registry::to_shown(self.kind, &mut stored.object);
            let mut new = change(&stored.object)?;
            self.check_preconditions(&new, &stored)?;
            let given_revision = given_revision(&new).is_some() && self.call.info.verb == "update";
            self.prepare(part, books, &mut new, &stored.object)?;
            // Held until the object is stored, so that two Services never choose the same address.
            let _addresses = registry::allocate(self, &mut new, Some(&stored.object)).await?;
            self.validate(part, &new, &stored.object)?;
            registry::review_update(self, part, &new, &stored.object)?;
            apply::keep_times(&mut new, &stored.object);
            if new == stored.object {
                return Ok(Updated::Entry(stored.entry));
            }
            let charges = registry::charge(self, part, &new, Some(&stored.object)).await?;
            if dry {
                return Ok(Updated::Dry(new));
            }
            match self.write(&stored, new, charges).await {
                Ok(entry) => return Ok(Updated::Entry(entry)),
                Err(StoreError::Conflict { .. }) if !given_revision || self.is_still(&stored) => {}
                Err(StoreError::Conflict { .. }) => break,
                Err(other) => return Err(object::store_error(other)),
            }
        }
        Err(status::conflict(
            &self.group_resource(),
            &self.target.name,
            status::MODIFIED,
        ))
    }

    /// Stores the changed object, or removes it when it only waited for its finalizers.
    async fn write(
        &self,
        stored: &Stored,
        mut new: Value,
        charges: Charges<'_>,
    ) -> Result<Entry, StoreError> {
        let metadata = &new["metadata"];
        let deleting = metadata["deletionTimestamp"].is_string();
        let waits_for_node = metadata["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default()
            > 0;
        let key = &stored.entry.key;
        let released = is_held(&stored.object) && !is_held(&new);
        registry::to_stored(self.kind, &mut new);
        if deleting && !waits_for_node && released {
            return object::remove(&self.inner, key, stored.expect(), new).await;
        }
        object::put_charged(&self.inner, key, stored.expect(), new, charges).await
    }

    /// Whether an object is as it was: then only a quota stood in the way of its change.
    fn is_still(&self, stored: &Stored) -> bool {
        let current = self.inner.store.get(&stored.entry.key);
        current.is_some_and(|current| current.mod_revision == stored.entry.mod_revision)
    }

    /// A uid or resourceVersion that a client sends along must be the object's.
    fn check_preconditions(&self, new: &Value, stored: &Stored) -> Result<(), StatusError> {
        let revision = given_revision(new);
        if revision.is_none() && self.kind.update_needs_revision {
            return Err(status::invalid(
                &self.group_kind(),
                &self.target.name,
                vec![field::Error::no_revision()],
            ));
        }
        if revision.is_some_and(|given| given != stored.entry.mod_revision.to_string()) {
            return Err(status::conflict(
                &self.group_resource(),
                &self.target.name,
                status::MODIFIED,
            ));
        }
        let (given, own) = (meta(new, "uid"), meta(&stored.object, "uid"));
        if !given.is_empty() && given != own {
            let why = format!(
                "Precondition failed: UID in precondition: {given}, UID in object meta: {own}"
            );
            return Err(status::conflict(
                &self.group_resource(),
                &self.target.name,
                why,
            ));
        }
        Ok(())
    }

    /// Defaults, who owns what, and what this part may not touch.
    fn prepare(
        &self,
        part: Subresource,
        books: Books,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), StatusError> {
        let resource = self.group_resource().to_string();
        let metadata = metadata_mut(new);
        for field in [
            "uid",
            "creationTimestamp",
            "resourceVersion",
            "generation",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            match old["metadata"].get(field) {
                Some(value) => metadata.insert(field.into(), value.clone()),
                None => metadata.remove(field),
            };
        }
        metadata.remove("selfLink");
        admission::default(&resource, new);
        if books == Books::Open {
            self.own_changes(part, Some(old), new)?;
        }
        registry::admit_update(self, part, new, old)?;
        admission::prepare_update(&resource, part, new, old);
        registry::stamp(self, part, new, old);
        Ok(())
    }

    fn validate(&self, part: Subresource, new: &Value, old: &Value) -> Result<(), StatusError> {
        let resource = self.group_resource().to_string();
        let mut errors = admission::validate_update(&resource, part, new, old);
        errors.extend(registry::errors(self, new, Some(old)));
        if errors.is_empty() {
            Ok(())
        } else {
            Err(status::invalid(
                &self.group_kind(),
                &self.target.name,
                errors,
            ))
        }
    }
}
