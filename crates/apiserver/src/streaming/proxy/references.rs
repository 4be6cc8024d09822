//! Character references in attribute values (HTML, 13.2.5.72 and 13.5), as upstream's tokenizer reads and writes them.

use std::collections::HashMap;
use std::sync::LazyLock;

/// All named references and the code points each stands for, in hexadecimal; those that may lack their semicolon are there twice.
static NAMED: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let lines = include_str!("references.txt").lines();
    lines.filter_map(|line| line.split_once(' ')).collect()
});
/// What numbers 80 to 9f mean: bytes of Windows-1252.
const WINDOWS: [u32; 32] = [
    0x20ac, 0x81, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160, 0x2039,
    0x152, 0x8d, 0x17d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x2dc,
    0x2122, 0x161, 0x203a, 0x153, 0x9d, 0x17e, 0x178,
];

/// What the raw value of an attribute means. Bytes that are no UTF-8 stay.
pub(super) fn decode(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        let found = (*first == b'&').then(|| reference(after)).flatten();
        if let Some((text, len)) = found {
            out.extend_from_slice(text.as_bytes());
            rest = &after[len..];
            continue;
        }
        // The end of a line is one byte, whatever it was.
        match first {
            b'\r' if after.first() == Some(&b'\n') => {}
            b'\r' => out.push(b'\n'),
            byte => out.push(*byte),
        }
        rest = after;
    }
    out
}

/// A value as it stands between double quotes.
pub(super) fn encode(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&#34;"),
            b'\r' => out.extend_from_slice(b"&#13;"),
            byte => out.push(*byte),
        }
    }
}

/// What a reference whose `&` was read means, and how many bytes it has after that; `None` if it is just text.
fn reference(after: &[u8]) -> Option<(String, usize)> {
    if let [b'#', digits @ ..] = after {
        let (text, len) = number(digits)?;
        return Some((text, len + 1));
    }
    let len = count(after, u8::is_ascii_alphanumeric);
    let next = after.get(len);
    let len = len + usize::from(next == Some(&b';'));
    // `?a=1&copy=2` is a query.
    if next == Some(&b'=') {
        return None;
    }
    let points = NAMED.get(std::str::from_utf8(&after[..len]).ok()?)?;
    let points = points.split(' ');
    let chars = points.filter_map(|hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?));
    Some((chars.collect(), len))
}

fn number(text: &[u8]) -> Option<(String, usize)> {
    let (radix, skip) = match text {
        [b'x' | b'X', ..] => (16, 1),
        _ => (10, 0),
    };
    let text = &text[skip..];
    let digit = |byte: &u8| char::from(*byte).to_digit(radix);
    let len = count(text, |byte| digit(byte).is_some());
    if len == 0 {
        return None;
    }
    let digits = text[..len].iter().filter_map(digit);
    let value = digits.fold(0_u32, |sum, d| sum.saturating_mul(radix).saturating_add(d));
    let value = match value {
        0 => 0xfffd,
        0x80..=0x9f => WINDOWS[value as usize - 0x80],
        value => value,
    };
    let text_char = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
    let semicolon = usize::from(text.get(len) == Some(&b';'));
    Some((text_char.to_string(), skip + len + semicolon))
}

fn count(text: &[u8], is_it: impl Fn(&u8) -> bool) -> usize {
    text.iter().take_while(|byte| is_it(byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        assert_eq!(NAMED.len(), 2231);
        for (raw, want) in [
            ("a&amp;b", "a&b"),
            ("a&ampb", "a&ampb"),
            ("a&amp", "a&"),
            ("?a&copy=1", "?a&copy=1"),
            ("?a&copy;=1", "?a©=1"),
            ("&", "&"),
            ("&;", "&;"),
            ("&&sol;", "&/"),
            ("&no;&sol;", "&no;/"),
            ("&#47;&#x2F;&#X2fa", "//\u{2fa}"),
            ("&#47/", "//"),
            ("&#;&#x;&#xg;&#", "&#;&#x;&#xg;&#"),
            (
                "&#128;&#0;&#xd800;&#99999999999;",
                "€\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("\r\n\r\n\r&#13;", "\n\n\n\r"),
            ("&NotEqualTilde;", "≂̸"),
        ] {
            assert_eq!(
                String::from_utf8(decode(raw.as_bytes())).unwrap(),
                want,
                "{raw}"
            );
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let text = "/a?b=c&d='\"<>\r&amp;é";
        let mut out = Vec::new();
        encode(text.as_bytes(), &mut out);
        assert!(!out.contains(&b'"'));
        assert_eq!(decode(&out), text.as_bytes());
    }
}
