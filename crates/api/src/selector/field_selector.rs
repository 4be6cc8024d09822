//! `?fieldSelector=`: exact matches on a few fields per kind, which [`crate::resource`] lists.

use super::label::SelectorError;
use std::fmt;

/// `path=value` or `path!=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    /// Dotted, such as `spec.nodeName`.
    pub path: String,
    /// What it is compared with, unescaped.
    pub value: String,
    /// Whether it must differ.
    pub negated: bool,
}

/// All terms together; without any it selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

/// A path the kind cannot be selected by; the server sends it with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field label not supported: {0}")]
pub struct UnsupportedField(pub String);

impl FieldSelector {
    /// Reads `?fieldSelector=`; empty selects everything. `\` escapes `,`, `=` and itself in values.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|p| !p.is_empty()) {
            let (path, value, negated) = split_term(part).ok_or_else(|| {
                SelectorError::Syntax(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                ))
            })?;
            terms.push(FieldTerm {
                path: path.to_owned(),
                value: unescape(value)?,
                negated,
            });
        }
        Ok(Self { terms })
    }

    /// Of one equality.
    pub fn equals(path: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            terms: vec![FieldTerm {
                path: path.into(),
                value: value.into(),
                negated: false,
            }],
        }
    }

    /// Refuses paths for which `supported` is false.
    pub fn check(&self, supported: impl Fn(&str) -> bool) -> Result<(), UnsupportedField> {
        match self.terms.iter().find(|t| !supported(&t.path)) {
            Some(term) => Err(UnsupportedField(term.path.clone())),
            None => Ok(()),
        }
    }

    /// Whether it selects an object; `value` gives the text of a field, empty when absent.
    pub fn matches<S: AsRef<str>>(&self, value: impl Fn(&str) -> S) -> bool {
        self.terms
            .iter()
            .all(|t| (value(&t.path).as_ref() == t.value) != t.negated)
    }

    /// The value a field must have, such as `metadata.name` in a single-object watch.
    pub fn required(&self, path: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|t| !t.negated && t.path == path)
            .map(|t| t.value.as_str())
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// What it asks.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let value = term
                .value
                .replace('\\', "\\\\")
                .replace(',', "\\,")
                .replace('=', "\\=");
            write!(
                f,
                "{comma}{}{}{value}",
                term.path,
                if term.negated { "!=" } else { "=" }
            )?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    for (i, _) in term.char_indices() {
        let rest = &term[i..];
        for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..i], value, negated));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(SelectorError::Syntax(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(SelectorError::Syntax(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_prints_and_matches() {
        let selector =
            FieldSelector::parse("spec.nodeName=n1,status.phase!=Failed,,metadata.name==web")
                .unwrap();
        assert_eq!(
            selector.to_string(),
            "metadata.name=web,spec.nodeName=n1,status.phase!=Failed"
        );
        assert_eq!(selector.required("metadata.name"), Some("web"));
        assert_eq!(selector.required("status.phase"), None);
        let object = |phase: &'static str| {
            move |path: &str| match path {
                "metadata.name" => "web",
                "spec.nodeName" => "n1",
                _ => phase,
            }
        };
        assert!(selector.matches(object("Running")));
        assert!(!selector.matches(object("Failed")));
        assert_eq!(
            selector
                .check(|p| p != "status.phase")
                .unwrap_err()
                .to_string(),
            "field label not supported: status.phase"
        );
    }

    #[test]
    fn escapes() {
        let selector = FieldSelector::parse(r"a=b\,c\=\\d").unwrap();
        assert_eq!(selector.terms()[0].value, r"b,c=\d");
        assert_eq!(selector.to_string(), r"a=b\,c\=\\d");
    }

    #[test]
    fn complains_like_upstream() {
        for (text, error) in [
            ("foo", "invalid selector: 'foo'; can't understand 'foo'"),
            (
                "a=b=c",
                "invalid field selector: unescaped character in value: 61",
            ),
            (
                r"a=\x",
                r"invalid field selector: invalid escape sequence: \x",
            ),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), error);
        }
    }
}
