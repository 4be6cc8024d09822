//! URLs as Go's net/url reads and writes them, by which upstream decides which links it rewrites and how they look afterwards.

use std::net::Ipv6Addr;

use thiserror::Error;

/// Why a text is no URL, in the words of Go.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum UrlError {
    #[error("net/url: invalid control character in URL")]
    Control,
    #[error("missing protocol scheme")]
    NoScheme,
    #[error("first path segment in URL cannot contain colon")]
    Colon,
    #[error("invalid URL escape {0}")]
    Escape(String),
    #[error("invalid character {0} in host name")]
    HostCharacter(String),
    #[error("invalid port {0} after host")]
    Port(String),
    #[error("invalid IP-literal")]
    Literal,
    #[error("missing ']' in host")]
    Bracket,
    #[error("net/url: invalid userinfo")]
    User,
}

/// A URL or a reference to one. Texts are bytes: what is not ASCII is escaped where it is written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Url {
    /// In lower case; empty in a reference.
    pub(super) scheme: Vec<u8>,
    /// With the port, as written.
    pub(super) host: Vec<u8>,
    /// Unescaped.
    pub(super) path: Vec<u8>,
    /// How the path was written.
    raw_path: Vec<u8>,
    /// What follows a scheme if that is no slash, without query and fragment.
    opaque: Vec<u8>,
    user: Option<Vec<u8>>,
    /// `http:/path`, without any host.
    omit_host: bool,
    /// With its `?`.
    query: Vec<u8>,
    fragment: Vec<u8>,
}

/// Which part of a URL is read or written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Path,
    Host,
    Zone,
    User,
    Fragment,
}

impl Part {
    /// Whether a byte stands for itself in this part when it is written anew.
    fn is_plain(self, byte: u8) -> bool {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            return true;
        }
        let plain: &[u8] = match self {
            Part::Path => b"$&+,/:;=@",
            Part::Host | Part::Zone => b"!\"$&'()*+,:;<=>[]",
            Part::User => b"$&+,;=",
            Part::Fragment => b"!$&()*+,/:;=?@",
        };
        plain.contains(&byte)
    }

    fn escape(self, text: &[u8], out: &mut Vec<u8>) {
        for byte in text {
            if self.is_plain(*byte) {
                out.push(*byte);
            } else {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
        }
    }

    fn unescape(self, text: &[u8]) -> Result<Vec<u8>, UrlError> {
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            if byte != b'%' {
                if matches!(self, Part::Host | Part::Zone) && byte < 0x80 && !self.is_plain(byte) {
                    return Err(UrlError::HostCharacter(quote(&[byte])));
                }
                out.push(byte);
                at += 1;
                continue;
            }
            let escape = &text[at..text.len().min(at + 3)];
            let value = hex(escape).filter(|value| match self {
                _ if escape == b"%25" => true,
                Part::Host => *value >= 0x80,
                Part::Zone => *value == b' ' || Part::Host.is_plain(*value),
                _ => true,
            });
            out.push(value.ok_or_else(|| UrlError::Escape(quote(escape)))?);
            at += 3;
        }
        Ok(out)
    }

    /// A part as it was written if that is a way to write it, else written anew.
    fn keep(self, raw: &[u8], text: &[u8], out: &mut Vec<u8>) {
        let is_fine = |byte: &u8| b"!$&'()*+,;=:@[]%".contains(byte) || self.is_plain(*byte);
        if raw.iter().all(is_fine) && self.unescape(raw).as_deref() == Ok(text) {
            out.extend_from_slice(raw);
        } else {
            self.escape(text, out);
        }
    }
}

