//! Small things all plans ask of objects.

use api::amount;
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
    let scaled = value.and_then(|value| amount::scaled(value, total, round_up));
    scaled.unwrap_or(0)
}
