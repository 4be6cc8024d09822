//! The few URLs that probes and hooks need.

use std::fmt;

use crate::handlers::join;

/// An absolute `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) is_https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Path and query.
    pub(crate) target: String,
}

impl Url {
    /// A URL of its parts. What a path may not contain is percent-encoded.
    pub(crate) fn new(is_https: bool, host: &str, port: u16, path: &str) -> Self {
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Url {
            is_https,
            host: host.to_owned(),
            port,
            target: encoded(&format!("{slash}{path}")),
        }
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        join(&self.host, self.port)
    }

    /// What a `Location` means here; `None` when it cannot be understood.
    pub(crate) fn join(&self, location: &str) -> Option<Url> {
        let (is_https, rest) = match location.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, Some(rest)),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, Some(rest)),
            _ => (self.is_https, location.strip_prefix("//")),
        };
        let Some(rest) = rest else {
            return Some(self.beside(location));
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = rest[..end].rsplit('@').next().unwrap_or_default();
        let default = if is_https { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| Url::new(is_https, host, port, &rest[end..]))
    }

    /// A path relative to this one's.
    fn beside(&self, path: &str) -> Url {
        let own = self.target.split('?').next().unwrap_or_default();
        let path = if path.starts_with('/') {
            path.to_owned()
        } else if path.is_empty() || path.starts_with('?') {
            format!("{own}{path}")
        } else {
            let folder = own.rfind('/').map_or("", |at| &own[..=at]);
            format!("{folder}{path}")
        };
        Url::new(self.is_https, &self.host, self.port, &path)
    }
}

fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic()
            && !matches!(
                byte,
                b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}'
            )
        {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_written_and_joined() {
        let base = Url::new(false, "10.0.0.5", 8080, "healthz/live?full=1#x");
        assert_eq!(base.to_string(), "http://10.0.0.5:8080/healthz/live?full=1");
        assert_eq!(
            Url::new(true, "::1", 443, "").to_string(),
            "https://[::1]:443/"
        );
        assert_eq!(
            Url::new(false, "h", 80, "/a b").to_string(),
            "http://h:80/a%20b"
        );
        let rows = [
            ("/x", "http://10.0.0.5:8080/x"),
            ("x", "http://10.0.0.5:8080/healthz/x"),
            ("?y", "http://10.0.0.5:8080/healthz/live?y"),
            ("https://10.0.0.5/x", "https://10.0.0.5:443/x"),
            ("http://other:81?q", "http://other:81/?q"),
            ("//[::1]:8/x", "http://[::1]:8/x"),
        ];
        for (location, want) in rows {
            let got = base.join(location).map(|url| url.to_string());
            assert_eq!(got.as_deref(), Some(want), "{location}");
        }
        assert_eq!(base.join("http://host:port/"), None);
        assert_eq!(base.join("http:///x"), None);
    }
}
