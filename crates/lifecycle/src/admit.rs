//! Whether this node takes a Pod it sees for the first time (§1.2).

use api::fit;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use jiff::Timestamp;

use crate::plan::Event;
use crate::preempt;
use crate::room::Room;
use crate::share::{Share, Shortage};
use crate::sysctl::{self, UnsafeSysctls};
use crate::text;

/// The system of every node.
const OS: &str = "linux";
/// What the node says of its taints; the scheduler has other words.
const UNTOLERATED: &str = "node(s) had taints that the pod didn't tolerate";

/// A Pod the node refuses for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Code: pod reason and event reason.
    pub reason: String,
    /// Text of the event; the Pod's message has a prefix.
    pub message: String,
}

/// Checks a Pod that was never admitted before, on a node and beside what other Pods hold of it (upstream's `canAdmitPod`); UIDs of
/// Pods that have to make room for it.
///
/// # Errors
/// The first reason to refuse it, to be reported by [`Rejection::status`] and [`Rejection::event`].
pub fn admit(
    pod: &core::Pod,
    node: &core::Node,
    room: &Room,
    unsafe_sysctls: &UnsafeSysctls,
) -> Result<Vec<String>, Rejection> {
    let sysctl = sysctl::forbidden(pod, unsafe_sysctls);
    let sysctl = sysctl.and_then(|why| rejection("SysctlForbidden", why));
    let [os, apparmor] = [os_obstacle, apparmor_obstacle].map(|obstacle| obstacle(pod));
    if let Some(first) = sysctl.or(os) {
        return Err(first);
    }
    let short = shortages(pod, room);
    let other = mismatch(pod, node, room);
    let critical = preempt::is_critical(pod);
    let shortage = short.first().filter(|_| !critical).and_then(lack);
    if let Some(first) = shortage.or(other).or(apparmor) {
        return Err(first);
    }
    if short.is_empty() {
        return Ok(Vec::new());
    }
    // All that is wrong is that others are here.
    preempt::victims(pod, &short, room).map_err(|why| Rejection {
        reason: "UnexpectedAdmissionError".to_owned(),
        message: format!(
            "Unexpected error while attempting to recover from admission failure: {why}"
        ),
    })
}

/// Whether a node that looks different now may take a Pod that it refused for this.
pub fn is_about_labels(rejection: &Rejection) -> bool {
    rejection.reason == "NodeAffinity"
}

fn rejection(reason: &str, message: impl Into<String>) -> Option<Rejection> {
    Some(Rejection {
        reason: reason.to_owned(),
        message: message.into(),
    })
}

fn apparmor_obstacle(pod: &core::Pod) -> Option<Rejection> {
    let text = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
    rejection("AppArmor", text).filter(|_| wants_apparmor(pod))
}

/// A Pod's label and its spec may say which system it is for.
fn os_obstacle(pod: &core::Pod) -> Option<Rejection> {
    let labels = pod.metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get("kubernetes.io/os"));
    if label.is_some_and(|os| os != OS) {
        return rejection(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    let os = pod.spec.as_ref().and_then(|s| s.os.as_ref());
    let text = "Failed to admit pod as the OS field doesn't match node OS";
    rejection("PodOSNotSupported", text).filter(|_| os.is_some_and(|os| os.name != OS))
}

fn shortages(pod: &core::Pod, room: &Room) -> Vec<Shortage> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let share = Share::of(pod).known_to(room.capacity());
    room.shortages(uid, &share)
}

fn lack(short: &Shortage) -> Option<Rejection> {
    rejection(&format!("OutOf{}", short.resource), short.to_string())
}

fn mismatch(pod: &core::Pod, node: &core::Node, room: &Room) -> Option<Rejection> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let (reason, text) = if !fit::is_affine(pod, node) {
        ("NodeAffinity", fit::NOT_AFFINE)
    } else if !fit::is_named(pod, node) {
        ("NodeName", fit::OTHER_NAME)
    } else if room.is_port_taken(uid, &Share::of(pod)) {
        ("NodePorts", fit::PORTS_TAKEN)
    } else if !api::pod::is_static(pod) && !fit::tolerates_all(pod, node, &[fit::NO_EXECUTE]) {
        ("TaintToleration", UNTOLERATED)
    } else {
        return None;
    };
    rejection(reason, format!("Predicate {reason} failed: {text}"))
}

