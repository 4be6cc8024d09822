//! Request bodies (spec kubectl-and-api §2.2, §4.4).

use api::field::{Error, Path};
use api::gvk::{GroupKind, GroupVersion, GroupVersionKind};
use api::protobuf;
use api::resource::Gvk;
use api::schema::Schema;
use api::status::{self, StatusError};
use api::validate::{self, Decoded, FieldValidation, TypeError};
use api::yaml;
use serde::Deserialize;
use serde_json::Value;

use super::Rest;
use crate::negotiate;

/// What a body says it is.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TypeMeta {
    api_version: Option<String>,
    kind: Option<String>,
}

impl Rest {
    /// The body as an object of this kind; warns of what was dropped from it.
    pub(super) fn decode_body(&self) -> Result<Value, StatusError> {
        self.decode_body_of(self.kind.gvk)
    }

    /// As [`Rest::decode_body`], of a subresource that is of another kind.
    pub(super) fn decode_body_of(&self, kind: Gvk) -> Result<Value, StatusError> {
        let (object, warnings) = self.decode(kind.group, kind.version, kind.kind)?;
        warnings.into_iter().for_each(|text| self.warn(text));
        Ok(object)
    }

    /// The body as an object of another kind, as subresources take.
    pub(crate) fn decode_as(
        &self,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<Value, StatusError> {
        self.decode(group, version, kind).map(|(object, _)| object)
    }

    /// `DeleteOptions` in the body, if there is one.
    pub(super) fn decode_options(&self) -> Result<Option<Value>, StatusError> {
        if self.call.body.is_empty() {
            return Ok(None);
        }
        self.decode_as("meta.k8s.io", "v1", "DeleteOptions")
            .map(Some)
    }

    fn decode(
        &self,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<(Value, Vec<String>), StatusError> {
        let mode = self.field_validation()?;
        let expected = GroupVersionKind::new(group, version, kind);
        let Some(ty) = Schema::get().kind(&expected) else {
            return Err(status::internal(format_args!("no schema for {kind}")));
        };
        match negotiate::content_type(&self.call.parts.headers).as_str() {
            "" | "application/json" | "*/*" => {
                let sent = sent_kind(serde_json::from_slice(&self.call.body), &expected);
                check_kind(&sent, kind)?;
                read(
                    &sent,
                    kind,
                    mode,
                    validate::decode_slice(&self.call.body, ty),
                )
            }
            yaml::MEDIA_TYPE => {
                // What does not parse is refused below.
                let document = yaml::read(&self.call.body).map(|d| d.value);
                let meta = serde_json::from_value(document.unwrap_or_default());
                let sent = sent_kind(meta, &expected);
                check_kind(&sent, kind)?;
                read(
                    &sent,
                    kind,
                    mode,
                    validate::decode_yaml(&self.call.body, ty),
                )
            }
            protobuf::MEDIA_TYPE => {
                let decoded = protobuf::decode(&self.call.body, Some(&expected));
                let (sent, object) = decoded.map_err(|e| status::bad_request(e.to_string()))?;
                check_kind(&sent, kind)?;
                read(&sent, kind, mode, validate::decode_value(&object, ty))
            }
            _ => Err(status::unsupported_media_type(&[
                "application/json",
                yaml::MEDIA_TYPE,
                protobuf::MEDIA_TYPE,
            ])),
        }
    }

    pub(super) fn field_validation(&self) -> Result<FieldValidation, StatusError> {
        let text = self.call.query.text("fieldValidation");
        FieldValidation::parse(text).ok_or_else(|| {
            let error = Error::not_supported(
                &Path::new("fieldValidation"),
                text,
                &["Ignore", "Strict", "Warn", ""],
            );
            status::invalid(
                &GroupKind::new("meta.k8s.io", self.options_kind()),
                "",
                vec![error],
            )
        })
    }
}

fn check_kind(sent: &GroupVersionKind, kind: &str) -> Result<(), StatusError> {
    if sent.kind == kind {
        return Ok(());
    }
    let why = format!(
        "no kind {} is registered here",
        api::gotext::quote(&sent.kind)
    );
    Err(validate::cannot_be_handled(sent, kind, why))
}

/// The object, if it is one, and warnings about what was dropped.
fn read(
    sent: &GroupVersionKind,
    kind: &str,
    mode: FieldValidation,
    decoded: Result<Decoded, TypeError>,
) -> Result<(Value, Vec<String>), StatusError> {
    let decoded = decoded.map_err(|why| validate::cannot_be_handled(sent, kind, why))?;
    let warnings = validate::judge(&decoded.problems, mode)
        .map_err(|why| validate::cannot_be_handled(sent, kind, why))?;
    Ok((decoded.value, warnings))
}

/// What the body says it is; what it leaves out is what the URL serves.
fn sent_kind(meta: serde_json::Result<TypeMeta>, expected: &GroupVersionKind) -> GroupVersionKind {
    let meta = meta.unwrap_or_default();
    let given = meta
        .api_version
        .filter(|v| !v.is_empty())
        .and_then(|v| GroupVersion::parse(&v).ok());
    let given = given.unwrap_or_else(|| expected.group_version());
    given.kind(
        meta.kind
            .filter(|k| !k.is_empty())
            .unwrap_or_else(|| expected.kind.clone()),
    )
}
