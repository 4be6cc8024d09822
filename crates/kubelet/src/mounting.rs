//! Setting up a Pod's volumes: read what they refer to, then bring all of them into place at once (spec `§10.1`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume};
use ports::volumes::VolumeSpec;

use crate::agent::Agent;
use crate::claims::{self, Found};
use crate::drivers;
use crate::drivers::volume::{self, Outcome};
use crate::fields::Source;
use crate::objects::{self, ObjectRef, Objects};
use crate::sources::{self, Tokens};

/// What came of it.
#[derive(Default)]
pub(crate) struct SetUp {
    /// Volumes in place, by name.
    pub(crate) paths: BTreeMap<String, PathBuf>,
    /// Tokens in use.
    pub(crate) tokens: Tokens,
    /// Objects the volumes are made from, with the versions that were read.
    pub(crate) read: Vec<(ObjectRef, Option<String>)>,
    /// Volumes that failed, and what there is to tell of that.
    pub(crate) errors: Vec<(String, String)>,
    /// Volumes that are not attached to the node yet.
    pub(crate) waiting: Vec<String>,
    /// Volumes of which it is not known what is to be mounted, and why.
    pub(crate) unknown: Vec<(String, String)>,
}

impl SetUp {
    /// Whether everything is in place.
    pub(crate) fn is_done(&self) -> bool {
        self.errors.is_empty() && self.unknown.is_empty() && self.waiting.is_empty()
    }

    /// Whether nothing is missing but that volumes are attached, of which the API will tell.
    pub(crate) fn only_waits(&self) -> bool {
        self.errors.is_empty() && self.unknown.is_empty() && !self.waiting.is_empty()
    }

    /// What there is to tell of that failed: each volume that could not be mounted, and all at once what is not known (spec `§1.3` step
    /// 7), or has been waited for long enough.
    pub(crate) fn complaints(&self, pod: &Pod) -> Vec<String> {
        let failed = self.errors.iter().map(|(_, error)| error.clone());
        let missing = sources::used(pod).into_iter().map(|v| v.name.as_str());
        let missing = missing.filter(|name| !self.paths.contains_key(*name));
        let mut missing: Vec<&str> = missing.collect();
        missing.sort_unstable();
        let unknown = self.unknown.iter().map(|(volume, _)| volume.as_str());
        let unknown: Vec<&str> = unknown.collect();
        let causes = self.unknown.iter().map(|(_, error)| error.as_str());
        let causes: Vec<&str> = causes.collect();
        let causes = match self.only_waits() {
            true => vec!["context deadline exceeded"],
            false => causes,
        };
        let all = (!causes.is_empty()).then(|| {
            format!(
                "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[{}], failed to process volumes=[{}]: {}",
                missing.join(" "),
                self.waiting.join(" "),
                unknown.join(" "),
                causes.join("; ")
            )
        });
        failed.chain(all).collect()
    }
}

/// What is there before volumes are set up; nothing when that is done for the first time.
#[derive(Default)]
pub(crate) struct Before {
    /// Volumes in place. Of these only what follows objects is brought up to date.
    pub(crate) paths: Arc<BTreeMap<String, PathBuf>>,
    /// Objects that need not be read.
    pub(crate) objects: Objects,
}

/// Sets up, or brings up to date, every volume that a container mounts.
pub(crate) async fn set_up(
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    pod_ips: Vec<IpAddr>,
    before: Before,
    held: Tokens,
) -> SetUp {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let (staying, volumes): (Vec<&Volume>, Vec<&Volume>) = sources::used(&pod)
        .into_iter()
        .partition(|v| before.paths.contains_key(&v.name) && !sources::follows_objects(v));
    let mut done = SetUp::default();
    let place_of = |v: &Volume| Some((v.name.clone(), before.paths.get(&v.name)?.clone()));
    done.paths.extend(staying.into_iter().filter_map(place_of));
    if volumes.is_empty() {
        return done;
    }
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let references = sources::references(pod_name, &volumes);
    let read = objects::complete(&agent.client, namespace, references, before.objects);
    let tokens = sources::tokens(&agent.client, &pod, held.clone(), agent.now());
    let (read, tokens) = tokio::join!(read, tokens);
    let read = read.unwrap_or_else(|error| {
        done.errors
            .extend(volumes.first().map(|v| failed(&v.name, &error)));
        Objects::default()
    });
    done.tokens = tokens.unwrap_or_else(|(volume, error)| {
        done.errors.push(failed(&volume, &error));
        held
    });
    done.read = read
        .versions()
        .map(|(reference, version)| (reference.clone(), version))
        .collect();
    if !done.errors.is_empty() {
        return done;
    }
    let source = Source {
        pod: &pod,
        pod_ips: &pod_ips,
        host_ips: &agent.config.host_ips,
        allocatable: &agent.allocatable,
    };
    let work = volumes.iter().map(|volume| {
        let (agent, uid, source, read, tokens) = (&agent, &uid, &source, &read, &done.tokens);
        async move {
            let found = claims::resolved(&agent.client, &source.pod.metadata, volume, read).await;
            let place = match found {
                Ok(found) => {
                    let wanted = (volume.name.as_str(), found);
                    Ok(place(agent, uid, wanted, source, read, tokens).await)
                }
                Err(unknown) => Err(unknown),
            };
            (volume.name.clone(), place)
        }
    });
    for (name, place) in futures::future::join_all(work).await {
        match place {
            Ok(Outcome::There(path)) => {
                done.paths.insert(name, path);
            }
            Ok(Outcome::Failed(error)) => done.errors.push((name, error)),
            Ok(Outcome::Waiting(attachment)) => {
                done.read.push(attachment);
                done.waiting.push(name);
            }
            Err(error) => done.unknown.push((name, error)),
        }
    }
    done
}

