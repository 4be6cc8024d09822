//! What is done to the API for several kinds of workloads.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use events::{Recorder, Words};
use futures::future::join_all;
use informer::Key;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use ports::clock::Clock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use workloads::owner::Handover;

use super::kinds::Kept;
use super::outcome::{Failed, News, Outcome, Trouble, is_namespace_ending, is_taken, words_of};
use crate::pods::is_moot;

/// A kind of objects in namespaces.
pub(super) trait Stored:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Serialize
    + DeserializeOwned
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Stored for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static
{
}

/// What every controller needs to act.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) client: Client,
    clock: Arc<dyn Clock>,
    recorder: Recorder,
}

/// How what is done to objects of a kind is told.
pub(super) struct Saying {
    pub(super) created: &'static str,
    pub(super) not_created: &'static str,
    pub(super) deleted: &'static str,
    pub(super) not_deleted: &'static str,
    pub(super) many: &'static str,
}

const POD: Saying = Saying {
    created: "Created pod:",
    not_created: "Error creating",
    deleted: "Deleted pod:",
    not_deleted: "Error deleting",
    many: "pods",
};

/// The object that work is for.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) namespace: String,
    pub(super) about: ObjectReference,
    /// Who tells Events of it.
    pub(super) component: &'static str,
}

impl Subject {
    /// An object, by the reference others have to it as their controller.
    pub(super) fn new(
        meta: &ObjectMeta,
        reference: &OwnerReference,
        component: &'static str,
    ) -> Self {
        let namespace = meta.namespace.clone().unwrap_or_default();
        Subject {
            about: ObjectReference {
                api_version: Some(reference.api_version.clone()),
                kind: Some(reference.kind.clone()),
                namespace: meta.namespace.clone(),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
                resource_version: meta.resource_version.clone(),
                field_path: None,
            },
            namespace,
            component,
        }
    }

    pub(super) fn news(
        &self,
        type_: &'static str,
        reason: impl Into<Cow<'static, str>>,
        message: String,
    ) -> News {
        News {
            about: self.about.clone(),
            component: self.component,
            words: match type_ {
                "Warning" => Words::warning(reason, message),
                _ => Words::normal(reason, message),
            },
        }
    }
}

