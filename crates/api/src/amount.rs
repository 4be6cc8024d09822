//! Amounts of Pods: a number, or a percentage of how many there are.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A number, or a percentage of `total`, rounded up or down; `None` where it is neither.
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    let text = match value {
        IntOrString::Int(number) => return Some(*number),
        IntOrString::String(text) => text,
    };
    let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
    let rest = if round_up { 99 } else { 0 };
    let whole = percent.saturating_mul(total.into()).saturating_add(rest);
    Some(i32::try_from(whole.div_euclid(100)).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_of_the_total() {
        let of = |text: &str, total, up| scaled(&IntOrString::String(text.into()), total, up);
        assert_eq!(scaled(&IntOrString::Int(3), 10, true), Some(3));
        for (text, total, up, expected) in [
            ("25%", 10, true, Some(3)),
            ("25%", 10, false, Some(2)),
            ("1%", 1, true, Some(1)),
            ("1%", 1, false, Some(0)),
            ("100%", 7, true, Some(7)),
            ("0%", 7, true, Some(0)),
            // No product is too large.
            ("100%", i32::MAX, false, Some(i32::MAX)),
            ("25", 10, true, None),
            ("a%", 10, true, None),
        ] {
            assert_eq!(of(text, total, up), expected, "{text} of {total}");
        }
    }
}
