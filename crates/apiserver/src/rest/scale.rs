//! The subresource `scale`: a Scale, made from the object when it is read, and put into the object when it is written. Rules that hold
//! for the object hold for it, and who writes it owns the number of replicas.

use admission::Subresource;
use api::apply::{self, ApplyError, Operation, Scope, Write};
use api::gvk::{GroupKind, GroupResource};
use api::patch::PatchKind;
use api::resource::Gvk;
use api::status::{self, StatusError};
use api::validate::FieldValidation;
use http::Response;
use serde_json::{Value, json};

use super::Rest;
use super::object::{Stored, meta};
use super::ownership::{Books, schema_type};
use super::update::Updated;
use crate::respond::Body;

const SCALE: Gvk = Gvk {
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
};
const VERSION: &str = "autoscaling/v1";

impl Rest {
    pub(crate) async fn scale(&self) -> Result<Response<Body>, StatusError> {
        let updated = match self.call.info.verb {
            "get" => return self.present_scale(&of(&Stored::decode(self.entry()?)?.object)?),
            "update" => self.update_scale().await?,
            "patch" => self.patch_scale().await?,
            _ => return Err(status::unknown_method()),
        };
        let object = match updated {
            Updated::Entry(entry) => Stored::decode(entry)?.object,
            Updated::Dry(object) => object,
        };
        self.present_scale(&of(&object)?)
    }

    async fn update_scale(&self) -> Result<Updated, StatusError> {
        self.check_manager()?;
        let mut scale = self.decode_body_of(SCALE)?;
        self.check_identity_of(SCALE, &mut scale)?;
        let change = |old: &Value| self.scaled(old.clone(), old, &scale);
        self.modify(Subresource::Scale, Books::Open, change).await
    }

    async fn patch_scale(&self) -> Result<Updated, StatusError> {
        let (kind, mode) = self.patch_kind()?;
        if kind == PatchKind::Apply {
            let config = self.configuration(SCALE, mode)?;
            let change = |old: &Value| self.applied_scale(old, &config);
            return self.modify(Subresource::Scale, Books::Kept, change).await;
        }
        let change = |old: &Value| {
            let patched = self.patched(kind, mode, SCALE, &of(old)?)?;
            self.scaled(old.clone(), old, &patched)
        };
        self.modify(Subresource::Scale, Books::Open, change).await
    }

    /// `object` with as many replicas as a Scale for `old` asks for.
    fn scaled(&self, mut object: Value, old: &Value, scale: &Value) -> Result<Value, StatusError> {
        let name = meta(old, "name");
        let errors = admission::scale::validate(scale);
        if !errors.is_empty() {
            return Err(status::invalid(
                &GroupKind::new(SCALE.group, SCALE.kind),
                name,
                errors,
            ));
        }
        let (given, own) = (meta(scale, "uid"), meta(old, "uid"));
        if !given.is_empty() && given != own {
            let why = format!(
                "Precondition failed: UID in precondition: {given}, UID in object meta: {own}"
            );
            let part = format!("{}/scale", self.kind.plural);
            let resource = GroupResource::new(self.kind.gvk.group, &part);
            return Err(status::conflict(&resource, name, why));
        }
        admission::scale::set(&mut object, scale);
        Ok(object)
    }

    /// The object after a Scale was applied. The books are the object's; they are kept in its own terms.
    fn applied_scale(&self, old: &Value, config: &Value) -> Result<Value, StatusError> {
        let force = self.call.query.bool("force");
        let ty = schema_type(SCALE)?;
        let (merged, applied) = self.with_write(Subresource::Scale, |write| {
            let as_scale = Write {
                ty,
                api_version: VERSION,
                scope: Scope::Except(&[&["status"]]),
                ..*write
            };
            let merged = apply::apply(&as_scale, Some(&of(old)?), config, true)?;
            let as_object = json!({
                "apiVersion": old["apiVersion"], "kind": old["kind"],
                "metadata": {"name": meta(old, "name")}, "spec": config["spec"],
            });
            let applied = apply::apply(write, Some(old), &as_object, force);
            Ok::<_, StatusError>((merged, applied.map_err(in_terms_of_scale)?))
        })??;
        let mut merged = self.check_patched(&merged, ty, FieldValidation::Ignore)?;
        self.check_identity_of(SCALE, &mut merged)?;
        if let Some(spec) = merged["spec"].as_object_mut() {
            let left = applied["spec"].get("replicas");
            spec.insert("replicas".to_owned(), left.cloned().unwrap_or_default());
        }
        self.scaled(applied, old, &merged)
    }
}

/// The Scale of an object.
fn of(object: &Value) -> Result<Value, StatusError> {
    admission::scale::of(object).map_err(|why| status::bad_request(why.to_string()))
}

/// Those who write the whole object own the number of replicas in terms of the Scale.
fn in_terms_of_scale(mut error: ApplyError) -> ApplyError {
    if let ApplyError::Conflicts(found) = &mut error {
        let updaters = found.iter_mut().map(|conflict| &mut conflict.manager);
        for manager in updaters.filter(|manager| manager.operation == Operation::Update) {
            manager.api_version = VERSION.to_owned();
        }
    }
    error
}
