//! As much of a kubeconfig as a benchmark needs: where the server is, whom to trust, and who we are.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The current context of a kubeconfig, with every file it names read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Access {
    /// Host name or address of the server.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// PEM of the authorities that may have signed the server's certificate; `None` trusts any.
    pub(crate) authorities: Option<Vec<u8>>,
    /// PEM of our certificate and its key.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access(https://{}:{})", self.host, self.port)
    }
}

impl Access {
    /// Reads the file and the files it names.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Access> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        Access::parse(&text, dir).with_context(|| path.display().to_string())
    }

    /// Relative names of files are below `dir`.
    fn parse(text: &str, dir: &Path) -> anyhow::Result<Access> {
        let file: Value = serde_saphyr::from_str(text).context("parse it as YAML")?;
        let context = file["current-context"]
            .as_str()
            .context("it has no current context")?;
        let context = entry(&file, "context", context)?;
        let cluster = entry(&file, "cluster", name(context, "cluster")?)?;
        let user = entry(&file, "user", name(context, "user")?)?;
        let (host, port) = address(name(cluster, "server")?)?;
        let trusts_any = cluster["insecure-skip-tls-verify"] == Value::Bool(true);
        let authorities = data(cluster, "certificate-authority", dir)?;
        if authorities.is_none() && !trusts_any {
            bail!("it names no certificate authority");
        }
        let certificate = data(user, "client-certificate", dir)?;
        Ok(Access {
            host,
            port,
            authorities: authorities.filter(|_| !trusts_any),
            identity: certificate.zip(data(user, "client-key", dir)?),
            token: user["token"].as_str().map(str::to_owned),
        })
    }
}

/// The entry called `name` of the list of `kind`s.
fn entry<'a>(file: &'a Value, kind: &str, name: &str) -> anyhow::Result<&'a Value> {
    let list = file[format!("{kind}s")].as_array();
    list.into_iter()
        .flatten()
        .find(|entry| entry["name"] == name)
        .map(|entry| &entry[kind])
        .with_context(|| format!("it has no {kind} {name}"))
}

fn name<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    value[key].as_str().with_context(|| format!("no {key}"))
}

/// What stands under `KEY-data` in base64, or in the file that `KEY` names.
fn data(value: &Value, key: &str, dir: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    if let Some(text) = value[format!("{key}-data")].as_str() {
        let bytes = STANDARD
            .decode(text)
            .with_context(|| format!("{key}-data"))?;
        return Ok(Some(bytes));
    }
    let Some(file) = value[key].as_str() else {
        return Ok(None);
    };
    let path = dir.join(file);
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(Some(bytes))
}

/// Host and port of an `https` URL without a path.
fn address(url: &str) -> anyhow::Result<(String, u16)> {
    let rest = url
        .strip_prefix("https://")
        .with_context(|| format!("{url} is not https"))?;
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (rest, "443"),
    };
    let port = port.parse().with_context(|| format!("the port of {url}"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains('/') {
        bail!("{url} has no plain host");
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATES: &str = "
apiVersion: v1
kind: Config
current-context: b
clusters:
- {name: a, cluster: {server: 'https://example.net', certificate-authority-data: WA==}}
- {name: b, cluster: {server: 'https://127.0.0.1:7000', certificate-authority-data: Q0E=}}
users:
- {name: u, user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}}
contexts:
- {name: a, context: {cluster: a, user: u}}
- {name: b, context: {cluster: b, user: u}}
";

    #[test]
    fn the_current_context_counts() {
        let access = Access::parse(CERTIFICATES, Path::new("/")).expect("parses");
        assert_eq!((access.host.as_str(), access.port), ("127.0.0.1", 7000));
        assert_eq!(access.authorities.as_deref(), Some(&b"CA"[..]));
        assert_eq!(access.identity, Some((b"CERT".to_vec(), b"KEY".to_vec())));
        assert_eq!(access.token, None);
        assert!(
            !format!("{access:?}").contains("75"),
            "keys are not printed"
        );
    }

    #[test]
    fn tokens_and_untrusted_servers_are_known() {
        let text = "
current-context: u
clusters: [{name: u, cluster: {server: 'https://[::1]:7443/', insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: secret}}]
contexts: [{name: u, context: {cluster: u, user: u}}]
";
        let access = Access::parse(text, Path::new("/")).expect("parses");
        assert_eq!((access.host.as_str(), access.port), ("::1", 7443));
        assert_eq!(access.authorities, None);
        assert_eq!(access.token.as_deref(), Some("secret"));
    }

    #[test]
    fn files_are_found_beside_the_kubeconfig() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("ca.pem"), "PEM").expect("writes");
        let text = CERTIFICATES.replace(
            "certificate-authority-data: Q0E=",
            "certificate-authority: ca.pem",
        );
        let access = Access::parse(&text, dir.path()).expect("parses");
        assert_eq!(access.authorities.as_deref(), Some(&b"PEM"[..]));
    }

    #[test]
    fn mistakes_are_told() {
        for (change, to, told) in [
            ("current-context: b", "current-context: c", "no context c"),
            (
                "https://127.0.0.1:7000",
                "http://127.0.0.1:7000",
                "not https",
            ),
            ("https://127.0.0.1:7000", "https://127.0.0.1:many", "port"),
            ("https://127.0.0.1:7000", "https://:7000", "no plain host"),
            ("certificate-authority-data: Q0E=", "x: y", "authority"),
            ("Q0VSVA==", "***", "client-certificate-data"),
        ] {
            let text = CERTIFICATES.replace(change, to);
            let error = Access::parse(&text, Path::new("/")).expect_err(told);
            assert!(format!("{error:#}").contains(told), "{error:#}");
        }
    }

    #[test]
    fn a_url_without_a_port_means_443() {
        assert_eq!(address("https://example.net").expect("parses").1, 443);
        assert_eq!(address("https://[fd00::1]").expect("parses").0, "fd00::1");
    }
}
