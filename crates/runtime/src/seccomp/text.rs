//! The engine's own notation of a profile; see the head of `default.profile`.

use super::policy::{Action, Compare, Policy, Rule, Test};
use super::syscalls;
use crate::launch::capabilities;

/// The default profile.
pub(super) const DEFAULT: &str = include_str!("default.profile");

/// A line the notation does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {word:?} is not understood")]
pub(super) struct TextError {
    pub(super) line: usize,
    pub(super) word: String,
}

/// Reads a profile for a container with these capabilities. Calls this architecture does not have are passed over.
pub(super) fn parse(text: &str, capabilities: u64) -> Result<Policy, TextError> {
    let mut policy = Policy::new(Action::Errno(libc::EPERM as u16));
    let mut section = None;
    for (n, line) in text.lines().enumerate() {
        let wrong = |word: &str| TextError {
            line: n + 1,
            word: word.to_owned(),
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(head) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = parse_head(head, capabilities).ok_or_else(|| wrong(head))?;
            continue;
        }
        let Some(action) = section else { continue };
        for word in line.split_whitespace() {
            let (name, tests) = parse_call(word).ok_or_else(|| wrong(word))?;
            if let Some(number) = syscalls::number(name) {
                policy.add(number, Rule { tests, action });
            }
        }
    }
    Ok(policy)
}

/// `Some(None)` when the conditions do not hold.
#[expect(
    clippy::option_option,
    reason = "a wrong head and one that does not apply are different things"
)]
fn parse_head(head: &str, set: u64) -> Option<Option<Action>> {
    let mut words = head.split_whitespace();
    let action = match words.next()? {
        "allow" => Action::Allow,
        "errno" => Action::Errno(words.next()?.parse().ok()?),
        _ => return None,
    };
    for condition in words {
        let (key, name) = condition.split_once('=')?;
        capabilities::number(name)?;
        let has = capabilities::has(set, name);
        match key {
            "cap" if has => {}
            "nocap" if !has => {}
            "cap" | "nocap" => return Some(None),
            _ => return None,
        }
    }
    Some(Some(action))
}

fn parse_call(word: &str) -> Option<(&str, Vec<Test>)> {
    let Some((name, rest)) = word.split_once('(') else {
        return Some((word, Vec::new()));
    };
    let test = rest.strip_suffix(')')?;
    let argument = test.get(..1)?.parse().ok().filter(|n| *n < 6)?;
    let test = &test[1..];
    let (compare, value) = if let Some(value) = test.strip_prefix("==") {
        (Compare::Equal, value)
    } else if let Some(value) = test.strip_prefix("!=") {
        (Compare::NotEqual, value)
    } else {
        let (mask, value) = test.strip_prefix('&')?.split_once("==")?;
        (Compare::Masked(integer(mask)?), value)
    };
    Some((
        name,
        vec![Test {
            argument,
            compare,
            value: integer(value)?,
        }],
    ))
}

fn integer(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told_by_line() {
        for (text, expected) in [
            ("[deny]\n", "line 1: \"deny\" is not understood"),
            (
                "\n[allow cap=FLY]\n",
                "line 2: \"allow cap=FLY\" is not understood",
            ),
            (
                "[allow]\nread(6==1)\n",
                "line 2: \"read(6==1)\" is not understood",
            ),
            (
                "[allow]\nread(0<1)\n",
                "line 2: \"read(0<1)\" is not understood",
            ),
        ] {
            assert_eq!(parse(text, 0).unwrap_err().to_string(), expected);
        }
    }
}
