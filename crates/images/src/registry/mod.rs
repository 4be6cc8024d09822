//! The distribution protocol's pull side: one [`Registry`] serves one pull of one repository.
//!
//! It asks the configured endpoints in order, answers their challenges, follows redirects (credentials stay behind) and
//! is patient with 429 and 5xx. What an endpoint does not have, the next one may. It keeps no tasks.

pub(crate) mod blob;
mod challenge;
mod transport;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
    USER_AGENT,
};
use http::uri::{Scheme, Uri};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use ports::images::{AuthConfig, ImageError};
use serde::Deserialize;

use crate::credentials::{CredentialsError, from_docker_config};
use crate::digest::Digest;
use crate::error::{chain, refused};
use crate::hosts::{Endpoint, HostsConfig, Retry, endpoints};
use crate::manifest;
use crate::reference::Reference;
use challenge::Challenge;
use transport::Transport;

/// Largest manifest, index or configuration taken.
pub(crate) const DOCUMENT_MAX: u64 = 8 << 20;
const ANSWER_MAX: u64 = 1 << 20;
const REDIRECTS_MAX: u32 = 10;
/// Longest `Retry-After` that is waited for; beyond it the pull fails and its caller backs off.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
const AGENT: &str = concat!("carob/", env!("CARGO_PKG_VERSION"));

/// The repository a pull is about, at all places that serve it.
pub(crate) struct Registry {
    reference: Reference,
    places: Vec<Place>,
    auth: Option<AuthConfig>,
    docker_config: Option<PathBuf>,
    pub(crate) retry: Retry,
}

struct Place {
    endpoint: Endpoint,
    transport: Transport,
    /// `Authorization` that worked, by scope being constant for one pull.
    authorization: Mutex<Option<HeaderValue>>,
}

/// Why one endpoint did not serve a request.
pub(crate) enum Miss {
    /// It could not be reached, or broke off.
    Unreachable(String),
    NotFound,
    Denied(String),
    /// Any other answer.
    Status(StatusCode, String),
}

impl Miss {
    /// The more telling miss is reported when no endpoint serves: containerd's order.
    fn weight(&self) -> u8 {
        match self {
            Self::Unreachable(_) => 0,
            Self::NotFound => 1,
            Self::Status(..) => 2,
            Self::Denied(_) => 3,
        }
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::Status(status, _) if *status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error())
    }
}

impl Registry {
    pub(crate) fn new(
        config: &HostsConfig,
        reference: &Reference,
        auth: Option<AuthConfig>,
    ) -> Result<Self, ImageError> {
        let mut places = Vec::new();
        for endpoint in endpoints(config, reference.domain())? {
            let transport = Transport::new(&endpoint)?;
            places.push(Place {
                endpoint,
                transport,
                authorization: Mutex::default(),
            });
        }
        let docker_config = config.docker_config.clone();
        Ok(Self {
            reference: reference.clone(),
            places,
            auth,
            docker_config,
            retry: config.retry,
        })
    }

    /// The digest the reference stands for now, without spending a download when the registry tells it in a header.
    /// With the digest come the document's bytes if they had to be fetched.
    pub(crate) async fn resolve(&self) -> Result<(Digest, Option<Bytes>), ImageError> {
        if let Some(digest) = self.reference.digest() {
            return Ok((digest.clone(), None));
        }
        let pin = self.reference.pin();
        let mut worst = None;
        for place in self.places.iter().filter(|p| p.endpoint.resolve) {
            match self.resolve_at(place, &pin).await {
                Ok(found) => return Ok(found),
                Err(miss) => note(&mut worst, place, miss),
            }
        }
        Err(self.failure(worst))
    }

    async fn resolve_at(&self, place: &Place, pin: &str) -> Result<(Digest, Option<Bytes>), Miss> {
        let path = format!("manifests/{pin}");
        let head = self.request(place, Method::HEAD, &path, None).await?;
        let told = head
            .headers()
            .get("docker-content-digest")
            .and_then(|v| v.to_str().ok())
            .and_then(Digest::parse);
        if let Some(digest) = told {
            return Ok((digest, None));
        }
        let answer = self.request(place, Method::GET, &path, None).await?;
        let bytes = self.collect(answer, DOCUMENT_MAX).await?;
        Ok((Digest::of(&bytes), Some(bytes)))
    }

    /// A manifest or index by digest, verified.
    pub(crate) async fn manifest(&self, digest: &Digest) -> Result<Bytes, ImageError> {
        self.document(digest, &format!("manifests/{digest}"), None)
            .await
    }

