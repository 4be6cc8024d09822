//! The containers of a Pod, in order and by kind.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};
use serde::Serialize;

use crate::observed::ContainerKind;

/// Record annotation that holds [`container_hash`], set by the agent when it makes a container (§1.9).
pub const HASH_ANNOTATION: &str = "io.kubernetes.container.hash";

/// One container of a Pod's spec.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member<'a> {
    /// Its kind.
    pub kind: ContainerKind,
    /// Its spec.
    pub spec: &'a Container,
}

impl<'a> Member<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.spec.name
    }

    /// Its image, as the spec writes it.
    pub fn image(&self) -> &'a str {
        self.spec.image.as_deref().unwrap_or_default()
    }

    /// Whether it is a restartable init container.
    pub fn is_sidecar(&self) -> bool {
        self.kind == ContainerKind::Sidecar
    }
}

/// Init containers and sidecars, in spec order.
pub fn init(pod: &Pod) -> Vec<Member<'_>> {
    let list = pod
        .spec
        .as_ref()
        .and_then(|s| s.init_containers.as_deref())
        .unwrap_or_default();
    list.iter().map(init_member).collect()
}

fn init_member(spec: &Container) -> Member<'_> {
    Member {
        kind: if spec.restart_policy.as_deref() == Some("Always") {
            ContainerKind::Sidecar
        } else {
            ContainerKind::Init
        },
        spec,
    }
}

/// App containers, in spec order.
pub fn apps(pod: &Pod) -> Vec<Member<'_>> {
    let list = pod
        .spec
        .as_ref()
        .map(|s| s.containers.as_slice())
        .unwrap_or_default();
    list.iter().map(app_member).collect()
}

fn app_member(spec: &Container) -> Member<'_> {
    Member {
        kind: ContainerKind::App,
        spec,
    }
}

/// Init containers and sidecars, then app containers, each in spec order. Ephemeral containers are not among them.
pub fn members(pod: &Pod) -> Vec<Member<'_>> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let mut all = Vec::with_capacity(init.len() + spec.containers.len());
    all.extend(init.iter().map(init_member));
    all.extend(spec.containers.iter().map(app_member));
    all
}

/// Ephemeral containers in spec order, as containers. Fields that they cannot have are not looked at (§7).
pub fn ephemeral(pod: &Pod) -> Vec<Container> {
    let list = pod
        .spec
        .as_ref()
        .and_then(|s| s.ephemeral_containers.as_deref())
        .unwrap_or_default();
    list.iter().map(as_container).collect()
}

fn as_container(spec: &EphemeralContainer) -> Container {
    let spec = spec.clone();
    Container {
        args: spec.args,
        command: spec.command,
        env: spec.env,
        env_from: spec.env_from,
        image: spec.image,
        image_pull_policy: spec.image_pull_policy,
        name: spec.name,
        security_context: spec.security_context,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        termination_message_path: spec.termination_message_path,
        termination_message_policy: spec.termination_message_policy,
        tty: spec.tty,
        volume_devices: spec.volume_devices,
        volume_mounts: spec.volume_mounts,
        working_dir: spec.working_dir,
        ..Container::default()
    }
}

/// The container whose processes an ephemeral container wants to see (§7).
pub fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let list = pod.spec.as_ref()?.ephemeral_containers.as_deref()?;
    let spec = list.iter().find(|c| c.name == name)?;
    let target = spec.target_container_name.as_deref();
    target.filter(|target| !target.is_empty())
}

/// One container of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<'a> {
    kind: ContainerKind,
    spec: Cow<'a, Container>,
}

impl Found<'_> {
    /// The same, whatever becomes of the Pod it was found in.
    pub(crate) fn into_owned(self) -> Found<'static> {
        Found {
            kind: self.kind,
            spec: Cow::Owned(self.spec.into_owned()),
        }
    }

    /// It.
    pub fn member(&self) -> Member<'_> {
        Member {
            kind: self.kind,
            spec: &self.spec,
        }
    }
}

/// The container of this name, whatever its kind.
pub fn find<'a>(pod: &'a Pod, name: &str) -> Option<Found<'a>> {
    let member = members(pod).into_iter().find(|m| m.name() == name);
    let found = |kind, spec| Found { kind, spec };
    member
        .map(|m| found(m.kind, Cow::Borrowed(m.spec)))
        .or_else(|| {
            let spec = ephemeral(pod).into_iter().find(|c| c.name == name)?;
            Some(found(ContainerKind::Ephemeral, Cow::Owned(spec)))
        })
}

/// The kind of the container of this name; names the spec does not know (ephemeral containers) are `Ephemeral`.
pub fn kind_of(pod: &Pod, name: &str) -> ContainerKind {
    members(pod)
        .iter()
        .find(|m| m.name() == name)
        .map_or(ContainerKind::Ephemeral, |m| m.kind)
}

/// As it is hashed.
#[derive(Serialize)]
struct Identity<'a> {
    image: Option<&'a str>,
    name: &'a str,
}

/// What a container must be restarted for when it changes: its name and image only (§1.7), as FNV-1a in hex.
pub fn container_hash(spec: &Container) -> String {
    let identity = Identity {
        image: spec.image.as_deref(),
        name: &spec.name,
    };
    // Strings can always be written.
    let text = serde_json::to_string(&identity).unwrap_or_default();
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{hash:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_stays_what_it_was_in_records() {
        for (name, image, hash) in [("a", Some("x:1"), "22706d31"), ("a\"b", None, "db45189d")] {
            let spec = Container {
                name: name.to_owned(),
                image: image.map(str::to_owned),
                ..Container::default()
            };
            assert_eq!(container_hash(&spec), hash);
        }
    }
}
