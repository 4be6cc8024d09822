//! Decisions as tables, after upstream's own; and what holds of all of them.

mod behaviors;
mod metrics;
mod properties;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_000_000 + second, 0).unwrap()
}

/// An autoscaler from 1 to 10 with this merged into its spec.
fn autoscaler(spec: Value) -> HorizontalPodAutoscaler {
    let mut all = json!({"minReplicas": 1, "maxReplicas": 10,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}});
    for (name, value) in spec.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    let metadata = json!({"name": "web", "namespace": "d"});
    serde_json::from_value(json!({"metadata": metadata, "spec": all})).unwrap()
}

fn utilization(percent: i32) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}}])
}

/// A Pod that has run for long, ready or never ready.
fn pod(number: usize, request: &str, is_ready: bool) -> Pod {
    let name = format!("web-{number}");
    let ready = if is_ready { "True" } else { "False" };
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "d"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": request, "memory": "64Mi"}}}]},
        "status": {"phase": "Running", "startTime": at(-3600).to_string(),
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": at(-3590).to_string()}]},
    }))
    .unwrap()
}

fn used(cpu: i64) -> PodUse {
    let amounts = [
        ("cpu".to_owned(), api::quantity::Quantity::from_milli(cpu)),
        (
            "memory".to_owned(),
            api::quantity::Quantity::from_bytes(cpu << 20),
        ),
    ];
    PodUse {
        at: at(0),
        window: SignedDuration::from_secs(1),
        containers: [("c".to_owned(), amounts.into())].into(),
    }
}

/// What Pods use of a processor, in thousandths, in order.
fn uses(levels: &[i64]) -> Uses {
    let named = levels.iter().enumerate();
    named
        .map(|(n, level)| (format!("web-{n}"), used(*level)))
        .collect()
}

fn target(replicas: i32) -> Target {
    Target {
        replicas,
        present: replicas,
        selector: "app=web".to_owned(),
    }
}

/// A plan for so many Pods that use so much each, in percent of what they request.
fn plan_for(
    autoscaler: &HorizontalPodAutoscaler,
    replicas: i32,
    percent: i64,
    memory: &mut Memory,
    now: Timestamp,
) -> Plan {
    let count = usize::try_from(replicas).unwrap();
    let pods: Vec<Pod> = (0..count).map(|n| pod(n, "1", true)).collect();
    let uses = uses(&vec![percent * 10; count]);
    let seen = Seen {
        target: Ok(&target(replicas)),
        pods: &pods,
        uses: Ok(&uses),
        rivals: &[],
    };
    plan(autoscaler, seen, memory, now)
}

/// `Type=Status Reason` of each condition.
fn conditions(status: &HorizontalPodAutoscalerStatus) -> Vec<String> {
    let all = status.conditions.iter().flatten();
    let told = all.map(|c| {
        let reason = c.reason.as_deref().unwrap_or_default();
        format!("{}={} {reason}", c.type_, c.status)
    });
    told.collect()
}

fn reasons(news: &[News]) -> Vec<&str> {
    news.iter().map(|news| news.reason.as_str()).collect()
}

