//! Small things all plans ask of objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// An object's name; empty before it has one.
pub(crate) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// The order objects were made in; of the same second by name.
pub(crate) fn by_age(a: &ObjectMeta, b: &ObjectMeta) -> std::cmp::Ordering {
    let created = |meta: &ObjectMeta| meta.creation_timestamp.as_ref().map(|t| t.0);
    created(a)
        .cmp(&created(b))
        .then_with(|| name(a).cmp(name(b)))
}

/// A count as it stands in a status that leaves zeros out.
pub(crate) fn count(number: i32) -> Option<i32> {
    Some(number).filter(|n| *n != 0)
}

/// How many there are; no list is longer than a number of the API can say.
pub(crate) fn number<T>(all: impl IntoIterator<Item = T>) -> i32 {
    i32::try_from(all.into_iter().count()).unwrap_or(i32::MAX)
}

/// A number, or a percentage of `total`; what is neither is nothing, which validation sees to.
pub(crate) fn scaled(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    let text = match value {
        None => return 0,
        Some(IntOrString::Int(number)) => return *number,
        Some(IntOrString::String(text)) => text,
    };
    let percent: i64 = text
        .strip_suffix('%')
        .and_then(|p| p.parse().ok())
        .unwrap_or(0);
    let rest = if round_up { 99 } else { 0 };
    let whole = percent
        .saturating_mul(total.into())
        .saturating_add(rest)
        .div_euclid(100);
    i32::try_from(whole).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_of_the_total() {
        let of = |text: &str, total, up| scaled(Some(&IntOrString::String(text.into())), total, up);
        assert_eq!(scaled(Some(&IntOrString::Int(3)), 10, true), 3);
        assert_eq!((of("25%", 10, true), of("25%", 10, false)), (3, 2));
        assert_eq!((of("1%", 1, true), of("1%", 1, false)), (1, 0));
        assert_eq!((of("100%", 7, true), of("0%", 7, true)), (7, 0));
        assert_eq!(
            of("100%", i32::MAX, false),
            i32::MAX,
            "no product is too large"
        );
        assert_eq!(scaled(None, 10, true), 0);
    }
}
