//! Annotations by which users ask the node agent for what the Kubernetes API has no field for.
//!
//! They stand on the Pod, so that any client can write them and the agent learns of them by its watch of Pods alone, with any
//! API server. Both say a lasting fact instead of a command: an agent that starts anew reads them again and comes to the same.
//!
//! - [`RETRY`]: `{"":"2026-01-02T03:04:05.000006Z","app":"…"}`, container names to times; the empty name means all. What failed
//!   before that time (an exit, a pull, a start) is not waited for, and its back-off begins anew. A time in the future counts
//!   from when it has come.
//! - [`STOP`]: `["debugger-x2x9c"]`, names of ephemeral containers that are to end: one that runs is stopped with the Pod's grace
//!   period, one that has not started never does.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

/// Which failures are not to be waited for.
pub const RETRY: &str = "carob/retry";
/// Which ephemeral containers are to end.
pub const STOP: &str = "carob/stop-ephemeral-containers";

/// A Pod's annotations, as its metadata has them.
pub type Annotations = BTreeMap<String, String>;

/// Failures of `container` before this time are not to be waited for. What cannot be read asks for nothing.
pub fn retry_since(annotations: Option<&Annotations>, container: &str) -> Option<Timestamp> {
    let times = retries(annotations?.get(RETRY)?);
    let time = |name: &str| times.get(name).copied();
    time("").max(time(container))
}

/// The value of [`RETRY`] that adds to `old`: retry `container`, or all of them when it is empty, from `now` on.
pub fn retry(old: Option<&str>, container: &str, now: Timestamp) -> String {
    let mut times = if container.is_empty() {
        BTreeMap::new()
    } else {
        retries(old.unwrap_or_default())
    };
    times.insert(container.to_owned(), now);
    text(&times)
}

/// The ephemeral containers that are to end.
pub fn stopped(annotations: Option<&Annotations>) -> BTreeSet<String> {
    annotations
        .and_then(|all| all.get(STOP))
        .map(|value| names(value))
        .unwrap_or_default()
}

/// The value of [`STOP`] that adds `container` to `old`.
pub fn stop(old: Option<&str>, container: &str) -> String {
    let mut names = names(old.unwrap_or_default());
    names.insert(container.to_owned());
    text(&names)
}

fn retries(value: &str) -> BTreeMap<String, Timestamp> {
    serde_json::from_str(value).unwrap_or_default()
}

fn names(value: &str) -> BTreeSet<String> {
    serde_json::from_str(value).unwrap_or_default()
}

fn text(value: &impl serde::Serialize) -> String {
    // Names, and times as text: always JSON.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn with(key: &str, value: String) -> Annotations {
        BTreeMap::from([(key.to_owned(), value)])
    }

    #[test]
    fn the_latest_time_counts() {
        let all = retry(None, "", at(1));
        let one = retry(Some(&all), "app", at(2));
        let later = retry(Some(&one), "", at(3));
        for (value, app, other) in [
            (all, Some(at(1)), Some(at(1))),
            (one, Some(at(2)), Some(at(1))),
            (later, Some(at(3)), Some(at(3))),
            (retry(None, "app", at(4)), Some(at(4)), None),
            ("nonsense".to_owned(), None, None),
        ] {
            let annotations = with(RETRY, value);
            assert_eq!(retry_since(Some(&annotations), "app"), app);
            assert_eq!(retry_since(Some(&annotations), "other"), other);
        }
        assert_eq!(retry_since(None, "app"), None);
    }

    #[test]
    fn names_add_up() {
        let both = stop(Some(&stop(None, "b")), "a");
        assert_eq!(both, r#"["a","b"]"#);
        assert_eq!(stop(Some(&both), "a"), both);
        let names: Vec<String> = stopped(Some(&with(STOP, both))).into_iter().collect();
        assert_eq!(names, ["a", "b"]);
        assert!(stopped(Some(&with(STOP, "nonsense".to_owned()))).is_empty());
    }
}
