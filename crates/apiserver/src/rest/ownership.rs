//! Who owns which fields: every write is ascribed to its field manager (spec kubectl-and-api §8.2). The rules are `api::apply`'s.

use admission::Subresource;
use api::apply::{self, Write};
use api::field::Path;
use api::gvk::GroupKind;
use api::resource::Gvk;
use api::schema::{Schema, TypeId};
use api::status::{self, StatusError};
use http::header::USER_AGENT;
use serde_json::Value;

use super::Rest;
use crate::identity::UserInfo;

/// Bytes of a manager's name.
const NAME_LIMIT: usize = 128;

/// Who keeps the books of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Books {
    /// The server, when the object is complete: changed fields become the writer's.
    Open,
    /// They were kept when a configuration was applied.
    Kept,
}

/// A part's name in managedFields.
fn part_name(part: Subresource) -> &'static str {
    match part {
        Subresource::Main => "",
        Subresource::Status => "status",
        Subresource::Scale => "scale",
        Subresource::EphemeralContainers => "ephemeralcontainers",
        Subresource::Resize => "resize",
        Subresource::Finalize => "finalize",
        Subresource::Approval => "approval",
    }
}

/// The schema's type of a kind.
pub(super) fn schema_type(gvk: Gvk) -> Result<TypeId, StatusError> {
    let ty = Schema::get().of(gvk.group, gvk.version, gvk.kind);
    ty.ok_or_else(|| status::internal(format_args!("no schema for {}", gvk.kind)))
}

impl Rest {
    /// The schema's type of this kind.
    pub(super) fn schema_type(&self) -> Result<TypeId, StatusError> {
        schema_type(self.kind.gvk)
    }

    /// Refuses a `fieldManager` that cannot be printed.
    pub(super) fn check_manager(&self) -> Result<(), StatusError> {
        let name = self.call.query.text("fieldManager");
        let errors = admission::validate_field_manager(&Path::new("fieldManager"), name);
        if errors.is_empty() {
            return Ok(());
        }
        let kind = GroupKind::new("meta.k8s.io", self.options_kind());
        Err(status::invalid(&kind, "", errors))
    }

    /// Who writes: `fieldManager`, or the program that asks.
    fn manager(&self) -> String {
        let given = self.call.query.text("fieldManager");
        if !given.is_empty() {
            return given.to_owned();
        }
        let agent = self.call.parts.headers.get(USER_AGENT);
        match agent.and_then(|v| v.to_str().ok()) {
            Some(agent) => program(agent),
            None => component(&self.call.user).to_owned(),
        }
    }

    /// Calls `keep` with what the rules have to know of this write.
    pub(super) fn with_write<T>(
        &self,
        part: Subresource,
        keep: impl FnOnce(&Write<'_>) -> T,
    ) -> Result<T, StatusError> {
        let (manager, now) = (self.manager(), self.now());
        let resource = self.group_resource().to_string();
        Ok(keep(&Write {
            ty: self.schema_type()?,
            api_version: &self.kind.group_version().to_string(),
            subresource: part_name(part),
            manager: &manager,
            now: &now,
            scope: admission::ownership(&resource, part),
        }))
    }

    /// Ascribes what changed to the writer.
    pub(super) fn own_changes(
        &self,
        part: Subresource,
        live: Option<&Value>,
        new: &mut Value,
    ) -> Result<(), StatusError> {
        self.with_write(part, |write| apply::update(write, live, new))
    }
}

/// What stands before the first slash of a `User-Agent`, as far as it can be printed.
fn program(agent: &str) -> String {
    let name = agent.split('/').next().unwrap_or_default();
    let mut kept = String::new();
    for c in name.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > NAME_LIMIT {
            break;
        }
        kept.push(c);
    }
    kept
}

/// Components in this process ask without a `User-Agent`; they are called what they are called upstream.
fn component(user: &UserInfo) -> &str {
    match user.name.strip_prefix("system:") {
        Some("apiserver") => "kube-apiserver",
        Some(node) if node.starts_with("node:") => "kubelet",
        Some(name) => name,
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_names() {
        for (agent, name) in [
            ("kubectl/v1.36.3 (linux/amd64) kubernetes/abc", "kubectl"),
            ("curl", "curl"),
            ("", ""),
            ("a\tb/1", "ab"),
        ] {
            assert_eq!(program(agent), name);
        }
        assert_eq!(program(&"é".repeat(100)).len(), NAME_LIMIT);
    }

    #[test]
    fn components_have_names() {
        for (user, name) in [
            (UserInfo::node("n"), "kubelet"),
            (
                UserInfo::new("system:kube-scheduler", &[]),
                "kube-scheduler",
            ),
            (UserInfo::new("system:apiserver", &[]), "kube-apiserver"),
            (UserInfo::new("me", &[]), ""),
        ] {
            assert_eq!(component(&user), name);
        }
    }
}
