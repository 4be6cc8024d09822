//! Times on the wire: RFC 3339 in UTC, whole seconds or microseconds.

use crate::gotext::quote;
use jiff::Timestamp;

/// A number's least, greatest and name.
type Range = (u32, u32, &'static str);

/// Go's name for RFC 3339, piece by piece: what it wants, and the numbers it takes.
const LAYOUT: [(&str, Option<Range>); 11] = [
    ("2006", Some((0, 9999, "year"))),
    ("-", None),
    ("01", Some((1, 12, "month"))),
    ("-", None),
    ("02", Some((1, 31, "day"))),
    ("T", None),
    ("15", Some((0, 23, "hour"))),
    (":", None),
    ("04", Some((0, 59, "minute"))),
    (":", None),
    ("05", Some((0, 59, "second"))),
];

/// As [`parse`], with Go's words for what is wrong.
pub fn read(text: &str) -> Result<Timestamp, String> {
    parse(text).ok_or_else(|| complaint(text))
}

fn complaint(text: &str) -> String {
    let mut rest = text;
    let cannot = |rest: &str, wanted: &str| {
        let (text, layout) = (quote(text), quote("2006-01-02T15:04:05Z07:00"));
        format!(
            "parsing time {text} as {layout}: cannot parse {} as {}",
            quote(rest),
            quote(wanted)
        )
    };
    for (wanted, range) in LAYOUT {
        let Some((piece, tail)) = rest.split_at_checked(wanted.len()) else {
            return cannot(rest, wanted);
        };
        match range {
            None if piece != wanted => return cannot(rest, wanted),
            None => {}
            Some((least, most, name)) => match piece.parse::<u32>() {
                Ok(number) if (least..=most).contains(&number) && !piece.starts_with('+') => {}
                Ok(_) if !piece.starts_with('+') => {
                    return format!("parsing time {}: {name} out of range", quote(text));
                }
                _ => return cannot(rest, wanted),
            },
        }
        rest = tail;
    }
    let fraction = rest
        .strip_prefix('.')
        .unwrap_or(rest)
        .trim_start_matches(|c: char| c.is_ascii_digit());
    let offset = fraction.len() == 6 && fraction.starts_with(['+', '-']);
    if fraction == "Z" || offset {
        return format!("parsing time {}: day out of range", quote(text));
    }
    cannot(fraction, "Z07:00")
}

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
        for (text, why) in [
            (
                "2026-13-01T00:00:00Z",
                "parsing time \"2026-13-01T00:00:00Z\": month out of range",
            ),
            (
                "2026-02-30T00:00:00Z",
                "parsing time \"2026-02-30T00:00:00Z\": day out of range",
            ),
            (
                "2026-02-01",
                "parsing time \"2026-02-01\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\"",
            ),
            (
                "2026-02-01T00:00:00",
                "parsing time \"2026-02-01T00:00:00\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"Z07:00\"",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), why);
        }
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
