//! Pulls: from a reference to an image in the store.
//!
//! Pulls of the same reference with the same credentials at the same time are one: a shared future that the waiting
//! callers drive. When the last of them goes away the future is dropped, and with it whatever was half-made. Different
//! pulls with a layer in common fetch it once, by taking turns ([`Inner::flight`]).

pub(crate) mod assemble;
pub(crate) mod feed;
pub(crate) mod ingest;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use ports::images::{AuthConfig, Image, ImageError, ProgressSink, PullProgress};

use crate::digest::Digest;
use crate::error::duplicate;
use crate::manifest::Document;
use crate::reference::Reference;
use crate::registry::Registry;
use crate::store::{Inner, inner_image};
use assemble::{Assembly, Source};

type Outcome = Result<Image, Arc<ImageError>>;
type Work = BoxFuture<'static, Outcome>;
/// Reference, user name, password, identity token: other credentials may see other things.
type PullKey = (Reference, String, String, String);

/// Pulls under way.
#[derive(Default)]
pub(crate) struct Pulls(Mutex<BTreeMap<PullKey, (WeakShared<Work>, Sinks)>>);

/// Everyone who wants to hear of a pull's progress.
#[derive(Clone, Default)]
struct Sinks(Arc<Mutex<Vec<ProgressSink>>>);

impl Sinks {
    fn lock(&self) -> MutexGuard<'_, Vec<ProgressSink>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn say(&self, progress: &PullProgress) {
        let sinks = self.lock().clone();
        for sink in sinks {
            sink(progress.clone());
        }
    }
}

/// Pulls, or joins the pull that is under way.
pub(crate) async fn pull(
    inner: &Arc<Inner>,
    reference: Reference,
    auth: Option<AuthConfig>,
    progress: Option<ProgressSink>,
) -> Result<Image, ImageError> {
    let work = join(inner, reference, auth, progress);
    work.await.map_err(|error| match Arc::try_unwrap(error) {
        Ok(only) => only,
        Err(shared) => duplicate(&shared),
    })
}

fn join(
    inner: &Arc<Inner>,
    reference: Reference,
    auth: Option<AuthConfig>,
    progress: Option<ProgressSink>,
) -> Shared<Work> {
    let a = auth.clone().unwrap_or_default();
    let key = (reference.clone(), a.username, a.password, a.identity_token);
    let mut pulls = inner
        .pulls
        .0
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    pulls.retain(|_, (work, _)| work.upgrade().is_some_and(|w| w.peek().is_none()));
    if let Some((work, sinks)) = pulls.get(&key)
        && let Some(work) = work.upgrade()
    {
        sinks.lock().extend(progress);
        return work;
    }
    let sinks = Sinks::default();
    sinks.lock().extend(progress);
    let (owner, heard) = (inner.clone(), sinks.clone());
    let work: Work =
        async move { run(&owner, &reference, auth, heard).await.map_err(Arc::new) }.boxed();
    let work = work.shared();
    if let Some(weak) = work.downgrade() {
        pulls.insert(key, (weak, sinks));
    }
    work
}

async fn run(
    inner: &Arc<Inner>,
    reference: &Reference,
    auth: Option<AuthConfig>,
    sinks: Sinks,
) -> Result<Image, ImageError> {
    let registry = Arc::new(Registry::new(&inner.hosts, reference, auth)?);
    let (top, bytes) = registry.resolve().await?;
    let by_digest = Reference::parse(&format!("{}@{top}", reference.repository()))?;
    let names = vec![reference.clone(), by_digest.clone()];
    // Its digest is the proof that nothing changed: the image is here. By digest alone there is nothing to prove
    // access with, so the registry is asked for the manifest.
    if reference.tag().is_some()
        && let Some(image) = adopt(inner, &by_digest, &names).await?
    {
        return Ok(image);
    }
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => registry.manifest(&top).await?,
    };
    let (manifest, manifest_bytes) = match Document::parse(&reference.to_string(), &bytes)? {
        Document::Manifest(manifest) => (manifest, bytes),
        Document::Index(index) => {
            let chosen: Digest = index.choose(&reference.to_string())?.digest.clone();
            let bytes = registry.manifest(&chosen).await?;
            match Document::parse(&reference.to_string(), &bytes)? {
                Document::Manifest(manifest) => (manifest, bytes),
                Document::Index(_) => {
                    return Err(crate::error::refused(reference, "an index within an index"));
                }
            }
        }
    };
    let config_bytes = registry.config(&manifest.config).await?;
    let assembly = Assembly::new(
        &reference.to_string(),
        manifest,
        manifest_bytes,
        config_bytes,
    )?;
    let report = Arc::new(move |progress| sinks.say(&progress));
    assembly
        .complete(inner, &Source::Registry(registry), names, report)
        .await
}

/// Gives an image that is here the names it was just found under.
async fn adopt(
    inner: &Arc<Inner>,
    by_digest: &Reference,
    names: &[Reference],
) -> Result<Option<Image>, ImageError> {
    if inner.index().by_name(by_digest).is_none() {
        return Ok(None);
    }
    let (by_digest, names) = (by_digest.clone(), names.to_vec());
    let naming = move |inner: &Arc<Inner>| {
        inner.change(|index| {
            let Some(id) = index.by_name(&by_digest).map(|(id, _)| id.clone()) else {
                return Ok(None);
            };
            for name in &names {
                index.name(&id, name);
            }
            inner_image(index, &id).map(Some)
        })
    };
    inner.blocking(naming).await
}
