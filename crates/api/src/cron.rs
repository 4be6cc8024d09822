//! Schedules of CronJobs: five fields in the form of crontab, or a word for them (`@daily`), or `@every` so long. The words of errors
//! are those of the library that upstream reads them with (robfig/cron).

mod next;

use crate::duration;
use crate::gotext;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// When something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At minutes that fields name.
    At(Fields),
    /// Again and again, so many whole seconds later; at least one.
    Every(u64),
}

/// Which minutes are meant: in each field, the bit of a number says that it is one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// 0 to 59.
    pub minutes: u64,
    /// 0 to 23.
    pub hours: u64,
    /// 1 to 31.
    pub days: u64,
    /// 1 to 12.
    pub months: u64,
    /// 0 (Sunday) to 6.
    pub weekdays: u64,
    /// Whether every day of the month is meant, so that the weekday alone decides; the same of the weekday. Where neither is, a day
    /// that is one of either is meant.
    pub any_day: bool,
    /// As `any_day`, of days of the week.
    pub any_weekday: bool,
}

/// Why a schedule does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CronError(String);

/// The numbers of a field, and their names from the first on.
struct Bounds {
    least: u64,
    most: u64,
    names: &'static [&'static str],
}

const MINUTES: Bounds = plain(0, 59);
const HOURS: Bounds = plain(0, 23);
const DAYS: Bounds = plain(1, 31);
const MONTHS: Bounds = Bounds {
    least: 1,
    most: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAYS: Bounds = Bounds {
    least: 0,
    most: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

const fn plain(least: u64, most: u64) -> Bounds {
    Bounds {
        least,
        most,
        names: &[],
    }
}

/// Whether there is a time zone of this name. The answer comes from the zones this program brings along.
pub fn is_time_zone(name: &str) -> bool {
    // Names are compared without case there.
    let zones = TimeZoneDatabase::bundled();
    let known = zones.available().any(|known| known.as_str() == name);
    known || name == "UTC"
}

/// The time zone of this name, where [`is_time_zone`].
pub fn time_zone(name: &str) -> Option<TimeZone> {
    let zone = TimeZoneDatabase::bundled().get(name).ok();
    zone.filter(|_| is_time_zone(name))
}

fn fail<T>(why: String) -> Result<T, CronError> {
    Err(CronError(why))
}

impl Schedule {
    /// Reads a schedule. A time zone before it (`TZ=…`, `CRON_TZ=…`) must be one, and is not kept.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let text = without_zone(text)?;
        if text.starts_with('@') {
            return described(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            let found = fields.len();
            let fields = fields.join(" ");
            return fail(format!(
                "expected exactly 5 fields, found {found}: [{fields}]"
            ));
        };
        let (minutes, _) = field(minutes, &MINUTES)?;
        let (hours, _) = field(hours, &HOURS)?;
        let (days, any_day) = field(days, &DAYS)?;
        let (months, _) = field(months, &MONTHS)?;
        let (weekdays, any_weekday) = field(weekdays, &WEEKDAYS)?;
        Ok(Self::At(Fields {
            minutes,
            hours,
            days,
            months,
            weekdays,
            any_day,
            any_weekday,
        }))
    }
}

fn without_zone(text: &str) -> Result<&str, CronError> {
    if text.is_empty() {
        return fail("empty spec string".to_owned());
    }
    if !text.starts_with("TZ=") && !text.starts_with("CRON_TZ=") {
        return Ok(text);
    }
    let (zone, rest) = text.split_once(' ').unwrap_or((text, ""));
    let Some((_, name)) = zone.split_once('=').filter(|_| text.contains(' ')) else {
        // What upstream says of a slice that ends before it begins.
        let why = "runtime error: slice bounds out of range [:-1]";
        return fail(format!("invalid schedule format: {why}"));
    };
    if !["", "UTC", "Local"].contains(&name) && !is_time_zone(name) {
        return fail(format!(
            "provided bad location {name}: unknown time zone {name}"
        ));
    }
    Ok(rest.trim())
}

fn described(text: &str) -> Result<Schedule, CronError> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(period) = text.strip_prefix("@every ") else {
                return fail(format!("unrecognized descriptor: {text}"));
            };
            let nanos = duration::parse_go(period)
                .map_err(|why| CronError(format!("failed to parse duration {text}: {why}")))?;
            let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(0);
            return Ok(Schedule::Every(seconds.max(1)));
        }
    };
    Schedule::parse(fields)
}

