//! Which hosts serve a registry's content: containerd's `hosts.toml` layout.
//!
//! `<certs_dir>/<host>[_<port>_]/hosts.toml`, else `<certs_dir>/<host>[:<port>]/`, else `_default/`. The `[host."URL"]`
//! tables are tried in the order of the file, then `server`, then the registry itself when there is no `server`. A
//! directory without a `hosts.toml` may hold Docker's `*.crt`, `*.cert` and `*.key` files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::uri::{Scheme, Uri};
use ports::images::ImageError;
use serde::Deserialize;

use crate::error::{io as io_error, refused};

const HOSTS_MAX: u64 = 1 << 20;
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
const HUB: &str = "registry-1.docker.io";

/// Where registries are and how to speak to them.
#[derive(Debug, Clone, Default)]
pub struct HostsConfig {
    /// Directory of per-registry directories (`/etc/carob/certs.d`). Absent or missing: every registry by its own name.
    pub certs_dir: Option<PathBuf>,
    /// Docker's `config.json`, for credentials when a pull brings none.
    pub docker_config: Option<PathBuf>,
    /// Patience with a registry that stumbles.
    pub retry: Retry,
}

/// How often and how fast to try again after a dropped connection, a 429 or a 5xx.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all without progress.
    pub attempts: u32,
    /// Wait after the first failure; doubles each time. A `Retry-After` takes its place.
    pub first_delay: Duration,
    /// Longest wait for one more byte or for an answer.
    pub idle: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_delay: Duration::from_millis(250),
            idle: Duration::from_secs(60),
        }
    }
}

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: Scheme,
    /// Host and port.
    pub(crate) authority: String,
    /// What stands before `/<repository>/…`; `/v2` unless overridden.
    pub(crate) prefix: String,
    /// Serves content by digest.
    pub(crate) pull: bool,
    /// Turns tags into digests.
    pub(crate) resolve: bool,
    /// Asked on behalf of this other registry (`?ns=`).
    pub(crate) namespace: Option<String>,
    pub(crate) skip_verify: bool,
    pub(crate) ca: Vec<PathBuf>,
    /// Certificate and key files; the key may be in the certificate's file.
    pub(crate) client: Vec<(PathBuf, PathBuf)>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) dial_timeout: Duration,
}

