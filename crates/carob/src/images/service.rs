//! The service: carries calls out on the store.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use images::Reference;
use ports::images::{Image, ImageError, Images, PullProgress};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::body::{self, Body};
use super::{CALL, Call, Credentials, Failure, Pruned, Removed, Told};

/// A user of each image that has one, by image id.
type Users = BTreeMap<String, String>;

/// The store behind the service.
pub(crate) struct Service {
    store: Arc<images::Store>,
    /// Where the runtime keeps its records.
    records: PathBuf,
}

/// Why a call was not carried out: the answer's code and its words.
struct Refusal(StatusCode, String);

impl From<ImageError> for Refusal {
    fn from(error: ImageError) -> Self {
        let code = match error {
            ImageError::InvalidName { .. } | ImageError::Refused { .. } => StatusCode::BAD_REQUEST,
            ImageError::NotFound { .. } => StatusCode::NOT_FOUND,
            ImageError::InUse { .. } => StatusCode::CONFLICT,
            ImageError::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            ImageError::Unreachable { .. } => StatusCode::BAD_GATEWAY,
            ImageError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal(code, words(&error))
    }
}

/// An error and its causes in one line.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

impl Service {
    /// A service of this store, beside the runtime whose records are below `records`.
    pub(crate) fn new(store: Arc<images::Store>, records: PathBuf) -> Arc<Service> {
        Arc::new(Service { store, records })
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) {
        let answer = service_fn(move |request| {
            let service = self.clone();
            async move { Ok::<_, Infallible>(service.answer(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answer);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a client of the image service went away");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let call = request.headers().get(CALL).map(|call| call.as_bytes());
        let call: Call = match serde_json::from_slice(call.unwrap_or_default()) {
            Ok(call) => call,
            Err(error) => return refuse(Refusal(StatusCode::BAD_REQUEST, error.to_string())),
        };
        tracing::debug!(?call, "image service");
        let answered = match call {
            Call::List => self.store.list_images().await.map_err(Into::into).map(json),
            Call::Pull {
                reference,
                credentials,
            } => Ok(self.pull(reference, credentials)),
            Call::Remove { reference, force } => self.remove(&reference, force).await.map(json),
            Call::Load => self.load(request.into_body()).await.map(json),
            Call::Import { name, config } => {
                let archive = body::read(request.into_body());
                let imported = self.store.import_stream(archive, &name, config).await;
                imported.map_err(Into::into).map(json)
            }
            Call::Save { references } => self.save(references).await,
            Call::Tag { source, target } => self.tag(&source, &target).await.map(json),
            Call::Prune { all } => self.prune(all).await.map(json),
        };
        answered.unwrap_or_else(refuse)
    }

    /// The pull goes on as the answer is read, and ends with it.
    fn pull(&self, reference: String, credentials: Option<Credentials>) -> Response<Body> {
        let (sender, progress) = mpsc::unbounded_channel();
        let store = self.store.clone();
        let pulled = async move {
            let sink = Arc::new(move |progress: PullProgress| {
                // Nobody listens once the answer is given up, and the pull with it.
                let _ = sender.send(progress);
            });
            let pulled = store.pull_image(&reference, credentials.map(Into::into), Some(sink));
            match pulled.await {
                Ok(image) => Told::Image(Box::new(image)),
                Err(error) => Told::Failed(Failure {
                    message: words(&error),
                }),
            }
        };
        // What was said before the end is told before it. The store may keep the sink longer than the pull.
        let told = stream::unfold(Some((progress, Box::pin(pulled))), |state| async move {
            let (mut progress, mut pulled) = state?;
            tokio::select! {
                biased;
                Some(step) = progress.recv() => Some((Told::Progress(step), Some((progress, pulled)))),
                last = &mut pulled => Some((last, None)),
            }
        });
        let lines = told.map(|told| {
            let mut line = serde_json::to_vec(&told)?;
            line.push(b'\n');
            Ok(line.into())
        });
        Response::new(body::streamed(lines))
    }

    async fn load(&self, archive: Incoming) -> Result<Vec<Image>, Refusal> {
        Ok(self.store.load_stream(body::read(archive), None).await?)
    }

    async fn save(&self, references: Vec<String>) -> Result<Response<Body>, Refusal> {
        for reference in &references {
            self.find(reference).await?;
        }
        let (writer, answer) = body::written();
        let failing = writer.failing();
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.save(&references, writer).await {
                // Without this the archive would look whole.
                let _ = failing.send(Err(io::Error::other(error))).await;
            }
        });
        Ok(Response::new(answer))
    }

    async fn tag(&self, source: &str, target: &str) -> Result<Image, Refusal> {
        self.find(source).await?;
        Ok(self.store.tag(source, target).await?)
    }

    async fn prune(&self, all: bool) -> Result<Pruned, Refusal> {
        let keep = self.users().await?.into_keys().collect();
        let images::Pruned {
            images,
            freed_bytes,
        } = self.store.prune(all, keep).await?;
        Ok(Pruned {
            images,
            freed_bytes,
        })
    }

    async fn remove(&self, reference: &str, force: bool) -> Result<Removed, Refusal> {
        let image = match self.store.image_status(reference).await? {
            None if force => return Ok(Removed::default()),
            None => return Err(no_such_image(reference)),
            Some(image) => image,
        };
        check_removal(&image, reference, force, &self.users().await?)?;
        self.store.remove_image(reference).await?;
        let left = self.store.image_status(&image.id).await?;
        let before = image.repo_tags.into_iter().chain(image.repo_digests);
        let is_left = |name: &String| {
            left.as_ref().is_some_and(|left| {
                left.repo_tags.contains(name) || left.repo_digests.contains(name)
            })
        };
        Ok(Removed {
            untagged: before.filter(|name| !is_left(name)).collect(),
            deleted: left.is_none().then_some(image.id),
        })
    }

    async fn find(&self, reference: &str) -> Result<Image, Refusal> {
        let found = self.store.image_status(reference).await?;
        found.ok_or_else(|| no_such_image(reference))
    }

    async fn users(&self) -> Result<Users, Refusal> {
        let records = self.records.clone();
        let read = tokio::task::spawn_blocking(move || runtime::image_users(&records)).await;
        let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
        read.map_err(|error| {
            let text = format!("cannot tell which images are in use: {error}");
            Refusal(StatusCode::INTERNAL_SERVER_ERROR, text)
        })
    }
}

/// Whether this name, or the image with it, may go: an image that a container uses keeps a name, and an id with several
/// names goes by force only.
fn check_removal(
    image: &Image,
    reference: &str,
    force: bool,
    users: &Users,
) -> Result<(), ImageError> {
    let in_use = |by: String| {
        let reference = reference.to_owned();
        Err(ImageError::InUse { reference, by })
    };
    let name = Reference::parse(reference).ok();
    let is_tag = name
        .as_ref()
        .is_some_and(|name| image.repo_tags.contains(&name.to_string()));
    let is_digest = name.as_ref().is_some_and(|name| name.digest().is_some());
    let takes_image = match (is_tag, is_digest) {
        (true, _) => image.repo_tags.len() == 1,
        (false, true) => image.repo_tags.is_empty(),
        (false, false) => true,
    };
    if takes_image && let Some(user) = users.get(&image.id) {
        return in_use(user.clone());
    }
    if !is_tag && !is_digest && image.repo_tags.len() > 1 && !force {
        let names = image.repo_tags.join(", ");
        return in_use(format!(
            "it has several names ({names}), remove them or use --force"
        ));
    }
    Ok(())
}

fn no_such_image(reference: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("No such image: {reference}"))
}

fn json(value: impl Serialize) -> Response<Body> {
    match serde_json::to_vec(&value) {
        Ok(bytes) => Response::new(body::whole(bytes)),
        Err(error) => refuse(Refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
    }
}

fn refuse(Refusal(code, message): Refusal) -> Response<Body> {
    let mut bytes = Vec::new();
    // Text has a JSON form, and a vector takes it.
    let _ = serde_json::to_writer(bytes.by_ref(), &Failure { message });
    let mut response = Response::new(body::whole(bytes));
    *response.status_mut() = code;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_in_use_keeps_a_name() {
        let image = |tags: &[&str]| Image {
            id: "sha256:1".into(),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            repo_digests: Vec::new(),
            size_bytes: 1,
            config: ports::images::ImageConfig::default(),
        };
        let one = image(&["docker.io/library/a:1"]);
        let two = image(&["docker.io/library/a:1", "docker.io/library/b:1"]);
        let used = Users::from([("sha256:1".to_owned(), "container c".to_owned())]);
        let digest = format!("a@sha256:{}", "0".repeat(64));
        let short = "0123456789ab";
        for (image, reference, force, users, refused) in [
            (&one, "a:1", false, &Users::new(), None),
            (&one, "a:1", false, &used, Some("container c")),
            (&one, "a:1", true, &used, Some("container c")),
            (&two, "a:1", false, &used, None),
            (&two, short, false, &Users::new(), Some("several names")),
            (&two, short, true, &Users::new(), None),
            (&two, short, true, &used, Some("container c")),
            (&one, short, false, &Users::new(), None),
            (&one, &digest, false, &used, None),
            (&image(&[]), &digest, false, &used, Some("container c")),
        ] {
            let checked = check_removal(image, reference, force, users).map_err(|e| e.to_string());
            match (refused, checked) {
                (None, Ok(())) => {}
                (Some(part), Err(text)) if text.contains(part) => {}
                (_, other) => panic!("{reference} {force}: {other:?}"),
            }
        }
    }
}
