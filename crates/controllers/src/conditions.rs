//! Keeps new Pods away from nodes under pressure, and all that do not tolerate it from those that are not ready or of which nothing is
//! heard: a node's conditions become taints, and go with them (upstream's node lifecycle controller). What else a node's taints are is
//! nobody's business here.

use std::sync::Arc;
use std::time::Duration;

use api::fit::NO_EXECUTE;
use futures::StreamExt;
use informer::{Watch, watch_all};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt};
use lifecycle::pressure::PRESSURES;
use ports::clock::Clock;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// The effect of pressures.
const NO_SCHEDULE: &str = "NoSchedule";
/// Taints of a node by what its condition `Ready` says; of either effect.
const READY: [(&str, &str); 2] = [
    ("False", "node.kubernetes.io/not-ready"),
    ("Unknown", "node.kubernetes.io/unreachable"),
];
/// A node that could not be changed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps taints until `shutdown`.
pub(crate) async fn run(client: Client, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut nodes: Watch<Node> = watch_all(&client);
    let api: Api<Node> = Api::all(client);
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = nodes.next() => event,
        };
        let node = match event {
            Ok(Event::InitApply(node) | Event::Apply(node)) => node,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(%error, "watching nodes");
                continue;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = keep(&api, node, &*clock) => {}
        }
    }
}

async fn keep(api: &Api<Node>, mut node: Node, clock: &dyn Clock) {
    while let Some(taints) = wanted(&node, clock.now()) {
        let name = node.name_any();
        // Only the node as it was looked at: others taint it, too.
        let patch = json!({"metadata": {"resourceVersion": node.resource_version()}, "spec": {"taints": taints}});
        let params = PatchParams::default();
        match api.patch(&name, &params, &Patch::Merge(&patch)).await {
            // A change of others is heard of, and so is that it is gone.
            Ok(_) => return,
            Err(kube::Error::Api(e)) if e.code == 409 || e.code == 404 => return,
            Err(error) => tracing::warn!(%error, node = name, "tainting"),
        }
        tokio::time::sleep(AGAIN).await;
        if let Ok(now) = api.get(&name).await {
            node = now;
        }
    }
}

/// The taints a node should have, if it has others.
fn wanted(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let has = node.spec.as_ref().and_then(|spec| spec.taints.clone());
    let has = has.unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref());
    let says = |kind: &str, status: &str| {
        let mut conditions = conditions.unwrap_or_default().iter();
        conditions.any(|c| c.type_ == kind && c.status == status)
    };
    let pressures = PRESSURES
        .iter()
        .map(|p| (says(p.condition, "True"), p.taint, NO_SCHEDULE));
    let effects = [NO_SCHEDULE, NO_EXECUTE];
    let ready = READY.iter().flat_map(|(status, taint)| {
        let is_so = says("Ready", status);
        effects.map(|effect| (is_so, *taint, effect))
    });
    let mut wants = has.clone();
    for (is_so, key, effect) in pressures.chain(ready) {
        let is = |taint: &Taint| taint.key == key && taint.effect == effect;
        match (is_so, has.iter().any(is)) {
            (true, false) => wants.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            }),
            (false, true) => wants.retain(|taint| !is(taint)),
            _ => {}
        }
    }
    (wants != has).then_some(wants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pressure_is_a_taint() {
        let memory = "node.kubernetes.io/memory-pressure";
        let node = |taints: &[(&str, &str)], pressure: &str| -> Node {
            let taints: Vec<_> = taints
                .iter()
                .map(|(key, effect)| json!({"key": key, "effect": effect}))
                .collect();
            let conditions = json!([
                {"type": "Ready", "status": "True"},
                {"type": "MemoryPressure", "status": pressure},
            ]);
            let node = json!({"spec": {"taints": taints}, "status": {"conditions": conditions}});
            serde_json::from_value(node).expect("a Node")
        };
        let other = ("example.com/a", "NoExecute");
        let same_key = (memory, "NoExecute");
        let pressed = (memory, "NoSchedule");
        for (taints, pressure, expected) in [
            (&[][..], "False", None),
            (&[], "Unknown", None),
            (&[], "True", Some(vec![pressed])),
            (
                &[other, same_key],
                "True",
                Some(vec![other, same_key, pressed]),
            ),
            (&[other, pressed], "True", None),
            (&[pressed, other], "False", Some(vec![other])),
            (&[same_key], "False", None),
        ] {
            let wants = wanted(&node(taints, pressure), Timestamp::UNIX_EPOCH);
            let shown = wants.as_ref().map(|wants| {
                let pair = |t: &Taint| (t.key.clone(), t.effect.clone());
                wants.iter().map(pair).collect::<Vec<_>>()
            });
            let expected = expected.map(|wants| {
                let pair = |(key, effect): (&str, &str)| (key.to_owned(), effect.to_owned());
                wants.into_iter().map(pair).collect::<Vec<_>>()
            });
            assert_eq!(shown, expected, "{taints:?} {pressure}");
        }
    }

    #[test]
    fn a_node_that_is_not_ready_has_the_taints_of_its_state() {
        let not_ready = "node.kubernetes.io/not-ready";
        let unreachable = "node.kubernetes.io/unreachable";
        let of = |key: &'static str| vec![(key, "NoSchedule"), (key, "NoExecute")];
        for (before, ready, after) in [
            (vec![], "True", None),
            (vec![], "False", Some(of(not_ready))),
            (vec![], "Unknown", Some(of(unreachable))),
            (of(not_ready), "False", None),
            (of(not_ready), "Unknown", Some(of(unreachable))),
            (of(unreachable), "False", Some(of(not_ready))),
            (of(unreachable), "True", Some(vec![])),
            (of(not_ready), "True", Some(vec![])),
        ] {
            let taints: Vec<_> = before
                .iter()
                .map(|(key, effect)| json!({"key": key, "effect": effect}))
                .collect();
            let node = json!({
                "spec": {"taints": taints},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            });
            let node = serde_json::from_value(node).expect("a Node");
            let wants = wanted(&node, Timestamp::UNIX_EPOCH);
            let shown = wants.as_ref().map(|wants| {
                let pair = |t: &'_ Taint| (t.key.clone(), t.effect.clone());
                wants.iter().map(pair).collect::<Vec<_>>()
            });
            let after = after.map(|after| {
                let pair = |(key, effect): (&str, &str)| (key.to_owned(), effect.to_owned());
                after.into_iter().map(pair).collect::<Vec<_>>()
            });
            assert_eq!(shown, after, "{before:?} {ready}");
        }
    }
}
