//! A StatefulSet, its Pods, claims and revisions, whatever happens to them in whatever order: what comes first comes first at each step,
//! and in the end there is what was asked for.

mod checks;
mod happens;
mod world;

use happens::happens;
use proptest::prelude::*;
use world::World;

proptest! {
    #![proptest_config(testkit::cases(500, 11))]

    #[test]
    fn whatever_happens_there_is_in_the_end_what_was_asked_for(
        is_ordered: bool, has_claims: bool, all in prop::collection::vec(happens(), 0..120),
    ) {
        let policy = if is_ordered { "OrderedReady" } else { "Parallel" };
        let mut world = World::new(policy, has_claims);
        for what in all {
            world.happen(what);
        }
        world.settle();
        world.check_settled();
        prop_assert!(!world.look().0, "once more changes nothing");
    }
}
