//! Credentials for images out of pull secrets (spec `§4.4` rule 3, upstream's credential provider): what a secret says of which
//! registries, and which of it is about an image.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use base64::Engine;
use lifecycle::image::access::PullSecret;
use ports::images::AuthConfig;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::objects::Content;

/// Credentials of a pull secret.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) auth: AuthConfig,
    /// Where they are from.
    pub(crate) secret: PullSecret,
}

/// Where credentials are for, and what they are.
type Entry = (String, Credentials);

#[derive(Deserialize, Default)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize, Default)]
struct DockerAuth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    /// `base64(user:password)`.
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

/// Registries and credentials of a pull secret, either type.
pub(crate) fn entries(namespace: &str, name: &str, secret: &Content) -> Vec<Entry> {
    let auths = match secret.secret_type() {
        "kubernetes.io/dockercfg" => secret
            .bytes(".dockercfg")
            .and_then(|b| serde_json::from_slice(b).ok()),
        _ => secret
            .bytes(".dockerconfigjson")
            .and_then(|b| serde_json::from_slice::<DockerConfig>(b).ok())
            .map(|c| c.auths),
    };
    let auths: BTreeMap<String, DockerAuth> = auths.unwrap_or_default();
    let entry = |(host, auth): (String, DockerAuth)| {
        let auth = AuthConfig::from(auth);
        let secret = PullSecret {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: secret.uid().to_owned(),
            hash: hash(&auth),
        };
        (location(&host), Credentials { auth, secret })
    };
    auths.into_iter().map(entry).collect()
}

/// SHA-256 of credentials, in hexadecimal digits.
fn hash(auth: &AuthConfig) -> String {
    let parts = [&auth.username, &auth.password, &auth.identity_token];
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    format!("{:x}", hash.finalize())
}

impl From<DockerAuth> for AuthConfig {
    fn from(auth: DockerAuth) -> Self {
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(&auth.auth)
            .ok()
            .and_then(|b| String::from_utf8(b).ok());
        let (username, password) = match decoded.as_deref().and_then(|d| d.split_once(':')) {
            Some((user, password)) if auth.username.is_empty() => {
                (user.to_owned(), password.to_owned())
            }
            _ => (auth.username, auth.password),
        };
        AuthConfig {
            username,
            password,
            identity_token: auth.identity_token,
        }
    }
}

/// A registry as written in a pull secret, without scheme and API path; Docker Hub's old name is its new one.
fn location(written: &str) -> String {
    let bare = written
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    if bare == "index.docker.io" {
        "docker.io".to_owned()
    } else {
        bare.to_owned()
    }
}

/// The credentials that are about an image, each once: those for the longest location first, then in the order of the secrets.
pub(crate) fn about(entries: Vec<Entry>, image: &str) -> Vec<Credentials> {
    let first = image.split('/').next().unwrap_or_default();
    let has_host = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let full = if has_host {
        image.to_owned()
    } else {
        format!("docker.io/{image}")
    };
    let mut entries: Vec<Entry> = entries
        .into_iter()
        .filter(|(place, _)| is_within(&full, place))
        .collect();
    entries.sort_by_key(|(place, _)| Reverse(place.len()));
    let mut found: Vec<Credentials> = Vec::new();
    for (_, credentials) in entries {
        if found.iter().all(|known| known.auth != credentials.auth) {
            found.push(credentials);
        }
    }
    found
}

/// Whether an image is in a registry, or below a path of it. A `*`, `?` or `[…]` of the registry's name stands for something within one
/// label.
fn is_within(image: &str, place: &str) -> bool {
    let split = |text: &str| match text.split_once('/') {
        Some((host, path)) => (host.to_owned(), path.to_owned()),
        None => (text.to_owned(), String::new()),
    };
    let ((host, path), (wanted, below)) = (split(image), split(place));
    let rest = path.strip_prefix(&below);
    let is_below = rest.is_some_and(|rest| below.is_empty() || rest.starts_with(['/', ':', '@']));
    let port = |text: &str| text.split_once(':').map(|(_, port)| port.to_owned());
    let labels = |text: &str| {
        let name = text.split(':').next().unwrap_or_default();
        name.split('.').map(str::to_owned).collect::<Vec<_>>()
    };
    let (has, wants) = (labels(&host), labels(&wanted));
    is_below
        && port(&host) == port(&wanted)
        && has.len() == wants.len()
        && has
            .iter()
            .zip(&wants)
            .all(|(label, pattern)| matches(label.as_bytes(), pattern.as_bytes()))
}

