//! Create (spec kubectl-and-api §5.1, §5.2).

use admission::Subresource;
use api::field::{Error, Path};
use api::gvk::{GroupKind, GroupResource};
use api::resource::Gvk;
use api::status::{self, StatusError};
use http::Response;
use ports::store::{Expect, StoreError};
use rand::Rng;
use serde_json::Value;

use super::Rest;
use super::object::{self, meta, metadata_mut};
use super::ownership::Books;
use crate::identity::node;
use crate::registry;
use crate::respond::Body;

/// What generated names end in.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// A generated name is a DNS label, so its prefix is cut to this.
const PREFIX: usize = 63 - SUFFIX;
const TRIES: usize = 8;

impl Rest {
    pub(super) async fn create(&self) -> Result<Response<Body>, StatusError> {
        self.check_manager()?;
        let object = self.decode_body()?;
        self.create_object(object, Books::Open).await
    }

    /// Creates `object`, as the body of a POST, or of a PUT or an apply to what is not there.
    pub(super) async fn create_object(
        &self,
        mut object: Value,
        books: Books,
    ) -> Result<Response<Body>, StatusError> {
        self.check_identity(&mut object)?;
        let name = meta(&object, "name");
        if let Some(why) = node::stranger(&self.call.user, &self.target, name) {
            return Err(status::forbidden(&self.group_resource(), name, why));
        }
        if meta(&object, "name").is_empty() && meta(&object, "generateName").is_empty() {
            let error = Error::required(
                &Path::new("metadata").child("name"),
                "name or generateName is required",
            );
            return Err(status::invalid(&self.group_kind(), "", vec![error]));
        }
        if !meta(&object, "resourceVersion").is_empty() {
            return Err(status::failure(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
                None,
            ));
        }
        let dry = self.is_dry_run()?;
        self.check_namespace(meta(&object, "name"))?;
        let resource = self.group_resource().to_string();
        admission::default(&resource, &mut object);
        if books == Books::Open {
            self.own_changes(Subresource::Main, None, &mut object)?;
        }
        registry::admit(self, &mut object).await?;
        self.set_metadata(&mut object);
        let mut is_named = false;
        for _ in 0..TRIES {
            let mut attempt = object.clone();
            let generated = generate_name(&mut attempt);
            admission::prepare_create(&resource, &mut attempt);
            // Held until the object is stored, so that two Services never choose the same address.
            let _addresses = registry::allocate(self, &mut attempt, None).await?;
            let mut errors = admission::validate_create(&resource, &attempt);
            errors.extend(registry::errors(self, &attempt, None));
            if !errors.is_empty() {
                return Err(status::invalid(
                    &self.group_kind(),
                    meta(&attempt, "name"),
                    errors,
                ));
            }
            registry::review_create(self, &attempt)?;
            let charges = registry::charge(self, Subresource::Main, &attempt, None).await?;
            let key = registry::key(
                self.kind,
                meta(&attempt, "namespace"),
                meta(&attempt, "name"),
            );
            if dry {
                if self.inner.store.get(&key).is_some() {
                    return Err(status::already_exists(
                        &self.group_resource(),
                        meta(&attempt, "name"),
                    ));
                }
                return self.present_bytes(201, &object::encode_unstored(attempt));
            }
            let name = meta(&attempt, "name").to_owned();
            registry::to_stored(self.kind, &mut attempt);
            let put = object::put_charged(&self.inner, &key, Expect::Absent, attempt, charges);
            match put.await {
                Ok(entry) => return self.present(201, &entry),
                Err(StoreError::Conflict { .. }) => {
                    let is_taken = self.inner.store.get(&key).is_some();
                    if is_taken && !generated {
                        return Err(status::already_exists(&self.group_resource(), &name));
                    }
                    // Another name, or quotas that have changed meanwhile.
                    is_named = !generated;
                }
                Err(other) => return Err(object::store_error(other)),
            }
        }
        if is_named {
            let why = status::MODIFIED;
            return Err(status::conflict(
                &self.group_resource(),
                meta(&object, "name"),
                why,
            ));
        }
        Err(status::generate_name_conflict(
            &self.group_resource(),
            meta(&object, "generateName"),
            1,
        ))
    }

    /// Checks kind, version, namespace and, when the URL has one, name of a body against the URL, and fills in what it leaves out.
    pub(super) fn check_identity(&self, object: &mut Value) -> Result<(), StatusError> {
        self.check_identity_of(self.kind.gvk, object)
    }

