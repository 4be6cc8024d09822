//! What can happen.

use proptest::prelude::*;

/// What happens next.
#[derive(Debug, Clone)]
pub(crate) enum Happens {
    /// The user changes the template, to one of a few.
    Template(u8),
    Scale(i32),
    /// The first ordinal.
    Start(i32),
    /// Pods are updated from this one on.
    Partition(Option<i32>),
    OnDelete,
    MinReady(i32),
    /// Whether claims go with Pods, and with the set.
    Retention(bool, bool),
    /// Somebody else has the name of the next revision.
    Squat(u8),
    /// The controller looks.
    Look,
    /// A Pod becomes ready, or not ready any more.
    Ready(usize, bool),
    /// A Pod fails for good, or succeeds.
    Over(usize, bool),
    /// A Pod that is being deleted ends.
    Ends(usize),
    /// Somebody deletes a Pod.
    Deleted(usize),
    /// A Pod loses its owner.
    Orphaned(usize),
    /// A Pod is not selected any more.
    Strays(usize),
    /// What has lost its owners goes.
    Garbage,
    /// Time passes.
    Seconds(i64),
}

pub(crate) fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        2 => (0..4u8).prop_map(Happens::Template),
        2 => (0..6).prop_map(Happens::Scale),
        1 => (0..3).prop_map(Happens::Start),
        1 => prop::option::of(0..4).prop_map(Happens::Partition),
        1 => Just(Happens::OnDelete),
        1 => (0..2).prop_map(|n| Happens::MinReady(n * 10)),
        1 => any::<(bool, bool)>().prop_map(|(a, b)| Happens::Retention(a, b)),
        1 => (0..4u8).prop_map(Happens::Squat),
        24 => Just(Happens::Look),
        16 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(i, r)| Happens::Ready(i, r)),
        2 => any::<(usize, bool)>().prop_map(|(i, f)| Happens::Over(i, f)),
        8 => any::<usize>().prop_map(Happens::Ends),
        1 => any::<usize>().prop_map(Happens::Deleted),
        1 => any::<usize>().prop_map(Happens::Orphaned),
        1 => any::<usize>().prop_map(Happens::Strays),
        2 => Just(Happens::Garbage),
        2 => (1..20i64).prop_map(Happens::Seconds),
    ]
}
