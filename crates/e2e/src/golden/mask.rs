//! Hides what differs from run to run: ids, addresses, digests, durations, times, and a runtime's or registry's own words.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// Generated name endings use this alphabet.
const SUFFIX: &str = "bcdfghjklmnpqrstvwxz2456789";

static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    compile(&[
        (
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "<uid>",
        ),
        ("sha256:[0-9a-f]{64}", "<digest>"),
        (r"\b[a-z-]+://[0-9a-f]{64}", "<cid>"),
        (r"\b[0-9a-f]{64}\b", "<id>"),
        (r"\bsha256:[0-9a-f]{12}\b", "<digest>"),
        (r"\b\d{1,3}(\.\d{1,3}){3}\b", "<ip>"),
        (r#""\d{4}-\d\d-\d\dT[^"]*""#, "\"<time>\""),
        (
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:\d\d)",
            "<time>",
        ),
        (
            r"in \d[\d.hmsµu]* \(\d[\d.hmsµu]* including waiting\)",
            "in <t> (<t> including waiting)",
        ),
        (r"Image size: \d+ bytes", "Image size: <n> bytes"),
        (r"\b(\d+h)?(\d+m)?\d+(\.\d+)?(ms|s) ago", "<t> ago"),
        (r"rpc error: code = \w+ desc = ", ""),
        (r"back-off \d[\dhms.]*", "back-off <t>"),
        (
            "Internal error occurred: error executing.*",
            "Internal error occurred: <why>",
        ),
        (
            r#"(Failed to pull image "[^"]+": |ErrImagePull: |Error: failed to |error executing command in container: ).*"#,
            "${1}<why>",
        ),
    ])
});

static NAMES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    compile(&[
        (r"(kube-api-access-)\w{5}\b", "${1}<x>"),
        (
            &format!(r"\b([a-z]+)(-[{SUFFIX}]{{8,10}})?-[{SUFFIX}]{{5}}\b"),
            "${1}-<x>",
        ),
        (&format!(r"-[{SUFFIX}]{{8,10}}\b"), "-<hash>"),
    ])
});

fn compile(table: &[(&str, &'static str)]) -> Vec<(Regex, &'static str)> {
    table
        .iter()
        .map(|(pattern, to)| (Regex::new(pattern).expect("the pattern is right"), *to))
        .collect()
}

/// What belongs to one play and is hidden too.
#[derive(Debug, Clone)]
pub(crate) struct Mask {
    namespace: String,
    node: Option<Regex>,
}

impl Mask {
    pub(crate) fn new(namespace: &str, node: &str) -> Self {
        let node = (!node.is_empty())
            .then(|| Regex::new(&format!(r"(^|[^\w/.-]){}($|[^\w-])", regex::escape(node))));
        Mask {
            namespace: namespace.to_owned(),
            node: node.map(|built| built.expect("an escaped name is a pattern")),
        }
    }

    /// Hides generated endings only, for names of Pods.
    pub(crate) fn names() -> Self {
        Mask::new("", "")
    }

    pub(crate) fn text(&self, text: &str) -> String {
        let mut masked = replace(text.to_owned(), &MASKS);
        if !self.namespace.is_empty() {
            masked = masked.replace(&self.namespace, "<ns>");
        }
        if let Some(node) = &self.node {
            // Two in a row share the character between them, so once is not enough.
            for _ in 0..2 {
                masked = node.replace_all(&masked, "${1}<node>${2}").into_owned();
            }
        }
        replace(masked, &NAMES)
    }

    /// Hides in every string of a value; keys stay.
    pub(crate) fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(key, item)| (key, self.value(item)))
                .collect(),
            other => other,
        }
    }
}

fn replace(text: String, table: &[(Regex, &str)]) -> String {
    table.iter().fold(text, |text, (pattern, to)| {
        pattern.replace_all(&text, *to).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_what_varies_and_nothing_else() {
        let mask = Mask::new("g-case-12", "node-1");
        for (text, masked) in [
            ("uid 0f8fad5b-d9cb-469f-a165-70867728950e", "uid <uid>"),
            (
                "assigned g-case-12/p to node-1",
                "assigned <ns>/p to <node>",
            ),
            (
                "node-1 node-1 x/node-1 node-1-a",
                "<node> <node> x/node-1 node-1-a",
            ),
            (
                "back-off 1m20s restarting failed container=a",
                "back-off <t> restarting failed container=a",
            ),
            (
                "Successfully pulled image \"x\" in 1.2s (3ms including waiting). Image size: 12 bytes.",
                "Successfully pulled image \"x\" in <t> (<t> including waiting). Image size: <n> bytes.",
            ),
            ("Error: failed to start: whatever", "Error: failed to <why>"),
            (
                "Internal error occurred: error executing command in container: x",
                "Internal error occurred: <why>",
            ),
            ("kube-api-access-x7k2p", "kube-api-access-<x>"),
            ("web-7d4b9c6f5d-x2x4z", "web-<x>"),
            ("1m3s ago", "<t> ago"),
            ("IP 10.2.3.4", "IP <ip>"),
            ("busybox:1.36 stays", "busybox:1.36 stays"),
        ] {
            assert_eq!(mask.text(text), masked);
        }
    }
}
