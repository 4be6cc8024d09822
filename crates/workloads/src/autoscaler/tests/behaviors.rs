use super::*;

/// How many Pods there are after each step: what they use in percent of what they request, at so many seconds.
fn run(spec: Value, begin: i32, steps: &[(i64, i64)]) -> Vec<i32> {
    let mut all = json!({"maxReplicas": 100, "metrics": utilization(50)});
    for (name, value) in spec.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    let autoscaler = autoscaler(all);
    let (mut replicas, mut memory) = (begin, Memory::default());
    let run = steps.iter().map(|(second, percent)| {
        let plan = plan_for(&autoscaler, replicas, *percent, &mut memory, at(*second));
        replicas = plan.rescale.as_ref().map_or(replicas, |r| r.replicas);
        let _ = plan.carried_out(&autoscaler, Ok(()), &mut memory, at(*second));
        replicas
    });
    run.collect()
}

fn rules(up: Value, down: Value) -> Value {
    let defaults = |rules: &Value, window: i64| {
        let mut all = json!({"selectPolicy": "Max", "stabilizationWindowSeconds": window,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]});
        for (name, value) in rules.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        all
    };
    json!({"behavior": {"scaleUp": defaults(&up, 0), "scaleDown": defaults(&down, 300)}})
}

fn policy(kind: &str, value: i32, period: i32) -> Value {
    json!({"type": kind, "value": value, "periodSeconds": period})
}

#[test]
fn sizes_over_time() {
    let none = || json!({});
    for (behaviour, spec, begin, steps, expected) in [
        (
            "by at most twice",
            none(),
            3,
            vec![(0, 1000), (15, 1000), (30, 1000)],
            vec![6, 12, 24],
        ),
        (
            "up to four at once",
            none(),
            1,
            vec![(0, 1000), (15, 1000)],
            vec![4, 8],
        ),
        (
            "down when five minutes are over",
            none(),
            6,
            vec![(0, 25), (150, 25), (300, 25), (301, 25)],
            vec![6, 6, 6, 3],
        ),
        (
            "the bounds hold",
            json!({"minReplicas": 2, "maxReplicas": 5}),
            3,
            vec![(0, 1000), (301, 1)],
            vec![5, 2],
        ),
        (
            "down at once where there is no window",
            rules(none(), json!({"stabilizationWindowSeconds": 0})),
            6,
            vec![(0, 25)],
            vec![3],
        ),
        (
            "so many Pods in a period",
            rules(json!({"policies": [policy("Pods", 2, 60)]}), none()),
            3,
            vec![(0, 1000), (15, 1000), (61, 1000)],
            vec![5, 5, 7],
        ),
        (
            "the larger of two policies",
            rules(
                json!({"policies": [policy("Pods", 2, 60), policy("Percent", 100, 60)]}),
                none(),
            ),
            3,
            vec![(0, 1000)],
            vec![6],
        ),
        (
            "the smaller where that is asked",
            rules(
                json!({"selectPolicy": "Min", "policies": [policy("Pods", 2, 60), policy("Percent", 100, 60)]}),
                none(),
            ),
            3,
            vec![(0, 1000)],
            vec![5],
        ),
        (
            "percent are rounded up when it grows",
            rules(json!({"policies": [policy("Percent", 10, 60)]}), none()),
            3,
            vec![(0, 1000)],
            vec![4],
        ),
        (
            "percent are rounded down when it shrinks",
            rules(
                none(),
                json!({"stabilizationWindowSeconds": 0, "policies": [policy("Percent", 10, 60)]}),
            ),
            5,
            vec![(0, 1), (15, 1), (61, 1)],
            vec![4, 4, 3],
        ),
        (
            "the larger change down",
            rules(
                none(),
                json!({"stabilizationWindowSeconds": 0, "policies": [policy("Pods", 1, 60), policy("Pods", 3, 60)]}),
            ),
            8,
            vec![(0, 1)],
            vec![5],
        ),
        (
            "the smaller change down",
            rules(
                none(),
                json!({"selectPolicy": "Min", "stabilizationWindowSeconds": 0, "policies": [policy("Pods", 1, 60), policy("Pods", 3, 60)]}),
            ),
            8,
            vec![(0, 1)],
            vec![7],
        ),
        (
            "never up",
            rules(json!({"selectPolicy": "Disabled"}), none()),
            3,
            vec![(0, 1000)],
            vec![3],
        ),
        (
            "never down",
            rules(
                none(),
                json!({"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}),
            ),
            3,
            vec![(0, 1)],
            vec![3],
        ),
        (
            "up by the least that was wanted in the window",
            rules(json!({"stabilizationWindowSeconds": 60}), none()),
            2,
            vec![(0, 100), (30, 75), (61, 100)],
            vec![2, 2, 3],
        ),
        (
            "more of what is unused is borne",
            rules(
                none(),
                json!({"stabilizationWindowSeconds": 0, "tolerance": "500m"}),
            ),
            4,
            vec![(0, 30), (15, 20)],
            vec![4, 2],
        ),
        (
            "less of what is too much is borne",
            rules(json!({"tolerance": "0"}), none()),
            10,
            vec![(0, 51)],
            vec![11],
        ),
    ] {
        assert_eq!(run(spec, begin, &steps), expected, "{behaviour}");
    }
}

#[test]
fn what_keeps_a_size_is_said() {
    let limited = |spec: Value, begin: i32, percent: i64| {
        let mut all = json!({"maxReplicas": 8, "metrics": utilization(50)});
        for (name, value) in spec.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        let autoscaler = autoscaler(all);
        let mut memory = Memory::default();
        let plan = plan_for(&autoscaler, begin, percent, &mut memory, at(0));
        let (status, _) = plan.carried_out(&autoscaler, Err("no"), &mut memory, at(0));
        conditions(&status).pop().unwrap()
    };
    let down = |rules: Value| super::behaviors::rules(json!({}), rules);
    for (spec, begin, percent, expected) in [
        (json!({}), 2, 1000, "ScalingLimited=True ScaleUpLimit"),
        (json!({}), 4, 1000, "ScalingLimited=True TooManyReplicas"),
        (json!({}), 4, 50, "ScalingLimited=False DesiredWithinRange"),
        (
            down(json!({"stabilizationWindowSeconds": 0, "policies": [policy("Pods", 1, 60)]})),
            4,
            1,
            "ScalingLimited=True ScaleDownLimit",
        ),
        (
            down(json!({"stabilizationWindowSeconds": 0})),
            4,
            0,
            "ScalingLimited=True TooFewReplicas",
        ),
        (down(json!({})), 2, 1000, "ScalingLimited=True ScaleUpLimit"),
        (
            down(json!({})),
            4,
            1000,
            "ScalingLimited=True TooManyReplicas",
        ),
    ] {
        assert_eq!(
            limited(spec.clone(), begin, percent),
            expected,
            "{spec} {begin}"
        );
    }
}
