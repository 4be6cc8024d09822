//! Texts from the web, for `-f URL`: read as kubectl reads them, redirects followed, faults of the server asked thrice.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::header::LOCATION;
use http::uri::{Authority, Scheme};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;

/// Requests before a server's fault (5xx, or no answer) is told.
const ATTEMPTS: u32 = 3;
/// Between two of them.
const PAUSE: Duration = Duration::from_secs(1);
/// Most redirects in a row.
const REDIRECTS: u32 = 10;
/// Most bytes of a text: far more than a server takes of a manifest.
const LIMIT: usize = 64 << 20;

/// Whether `-f` names something on the web.
pub(crate) fn is_url(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

/// The text at an address. HTTPS is trusted by the machine's own certificates.
///
/// # Errors
/// When nobody answers, the answer is not 200, too long, or no text.
pub(crate) async fn text(url: &str) -> anyhow::Result<String> {
    let mut attempt = 1;
    loop {
        match get(url).await {
            Ok((StatusCode::OK, bytes)) => {
                return String::from_utf8(bytes).with_context(|| format!("read {url}"));
            }
            Ok((code, _)) if !code.is_server_error() || attempt == ATTEMPTS => bail!(
                "unable to read URL {url:?}, server reported {code}, status code={}",
                code.as_u16()
            ),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Ok(_) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
        attempt += 1;
    }
}

/// What the last of a chain of redirects answers.
async fn get(url: &str) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let failed = || format!("Get {url:?}");
    let mut uri: Uri = url.parse().with_context(failed)?;
    for _ in 0..REDIRECTS {
        let response = ask(&uri).await.with_context(failed)?;
        let code = response.status();
        let place = response.headers().get(LOCATION);
        match place.filter(|_| code.is_redirection()) {
            Some(place) => {
                let place = place.to_str().with_context(failed)?;
                uri = resolve(&uri, place).with_context(failed)?;
            }
            None => {
                let body = Limited::new(response.into_body(), LIMIT).collect().await;
                let bytes = body.map_err(|error| anyhow!(error)).with_context(failed)?;
                return Ok((code, bytes.to_bytes().into()));
            }
        }
    }
    bail!("{}: stopped after {REDIRECTS} redirects", failed())
}

async fn ask(uri: &Uri) -> anyhow::Result<http::Response<Body>> {
    let authority = uri.authority().context("it names no host")?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).body(Body::empty())?;
    // A client like any other: what makes it one of Kubernetes is its configuration, and this one has none.
    let client = kube::Client::try_from(kube::Config::new(root(uri, authority)?))?;
    Ok(client.send(request).await?)
}

fn root(uri: &Uri, authority: &Authority) -> anyhow::Result<Uri> {
    let scheme = uri.scheme().cloned().unwrap_or(Scheme::HTTP);
    let root = Uri::builder().scheme(scheme).authority(authority.clone());
    Ok(root.path_and_query("/").build()?)
}

/// Where a redirect leads (RFC 3986 §5.2, without dot segments).
fn resolve(from: &Uri, place: &str) -> anyhow::Result<Uri> {
    if is_url(place) {
        return Ok(place.parse()?);
    }
    let scheme = from.scheme_str().unwrap_or("http");
    let host = from.authority().map_or("", Authority::as_str);
    let text = if place.starts_with("//") {
        format!("{scheme}:{place}")
    } else if place.starts_with('/') {
        format!("{scheme}://{host}{place}")
    } else {
        let directory = from.path().rsplit_once('/').map_or("", |(dir, _)| dir);
        format!("{scheme}://{host}{directory}/{place}")
    };
    Ok(text.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_on() {
        let from: Uri = "https://a.example:8443/x/y?q".parse().expect("an address");
        for (place, to) in [
            ("http://b.example/z", "http://b.example/z"),
            ("//b.example/z", "https://b.example/z"),
            ("/z?r", "https://a.example:8443/z?r"),
            ("z", "https://a.example:8443/x/z"),
        ] {
            assert_eq!(resolve(&from, place).expect(place).to_string(), to);
        }
        assert!(resolve(&from, "http://[").is_err());
    }

    #[test]
    fn names_that_are_addresses() {
        assert!(is_url("http://a/b") && is_url("https://a"));
        assert!(!is_url("httpd.yaml") && !is_url("./http://a") && !is_url("-"));
    }
}
