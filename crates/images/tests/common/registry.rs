//! A registry on loopback that serves what it is given, and stumbles as it is told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use images::Digest;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::image::TestImage;

/// How the next matching answers go wrong.
#[derive(Clone)]
pub enum Fault {
    Status(u16),
    /// A 429 that asks for a wait of so many seconds.
    Busy(u64),
    /// Breaks the connection after so many bytes.
    Cut(usize),
    /// Other bytes than asked for.
    Swap(Vec<u8>),
    /// Waits for a permit first.
    Hold(Arc<Semaphore>),
}

#[derive(Default)]
struct State {
    content: Mutex<HashMap<String, Vec<u8>>>,
    /// Part of a path, fault, times left.
    faults: Mutex<Vec<(String, Fault, usize)>>,
    log: Mutex<Vec<String>>,
    /// `user:password` that the token server wants.
    login: Mutex<Option<String>>,
    ranges: Mutex<bool>,
    address: Mutex<String>,
}

pub struct TestRegistry {
    pub address: String,
    state: Arc<State>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TestRegistry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            ranges: Mutex::new(true),
            address: Mutex::new(address.clone()),
            ..State::default()
        });
        let server = tokio::spawn(serve(listener, state.clone()));
        Self {
            address,
            state,
            server,
        }
    }

    /// Serves `image` as `repository:tag`.
    pub fn put(&self, repository: &str, tag: &str, image: &TestImage) {
        let manifest = self.put_manifest(repository, tag, &image.manifest);
        assert_eq!(manifest, Digest::of(&image.manifest).to_string());
        for blob in image.layers.iter().chain([&image.config]) {
            self.put_raw(
                &format!("/v2/{repository}/blobs/{}", Digest::of(blob)),
                blob,
            );
        }
    }

    pub fn put_manifest(&self, repository: &str, tag: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        self.put_raw(&format!("/v2/{repository}/manifests/{tag}"), bytes);
        self.put_raw(&format!("/v2/{repository}/manifests/{digest}"), bytes);
        digest
    }

    pub fn put_raw(&self, path: &str, bytes: &[u8]) {
        self.state
            .content
            .lock()
            .unwrap()
            .insert(path.to_owned(), bytes.to_vec());
    }

    /// The next `times` answers whose path contains `part` go wrong.
    pub fn fault(&self, part: &str, fault: Fault, times: usize) {
        self.state
            .faults
            .lock()
            .unwrap()
            .push((part.to_owned(), fault, times));
    }

    pub fn require_login(&self, login: &str) {
        *self.state.login.lock().unwrap() = Some(login.to_owned());
    }

    pub fn forget_ranges(&self) {
        *self.state.ranges.lock().unwrap() = false;
    }

    /// `METHOD path` of each request so far that contains `part`.
    pub fn asked(&self, part: &str) -> Vec<String> {
        self.state
            .log
            .lock()
            .unwrap()
            .iter()
            .filter(|l| l.contains(part))
            .cloned()
            .collect()
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, state.clone()));
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _closed = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let query = request
        .uri()
        .query()
        .map(|q| format!("?{q}"))
        .unwrap_or_default();
    let offset = request.headers().get("range").and_then(|v| {
        v.to_str()
            .ok()?
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let range = offset
        .map(|o: usize| format!(" from {o}"))
        .unwrap_or_default();
    state
        .log
        .lock()
        .unwrap()
        .push(format!("{} {path}{query}{range}", request.method()));
    let given = request
        .headers()
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let respond = |status: u16| Response::builder().status(status);
    let login = state.login.lock().unwrap().clone();
    if let Some(login) = login {
        use base64::Engine as _;
        let basic = format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(login)
        );
        if path == "/token" {
            let (status, body) = if given == basic {
                (200, "{\"token\":\"open-sesame\"}")
            } else {
                (401, "{}")
            };
            return Ok(respond(status).body(full(body)).unwrap());
        }
        if given != "Bearer open-sesame" {
            let address = state.address.lock().unwrap().clone();
            let challenge = format!(
                "Bearer realm=\"http://{address}/token\",service=\"test\",scope=\"repository:x:pull\""
            );
            let body = "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}";
            return Ok(respond(401)
                .header("www-authenticate", challenge)
                .body(full(body))
                .unwrap());
        }
    }
    let fault = take_fault(&state, &path);
    let found = state.content.lock().unwrap().get(&path).cloned();
    let Some(mut bytes) = found else {
        return Ok(respond(404).body(full("{\"errors\":[]}")).unwrap());
    };
    let mut cut = None;
    match fault {
        Some(Fault::Status(status)) => return Ok(respond(status).body(full("broken")).unwrap()),
        Some(Fault::Busy(seconds)) => {
            return Ok(respond(429)
                .header("retry-after", seconds)
                .body(full("slow down"))
                .unwrap());
        }
        Some(Fault::Swap(other)) => bytes = other,
        Some(Fault::Cut(at)) => cut = Some(at),
        Some(Fault::Hold(gate)) => gate.acquire().await.unwrap().forget(),
        None => {}
    }
    let digest = Digest::of(&bytes).to_string();
    let ranges = *state.ranges.lock().unwrap();
    let (status, bytes) = match offset.filter(|_| ranges) {
        Some(offset) if offset >= bytes.len() => return Ok(respond(416).body(full("")).unwrap()),
        Some(offset) => (StatusCode::PARTIAL_CONTENT, bytes.split_off(offset)),
        None => (StatusCode::OK, bytes),
    };
    let response = Response::builder()
        .status(status)
        .header("content-length", bytes.len());
    let response = if path.contains("/manifests/") {
        response.header("docker-content-digest", digest)
    } else {
        response
    };
    if request.method() == http::Method::HEAD {
        return Ok(response.body(full("")).unwrap());
    }
    let body = match cut {
        None => full(bytes),
        Some(at) => {
            let part = Bytes::copy_from_slice(&bytes[..at.min(bytes.len())]);
            // The server sends what it has when the body makes it wait, and breaks off after that.
            let broken = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            let frames = stream::once(async { Ok(Frame::data(part)) }).chain(broken);
            BodyExt::boxed(StreamBody::new(frames))
        }
    };
    Ok(response.body(body).unwrap())
}

fn take_fault(state: &State, path: &str) -> Option<Fault> {
    let mut faults = state.faults.lock().unwrap();
    let (_, fault, times) = faults
        .iter_mut()
        .find(|(part, _, times)| path.contains(part.as_str()) && *times > 0)?;
    *times -= 1;
    Some(fault.clone())
}