/// Whether a container asks for an AppArmor profile (§11.5), which this node never enforces. The annotations are kept in step with the
/// fields by the API server.
fn wants_apparmor(pod: &core::Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let of_pod = spec.security_context.as_ref();
    let of_pod = of_pod.and_then(|context| context.app_armor_profile.as_ref());
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers).any(|container| {
        let own = container.security_context.as_ref();
        let own = own.and_then(|context| context.app_armor_profile.as_ref());
        let profile = own.or(of_pod);
        profile.is_some_and(|profile| profile.type_ != "Unconfined")
    })
}

/// How the message of a rejected Pod begins.
const REJECTED: &str = "Pod was rejected: ";

/// Whether this is the status of a Pod the node did not take; no container of it was ever made.
pub(crate) fn was_rejected(status: &core::PodStatus) -> bool {
    let message = status.message.as_deref().unwrap_or_default();
    status.phase.as_deref() == Some("Failed")
        && message.starts_with(REJECTED)
        && status.container_statuses.is_none()
}

impl Rejection {
    /// The status of the refused Pod; no container status is written.
    pub fn status(&self, pod: &core::Pod, now: Timestamp) -> core::PodStatus {
        let previous = pod.status.clone().unwrap_or_default();
        core::PodStatus {
            phase: Some("Failed".to_owned()),
            reason: Some(self.reason.clone()),
            message: Some(format!("{REJECTED}{}", self.message)),
            start_time: previous
                .start_time
                .clone()
                .or_else(|| Some(Time(text::second(now)))),
            observed_generation: pod.metadata.generation,
            ..previous
        }
    }