/// The numbers of a field, and whether it names all by `*`.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), CronError> {
    let (mut bits, mut is_any) = (0, false);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (some, all) = range(part, bounds)?;
        bits |= some;
        is_any |= all;
    }
    Ok((bits, is_any))
}

fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), CronError> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let mut is_any = false;
    let (begin, mut end) = match ends[..] {
        ["*" | "?", ..] => {
            is_any = true;
            (bounds.least, bounds.most)
        }
        [one] => {
            let one = named(one, bounds)?;
            (one, one)
        }
        [first, last] => (named(first, bounds)?, named(last, bounds)?),
        [first, ..] => {
            named(first, bounds)?;
            return fail(format!("too many hyphens: {text}"));
        }
        [] => return fail(format!("too many hyphens: {text}")),
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if ends.len() == 1 {
                end = bounds.most;
            }
            is_any &= step <= 1;
            step
        }
        _ => return fail(format!("too many slashes: {text}")),
    };
    let Bounds { least, most, .. } = bounds;
    if begin < *least {
        return fail(format!(
            "beginning of range ({begin}) below minimum ({least}): {text}"
        ));
    }
    if end > *most {
        return fail(format!(
            "end of range ({end}) above maximum ({most}): {text}"
        ));
    }
    if begin > end {
        return fail(format!(
            "beginning of range ({begin}) beyond end of range ({end}): {text}"
        ));
    }
    let Some(step) = usize::try_from(step).ok().filter(|step| *step > 0) else {
        return fail(format!("step of range should be a positive number: {text}"));
    };
    let bits = (begin..=end).step_by(step).fold(0, |bits, n| bits | 1 << n);
    Ok((bits, is_any))
}

fn named(text: &str, bounds: &Bounds) -> Result<u64, CronError> {
    let lower = text.to_ascii_lowercase();
    let place = bounds.names.iter().position(|name| *name == lower);
    match place.and_then(|place| u64::try_from(place).ok()) {
        Some(place) => Ok(bounds.least + place),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, CronError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let found = text.parse::<i64>().map_err(|_| {
        let why = match is_number {
            true => "value out of range",
            false => "invalid syntax",
        };
        let quoted = gotext::quote(text);
        CronError(format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {quoted}: {why}"
        ))
    })?;
    u64::try_from(found)
        .map_err(|_| CronError(format!("negative number ({found}) not allowed: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        match Schedule::parse(text) {
            Ok(Schedule::At(fields)) => fields,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn fields_are_sets_of_numbers() {
        let found = fields("*/15 1-3,5 1 JAN,3 mon-fri");
        assert_eq!(found.minutes, 1 | 1 << 15 | 1 << 30 | 1 << 45);
        assert_eq!(found.hours, 0b10_1110);
        assert_eq!((found.days, found.any_day), (0b10, false));
        assert_eq!(found.months, 0b1010);
        assert_eq!((found.weekdays, found.any_weekday), (0b11_1110, false));
        let found = fields("5/20 * ? * *");
        assert_eq!(found.minutes, 1 << 5 | 1 << 25 | 1 << 45);
        assert_eq!((found.any_day, found.any_weekday), (true, true));
        assert_eq!(fields("@weekly"), fields("0 0 * * SUN"));
        assert!(!fields("0 0 */2 * *").any_day);
        let every = |text: &str| Schedule::parse(text).expect(text);
        assert_eq!(every("@every 1h30m"), Schedule::Every(5400));
        assert_eq!(every("@every 1ms"), Schedule::Every(1));
        assert_eq!(every("TZ=UTC 0 0 * * *"), every("@daily"));
    }

    #[test]
    fn zones_are_known_by_their_names() {
        for (name, known) in [
            ("Europe/Berlin", true),
            ("UTC", true),
            ("Etc/UTC", true),
            ("europe/berlin", false),
            ("Mars/Olympus", false),
        ] {
            assert_eq!(is_time_zone(name), known, "{name}");
        }
    }
}
