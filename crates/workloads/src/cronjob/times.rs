//! What a schedule says of a moment.

use api::cron::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// More missed times than these are told of.
const MANY: usize = 100;

/// The times of a schedule around a moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// The last one before it or at it, if one has come since the start.
    pub(super) latest: Option<Timestamp>,
    /// The first one after it.
    pub(super) next: Option<Timestamp>,
    /// So many have come that something must be wrong.
    pub(super) is_many: bool,
}

/// The times of `schedule` after `start`, seen from `now`; `None` if there is none at all. Those before `since` do not count as many.
pub(super) fn around(
    schedule: &Schedule,
    zone: &TimeZone,
    start: Timestamp,
    since: Timestamp,
    now: Timestamp,
) -> Option<Times> {
    let next = |time| schedule.next(time, zone);
    let first = next(start)?;
    if first > now {
        return Some(Times {
            latest: None,
            next: Some(first),
            is_many: false,
        });
    }
    let (latest, number) = match schedule {
        Schedule::Every(seconds) => {
            let period = i64::try_from(*seconds).unwrap_or(i64::MAX);
            let over = (now.as_second() - first.as_second()) % period;
            let latest = now.as_second() - over;
            let number = (latest - since.as_second() - 1).div_euclid(period) + 1;
            let number = usize::try_from(number).unwrap_or(0);
            (Timestamp::from_second(latest).ok()?, number)
        }
        Schedule::At(_) => {
            let all = std::iter::successors(next(since), |time| next(*time));
            let missed = all.take_while(|time| *time <= now);
            let latest = latest(|time| next(time).is_some_and(|t| t <= now), start, now)?;
            (latest, missed.take(MANY + 1).count())
        }
    };
    Some(Times {
        latest: Some(latest),
        next: next(latest),
        is_many: number > MANY,
    })
}

/// The first whole second at which no time is left until `now`, which is the last time; at `start` there is one.
fn latest(
    is_one_left: impl Fn(Timestamp) -> bool,
    start: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let (mut before, mut after) = (start.as_second(), now.as_second());
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if is_one_left(Timestamp::from_second(middle).ok()?) {
            before = middle;
        } else {
            after = middle;
        }
    }
    Timestamp::from_second(after).ok()
}

/// The moment so many seconds before `now`.
pub(super) fn ago(now: Timestamp, seconds: i64) -> Timestamp {
    let then = now.checked_sub(SignedDuration::from_secs(seconds));
    then.unwrap_or(Timestamp::MIN)
}
