//! How far the rollout of a workload is, as its status tells.

use serde_json::Value;

use crate::workloads::revision;

/// Tells how far an object's rollout is, at a revision; the line has no end of line.
type Viewer = fn(&Value, i64) -> Result<Progress, String>;

/// What is told of a rollout.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) line: String,
    pub(super) is_done: bool,
}

/// What tells of the rollouts of a kind of `apps`; `None` if it has none.
pub(super) fn viewer(kind: Option<&str>) -> Option<Viewer> {
    match kind? {
        "Deployment" => Some(deployment),
        "StatefulSet" => Some(stateful_set),
        "DaemonSet" => Some(daemon_set),
        _ => None,
    }
}

fn waiting(line: String) -> Result<Progress, String> {
    Ok(Progress {
        line,
        is_done: false,
    })
}

fn done(line: String) -> Result<Progress, String> {
    Ok(Progress {
        line,
        is_done: true,
    })
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn deployment(object: &Value, wanted: i64) -> Result<Progress, String> {
    let (name, spec, status) = (name(object), &object["spec"], &object["status"]);
    if wanted > 0 {
        // Before its first rollout is begun it is at none.
        let running = revision(object).unwrap_or(0);
        if running != wanted {
            return Err(format!(
                "desired revision ({wanted}) is different from the running revision ({running})"
            ));
        }
    }
    if number(&object["metadata"]["generation"]) > number(&status["observedGeneration"]) {
        return waiting("Waiting for deployment spec update to be observed...".into());
    }
    let is_late = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| {
            condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded"
        });
    if is_late {
        return Err(format!(
            "deployment {name:?} exceeded its progress deadline"
        ));
    }
    let begins = format!("Waiting for deployment {name:?} rollout to finish:");
    let count = |field: &str| number(&status[field]);
    let (updated, available) = (count("updatedReplicas"), count("availableReplicas"));
    if let Some(wanted) = spec["replicas"].as_i64().filter(|wanted| updated < *wanted) {
        return waiting(format!(
            "{begins} {updated} out of {wanted} new replicas have been updated..."
        ));
    }
    let old = count("replicas") - updated;
    if old > 0 {
        return waiting(format!(
            "{begins} {old} old replicas are pending termination..."
        ));
    }
    if available < updated {
        return waiting(format!(
            "{begins} {available} of {updated} updated replicas are available..."
        ));
    }
    done(format!("deployment {name:?} successfully rolled out"))
}

/// What is told of a set whose Pods are replaced only when somebody deletes them.
const NO_ROLLOUT: &str = "rollout status is only available for RollingUpdate strategy type";

fn daemon_set(object: &Value, _: i64) -> Result<Progress, String> {
    let (name, status) = (name(object), &object["status"]);
    if object["spec"]["updateStrategy"]["type"] != "RollingUpdate" {
        return Err(NO_ROLLOUT.into());
    }
    if number(&object["metadata"]["generation"]) > number(&status["observedGeneration"]) {
        return waiting("Waiting for daemon set spec update to be observed...".into());
    }
    let begins = format!("Waiting for daemon set {name:?} rollout to finish:");
    let wanted = number(&status["desiredNumberScheduled"]);
    let updated = number(&status["updatedNumberScheduled"]);
    if updated < wanted {
        return waiting(format!(
            "{begins} {updated} out of {wanted} new pods have been updated..."
        ));
    }
    let available = number(&status["numberAvailable"]);
    if available < wanted {
        return waiting(format!(
            "{begins} {available} of {wanted} updated pods are available..."
        ));
    }
    done(format!("daemon set {name:?} successfully rolled out"))
}

