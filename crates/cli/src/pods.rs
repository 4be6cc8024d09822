//! Pods as the verbs for containers choose them: by name, or as one of a workload's; and the container inside.

use std::cmp::Reverse;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures::StreamExt;
use serde_json::{Map, Value};

use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::failure::is_not_found;
use crate::output::percent;

/// Names the container that verbs take when none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What a Pod is wanted for: of several, another one is best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To read what it wrote: one that restarts often says most.
    Logs,
    /// To talk to it, or through it: the most steady one.
    Session,
}

/// Path of a Pod.
pub(crate) fn path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

/// The Pods a word means: `web`, `pod/web`, or all Pods of `deployment/web`, the one to prefer first.
pub(crate) async fn of_word(
    server: &Server,
    word: &str,
    purpose: Purpose,
    timeout: Duration,
) -> anyhow::Result<Vec<Value>> {
    let (kind, name) = match word.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
            (kind, name)
        }
        Some(_) => bail!("arguments in resource/name form must have a single resource and name"),
        None => ("pod", word),
    };
    if ["pod", "pods", "po"].contains(&kind) {
        return Ok(vec![
            server.get(&path(&server.namespace, name), JSON).await?,
        ]);
    }
    let resources = Resources::discover(server).await?;
    let resource = resources.find(kind)?;
    let object = server
        .get(&resource.object(Some(&server.namespace), name), JSON)
        .await?;
    let selector = selector_of(&object)
        .ok_or_else(|| anyhow!("selector for {} not implemented", resource.plural))?;
    let mut pods = first_pods(server, &selector, timeout).await?;
    sort(&mut pods, purpose);
    Ok(pods)
}

/// Puts the Pod to prefer first, as kubectl does.
fn sort(pods: &mut [Value], purpose: Purpose) {
    match purpose {
        Purpose::Logs => pods.sort_by_cached_key(|pod| {
            let standing = Standing::of(pod);
            // What is over counts like what runs.
            let phase = match standing.phase.as_str() {
                "Unknown" => 1,
                "Pending" => 2,
                _ => 0,
            };
            let restarts = Reverse(standing.restarts);
            (
                !standing.is_bound,
                phase,
                standing.ready,
                restarts,
                standing.made,
            )
        }),
        Purpose::Session => pods.sort_by_cached_key(|pod| {
            let standing = Standing::of(pod);
            let phase = match standing.phase.as_str() {
                "Running" => 0,
                "Unknown" => 1,
                _ => 2,
            };
            let leaving = standing.leaves.map(Reverse);
            let (_, since) = standing.ready.clone();
            (
                !standing.is_bound,
                phase,
                standing.ready.0,
                leaving,
                since,
                standing.restarts,
                standing.made,
            )
        }),
    }
}

/// What a Pod is judged by. Times are as the API writes them, which sort like times.
struct Standing {
    is_bound: bool,
    phase: String,
    /// Whether it is not ready, then since when it is.
    ready: (bool, Option<String>),
    /// When it is to be gone.
    leaves: Option<String>,
    /// Most restarts of a container, then of a sidecar.
    restarts: (i64, i64),
    made: Option<String>,
}

