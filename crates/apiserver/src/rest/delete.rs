//! Delete and deletecollection (spec kubectl-and-api §9, pod-lifecycle §2.1).

mod dependents;

use api::field::{Error, Path};
use api::gvk::GroupKind;
use api::query::Query;
use api::status::{self, Status, StatusDetails, StatusError};
use http::Response;
use jiff::{SignedDuration, Timestamp};
use ports::store::{Entry, Revision, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};

use dependents::Usual;

use super::object::{self, Stored, is_held, meta, metadata_mut};
use super::{Rest, options, snapshot};
use crate::registry;
use crate::respond::{self, Body};

const TRIES: usize = 20;

/// `DeleteOptions`, from the body or the query.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<Preconditions>,
    dry_run: Vec<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// What a deletion came to.
enum Deleted {
    /// The object is gone; this is its last state.
    Gone(Entry),
    /// It is marked, or was already.
    Marked(Entry),
}

impl DeleteOptions {
    fn from_query(query: &Query) -> Result<DeleteOptions, StatusError> {
        Ok(DeleteOptions {
            grace_period_seconds: query
                .integer("gracePeriodSeconds")
                .map_err(status::bad_request)?,
            propagation_policy: query
                .get("propagationPolicy")
                .filter(|p| !p.is_empty())
                .map(str::to_owned),
            orphan_dependents: query.maybe_bool("orphanDependents"),
            preconditions: None,
            dry_run: query
                .all("dryRun")
                .filter(|v| !v.is_empty())
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Whether nothing is to be stored, as far as the options say.
    pub(crate) fn is_dry_run(&self) -> bool {
        !self.dry_run.is_empty()
    }

    /// Whether only a certain revision of the object is meant.
    pub(crate) fn names_revision(&self) -> bool {
        let preconditions = self.preconditions.as_ref();
        preconditions.is_some_and(|p| p.resource_version.is_some())
    }

    /// The same, for this object, and for this revision of it or, without, for any: who asks has checked it.
    pub(crate) fn of(&self, uid: &str, revision: Option<Revision>) -> DeleteOptions {
        DeleteOptions {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: revision.map(|r| r.to_string()),
            }),
            ..self.clone()
        }
    }

    fn validate(&self) -> Result<(), StatusError> {
        let mut errors = Vec::new();
        let at = |field: &str| Path::new(field);
        if self.orphan_dependents.is_some() && self.propagation_policy.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(Error::invalid(
                &at("propagationPolicy"),
                self.propagation_policy.clone().unwrap_or_default(),
                why,
            ));
        }
        if let Some(policy) = &self.propagation_policy
            && !matches!(policy.as_str(), "Foreground" | "Background" | "Orphan")
        {
            let supported = ["Background", "Foreground", "Orphan", "nil"];
            errors.push(Error::not_supported(
                &at("propagationPolicy"),
                policy.as_str(),
                &supported,
            ));
        }
        for value in self.dry_run.iter().filter(|v| *v != "All") {
            errors.push(Error::not_supported(
                &at("dryRun"),
                value.as_str(),
                &["All"],
            ));
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(status::invalid(
                &GroupKind::new("meta.k8s.io", "DeleteOptions"),
                "",
                errors,
            ))
        }
    }
}

impl Rest {
    pub(super) async fn delete(&self) -> Result<Response<Body>, StatusError> {
        let options = self.delete_options()?;
        let entry = self.entry()?;
        self.delete_entry(entry, &options).await
    }

    /// Deletes one object as DELETE would, and answers for it.
    pub(crate) async fn delete_entry(
        &self,
        entry: Entry,
        options: &DeleteOptions,
    ) -> Result<Response<Body>, StatusError> {
        match self.delete_one(entry, options).await? {
            Deleted::Gone(entry) if self.kind.plural != "pods" => {
                let uid =
                    Stored::decode(entry.clone()).map(|s| meta(&s.object, "uid").to_owned())?;
                let details = StatusDetails {
                    name: crate::head::name_of(&entry.key).to_owned(),
                    group: self.kind.gvk.group.to_owned(),
                    kind: self.kind.plural.to_owned(),
                    uid,
                    ..StatusDetails::default()
                };
                Ok(respond::status(&Status::success(0, Some(details))))
            }
            Deleted::Gone(entry) | Deleted::Marked(entry) => self.present(200, &entry),
        }
    }

