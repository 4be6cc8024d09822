//! Events, of `v1` and of `events.k8s.io/v1`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, Printer, integer, name, since, text, time};

pub(super) const PRINTER: Printer = Printer {
    columns: &[
        Column::text("Last Seen"),
        Column::text("Type"),
        Column::text("Reason"),
        Column::text("Object"),
        Column::wide("Subobject"),
        Column::wide("Source"),
        Column::text("Message"),
        Column::wide("First Seen"),
        Column::wide("Count"),
        Column {
            name: "Name",
            kind: "string",
            format: "name",
            priority: 1,
        },
    ],
    cells,
};

/// The same field under its name in `v1` or in `events.k8s.io/v1`.
fn either<'a>(object: &'a Value, core: &str, new: &str) -> &'a str {
    match text(object, core) {
        "" => text(object, new),
        found => found,
    }
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let at = |core: &str, new: &str| time(object, core).or_else(|| time(object, new));
    let first =
        at("/firstTimestamp", "/deprecatedFirstTimestamp").or_else(|| time(object, "/eventTime"));
    let last = time(object, "/series/lastObservedTime")
        .or_else(|| at("/lastTimestamp", "/deprecatedLastTimestamp"))
        .or(first);
    let count = [
        integer(object, "/series/count"),
        integer(object, "/count"),
        integer(object, "/deprecatedCount"),
        1,
    ];
    let kind = either(object, "/involvedObject/kind", "/regarding/kind").to_lowercase();
    let target = match either(object, "/involvedObject/name", "/regarding/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        since(last, now).into(),
        text(object, "/type").into(),
        text(object, "/reason").into(),
        target.into(),
        either(object, "/involvedObject/fieldPath", "/regarding/fieldPath").into(),
        source(object).into(),
        either(object, "/message", "/note").trim().into(),
        since(first, now).into(),
        json!(count.into_iter().find(|count| *count != 0).unwrap_or(1)),
        name(object),
    ]
}

fn source(object: &Value) -> String {
    let component = either(object, "/source/component", "/deprecatedSource/component");
    let component = if component.is_empty() {
        either(object, "/reportingComponent", "/reportingController")
    } else {
        component
    };
    let host = either(object, "/source/host", "/deprecatedSource/host");
    let host = if host.is_empty() {
        text(object, "/reportingInstance")
    } else {
        host
    };
    if host.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {host}")
    }
}
