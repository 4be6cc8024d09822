use super::*;

/// A case of upstream's replica calculator: Pods that request 1 each, whether they are ready, and what those that were measured use.
struct Case {
    behaviour: &'static str,
    replicas: i32,
    ready: &'static [bool],
    percent: i32,
    levels: &'static [(usize, i64)],
    expected: i32,
}

fn all(ready: &[bool]) -> Vec<Pod> {
    let named = ready.iter().enumerate();
    named.map(|(n, ready)| pod(n, "1", *ready)).collect()
}

#[test]
fn utilization_decides_how_many() {
    const R: bool = true;
    const U: bool = false;
    for case in [
        Case {
            behaviour: "more",
            replicas: 3,
            ready: &[R, R, R],
            percent: 30,
            levels: &[(0, 300), (1, 500), (2, 700)],
            expected: 5,
        },
        Case {
            behaviour: "fewer",
            replicas: 5,
            ready: &[R; 5],
            percent: 50,
            levels: &[(0, 100), (1, 300), (2, 500), (3, 250), (4, 250)],
            expected: 3,
        },
        Case {
            behaviour: "within the tolerance",
            replicas: 3,
            ready: &[R; 3],
            percent: 100,
            levels: &[(0, 1010), (1, 1030), (2, 1020)],
            expected: 3,
        },
        Case {
            behaviour: "the unready use nothing",
            replicas: 3,
            ready: &[U, R, R],
            percent: 30,
            levels: &[(0, 300), (1, 500), (2, 700)],
            expected: 4,
        },
        Case {
            behaviour: "the unready keep it from growing",
            replicas: 3,
            ready: &[R, U, U],
            percent: 30,
            levels: &[(0, 400), (1, 500), (2, 700)],
            expected: 3,
        },
        Case {
            behaviour: "missing, on the target",
            replicas: 2,
            ready: &[R, R],
            percent: 100,
            levels: &[(0, 1000)],
            expected: 2,
        },
        Case {
            behaviour: "missing, above",
            replicas: 2,
            ready: &[R, R],
            percent: 100,
            levels: &[(0, 1900)],
            expected: 2,
        },
        Case {
            behaviour: "missing, below",
            replicas: 2,
            ready: &[R, R],
            percent: 100,
            levels: &[(0, 600)],
            expected: 2,
        },
        Case {
            behaviour: "missing, far below",
            replicas: 4,
            ready: &[R; 4],
            percent: 100,
            levels: &[(0, 100), (1, 100), (2, 100)],
            expected: 2,
        },
        Case {
            behaviour: "missing and unready, above",
            replicas: 3,
            ready: &[U, R, R],
            percent: 50,
            levels: &[(0, 100), (1, 2000)],
            expected: 4,
        },
        Case {
            behaviour: "missing and unready, below",
            replicas: 4,
            ready: &[U, R, R, R],
            percent: 50,
            levels: &[(0, 100), (1, 100), (2, 100)],
            expected: 3,
        },
        Case {
            behaviour: "missing and unready, near",
            replicas: 3,
            ready: &[U, R, R],
            percent: 50,
            levels: &[(0, 100), (1, 450)],
            expected: 3,
        },
    ] {
        let autoscaler = autoscaler(json!({"metrics": utilization(case.percent)}));
        let pods = all(case.ready);
        let uses = case
            .levels
            .iter()
            .map(|(n, level)| (format!("web-{n}"), used(*level)));
        let (target, uses) = (target(case.replicas), uses.collect());
        let seen = Seen {
            target: Ok(&target),
            pods: &pods,
            uses: Ok(&uses),
            rivals: &[],
        };
        let spec = &autoscaler.spec.metrics.as_ref().unwrap()[0];
        let (found, _) = metric::look(&autoscaler, spec, &target, seen, at(0)).unwrap();
        assert_eq!(found.replicas, case.expected, "{}", case.behaviour);
    }
}

/// What a metric asks for of two Pods that use 300m and 500m, and as many MiB.
fn look(metric: Value, pods: &[Pod]) -> Result<(i32, Value), metric::Failure> {
    let autoscaler = autoscaler(json!({"metrics": [metric]}));
    let (target, uses) = (target(2), uses(&[300, 500]));
    let seen = Seen {
        target: Ok(&target),
        pods,
        uses: Ok(&uses),
        rivals: &[],
    };
    let spec = &autoscaler.spec.metrics.as_ref().unwrap()[0];
    let found = metric::look(&autoscaler, spec, &target, seen, at(0))?;
    Ok((found.0.replicas, serde_json::to_value(found.1).unwrap()))
}

#[test]
fn resources_are_averaged() {
    let pods = all(&[true, true]);
    for (metric, replicas, current) in [
        (
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "200m"}}}),
            4,
            json!({"averageValue": "400m"}),
        ),
        (
            json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "400Mi"}}}),
            2,
            json!({"averageValue": "400Mi"}),
        ),
        (
            json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 10}}}),
            8,
            json!({"averageUtilization": 40, "averageValue": "400m"}),
        ),
    ] {
        let field = match metric["type"].as_str() {
            Some("Resource") => "resource",
            _ => "containerResource",
        };
        let (found, status) = look(metric, &pods).unwrap();
        assert_eq!((found, &status[field]["current"]), (replicas, &current));
    }
}