    pub(super) async fn delete_collection(&self) -> Result<Response<Body>, StatusError> {
        let options = self.delete_options()?;
        let selection = options::selection(&self.call.query, self.kind)?;
        let prefix = snapshot::prefix(self.kind, &self.target.namespace, &selection);
        let (_, entries, _) = snapshot::select(&self.inner, &prefix, &selection, None, 0);
        let mut deleted = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.delete_one(entry, &options).await {
                Ok(Deleted::Gone(entry) | Deleted::Marked(entry)) => deleted.push(entry),
                Err(error) if error.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let page = super::list::Page {
            revision: self.inner.store.revision(),
            entries: deleted,
            next: None,
            remaining: None,
        };
        self.present_list(&page)
    }

    fn delete_options(&self) -> Result<DeleteOptions, StatusError> {
        let options = match self.decode_options()? {
            Some(body) => {
                serde_json::from_value(body).map_err(|e| status::bad_request(e.to_string()))?
            }
            None => DeleteOptions::from_query(&self.call.query)?,
        };
        options.validate()?;
        if self.kind.plural == "jobs" && dependents::is_unsaid(&options) {
            self.warn(dependents::JOB_WARNING.to_owned());
        }
        Ok(options)
    }

    async fn delete_one(
        &self,
        entry: Entry,
        options: &DeleteOptions,
    ) -> Result<Deleted, StatusError> {
        let key = entry.key.clone();
        let name = crate::head::name_of(&key).to_owned();
        registry::check_delete(self, &name)?;
        let mut next = Some(entry);
        // The object as this request has marked it, to be removed next.
        let mut marked: Option<Entry> = None;
        for _ in 0..TRIES {
            let entry = next.take().or_else(|| self.inner.store.get(&key));
            let is_ours = |entry: &Entry| {
                let marked = marked.as_ref();
                marked.is_none_or(|marked| marked.create_revision == entry.create_revision)
            };
            let entry = match (entry.filter(is_ours), &marked) {
                (Some(entry), _) => entry,
                // Who saw the mark was faster: the node agent, which removes Pods that have ended.
                (None, Some(marked)) => return Ok(Deleted::Gone(marked.clone())),
                (None, None) => return Err(status::not_found(&self.group_resource(), &name)),
            };
            let stored = Stored::decode(entry)?;
            if marked.is_none() {
                self.check_delete(&stored, &name, options)?;
            }
            let dry = options.is_dry_run() || self.is_dry_run()?;
            match self.try_delete(stored, options, dry, &mut marked).await {
                Err(StoreError::Conflict { .. }) => {}
                Err(other) => return Err(object::store_error(other)),
                Ok(deleted) => return Ok(deleted),
            }
        }
        Err(status::conflict(
            &self.group_resource(),
            &name,
            status::MODIFIED,
        ))
    }

    pub(crate) fn check_delete(
        &self,
        stored: &Stored,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), StatusError> {
        let Some(preconditions) = &options.preconditions else {
            return Ok(());
        };
        let own = meta(&stored.object, "uid");
        if let Some(uid) = preconditions.uid.as_deref().filter(|uid| *uid != own) {
            let why = format!(
                "the UID in the precondition ({uid}) does not match the UID in record ({own}). The object might have been deleted and then recreated"
            );
            return Err(status::conflict(&self.group_resource(), name, why));
        }
        let own = stored.entry.mod_revision.to_string();
        if let Some(revision) = preconditions
            .resource_version
            .as_deref()
            .filter(|r| *r != own)
        {
            let why = format!(
                "the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record ({own}). The object might have been modified"
            );
            return Err(status::conflict(&self.group_resource(), name, why));
        }
        Ok(())
    }

    /// Marks or removes the object, whichever is its turn; `last_mark` is what was marked to be removed at once.
    async fn try_delete(
        &self,
        stored: Stored,
        options: &DeleteOptions,
        dry: bool,
        last_mark: &mut Option<Entry>,
    ) -> Result<Deleted, StoreError> {
        let key = stored.entry.key.clone();
        let mut object = stored.object.clone();
        let graceful = self.kind.plural == "pods";
        let now = self.inner.clock.now();
        let next = if graceful {
            mark_pod(&mut object, options.grace_period_seconds, now)
        } else if self.kind.plural == "namespaces" {
            begin_end(&mut object)
        } else {
            Next::Remove
        };
        // Who asks while the node is at it changes nothing.
        if next != Next::Wait {
            let usual = Usual::of(&self.group_resource());
            dependents::finalize(&mut object, options, usual);
        }
        let remove = next == Next::Remove && !is_held(&object);
        if !graceful && !remove {
            mark(&mut object, 0, now);
        }
        if dry {
            let entry = Entry {
                value: bytes::Bytes::from(object.to_string()),
                ..stored.entry
            };
            return Ok(if remove {
                Deleted::Gone(entry)
            } else {
                Deleted::Marked(entry)
            });
        }
        let mut expect = stored.expect();
        let mut marked = stored.entry;
        // A Pod's last mark is shown to watchers before it goes; other kinds go without.
        let is_new = object != stored.object && (graceful || !remove);
        if is_new {
            marked = object::put(&self.inner, &key, expect, object.clone()).await?;
            expect = ports::store::Expect::ModRevision(marked.mod_revision);
        }
        if !remove {
            return Ok(Deleted::Marked(marked));
        }
        if is_new {
            *last_mark = Some(marked);
        }
        let removed = object::remove(&self.inner, &key, expect, object).await?;
        Ok(Deleted::Gone(removed))
    }
}

/// What becomes of an object that is asked to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It goes as soon as nothing holds it.
    Remove,
    /// It has been given some time from now on.
    Grace,
    /// It has some time left, or others are at it: the request changes nothing.
    Wait,
}

