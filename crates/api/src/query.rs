//! Query strings (spec kubectl-and-api §2.4).

/// The parameters in order; empty pairs are dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query string apart.
    pub fn parse(text: &str) -> Query {
        let decode = |part: &str| percent_decode(&part.replace('+', " "));
        let pairs = text.split('&').filter(|p| !p.is_empty());
        Query(
            pairs
                .map(|p| p.split_once('=').unwrap_or((p, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of `name`, empty when absent.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// True when present with anything but `0` or `false`.
    pub fn bool(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// As [`Query::bool`], telling absence apart.
    pub fn maybe_bool(&self, name: &str) -> Option<bool> {
        self.get(name).map(|_| self.bool(name))
    }

    /// A decimal number. Empty is absent.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, String> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                format!(
                    "strconv.ParseInt: parsing {}: invalid syntax",
                    crate::gotext::quote(text)
                )
            }),
        }
    }
}

/// Undoes `%XX`; what is no valid escape stays as it is.
pub fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The opposite: everything but unreserved characters is escaped (RFC 3986 2.3).
pub fn percent_encode(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escaped = |byte: u8| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_upstream_reads_them() {
        let q = Query::parse("&watch=&a=1&a=b%20c+d&no=false&zero=0&n=12&bad=x&py=True");
        assert!(
            q.bool("watch")
                && q.bool("py")
                && !q.bool("no")
                && !q.bool("zero")
                && !q.bool("absent")
        );
        assert_eq!(q.all("a").collect::<Vec<_>>(), ["1", "b c d"]);
        assert_eq!(q.integer("n"), Ok(Some(12)));
        assert!(q.integer("bad").is_err());
        assert_eq!(q.maybe_bool("absent"), None);
    }

    #[test]
    fn what_is_escaped_reads_as_it_was() {
        for (text, escaped) in [
            ("a-b_c.d~9", "a-b_c.d~9"),
            ("a b&c=d+%", "a%20b%26c%3Dd%2B%25"),
            ("é/", "%C3%A9%2F"),
        ] {
            assert_eq!(percent_encode(text), escaped);
            assert_eq!(percent_decode(escaped), text);
        }
    }
}
