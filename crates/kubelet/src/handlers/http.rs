//! One HTTP GET as upstream's prober makes it: HTTP/1.1, no keep-alive, TLS without verification, redirects within a host.

mod tls;
mod url;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{MOST_OUTPUT, kernel_text, tcp};
pub(crate) use url::Url;

/// Most redirects that are followed.
const MOST_REDIRECTS: usize = 10;
/// Go's words when a server does not speak TLS.
pub(crate) const NOT_TLS: &str = "http: server gave HTTP response to HTTPS client";

/// A request to be made.
#[derive(Debug, Clone)]
pub(crate) struct Get {
    pub(crate) url: Url,
    pub(crate) headers: Vec<(String, String)>,
    /// `User-Agent` unless the headers have one.
    pub(crate) agent: &'static str,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The first [`MOST_OUTPUT`] bytes.
    pub(crate) body: String,
}

impl Get {
    /// The request an action asks for.
    pub(crate) fn new(action: &HTTPGetAction, host: &str, port: u16, agent: &'static str) -> Self {
        let is_https = action
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let headers = action.http_headers.iter().flatten();
        Get {
            url: Url::new(
                is_https,
                host,
                port,
                action.path.as_deref().unwrap_or_default(),
            ),
            headers: headers
                .map(|header| (header.name.clone(), header.value.clone()))
                .collect(),
            agent,
        }
    }

    /// Makes the request and follows redirects that stay on the host.
    ///
    /// # Errors
    /// Go's words, without the `Get "URL": ` that [`Get::error`] puts before them.
    pub(crate) async fn send(&self) -> Result<Answer, String> {
        let mut url = self.url.clone();
        for _ in 0..MOST_REDIRECTS {
            let response = self.once(&url).await?;
            match redirect(&url, &response) {
                Some(next) if next.host == self.url.host => url = next,
                _ => return answer(response).await,
            }
        }
        Err(format!("stopped after {MOST_REDIRECTS} redirects"))
    }

    /// The same request over plain HTTP, without what only TLS protects.
    pub(crate) fn in_plain(&self) -> Get {
        let mut plain = self.clone();
        plain.url.is_https = false;
        plain
            .headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        plain
    }

    /// An error with the request before it, as Go's client writes it.
    pub(crate) fn error(&self, error: &str) -> String {
        format!("Get \"{}\": {error}", self.url)
    }

    async fn once(&self, url: &Url) -> Result<Response<Incoming>, String> {
        let stream = tcp::dial(&url.host, url.port).await?;
        let request = self.request(url)?;
        if url.is_https {
            exchange(tls::connect(stream, &url.host).await?, request).await
        } else {
            exchange(stream, request).await
        }
    }

    fn request(&self, url: &Url) -> Result<Request<Empty<Bytes>>, String> {
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let mut builder = Request::get(&url.target);
        if !has("host") {
            builder = builder.header(header::HOST, url.authority());
        }
        if !has("user-agent") {
            builder = builder.header(header::USER_AGENT, self.agent);
        }
        if !has("accept") {
            builder = builder.header(header::ACCEPT, "*/*");
        }
        builder = builder.header(header::CONNECTION, "close");
        for (name, value) in &self.headers {
            // An empty Accept leaves the header out.
            if !(value.is_empty() && name.eq_ignore_ascii_case("accept")) {
                builder = builder.header(name, value);
            }
        }
        builder
            .body(Empty::new())
            .map_err(|error| error.to_string())
    }
}

async fn exchange<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| words(&error))?;
    // Ends when the answer was read or dropped.
    tokio::spawn(connection);
    sender
        .send_request(request)
        .await
        .map_err(|error| words(&error))
}

fn words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return "EOF".to_owned();
    }
    if error.is_parse() {
        return "net/http: HTTP/1.x transport connection broken: malformed HTTP response"
            .to_owned();
    }
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<std::io::Error>());
    source.map_or_else(
        || error.to_string(),
        |e| format!("read: {}", kernel_text(e)),
    )
}

/// Where an answer sends the client, if it does.
fn redirect(url: &Url, response: &Response<Incoming>) -> Option<Url> {
    let moves = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(header::LOCATION).filter(|_| moves)?;
    url.join(location.to_str().ok()?)
}

async fn answer(response: Response<Incoming>) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| words(&error))?;
        let room = MOST_OUTPUT - body.len();
        let data = frame.into_data().unwrap_or_default();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if body.len() == MOST_OUTPUT {
            break;
        }
    }
    Ok(Answer {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
