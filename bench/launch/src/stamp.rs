//! The containers' program: it says when it began and when it ended, by a clock that every process of the machine shares.

use std::io::Write;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Name under which the program runs this.
pub(crate) const NAME: &str = "stamp";

/// Time since the machine started.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

/// Writes the time, waits, and writes it again before the end.
pub(crate) fn main(wait: Duration) {
    // Who does not read does not want to know.
    let _ = writeln!(std::io::stdout(), "{}", now().as_nanos());
    if !wait.is_zero() {
        std::thread::sleep(wait);
        let _ = writeln!(std::io::stdout(), "{}", now().as_nanos());
    }
}

/// The times in what the program wrote, or in its log, where each is the last word of a line.
pub(crate) fn read(text: &str) -> Vec<Duration> {
    text.lines()
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .map(Duration::from_nanos)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_logs_and_streams() {
        let log = "2026-01-01T00:00:00.0Z stdout F 12\n2026-01-01T00:00:00.1Z stdout F 34\n";
        let nanos = |n| Duration::from_nanos(n);
        assert_eq!(read(log), [nanos(12), nanos(34)]);
        assert_eq!(read("56\n"), [nanos(56)]);
        assert_eq!(read("error: no\n"), Vec::<Duration>::new());
    }
}
