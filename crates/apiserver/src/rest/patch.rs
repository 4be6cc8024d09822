//! PATCH (spec kubectl-and-api §7).

use std::sync::Mutex;

use admission::Subresource;
use api::field::{Error, Path};
use api::gvk::GroupKind;
use api::patch::{self, PatchKind};
use api::schema::{Schema, TypeId};
use api::status::{self, StatusError};
use api::validate::{self, FieldValidation};
use http::Response;
use serde_json::Value;

use super::Rest;
use crate::negotiate;
use crate::respond::{self, Body};

/// What is taken; server-side apply is not among them.
const TYPES: [PatchKind; 3] = [PatchKind::Json, PatchKind::Merge, PatchKind::StrategicMerge];

impl Rest {
    pub(super) async fn patch(&self, part: Subresource) -> Result<Response<Body>, StatusError> {
        let media_type = negotiate::content_type(&self.call.parts.headers);
        let Some(kind) = PatchKind::from_media_type(&media_type).filter(|k| TYPES.contains(k))
        else {
            return Err(status::unsupported_media_type(
                &TYPES.map(PatchKind::media_type),
            ));
        };
        if self.call.query.maybe_bool("force").is_some() {
            let error = Error::forbidden(
                &Path::new("force"),
                "may not be specified for non-apply patch",
            );
            return Err(status::invalid(
                &GroupKind::new("meta.k8s.io", "PatchOptions"),
                "",
                vec![error],
            ));
        }
        let mode = self.field_validation()?;
        let gvk = self.kind.gvk;
        let Some(ty) = Schema::get().of(gvk.group, gvk.version, gvk.kind) else {
            return Err(status::internal(format_args!("no schema for {}", gvk.kind)));
        };
        let warnings = Mutex::new(Vec::new());
        let change = |old: &Value| {
            let patched = patch::apply(kind, old, &self.call.body, ty)?;
            let (mut patched, found) = self.check_patched(&patched, ty, mode)?;
            *warnings.lock().unwrap_or_else(|e| e.into_inner()) = found;
            self.check_identity(&mut patched)?;
            Ok(patched)
        };
        let updated = self.modify(part, change).await?;
        let mut response = self.present_updated(&updated)?;
        respond::add_warnings(
            &mut response,
            &warnings.into_inner().unwrap_or_else(|e| e.into_inner()),
        );
        Ok(response)
    }

    /// A patched object must still fit its type.
    fn check_patched(
        &self,
        patched: &Value,
        ty: TypeId,
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), StatusError> {
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
        Ok((decoded.value, warnings))
    }
}
