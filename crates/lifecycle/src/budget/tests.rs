use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use serde_json::{Value, json};
use testkit::at;

use super::*;

/// Looks where no controller says how many Pods there should be.
fn look<'a>(
    budget: &PodDisruptionBudget,
    pods: impl IntoIterator<Item = &'a Pod>,
    now: Timestamp,
) -> Outlook {
    super::look(budget, pods, |_| Scale::Unknown, now)
}

fn pod(name: &str, phase: &str, is_ready: bool) -> Pod {
    let ready = if is_ready { "True" } else { "False" };
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    });
    serde_json::from_value(pod).unwrap()
}

fn running(name: &str, is_ready: bool) -> Pod {
    pod(name, "Running", is_ready)
}

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    let mut spec = spec;
    if spec.get("selector").is_none() {
        spec["selector"] = json!({"matchLabels": {"app": "web"}});
    }
    let budget =
        json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status});
    serde_json::from_value(budget).unwrap()
}

fn least(number: Value) -> Value {
    json!({"minAvailable": number})
}

fn going(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = Some(Time(at(0)));
    pod
}

/// Expected, desired, healthy, allowed.
fn counts(status: &PodDisruptionBudgetStatus) -> [i32; 4] {
    [
        status.expected_pods,
        status.desired_healthy,
        status.current_healthy,
        status.disruptions_allowed,
    ]
    .map(Option::unwrap)
}

#[test]
fn pods_are_counted() {
    let (ready, unready) = (|name| running(name, true), |name| running(name, false));
    let mut other = ready("other");
    other.metadata.labels = None;
    let two = [ready("a"), ready("b")];
    let cases: Vec<(&str, Value, Vec<Pod>, [i32; 4])> = vec![
        (
            "no Pods, no disruptions",
            least(json!(0)),
            vec![],
            [0, 0, 0, 0],
        ),
        ("no bound", json!({}), two.to_vec(), [0, 0, 2, 0]),
        (
            "one more than needed",
            least(json!(1)),
            two.to_vec(),
            [2, 1, 2, 1],
        ),
        ("just enough", least(json!(2)), two.to_vec(), [2, 2, 2, 0]),
        ("too few", least(json!(3)), two.to_vec(), [2, 3, 2, 0]),
        ("none needed", least(json!(0)), two.to_vec(), [2, 0, 2, 2]),
        (
            "only ready Pods are healthy",
            least(json!(1)),
            vec![ready("a"), unready("b")],
            [2, 1, 1, 0],
        ),
        (
            "a Pod that goes is not",
            least(json!(1)),
            vec![ready("a"), going(ready("b"))],
            [2, 1, 1, 0],
        ),
        (
            "Pods of others",
            least(json!(1)),
            vec![ready("a"), other.clone()],
            [1, 1, 1, 0],
        ),
        (
            "an empty selector selects every Pod",
            json!({"minAvailable": 1, "selector": {}}),
            vec![ready("a"), other],
            [2, 1, 2, 1],
        ),
        (
            "bare Pods are not expected by percentage",
            least(json!("50%")),
            two.to_vec(),
            [0, 0, 2, 0],
        ),
        (
            "nor by what may be missing",
            json!({"maxUnavailable": 1}),
            two.to_vec(),
            [0, 0, 2, 0],
        ),
        (
            "no number is too large",
            json!({"minAvailable": i32::MAX}),
            two.to_vec(),
            [2, i32::MAX, 2, 0],
        ),
    ];
    for (name, spec, pods, expected) in cases {
        let seen = look(&budget(spec, json!({})), &pods, at(0));
        assert_eq!(counts(&seen.status), expected, "{name}");
        let condition = &seen.status.conditions.unwrap()[0];
        let said = (condition.status.as_str(), condition.reason.as_str());
        let says = match expected[3] {
            0 => ("False", "InsufficientPods"),
            _ => ("True", "SufficientPods"),
        };
        assert_eq!(said, says, "{name}");
        assert_eq!(seen.status.observed_generation, Some(3), "{name}");
    }
}

#[test]
fn without_a_selector_nothing_is_selected() {
    let mut budget = budget(least(json!(0)), json!({}));
    budget.spec.as_mut().unwrap().selector = None;
    assert!(!selects(&budget, &running("a", true)));
    let seen = look(&budget, [&running("a", true)], at(0));
    assert_eq!(counts(&seen.status), [0, 0, 0, 0]);
}