    /// The event that says so.
    pub fn event(&self) -> Event {
        Event::warning(&self.reason, &self.message)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::observed::Observed;
    use crate::resources;

    #[test]
    fn a_profile_that_nobody_enforces_is_refused() {
        let profile = |kind: &str| json!({"appArmorProfile": {"type": kind}});
        let table = [
            (json!({}), json!({}), true),
            (profile("Unconfined"), json!({}), true),
            (profile("RuntimeDefault"), json!({}), false),
            (profile("RuntimeDefault"), profile("Unconfined"), true),
            (json!({}), profile("Localhost"), false),
        ];
        for (of_pod, own, taken) in table {
            let pod: core::Pod = serde_json::from_value(json!({"spec": {"securityContext": of_pod,
                "containers": [{"name": "c", "securityContext": own}]}}))
            .expect("a Pod");
            let refused = admit(&pod, &node(json!({})), &room(), &UnsafeSysctls::default()).err();
            let refused = refused.map(|r| (r.reason, r.message));
            let text = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
            let want = (!taken).then(|| ("AppArmor".to_owned(), text.to_owned()));
            assert_eq!(refused, want, "{of_pod} {own}");
        }
    }

    fn node(more: serde_json::Value) -> core::Node {
        let mut node = json!({"metadata": {"name": "one", "labels": {"disk": "ssd"}}});
        node["spec"] = more;
        serde_json::from_value(node).expect("a Node")
    }

    /// A node with these amounts, of which others hold 600m, 64 bytes, port 80 and two dongles.
    fn room() -> Room {
        let list = json!({"pods": "3", "cpu": "1", "memory": "100", "ephemeral-storage": "10", "example.com/dongle": "2"});
        let list: resources::List = serde_json::from_value(list).expect("a list");
        let mut room = Room::new(Share::listed(Some(&list)));
        let resources =
            json!({"requests": {"cpu": "600m", "memory": "64", "example.com/dongle": "2"}});
        let container = json!({"name": "c", "resources": resources, "ports": [{"containerPort": 80, "hostPort": 80}]});
        room.hold("other", Share::of(&pod(json!({"containers": [container]}))));
        room
    }

    fn pod(spec: serde_json::Value) -> core::Pod {
        serde_json::from_value(json!({"metadata": {"uid": "mine"}, "spec": spec})).expect("a Pod")
    }

    fn asking(requests: serde_json::Value) -> serde_json::Value {
        json!({"nodeName": "one", "containers": [{"name": "c", "resources": {"requests": requests}}]})
    }

    fn refused(spec: serde_json::Value, node: &core::Node, room: &Room) -> Option<String> {
        let refused = admit(&pod(spec), node, room, &UnsafeSysctls::default()).err()?;
        Some(format!("{}: {}", refused.reason, refused.message))
    }

    #[test]
    fn what_others_hold_is_not_there() {
        let table = [
            (
                json!({"cpu": "400m", "memory": "36", "ephemeral-storage": "10"}),
                None,
            ),
            (
                json!({"cpu": "401m", "memory": "37"}),
                Some("cpu, requested: 401, used: 600, capacity: 1000"),
            ),
            (
                json!({"memory": "37"}),
                Some("memory, requested: 37, used: 64, capacity: 100"),
            ),
            (
                json!({"ephemeral-storage": "11"}),
                Some("ephemeral-storage, requested: 11, used: 0, capacity: 10"),
            ),
            (
                json!({"example.com/dongle": "1"}),
                Some("example.com/dongle, requested: 1, used: 2, capacity: 2"),
            ),
            (
                json!({"hugepages-2Mi": "2Mi"}),
                Some("hugepages-2Mi, requested: 2097152, used: 0, capacity: 0"),
            ),
            // What a node has never heard of is somebody else's.
            (json!({"example.com/other": "1"}), None),
            (json!({"cpu": "0"}), None),
        ];
        for (requests, want) in table {
            let want = want.map(|text| {
                let name = text.split(',').next().expect("a name");
                format!("OutOf{name}: Node didn't have enough resource: {text}")
            });
            assert_eq!(
                refused(asking(requests.clone()), &node(json!({})), &room()),
                want,
                "{requests}"
            );
        }
    }

    #[test]
    fn a_critical_pod_takes_the_place_of_others() {
        let mut room = room();
        let critical = |more: serde_json::Value| {
            let mut spec = asking(json!({"cpu": "1"}));
            spec["priority"] = json!(2_000_000_000);
            for (field, value) in more.as_object().into_iter().flatten() {
                spec[field] = value.clone();
            }
            pod(spec)
        };
        let admitted = |pod: &core::Pod, room: &Room| {
            let admitted = admit(pod, &node(json!({})), room, &UnsafeSysctls::default());
            admitted.map_err(|r| format!("{}: {}", r.reason, r.message))
        };
        let why = "UnexpectedAdmissionError: Unexpected error while attempting to recover from admission failure: preemption: error \
                   finding a set of pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 600), ]";
        assert_eq!(admitted(&critical(json!({})), &room), Err(why.to_owned()));
        room.stand("other", preempt::Standing::of(&pod(asking(json!({})))));
        assert_eq!(
            admitted(&critical(json!({})), &room),
            Ok(vec!["other".to_owned()])
        );
        // What else is wrong would still be.
        let elsewhere = critical(json!({"nodeSelector": {"disk": "hdd"}}));
        let refused = admitted(&elsewhere, &room).expect_err("refused");
        assert!(refused.starts_with("NodeAffinity: "), "{refused}");
        let profile = json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
        let refused = admitted(&critical(profile), &room).expect_err("refused");
        assert!(refused.starts_with("AppArmor: "), "{refused}");
        let fits = critical(json!({"containers": []}));
        assert_eq!(admitted(&fits, &room), Ok(Vec::new()));
        let low = pod(asking(json!({"cpu": "1"})));
        let refused = admitted(&low, &room).expect_err("refused");
        assert!(refused.starts_with("OutOfcpu: "), "{refused}");
    }

    #[test]
    fn a_full_node_takes_nobody() {
        let mut room = room();
        for uid in ["second", "third"] {
            assert_eq!(refused(asking(json!({})), &node(json!({})), &room), None);
            room.hold(uid, Share::of(&pod(asking(json!({})))));
        }
        let full =
            "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3";
        assert_eq!(
            refused(asking(json!({"cpu": "9"})), &node(json!({})), &room).as_deref(),
            Some(full)
        );
        // Who is in already does not ask again.
        assert_eq!(
            room.shortages("third", &Share::of(&pod(asking(json!({}))))),
            []
        );
        room.leave("other");
        assert_eq!(
            refused(asking(json!({"cpu": "1"})), &node(json!({})), &room),
            None
        );
    }

    #[test]
    fn a_node_that_is_not_meant_takes_nobody() {
        let with = |key: &str, value: serde_json::Value| {
            let mut spec = asking(json!({}));
            spec[key] = value;
            spec
        };
        let port = |port: i32| json!([{"name": "c", "ports": [{"containerPort": port, "hostPort": port}]}]);
        let tainted =
            |effect: &str| node(json!({"taints": [{"key": "k", "value": "v", "effect": effect}]}));
        let table = [
            (
                with("nodeSelector", json!({"disk": "ssd"})),
                node(json!({})),
                None,
            ),
            (
                with("nodeSelector", json!({"disk": "hdd"})),
                tainted("NoExecute"),
                Some("NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"),
            ),
            (
                with("nodeName", json!("two")),
                node(json!({})),
                Some("NodeName failed: node(s) didn't match the requested node name"),
            ),
            (
                with("containers", port(80)),
                node(json!({})),
                Some(
                    "NodePorts failed: node(s) didn't have free ports for the requested pod ports",
                ),
            ),
            (with("containers", port(81)), node(json!({})), None),
            (
                asking(json!({})),
                tainted("NoExecute"),
                Some("TaintToleration failed: node(s) had taints that the pod didn't tolerate"),
            ),
            (asking(json!({})), tainted("NoSchedule"), None),
            (
                with("tolerations", json!([{"key": "k", "operator": "Exists"}])),
                tainted("NoExecute"),
                None,
            ),
        ];
        for (spec, node, want) in table {
            let want = want.map(|text| {
                let name = text.split(' ').next().expect("a name");
                format!("{name}: Predicate {text}")
            });
            assert_eq!(refused(spec.clone(), &node, &room()), want, "{spec}");
        }
    }

    #[test]
    fn static_pods_need_tolerate_nothing() {
        let node = node(json!({"taints": [{"key": "k", "effect": "NoExecute"}]}));
        for (source, is_taken) in [("file", true), ("api", false)] {
            let mut pod = pod(asking(json!({})));
            pod.metadata.annotations =
                Some([(api::pod::SOURCE.to_owned(), source.to_owned())].into());
            let taken = admit(&pod, &node, &room(), &UnsafeSysctls::default()).is_ok();
            assert_eq!(taken, is_taken, "{source}");
        }
    }

    #[test]
    fn what_forbids_comes_first() {
        let mut spec = json!({"os": {"name": "windows"}, "containers": [{"name": "c", "resources": {"requests": {"cpu": "9"}}}],
            "securityContext": {"sysctls": [{"name": "vm.swappiness", "value": "1"}]}});
        let sysctl = "SysctlForbidden: forbidden sysctl: \"vm.swappiness\" not allowlisted";
        let os = "PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS";
        assert_eq!(
            refused(spec.clone(), &node(json!({})), &room()).as_deref(),
            Some(sysctl)
        );
        spec["securityContext"] = json!({});
        assert_eq!(
            refused(spec, &node(json!({})), &room()).as_deref(),
            Some(os)
        );
        let mut labelled = pod(asking(json!({})));
        labelled.metadata.labels =
            Some([("kubernetes.io/os".to_owned(), "windows".to_owned())].into());
        let refused = admit(
            &labelled,
            &node(json!({})),
            &room(),
            &UnsafeSysctls::default(),
        )
        .expect_err("refused");
        assert_eq!(refused.reason, "PodOSSelectorNodeLabelDoesNotMatch");
    }

    #[test]
    fn a_rejected_pod_has_no_containers_to_tell_of() {
        let mut pod: core::Pod = serde_json::from_value(json!({"metadata": {"generation": 3},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}))
        .expect("a Pod");
        let rejection = Rejection {
            reason: "OutOfcpu".to_owned(),
            message: "too much".to_owned(),
        };
        let now = Timestamp::UNIX_EPOCH;
        let told = rejection.status(&pod, now);
        pod.status = Some(told.clone());
        let mut seen = Observed::default();
        for phase in [
            crate::WorkerPhase::Syncing,
            crate::WorkerPhase::Terminating,
            crate::WorkerPhase::Terminated,
        ] {
            seen.memory.phase = phase;
            assert_eq!(crate::status(&pod, &seen, now), told, "{phase:?}");
        }
    }
}
