//! How steps are told, in upstream's words.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Step;
use crate::job::News;
use crate::object::name;

impl Step {
    /// The Event about the set of this name when the step has been taken, where there is one.
    pub fn news(&self, set: &str) -> Option<News> {
        let (reason, message) = match self {
            Step::CreatePod(pod) => ("SuccessfulCreate", done("Create", &pod.metadata, set)),
            Step::UpdatePod(pod) => ("SuccessfulUpdate", done("Update", &pod.metadata, set)),
            Step::DeletePod { pod, .. } => (
                "SuccessfulDelete",
                format!("Delete Pod {pod} in StatefulSet {set} successful"),
            ),
            Step::CreateClaim { claim, pod } => {
                let claim = name(&claim.metadata);
                let message =
                    format!("Create Claim {claim} Pod {pod} in StatefulSet {set} success");
                ("SuccessfulCreate", message)
            }
            Step::UpdateClaim {
                claim,
                is_contested: true,
                ..
            } => {
                let claim = name(&claim.metadata);
                let message = format!(
                    "PersistentVolumeClaim {claim} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim"
                );
                return Some(warning("ConflictingController", message));
            }
            _ => return None,
        };
        Some(News {
            type_: "Normal",
            reason: reason.to_owned(),
            message,
        })
    }

    /// The Events about the set of this name when the step has failed for this reason. None are to be told where its object is there
    /// already, or not there any more.
    pub fn bad_news(&self, set: &str, error: &str) -> Vec<News> {
        let failed = |verb: &str, pod: &str, error: &str| {
            let message = format!("{verb} Pod {pod} in StatefulSet {set} failed error: {error}");
            warning(&format!("Failed{verb}"), message)
        };
        match self {
            Step::CreatePod(pod) => vec![failed("Create", name(&pod.metadata), error)],
            Step::UpdatePod(pod) => vec![failed("Update", name(&pod.metadata), error)],
            Step::DeletePod { pod, .. } => vec![failed("Delete", pod, error)],
            Step::CreateClaim { claim, pod } => {
                let claim = name(&claim.metadata);
                let message = format!(
                    "Create Claim {claim} for Pod {pod} in StatefulSet {set} failed error: {error}"
                );
                let because = format!("failed to create PVC {claim}: {error}");
                vec![
                    warning("FailedCreate", message),
                    failed("Create", pod, &because),
                ]
            }
            Step::UpdateClaim { claim, pod, .. } => {
                let claim = name(&claim.metadata);
                let because =
                    format!("could not update claim {claim} for delete policy ownerRefs: {error}");
                vec![failed("Update", pod, &because)]
            }
            _ => Vec::new(),
        }
    }
}

fn done(verb: &str, pod: &ObjectMeta, set: &str) -> String {
    format!("{verb} Pod {} in StatefulSet {set} successful", name(pod))
}

fn warning(reason: &str, message: String) -> News {
    News {
        type_: "Warning",
        reason: reason.to_owned(),
        message,
    }
}