impl Standing {
    fn of(pod: &Value) -> Standing {
        let (metadata, status) = (&pod["metadata"], &pod["status"]);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let ready = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let sidecars: Vec<&str> = pod["spec"]["initContainers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|container| container["restartPolicy"] == "Always")
            .filter_map(|container| container["name"].as_str())
            .collect();
        let most = |list: &str, counts: &dyn Fn(&Value) -> bool| {
            let statuses = status[list].as_array().into_iter().flatten();
            let restarts = statuses
                .filter(|status| counts(status))
                .filter_map(|status| status["restartCount"].as_i64());
            restarts.max().unwrap_or(0)
        };
        let is_sidecar = |status: &Value| {
            let name = status["name"].as_str().unwrap_or_default();
            sidecars.contains(&name)
        };
        Standing {
            is_bound: pod["spec"]["nodeName"]
                .as_str()
                .is_some_and(|node| !node.is_empty()),
            phase: text(&status["phase"]).unwrap_or_default(),
            ready: (
                ready.is_none(),
                ready.and_then(|condition| text(&condition["lastTransitionTime"])),
            ),
            leaves: text(&metadata["deletionTimestamp"]),
            restarts: (
                most("containerStatuses", &|_| true),
                most("initContainerStatuses", &is_sidecar),
            ),
            made: text(&metadata["creationTimestamp"]),
        }
    }
}

/// Pods with labels.
pub(crate) async fn with_labels(server: &Server, selector: &str) -> anyhow::Result<Vec<Value>> {
    let path = format!("/api/v1/namespaces/{}/pods", server.namespace);
    let query = format!("labelSelector={}", percent(selector));
    let mut list = server.list(&path, &query, JSON).await?;
    let items = list["items"].as_array_mut().map(std::mem::take);
    Ok(items.unwrap_or_default())
}

/// As [`with_labels`], waiting for the first to come.
async fn first_pods(
    server: &Server,
    selector: &str,
    timeout: Duration,
) -> anyhow::Result<Vec<Value>> {
    let come = async {
        loop {
            let pods = with_labels(server, selector).await?;
            if !pods.is_empty() {
                return Ok(pods);
            }
            let path = format!("/api/v1/namespaces/{}/pods", server.namespace);
            let query = format!("labelSelector={}", percent(selector));
            let mut events = std::pin::pin!(server.watch(&path, &query, JSON).await?);
            if let Some(event) = events.next().await {
                event?;
            }
        }
    };
    match tokio::time::timeout(timeout, come).await {
        Ok(pods) => pods,
        Err(_) => bail!("timed out waiting for the condition"),
    }
}

/// The label selector of a workload or a Service, as a query has it.
pub(crate) fn selector_of(object: &Value) -> Option<String> {
    let selector = object["spec"]["selector"].as_object()?;
    let pairs = |labels: &Map<String, Value>| -> Vec<String> {
        labels
            .iter()
            .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
            .collect()
    };
    if !selector.contains_key("matchLabels") && !selector.contains_key("matchExpressions") {
        return Some(pairs(selector).join(","));
    }
    let mut parts = selector
        .get("matchLabels")
        .and_then(Value::as_object)
        .map(pairs)
        .unwrap_or_default();
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let key = expression["key"].as_str()?;
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        parts.push(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    Some(parts.join(","))
}

/// Names of the containers of a list of the spec.
pub(crate) fn names<'p>(pod: &'p Value, list: &str) -> impl Iterator<Item = &'p str> + use<'p> {
    pod["spec"][list]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str())
}

/// `c1, c2, d (ephem), i1 (init)`
pub(crate) fn all_names(pod: &Value) -> String {
    let plain = names(pod, "containers").map(str::to_owned);
    let ephemeral = names(pod, "ephemeralContainers").map(|name| format!("{name} (ephem)"));
    let init = names(pod, "initContainers").map(|name| format!("{name} (init)"));
    plain
        .chain(ephemeral)
        .chain(init)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A container, and whether the user should be told that it was taken by default.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) container: String,
    /// `Defaulted container "a" out of: a, b`
    pub(crate) note: Option<String>,
}

/// The container of that name, or the one to take by default (§14.7).
pub(crate) fn choose(pod: &Value, wanted: Option<&str>) -> anyhow::Result<Choice> {
    let by_default = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str();
    let has = |name: &str| {
        ["containers", "ephemeralContainers", "initContainers"]
            .iter()
            .any(|list| names(pod, list).any(|other| other == name))
    };
    if let Some(name) = wanted.or(by_default).filter(|name| !name.is_empty()) {
        if !has(name) {
            bail!(
                "container {name} is not valid for pod {} out of: {}",
                pod["metadata"]["name"].as_str().unwrap_or_default(),
                all_names(pod)
            );
        }
        return Ok(Choice {
            container: name.to_owned(),
            note: None,
        });
    }
    let Some(first) = names(pod, "containers").next() else {
        bail!("the pod has no containers");
    };
    let all = all_names(pod);
    let note = (all != first).then(|| format!("Defaulted container {first:?} out of: {all}"));
    Ok(Choice {
        container: first.to_owned(),
        note,
    })
}

