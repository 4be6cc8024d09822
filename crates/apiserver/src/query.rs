//! Query strings (spec kubectl-and-api §2.4).

use crate::request::percent_decode;

/// The parameters in order; empty pairs are dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Query {
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
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of `name`, empty when absent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Every value of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// True when present with anything but `0` or `false`.
    pub(crate) fn bool(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// As [`Query::bool`], telling absence apart.
    pub(crate) fn maybe_bool(&self, name: &str) -> Option<bool> {
        self.get(name).map(|_| self.bool(name))
    }

    /// A decimal number; `Err` holds what is none. Empty is absent.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, String> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                format!(
                    "strconv.ParseInt: parsing {}: invalid syntax",
                    api::gotext::quote(text)
                )
            }),
        }
    }
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
}
