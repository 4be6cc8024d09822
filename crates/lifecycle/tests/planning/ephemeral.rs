//! Ephemeral containers, and what is asked for by annotations (§7).

use lifecycle::PullBackOff;

use super::*;

const STOP: &str = "carob/stop-ephemeral-containers";
const RETRY: &str = "carob/retry";

#[test]
fn they_start_once_whatever_else_the_pod_does() {
    let start = "start ephemeral container dbg #0";
    check(vec![
        (
            "beside an app §7",
            one().ephemeral("dbg"),
            seen(vec![running("a", 0, 1)]),
            9,
            start,
            None,
        ),
        (
            "before initialization is over §7",
            pod().init("i").app("a").ephemeral("dbg"),
            seen(vec![running("i", 0, 1)]),
            9,
            start,
            None,
        ),
        (
            "never again §1.8",
            one().ephemeral("dbg"),
            seen(vec![running("a", 0, 1), exited("dbg", 0, 2, 3, 1)]),
            9,
            "",
            None,
        ),
        (
            "one that was only made is started §1.4",
            one().ephemeral("dbg"),
            seen(vec![running("a", 0, 1), created("dbg", 0, 2)]),
            9,
            "remove dbg-0, keep its log
             start ephemeral container dbg #0",
            None,
        ),
        (
            "not in a Pod that ends §7",
            one().ephemeral("dbg").deleted(9, 30),
            seen(vec![running("a", 0, 1)]),
            9,
            "stop container a (a-0) within 30 s: Stopping container a",
            None,
        ),
    ]);
}

#[test]
fn they_keep_no_pod_alive() {
    let pods = || one().policy("Never").ephemeral("dbg");
    let apps_done = || vec![exited("a", 0, 1, 5, 0), running("dbg", 0, 2)];
    check(vec![(
        "§1.11",
        pods(),
        seen(apps_done()),
        9,
        "stop ephemeral container dbg (dbg-0) within 30 s: Stopping container dbg",
        None,
    )]);
}

#[test]
fn they_end_when_that_is_asked_for() {
    let pods = || one().ephemeral("dbg").annotation(STOP, r#"["dbg"]"#);
    check(vec![
        (
            "one that runs",
            pods(),
            seen(vec![running("a", 0, 1), running("dbg", 0, 2)]),
            9,
            "stop ephemeral container dbg (dbg-0) within 30 s: Stopping container dbg",
            None,
        ),
        (
            "one that never ran never does",
            pods(),
            seen(vec![running("a", 0, 1)]),
            9,
            "",
            None,
        ),
        (
            "app containers are not meant",
            one().annotation(STOP, r#"["a"]"#),
            seen(vec![running("a", 0, 1)]),
            9,
            "",
            None,
        ),
    ]);
}

/// `carob retry` at this second.
fn retried(second: i64) -> String {
    format!(r#"{{"a":"{}"}}"#, at(second))
}

#[test]
fn a_crashed_container_is_tried_again_when_that_is_asked_for() {
    let pods = |second| one().annotation(RETRY, &retried(second));
    let crashed = with(vec![exited("a", 1, 1, 10, 1)], |s| {
        s.memory.restarts.insert("a".to_owned(), back_off(300, 5));
        s.memory.told.insert("backoff/a-1".to_owned());
    });
    check(vec![
        (
            "asked after the exit",
            pods(11),
            crashed.clone(),
            12,
            "start container a #2",
            None,
        ),
        (
            "asked before it",
            pods(9),
            crashed.clone(),
            12,
            "",
            Some(70),
        ),
        (
            "asked for later",
            pods(20),
            crashed.clone(),
            12,
            "",
            Some(20),
        ),
    ]);
    let plan = planned(pods(11), &crashed, 12);
    let starts = plan.steps.iter().filter_map(|step| match step {
        lifecycle::Step::Start(start) => Some(start.back_off.clone()),
        _ => None,
    });
    assert!(
        starts.eq([Some(back_off(10, 12))]),
        "its back-off begins anew"
    );
}

#[test]
fn a_failed_start_is_tried_again_when_that_is_asked_for() {
    let failed = |reason: &str| {
        with(vec![], |s| {
            let error = StartError {
                reason: reason.to_owned(),
                message: String::new(),
                at: at(10),
            };
            s.memory.start_errors.insert("a".to_owned(), error);
            let entry = PullBackOff {
                delay: jiff::SignedDuration::from_secs(300),
                failed_at: at(10),
                error: "ErrImagePull: no".to_owned(),
            };
            let image = "docker.io/library/busybox:1.36".to_owned();
            s.memory.pulls.insert(image, entry);
        })
    };
    let pods = || one().annotation(RETRY, &format!(r#"{{"":"{}"}}"#, at(11)));
    let start = "start container a #0";
    check(vec![
        (
            "a pull",
            pods(),
            failed("ImagePullBackOff"),
            12,
            start,
            None,
        ),
        (
            "a configuration",
            pods(),
            failed("CreateContainerConfigError"),
            12,
            start,
            None,
        ),
        (
            "asked for nothing",
            one(),
            failed("CreateContainerConfigError"),
            12,
            "",
            Some(20),
        ),
    ]);
    // The pull itself is not held back either.
    let memory = failed("ImagePullBackOff").memory;
    let (pod, other) = (pods().build(), one().build());
    let entry = |pod: &k8s_openapi::api::core::v1::Pod| {
        let apps = lifecycle::kinds::apps(pod);
        lifecycle::image::entry(pod, &lifecycle::image::own(&apps[0]), &memory, at(12)).cloned()
    };
    assert_eq!(entry(&pod), None);
    assert!(entry(&other).is_some());
}
