//! What is told of the node itself (§14.2), but for its pressures, which are [`crate::pressure`]'s.

use k8s_openapi::api::core::v1::Node;

use crate::plan::Event;

/// The agent begins.
pub fn starting() -> Event {
    Event::normal("Starting", "Starting kubelet.")
}

/// What is told of a node that was registered; `before` is how the API had it until then.
pub fn registered(before: Option<&Node>, node: &Node) -> Vec<Event> {
    let mut events = Vec::new();
    let boot = |node: &Node| {
        let info = node.status.as_ref()?.node_info.as_ref()?;
        Some(info.boot_id.clone()).filter(|id| !id.is_empty())
    };
    if let (Some(old), Some(new)) = (before.and_then(boot), boot(node))
        && old != new
    {
        let message = format!("Node {} has been rebooted, boot id: {new}", name(node));
        events.push(Event::warning("Rebooted", message));
    }
    if is_ready(node) && !before.is_some_and(is_ready) {
        events.push(status(node, "NodeReady"));
    }
    events
}

/// What is told of a node that has changed in the API.
pub fn changed(before: &Node, node: &Node) -> Option<Event> {
    let is_cordoned = |node: &Node| node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
    match (is_cordoned(before), is_cordoned(node)) {
        (false, true) => Some(status(node, "NodeNotSchedulable")),
        (true, false) => Some(status(node, "NodeSchedulable")),
        _ => None,
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

fn status(node: &Node, reason: &str) -> Event {
    let message = format!("Node {} status is now: {reason}", name(node));
    Event::normal(reason, message)
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(boot: &str, ready: &str, is_cordoned: bool) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "spec": {"unschedulable": is_cordoned},
            "status": {
                "conditions": [{"type": "Ready", "status": ready}],
                "nodeInfo": {"bootID": boot, "architecture": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                    "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""},
            },
        }))
        .expect("a node")
    }

    #[test]
    fn what_is_new_of_a_node_is_told() {
        let here = node("b", "True", false);
        let ready = "NodeReady: Node n status is now: NodeReady";
        let rebooted = "Rebooted: Node n has been rebooted, boot id: b";
        for (before, told) in [
            (None, vec![ready]),
            (Some(node("b", "True", false)), vec![]),
            (Some(node("b", "False", false)), vec![ready]),
            (Some(node("a", "True", false)), vec![rebooted]),
            (Some(node("a", "Unknown", false)), vec![rebooted, ready]),
            (Some(node("", "True", false)), vec![]),
        ] {
            let events = registered(before.as_ref(), &here);
            let words: Vec<String> = events
                .iter()
                .map(|e| format!("{}: {}", e.reason, e.message))
                .collect();
            assert_eq!(words, told, "{before:?}");
        }
        let cordoned = node("b", "True", true);
        let reason = |before, after| changed(before, after).map(|event| event.reason);
        assert_eq!(
            reason(&here, &cordoned).as_deref(),
            Some("NodeNotSchedulable")
        );
        assert_eq!(reason(&cordoned, &here).as_deref(), Some("NodeSchedulable"));
        assert_eq!(reason(&here, &here), None);
    }
}
