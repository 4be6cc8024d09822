//! What each profile does to a Pod to be debugged (§14.12); pure, on the Pod's JSON.

use anyhow::bail;
use serde_json::{Value, json};

/// A profile's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    Legacy,
    General,
    Baseline,
    Restricted,
    Netadmin,
    Sysadmin,
}

/// The way to debug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Ephemeral,
    Copy,
    Node,
}

/// What a copy keeps of the original.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Keep {
    pub(super) labels: bool,
    pub(super) annotations: bool,
    pub(super) liveness: bool,
    pub(super) readiness: bool,
    pub(super) startup: bool,
    pub(super) init_containers: bool,
}

impl Profile {
    pub(super) fn parse(name: &str) -> anyhow::Result<Profile> {
        Ok(match name {
            "legacy" => Profile::Legacy,
            "general" => Profile::General,
            "baseline" => Profile::Baseline,
            "restricted" => Profile::Restricted,
            "netadmin" => Profile::Netadmin,
            "sysadmin" => Profile::Sysadmin,
            _ => bail!("unknown profile: {name}"),
        })
    }

    /// Changes the Pod, and the container of that name in it.
    pub(super) fn apply(self, style: Style, keep: Keep, pod: &mut Value, container: &str) {
        if let Some(container) = container_mut(pod, container) {
            self.grant(style, container);
        }
        match style {
            Style::Ephemeral => {}
            Style::Copy if self == Profile::Legacy => remove(&mut pod["metadata"], "labels"),
            Style::Copy => strip(pod, keep),
            Style::Node => self.open_node(pod, container),
        }
    }

    /// The container's rights.
    fn grant(self, style: Style, container: &mut Value) {
        match self {
            Profile::Legacy => {}
            Profile::General if style == Style::Node => remove(container, "securityContext"),
            Profile::General => add_capabilities(container, &["SYS_PTRACE"]),
            Profile::Baseline => remove(container, "securityContext"),
            Profile::Restricted => {
                container["securityContext"] = json!({
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                    "runAsNonRoot": true,
                    "seccompProfile": {"type": "RuntimeDefault"},
                });
            }
            Profile::Netadmin => add_capabilities(container, &["NET_ADMIN", "NET_RAW"]),
            Profile::Sysadmin => container["securityContext"]["privileged"] = true.into(),
        }
    }

    /// What the debug Pod of a node sees of it.
    fn open_node(self, pod: &mut Value, container: &str) {
        if matches!(
            self,
            Profile::Legacy | Profile::General | Profile::Netadmin | Profile::Sysadmin
        ) {
            for namespace in ["hostNetwork", "hostPID", "hostIPC"] {
                pod["spec"][namespace] = true.into();
            }
        }
        if matches!(self, Profile::Legacy | Profile::General | Profile::Sysadmin) {
            push(
                &mut pod["spec"]["volumes"],
                json!({"name": "host-root", "hostPath": {"path": "/"}}),
            );
            if let Some(container) = container_mut(pod, container) {
                let mount = json!({"name": "host-root", "mountPath": "/host"});
                push(&mut container["volumeMounts"], mount);
            }
        }
    }
}

/// Takes away what would make others use the copy or end it, and shares its processes unless it says otherwise.
fn strip(pod: &mut Value, keep: Keep) {
    for (field, kept) in [("labels", keep.labels), ("annotations", keep.annotations)] {
        if !kept {
            remove(&mut pod["metadata"], field);
        }
    }
    let probes = [
        ("livenessProbe", keep.liveness),
        ("readinessProbe", keep.readiness),
        ("startupProbe", keep.startup),
    ];
    let containers = pod["spec"]["containers"].as_array_mut();
    for container in containers.into_iter().flatten() {
        for (probe, kept) in probes {
            if !kept {
                remove(container, probe);
            }
        }
    }
    if !keep.init_containers {
        remove(&mut pod["spec"], "initContainers");
    }
    if pod["spec"]["shareProcessNamespace"].is_null() {
        pod["spec"]["shareProcessNamespace"] = true.into();
    }
}