impl Endpoint {
    /// Who says how TLS is to be checked says that there is TLS, on loopback too.
    fn expect_tls(&mut self) {
        if self.skip_verify || !self.ca.is_empty() || !self.client.is_empty() {
            self.scheme = Scheme::HTTPS;
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HostTable {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<toml::Value>,
    skip_verify: bool,
    header: toml::Table,
    override_path: bool,
    dial_timeout: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Debug, Deserialize)]
struct HostsFile {
    server: Option<String>,
    /// In the file's order.
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    root: HostTable,
}

/// The places to ask for what `domain` has, in order.
pub(crate) fn endpoints(config: &HostsConfig, domain: &str) -> Result<Vec<Endpoint>, ImageError> {
    let Some(directory) = config
        .certs_dir
        .as_deref()
        .and_then(|root| directory(root, domain))
    else {
        return Ok(vec![own(domain)]);
    };
    let file = directory.join("hosts.toml");
    match fs::metadata(&file) {
        Ok(metadata) if metadata.len() > HOSTS_MAX => {
            return Err(refused(file.display(), "too long"));
        }
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return docker_style(&directory, domain),
        Err(e) => return Err(io_error(format!("read {}", file.display()))(e)),
    }
    let text = fs::read_to_string(&file).map_err(io_error(format!("read {}", file.display())))?;
    parse(&text, &directory, domain).map_err(|reason| refused(file.display(), reason))
}

fn directory(root: &Path, domain: &str) -> Option<PathBuf> {
    let underscored = domain
        .rsplit_once(':')
        .map(|(host, port)| format!("{host}_{port}_"));
    let names = [underscored.as_deref(), Some(domain), Some("_default")];
    names
        .into_iter()
        .flatten()
        .map(|name| root.join(name))
        .find(|path| path.is_dir())
}

fn parse(text: &str, directory: &Path, domain: &str) -> Result<Vec<Endpoint>, String> {
    let file: HostsFile = toml::from_str(text).map_err(|e| e.message().to_owned())?;
    let mut found = Vec::new();
    for (url, table) in file.host {
        let table: HostTable = table
            .try_into()
            .map_err(|e: toml::de::Error| format!("host {url:?}: {}", e.message()))?;
        found.push(endpoint(Some(&url), table, directory, domain)?);
    }
    found.push(endpoint(
        file.server.as_deref().filter(|s| !s.is_empty()),
        file.root,
        directory,
        domain,
    )?);
    Ok(found)
}

fn endpoint(
    url: Option<&str>,
    table: HostTable,
    directory: &Path,
    domain: &str,
) -> Result<Endpoint, String> {
    let named = url.is_some();
    let mut endpoint = match url {
        Some(url) => at_url(url, table.override_path, domain)?,
        None => own(domain),
    };
    if let Some(capabilities) = table.capabilities {
        (endpoint.pull, endpoint.resolve) = (false, false);
        for capability in capabilities {
            match capability.to_ascii_lowercase().as_str() {
                "pull" => endpoint.pull = true,
                "resolve" => endpoint.resolve = true,
                "push" => {}
                other => return Err(format!("unknown capability {other}")),
            }
        }
    }
    endpoint.skip_verify |= table.skip_verify;
    endpoint.ca = table
        .ca
        .map(OneOrMany::into_vec)
        .unwrap_or_default()
        .iter()
        .map(|p| directory.join(p))
        .collect();
    endpoint.client = table
        .client
        .map(|v| client_files(v, directory))
        .transpose()?
        .unwrap_or_default();
    endpoint.headers = headers(table.header)?;
    if let Some(text) = table.dial_timeout {
        endpoint.dial_timeout =
            duration(&text).ok_or_else(|| format!("invalid dial_timeout {text:?}"))?;
    }
    if !named {
        endpoint.expect_tls();
    }
    Ok(endpoint)
}

fn at_url(url: &str, override_path: bool, domain: &str) -> Result<Endpoint, String> {
    let whole = if url.contains("://") {
        url.to_owned()
    } else {
        format!("https://{url}")
    };
    let uri: Uri = whole
        .parse()
        .map_err(|e| format!("invalid host {url:?}: {e}"))?;
    let scheme = uri
        .scheme()
        .filter(|s| **s == Scheme::HTTP || **s == Scheme::HTTPS)
        .ok_or_else(|| format!("invalid scheme in {url:?}"))?;
    let authority = uri
        .authority()
        .ok_or_else(|| format!("invalid host {url:?}"))?
        .to_string();
    let path = uri.path().trim_end_matches('/');
    let prefix = if override_path || path.ends_with("/v2") {
        path.to_owned()
    } else {
        format!("{path}/v2")
    };
    let itself = authority == domain || (domain == "docker.io" && authority == HUB);
    let namespace = (!itself).then(|| domain.to_owned());
    Ok(Endpoint {
        scheme: scheme.clone(),
        prefix,
        namespace,
        ..own(&authority)
    })
}

/// The registry by its own name: TLS, except on the loopback, where there is none unless the settings speak of it.
fn own(domain: &str) -> Endpoint {
    let authority = if domain == "docker.io" { HUB } else { domain };
    Endpoint {
        scheme: if is_loopback(domain) {
            Scheme::HTTP
        } else {
            Scheme::HTTPS
        },
        authority: authority.to_owned(),
        prefix: "/v2".to_owned(),
        pull: true,
        resolve: true,
        namespace: None,
        skip_verify: false,
        ca: Vec::new(),
        client: Vec::new(),
        headers: Vec::new(),
        dial_timeout: DIAL_TIMEOUT,
    }
}

fn is_loopback(domain: &str) -> bool {
    let host = match domain
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, _)) => address,
        None => domain.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// `"cert"`, `["cert", …]` or `[["cert", "key"], …]`.
fn client_files(value: toml::Value, directory: &Path) -> Result<Vec<(PathBuf, PathBuf)>, String> {
    let invalid =
        || "invalid client: expected a file, files, or pairs of certificate and key".to_owned();
    let one = |value: &toml::Value| match value {
        toml::Value::String(file) => Ok((directory.join(file), directory.join(file))),
        toml::Value::Array(pair) => match pair.as_slice() {
            [toml::Value::String(cert)] => Ok((directory.join(cert), directory.join(cert))),
            [toml::Value::String(cert), toml::Value::String(key)] if key.is_empty() => {
                Ok((directory.join(cert), directory.join(cert)))
            }
            [toml::Value::String(cert), toml::Value::String(key)] => {
                Ok((directory.join(cert), directory.join(key)))
            }
            _ => Err(invalid()),
        },
        _ => Err(invalid()),
    };
    match &value {
        toml::Value::Array(many) => many.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}

fn headers(table: toml::Table) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut found = Vec::new();
    for (name, value) in table {
        let values: OneOrMany = value
            .try_into()
            .map_err(|_| format!("invalid header {name:?}"))?;
        let key: HeaderName = name
            .parse()
            .map_err(|_| format!("invalid header {name:?}"))?;
        for value in values.into_vec() {
            found.push((
                key.clone(),
                value
                    .parse()
                    .map_err(|_| format!("invalid header {name:?}"))?,
            ));
        }
    }
    Ok(found)
}

/// Go's durations, as far as a time-out needs them: `1m30s`, `500ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_length = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let seconds = match &rest[..unit_length] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(amount * seconds).ok()?;
        rest = &rest[unit_length..];
    }
    (!total.is_zero()).then_some(total)
}

/// Docker's older layout: `*.crt` are authorities, `NAME.cert` with `NAME.key` identify us.
fn docker_style(directory: &Path, domain: &str) -> Result<Vec<Endpoint>, ImageError> {
    let mut endpoint = own(domain);
    let what = || format!("read {}", directory.display());
    for entry in fs::read_dir(directory).map_err(io_error(what()))? {
        let path = entry.map_err(io_error(what()))?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => endpoint.ca.push(path),
            Some("cert") => endpoint
                .client
                .push((path.clone(), path.with_extension("key"))),
            _ => {}
        }
    }
    endpoint.ca.sort();
    endpoint.client.sort();
    endpoint.expect_tls();
    Ok(vec![endpoint])
}

#[cfg(test)]
mod tests;
