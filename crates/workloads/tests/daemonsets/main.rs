//! A DaemonSet, its Pods and the nodes, whatever happens to them and whenever the controller is cut off between two writes: no Pod is made
//! where none is to be, updates keep to their bounds, and in the end every node that is for a Pod has one of the newest template.

mod bounds;
mod cluster;
mod controller;
mod end;

use proptest::prelude::*;

use cluster::Cluster;

/// A node, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shape {
    is_fast: bool,
    taint: Option<&'static str>,
}

/// What happens next.
#[derive(Debug, Clone)]
enum Happens {
    /// The user changes the template: its image, whether nodes have to be fast, whether their taints are tolerated.
    Template(u8, bool, bool),
    Strategy {
        is_rolling: bool,
        surge: u8,
        unavailable: u8,
    },
    MinReady(i32),
    /// A node comes, changes or goes.
    Node(u8, Option<Shape>),
    /// The controller looks, and is cut off after so many writes.
    Controller(usize),
    /// Pods can be made, or cannot.
    Quota(bool),
    /// The next new revision finds another of its name.
    Collides,
    Bound(usize),
    /// A Pod becomes ready, or not ready any more.
    Ready(usize, bool),
    /// A Pod ends for good, with success or not.
    Over(usize, bool),
    /// A Pod that is being deleted ends, or one whose node is gone.
    Ends(usize),
    /// Somebody deletes a Pod.
    Deleted(usize),
    /// A Pod loses its owner.
    Orphaned(usize),
    /// Somebody makes a copy of a revision.
    Twin(usize),
    /// Time passes.
    Seconds(i64),
}

fn happens() -> impl Strategy<Value = Happens> {
    let taint =
        prop_oneof![3 => Just(None), 1 => Just(Some("NoSchedule")), 1 => Just(Some("NoExecute"))];
    let shape = (prop::bool::weighted(0.8), taint);
    let shape = shape.prop_map(|(is_fast, taint)| Shape { is_fast, taint });
    prop_oneof![
        2 => (0..4u8, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(i, f, t)| Happens::Template(i, f, t)),
        1 => (prop::bool::weighted(0.8), prop_oneof![Just(0), 0..101u8], 0..101u8).prop_map(
            |(is_rolling, surge, unavailable)| Happens::Strategy { is_rolling, surge, unavailable }
        ),
        1 => prop_oneof![Just(0), 1..20].prop_map(Happens::MinReady),
        4 => (0..5u8, prop::option::weighted(0.9, shape)).prop_map(|(n, s)| Happens::Node(n, s)),
        14 => prop_oneof![3 => Just(usize::MAX), 1 => 0..6usize].prop_map(Happens::Controller),
        1 => prop::bool::weighted(0.3).prop_map(Happens::Quota),
        1 => Just(Happens::Collides),
        6 => any::<usize>().prop_map(Happens::Bound),
        12 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(i, r)| Happens::Ready(i, r)),
        2 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(i, ok)| Happens::Over(i, ok)),
        6 => any::<usize>().prop_map(Happens::Ends),
        1 => any::<usize>().prop_map(Happens::Deleted),
        1 => any::<usize>().prop_map(Happens::Orphaned),
        1 => any::<usize>().prop_map(Happens::Twin),
        3 => (1..90i64).prop_map(Happens::Seconds),
    ]
}

proptest! {
    #![proptest_config(testkit::cases(500, 11))]

    #[test]
    fn whatever_happens_every_node_has_its_pod_in_the_end(all in prop::collection::vec(happens(), 0..120)) {
        let mut cluster = Cluster::new();
        for what in &all {
            cluster.happen(what);
        }
        cluster.settle();
        cluster.check_settled();
        prop_assert!(!cluster.look(usize::MAX).0, "once more changes nothing");
    }
}
