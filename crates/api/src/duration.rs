//! Durations as people read them (spec kubectl-and-api §17.1) and as Go writes them (`1m20s`).

use std::fmt::Write as _;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// An age with two to three significant figures: `119s`, `2m`, `6m13s`, `179m`, `3h`, `29h`, `5d3h`, `1y200d`.
pub fn human(seconds: i64) -> String {
    let two = |big: i64, unit: char, small: i64, small_unit: char| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, 'm', s % MINUTE, 's'),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, 'h', s / MINUTE % 60, 'm'),
        s if s < 48 * HOUR => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, 'd', s / HOUR % 24, 'h'),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, 'y', s / DAY % 365, 'd'),
        s => format!("{}y", s / YEAR),
    }
}

/// An age with one unit: `59s`, `59m`, `23h`, `364d`, `1y`.
pub fn human_short(seconds: i64) -> String {
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < MINUTE => format!("{s}s"),
        s if s < HOUR => format!("{}m", s / MINUTE),
        s if s < DAY => format!("{}h", s / HOUR),
        s if s < YEAR => format!("{}d", s / DAY),
        s => format!("{}y", s / YEAR),
    }
}

/// The age of something made at `then`, or `<unknown>` for a time that is not set.
pub fn age(then: Option<jiff::Timestamp>, now: jiff::Timestamp) -> String {
    then.map_or_else(
        || "<unknown>".to_owned(),
        |then| human(now.duration_since(then).as_secs()),
    )
}

/// Why a text is not a Go duration; the texts are Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not the shape of one, or too long for 64 bits of nanoseconds.
    #[error("time: invalid duration {}", crate::gotext::quote(.0))]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {}", crate::gotext::quote(.0))]
    MissingUnit(String),
    /// A unit other than ns, us, ms, s, m, h.
    #[error("time: unknown unit {} in duration {}", crate::gotext::quote(.0), crate::gotext::quote(.1))]
    UnknownUnit(String, String),
}

/// Parses a Go duration such as `1m20s`, `-1.5h` or `0` into nanoseconds.
pub fn parse_go(text: &str) -> Result<i64, ParseError> {
    let invalid = || ParseError::Invalid(text.to_owned());
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(number);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len()),
        );
        if unit.is_empty() {
            return Err(ParseError::MissingUnit(text.to_owned()));
        }
        let scale = go_unit(unit)
            .ok_or_else(|| ParseError::UnknownUnit(unit.to_owned(), text.to_owned()))?;
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_| invalid())?
        };
        total = whole
            .checked_mul(scale)
            .and_then(|n| total.checked_add(n + part(fraction, scale)))
            .ok_or_else(invalid)?;
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

fn go_unit(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A decimal fraction of a unit, cut to nanoseconds.
fn part(fraction: &str, scale: i128) -> i128 {
    // An hour has 13 digits of nanoseconds; what lies further right is worth nothing.
    let digits = &fraction[..fraction.len().min(18)];
    let number = digits
        .bytes()
        .fold(0i128, |n, d| n * 10 + i128::from(d - b'0'));
    number * scale / 10i128.pow(digits.len() as u32)
}

/// Prints nanoseconds as Go does: `1h0m0s`, `1m20s`, `1.5s`, `250ms`, `0s`.
pub fn format_go(nanos: i64) -> String {
    let size = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let text = match size {
        0 => return "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}µs", decimal(n, 1_000)),
        n if n < 1_000_000_000 => format!("{}ms", decimal(n, 1_000_000)),
        n => {
            let minutes = n / 60_000_000_000;
            let mut out = String::new();
            // Writing to a String cannot fail.
            let _ = match minutes {
                0 => Ok(()),
                m if m < 60 => write!(out, "{m}m"),
                m => write!(out, "{}h{}m", m / 60, m % 60),
            };
            out.push_str(&decimal(n % 60_000_000_000, 1_000_000_000));
            out.push('s');
            out
        }
    };
    format!("{sign}{text}")
}

fn decimal(n: u64, unit: u64) -> String {
    let places = unit.ilog10() as usize;
    let text = format!("{}.{:0places$}", n / unit, n % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (seconds, long, short) in [
            (-2, "<invalid>", "<invalid>"),
            (-1, "0s", "0s"),
            (0, "0s", "0s"),
            (59, "59s", "59s"),
            (119, "119s", "1m"),
            (120, "2m", "2m"),
            (373, "6m13s", "6m"),
            (600, "10m", "10m"),
            (10_799, "179m", "2h"),
            (10_800, "3h", "3h"),
            (8 * HOUR - 1, "7h59m", "7h"),
            (29 * HOUR, "29h", "1d"),
            (48 * HOUR, "2d", "2d"),
            (2 * DAY + HOUR, "2d1h", "2d"),
            (8 * DAY, "8d", "8d"),
            (2 * YEAR, "2y", "2y"),
            (2 * YEAR + 5 * DAY, "2y5d", "2y"),
            (9 * YEAR, "9y", "9y"),
        ] {
            assert_eq!(
                (human(seconds).as_str(), human_short(seconds).as_str()),
                (long, short),
                "{seconds}"
            );
        }
        assert_eq!(age(None, jiff::Timestamp::UNIX_EPOCH), "<unknown>");
    }

    #[test]
    fn go_durations_round_trip() {
        for (text, nanos, printed) in [
            ("1m20s", 80_000_000_000, "1m20s"),
            ("80s", 80_000_000_000, "1m20s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            ("0", 0, "0s"),
            ("-1.5s", -1_500_000_000, "-1.5s"),
            ("250ms", 250_000_000, "250ms"),
            ("1us", 1_000, "1µs"),
            ("1.000001s", 1_000_001_000, "1.000001s"),
            (".5s", 500_000_000, "500ms"),
            ("3ns", 3, "3ns"),
            ("0.123456789s", 123_456_789, "123.456789ms"),
            ("0.25m", 15_000_000_000, "15s"),
        ] {
            assert_eq!(parse_go(text).unwrap(), nanos, "{text}");
            assert_eq!(format_go(nanos), printed, "{text}");
        }
    }

    #[test]
    fn go_durations_refused() {
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("s", "time: invalid duration \"s\""),
            ("1.1.1s", "time: invalid duration \"1.1.1s\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
        ] {
            assert_eq!(parse_go(text).unwrap_err().to_string(), error);
        }
    }
}
