//! PATCH (spec kubectl-and-api §7).

use admission::Subresource;
use api::field::{Error, Path};
use api::gvk::GroupKind;
use api::patch::{self, PatchKind};
use api::resource::Gvk;
use api::schema::TypeId;
use api::status::{self, StatusError};
use api::validate::{self, FieldValidation};
use http::Response;
use serde_json::Value;

use super::Rest;
use super::ownership::{Books, schema_type};
use crate::negotiate;
use crate::respond::Body;

/// What is taken.
const TYPES: [PatchKind; 4] = [
    PatchKind::Json,
    PatchKind::Merge,
    PatchKind::StrategicMerge,
    PatchKind::Apply,
];

impl Rest {
    pub(super) async fn patch(&self, part: Subresource) -> Result<Response<Body>, StatusError> {
        let (kind, mode) = self.patch_kind()?;
        if kind == PatchKind::Apply {
            return self.apply(part, mode).await;
        }
        let change = |old: &Value| self.patched(kind, mode, self.kind.gvk, old);
        let updated = self.modify(part, Books::Open, change).await?;
        self.present_updated(&updated)
    }

    /// What kind of patch the body is, and how strictly it is read.
    pub(super) fn patch_kind(&self) -> Result<(PatchKind, FieldValidation), StatusError> {
        let media_type = negotiate::content_type(&self.call.parts.headers);
        let Some(kind) = PatchKind::from_media_type(&media_type) else {
            return Err(status::unsupported_media_type(
                &TYPES.map(PatchKind::media_type),
            ));
        };
        self.check_patch_options(kind)?;
        Ok((kind, self.field_validation()?))
    }

    /// An object of a kind after a patch that is no apply.
    pub(super) fn patched(
        &self,
        kind: PatchKind,
        mode: FieldValidation,
        gvk: Gvk,
        old: &Value,
    ) -> Result<Value, StatusError> {
        let ty = schema_type(gvk)?;
        let patched = patch::apply(kind, old, &self.call.body, ty)?;
        let mut patched = self.check_patched(&patched, ty, mode)?;
        self.check_identity_of(gvk, &mut patched)?;
        Ok(patched)
    }

    fn check_patch_options(&self, kind: PatchKind) -> Result<(), StatusError> {
        let manager = self.call.query.text("fieldManager");
        let error = if kind == PatchKind::Apply {
            let needed =
                || Error::required(&Path::new("fieldManager"), "is required for apply patch");
            manager.is_empty().then(needed)
        } else {
            let force = self.call.query.maybe_bool("force");
            force.map(|_| {
                Error::forbidden(
                    &Path::new("force"),
                    "may not be specified for non-apply patch",
                )
            })
        };
        match error {
            Some(error) => {
                let kind = GroupKind::new("meta.k8s.io", "PatchOptions");
                Err(status::invalid(&kind, "", vec![error]))
            }
            None => self.check_manager(),
        }
    }

    /// A patched object must still fit its type; warns of what does not.
    pub(super) fn check_patched(
        &self,
        patched: &Value,
        ty: TypeId,
        mode: FieldValidation,
    ) -> Result<Value, StatusError> {
        let refuse = |why: String| {
            let body = String::from_utf8_lossy(&self.call.body).into_owned();
            status::invalid(
                &GroupKind::new("", ""),
                "",
                vec![Error::invalid(&Path::new("patch"), body, why)],
            )
        };
        let decoded = validate::decode_value(patched, ty).map_err(|e| refuse(e.to_string()))?;
        let warnings = validate::judge(&decoded.problems, mode).map_err(refuse)?;
        warnings.into_iter().for_each(|text| self.warn(text));
        Ok(decoded.value)
    }
}