impl Url {
    /// Reads a URL or a reference relative to one.
    ///
    /// # Errors
    ///
    /// When Go would not read it either.
    pub(super) fn parse(text: &[u8]) -> Result<Url, UrlError> {
        let (text, fragment) = cut(text, b'#');
        if text.iter().any(u8::is_ascii_control) {
            return Err(UrlError::Control);
        }
        Part::Fragment.unescape(fragment)?;
        let mut url = Url {
            fragment: fragment.to_vec(),
            ..Url::default()
        };
        let (scheme, rest) = scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase();
        let (rest, _) = cut(rest, b'?');
        url.query = text[scheme.len() + usize::from(!scheme.is_empty()) + rest.len()..].to_vec();
        if !rest.starts_with(b"/") {
            if !scheme.is_empty() {
                url.opaque = rest.to_vec();
                return Ok(url);
            }
            if cut(rest, b'/').0.contains(&b':') {
                return Err(UrlError::Colon);
            }
        }
        let mut path = rest;
        if rest.starts_with(b"//") && (!scheme.is_empty() || !rest.starts_with(b"///")) {
            let authority = cut(&rest[2..], b'/').0;
            path = &rest[2 + authority.len()..];
            url.set_authority(authority)?;
        } else {
            url.omit_host = !scheme.is_empty() && rest.starts_with(b"/");
        }
        url.path = Part::Path.unescape(path)?;
        url.raw_path = path.to_vec();
        Ok(url)
    }

    fn set_authority(&mut self, authority: &[u8]) -> Result<(), UrlError> {
        let at = authority.iter().rposition(|byte| *byte == b'@');
        let host = at.map_or(authority, |at| &authority[at + 1..]);
        self.host = read_host(&self.scheme, host)?;
        if let Some(at) = at {
            let user = &authority[..at];
            let is_fine = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:~!$&'()*+,;=%@".contains(b);
            if !user.iter().all(is_fine) {
                return Err(UrlError::User);
            }
            let (name, password) = cut(user, b':');
            let mut written = Vec::new();
            Part::User.escape(&Part::User.unescape(name)?, &mut written);
            if name.len() < user.len() {
                written.push(b':');
                Part::User.escape(&Part::User.unescape(password)?, &mut written);
            }
            self.user = Some(written);
        }
        Ok(())
    }

    /// The path as it is written.
    pub(super) fn escaped_path(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Part::Path.keep(&self.raw_path, &self.path, &mut out);
        out
    }

    /// The URL as a text.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.scheme.is_empty() {
            out.extend_from_slice(&self.scheme);
            out.push(b':');
        }
        if self.opaque.is_empty() {
            self.write_place(&mut out);
        } else {
            out.extend_from_slice(&self.opaque);
        }
        out.extend_from_slice(&self.query);
        if !self.fragment.is_empty() {
            out.push(b'#');
            // It was read before.
            let text = Part::Fragment.unescape(&self.fragment);
            Part::Fragment.keep(&self.fragment, &text.unwrap_or_default(), &mut out);
        }
        out
    }

    fn write_place(&self, out: &mut Vec<u8>) {
        let has_host = !self.host.is_empty() || self.user.is_some();
        if has_host || (!self.scheme.is_empty() && !self.omit_host && !self.path.is_empty()) {
            out.extend_from_slice(b"//");
        }
        if let Some(user) = &self.user {
            out.extend_from_slice(user);
            out.push(b'@');
        }
        Part::Host.escape(&self.host, out);
        let path = self.escaped_path();
        if !path.is_empty() && path[0] != b'/' && !self.host.is_empty() {
            out.push(b'/');
        }
        if out.is_empty() && cut(&path, b'/').0.contains(&b':') {
            out.extend_from_slice(b"./");
        }
        out.extend_from_slice(&path);
    }
}

/// The scheme a text begins with, which may be none, and what follows it.
fn scheme(text: &[u8]) -> Result<(&[u8], &[u8]), UrlError> {
    let is_it = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let len = text.iter().take_while(|byte| is_it(byte)).count();
    match (text.first(), text.get(len)) {
        (Some(b':'), _) => Err(UrlError::NoScheme),
        (Some(first), Some(b':')) if first.is_ascii_alphabetic() => {
            Ok((&text[..len], &text[len + 1..]))
        }
        _ => Ok((b"", text)),
    }
}