#[test]
fn pods_without_a_controller_are_named() {
    for spec in [least(json!("10%")), json!({"maxUnavailable": "10%"})] {
        let seen = look(&budget(spec, json!({})), [&running("a", true)], at(0));
        assert_eq!(seen.unmanaged, ["a"]);
    }
    let seen = look(
        &budget(least(json!(1)), json!({})),
        [&running("a", true)],
        at(0),
    );
    assert!(seen.unmanaged.is_empty(), "a number needs no controller");
}

#[test]
fn what_cannot_be_counted_allows_nothing() {
    let mut owned = running("a", true);
    let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]);
    owned.metadata.owner_references = serde_json::from_value(owner).unwrap();
    let before = look(
        &budget(least(json!(0)), json!({})),
        [&running("a", true)],
        at(0),
    );
    let before = serde_json::to_value(before.status).unwrap();
    let cases = [
        (
            json!({"maxUnavailable": 1}),
            "found no controllers for pod \"a\"",
        ),
        (least(json!("1%")), "found no controllers for pod \"a\""),
        (
            json!({"minAvailable": 1, "selector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}),
            "\"Near\" is not a valid label selector operator",
        ),
    ];
    for (spec, why) in cases {
        let seen = look(&budget(spec, before.clone()), [&owned], at(9));
        assert_eq!(counts(&seen.status), [1, 0, 1, 0], "{why}");
        let condition = &seen.status.conditions.unwrap()[0];
        assert_eq!(condition.reason, "SyncFailed");
        assert_eq!(condition.message, why);
        assert_eq!(condition.last_transition_time, Time(at(9)));
    }
    let seen = look(
        &budget(least(json!("often")), json!({})),
        [&running("a", true)],
        at(0),
    );
    assert_eq!(seen.failed, Some(SyncError::Percentage));
    let seen = look(&budget(least(json!(1)), json!({})), [&owned], at(0));
    assert_eq!(seen.failed, None, "a number needs no controller");
}

#[test]
fn controllers_say_how_many_there_should_be() {
    let of = |name: &str, controller: &str| {
        let mut pod = running(name, true);
        let owner = json!([{"apiVersion": "v1", "kind": "Any", "name": controller, "uid": controller, "controller": true}]);
        pod.metadata.owner_references = serde_json::from_value(owner).ok();
        pod
    };
    // Two ReplicaSets of one Deployment, and another.
    let pods = [of("a", "old"), of("b", "new"), of("c", "other")];
    let scale = |owner: &OwnerReference| match owner.uid.as_str() {
        "old" | "new" => Scale::Is("deployment".into(), 4),
        "other" => Scale::Is("other".into(), 2),
        _ => Scale::None("jobs.batch".into()),
    };
    let looked = |spec, pods: &[Pod]| super::look(&budget(spec, json!({})), pods, scale, at(0));
    let seen = looked(json!({"maxUnavailable": "50%"}), &pods);
    assert_eq!(
        (seen.status.expected_pods, seen.status.desired_healthy),
        (Some(6), Some(3))
    );
    let seen = looked(least(json!("50%")), &pods);
    assert_eq!(seen.status.desired_healthy, Some(3));
    let seen = looked(least(json!("50%")), &[of("j", "job")]);
    let why = seen.failed.map(|why| why.to_string());
    assert_eq!(
        why.as_deref(),
        Some("jobs.batch does not implement the scale subresource")
    );
}

#[test]
fn shares_are_rounded_up() {
    for (bound, total, expected) in [
        (json!(3), 10, 3),
        (json!("50%"), 10, 5),
        (json!("50%"), 11, 6),
        (json!("1%"), 1, 1),
        (json!("0%"), 7, 0),
        (json!("100%"), 7, 7),
        (json!("9223372036854775807%"), i32::MAX, i32::MAX),
    ] {
        let bound: IntOrString = serde_json::from_value(bound).unwrap();
        assert_eq!(scaled(&bound, total), Ok(expected), "{bound:?} of {total}");
    }
}

#[test]
fn an_eviction_is_believed_for_two_minutes() {
    let pods = [running("a", true), running("b", true)];
    let noted = json!({"disruptedPods": {"a": at(0).to_string(), "gone": at(0).to_string()}});
    let budget = budget(least(json!(1)), noted);
    let early = look(&budget, &pods, at(119));
    assert_eq!(counts(&early.status), [2, 1, 1, 0]);
    let believed = early.status.disrupted_pods.unwrap();
    assert_eq!(believed.into_keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(early.recheck, Some(at(120)));
    let late = look(&budget, &pods, at(120));
    assert_eq!(counts(&late.status), [2, 1, 2, 1]);
    assert_eq!((late.status.disrupted_pods, late.recheck), (None, None));
    assert_eq!(late.overdue, ["a"]);
    let seen = look(&budget, [&going(pods[0].clone()), &pods[1]], at(1));
    assert_eq!(seen.status.disrupted_pods, None, "it was seen to go");
}

#[test]
fn a_status_is_the_same_until_something_changes() {
    let pods = [running("a", true), running("b", true)];
    let mut budget = budget(least(json!(1)), json!({}));
    budget.status = Some(look(&budget, &pods, at(0)).status);
    assert_eq!(
        look(&budget, &pods, at(50)).status,
        budget.status.clone().unwrap()
    );
    budget.status = Some(look(&budget, &pods[..1], at(60)).status);
    let condition = &budget.status.unwrap().conditions.unwrap()[0];
    assert_eq!(condition.last_transition_time, Time(at(60)));
}

/// A budget that was looked at: what it allows, has and needs.
fn looked_at(allowed: i32, has: i32, needs: i32) -> PodDisruptionBudget {
    let status = json!({"observedGeneration": 3, "disruptionsAllowed": allowed, "currentHealthy": has, "desiredHealthy": needs, "expectedPods": 2});
    budget(least(json!(needs)), status)
}

fn with_policy(mut budget: PodDisruptionBudget, policy: &str) -> PodDisruptionBudget {
    let spec = budget.spec.as_mut().unwrap();
    spec.unhealthy_pod_eviction_policy = Some(policy.to_owned());
    budget
}

#[test]
fn who_is_asked() {
    let unhealthy = || Ok(Permit::Unhealthy("b".to_owned()));
    let exhausted = |needs, has| {
        let blocked = Blocked::Exhausted("b".to_owned(), needs, has);
        Err(Refusal::Blocked(blocked))
    };
    let unasked = |unchanged| Ok(Permit::Unasked { unchanged });
    let mut alone = running("a", true);
    alone.metadata.labels = None;
    let ready = || running("a", true);
    let unready = || running("a", false);
    let cases = [
        (
            "has ended well",
            pod("a", "Succeeded", false),
            looked_at(0, 0, 1),
            unasked(false),
        ),
        (
            "has failed",
            pod("a", "Failed", false),
            looked_at(0, 0, 1),
            unasked(false),
        ),
        (
            "goes already",
            going(ready()),
            looked_at(0, 1, 1),
            unasked(false),
        ),
        (
            "does not run yet",
            pod("a", "Pending", false),
            looked_at(0, 0, 1),
            unasked(true),
        ),
        ("is nobody's", alone, looked_at(0, 1, 1), Ok(Permit::Free)),
        ("is needed", ready(), looked_at(0, 1, 1), exhausted(1, 1)),
        (
            "is unready, enough are healthy",
            unready(),
            looked_at(0, 1, 1),
            unhealthy(),
        ),
        (
            "is unready, too few are",
            unready(),
            looked_at(0, 0, 1),
            exhausted(1, 0),
        ),
        (
            "is unready, none are needed",
            unready(),
            looked_at(0, 0, 0),
            exhausted(0, 0),
        ),
        (
            "is unready and may always go",
            unready(),
            with_policy(looked_at(0, 0, 1), "AlwaysAllow"),
            unhealthy(),
        ),
        (
            "is unready, by the usual policy",
            unready(),
            with_policy(looked_at(0, 0, 1), "IfHealthyBudget"),
            exhausted(1, 0),
        ),
        (
            "is ready, others may always go",
            ready(),
            with_policy(looked_at(0, 1, 1), "AlwaysAllow"),
            exhausted(1, 1),
        ),
    ];
    for (name, pod, budget, expected) in cases {
        assert_eq!(evict(&pod, [&budget], at(0)), expected, "{name}");
    }
    let budgets = [&looked_at(1, 2, 1), &looked_at(1, 2, 1)];
    assert_eq!(evict(&ready(), budgets, at(0)), Err(Refusal::Several));
}

#[test]
fn an_eviction_takes_from_the_budget() {
    let mut budget = looked_at(2, 3, 1);
    for (second, pod, left, reason) in [(5, "a", 1, None), (6, "c", 0, Some("InsufficientPods"))] {
        let permit = evict(&running(pod, true), [&budget], at(second));
        let Ok(Permit::Spends(name, status)) = permit else {
            panic!("{permit:?}");
        };
        assert_eq!(name, "b");
        assert_eq!(status.disruptions_allowed, Some(left));
        assert_eq!(
            status.disrupted_pods.as_ref().unwrap()[pod],
            Time(at(second))
        );
        let conditions = status.conditions.clone().unwrap_or_default();
        let said = conditions.first().map(|c| c.reason.as_str());
        assert_eq!(said, reason);
        budget.status = Some(*status);
    }
    assert_eq!(
        budget
            .status
            .as_ref()
            .unwrap()
            .disrupted_pods
            .as_ref()
            .unwrap()
            .len(),
        2
    );
    evict(&running("d", true), [&budget], at(7)).unwrap_err();
}

#[test]
fn refusals_have_upstreams_words() {
    let condition = |reason: &str, message: &str| json!([{"type": "DisruptionAllowed", "status": "False", "reason": reason, "message": message, "lastTransitionTime": at(0).to_string()}]);
    let many: serde_json::Map<String, Value> = (0..=2000)
        .map(|n| (n.to_string(), at(0).to_string().into()))
        .collect();
    let cases = [
        (
            json!({"observedGeneration": 2, "disruptionsAllowed": 1}),
            "The disruption budget b is still being processed by the server.",
        ),
        (
            json!({"observedGeneration": 3, "desiredHealthy": 2, "currentHealthy": 1}),
            "The disruption budget b needs 2 healthy pods and has 1 currently",
        ),
        (
            json!({"observedGeneration": 3, "desiredHealthy": 2, "currentHealthy": 1, "conditions": condition("SyncFailed", "no luck")}),
            "The disruption budget b does not allow evicting pods currently because it failed sync: no luck",
        ),
        (
            json!({"observedGeneration": 3, "desiredHealthy": 1, "currentHealthy": 2, "conditions": condition("Other", "it is late")}),
            "The disruption budget b does not allow evicting pods currently (Other): it is late",
        ),
        (
            json!({"observedGeneration": 3, "desiredHealthy": 1, "currentHealthy": 2, "conditions": condition("InsufficientPods", "")}),
            "The disruption budget b does not allow evicting pods currently",
        ),
        (
            json!({"observedGeneration": 3, "disruptionsAllowed": -1}),
            "pdb disruptions allowed is negative",
        ),
        (
            json!({"observedGeneration": 3, "disruptionsAllowed": 1, "disruptedPods": many}),
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ),
    ];
    for (status, words) in cases {
        let budget = budget(least(json!(1)), status);
        let said = match evict(&running("a", true), [&budget], at(0)) {
            Err(Refusal::Blocked(blocked)) => blocked.to_string(),
            Err(refusal) => refusal.to_string(),
            Ok(permit) => panic!("{permit:?}"),
        };
        assert_eq!(said, words);
    }
}

#[test]
fn a_pod_is_believed_to_go_for_two_minutes() {
    let marked = |status: &str, phase: &str| -> Pod {
        let mut pod = running("a", true);
        let condition = json!([{"type": "DisruptionTarget", "status": status, "lastTransitionTime": at(10).to_string()}]);
        let seen = pod.status.get_or_insert_default();
        seen.conditions = serde_json::from_value(condition).unwrap();
        seen.phase = Some(phase.to_owned());
        pod
    };
    assert_eq!(target_until(&running("a", true)), None);
    assert_eq!(target_until(&marked("True", "Running")), Some(at(130)));
    assert_eq!(target_until(&marked("False", "Running")), None);
    assert_eq!(target_until(&marked("True", "Failed")), None);
    let mut going = marked("True", "Running");
    going.metadata.deletion_timestamp = Some(Time(at(20)));
    assert_eq!(target_until(&going), None);
}