    /// A configuration, verified against its descriptor.
    pub(crate) async fn config(
        &self,
        descriptor: &manifest::Descriptor,
    ) -> Result<Bytes, ImageError> {
        if descriptor.size > DOCUMENT_MAX {
            return Err(refused(
                &descriptor.digest,
                format!("configuration of {} bytes", descriptor.size),
            ));
        }
        self.document(
            &descriptor.digest,
            &format!("blobs/{}", descriptor.digest),
            Some(descriptor.size),
        )
        .await
    }

    async fn document(
        &self,
        digest: &Digest,
        path: &str,
        size: Option<u64>,
    ) -> Result<Bytes, ImageError> {
        let mut worst = None;
        for place in self.places.iter().filter(|p| p.endpoint.pull) {
            let fetched = async {
                let answer = self.request(place, Method::GET, path, None).await?;
                self.collect(answer, DOCUMENT_MAX).await
            };
            match fetched.await {
                Ok(bytes) => {
                    let found = Digest::of(&bytes);
                    if found != *digest {
                        return Err(refused(digest, format!("content has digest {found}")));
                    }
                    if size.is_some_and(|size| size != bytes.len() as u64) {
                        return Err(refused(
                            digest,
                            format!(
                                "has {} bytes, its descriptor says {}",
                                bytes.len(),
                                size.unwrap_or(0)
                            ),
                        ));
                    }
                    return Ok(bytes);
                }
                Err(miss) => note(&mut worst, place, miss),
            }
        }
        Err(self.failure(worst))
    }