/// A host and its port, unescaped.
fn read_host(scheme: &[u8], host: &[u8]) -> Result<Vec<u8>, UrlError> {
    let colon = match host.iter().rposition(|byte| *byte == b'[') {
        Some(0) => {
            let close = host.iter().rposition(|byte| *byte == b']');
            let close = close.ok_or(UrlError::Bracket)?;
            check_port(&host[close + 1..])?;
            return literal(&host[1..close], &host[close + 1..]);
        }
        Some(_) => return Err(UrlError::Literal),
        None if matches!(scheme, b"http" | b"https") => host.iter().position(|b| *b == b':'),
        None => host.iter().rposition(|b| *b == b':'),
    };
    check_port(colon.map_or(b"", |colon| &host[colon..]))?;
    Part::Host.unescape(host)
}

/// An address between brackets, with the zone it may have.
fn literal(inner: &[u8], port: &[u8]) -> Result<Vec<u8>, UrlError> {
    let zone = inner.windows(3).position(|text| text == b"%25");
    let (address, zone) = inner.split_at(zone.unwrap_or(inner.len()));
    let address = Part::Host.unescape(address)?;
    let text = String::from_utf8_lossy(&address);
    text.parse::<Ipv6Addr>().map_err(|_| UrlError::Literal)?;
    let zone = Part::Zone.unescape(zone)?;
    Ok([b"[", &address[..], &zone, b"]", port].concat())
}

fn check_port(text: &[u8]) -> Result<(), UrlError> {
    match text {
        [] => Ok(()),
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err(UrlError::Port(quote(text))),
    }
}

/// What is before the first `at`, and what is after it.
fn cut(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == at) {
        Some(place) => (&text[..place], &text[place + 1..]),
        None => (text, b""),
    }
}

/// The byte of `%XX`.
fn hex(escape: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match escape {
        [b'%', high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    }
}

fn quote(text: &[u8]) -> String {
    api::gotext::quote(&String::from_utf8_lossy(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_written_as_go_does() {
        for (text, want) in [
            ("", Ok("")),
            ("a b/%2f?x y&é#f g", Ok("a%20b//?x y&é#f%20g")),
            ("/a%2Fb", Ok("/a%2Fb")),
            ("/a%2Fb/é%00<x>", Ok("/a/b/%C3%A9%00%3Cx%3E")),
            ("HTTP://Host:80", Ok("http://Host:80")),
            ("http://u:p%40@h/", Ok("http://u:p%40@h/")),
            ("http:///x", Ok("http:///x")),
            ("http:/x", Ok("http:/x")),
            ("mailto:a@b?c", Ok("mailto:a@b?c")),
            ("javascript:f('/x')", Ok("javascript:f('/x')")),
            ("//h/x?#", Ok("//h/x?")),
            ("///h/x", Ok("///h/x")),
            (
                "http://[fe80::1%25e%20n]:8/x",
                Ok("http://[fe80::1%25e%20n]:8/x"),
            ),
            ("?a?b", Ok("?a?b")),
            ("./a:b", Ok("./a:b")),
            ("1:b", Err("first path segment in URL cannot contain colon")),
            (":b", Err("missing protocol scheme")),
            ("/a\n", Err("net/url: invalid control character in URL")),
            ("/a%zz", Err("invalid URL escape \"%zz\"")),
            ("/#%z", Err("invalid URL escape \"%z\"")),
            ("http://a b/", Err("invalid character \" \" in host name")),
            ("http://a:b/", Err("invalid port \":b\" after host")),
            ("http://[1.2.3.4]/", Err("invalid IP-literal")),
            ("http://[::1/", Err("missing ']' in host")),
            ("http://a b@h/", Err("net/url: invalid userinfo")),
        ] {
            let got = Url::parse(text.as_bytes()).map(|url| url.write());
            let got = got.map(|bytes| String::from_utf8(bytes).unwrap());
            let got = got.map_err(|error| error.to_string());
            let want = want.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(got, want, "{text}");
        }
    }
}
