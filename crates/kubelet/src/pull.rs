//! Getting a container's images: looked up, pulled with the Pod's credentials, or refused (spec `§4.2`, `§4.4`, `§10.7`).

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use lifecycle::image::access::PullSecret;
use lifecycle::image::{self, Decision, Presence, PullPolicy, Wanted};
use lifecycle::kinds::Member;
use lifecycle::{Event, PullBackOff, StartError, reference};
use ports::images::Image;
use tokio::sync::OnceCell;

use crate::agent::Agent;
use crate::keyring::{self, Credentials};
use crate::objects::{self, Kind, ObjectRef};
use crate::sources;

/// A start that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: StartError,
    /// New pull back-off of images, as the spec writes them.
    pub(crate) back_offs: BackOffs,
}

/// Pull back-off by image, as the spec writes it.
pub(crate) type BackOffs = BTreeMap<String, PullBackOff>;

/// An image, and the name it was found under.
pub(crate) type Found = (Image, String);

/// Images of the volumes a container mounts, by volume.
pub(crate) type OfVolumes = BTreeMap<String, Found>;

/// The images of the volumes a container mounts. All of them are tried; it is the last failure that the container shows.
pub(crate) async fn of_volumes(
    agent: &Agent,
    pod: &Pod,
    member: &Member<'_>,
    held: &BackOffs,
) -> Result<OfVolumes, Failure> {
    let (mut found, mut new) = (OfVolumes::new(), BackOffs::new());
    let mut held = held.clone();
    let mut failed = None;
    for wanted in image::of_volumes(pod, member) {
        match ensure(agent, pod, &wanted, &held).await {
            Ok(image) => {
                let volume = wanted.volume.unwrap_or_default();
                found.insert(volume.to_owned(), image);
            }
            Err(failure) => {
                // Another volume may be of the same image.
                held.extend(failure.back_offs.clone());
                new.extend(failure.back_offs);
                failed = Some(failure.error);
            }
        }
    }
    match failed {
        None => Ok(found),
        Some(error) => Err(Failure {
            error,
            back_offs: new,
        }),
    }
}

/// An image that a container needs. Reports what happens on the way.
pub(crate) async fn ensure(
    agent: &Agent,
    pod: &Pod,
    wanted: &Wanted<'_>,
    held: &BackOffs,
) -> Result<Found, Failure> {
    let entry = held.get(wanted.image);
    let name =
        reference::with_default_tag(wanted.image).unwrap_or_else(|_| wanted.image.to_owned());
    let found = {
        let _stays = agent.removing_image.read().await;
        agent.images.image_status(&name).await
    };
    let keyring = Keyring::new(agent, pod, &name);
    let presence = match &found {
        Ok(Some(image)) if may_use(&keyring, wanted, &image.id).await => Presence::Present,
        Ok(_) => Presence::Absent,
        Err(error) => Presence::Unknown(error.to_string()),
    };
    match image::decide(wanted, &presence, entry, agent.now()) {
        Decision::Use { event } => {
            agent.recorder.record(pod, event);
            match found {
                Ok(Some(image)) => Ok((image, name)),
                _ => Err(vanished(agent, pod, wanted, &name)),
            }
        }
        Decision::Pull { event } => {
            agent.recorder.record(pod, event);
            let image = pull(agent, pod, wanted, entry, &keyring).await?;
            Ok((image, name))
        }
        Decision::Fail(failure) => Err(report(agent, pod, wanted, failure)),
    }
}

/// What a Pod's pull secrets say of an image, read when it is first asked for.
struct Keyring<'a> {
    agent: &'a Agent,
    pod: &'a Pod,
    image: &'a str,
    credentials: OnceCell<Vec<Credentials>>,
}

impl<'a> Keyring<'a> {
    fn new(agent: &'a Agent, pod: &'a Pod, image: &'a str) -> Self {
        Keyring {
            agent,
            pod,
            image,
            credentials: OnceCell::new(),
        }
    }

    async fn credentials(&self) -> &[Credentials] {
        let read = || credentials(self.agent, self.pod, self.image);
        self.credentials.get_or_init(read).await
    }
}