/// The end of a Namespace begins with the first request; then it waits for those in `spec.finalizers`.
fn begin_end(namespace: &mut Value) -> Next {
    if namespace["metadata"]["deletionTimestamp"].is_null() {
        namespace["status"]["phase"] = json!("Terminating");
        return Next::Remove;
    }
    if is_held(&json!({"kind": "Namespace", "spec": namespace["spec"]})) {
        return Next::Wait;
    }
    Next::Remove
}

fn time(at: Timestamp) -> Value {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}

/// First mark of an object: when it is to go, how long it was given; counts as a change of what is wanted.
fn mark(object: &mut Value, grace: i64, now: Timestamp) {
    let metadata = metadata_mut(object);
    if metadata.contains_key("deletionTimestamp") {
        return;
    }
    let at = now
        .checked_add(SignedDuration::from_secs(grace))
        .unwrap_or(now);
    metadata.insert("deletionTimestamp".into(), time(at));
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

/// Marks a Pod as the table in spec pod-lifecycle §2.1 says.
fn mark_pod(pod: &mut Value, asked: Option<i64>, now: Timestamp) -> Next {
    let after = |grace: i64| match grace {
        0 => Next::Remove,
        _ => Next::Grace,
    };
    let old = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let at = pod["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(|t| t.parse::<Timestamp>().ok());
    let Some(at) = at else {
        let unscheduled = pod["spec"]["nodeName"]
            .as_str()
            .unwrap_or_default()
            .is_empty();
        let ended = matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        );
        let own = pod["spec"]["terminationGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(30);
        let grace = if unscheduled || ended {
            0
        } else {
            asked.unwrap_or(own)
        };
        let grace = if grace < 0 { 1 } else { grace };
        mark(pod, grace, now);
        return after(grace);
    };
    let old = match old {
        None | Some(0) => return Next::Remove,
        Some(old) => old,
    };
    let Some(asked) = asked
        .map(|a| if a < 0 { 1 } else { a })
        .filter(|a| *a < old)
    else {
        return Next::Wait;
    };
    let sooner = at
        .checked_add(SignedDuration::from_secs(asked - old))
        .unwrap_or(now);
    let (at, grace) = if sooner < now {
        (now, asked.min(1))
    } else {
        (sooner, asked)
    };
    let metadata = metadata_mut(pod);
    metadata.insert("deletionTimestamp".into(), time(at));
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    after(grace)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_marked_as_upstream_marks_them() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let running = json!({"metadata":{"generation":1},"spec":{"nodeName":"n","terminationGracePeriodSeconds":20},"status":{"phase":"Running"}});
        let marked = |seconds: i64, at: &str| {
            let mut pod = running.clone();
            pod["metadata"] =
                json!({"generation":2,"deletionTimestamp":at,"deletionGracePeriodSeconds":seconds});
            pod
        };
        let pending = json!({"metadata":{},"spec":{"terminationGracePeriodSeconds":20}});
        let cases = [
            (
                running.clone(),
                None,
                Next::Grace,
                20,
                "2026-01-01T00:00:20Z",
            ),
            (
                running.clone(),
                Some(60),
                Next::Grace,
                60,
                "2026-01-01T00:01:00Z",
            ),
            (
                running.clone(),
                Some(-5),
                Next::Grace,
                1,
                "2026-01-01T00:00:01Z",
            ),
            (
                running.clone(),
                Some(0),
                Next::Remove,
                0,
                "2026-01-01T00:00:00Z",
            ),
            (pending, None, Next::Remove, 0, "2026-01-01T00:00:00Z"),
            (
                marked(30, "2026-01-01T00:00:25Z"),
                None,
                Next::Wait,
                30,
                "2026-01-01T00:00:25Z",
            ),
            (
                marked(30, "2026-01-01T00:00:25Z"),
                Some(40),
                Next::Wait,
                30,
                "2026-01-01T00:00:25Z",
            ),
            (
                marked(30, "2026-01-01T00:00:25Z"),
                Some(10),
                Next::Grace,
                10,
                "2026-01-01T00:00:05Z",
            ),
            (
                marked(30, "2026-01-01T00:00:25Z"),
                Some(2),
                Next::Grace,
                1,
                "2026-01-01T00:00:00Z",
            ),
            (
                marked(30, "2026-01-01T00:00:25Z"),
                Some(0),
                Next::Remove,
                0,
                "2026-01-01T00:00:00Z",
            ),
            (
                marked(0, "2026-01-01T00:00:00Z"),
                None,
                Next::Remove,
                0,
                "2026-01-01T00:00:00Z",
            ),
        ];
        for (n, (mut pod, asked, next, grace, at)) in cases.into_iter().enumerate() {
            assert_eq!(mark_pod(&mut pod, asked, now), next, "case {n}");
            assert_eq!(
                pod["metadata"]["deletionGracePeriodSeconds"], grace,
                "case {n}"
            );
            assert_eq!(pod["metadata"]["deletionTimestamp"], at, "case {n}");
        }
    }
}