/// Whether a text is as a pattern says (Go's `path.Match`, without escapes: names of hosts have none). Only the last `*` ever takes more,
/// so that no pattern takes long.
fn matches(text: &[u8], pattern: &[u8]) -> bool {
    let (mut text, mut pattern) = (text, pattern);
    let mut last_star = None;
    loop {
        if let Some((b'*', rest)) = pattern.split_first() {
            (pattern, last_star) = (rest, Some((text, rest)));
        } else if let Some(rests) = matches_one(text, pattern) {
            (text, pattern) = rests;
        } else if text.is_empty() && pattern.is_empty() {
            return true;
        } else {
            let Some((taken, rest)) = last_star else {
                return false;
            };
            let Some((_, more)) = taken.split_first() else {
                return false;
            };
            (text, pattern, last_star) = (more, rest, Some((more, rest)));
        }
    }
}

/// What is left of both when the text's first byte is as the pattern's first part says.
fn matches_one<'a>(text: &'a [u8], pattern: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (byte, text) = text.split_first()?;
    let (wanted, rest) = pattern.split_first()?;
    match wanted {
        b'[' => {
            let end = rest.iter().skip(1).position(|byte| *byte == b']')?;
            is_in(*byte, &rest[..=end]).then_some((text, &rest[end + 2..]))
        }
        b'?' => Some((text, rest)),
        _ => (wanted == byte).then_some((text, rest)),
    }
}

/// Whether a byte is in a class such as `a-cx`, or with `^` before it in none.
fn is_in(byte: u8, class: &[u8]) -> bool {
    let (is_none_of, class) = match class.split_first() {
        Some((b'^', class)) => (true, class),
        _ => (false, class),
    };
    let mut rest = class;
    let mut is_there = false;
    loop {
        match rest {
            [low, b'-', high, more @ ..] => {
                is_there |= (*low..=*high).contains(&byte);
                rest = more;
            }
            [one, more @ ..] => {
                is_there |= *one == byte;
                rest = more;
            }
            [] => return is_there != is_none_of,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(user: &str) -> Credentials {
        let auth = AuthConfig {
            username: user.into(),
            ..AuthConfig::default()
        };
        let secret = PullSecret {
            namespace: "n".into(),
            name: "s".into(),
            uid: String::new(),
            hash: hash(&auth),
        };
        Credentials { auth, secret }
    }

    #[test]
    fn the_most_specific_credentials_come_first() {
        let entries = || {
            vec![
                (location("https://index.docker.io/v1/"), auth("hub")),
                (location("reg.example:5000"), auth("all")),
                (location("reg.example:5000"), auth("too")),
                (location("reg.example:5000/team"), auth("team")),
                (location("reg.example:5000"), auth("all")),
                (location("*.cloud.example"), auth("any")),
                (location("eu?[a-c].cloud.example"), auth("some")),
            ]
        };
        let rows = [
            ("busybox:1.36", &["hub"][..]),
            ("docker.io/library/busybox", &["hub"]),
            ("reg.example:5000/other/a:1", &["all", "too"]),
            ("reg.example:5000/team/a:1", &["team", "all", "too"]),
            ("reg.example:5000/team:1", &["team", "all", "too"]),
            ("reg.example:5000/teams/a:1", &["all", "too"]),
            ("reg.example/team/a:1", &[]),
            ("quay.io/a/b", &[]),
            ("us.cloud.example/a", &["any"]),
            ("eu1b.cloud.example/a", &["some", "any"]),
            ("eu1d.cloud.example/a", &["any"]),
            ("a.b.cloud.example/a", &[]),
            ("cloud.example/a", &[]),
        ];
        for (image, want) in rows {
            let found: Vec<String> = about(entries(), image)
                .into_iter()
                .map(|found| found.auth.username)
                .collect();
            assert_eq!(found, want, "{image}");
        }
    }

    #[test]
    fn patterns_match_as_gos_do() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("[^a]x", "bx", true),
            ("[^a]x", "ax", false),
            ("[a-", "a", false),
            ("[]", "a", false),
            ("?", "", false),
            ("*b*c", "abcbd", false),
            ("*b*c", "abdbc", true),
            (&"*a".repeat(30), &"ab".repeat(30), false),
        ] {
            assert_eq!(
                matches(text.as_bytes(), pattern.as_bytes()),
                want,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn encoded_credentials_are_read() {
        let json = br#"{"auths":{"r.io":{"auth":"dTpwOng="}}}"#.to_vec();
        let secret = Content::from_bytes([(".dockerconfigjson", json)]);
        let (place, Credentials { auth, .. }) = entries("n", "s", &secret).remove(0);
        assert_eq!(
            (
                place.as_str(),
                auth.username.as_str(),
                auth.password.as_str()
            ),
            ("r.io", "u", "p:x")
        );
    }
}
