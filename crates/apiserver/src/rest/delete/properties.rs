//! 20 of the lifecycle specification's §16, over generated deletions: the moment at which a Pod was first to go moves only when its
//! grace is shortened, and the moment at which it has to be gone is never later, but that one in the past becomes now (§2.1).

use proptest::prelude::*;

use super::*;

/// Seconds that pass, then the grace that is asked for.
fn deletions() -> impl Strategy<Value = Vec<(i64, Option<i64>)>> {
    let asked = prop_oneof![Just(None), (-2_i64..70).prop_map(Some)];
    proptest::collection::vec((0_i64..30, asked), 1..8)
}

/// `deletionTimestamp` in seconds, and `deletionGracePeriodSeconds`.
fn marks(pod: &Value) -> (i64, i64) {
    let metadata = &pod["metadata"];
    let at = metadata["deletionTimestamp"].as_str().expect("a mark");
    let at: Timestamp = at.parse().expect("a time");
    let grace = metadata["deletionGracePeriodSeconds"].as_i64();
    (at.as_second(), grace.expect("a grace"))
}

proptest! {
    #![proptest_config(testkit::cases(2_000, 16))]

    #[test]
    fn a_deletion_is_only_ever_brought_forward(own in 0_i64..70, deletions in deletions()) {
        let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut pod = json!({"metadata": {"generation": 1},
            "spec": {"nodeName": "n", "terminationGracePeriodSeconds": own}, "status": {"phase": "Running"}});
        let mut before: Option<(i64, i64)> = None;
        for (seconds, asked) in deletions {
            now = now.checked_add(SignedDuration::from_secs(seconds)).expect("a time");
            let next = mark_pod(&mut pod, asked, now);
            let (at, grace) = marks(&pod);
            prop_assert_eq!(next == Next::Remove, grace == 0);
            if let Some((at_before, grace_before)) = before {
                let now = now.as_second();
                prop_assert!(at <= at_before.max(now), "{} after {} at {}", at, at_before, now);
                prop_assert!(grace <= grace_before);
                if grace == grace_before {
                    prop_assert_eq!(at, at_before);
                } else if at > now {
                    prop_assert_eq!(at - grace, at_before - grace_before, "its beginning stays");
                }
            }
            before = Some((at, grace));
        }
    }
}
