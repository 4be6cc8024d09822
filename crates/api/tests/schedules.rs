//! Times of schedules, against those the library upstream uses (robfig/cron 3.0.1) names.
//!
//! Each line of `data/schedules.txt` is a time zone, a schedule, a time, and the four times that follow it, in seconds; `-` is no time.

use api::cron::{Schedule, time_zone};
use jiff::Timestamp;

#[test]
fn times_are_those_of_upstream() {
    let lines = include_str!("data/schedules.txt").lines();
    for line in lines {
        let mut parts = line.split('|');
        let mut part = || parts.next().expect(line);
        let (zone, schedule, after) = (part(), part(), part());
        let zone = time_zone(zone).expect(line);
        let schedule = Schedule::parse(schedule).expect(line);
        let mut at = Timestamp::from_second(after.parse().unwrap()).unwrap();
        for expected in parts {
            let found = schedule.next(at, &zone);
            let text = found.map_or("-".to_owned(), |time| time.as_second().to_string());
            assert_eq!(text, expected, "{line}");
            at = found.unwrap_or(at);
        }
    }
}
