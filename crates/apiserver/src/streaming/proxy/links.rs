//! Which URLs lead through the proxy, and what they become: upstream's rules (apimachinery, util/proxy/transport.go).

use super::url::{Url, UrlError};

/// How a Pod is seen from both sides of the proxy.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    /// What our path has before the Pod's, unescaped, without a slash at its end.
    pub(super) prefix: String,
    /// The scheme of the request's own URL, which most requests do not have.
    pub(super) scheme: String,
    /// Likewise its host.
    pub(super) host: String,
    /// The Pod's address, and its port if one is known.
    pub(super) backend: String,
    /// The host that the client asked for.
    pub(super) asked: String,
}

impl Links {
    /// What a URL that the Pod gave out becomes. One of another host, or without a path from the root, keeps its meaning.
    ///
    /// # Errors
    ///
    /// When it is no URL.
    pub(super) fn rewrite(&self, text: &[u8]) -> Result<Vec<u8>, UrlError> {
        let mut url = Url::parse(text)?;
        let asked = url.host == self.asked.as_bytes();
        let elsewhere = !url.host.is_empty() && !asked && url.host != self.backend.as_bytes();
        if elsewhere || !url.path.starts_with(b"/") {
            return Ok(url.write());
        }
        if !(asked && self.scheme.is_empty() && self.host.is_empty()) {
            url.scheme = self.scheme.clone().into_bytes();
            url.host = self.host.clone().into_bytes();
        }
        if !url.path.starts_with(self.prefix.as_bytes()) {
            url.path = self.join(&url.path);
        }
        Ok(url.write())
    }

    /// `X-Forwarded-Uri`: the path from our root on, for a path of the Pod as it is written.
    pub(super) fn forwarded(&self, path: &str) -> Vec<u8> {
        let escaped = Url::parse(path.as_bytes()).map(|url| url.escaped_path());
        self.join(&escaped.unwrap_or_else(|_| path.as_bytes().to_vec()))
    }

    /// A path below the prefix, without what is empty, `.` or `..` in it.
    fn join(&self, path: &[u8]) -> Vec<u8> {
        let mut parts: Vec<&[u8]> = Vec::new();
        let prefix = self.prefix.as_bytes();
        for part in [prefix, path]
            .into_iter()
            .flat_map(|text| text.split(|b| *b == b'/'))
        {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let mut joined = b"/".to_vec();
        joined.extend(parts.join(&b'/'));
        if path.ends_with(b"/") {
            joined.push(b'/');
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: &str = "/api/v1/namespaces/n/pods/http:p:80/proxy";

    fn links() -> Links {
        Links {
            prefix: P.into(),
            backend: "10.0.0.5:80".into(),
            asked: "localhost:8001".into(),
            ..Links::default()
        }
    }

    #[test]
    fn urls_of_the_pod_lead_through_the_proxy() {
        for (text, want) in [
            ("/x", "P/x"),
            ("/", "P/"),
            ("/x/", "P/x/"),
            ("/x?a=/b&c#/d", "P/x?a=/b&c#/d"),
            ("//", ""),
            ("///x//y/./z", "P/x/y/z"),
            ("/../x", "/api/v1/namespaces/n/pods/http:p:80/x"),
            ("/a%2Fb", "P/a/b"),
            ("/a%00<é>", "P/a%00%3C%C3%A9%3E"),
            ("http://10.0.0.5:80/x", "P/x"),
            ("https://10.0.0.5:80/x", "P/x"),
            ("//10.0.0.5:80/x", "P/x"),
            ("http://localhost:8001/x", "http://localhost:8001P/x"),
            ("//localhost:8001/x/", "//localhost:8001P/x/"),
            ("http:/x", "P/x"),
            // Once is enough.
            ("P/x%2Fy", "P/x%2Fy"),
            ("http://10.0.0.5:80P/x", "P/x"),
            // Others' and relative ones.
            ("http://10.0.0.5/x", "http://10.0.0.5/x"),
            ("http://10.0.0.5:81/x", "http://10.0.0.5:81/x"),
            ("Https://example.com/x", "https://example.com/x"),
            ("//example.com/x", "//example.com/x"),
            ("http://localhost:8001", "http://localhost:8001"),
            ("x", "x"),
            ("../x", "../x"),
            ("", ""),
            ("#x", "#x"),
            ("?x", "?x"),
            ("mailto:a@b", "mailto:a@b"),
            ("data:text/html,/x", "data:text/html,/x"),
        ] {
            let [text, want] = [text, want].map(|text| text.replace('P', P));
            let got = links().rewrite(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), want, "{text}");
        }
        assert!(links().rewrite(b"/%").is_err());
    }

    #[test]
    fn a_request_with_a_host_of_its_own_gets_links_with_it() {
        let links = Links {
            scheme: "https".into(),
            host: "foo.com".into(),
            ..links()
        };
        for (text, want) in [
            ("/x", "https://foo.comP/x"),
            ("http://10.0.0.5:80/x", "https://foo.comP/x"),
            ("http://localhost:8001/x", "https://foo.comP/x"),
            ("P/x", "https://foo.comP/x"),
            ("x", "x"),
            ("http://example.com/x", "http://example.com/x"),
        ] {
            let [text, want] = [text, want].map(|text| text.replace('P', P));
            let got = links.rewrite(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn the_pod_is_told_its_path_here() {
        for (path, want) in [
            ("/", "P/"),
            ("/x", "P/x"),
            ("/x//y/", "P/x/y/"),
            ("/a%2Fb", "P/a%2Fb"),
            ("/%00\"x", "P/%00%22x"),
        ] {
            let got = String::from_utf8(links().forwarded(path)).unwrap();
            assert_eq!(got, want.replace('P', P), "{path}");
        }
    }
}
