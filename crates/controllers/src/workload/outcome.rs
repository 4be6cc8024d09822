//! What comes of work.

use events::Words;
use informer::Key;
use k8s_openapi::api::core::v1::ObjectReference;

use super::kinds::Kept;
use super::world::World;

/// What comes of work.
#[derive(Default)]
pub(super) struct Outcome {
    /// What was made, changed and deleted.
    pub(super) written: Vec<Written>,
    /// What there is to tell.
    pub(super) news: Vec<News>,
    /// Why it came to its end before it was done.
    pub(super) failed: Option<Failed>,
}

/// Has the world take in what was done.
pub(super) type Written = Box<dyn FnOnce(&mut World) + Send>;

/// An Event.
pub(super) struct News {
    pub(super) about: ObjectReference,
    /// Who tells it.
    pub(super) component: &'static str,
    pub(super) words: Words,
}

/// Why work came to its end.
pub(super) enum Failed {
    /// What it was about has changed or is gone.
    Moot,
    /// It is tried again after a rest.
    Held(Trouble),
}

/// What is to be said of a failure.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// Nothing.
    Unsaid,
    /// Objects could not be made or deleted, for this reason.
    Objects(String),
    /// Another revision has the name of a new one, after so many collisions.
    Collision(i32),
    /// A Deployment's.
    Deployment(workloads::deployment::Failure),
}

impl Outcome {
    /// Whether to go on.
    pub(super) fn is_fine(&self) -> bool {
        self.failed.is_none()
    }

    /// Takes in what came of something else that belongs to it. The first failure counts; one that is held more than one that is moot.
    pub(super) fn add(&mut self, other: Outcome) {
        self.written.extend(other.written);
        self.news.extend(other.news);
        let is_graver = matches!(
            (&self.failed, &other.failed),
            (None, Some(_)) | (Some(Failed::Moot), Some(Failed::Held(_)))
        );
        if is_graver {
            self.failed = other.failed;
        }
    }

    /// Notes an object as it is now.
    pub(super) fn wrote<K: Kept>(&mut self, object: K) {
        self.written
            .push(Box::new(move |world| world.wrote(object)));
    }

    /// Notes that an object will go, or is gone.
    pub(super) fn doomed<K: Kept>(&mut self, key: Key, uid: String) {
        let written = move |world: &mut World| K::known_mut(world).doom(key, uid);
        self.written.push(Box::new(written));
    }

    /// Notes what an answer says.
    pub(super) fn note<K: Kept>(&mut self, answer: Result<K, kube::Error>) {
        match answer {
            Ok(object) => self.wrote(object),
            Err(error) => self.failed = Some(Failed::because(&error)),
        }
    }
}

impl From<Failed> for Outcome {
    fn from(failed: Failed) -> Self {
        Outcome {
            failed: Some(failed),
            ..Outcome::default()
        }
    }
}

impl Failed {
    /// What an error means to something nothing is to be said of.
    pub(super) fn because(error: &kube::Error) -> Failed {
        if crate::pods::is_moot(error) || is_namespace_ending(error) {
            return Failed::Moot;
        }
        tracing::warn!(%error, "looking after a workload");
        Failed::Held(Trouble::Unsaid)
    }
}

/// Whether there is an object of the name already.
pub(super) fn is_taken(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(e) if e.is_already_exists())
}

/// Whether nothing can be made any more because the namespace ends: its objects end with it.
pub(super) fn is_namespace_ending(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let causes = status.details.iter().flat_map(|d| &d.causes);
    causes
        .into_iter()
        .any(|c| c.reason == "NamespaceTerminating")
}

/// An error as the API words it; of a kind that is not served, as upstream's clients do.
pub(super) fn words_of(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 && status.details.is_none() => {
            "the server could not find the requested resource".to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
