//! Credentials out of Docker's `config.json`. Helper programs (`credsStore`, `credHelpers`) are not run: nothing installed
//! on the host may decide whether a pull works.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ports::images::AuthConfig;
use serde::Deserialize;

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
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

/// What `file` holds for the host, or for docker.io by its old name. A file that cannot be read holds nothing.
pub(crate) fn from_docker_config(file: &Path, host: &str) -> Option<AuthConfig> {
    let text = fs::read(file).ok()?;
    let config: ConfigJson = match serde_json::from_slice(&text) {
        Ok(config) => config,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "credentials file is malformed");
            return None;
        }
    };
    let canonical = |key: &str| {
        let bare = key
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        let name = bare.split('/').next().unwrap_or_default();
        if matches!(
            name,
            "index.docker.io" | "docker.io" | "registry-1.docker.io"
        ) {
            "docker.io".to_owned()
        } else {
            name.to_owned()
        }
    };
    let wanted = canonical(host);
    config
        .auths
        .iter()
        .find(|(key, _)| canonical(key) == wanted)
        .and_then(|(_, entry)| entry.read())
}

impl Entry {
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
            ("broken.io", None),
        ];
        for (host, expected) in rows {
            let expected = expected.map(|(u, p, t)| AuthConfig {
                username: u.into(),
                password: p.into(),
                identity_token: t.into(),
            });
            assert_eq!(from_docker_config(file.path(), host), expected, "{host}");
        }
        assert_eq!(
            from_docker_config(Path::new("/no/such/file"), "reg.io"),
            None
        );
    }
}