/// Takes down what a Pod has on the node: first what drivers have mounted.
///
/// # Errors
/// What could not be taken down; it may be tried again.
pub(crate) async fn tear_down(agent: &Agent, uid: &str) -> Result<(), String> {
    drivers::take_back(agent, uid).await?;
    agent.volumes.teardown(uid).await.map_err(|e| e.to_string())
}

/// Brings one volume, of this name and with this behind it, into place.
async fn place(
    agent: &Agent,
    uid: &str,
    (name, found): (&str, Found<'_>),
    source: &Source<'_>,
    read: &Objects,
    tokens: &Tokens,
) -> Outcome {
    let behind;
    let own = match found {
        Found::Itself(own) => own,
        Found::Behind(own) => {
            behind = own;
            &*behind
        }
        Found::Driven(asked) => return volume::set_up(agent, source.pod, name, asked).await,
        Found::Local(path, is_read_only) => {
            let local = sources::local(source.pod, path, is_read_only);
            return ensured(agent, uid, name, &local).await;
        }
        Found::Nfs(export) => return ensured(agent, uid, name, &VolumeSpec::Nfs(export)).await,
    };
    match sources::spec(own, source, read, tokens) {
        Ok(spec) => ensured(agent, uid, name, &spec).await,
        Err(error) => Outcome::Failed(failed(name, &error).1),
    }
}

async fn ensured(agent: &Agent, uid: &str, name: &str, spec: &VolumeSpec) -> Outcome {
    match agent.volumes.ensure(uid, name, spec).await {
        Ok(path) => Outcome::There(path),
        Err(error) => Outcome::Failed(failed(name, &error.to_string()).1),
    }
}

/// A volume of the node that failed, and what there is to tell of it.
fn failed(volume: &str, error: &str) -> (String, String) {
    let text = format!("MountVolume.SetUp failed for volume {volume:?} : {error}");
    (volume.to_owned(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_told_of_at_once() {
        let mount = |name: &str| serde_json::json!({"name": name, "mountPath": format!("/{name}")});
        let volume = |name: &str| serde_json::json!({"name": name, "emptyDir": {}});
        let names = ["b", "a", "c", "d"];
        let pod = serde_json::json!({"spec": {
            "volumes": names.map(volume),
            "containers": [{"name": "c", "volumeMounts": names.map(mount)}],
        }});
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        let both = |(name, why): (&str, &str)| (name.to_owned(), why.to_owned());
        let mut done = SetUp {
            paths: [("c".to_owned(), "/v/c".into())].into(),
            errors: [super::failed("d", "it is full")].into(),
            ..SetUp::default()
        };
        let failed = "MountVolume.SetUp failed for volume \"d\" : it is full";
        assert_eq!(done.complaints(&pod), [failed]);
        done.unknown = [("b", "no claim"), ("a", "not bound")].map(both).into();
        assert!(!done.is_done());
        let all = "Unable to attach or mount volumes: unmounted volumes=[a b d], unattached volumes=[], failed to process volumes=[b a]: \
                   no claim; not bound";
        assert_eq!(done.complaints(&pod), [failed, all]);
        let waiting = SetUp {
            waiting: vec!["a".to_owned()],
            ..SetUp::default()
        };
        assert!(waiting.only_waits() && !waiting.is_done());
        let late = "Unable to attach or mount volumes: unmounted volumes=[a b c d], unattached volumes=[a], failed to process volumes=[]: \
                    context deadline exceeded";
        assert_eq!(waiting.complaints(&pod), [late]);
    }
}