    /// One request at one place, challenges answered and stumbles waited out.
    async fn request(
        &self,
        place: &Place,
        method: Method,
        path: &str,
        offset: Option<u64>,
    ) -> Result<Response<Incoming>, Miss> {
        let mut delay = self.retry.first_delay;
        let mut attempt = 1;
        loop {
            let (miss, wait) = match self.authorized(place, &method, path, offset).await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let wait = retry_after(answer.headers());
                    (self.read_failure(answer).await, wait)
                }
                Err(miss) => (miss, None),
            };
            let patient = wait.is_none_or(|w| w <= RETRY_AFTER_MAX);
            if attempt >= self.retry.attempts || !miss.is_transient() || !patient {
                return Err(miss);
            }
            tokio::time::sleep(wait.unwrap_or(delay)).await;
            delay *= 2;
            attempt += 1;
        }
    }

    async fn authorized(
        &self,
        place: &Place,
        method: &Method,
        path: &str,
        offset: Option<u64>,
    ) -> Result<Response<Incoming>, Miss> {
        let endpoint = &place.endpoint;
        let namespace = endpoint
            .namespace
            .as_ref()
            .map(|n| format!("?ns={}", encode(n)))
            .unwrap_or_default();
        let url = format!(
            "{}://{}{}/{}/{path}{namespace}",
            endpoint.scheme,
            endpoint.authority,
            endpoint.prefix,
            self.reference.path()
        );
        let uri: Uri = url
            .parse()
            .map_err(|e| Miss::Unreachable(format!("{url}: {e}")))?;
        let known = place
            .authorization
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone();
        let answer = self.send(place, method, uri.clone(), known, offset).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let Some(challenge) = challenge::read(answer.headers()) else {
            return Ok(answer);
        };
        let Some(fresh) = self.answer_challenge(place, challenge).await? else {
            return Ok(answer);
        };
        *place
            .authorization
            .lock()
            .unwrap_or_else(|e| e.into_inner()) = Some(fresh.clone());
        self.send(place, method, uri, Some(fresh), offset).await
    }

    /// Sends and follows redirects. Another host gets neither our credentials nor the endpoint's own headers.
    async fn send(
        &self,
        place: &Place,
        method: &Method,
        mut uri: Uri,
        authorization: Option<HeaderValue>,
        offset: Option<u64>,
    ) -> Result<Response<Incoming>, Miss> {
        let home = uri.authority().cloned();
        for _ in 0..=REDIRECTS_MAX {
            let at_home = uri.authority() == home.as_ref();
            let mut request = Request::builder()
                .method(method.clone())
                .uri(uri.clone())
                .header(USER_AGENT, AGENT);
            if let Some(offset) = offset.filter(|o| *o > 0) {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            if at_home {
                request = request.header(ACCEPT, manifest::ACCEPT);
                for (name, value) in &place.endpoint.headers {
                    request = request.header(name, value);
                }
                if let Some(value) = &authorization {
                    request = request.header(AUTHORIZATION, value);
                }
            }
            let answer = self.exchange(place, request.body(Full::default())).await?;
            if !answer.status().is_redirection() || answer.status() == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            uri = redirect(&uri, answer.headers())?;
        }
        Err(Miss::Unreachable("too many redirects".to_owned()))
    }

    async fn exchange(
        &self,
        place: &Place,
        request: http::Result<Request<Full<Bytes>>>,
    ) -> Result<Response<Incoming>, Miss> {
        let request = request.map_err(|e| Miss::Unreachable(e.to_string()))?;
        match tokio::time::timeout(self.retry.idle, place.transport.send(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(Miss::Unreachable(chain(&e))),
            Err(_) => Err(Miss::Unreachable("no answer in time".to_owned())),
        }
    }

    async fn answer_challenge(
        &self,
        place: &Place,
        challenge: Challenge,
    ) -> Result<Option<HeaderValue>, Miss> {
        let credentials = self.credentials(&place.endpoint);
        let basic = credentials
            .as_ref()
            .filter(|c| !c.username.is_empty() && c.identity_token.is_empty())
            .map(basic);
        let (realm, service, scope) = match challenge {
            Challenge::Basic => return Ok(basic),
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => (realm, service, scope),
        };
        let uri: Uri = realm
            .parse()
            .map_err(|_| Miss::Denied(format!("invalid token server {realm:?}")))?;
        if place.endpoint.scheme == Scheme::HTTPS && uri.scheme() != Some(&Scheme::HTTPS) {
            return Err(Miss::Denied(format!(
                "token server {realm} is not reached over TLS"
            )));
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.path()));
        let mut fields = vec![("scope", scope)];
        fields.extend(service.map(|s| ("service", s)));
        let request = match credentials.filter(|c| !c.identity_token.is_empty()) {
            Some(c) => {
                fields.extend([
                    ("grant_type", "refresh_token".to_owned()),
                    ("refresh_token", c.identity_token),
                    ("client_id", "carob".to_owned()),
                ]);
                let form = HeaderValue::from_static("application/x-www-form-urlencoded");
                Request::post(uri)
                    .header(CONTENT_TYPE, form)
                    .header(USER_AGENT, AGENT)
                    .body(Full::from(form_encode(&fields)))
            }
            None => {
                let joint = if realm.contains('?') { '&' } else { '?' };
                let mut request = Request::get(format!("{realm}{joint}{}", form_encode(&fields)))
                    .header(USER_AGENT, AGENT);
                if let Some(basic) = basic {
                    request = request.header(AUTHORIZATION, basic);
                }
                request.body(Full::default())
            }
        };
        let answer = self.exchange(place, request).await?;
        if !answer.status().is_success() {
            return Err(match self.read_failure(answer).await {
                Miss::Status(status, words)
                    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS =>
                {
                    Miss::Denied(words)
                }
                Miss::NotFound => Miss::Denied("token server not found".to_owned()),
                other => other,
            });
        }
        let body = self.collect(answer, ANSWER_MAX).await?;
        token(&body)
            .map(Some)
            .ok_or_else(|| Miss::Denied("token server sent no token".to_owned()))
    }

    /// What a pull secret says, for whichever host challenges: mirrors are the node's own choice. Else what Docker's
    /// configuration has for the host.
    fn credentials(&self, endpoint: &Endpoint) -> Option<AuthConfig> {
        self.given()
            .cloned()
            .or_else(|| self.configured(&endpoint.authority).ok().flatten())
    }

    fn given(&self) -> Option<&AuthConfig> {
        let some = |a: &&AuthConfig| !a.username.is_empty() || !a.identity_token.is_empty();
        self.auth.as_ref().filter(some)
    }

    fn configured(&self, host: &str) -> Result<Option<AuthConfig>, CredentialsError> {
        match &self.docker_config {
            Some(file) => from_docker_config(file, host),
            None => Ok(None),
        }
    }

    async fn read_failure(&self, answer: Response<Incoming>) -> Miss {
        #[derive(Deserialize, Default)]
        struct Failures {
            #[serde(default)]
            errors: Vec<Failure>,
            /// What token servers say.
            #[serde(default)]
            details: String,
        }
        #[derive(Deserialize)]
        struct Failure {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let status = answer.status();
        let body = self.collect(answer, ANSWER_MAX).await.unwrap_or_default();
        let failures: Failures = serde_json::from_slice(&body).unwrap_or_default();
        let words = failures.errors.first().map(|f| {
            format!(
                "{}: {}",
                f.code.to_ascii_lowercase().replace('_', " "),
                f.message
            )
        });
        let details = Some(failures.details).filter(|d| !d.is_empty());
        let words = words.or(details).unwrap_or_else(|| status.to_string());
        match status {
            StatusCode::NOT_FOUND => Miss::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Miss::Denied(words),
            _ => Miss::Status(status, words),
        }
    }

    async fn collect(&self, answer: Response<Incoming>, limit: u64) -> Result<Bytes, Miss> {
        let mut body = answer.into_body();
        let mut bytes = BytesMut::new();
        loop {
            let frame = match tokio::time::timeout(self.retry.idle, body.frame()).await {
                Ok(None) => return Ok(bytes.freeze()),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(e))) => return Err(Miss::Unreachable(chain(&e))),
                Err(_) => return Err(Miss::Unreachable("no answer in time".to_owned())),
            };
            if let Some(data) = frame.data_ref() {
                if bytes.len() as u64 + data.len() as u64 > limit {
                    return Err(Miss::Unreachable(format!(
                        "an answer of more than {limit} bytes"
                    )));
                }
                bytes.extend_from_slice(data);
            }
        }
    }

    fn failure(&self, worst: Option<(String, Miss)>) -> ImageError {
        let reference = self.reference.to_string();
        match worst {
            None => refused(reference, "no configured host may serve it"),
            Some((_, Miss::NotFound)) => ImageError::NotFound { reference },
            Some((host, Miss::Denied(words))) => {
                let mut reason = format!(
                    "repository does not exist or may require authorization: server message: {words}"
                );
                // Only now does it matter: what is public needs no credentials.
                if self.given().is_none()
                    && let Err(why) = self.configured(&host)
                {
                    reason.push_str(&format!("; {}", chain(&why)));
                }
                ImageError::Unauthorized { reference, reason }
            }
            Some((host, Miss::Unreachable(words))) => ImageError::Unreachable {
                host,
                source: words.into(),
            },
            Some((host, Miss::Status(status, words))) => ImageError::Unreachable {
                host,
                source: format!("unexpected status {status}: {words}").into(),
            },
        }
    }
}

