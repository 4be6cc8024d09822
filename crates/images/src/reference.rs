//! Image references: the distribution grammar, and the defaults that make a short name whole.
//!
//! `busybox` means `docker.io/library/busybox:latest`. The grammar, the defaults and the error texts are those of the
//! distribution project's `reference` package, because users read them in Pod events.

use std::fmt;

use ports::images::ImageError;

use crate::digest::Digest;

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const NAME_LENGTH_MAX: usize = 255;
const TAG_LENGTH_MAX: usize = 128;
const INVALID: &str = "invalid reference format";

/// A fully qualified reference. With a digest it has no tag: the digest alone decides, as in containerd.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    pin: Pin,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Pin {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    /// Reads a reference as a user writes it.
    ///
    /// # Errors
    /// [`ImageError::InvalidName`] with upstream's words when it does not follow the grammar.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        parse(text).map_err(|reason| ImageError::InvalidName {
            reference: text.to_owned(),
            reason,
        })
    }

    /// Registry as named: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository path within the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Domain and path: `docker.io/library/busybox`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag, unless it is by digest.
    pub fn tag(&self) -> Option<&str> {
        match &self.pin {
            Pin::Tag(tag) => Some(tag),
            Pin::Digest(_) => None,
        }
    }

    /// The digest, unless it is by tag.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.pin {
            Pin::Tag(_) => None,
            Pin::Digest(digest) => Some(digest),
        }
    }

    /// Tag or digest as it stands in a registry's URL.
    pub(crate) fn pin(&self) -> String {
        match &self.pin {
            Pin::Tag(tag) => tag.clone(),
            Pin::Digest(digest) => digest.to_string(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pin {
            Pin::Tag(tag) => write!(f, "{}/{}:{tag}", self.domain, self.path),
            Pin::Digest(digest) => write!(f, "{}/{}@{digest}", self.domain, self.path),
        }
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        return Err(format!(
            "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        ));
    }
    let (domain, rest) = split_domain(text);
    let name = rest.split(':').next().unwrap_or_default();
    if name.chars().any(char::is_uppercase) {
        return Err(format!(
            "{INVALID}: repository name ({name}) must be lowercase"
        ));
    }
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest.to_owned(), Some(digest)),
        None => (rest, None),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest.as_str(), None),
    };
    if !is_domain(&domain) || !is_path(path) || !tag.is_none_or(is_tag) {
        return Err(INVALID.to_owned());
    }
    if path.len() > NAME_LENGTH_MAX {
        return Err(format!(
            "repository name must not be more than {NAME_LENGTH_MAX} characters"
        ));
    }
    let pin = match digest {
        Some(digest) => Pin::Digest(Digest::parse_in_reference(digest)?),
        None => Pin::Tag(tag.unwrap_or("latest").to_owned()),
    };
    Ok(Reference {
        domain,
        path: path.to_owned(),
        pin,
    })
}

/// The first part is a registry when it could not be a Docker Hub user: it has a dot, a port, capitals, or is `localhost`.
fn split_domain(text: &str) -> (String, String) {
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.to_lowercase() != first =>
        {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    let domain = if domain == LEGACY_DOMAIN {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    let official = domain == DEFAULT_DOMAIN && !rest.contains('/');
    (
        domain.to_owned(),
        if official {
            format!("library/{rest}")
        } else {
            rest.to_owned()
        },
    )
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let plain =
                !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            (
                plain,
                rest.strip_prefix(':').or(rest.is_empty().then_some("0")),
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.split('.').all(is_domain_component), Some(port)),
            None => (text.split('.').all(is_domain_component), Some("0")),
        },
    };
    host && port.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_domain_component(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

/// Runs of lower-case letters and digits, held together by one dot, one or two underscores, or any number of dashes.
fn is_path_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let start = at;
        while at < bytes.len() && word(bytes[at]) {
            at += 1;
        }
        if at == start {
            return false;
        }
        if at == bytes.len() {
            return true;
        }
        let mark = at;
        while at < bytes.len() && bytes[at] == bytes[mark] {
            at += 1;
        }
        let longest = match bytes[mark] {
            b'.' => 1,
            b'_' => 2,
            b'-' => usize::MAX,
            _ => return false,
        };
        if at - mark > longest {
            return false;
        }
    }
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_LENGTH_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn short_names_become_whole() {
        let digest = format!("busybox@sha256:{HEX}");
        let both = format!("quay.io/a/b:1.0@sha256:{HEX}");
        let rows = [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
            (
                "library/busybox",
                "docker.io/library/busybox:latest".to_owned(),
            ),
            ("user/app:v1", "docker.io/user/app:v1".to_owned()),
            (
                "docker.io/busybox",
                "docker.io/library/busybox:latest".to_owned(),
            ),
            (
                "index.docker.io/busybox",
                "docker.io/library/busybox:latest".to_owned(),
            ),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/app:x", "localhost:5000/app:x".to_owned()),
            (
                "registry.k8s.io/e2e-test-images/agnhost:2.63.0",
                "registry.k8s.io/e2e-test-images/agnhost:2.63.0".to_owned(),
            ),
            (
                "Registry.Example.COM/app",
                "Registry.Example.COM/app:latest".to_owned(),
            ),
            ("MyHost/app", "MyHost/app:latest".to_owned()),
            ("[::1]:5000/app", "[::1]:5000/app:latest".to_owned()),
            (
                "a.b/c__d/e-----f/g.h:T_1.x-y",
                "a.b/c__d/e-----f/g.h:T_1.x-y".to_owned(),
            ),
            (
                digest.as_str(),
                format!("docker.io/library/busybox@sha256:{HEX}"),
            ),
            (both.as_str(), format!("quay.io/a/b@sha256:{HEX}")),
        ];
        for (given, expected) in rows {
            assert_eq!(
                Reference::parse(given).unwrap().to_string(),
                expected,
                "{given}"
            );
        }
    }

    #[test]
    fn errors_use_upstream_words() {
        let long = format!("x.io/{}", "a".repeat(256));
        let rows = [
            (
                "Bad Name",
                "invalid reference format: repository name (library/Bad Name) must be lowercase",
            ),
            (
                "Busybox:latest",
                "invalid reference format: repository name (library/Busybox) must be lowercase",
            ),
            ("", "invalid reference format"),
            ("busybox:", "invalid reference format"),
            ("busybox:a:b", "invalid reference format"),
            ("busybox:-x", "invalid reference format"),
            ("/busybox", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a..b/c", "invalid reference format"),
            ("-a.io/b", "invalid reference format"),
            ("a.io:port/b", "invalid reference format"),
            ("with space", "invalid reference format"),
            ("../etc/passwd", "invalid reference format"),
            ("busybox@sha256:0123", "invalid reference format"),
            (
                "busybox@sha256:0123456789abcdef0123456789abcdef",
                "invalid checksum digest length",
            ),
            (
                "busybox@md5:0123456789abcdef0123456789abcdef",
                "unsupported digest algorithm",
            ),
            (
                HEX,
                &format!(
                    "invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"
                ),
            ),
            (
                &long,
                "repository name must not be more than 255 characters",
            ),
        ];
        for (given, expected) in rows {
            let ImageError::InvalidName { reference, reason } =
                Reference::parse(given).unwrap_err()
            else {
                panic!("{given}")
            };
            assert_eq!((reference.as_str(), reason.as_str()), (given, expected));
        }
        let shown = Reference::parse("Bad Name").unwrap_err().to_string();
        assert_eq!(
            shown,
            "couldn't parse image name \"Bad Name\": invalid reference format: repository name (library/Bad Name) must be lowercase"
        );
    }
}