impl Hands {
    pub(super) fn new(client: Client, clock: Arc<dyn Clock>, recorder: Recorder) -> Self {
        Hands {
            client,
            clock,
            recorder,
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How long it is until then; no time if it is over.
    pub(super) fn until(&self, then: Timestamp) -> Duration {
        let left = then.duration_since(self.clock.now());
        Duration::try_from(left).unwrap_or_default()
    }

    pub(super) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(super) fn tell(&self, news: News) {
        let recorder = self.recorder.of(news.component);
        recorder.record(news.about, news.words);
    }

    pub(super) async fn find<K: Stored>(&self, key: &Key) -> Result<Option<K>, kube::Error> {
        self.api::<K>(&key.0).get_opt(&key.1).await
    }

    /// Writes an object's status, if it is still as it was seen: its resourceVersion says so.
    pub(super) async fn report<K: Kept>(&self, subject: &Subject, report: &K) -> Outcome {
        let mut outcome = Outcome::default();
        let name = report.meta().name.as_deref().unwrap_or_default();
        let api: Api<K> = self.api(&subject.namespace);
        outcome.note(
            api.replace_status(name, &PostParams::default(), report)
                .await,
        );
        outcome
    }

    /// Changes an object by a strategic merge patch.
    pub(super) async fn patch<K: Kept>(
        &self,
        subject: &Subject,
        name: &str,
        patch: &Value,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let patch = Patch::Strategic(patch);
        let answer = self
            .api::<K>(&subject.namespace)
            .patch(name, &PatchParams::default(), &patch)
            .await;
        outcome.note(answer);
        outcome
    }

    /// Has an object change hands. The controller, of kind `C`, takes it over unless it is another by now, or is being deleted: what was
    /// taken over by one that is would be left behind.
    pub(super) async fn hand_over<C: Stored, K: Kept>(
        &self,
        subject: &Subject,
        object: &Handover,
    ) -> Outcome {
        if object.is_adoption
            && let Some(failed) = self.must_not_adopt::<C>(subject).await
        {
            return failed.into();
        }
        self.patch::<K>(subject, &object.object, &object.patch)
            .await
    }

    /// Why the controller must not take over anything, if there is anything in the way.
    async fn must_not_adopt<C: Stored>(&self, subject: &Subject) -> Option<Failed> {
        let of = subject.about.name.as_deref().unwrap_or_default();
        match self.api::<C>(&subject.namespace).get_opt(of).await {
            Ok(Some(found)) => {
                let meta = found.meta();
                let is_same = meta.uid == subject.about.uid && meta.deletion_timestamp.is_none();
                (!is_same).then_some(Failed::Moot)
            }
            Ok(None) => Some(Failed::Moot),
            Err(error) => Some(Failed::because(&error)),
        }
    }

    /// Puts an object in the place of what it was, if it is still as it was seen: its resourceVersion says so.
    pub(super) async fn replace<K: Kept>(
        &self,
        subject: &Subject,
        object: &K,
    ) -> Result<K, kube::Error> {
        let name = object.meta().name.as_deref().unwrap_or_default();
        let api: Api<K> = self.api(&subject.namespace);
        api.replace(name, &PostParams::default(), object).await
    }

    /// Deletes an object of this UID, if it is there.
    pub(super) async fn remove<K: Stored>(
        &self,
        subject: &Subject,
        name: &str,
        uid: &str,
    ) -> Result<(), kube::Error> {
        let this = DeleteParams::default().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        });
        let api: Api<K> = self.api(&subject.namespace);
        match api.delete(name, &this).await {
            Err(error) if !is_moot(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes Pods, some at a time: one, then twice as many whenever all have come about. What fails for one fails for all, mostly.
    pub(super) async fn create_pods(&self, subject: &Subject, mut pods: &[Pod]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut batch = 1;
        while !pods.is_empty() && outcome.is_fine() {
            let (now, later) = pods.split_at(pods.len().min(batch));
            let made = now.iter().map(|pod| self.create(subject, pod, &POD));
            for one in join_all(made).await {
                outcome.add(one);
            }
            pods = later;
            batch *= 2;
        }
        outcome
    }

    /// Makes an object and has it told.
    pub(super) async fn create<K: Kept>(
        &self,
        subject: &Subject,
        object: &K,
        saying: &Saying,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let api: Api<K> = self.api(&subject.namespace);
        match api.create(&PostParams::default(), object).await {
            Ok(made) => {
                let name = made.meta().name.as_deref().unwrap_or_default();
                let message = format!("{} {name}", saying.created);
                let news = subject.news("Normal", "SuccessfulCreate", message);
                outcome.news.push(news);
                outcome.wrote(made);
            }
            Err(error) if is_namespace_ending(&error) => outcome.failed = Some(Failed::Moot),
            // One of its name is there: its own, of which the watch is about to tell, or another.
            Err(error) if is_taken(&error) => {
                outcome.failed = Some(Failed::Held(Trouble::Unsaid));
            }
            Err(error) => {
                let words = words_of(&error);
                let message = format!("{}: {words}", saying.not_created);
                let news = subject.news("Warning", "FailedCreate", message);
                outcome.news.push(news);
                outcome.failed = Some(Failed::Held(Trouble::Objects(words)));
            }
        }
        outcome
    }

    /// Deletes these Pods, by name and UID, all at a time.
    pub(super) async fn delete_pods(
        &self,
        subject: &Subject,
        doomed: &[(String, String)],
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let this = DeleteParams::default();
        let deleted = doomed
            .iter()
            .map(|(name, uid)| self.delete::<Pod>(subject, name, uid, &this, &POD));
        for one in join_all(deleted).await {
            outcome.add(one);
        }
        outcome
    }

    /// Deletes an object of this UID and has it told.
    pub(super) async fn delete<K: Kept>(
        &self,
        subject: &Subject,
        name: &str,
        uid: &str,
        how: &DeleteParams,
        saying: &Saying,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let this = how.clone().preconditions(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        });
        let api: Api<K> = self.api(&subject.namespace);
        match api.delete(name, &this).await {
            Ok(_) => {
                let message = format!("{} {name}", saying.deleted);
                let news = subject.news("Normal", "SuccessfulDelete", message);
                outcome.news.push(news);
            }
            // It is gone; the watch is about to say so.
            Err(error) if is_moot(&error) => {}
            Err(error) => {
                let words = words_of(&error);
                let message = format!("{}: {words}", saying.not_deleted);
                let news = subject.news("Warning", "FailedDelete", message);
                outcome.news.push(news);
                let words = format!("unable to delete {}: {words}", saying.many);
                outcome.failed = Some(Failed::Held(Trouble::Objects(words)));
                return outcome;
            }
        }
        let key = (subject.namespace.clone(), name.to_owned());
        outcome.doomed::<K>(key, uid.to_owned());
        outcome
    }
}
