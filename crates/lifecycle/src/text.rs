//! Texts in the form upstream writes them: Go durations, quoted names, a Pod's name for people.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

/// A duration as Go prints it: `0s`, `350ms`, `10s`, `1m20s`, `1h0m0s`, `1.5s`.
pub fn go_duration(duration: SignedDuration) -> String {
    let sign = if duration.is_negative() { "-" } else { "" };
    let nanos = duration.as_nanos().unsigned_abs();
    if nanos == 0 {
        return "0s".to_owned();
    }
    for (unit, size) in [("ns", 1_u128), ("µs", 1_000), ("ms", 1_000_000)] {
        if nanos < size * 1_000 {
            return format!("{sign}{}{unit}", fraction(nanos, size));
        }
    }
    let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
    let seconds = format!("{}s", fraction(rest, 1_000_000_000));
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}"),
        (0, m) => format!("{sign}{m}m{seconds}"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}"),
    }
}

/// `value / unit` without trailing zeros.
fn fraction(value: u128, unit: u128) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!(
        "{whole}.{}",
        format!("{rest:0width$}").trim_end_matches('0')
    )
}

/// `pod(format)` of the specification: `<name>_<namespace>(<uid>)`.
pub fn pod_format(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!(
        "{}_{}({})",
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default()
    )
}

/// A number of seconds later, kept within what a [`Timestamp`] can hold.
pub(crate) fn later(from: Timestamp, seconds: i64) -> Timestamp {
    from.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// A while later, kept within what a [`Timestamp`] can hold.
pub(crate) fn after(from: Timestamp, wait: SignedDuration) -> Timestamp {
    from.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// The whole second: times on API objects have no finer precision.
pub(crate) fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// A time of day for reasons, to the second, in UTC.
pub(crate) fn clock(at: Timestamp) -> String {
    second(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let rows = [
            (0, "0s"),
            (10_000, "10s"),
            (80_000, "1m20s"),
            (160_000, "2m40s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
            (350, "350ms"),
            (1_500, "1.5s"),
            (61_234, "1m1.234s"),
            (-1_000, "-1s"),
        ];
        for (millis, want) in rows {
            assert_eq!(go_duration(SignedDuration::from_millis(millis)), want);
        }
    }

    #[test]
    fn times_never_leave_their_range() {
        assert_eq!(later(Timestamp::UNIX_EPOCH, i64::MAX), Timestamp::MAX);
        assert_eq!(later(Timestamp::UNIX_EPOCH, 5).as_second(), 5);
    }
}
