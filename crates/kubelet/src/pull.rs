//! Getting a container's images: looked up, pulled with the Pod's credentials, or refused (spec `§4.2`, `§4.4`, `§10.7`).

use std::collections::BTreeMap;

use base64::Engine;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use lifecycle::image::{self, Decision, Presence, Wanted};
use lifecycle::kinds::Member;
use lifecycle::{Event, EventType, PullBackOff, StartError, reference};
use ports::images::{AuthConfig, Image};
use serde::Deserialize;

use crate::agent::Agent;
use crate::objects::{self, Content, Kind, ObjectRef};
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
    let found = agent.images.image_status(&name).await;
    let presence = match &found {
        Ok(Some(_)) => Presence::Present,
        Ok(None) => Presence::Absent,
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
            pull(agent, pod, wanted, entry, &name)
                .await
                .map(|image| (image, name))
        }
        Decision::Fail(failure) => Err(report(agent, pod, wanted, failure)),
    }
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
    name: &str,
) -> Result<Image, Failure> {
    let auth = credentials(agent, pod, name).await;
    let began = agent.now();
    match agent.images.pull_image(name, auth, None).await {
        Ok(image) => {
            let took = agent.now().duration_since(began).max(SignedDuration::ZERO);
            agent
                .recorder
                .record(pod, image::pulled(wanted, took, took, image.size_bytes));
            agent.images_changed.notify_one();
            Ok(image)
        }
        Err(error) => {
            let text = chain(&error);
            let failure = image::failed(wanted, &text, entry, agent.now(), &agent.config.policy);
            Err(report(agent, pod, wanted, failure))
        }
    }
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

/// Credentials for an image from the Pod's pull secrets; secrets that cannot be read are reported and left out.
async fn credentials(agent: &Agent, pod: &Pod, name: &str) -> Option<AuthConfig> {
    let secrets: Vec<&str> = pod
        .spec
        .as_ref()?
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|s| s.name.as_str())
        .filter(|n| !n.is_empty())
        .collect();
    if secrets.is_empty() {
        return None;
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
        let reason = "FailedToRetrieveImagePullSecret".to_owned();
        agent.recorder.record(
            pod,
            Event {
                event_type: EventType::Warning,
                reason,
                message,
                container: None,
            },
        );
    }
    let found = secrets
        .iter()
        .filter_map(|name| sources::whole(&read, name))
        .flat_map(registries);
    best(found.collect(), name)
}

#[derive(Deserialize, Default)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    /// `base64(user:password)`.
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

/// Registries and credentials of a pull secret, either type.
fn registries(secret: &Content) -> Vec<(String, AuthConfig)> {
    let auths = match secret.secret_type() {
        "kubernetes.io/dockercfg" => secret
            .bytes(".dockercfg")
            .and_then(|b| serde_json::from_slice(b).ok()),
        _ => secret
            .bytes(".dockerconfigjson")
            .and_then(|b| serde_json::from_slice::<DockerConfig>(b).ok())
            .map(|c| c.auths),
    };
    let auths: BTreeMap<String, DockerAuth> = auths.unwrap_or_default();
    auths
        .into_iter()
        .map(|(host, auth)| (location(&host), auth.into()))
        .collect()
}

impl From<DockerAuth> for AuthConfig {
    fn from(auth: DockerAuth) -> Self {
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(&auth.auth)
            .ok()
            .and_then(|b| String::from_utf8(b).ok());
        let (username, password) = match decoded.as_deref().and_then(|d| d.split_once(':')) {
            Some((user, password)) if auth.username.is_empty() => {
                (user.to_owned(), password.to_owned())
            }
            _ => (auth.username, auth.password),
        };
        AuthConfig {
            username,
            password,
            identity_token: auth.identity_token,
        }
    }
}

/// A registry as written in a pull secret, without scheme and API path; Docker Hub's old name is its new one.
fn location(written: &str) -> String {
    let bare = written
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    if bare == "index.docker.io" {
        "docker.io".to_owned()
    } else {
        bare.to_owned()
    }
}

/// The credentials whose location is the longest prefix of the image's (spec `§4.4` rule 3).
fn best(found: Vec<(String, AuthConfig)>, image: &str) -> Option<AuthConfig> {
    let first = image.split('/').next().unwrap_or_default();
    let has_host = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let full = if has_host {
        image.to_owned()
    } else {
        format!("docker.io/{image}")
    };
    let fits = |place: &str| {
        full.strip_prefix(place)
            .is_some_and(|rest| rest.starts_with(['/', ':', '@']))
    };
    found
        .into_iter()
        .filter(|(place, _)| fits(place))
        .max_by_key(|(place, _)| place.len())
        .map(|(_, auth)| auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_credentials_win() {
        let auth = |user: &str| AuthConfig {
            username: user.into(),
            ..AuthConfig::default()
        };
        let found = || {
            vec![
                (location("https://index.docker.io/v1/"), auth("hub")),
                (location("reg.example:5000"), auth("all")),
                (location("reg.example:5000/team"), auth("team")),
            ]
        };
        let rows = [
            ("busybox:1.36", Some("hub")),
            ("docker.io/library/busybox", Some("hub")),
            ("reg.example:5000/other/a:1", Some("all")),
            ("reg.example:5000/team/a:1", Some("team")),
            ("reg.example:5000/teams/a:1", Some("all")),
            ("quay.io/a/b", None),
        ];
        for (image, want) in rows {
            assert_eq!(
                best(found(), image).map(|a| a.username).as_deref(),
                want,
                "{image}"
            );
        }
    }

    #[test]
    fn encoded_credentials_are_read() {
        let json = br#"{"auths":{"r.io":{"auth":"dTpwOng="}}}"#.to_vec();
        let secret = Content::from_bytes([(".dockerconfigjson", json)]);
        let (place, auth) = registries(&secret).remove(0);
        assert_eq!(
            (
                place.as_str(),
                auth.username.as_str(),
                auth.password.as_str()
            ),
            ("r.io", "u", "p:x")
        );
    }
}
