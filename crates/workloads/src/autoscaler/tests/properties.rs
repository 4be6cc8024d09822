//! Whatever Pods use, and whatever the rules are: sizes keep to the bounds and to what policies allow, and are the same each time.

use proptest::prelude::*;
use testkit::cases;

use super::*;

fn policies() -> impl Strategy<Value = Value> {
    let policy = (prop::bool::ANY, 1..8i32, 1..90i32).prop_map(|(is_pods, value, period)| {
        let (kind, value) = if is_pods {
            ("Pods", value)
        } else {
            ("Percent", value * 30)
        };
        json!({"type": kind, "value": value, "periodSeconds": period})
    });
    (
        prop::collection::vec(policy, 1..3),
        prop::sample::select(vec!["Max", "Min", "Disabled"]),
        0..120i32,
    )
        .prop_map(|(policies, select, window)| json!({"policies": policies, "selectPolicy": select, "stabilizationWindowSeconds": window}))
}

fn behaviors() -> impl Strategy<Value = Value> {
    let some =
        (policies(), policies()).prop_map(|(up, down)| json!({"scaleUp": up, "scaleDown": down}));
    prop_oneof![1 => Just(Value::Null), 4 => some]
}

/// How many Pods one policy of a direction lets there be, by all sizes of its period.
fn allowed(policy: &Value, sizes: &[(i64, i32)], second: i64, is_up: bool) -> i32 {
    let period = policy["periodSeconds"].as_i64().unwrap();
    let value = i32::try_from(policy["value"].as_i64().unwrap()).unwrap();
    // What there was before the first change of the period.
    let begun = sizes.iter().rev().find(|(at, _)| *at <= second - period);
    let begun = begun.unwrap_or(&sizes[0]).1;
    let change = match policy["type"] == "Pods" {
        true => value,
        false => (f64::from(begun) * f64::from(value) / 100.0).ceil() as i32,
    };
    if is_up {
        begun + change
    } else {
        begun - change
    }
}

proptest! {
    #![proptest_config(cases(300, 0xA5CA))]

    #[test]
    fn sizes_keep_to_bounds_and_policies(
        (least, more) in (1..6i32, 0..20i32),
        begin in 0..20i32,
        behavior in behaviors(),
        loads in prop::collection::vec((1..40i64, 0..300i64), 1..12),
    ) {
        let most = least + more;
        let mut spec = json!({"minReplicas": least, "maxReplicas": most, "metrics": utilization(50)});
        if !behavior.is_null() {
            spec["behavior"] = behavior.clone();
        }
        let autoscaler = autoscaler(spec);
        let mut replicas = least + begin % (more + 1);
        let mut memory = Memory::default();
        let mut second = 0;
        let mut sizes = vec![(i64::MIN / 2, replicas)];
        for (pause, percent) in loads {
            second += pause;
            let mut other = memory.clone();
            let plan = plan_for(&autoscaler, replicas, percent, &mut memory, at(second));
            let again = plan_for(&autoscaler, replicas, percent, &mut other, at(second));
            prop_assert_eq!(&plan, &again);
            prop_assert_eq!(&memory, &other);
            let next = plan.rescale.as_ref().map_or(replicas, |r| r.replicas);
            prop_assert!((least..=most).contains(&next), "{next} of {least} to {most}");
            if next != replicas && !behavior.is_null() {
                let is_up = next > replicas;
                // Without a behavior what was wanted once may still be on its way.
                prop_assert_eq!(is_up, percent > 50);
                let rules = &behavior[if is_up { "scaleUp" } else { "scaleDown" }];
                prop_assert!(rules["selectPolicy"] != "Disabled");
                let policies = rules["policies"].as_array().unwrap();
                let mut bounds = policies.iter().map(|p| allowed(p, &sizes, second, is_up));
                let is_allowed = |bound: i32| if is_up { next <= bound } else { next >= bound };
                let holds = match rules["selectPolicy"] == "Min" {
                    true => bounds.all(is_allowed),
                    false => bounds.any(is_allowed),
                };
                prop_assert!(holds, "from {replicas} to {next} at {second} after {sizes:?}");
            }
            let done = plan.carried_out(&autoscaler, Ok(()), &mut memory, at(second));
            prop_assert!(done.0.desired_replicas == next);
            replicas = next;
            sizes.push((second, replicas));
        }
    }
}
