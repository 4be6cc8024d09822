//! Texts as Go's standard library writes them, because error messages on the wire contain them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;
use std::fmt::Write as _;

/// Quotes as Go's `%q` does: printable characters stay, the rest become escapes.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_control() || (c != ' ' && c.is_whitespace()) => escape_rune(&mut out, c),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn escape_rune(out: &mut String, c: char) {
    let code = u32::from(c);
    // Writing to a String cannot fail.
    let _ = match code {
        0..=0x7f => write!(out, "\\x{code:02x}"),
        0x80..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
}

/// Encodes as Go's `encoding/json` does: compact, with `<`, `>`, `&`, U+2028 and U+2029 escaped.
pub fn json(value: &Value) -> String {
    let plain = value.to_string();
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return plain;
    }
    let mut out = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// A selector as Go prints a pointer to one.
pub fn label_selector(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(k, v)| format!("{k}: {v},")).collect();
    let expressions = selector.match_expressions.iter().flatten();
    let expressions: String = expressions
        .map(|e| {
            let values = e.values.as_deref().unwrap_or_default().join(" ");
            let (key, operator) = (&e.key, &e.operator);
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

/// Joins messages the way upstream's error aggregates print: one alone, several as `[a, b]`, repeats dropped.
pub fn aggregate<I: IntoIterator<Item = String>>(messages: I) -> String {
    let mut seen: Vec<String> = Vec::new();
    for message in messages {
        if !seen.contains(&message) {
            seen.push(message);
        }
    }
    match seen.len() {
        1 => seen.remove(0),
        _ => format!("[{}]", seen.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[test]
    fn quotes_like_go() {
        for (text, quoted) in [
            ("web", r#""web""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("tab\tnl\n", r#""tab\tnl\n""#),
            ("nul\0 del\x7f", r#""nul\x00 del\x7f""#),
            ("ünï", r#""ünï""#),
            ("\u{2028}", r#""\u2028""#),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }

    #[test]
    fn escapes_json_for_html_like_go() {
        assert_eq!(
            json(&value!({"a": "<b>&"})),
            r#"{"a":"\u003cb\u003e\u0026"}"#
        );
        assert_eq!(json(&value!([1, true, null])), "[1,true,null]");
    }

    #[test]
    fn aggregates_drop_repeats() {
        assert_eq!(aggregate(["a".to_owned(), "a".to_owned()]), "a");
        assert_eq!(
            aggregate(["a".to_owned(), "b".to_owned(), "a".to_owned()]),
            "[a, b]"
        );
    }

    #[test]
    fn selectors_are_shown_as_go_shows_them() {
        let selector = value!({"matchLabels": {"a": "1", "b": "2"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["x", "y"]}]});
        let selector = serde_json::from_value(selector).unwrap();
        assert_eq!(
            label_selector(&selector),
            "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:c,Operator:In,Values:[x y],},},}"
        );
    }
}
