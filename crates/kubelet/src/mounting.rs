//! Setting up a Pod's volumes: read what they refer to, then bring all of them into place at once (spec `§10.1`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::agent::Agent;
use crate::claims;
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
    /// Volumes that failed, and why.
    pub(crate) errors: Vec<(String, String)>,
}

/// Sets up, or brings up to date, every volume that a container mounts.
pub(crate) async fn set_up(
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    pod_ips: Vec<IpAddr>,
    held: Tokens,
) -> SetUp {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let volumes = sources::used(&pod);
    if volumes.is_empty() {
        return SetUp::default();
    }
    let mut done = SetUp::default();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let references = sources::references(pod_name, &volumes);
    let read = objects::read(&agent.client, namespace, references);
    let tokens = sources::tokens(&agent.client, &pod, held.clone(), agent.now());
    let (read, tokens) = tokio::join!(read, tokens);
    let read = read.unwrap_or_else(|error| {
        done.errors
            .extend(volumes.first().map(|v| (v.name.clone(), error)));
        Objects::default()
    });
    done.tokens = tokens.unwrap_or_else(|error| {
        done.errors.push(error);
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
            let place = async {
                let found =
                    claims::resolved(&agent.client, &source.pod.metadata, volume, read).await?;
                let spec = sources::spec(&found, source, read, tokens)?;
                let place = agent.volumes.ensure(uid, &volume.name, &spec).await;
                place.map_err(|e| e.to_string())
            };
            (volume.name.clone(), place.await)
        }
    });
    for (name, place) in futures::future::join_all(work).await {
        match place {
            Ok(path) => {
                done.paths.insert(name, path);
            }
            Err(error) => done.errors.push((name, error)),
        }
    }
    done
}