/// Whether the Pod may use an image that is here. Where every start pulls, the registry says so each time.
async fn may_use(keyring: &Keyring<'_>, wanted: &Wanted<'_>, id: &str) -> bool {
    let agent = keyring.agent;
    let shown = async {
        let credentials = keyring.credentials().await;
        credentials.iter().map(|c| c.secret.clone()).collect()
    };
    let (images, verification) = (agent.images.as_ref(), &agent.config.verification);
    wanted.policy == PullPolicy::Always
        || agent
            .pulls
            .may_use(images, verification, (keyring.image, id), shown)
            .await
}

fn report(agent: &Agent, pod: &Pod, wanted: &Wanted<'_>, failure: image::Failure) -> Failure {
    for event in failure.events {
        agent.recorder.record(pod, event);
    }
    let back_off = failure
        .back_off
        .map(|entry| (wanted.image.to_owned(), entry));
    Failure {
        error: failure.error,
        back_offs: back_off.into_iter().collect(),
    }
}

fn vanished(agent: &Agent, pod: &Pod, wanted: &Wanted<'_>, name: &str) -> Failure {
    let message = format!(
        "Failed to inspect image {:?}: {name}: not found",
        wanted.image
    );
    let event = lifecycle::events::failed(&wanted.member, "ImageInspectError");
    agent.recorder.record(pod, event);
    Failure {
        error: StartError {
            reason: "ImageInspectError".into(),
            message,
            at: agent.now(),
        },
        back_offs: BackOffs::new(),
    }
}

async fn pull(
    agent: &Agent,
    pod: &Pod,
    wanted: &Wanted<'_>,
    entry: Option<&PullBackOff>,
    keyring: &Keyring<'_>,
) -> Result<Image, Failure> {
    let began = agent.now();
    let name = keyring.image;
    let begun = agent.pulls.begin(agent.images.as_ref(), name).await;
    match pull_with_any(agent, name, keyring.credentials().await).await {
        Ok((image, secret)) => {
            agent.pulls.got(begun, &image.id, secret).await;
            let took = agent.now().duration_since(began).max(SignedDuration::ZERO);
            agent
                .recorder
                .record(pod, image::pulled(wanted, took, took, image.size_bytes));
            agent.images_changed.notify_one();
            Ok(image)
        }
        Err(text) => {
            agent.pulls.over(begun).await;
            let failure = image::failed(wanted, &text, entry, agent.now(), &agent.config.policy);
            Err(report(agent, pod, wanted, failure))
        }
    }
}

/// Pulls with the first credentials that will do, or without any if there are none; the image, and the secret that did.
///
/// # Errors
/// What each of the attempts failed for.
async fn pull_with_any(
    agent: &Agent,
    name: &str,
    credentials: &[Credentials],
) -> Result<(Image, Option<PullSecret>), String> {
    if credentials.is_empty() {
        let pulled = agent.images.pull_image(name, None, None).await;
        return pulled
            .map(|image| (image, None))
            .map_err(|error| chain(&error));
    }
    let mut errors = Vec::new();
    for Credentials { auth, secret } in credentials {
        match agent
            .images
            .pull_image(name, Some(auth.clone()), None)
            .await
        {
            Ok(image) => return Ok((image, Some(secret.clone()))),
            Err(error) => errors.push(chain(&error)),
        }
    }
    Err(api::gotext::aggregate(errors))
}

/// An error with its causes, as users read it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Credentials for an image from the Pod's pull secrets, the most specific first; secrets that cannot be read are reported and left out.
async fn credentials(agent: &Agent, pod: &Pod, image: &str) -> Vec<Credentials> {
    let secrets = pod
        .spec
        .as_ref()
        .and_then(|s| s.image_pull_secrets.as_ref());
    let secrets: Vec<&str> = secrets
        .into_iter()
        .flatten()
        .map(|s| s.name.as_str())
        .filter(|n| !n.is_empty())
        .collect();
    if secrets.is_empty() {
        return Vec::new();
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let references = secrets
        .iter()
        .map(|name| ObjectRef::new(Kind::Secret, name))
        .collect();
    let read = objects::read(&agent.client, namespace, references)
        .await
        .unwrap_or_default();
    let missing: Vec<&str> = secrets
        .iter()
        .copied()
        .filter(|name| sources::whole(&read, name).is_none())
        .collect();
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        let event = Event::warning("FailedToRetrieveImagePullSecret", message);
        agent.recorder.record(pod, event);
    }
    let found = secrets
        .iter()
        .filter_map(|name| Some((name, sources::whole(&read, name)?)))
        .flat_map(|(name, secret)| keyring::entries(namespace, name, secret));
    keyring::about(found.collect(), image)
}
