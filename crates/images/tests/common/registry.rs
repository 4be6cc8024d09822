//! A registry on loopback that serves what it is given, and stumbles as it is told. With a [`super::tls::Authority`] it speaks TLS.

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
use tokio_rustls::TlsAcceptor;

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
    /// `user:password` that the token server wants, or an identity token; nobody is asked when there is none.
    login: Mutex<Option<Login>>,
    /// Tokens given out so far; only the latest of them is good.
    tokens: Mutex<usize>,
    /// Part of a path whose next request finds its token expired.
    expiry: Mutex<Option<String>>,
    ranges: Mutex<bool>,
    /// `http://127.0.0.1:1234`
    url: Mutex<String>,
}

/// Who may have a token.
#[derive(Clone)]
pub enum Login {
    /// `user:password`, by GET.
    Basic(String),
    /// An identity token, by POST.
    Identity(String),
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
        Self::serving(None).await
    }

    /// Behind TLS with this certificate.
    pub async fn start_tls(config: rustls::ServerConfig) -> Self {
        Self::serving(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serving(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(State {
            ranges: Mutex::new(true),
            url: Mutex::new(format!("{scheme}://{address}")),
            ..State::default()
        });
        let server = tokio::spawn(serve(listener, tls, state.clone()));
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
        *self.state.login.lock().unwrap() = Some(Login::Basic(login.to_owned()));
    }

    pub fn require_identity(&self, token: &str) {
        *self.state.login.lock().unwrap() = Some(Login::Identity(token.to_owned()));
    }

    /// Tokens given so far expire at the next request whose path contains `part`.
    pub fn expire_tokens_at(&self, part: &str) {
        *self.state.expiry.lock().unwrap() = Some(part.to_owned());
    }

    pub fn url(&self) -> String {
        self.state.url.lock().unwrap().clone()
    }

    /// Challenges name another place than this one for tokens.
    pub fn send_to(&self, url: &str) {
        *self.state.url.lock().unwrap() = url.to_owned();
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

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (state, tls) = (state.clone(), tls.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, state.clone()));
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let Some(tls) = tls else {
                let _closed = server.serve_connection(TokioIo::new(stream), service).await;
                return;
            };
            // A client that does not trust us goes away in the handshake.
            if let Ok(stream) = tls.accept(stream).await {
                let _closed = server.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

/// What the token server says: to GET with a password, to POST with an identity token.
async fn token(request: Request<Incoming>, login: &Login, state: &State) -> (u16, String) {
    let given = header(&request, "authorization");
    let form = request.into_body().collect().await.unwrap().to_bytes();
    let form = String::from_utf8(form.to_vec()).unwrap();
    let good = match login {
        Login::Basic(login) => {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(login);
            given == format!("Basic {encoded}")
        }
        Login::Identity(identity) => {
            let has = |pair: &str| form.split('&').any(|p| p == pair);
            has("grant_type=refresh_token") && has(&format!("refresh_token={identity}"))
        }
    };
    if !good {
        return (
            401,
            "{\"details\":\"incorrect username or password\"}".into(),
        );
    }
    let mut tokens = state.tokens.lock().unwrap();
    *tokens += 1;
    (
        200,
        format!("{{\"access_token\":\"open-sesame-{tokens}\"}}"),
    )
}

fn header(request: &Request<Incoming>, name: &str) -> String {
    let value = request.headers().get(name).and_then(|v| v.to_str().ok());
    value.unwrap_or_default().to_owned()
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
    let respond = |status: u16| Response::builder().status(status);
    let login = state.login.lock().unwrap().clone();
    if let Some(login) = login {
        if path == "/token" {
            let (status, body) = token(request, &login, &state).await;
            return Ok(respond(status).body(full(body)).unwrap());
        }
        let expired = state
            .expiry
            .lock()
            .unwrap()
            .take_if(|p| path.contains(p.as_str()));
        let good = format!("Bearer open-sesame-{}", state.tokens.lock().unwrap());
        if expired.is_some() || header(&request, "authorization") != good {
            let url = state.url.lock().unwrap().clone();
            let challenge = format!(
                "Bearer realm=\"{url}/token\",service=\"test\",scope=\"repository:x:pull\""
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
