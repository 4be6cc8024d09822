//! What a workload was: the revisions that the ReplicaSets of a Deployment remember, and the ControllerRevisions of a StatefulSet or
//! DaemonSet.

use anyhow::anyhow;
use api::schema::Schema;
use serde_json::Value;

use crate::connect::Server;
use crate::workloads::{controlled, replica_sets, revision};

/// Says in people's words why a revision was made.
pub(super) const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// A revision of a workload.
#[derive(Debug, PartialEq)]
pub(super) struct Revision {
    pub(super) number: i64,
    /// Why it was made, if somebody has said so.
    pub(super) cause: Option<String>,
    /// The ReplicaSet that has its template, or the workload as it was.
    pub(super) object: Value,
    /// What makes the workload what it was, as a strategic merge patch; `None` where a ReplicaSet has the template.
    pub(super) patch: Option<Value>,
}

impl Revision {
    /// The Pods' template.
    pub(super) fn template(&self) -> &Value {
        &self.object["spec"]["template"]
    }

    /// `replicaset.apps/web-1`
    pub(super) fn label(&self) -> String {
        let kind = self.object["kind"].as_str().unwrap_or_default();
        let name = self.object["metadata"]["name"].as_str().unwrap_or_default();
        format!("{}.apps/{name}", kind.to_lowercase())
    }

    /// That of a ReplicaSet; `None` if it says none.
    fn of_replica_set(mut set: Value) -> Option<Self> {
        set["apiVersion"] = "apps/v1".into();
        set["kind"] = "ReplicaSet".into();
        Some(Revision {
            number: revision(&set)?,
            cause: cause(&set),
            object: set,
            patch: None,
        })
    }

    /// What a ControllerRevision says of a workload.
    fn of_controller_revision(workload: &Value, kept: &Value) -> anyhow::Result<Self> {
        let kind = workload["kind"].as_str().unwrap_or_default();
        let mut object = workload.clone();
        let ty = Schema::get().of("apps", "v1", kind);
        ty.and_then(|ty| api::patch::strategic_merge(&mut object, kept["data"].clone(), ty).ok())
            .ok_or_else(|| {
                let name = kept["metadata"]["name"].as_str().unwrap_or_default();
                anyhow!("unable to parse history {name}")
            })?;
        Ok(Revision {
            number: kept["revision"].as_i64().unwrap_or(0),
            cause: cause(kept),
            object,
            patch: Some(kept["data"].clone()),
        })
    }
}

fn cause(kept: &Value) -> Option<String> {
    let cause = kept["metadata"]["annotations"][CHANGE_CAUSE].as_str()?;
    (!cause.is_empty()).then(|| cause.to_owned())
}

/// The revisions of a workload that are still known, in order; `None` if its kind has none.
pub(super) async fn revisions(
    server: &Server,
    kind: Option<&str>,
    workload: &Value,
) -> anyhow::Result<Option<Vec<Revision>>> {
    let mut revisions: Vec<Revision> = match kind {
        Some("Deployment") => {
            let sets = replica_sets(server, workload).await?;
            let all = sets.into_iter().filter_map(Revision::of_replica_set);
            all.collect()
        }
        Some("StatefulSet" | "DaemonSet") => {
            let kept = controlled(server, workload, "/apis/apps/v1", "controllerrevisions").await?;
            let all = kept
                .iter()
                .map(|kept| Revision::of_controller_revision(workload, kept));
            all.collect::<anyhow::Result<_>>()?
        }
        _ => return Ok(None),
    };
    revisions.sort_by_key(|revision| revision.number);
    Ok(Some(revisions))
}

/// The revision of that number; 0 is the one before the latest.
pub(super) fn find(revisions: &[Revision], wanted: i64) -> Option<&Revision> {
    match wanted {
        0 => revisions.iter().rev().nth(1),
        _ => revisions.iter().find(|revision| revision.number == wanted),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::workloads::REVISION;
    use serde_json::json;

    /// A revision of a Deployment with Pods of one container.
    pub(in crate::verbs::rollout) fn of_deployment(
        number: &str,
        cause: Option<&str>,
        image: &str,
    ) -> Option<Revision> {
        Revision::of_replica_set(
            json!({"metadata": {"name": format!("web-{number}"), "annotations": {REVISION: number, CHANGE_CAUSE: cause}}, "spec": {"template": {
                "metadata": {"labels": {"app": "web", "pod-template-hash": "x"}}, "spec": {"containers": [{"name": "main", "image": image}]}}}}),
        )
    }

    /// A StatefulSet of two containers.
    pub(in crate::verbs::rollout) fn stateful_set() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "annotations": {"a": "b"}}, "spec": {"replicas": 3, "template": {
            "metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "main", "image": "db:2"}, {"name": "new", "image": "x"}]}}}})
    }

    /// A revision of it with one of the two.
    pub(in crate::verbs::rollout) fn of_stateful_set(number: i64, cause: Option<&str>) -> Revision {
        let kept = json!({"metadata": {"name": format!("db-{number}"), "annotations": {CHANGE_CAUSE: cause}}, "revision": number, "data": {"spec": {"template": {"$patch": "replace",
            "metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "main", "image": format!("db:{number}")}]}}}}});
        Revision::of_controller_revision(&stateful_set(), &kept).expect("a revision")
    }

    #[test]
    fn a_controller_revision_is_the_workload_as_it_was() {
        let revision = of_stateful_set(1, Some("better"));
        let mut was = stateful_set();
        was["spec"]["template"]["spec"]["containers"] = json!([{"name": "main", "image": "db:1"}]);
        assert_eq!(
            (revision.number, revision.cause.as_deref(), &revision.object),
            (1, Some("better"), &was)
        );
        assert_eq!(revision.label(), "statefulset.apps/db");
        let broken = json!({"metadata": {"name": "db-1"}, "data": "x"});
        let error = Revision::of_controller_revision(&stateful_set(), &broken);
        let error = error.expect_err("no patch").to_string();
        assert_eq!(error, "unable to parse history db-1");
    }

    #[test]
    fn revisions_are_found_by_number() {
        assert_eq!(of_deployment("x", None, "a"), None);
        let revisions: Vec<Revision> = ["1", "2", "10"]
            .into_iter()
            .filter_map(|number| of_deployment(number, None, "a"))
            .collect();
        for (wanted, found) in [
            (0, Some("replicaset.apps/web-2")),
            (1, Some("replicaset.apps/web-1")),
            (10, Some("replicaset.apps/web-10")),
            (3, None),
            (-1, None),
        ] {
            let label = find(&revisions, wanted).map(Revision::label);
            assert_eq!(label.as_deref(), found, "{wanted}");
        }
        assert_eq!(find(&revisions[..1], 0), None, "there is none before");
    }
}
