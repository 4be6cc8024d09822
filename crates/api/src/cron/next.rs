//! The times of a schedule.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Fields, Schedule};

/// No time is looked for beyond the end of so many years after this one: there is none on the 31st of February.
const YEARS: i16 = 5;

impl Schedule {
    /// The first time after `after`, which is a whole second; `None` where there is none within five years or so.
    ///
    /// Fields mean clocks in `zone`. What they name is skipped on a day whose clocks skip it, and comes twice on one whose clocks show it
    /// twice.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let second = after.as_nanosecond().div_euclid(1_000_000_000);
        let second = i64::try_from(second).ok()?;
        match self {
            Schedule::Every(seconds) => {
                let then = second.checked_add_unsigned(*seconds)?;
                Timestamp::from_second(then).ok()
            }
            Schedule::At(fields) => fields.first(Timestamp::from_second(second + 1).ok()?, zone),
        }
    }
}

impl Fields {
    /// The first time that is not before `at`.
    fn first(&self, mut at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if self.minutes == 0 || self.hours == 0 {
            return None;
        }
        let last_year = zone.to_datetime(at).year() + YEARS;
        loop {
            let clock = zone.to_datetime(at);
            if clock.year() > last_year {
                return None;
            }
            let Some(later) = self.not_before(clock) else {
                return Some(at);
            };
            let jump = at.checked_add(later?.duration_since(clock)).ok()?;
            // Clocks that are set on the way show something else from then on.
            let set = zone.following(at).next().map(|set| set.timestamp());
            at = set.map_or(jump, |set| jump.min(set));
        }
    }

    /// Where what a clock shows is none of the times: what it has to show at least; `None` in that beyond the end of time.
    fn not_before(&self, clock: DateTime) -> Option<Option<DateTime>> {
        let has = |set: u64, number: i8| set >> number & 1 == 1;
        let day = clock.date().at(0, 0, 0, 0);
        let hour = day + SignedDuration::from_hours(clock.hour().into());
        let minute = hour + SignedDuration::from_mins(clock.minute().into());
        let after = |begin: DateTime, span| Some(begin.checked_add(span).ok());
        if !has(self.months, clock.month()) {
            let next = clock.date().last_of_month().at(0, 0, 0, 0);
            return after(next, SignedDuration::from_hours(24));
        }
        if !self.has_day(clock) {
            return after(day, SignedDuration::from_hours(24));
        }
        if !has(self.hours, clock.hour()) {
            return after(hour, SignedDuration::from_hours(1));
        }
        if !has(self.minutes, clock.minute()) || clock.second() != 0 {
            return after(minute, SignedDuration::from_mins(1));
        }
        None
    }

    fn has_day(&self, clock: DateTime) -> bool {
        let is_day = self.days >> clock.day() & 1 == 1;
        let weekday = clock.weekday().to_sunday_zero_offset();
        let is_weekday = self.weekdays >> weekday & 1 == 1;
        if self.any_day || self.any_weekday {
            return is_day && is_weekday;
        }
        is_day || is_weekday
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::time_zone;

    fn times(schedule: &str, zone: &str, after: &str, number: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule).expect(schedule);
        let zone = time_zone(zone).expect(zone);
        let mut at: Timestamp = after.parse().unwrap();
        let mut all = Vec::new();
        while all.len() < number
            && let Some(next) = schedule.next(at, &zone)
        {
            all.push(next.to_string());
            at = next;
        }
        all
    }

    #[test]
    fn clocks_are_set() {
        let cases = [
            // 02:30 is skipped on the 8th of March, and 01:30 comes twice on the 1st of November.
            (
                "30 2 * * *",
                "America/New_York",
                "2026-03-07T00:00:00Z",
                ["2026-03-07T07:30:00Z", "2026-03-09T06:30:00Z"],
            ),
            (
                "30 1 * * *",
                "America/New_York",
                "2026-11-01T00:00:00Z",
                ["2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"],
            ),
            (
                "30 * * * *",
                "Europe/Berlin",
                "2026-03-29T00:00:00Z",
                ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"],
            ),
            // No midnight on the 29th of March, which is a day nevertheless.
            (
                "0 12 29 3 *",
                "Asia/Beirut",
                "2026-01-01T00:00:00Z",
                ["2026-03-29T09:00:00Z", "2027-03-29T09:00:00Z"],
            ),
            // Clocks set back from 02:00 to 01:30: 01:45 comes twice.
            (
                "45 1 5 4 *",
                "Australia/Lord_Howe",
                "2026-01-01T00:00:00Z",
                ["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"],
            ),
        ];
        for (schedule, zone, after, expected) in cases {
            let found = times(schedule, zone, after, 2);
            assert_eq!(found, expected, "{schedule} in {zone}");
        }
    }

    #[test]
    fn there_may_be_no_time() {
        for never in [
            "0 0 31 2 *",
            ", * * * *",
            "* , * * *",
            "* * * , *",
            "* * , * ,",
        ] {
            let found = times(never, "UTC", "2026-01-01T00:00:00Z", 1);
            assert_eq!(found, [""; 0], "{never}");
        }
        let rare = times("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1);
        assert_eq!(rare, [""; 0], "2104");
        let late = times("0 0 1 1 *", "UTC", "9999-06-01T00:00:00Z", 1);
        assert_eq!(late, [""; 0], "the end of time");
    }

    #[test]
    fn periods_begin_with_a_second() {
        let every = Schedule::Every(90);
        let after: Timestamp = "2026-01-01T00:00:00.7Z".parse().unwrap();
        let next = every.next(after, &TimeZone::UTC).map(|t| t.to_string());
        assert_eq!(next.as_deref(), Some("2026-01-01T00:01:30Z"));
    }
}