fn stateful_set(object: &Value, _: i64) -> Result<Progress, String> {
    let (spec, status) = (&object["spec"], &object["status"]);
    if spec["updateStrategy"]["type"] != "RollingUpdate" {
        return Err(NO_ROLLOUT.into());
    }
    let observed = number(&status["observedGeneration"]);
    if observed == 0 || number(&object["metadata"]["generation"]) > observed {
        return waiting("Waiting for statefulset spec update to be observed...".into());
    }
    let wanted = number(&spec["replicas"]);
    let unready = wanted - number(&status["readyReplicas"]);
    if unready > 0 {
        return waiting(format!("Waiting for {unready} pods to be ready..."));
    }
    let updated = number(&status["updatedReplicas"]);
    let rolling = &spec["updateStrategy"]["rollingUpdate"];
    if rolling.is_object() {
        let changing = wanted - number(&rolling["partition"]);
        if rolling["partition"].is_i64() && updated < changing {
            return waiting(format!(
                "Waiting for partitioned roll out to finish: {updated} out of {changing} new pods have been updated..."
            ));
        }
        return done(format!(
            "partitioned roll out complete: {updated} new pods have been updated..."
        ));
    }
    let revision = |field: &str| status[field].as_str().unwrap_or_default();
    let (current, update) = (revision("currentRevision"), revision("updateRevision"));
    if update != current {
        return waiting(format!(
            "waiting for statefulset rolling update to complete {updated} pods at revision {update}..."
        ));
    }
    done(format!(
        "statefulset rolling update complete {} pods at revision {current}...",
        number(&status["currentReplicas"])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `+` before a line that is the last.
    fn told(view: Viewer, object: &Value, revision: i64) -> String {
        match view(object, revision) {
            Ok(progress) if progress.is_done => format!("+{}", progress.line),
            Ok(progress) => progress.line,
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn deployments() {
        let metadata = json!({"name": "web", "generation": 2, "annotations": {"deployment.kubernetes.io/revision": "3"}});
        let late = json!([{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]);
        for (status, revision, expected) in [
            (
                json!({}),
                0,
                "Waiting for deployment spec update to be observed...",
            ),
            (
                json!({"observedGeneration": 1, "conditions": late}),
                3,
                "Waiting for deployment spec update to be observed...",
            ),
            (
                json!({"observedGeneration": 2, "conditions": late}),
                0,
                "error: deployment \"web\" exceeded its progress deadline",
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 4}),
                0,
                "Waiting for deployment \"web\" rollout to finish: 1 out of 3 new replicas have been updated...",
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 4}),
                0,
                "Waiting for deployment \"web\" rollout to finish: 1 old replicas are pending termination...",
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 2}),
                0,
                "Waiting for deployment \"web\" rollout to finish: 2 of 3 updated replicas are available...",
            ),
            (
                json!({"observedGeneration": 2, "updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}),
                3,
                "+deployment \"web\" successfully rolled out",
            ),
            (
                json!({"observedGeneration": 2}),
                1,
                "error: desired revision (1) is different from the running revision (3)",
            ),
        ] {
            let object = json!({"metadata": metadata, "spec": {"replicas": 3}, "status": status});
            assert_eq!(told(deployment, &object, revision), expected, "{status}");
        }
    }

    #[test]
    fn stateful_sets() {
        let rolling = |rolling: Value| json!({"type": "RollingUpdate", "rollingUpdate": rolling});
        let ready = json!({"observedGeneration": 1, "readyReplicas": 2, "updatedReplicas": 1, "currentReplicas": 2, "currentRevision": "a", "updateRevision": "b"});
        for (strategy, status, expected) in [
            (
                json!({"type": "OnDelete"}),
                json!({}),
                "error: rollout status is only available for RollingUpdate strategy type",
            ),
            (
                rolling(json!(null)),
                json!({}),
                "Waiting for statefulset spec update to be observed...",
            ),
            (
                rolling(json!(null)),
                json!({"observedGeneration": 1, "readyReplicas": 1}),
                "Waiting for 1 pods to be ready...",
            ),
            (
                rolling(json!({"partition": 0})),
                ready.clone(),
                "Waiting for partitioned roll out to finish: 1 out of 2 new pods have been updated...",
            ),
            (
                rolling(json!({"partition": 1})),
                ready.clone(),
                "+partitioned roll out complete: 1 new pods have been updated...",
            ),
            (
                rolling(json!(null)),
                ready.clone(),
                "waiting for statefulset rolling update to complete 1 pods at revision b...",
            ),
            (
                rolling(json!(null)),
                json!({"observedGeneration": 1, "readyReplicas": 2, "currentReplicas": 2, "currentRevision": "b", "updateRevision": "b"}),
                "+statefulset rolling update complete 2 pods at revision b...",
            ),
        ] {
            let object = json!({"metadata": {"generation": 1}, "spec": {"replicas": 2, "updateStrategy": strategy}, "status": status});
            assert_eq!(told(stateful_set, &object, 0), expected);
        }
    }
    #[test]
    fn daemon_sets() {
        let status = |observed: i64, updated: i64, available: i64| json!({"observedGeneration": observed, "desiredNumberScheduled": 2, "updatedNumberScheduled": updated, "numberAvailable": available});
        for (strategy, status, expected) in [
            (
                "OnDelete",
                json!({}),
                "error: rollout status is only available for RollingUpdate strategy type",
            ),
            (
                "RollingUpdate",
                status(1, 2, 2),
                "Waiting for daemon set spec update to be observed...",
            ),
            (
                "RollingUpdate",
                status(2, 1, 2),
                "Waiting for daemon set \"web\" rollout to finish: 1 out of 2 new pods have been updated...",
            ),
            (
                "RollingUpdate",
                status(2, 2, 1),
                "Waiting for daemon set \"web\" rollout to finish: 1 of 2 updated pods are available...",
            ),
            (
                "RollingUpdate",
                status(2, 2, 2),
                "+daemon set \"web\" successfully rolled out",
            ),
        ] {
            let object = json!({"metadata": {"name": "web", "generation": 2}, "spec": {"updateStrategy": {"type": strategy}}, "status": status});
            assert_eq!(told(daemon_set, &object, 0), expected);
        }
    }
}
