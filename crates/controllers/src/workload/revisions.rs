//! The history of StatefulSets and DaemonSets.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::Api;
use kube::api::PostParams;
use workloads::history;

use super::outcome::{Failed, Outcome, Trouble, is_namespace_ending, is_taken};
use super::steps::{Hands, Subject};

impl Hands {
    /// Writes a new template down. If there is another revision of its name, that is a collision, after so many before.
    pub(super) async fn create_revision(
        &self,
        subject: &Subject,
        revision: &ControllerRevision,
        collisions: i32,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let revisions: Api<ControllerRevision> = self.api(&subject.namespace);
        let error = match revisions.create(&PostParams::default(), revision).await {
            Ok(made) => {
                outcome.wrote(made);
                return outcome;
            }
            Err(error) => error,
        };
        if is_namespace_ending(&error) {
            return Failed::Moot.into();
        }
        if !is_taken(&error) {
            return Failed::because(&error).into();
        }
        let name = revision.metadata.name.as_deref().unwrap_or_default();
        match revisions.get_opt(name).await {
            // An answer that was not heard, or a watch that is behind.
            Ok(Some(found)) if history::is_same(&found, revision) => {
                outcome.wrote(found);
                outcome
            }
            Ok(Some(_)) => Failed::Held(Trouble::Collision(collisions)).into(),
            Ok(None) => Failed::Held(Trouble::Unsaid).into(),
            Err(error) => Failed::because(&error).into(),
        }
    }

    /// Changes a revision, if it is still as it was seen.
    pub(super) async fn update_revision(
        &self,
        subject: &Subject,
        revision: &ControllerRevision,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.note(self.replace(subject, revision).await);
        outcome
    }

    /// Deletes a revision of the past.
    pub(super) async fn delete_revision(
        &self,
        subject: &Subject,
        name: &str,
        uid: String,
    ) -> Outcome {
        let removed = self.remove::<ControllerRevision>(subject, name, &uid).await;
        if let Err(error) = removed {
            return Failed::because(&error).into();
        }
        let mut outcome = Outcome::default();
        let key = (subject.namespace.clone(), name.to_owned());
        outcome.doomed::<ControllerRevision>(key, uid);
        outcome
    }
}