#[test]
fn what_cannot_be_computed_is_said_in_upstreams_words() {
    let ready = all(&[true, true]);
    let mut bare = ready.clone();
    bare[1].spec.as_mut().unwrap().containers[0].resources = None;
    let cpu =
        |target: Value| json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
    let percent = cpu(json!({"type": "Utilization", "averageUtilization": 50}));
    let other = json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "x", "target": {"type": "AverageValue", "averageValue": "1"}}});
    let named = json!({"name": "m"});
    let external = json!({"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "AverageValue", "averageValue": "1"}}});
    for (metric, pods, reason, why) in [
        (
            &percent,
            &bare,
            "FailedGetResourceMetric",
            "failed to get cpu utilization: missing request for cpu in container c of Pod web-1",
        ),
        (
            &percent,
            &all(&[false, false]),
            "FailedGetResourceMetric",
            "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)",
        ),
        (
            &percent,
            &Vec::new(),
            "FailedGetResourceMetric",
            "failed to get cpu utilization: no pods returned by selector while calculating replica count",
        ),
        (
            &other,
            &ready,
            "FailedGetContainerResourceMetric",
            "failed to get cpu usage: did not receive metrics for targeted pods (pods might be unready)",
        ),
        (
            &json!({"type": "Pods", "pods": {"metric": named, "target": {"type": "AverageValue", "averageValue": "1"}}}),
            &ready,
            "FailedGetPodsMetric",
            "unable to get metric m: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered",
        ),
        (
            &json!({"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": named, "target": {"type": "Value", "value": "1"}}}),
            &ready,
            "FailedGetObjectMetric",
            "unable to get metric m: Service on d s/unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered",
        ),
        (
            &external,
            &ready,
            "FailedGetExternalMetric",
            "unable to get external metric d/q/&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}: \
             unable to fetch metrics from external metrics API: the server could not find the requested resource (get q.external.metrics.k8s.io)",
        ),
    ] {
        let failure = look(metric.clone(), pods).unwrap_err();
        assert_eq!((failure.reason, &*failure.why), (reason, why));
    }
}

#[test]
fn one_metric_that_is_known_is_enough_to_grow_but_not_to_shrink() {
    let external = json!({"type": "External", "external": {"metric": {"name": "q"}, "target": {"type": "Value", "value": "1"}}});
    let [cpu] = <[Value; 1]>::try_from(utilization(50).as_array().unwrap().clone()).unwrap();
    let autoscaler = autoscaler(json!({"metrics": [external, cpu]}));
    let grows = plan_for(&autoscaler, 2, 100, &mut Memory::default(), at(0));
    assert_eq!(grows.rescale.as_ref().map(|r| r.replicas), Some(4));
    assert_eq!(reasons(&grows.news), ["FailedGetExternalMetric"]);
    let mut memory = Memory::default();
    let shrinks = plan_for(&autoscaler, 2, 10, &mut memory, at(0));
    assert_eq!(shrinks.rescale, None);
    assert!(shrinks.news[1].message.starts_with("invalid metrics (1 invalid out of 2), first error is: failed to get q external metric value: "));
    let (status, _) = shrinks.carried_out(&autoscaler, Ok(()), &mut memory, at(0));
    assert!(
        conditions(&status).contains(&"ScalingActive=False FailedGetExternalMetric".to_owned())
    );
    assert_eq!(status.current_metrics.map(|all| all.len()), Some(2));
}

#[test]
fn the_start_of_a_pod_says_nothing_of_its_use() {
    let since = |start: i64, ready: &str, changed: i64| {
        let mut pod = serde_json::to_value(pod(0, "1", true)).unwrap();
        pod["status"]["startTime"] = at(start).to_string().into();
        pod["status"]["conditions"][0]["status"] = ready.into();
        pod["status"]["conditions"][0]["lastTransitionTime"] = at(changed).to_string().into();
        serde_json::from_value::<Pod>(pod).unwrap()
    };
    let cpu = |pod: Pod| {
        let pods = [pod];
        let autoscaler = autoscaler(json!({"metrics": utilization(50)}));
        let (target, mut uses) = (target(1), uses(&[500]));
        // Over the last ten seconds.
        uses.values_mut()
            .for_each(|used| used.window = SignedDuration::from_secs(10));
        let seen = Seen {
            target: Ok(&target),
            pods: &pods,
            uses: Ok(&uses),
            rivals: &[],
        };
        let spec = &autoscaler.spec.metrics.as_ref().unwrap()[0];
        metric::look(&autoscaler, spec, &target, seen, at(0)).is_ok()
    };
    for (behaviour, pod, counts) in [
        (
            "ready for longer than was measured",
            since(-60, "True", -11),
            true,
        ),
        ("ready for less", since(-60, "True", -9), false),
        ("not ready yet", since(-60, "False", -60), false),
        ("never ready, and late", since(-400, "False", -380), false),
        ("was ready, and is not now", since(-400, "False", -20), true),
    ] {
        assert_eq!(cpu(pod), counts, "{behaviour}");
    }
}

#[test]
fn who_leaves_does_not_count() {
    let mut pods = all(&[true, true, true, true]);
    pods[2].status.as_mut().unwrap().phase = Some("Failed".into());
    pods[3].metadata.deletion_timestamp = Some(status::time(at(0)));
    let metric = utilization(10)[0].clone();
    assert_eq!(look(metric, &pods).map(|(replicas, _)| replicas), Ok(8));
}