    /// As [`Rest::check_identity`], of a subresource that is of another kind.
    pub(super) fn check_identity_of(
        &self,
        gvk: Gvk,
        object: &mut Value,
    ) -> Result<(), StatusError> {
        let expected = gvk.to_owned().group_version().to_string();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        if !version.is_empty() && version != expected {
            let message = format!(
                "the API version in the data ({version}) does not match the expected API version ({expected})"
            );
            return Err(status::bad_request(message));
        }
        if !kind.is_empty() && kind != gvk.kind {
            let message = format!(
                "the kind in the data ({kind}) does not match the expected kind ({})",
                gvk.kind
            );
            return Err(status::bad_request(message));
        }
        object["apiVersion"] = expected.into();
        object["kind"] = gvk.kind.into();
        let metadata = metadata_mut(object);
        let given = metadata
            .get("namespace")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let wanted = if self.kind.namespaced {
            self.target.namespace.as_str()
        } else {
            ""
        };
        if !given.is_empty() && given != wanted {
            return Err(status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if wanted.is_empty() {
            metadata.remove("namespace");
        } else {
            metadata.insert("namespace".into(), wanted.into());
        }
        if !self.target.name.is_empty() {
            self.check_name(metadata)?;
        }
        Ok(())
    }

    fn check_name(&self, metadata: &mut serde_json::Map<String, Value>) -> Result<(), StatusError> {
        let wanted = self.target.name.as_str();
        let given = metadata
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !given.is_empty() && given != wanted {
            let message = format!(
                "the name of the object ({given}) does not match the name on the URL ({wanted})"
            );
            return Err(status::bad_request(message));
        }
        metadata.insert("name".into(), wanted.into());
        Ok(())
    }

    /// A namespaced object needs its namespace, and one that is not going away.
    fn check_namespace(&self, name: &str) -> Result<(), StatusError> {
        if !self.kind.namespaced {
            return Ok(());
        }
        let namespace = self.target.namespace.as_str();
        let Some(entry) = self
            .inner
            .store
            .get(&format!("/registry/namespaces/{namespace}"))
        else {
            return Err(status::not_found(
                &GroupResource::new("", "namespaces"),
                namespace,
            ));
        };
        if !registry::is_terminating(&entry.value) {
            return Ok(());
        }
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let cause = format!("namespace {namespace} is being terminated");
        Err(
            status::forbidden(&self.group_resource(), name, why).with_cause(
                "NamespaceTerminating",
                cause,
                "metadata.namespace",
            ),
        )
    }

    fn set_metadata(&self, object: &mut Value) {
        let now = self.now();
        let metadata = metadata_mut(object);
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "resourceVersion",
        ] {
            metadata.remove(field);
        }
        metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert("creationTimestamp".into(), now.into());
    }

    /// The time as metadata has it: whole seconds.
    pub(crate) fn now(&self) -> String {
        self.inner
            .clock
            .now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string()
    }

    /// `dryRun=All`; anything else but nothing is refused.
    pub(crate) fn is_dry_run(&self) -> Result<bool, StatusError> {
        let mut dry = false;
        for value in self.call.query.all("dryRun").filter(|v| !v.is_empty()) {
            if value != "All" {
                let error = Error::not_supported(&Path::new("dryRun"), value, &["All"]);
                let kind = GroupKind::new("meta.k8s.io", self.options_kind());
                return Err(status::invalid(&kind, "", vec![error]));
            }
            dry = true;
        }
        Ok(dry)
    }

    pub(super) fn options_kind(&self) -> &'static str {
        match self.call.info.verb {
            "create" => "CreateOptions",
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            _ => "DeleteOptions",
        }
    }
}

/// Completes `generateName`; false when there is nothing to complete.
fn generate_name(object: &mut Value) -> bool {
    let prefix = meta(object, "generateName");
    if !meta(object, "name").is_empty() || prefix.is_empty() {
        return false;
    }
    let mut name: String = prefix.chars().take(PREFIX).collect();
    name.push_str(&random_suffix());
    metadata_mut(object).insert("name".into(), name.into());
    true
}

/// Five characters that make a name unlikely to be taken.
pub(crate) fn random_suffix() -> String {
    let mut rng = rand::rng();
    (0..SUFFIX)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}
