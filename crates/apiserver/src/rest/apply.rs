//! Server-side apply (spec kubectl-and-api §8): a PATCH that says all its manager wants, and makes the object when there is none.

use admission::Subresource;
use api::apply;
use api::gvk::GroupVersion;
use api::resource::Gvk;
use api::status::{self, StatusError};
use api::validate::FieldValidation;
use api::yaml;
use http::Response;
use serde_json::Value;

use super::Rest;
use super::object::meta;
use super::ownership::Books;
use crate::respond::Body;

/// Tries when the object comes and goes under our hands.
const TRIES: usize = 5;

impl Rest {
    pub(super) async fn apply(
        &self,
        part: Subresource,
        mode: FieldValidation,
    ) -> Result<Response<Body>, StatusError> {
        let config = self.configuration(self.kind.gvk, mode)?;
        for _ in 0..TRIES {
            let absent = self.inner.store.get(&self.key()).is_none();
            let done = if absent && part == Subresource::Main {
                self.create_applied(&config).await
            } else {
                let change = |old: &Value| self.applied(part, Some(old), &config);
                let updated = self.modify(part, Books::Kept, change).await;
                updated.and_then(|updated| self.present_updated(&updated))
            };
            match done {
                Err(error) if absent && error.reason == "AlreadyExists" => {}
                Err(error) if !absent && self.is_gone(part, &error) => {}
                other => return other,
            }
        }
        Err(status::conflict(
            &self.group_resource(),
            &self.target.name,
            status::MODIFIED,
        ))
    }

    /// Whether the object was there a moment ago, so that it is to be made now.
    fn is_gone(&self, part: Subresource, error: &StatusError) -> bool {
        part == Subresource::Main
            && error.reason == "NotFound"
            && self.inner.store.get(&self.key()).is_none()
    }

    async fn create_applied(&self, config: &Value) -> Result<Response<Body>, StatusError> {
        let uid = meta(config, "uid");
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(status::conflict(
                &self.group_resource(),
                &self.target.name,
                why,
            ));
        }
        let mut object = self.applied(Subresource::Main, None, config)?;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        self.create_object(object, Books::Kept).await
    }

    /// The object as the configuration makes it, with its books.
    fn applied(
        &self,
        part: Subresource,
        old: Option<&Value>,
        config: &Value,
    ) -> Result<Value, StatusError> {
        let force = self.call.query.bool("force");
        let merged = self.with_write(part, |write| apply::apply(write, old, config, force))??;
        let mut object =
            self.check_patched(&merged, self.schema_type()?, FieldValidation::Ignore)?;
        self.check_identity(&mut object)?;
        Ok(object)
    }

    /// The body: JSON from kubectl, and YAML from anyone. Warns of keys given twice.
    pub(super) fn configuration(
        &self,
        expected: Gvk,
        mode: FieldValidation,
    ) -> Result<Value, StatusError> {
        let body = &self.call.body;
        let convert = "error converting YAML to JSON";
        let document = match serde_json::from_slice(body) {
            Ok(value) => yaml::Document {
                value,
                duplicate: None,
            },
            Err(_) => yaml::read(body)
                .map_err(|e| status::bad_request(format!("error decoding YAML: {convert}: {e}")))?,
        };
        match (document.duplicate, mode) {
            (Some(twice), FieldValidation::Strict) => {
                let why = format!(
                    "error strict decoding YAML: {convert}: yaml: unmarshal errors:\n  {twice}"
                );
                return Err(status::bad_request(why));
            }
            (Some(twice), FieldValidation::Warn) => self.warn(twice),
            _ => {}
        }
        let config = document.value;
        let text = |field: &str| config[field].as_str().unwrap_or_default();
        let version = GroupVersion::parse(text("apiVersion")).unwrap_or_default();
        let gvk = version.kind(text("kind"));
        if gvk != expected.to_owned() {
            return Err(status::bad_request(format!("invalid object type: {gvk}")));
        }
        Ok(config)
    }
}