fn note(worst: &mut Option<(String, Miss)>, place: &Place, miss: Miss) {
    let host = place.endpoint.authority.clone();
    if let Miss::Unreachable(why) | Miss::Denied(why) | Miss::Status(_, why) = &miss {
        tracing::debug!(host, why, "endpoint does not serve");
    }
    if worst
        .as_ref()
        .is_none_or(|(_, w)| w.weight() <= miss.weight())
    {
        *worst = Some((host, miss));
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()
        .map(Duration::from_secs)
}

fn redirect(from: &Uri, headers: &HeaderMap) -> Result<Uri, Miss> {
    let bad = || Miss::Unreachable("a redirect to nowhere".to_owned());
    let target = headers
        .get(LOCATION)
        .and_then(|v| v.to_str().ok())
        .ok_or_else(bad)?;
    let (scheme, authority) = (
        from.scheme_str().unwrap_or("https"),
        from.authority().map(|a| a.as_str()).unwrap_or_default(),
    );
    let absolute = if target.starts_with("//") {
        format!("{scheme}:{target}")
    } else if target.starts_with('/') {
        format!("{scheme}://{authority}{target}")
    } else {
        target.to_owned()
    };
    let uri: Uri = absolute.parse().map_err(|_| bad())?;
    match (uri.scheme_str(), scheme) {
        (Some("https"), _) | (Some("http"), "http") => Ok(uri),
        (Some("http"), _) => Err(Miss::Unreachable("a redirect away from TLS".to_owned())),
        _ => Err(bad()),
    }
}

fn basic(credentials: &AuthConfig) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{}:{}", credentials.username, credentials.password));
    sensitive(format!("Basic {encoded}")).unwrap_or(HeaderValue::from_static("Basic"))
}

fn token(body: &[u8]) -> Option<HeaderValue> {
    #[derive(Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Token = serde_json::from_slice(body).ok()?;
    let text = answer
        .token
        .filter(|t| !t.is_empty())
        .or(answer.access_token)
        .filter(|t| !t.is_empty())?;
    sensitive(format!("Bearer {text}"))
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Percent-encoding of everything but unreserved characters (RFC 3986 §2.3).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn form_encode(fields: &[(&str, String)]) -> String {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(k, v)| format!("{k}={}", encode(v)))
        .collect();
    pairs.join("&")
}