#[test]
fn a_target_is_told_its_new_size_and_the_status_says_so() {
    let mut autoscaler = autoscaler(json!({"metrics": utilization(50)}));
    let mut memory = Memory::default();
    let plan = plan_for(&autoscaler, 2, 100, &mut memory, at(0));
    assert_eq!(
        plan.rescale,
        Some(Rescale {
            replicas: 4,
            reason: "cpu resource utilization (percentage of request) above target".into()
        })
    );
    let failed = plan
        .clone()
        .carried_out(&autoscaler, Err("no"), &mut memory, at(0));
    assert_eq!(reasons(&failed.1), ["FailedRescale"]);
    assert_eq!(failed.0.desired_replicas, 0, "as it was reported");
    assert!(conditions(&failed.0).contains(&"AbleToScale=False FailedUpdateScale".to_owned()));

    let (status, news) = plan.carried_out(&autoscaler, Ok(()), &mut memory, at(0));
    assert_eq!(
        news[0].message,
        "New size: 4; reason: cpu resource utilization (percentage of request) above target"
    );
    assert_eq!(
        (status.current_replicas, status.desired_replicas),
        (Some(2), 4)
    );
    assert_eq!(status.last_scale_time, Some(status::time(at(0))));
    assert_eq!(
        conditions(&status),
        [
            "AbleToScale=True SucceededRescale",
            "ScalingActive=True ValidMetricFound",
            "ScalingLimited=False DesiredWithinRange",
        ]
    );
    autoscaler.status = Some(status.clone());
    let calm = plan_for(&autoscaler, 4, 50, &mut memory, at(15));
    assert_eq!(calm.rescale, None);
    let (after, news) = calm.carried_out(&autoscaler, Ok(()), &mut memory, at(15));
    assert!(news.is_empty());
    assert_eq!(after.last_scale_time, status.last_scale_time);
    let since = |status: &HorizontalPodAutoscalerStatus| {
        let all = status.conditions.clone().unwrap_or_default();
        all[0].last_transition_time.clone()
    };
    assert_eq!(since(&after), since(&status), "it has been able all along");
}

#[test]
fn bounds_come_before_metrics() {
    let autoscaler = autoscaler(json!({"minReplicas": 3, "maxReplicas": 5}));
    let plan = |replicas| {
        let seen = Seen {
            target: Ok(&target(replicas)),
            pods: &[],
            uses: Err("nobody asked"),
            rivals: &[],
        };
        plan(&autoscaler, seen, &mut Memory::default(), at(0))
    };
    for (replicas, expected) in [
        (0, None),
        (
            2,
            Some((3, "Current number of replicas below Spec.MinReplicas")),
        ),
        (
            6,
            Some((5, "Current number of replicas above Spec.MaxReplicas")),
        ),
    ] {
        assert!(!measures(&autoscaler, &target(replicas)));
        let found = plan(replicas).rescale.map(|r| (r.replicas, r.reason));
        let expected = expected.map(|(replicas, why)| (replicas, why.to_owned()));
        assert_eq!(found, expected, "{replicas}");
    }
    assert!(measures(&autoscaler, &target(3)) && measures(&autoscaler, &target(5)));
    let (status, news) = plan(0).carried_out(&autoscaler, Ok(()), &mut Memory::default(), at(0));
    assert!(conditions(&status).contains(&"ScalingActive=False ScalingDisabled".to_owned()));
    assert_eq!((status.desired_replicas, news), (0, Vec::new()));
}

#[test]
fn a_target_that_cannot_be_read_is_told_of() {
    let autoscaler = autoscaler(json!({}));
    let why = no_kind("apps", "Frob");
    let seen = Seen {
        target: Err(&why),
        pods: &[],
        uses: Err(""),
        rivals: &[],
    };
    let mut memory = Memory::default();
    let plan = plan(&autoscaler, seen, &mut memory, at(0));
    assert_eq!(
        plan.news[0].message,
        r#"no matches for kind "Frob" in group "apps""#
    );
    let (status, _) = plan.carried_out(&autoscaler, Ok(()), &mut memory, at(0));
    assert_eq!(conditions(&status), ["AbleToScale=False FailedGetScale"]);
    assert_eq!(memory, Memory::default());
}

#[test]
fn pods_of_several_autoscalers_are_nobodys() {
    let autoscaler = autoscaler(json!({"metrics": utilization(50)}));
    let rivals = [("d", "old"), ("d", "web")].map(|(ns, name)| (ns.into(), name.into()));
    let (target, uses) = (target(1), uses(&[900]));
    let seen = Seen {
        target: Ok(&target),
        pods: &[pod(0, "1", true)],
        uses: Ok(&uses),
        rivals: &rivals,
    };
    let plan = plan(&autoscaler, seen, &mut Memory::default(), at(0));
    assert_eq!(plan.rescale, None);
    assert_eq!(
        reasons(&plan.news),
        ["AmbiguousSelector", "FailedComputeMetricsReplicas"]
    );
    assert_eq!(
        plan.news[0].message,
        "pods by selector app=web are controlled by multiple HPAs: [{old d} {web d}]"
    );
}
