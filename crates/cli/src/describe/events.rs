//! The table of events (§15.2).

use jiff::Timestamp;
use serde_json::Value;

use super::tabs::Tabs;
use super::text;

/// Adds `Events:`.
pub(super) fn table(out: &mut Tabs, events: &[Value], now: Timestamp) {
    if events.is_empty() {
        out.line(0, "Events:\t<none>");
        return;
    }
    out.flush();
    out.line(0, "Events:");
    out.line(1, "Type\tReason\tAge\tFrom\tMessage");
    out.line(1, "----\t------\t----\t----\t-------");
    let mut events: Vec<&Value> = events.iter().collect();
    // Upstream looks at this time alone: events of newer recorders have none and come first.
    events.sort_by_key(|event| text(&event["lastTimestamp"]));
    for event in events {
        let source = match text(&event["source"]["component"]) {
            "" => text(&event["reportingComponent"]),
            component => component,
        };
        let message = text(&event["message"]).trim();
        let message = match text(&event["involvedObject"]["fieldPath"]) {
            "" => message.to_owned(),
            path => format!("{path}: {message}"),
        };
        out.line(
            1,
            format!(
                "{}\t{}\t{}\t{source}\t{message}",
                text(&event["type"]),
                text(&event["reason"]),
                age(event, now)
            ),
        );
    }
}

/// What events are put in order by: when they were seen last.
pub(crate) fn by_time(event: &Value) -> Option<Timestamp> {
    [
        &event["series"]["lastObservedTime"],
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["firstTimestamp"],
    ]
    .into_iter()
    .find_map(|time| time.as_str().and_then(|time| time.parse().ok()))
}

/// `11m`, or `6m8s (x3 over 10m)`
pub(crate) fn age(event: &Value, now: Timestamp) -> String {
    let since = |time: &Value| {
        let time = time.as_str().and_then(|time| time.parse().ok());
        api::duration::age(time, now)
    };
    let first = if event["eventTime"].is_string() {
        since(&event["eventTime"])
    } else {
        since(&event["firstTimestamp"])
    };
    let series = &event["series"];
    let count = event["count"].as_i64().unwrap_or(0);
    if series.is_object() {
        format!(
            "{} (x{} over {first})",
            since(&series["lastObservedTime"]),
            series["count"]
        )
    } else if count > 1 {
        format!("{} (x{count} over {first})", since(&event["lastTimestamp"]))
    } else {
        first
    }
}
