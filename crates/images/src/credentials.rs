//! Credentials out of Docker's `config.json`. Helper programs (`credsStore`, `credHelpers`) are not run: nothing installed
//! on the host may decide whether a pull works.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ports::images::AuthConfig;
use serde::Deserialize;

/// Why the file has no credentials to offer, although it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("read {file}")]
    Unreadable { file: String, source: io::Error },
    #[error("{file} is malformed: {source}")]
    Malformed {
        file: String,
        source: serde_json::Error,
    },
    #[error("{file} has no usable entry for {host}")]
    Entry { file: String, host: String },
    #[error(
        "credentials for {host} are kept by docker-credential-{helper}, which is not run; use an image pull secret or an auths entry in {file}"
    )]
    Helper {
        file: String,
        host: String,
        helper: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    creds_store: String,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

/// What `file` holds for the host, or for docker.io by its old name. A file that is not there holds nothing.
pub(crate) fn from_docker_config(
    file: &Path,
    host: &str,
) -> Result<Option<AuthConfig>, CredentialsError> {
    let name = || file.display().to_string();
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(CredentialsError::Unreadable {
                file: name(),
                source,
            });
        }
    };
    let config: ConfigJson =
        serde_json::from_slice(&text).map_err(|source| CredentialsError::Malformed {
            file: name(),
            source,
        })?;
    let wanted = canonical(host);
    let entry = config
        .auths
        .iter()
        .find(|(key, _)| canonical(key) == wanted);
    if let Some((_, entry)) = entry.filter(|(_, e)| !e.is_empty()) {
        return match entry.read() {
            Some(found) => Ok(Some(found)),
            None => Err(CredentialsError::Entry {
                file: name(),
                host: wanted,
            }),
        };
    }
    let own = config
        .cred_helpers
        .iter()
        .find(|(key, _)| canonical(key) == wanted);
    let helper = own.map_or(&config.creds_store, |(_, helper)| helper);
    if helper.is_empty() {
        return Ok(None);
    }
    Err(CredentialsError::Helper {
        file: name(),
        host: wanted,
        helper: helper.clone(),
    })
}

/// The host that a key of the file is about.
fn canonical(key: &str) -> String {
    let bare = key
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    let name = bare.split('/').next().unwrap_or_default();
    match name {
        "index.docker.io" | "docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

impl Entry {
    /// What `docker login` leaves of an entry when a helper has the rest.
    fn is_empty(&self) -> bool {
        self.auth.is_empty() && self.username.is_empty() && self.identity_token.is_empty()
    }

    fn read(&self) -> Option<AuthConfig> {
        let (mut username, mut password) = (self.username.clone(), self.password.clone());
        if !self.auth.is_empty() {
            let decoded = String::from_utf8(STANDARD.decode(&self.auth).ok()?).ok()?;
            let (user, pass) = decoded.split_once(':')?;
            (username, password) = (user.to_owned(), pass.trim_end_matches('\0').to_owned());
        }
        let empty = username.is_empty() && self.identity_token.is_empty();
        (!empty).then(|| AuthConfig {
            username,
            password,
            identity_token: self.identity_token.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_by_host() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnNlY3JldDp4"},
            "reg.io:5000": {"username": "u", "password": "p"},
            "https://token.io": {"auth": "PHRva2VuPjo=", "identitytoken": "t"},
            "empty.io": {}, "broken.io": {"auth": "%%%"}
        }}"#;
        fs::write(file.path(), text).unwrap();
        let rows = [
            ("docker.io", Some(("hub", "secret:x", ""))),
            ("registry-1.docker.io", Some(("hub", "secret:x", ""))),
            ("reg.io:5000", Some(("u", "p", ""))),
            ("token.io", Some(("<token>", "", "t"))),
            ("reg.io", None),
            ("empty.io", None),
        ];
        for (host, expected) in rows {
            let expected = expected.map(|(u, p, t)| AuthConfig {
                username: u.into(),
                password: p.into(),
                identity_token: t.into(),
            });
            let found = from_docker_config(file.path(), host).unwrap();
            assert_eq!(found, expected, "{host}");
        }
        let broken = from_docker_config(file.path(), "broken.io").unwrap_err();
        assert!(matches!(broken, CredentialsError::Entry { .. }), "{broken}");
        let nothing = from_docker_config(Path::new("/no/such/file"), "reg.io");
        assert_eq!(nothing.unwrap(), None);
    }
}
