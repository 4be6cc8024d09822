//! Events of watches.

use serde_json::Value;

/// An event `{"type", "object"}` as a line of a watch, with its type first, as servers write it.
pub fn line(event: &Value) -> String {
    format!(
        "{{\"type\":{},\"object\":{}}}\n",
        event["type"], event["object"]
    )
}
