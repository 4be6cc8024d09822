//! Signals by the names that images and Pods use.

/// First and last of the real-time signals as the C library hands them out.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of a signal written as `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` or `RTMAX-1`; `None` for anything else.
pub(crate) fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=*REAL_TIME.end()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(*REAL_TIME.start(), offset, '+');
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(*REAL_TIME.end(), offset, '-');
    }
    let name = match name {
        "POLL" => "IO",
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        name => name,
    };
    (1..)
        .zip(NAMES)
        .find(|(_, known)| *known == name)
        .map(|(number, _)| number)
}

fn real_time(base: i32, offset: &str, sign: char) -> Option<i32> {
    let number = match offset.strip_prefix(sign) {
        _ if offset.is_empty() => base,
        Some(digits) if sign == '+' => base.checked_add(i32::from(digits.parse::<u8>().ok()?))?,
        Some(digits) => base.checked_sub(i32::from(digits.parse::<u8>().ok()?))?,
        None => return None,
    };
    REAL_TIME.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn names_and_numbers() {
        let table = [
            ("SIGTERM", Some(15)),
            ("TERM", Some(15)),
            ("sigquit", Some(3)),
            ("15", Some(15)),
            ("64", Some(64)),
            ("SIGSYS", Some(31)),
            ("SIGPOLL", Some(29)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMAX", Some(64)),
            ("SIGRTMIN-1", None),
            ("SIGRTMIN+31", None),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("SIGNOTHING", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }
}
