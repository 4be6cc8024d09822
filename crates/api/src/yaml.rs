//! YAML as Kubernetes reads and writes it: version 1.1, where `0644` is octal and `yes` is a boolean (spec kubectl-and-api §2.2).

use crate::gotext::quote;
use serde_json::Value;

/// The media type.
pub const MEDIA_TYPE: &str = "application/yaml";

/// A document as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Null if there is nothing in it. Of a key given twice the last value counts.
    pub value: Value,
    /// What Go says of the first key that is given twice: `line 3: key "b" already set in map`.
    pub duplicate: Option<String>,
}

/// Text that is not one YAML document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// It does not parse.
    #[error("yaml: line {line}: {reason}")]
    Syntax {
        /// Counted from 1.
        line: u64,
        /// The parser's words.
        reason: String,
    },
    /// It has no place to name: not UTF-8, or more than the parser's bounds allow.
    #[error("yaml: {0}")]
    Refused(String),
}

/// Reads one document. Aliases and nesting are bounded, so that small texts do not become large values.
pub fn read(body: &[u8]) -> Result<Document, YamlError> {
    let text = std::str::from_utf8(body).map_err(|e| YamlError::Refused(e.to_string()))?;
    match parse(text, false) {
        Ok(value) => Ok(Document {
            value,
            duplicate: None,
        }),
        Err(serde_saphyr::Error::DuplicateMappingKey { key, location }) => {
            let key = quote(&key.unwrap_or_default());
            let line = location.line();
            Ok(Document {
                value: parse(text, true).map_err(refusal)?,
                duplicate: Some(format!("line {line}: key {key} already set in map")),
            })
        }
        Err(other) => Err(refusal(other)),
    }
}

fn parse(text: &str, last_wins: bool) -> Result<Value, serde_saphyr::Error> {
    use serde_saphyr::DuplicateKeyPolicy::{Error, LastWins};
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        strict_booleans: false,
        with_snippet: false,
        duplicate_keys: if last_wins { LastWins } else { Error },
    };
    serde_saphyr::from_str_with_options(text, options)
}

fn refusal(error: serde_saphyr::Error) -> YamlError {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let end = first.find(" at line ").unwrap_or(first.len());
    let reason = first[..end].trim_end_matches([':', ',', ' ']).to_owned();
    match error.location() {
        Some(location) => YamlError::Syntax {
            line: location.line(),
            reason,
        },
        None => YamlError::Refused(reason),
    }
}

/// Writes a value: keys in order, long lines whole, lists not indented.
pub fn write(value: &Value) -> Result<String, YamlError> {
    let options = serde_saphyr::ser_options! {
        min_fold_chars: usize::MAX,
        folded_wrap_chars: usize::MAX,
        yaml_12: false,
        compact_list_indent: true,
    };
    let mut text = serde_saphyr::to_string_with_options(value, options)
        .map_err(|e| YamlError::Refused(e.to_string()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_as_kubernetes_does() {
        for (text, value) in [
            ("mode: 0644", json!({"mode": 420})),
            ("a: yes\nb: \"yes\"", json!({"a": true, "b": "yes"})),
            ("{\"a\": [1, 2.5, null]}", json!({"a": [1, 2.5, null]})),
            (
                "a: &x {b: 1}\nc: {<<: *x, d: 2}",
                json!({"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
            ),
            (
                "when: 2026-01-02T03:04:05Z",
                json!({"when": "2026-01-02T03:04:05Z"}),
            ),
            ("", Value::Null),
            ("# nothing", Value::Null),
        ] {
            let read = read(text.as_bytes()).unwrap();
            assert_eq!((read.value, read.duplicate), (value, None), "{text}");
        }
    }

    #[test]
    fn keys_given_twice_are_told() {
        let read = read(b"a:\n  b: 1\n  b: 2\n").unwrap();
        assert_eq!(read.value, json!({"a": {"b": 2}}));
        assert_eq!(
            read.duplicate.unwrap(),
            "line 3: key \"b\" already set in map"
        );
    }

    #[test]
    fn refusals() {
        for (text, wanted) in [
            (&b"a: b: c"[..], "yaml: line 1: "),
            (b"a: [1", "yaml: line 1: "),
            (b"a: *nobody", "yaml: line 1: "),
            (b"\xff", "yaml: invalid utf-8"),
            (b"a: 1\n---\nb: 2", "yaml: "),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..9 {
            let row = vec![format!("*a{}", n - 1); 10].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{row}]\n"));
        }
        assert!(read(bomb.as_bytes()).is_err());
        assert!(read("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        for value in [
            json!({"a": "yes", "b": "0644", "c": "null", "d": "", "e": "1e3", "f": "- x", "g": "a: b", "h": "#"}),
            json!({"text": "two\nlines\n", "tail": "no end\nof line", "blank": "\n", "tab": "\tx", "long": "word ".repeat(60)}),
            json!({"list": [{"a": [1, [2]]}, {}, []], "null": null, "float": 1.5, "big": 9_007_199_254_740_993_i64}),
            json!({"when": "2026-01-02T03:04:05Z", "y": "y", "on": "on", "~": "~", "unicode": "é\u{1f600}\u{7}"}),
        ] {
            let text = write(&value).unwrap();
            assert_eq!(read(text.as_bytes()).unwrap().value, value, "{text}");
        }
        assert_eq!(
            write(&json!({"items": [{"b": 1, "a": 2}]})).unwrap(),
            "items:\n- a: 2\n  b: 1\n"
        );
    }
}
