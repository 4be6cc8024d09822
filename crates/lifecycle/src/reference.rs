//! Image names as the spec writes them: whether they follow the distribution grammar, and the tag they get when they have none
//! (§4.4 rule 1).

use thiserror::Error;

/// Why an image name is refused; upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("couldn't parse image name \"{image}\": {reason}")]
pub struct InvalidName {
    /// The name.
    pub image: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The name with `:latest` appended when it has neither tag nor digest; the registry is not added.
///
/// # Errors
/// The name does not follow the grammar of distribution references.
pub fn with_default_tag(image: &str) -> Result<String, InvalidName> {
    let invalid = |reason: String| InvalidName {
        image: image.to_owned(),
        reason,
    };
    let parts = split(image);
    let (domain, path) = split_domain(parts.name);
    if is_hex(image, 64) {
        return Err(invalid(format!(
            "invalid repository name ({image}), cannot specify 64-byte hexadecimal strings"
        )));
    }
    if path.chars().any(char::is_uppercase) {
        return Err(invalid(format!(
            "invalid reference format: repository name ({path}) must be lowercase"
        )));
    }
    let good = domain.is_none_or(is_domain)
        && path.split('/').all(is_component)
        && parts.tag.is_none_or(is_tag)
        && parts.digest.is_none_or(is_digest);
    if !good {
        return Err(invalid("invalid reference format".to_owned()));
    }
    if parts.tag.is_none() && parts.digest.is_none() {
        Ok(format!("{image}:latest"))
    } else {
        Ok(image.to_owned())
    }
}

/// The repository an image is of, in full: `docker.io/library/busybox`.
pub fn repository(image: &str) -> String {
    let (domain, path) = split_domain(split(image).name);
    match domain {
        None | Some("docker.io" | "index.docker.io") => {
            let is_short = !path.contains('/');
            let library = if is_short { "library/" } else { "" };
            format!("docker.io/{library}{path}")
        }
        Some(domain) => format!("{domain}/{path}"),
    }
}

/// Whether a name is of one image, rather than of a repository.
pub(crate) fn has_tag_or_digest(image: &str) -> bool {
    let parts = split(image);
    parts.tag.is_some() || parts.digest.is_some()
}

struct Parts<'a> {
    name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

fn split(image: &str) -> Parts<'_> {
    let (rest, digest) = image
        .split_once('@')
        .map_or((image, None), |(a, b)| (a, Some(b)));
    let after_slash = rest.rfind('/').map_or(0, |at| at + 1);
    match rest[after_slash..].find(':') {
        Some(at) => Parts {
            name: &rest[..after_slash + at],
            tag: Some(&rest[after_slash + at + 1..]),
            digest,
        },
        None => Parts {
            name: rest,
            tag: None,
            digest,
        },
    }
}

/// The registry, if the name has one, and the path below it; Docker Hub's short names are spelled out as its grammar does.
fn split_domain(name: &str) -> (Option<&str>, String) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.to_lowercase() != first =>
        {
            let official = first == "docker.io" && !rest.contains('/');
            (
                Some(first),
                if official {
                    format!("library/{rest}")
                } else {
                    rest.to_owned()
                },
            )
        }
        Some(_) => (None, name.to_owned()),
        None => (None, format!("library/{name}")),
    }
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !domain.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let v6 = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .is_some_and(|h| !h.is_empty() && h.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'));
    let port_fits = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    port_fits && (v6 || host.split('.').all(label))
}

/// Letters and digits, separated by `.`, `_`, `__` or dashes.
fn is_component(component: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !component.starts_with(alnum) || !component.ends_with(alnum) {
        return false;
    }
    let separators = component.split(alnum).filter(|s| !s.is_empty());
    let mut separators = separators.peekable();
    separators.all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && word(tag.as_bytes()[0])
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        let known = algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
            && algorithm
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'_' | b'-'));
        known && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_written_in_full() {
        let digest = format!("reg.io:5000/a/b:1@sha256:{}", "a".repeat(64));
        for (image, repository) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "docker.io/library/busybox"),
            ("docker.io/busybox:1", "docker.io/library/busybox"),
            ("index.docker.io/team/a", "docker.io/team/a"),
            ("team/a:2", "docker.io/team/a"),
            (&digest, "reg.io:5000/a/b"),
            ("localhost/a", "localhost/a"),
        ] {
            assert_eq!(super::repository(image), repository, "{image}");
        }
    }

    #[test]
    fn names_get_the_default_tag_or_are_refused() {
        let digest = format!("busybox@sha256:{}", "a".repeat(64));
        let rows = [
            ("busybox", Ok("busybox:latest".to_owned())),
            ("busybox:1.36", Ok("busybox:1.36".to_owned())),
            (
                "docker.io/library/busybox",
                Ok("docker.io/library/busybox:latest".to_owned()),
            ),
            (
                "localhost:5000/a/b",
                Ok("localhost:5000/a/b:latest".to_owned()),
            ),
            ("[::1]:5000/a", Ok("[::1]:5000/a:latest".to_owned())),
            (digest.as_str(), Ok(digest.clone())),
            (
                "Bad Name",
                Err(
                    "invalid reference format: repository name (library/Bad Name) must be lowercase",
                ),
            ),
            ("bad name", Err("invalid reference format")),
            ("", Err("invalid reference format")),
            ("a//b", Err("invalid reference format")),
            ("a:", Err("invalid reference format")),
            ("a@sha256:12", Err("invalid reference format")),
            ("a..b", Err("invalid reference format")),
            ("REG.example/a", Ok("REG.example/a:latest".to_owned())),
        ];
        for (image, want) in rows {
            assert_eq!(
                with_default_tag(image).map_err(|e| e.reason),
                want.map_err(str::to_owned),
                "{image:?}"
            );
        }
        let text = with_default_tag("Bad Name").unwrap_err().to_string();
        assert_eq!(
            text,
            "couldn't parse image name \"Bad Name\": invalid reference format: repository name (library/Bad Name) must be lowercase"
        );
    }
}