/// A Pod that is not there, as `logs` tells it.
pub(crate) fn missing_for_logs(error: anyhow::Error, namespace: &str) -> anyhow::Error {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) if error.downcast_ref().is_some_and(is_not_found) => {
            anyhow!(
                "error from server (NotFound): {} in namespace {namespace:?}",
                status.message
            )
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(annotation: Option<&str>) -> Value {
        json!({"metadata": {"name": "web", "annotations": {DEFAULT_CONTAINER: annotation}}, "spec": {
            "containers": [{"name": "c1"}, {"name": "c2"}], "ephemeralContainers": [{"name": "d"}], "initContainers": [{"name": "i1"}]}})
    }

    #[test]
    fn a_container_is_chosen() {
        let chosen = |pod: &Value, wanted| choose(pod, wanted).map_err(|error| error.to_string());
        let choice = |container: &str, note: Option<&str>| {
            Ok(Choice {
                container: container.into(),
                note: note.map(str::to_owned),
            })
        };
        assert_eq!(
            chosen(&pod(None), None),
            choice(
                "c1",
                Some("Defaulted container \"c1\" out of: c1, c2, d (ephem), i1 (init)")
            )
        );
        assert_eq!(chosen(&pod(None), Some("i1")), choice("i1", None));
        assert_eq!(chosen(&pod(Some("c2")), None), choice("c2", None));
        assert_eq!(
            chosen(&pod(None), Some("x")),
            Err("container x is not valid for pod web out of: c1, c2, d (ephem), i1 (init)".into())
        );
        let single =
            json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "only"}]}});
        assert_eq!(chosen(&single, None), choice("only", None));
    }

    #[test]
    fn the_best_pod_comes_first() {
        let made = |name: &str, changes: &[(&str, Value)]| {
            let mut pod = json!({"metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"nodeName": "node"},
                "status": {"phase": "Running", "containerStatuses": [{"restartCount": 0}],
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}]}});
            for (path, value) in changes {
                *pod.pointer_mut(path).expect("a field") = value.clone();
            }
            pod
        };
        let ready = "/status/conditions/0/status";
        let since = "/status/conditions/0/lastTransitionTime";
        let restarts = "/status/containerStatuses/0/restartCount";
        let mut leaving = made("leaving", &[]);
        leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z".into();
        let pods = [
            made(
                "pending",
                &[("/status/phase", json!("Pending")), (ready, json!("False"))],
            ),
            made(
                "unbound",
                &[("/spec/nodeName", json!("")), (ready, json!("False"))],
            ),
            made("unready", &[(ready, json!("False"))]),
            leaving,
            made("late", &[(since, json!("2026-01-01T00:00:09Z"))]),
            made("restarts", &[(restarts, json!(3))]),
            made(
                "young",
                &[("/metadata/creationTimestamp", json!("2026-01-01T00:00:02Z"))],
            ),
            made("old", &[]),
            made(
                "over",
                &[
                    ("/status/phase", json!("Succeeded")),
                    (ready, json!("False")),
                ],
            ),
        ];
        for (purpose, expected) in [
            (
                Purpose::Logs,
                "restarts leaving old young late unready over pending unbound",
            ),
            (
                Purpose::Session,
                "old young restarts late leaving unready pending over unbound",
            ),
        ] {
            let mut pods = pods.to_vec();
            sort(&mut pods, purpose);
            let names: Vec<&str> = pods
                .iter()
                .filter_map(|pod| pod["metadata"]["name"].as_str())
                .collect();
            assert_eq!(names.join(" "), expected, "{purpose:?}");
        }
    }

    #[test]
    fn selectors_of_workloads() {
        for (spec, selector) in [
            (json!({"selector": {"a": "b", "c": "d"}}), Some("a=b,c=d")),
            (
                json!({"selector": {"matchLabels": {"a": "b"}, "matchExpressions": [
                {"key": "k", "operator": "In", "values": ["x", "y"]}, {"key": "l", "operator": "Exists"}, {"key": "m", "operator": "DoesNotExist"}]}}),
                Some("a=b,k in (x,y),l,!m"),
            ),
            (json!({}), None),
        ] {
            assert_eq!(selector_of(&json!({"spec": spec})).as_deref(), selector);
        }
    }
}