/// The container of that name, of whatever kind.
pub(super) fn container_mut<'p>(pod: &'p mut Value, name: &str) -> Option<&'p mut Value> {
    let spec = pod["spec"].as_object_mut()?;
    spec.iter_mut()
        .filter(|(list, _)| {
            ["initContainers", "containers", "ephemeralContainers"].contains(&list.as_str())
        })
        .flat_map(|(_, list)| list.as_array_mut().into_iter().flatten())
        .find(|container| container["name"] == name)
}

/// Adds an element to a list that may not be there.
pub(super) fn push(list: &mut Value, element: Value) {
    match list {
        Value::Array(elements) => elements.push(element),
        other => *other = json!([element]),
    }
}

pub(super) fn remove(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}

fn add_capabilities(container: &mut Value, names: &[&str]) {
    for name in names {
        push(
            &mut container["securityContext"]["capabilities"]["add"],
            (*name).into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": {"name": "p", "labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {
                "initContainers": [{"name": "i"}],
                "containers": [{"name": "c", "livenessProbe": {}, "readinessProbe": {}, "startupProbe": {}, "securityContext": {"runAsUser": 1}}],
            },
        })
    }

    fn applied(profile: &str, style: Style, keep: Keep) -> Value {
        let mut pod = pod();
        let profile = Profile::parse(profile).expect("a profile");
        profile.apply(style, keep, &mut pod, "c");
        pod
    }

    #[test]
    fn rights_of_the_container() {
        for (profile, style, rights) in [
            ("legacy", Style::Ephemeral, json!({"runAsUser": 1})),
            (
                "general",
                Style::Ephemeral,
                json!({"runAsUser": 1, "capabilities": {"add": ["SYS_PTRACE"]}}),
            ),
            ("general", Style::Node, Value::Null),
            ("baseline", Style::Copy, Value::Null),
            (
                "restricted",
                Style::Copy,
                json!({"runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}),
            ),
            (
                "netadmin",
                Style::Ephemeral,
                json!({"runAsUser": 1, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}),
            ),
            (
                "sysadmin",
                Style::Ephemeral,
                json!({"runAsUser": 1, "privileged": true}),
            ),
        ] {
            let pod = applied(profile, style, Keep::default());
            assert_eq!(
                pod["spec"]["containers"][0]["securityContext"], rights,
                "{profile} {style:?}"
            );
        }
        assert!(Profile::parse("mine").is_err());
    }

    #[test]
    fn a_copy_keeps_what_it_is_told_to() {
        let bare = applied("general", Style::Copy, Keep::default());
        assert_eq!(bare["metadata"], json!({"name": "p"}));
        assert!(bare["spec"]["initContainers"].is_null());
        assert_eq!(bare["spec"]["shareProcessNamespace"], true);
        let container = &bare["spec"]["containers"][0];
        assert!(
            container
                .as_object()
                .expect("an object")
                .keys()
                .eq(["name", "securityContext"])
        );
        let keep = Keep {
            labels: true,
            annotations: true,
            liveness: true,
            readiness: true,
            startup: true,
            init_containers: true,
        };
        let mut whole = applied("baseline", Style::Copy, keep);
        whole["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1});
        remove(&mut whole["spec"], "shareProcessNamespace");
        assert_eq!(whole, pod());
        let legacy = applied("legacy", Style::Copy, keep);
        assert!(
            legacy["metadata"]["labels"].is_null()
                && legacy["spec"]["shareProcessNamespace"].is_null()
        );
    }

    #[test]
    fn what_is_seen_of_a_node() {
        for (profile, namespaces, root) in [
            ("general", true, true),
            ("netadmin", true, false),
            ("sysadmin", true, true),
            ("restricted", false, false),
        ] {
            let pod = applied(profile, Style::Node, Keep::default());
            assert_eq!(pod["spec"]["hostPID"] == true, namespaces, "{profile}");
            assert_eq!(pod["spec"]["volumes"].is_array(), root, "{profile}");
            assert_eq!(
                pod["spec"]["containers"][0]["volumeMounts"].is_array(),
                root
            );
        }
    }
}
