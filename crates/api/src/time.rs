//! Times on the wire: RFC 3339 in UTC, whole seconds or microseconds.

use jiff::Timestamp;

/// Reads RFC 3339 with any offset; `None` when it is not that.
pub fn parse(text: &str) -> Option<Timestamp> {
    // jiff also takes shorter ISO 8601 forms, which Go refuses.
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes[10] != b'T' || bytes[13] != b':' {
        return None;
    }
    text.parse().ok()
}

/// `2026-01-02T03:04:05Z`, cut to seconds.
pub fn format(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-01-02T03:04:05.000006Z`, cut to microseconds.
pub fn format_micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let time = parse("2026-01-02T04:04:05.123456789+01:00").unwrap();
        assert_eq!(format(time), "2026-01-02T03:04:05Z");
        assert_eq!(format_micro(time), "2026-01-02T03:04:05.123456Z");
        assert_eq!(parse(&format(time)).map(format), Some(format(time)));
        for bad in [
            "",
            "soon",
            "2026-01-02",
            "2026-01-02 03:04:05Z",
            "20260102T030405Z0000",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
