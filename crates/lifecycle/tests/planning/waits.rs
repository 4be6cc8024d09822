//! What a start waits for: crash back-off (§4.1), pull back-off (§4.2), failed starts.

use lifecycle::Step;

use super::*;

#[test]
fn crashes_are_backed_off() {
    let crashed = |change: fn(&mut Observed)| with(vec![exited("a", 1, 20, 21, 1)], change);
    let event = "event Warning BackOff spec.containers{a}: Back-off restarting failed container a in pod p_ns(uid)";
    check(vec![
        (
            "the first restart is immediate §4.1",
            one(),
            crashed(|_| ()),
            21,
            "start container a #2",
            None,
        ),
        (
            "a back-off is told at once, and shown with the resync §4.1",
            one(),
            crashed(|s| {
                s.memory.restarts.insert("a".to_owned(), back_off(80, 20));
            }),
            21,
            event,
            Some(81),
        ),
        (
            "once §4.1",
            one(),
            crashed(|s| {
                s.memory.restarts.insert("a".to_owned(), back_off(80, 20));
                s.memory.told.insert("backoff/a-1".to_owned());
            }),
            25,
            "",
            Some(81),
        ),
        (
            "then the restart is awaited §4.1",
            one(),
            crashed(|s| {
                s.memory.restarts.insert("a".to_owned(), back_off(80, 20));
                s.memory.told.insert("backoff/a-1".to_owned());
            }),
            81,
            "",
            Some(101),
        ),
        (
            "a container of another size has no history §4.1",
            one(),
            crashed(|s| {
                let mut smaller = back_off(80, 20);
                smaller.amounts.memory_limit = 1 << 20;
                s.memory.restarts.insert("a".to_owned(), smaller);
            }),
            21,
            "start container a #2",
            None,
        ),
        (
            "over when the delay has passed since the exit §4.1",
            one(),
            crashed(|s| {
                s.memory.restarts.insert("a".to_owned(), back_off(10, 20));
            }),
            31,
            "start container a #2",
            None,
        ),
        (
            "forgotten after a long run §4.1",
            one(),
            with(vec![exited("a", 1, 20, 700, 1)], |s| {
                s.memory.restarts.insert("a".to_owned(), back_off(300, 20));
            }),
            700,
            "start container a #2",
            None,
        ),
    ]);
}

#[test]
fn delays_double_up_to_five_minutes() {
    let mut seen = seen(vec![]);
    let mut second = 0;
    let mut delays = Vec::new();
    for attempt in 0..9 {
        seen.containers = vec![exited("a", attempt, second, second, 1)];
        let end = second;
        loop {
            let plan = planned(one(), &seen, second);
            let mut starts = plan.steps.iter().filter_map(|step| match step {
                Step::Start(start) => Some(start),
                _ => None,
            });
            if let Some(start) = starts.next() {
                seen.memory.begin(start, testkit::at(second));
                break;
            }
            // A wake-up within a second is taken at its end.
            second = plan.wake_at.map_or(second, |at| {
                let part = i64::from(at.subsec_nanosecond() > 0);
                at.as_second() - testkit::at(0).as_second() + part
            });
        }
        delays.push(second - end);
    }
    assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300, 300], "§4.1");
}

/// Another container's hook may take its time between a plan and the last of its starts. Found by a property: a run of less than ten
/// minutes counted as one that had gone well.
#[test]
fn a_back_off_counts_from_the_start_and_not_from_the_plan() {
    let mut seen = with(vec![exited("a", 1, 0, 20, 1)], |s| {
        s.memory.restarts.insert("a".to_owned(), back_off(10, 5));
    });
    let plan = planned(one(), &seen, 30);
    assert!(
        plan.restarts.is_empty(),
        "nothing is noted before it starts"
    );
    let [Step::Start(start)] = &plan.steps[..] else {
        panic!("{plan}");
    };
    seen.memory.begin(start, at(33));
    seen.containers = vec![exited("a", 2, 33, 631, 0)];
    let plan = planned(one(), &seen, 631);
    assert!(plan.wake_at > Some(at(650)), "twice the delay: {plan}");
    seen.containers = vec![exited("a", 2, 33, 634, 0)];
    assert_eq!(
        planned(one(), &seen, 634).to_string(),
        "start container a #3"
    );
}

#[test]
fn a_back_off_says_how_long() {
    let seen = with(vec![exited("a", 1, 20, 21, 1)], |s| {
        s.memory.restarts.insert("a".to_owned(), back_off(80, 20));
    });
    assert!(
        planned(one(), &seen, 80).start_errors.is_empty(),
        "the exit is shown"
    );
    let plan = planned(one(), &seen, 81);
    let error = &plan.start_errors["a"];
    assert_eq!(error.reason, "CrashLoopBackOff");
    assert_eq!(
        error.message, "back-off 1m20s restarting failed container=a pod=p_ns(uid)",
        "§4.1"
    );
}

#[test]
fn failed_starts_wait() {
    let failed = |reason: &str, second| StartError {
        reason: reason.to_owned(),
        message: "why".to_owned(),
        at: at(second),
    };
    let config = move |change: fn(&mut Observed)| {
        with(vec![], |s| {
            s.memory
                .start_errors
                .insert("a".to_owned(), failed("CreateContainerConfigError", 5));
            change(s);
        })
    };
    let pull = |reason: &str| {
        with(vec![], |s| {
            s.memory
                .start_errors
                .insert("a".to_owned(), failed(reason, 5));
            let delay = jiff::SignedDuration::from_secs(10);
            let entry = PullBackOff {
                delay,
                failed_at: at(5),
                error: "ErrImagePull: no such tag".to_owned(),
            };
            s.memory
                .pulls
                .insert("docker.io/library/busybox:1.36".to_owned(), entry);
        })
    };
    let image = "docker.io/library/busybox:1.36";
    let told = format!(
        "event Normal BackOff spec.containers{{a}}: Back-off pulling image \"{image}\"\nevent Warning Failed spec.containers{{a}}: Error: ImagePullBackOff"
    );
    let start = "start container a #0";
    check(vec![
        ("for ten seconds", one(), config(|_| ()), 14, "", Some(15)),
        ("and then no more", one(), config(|_| ()), 15, start, None),
        (
            "nor when what they lacked came",
            one(),
            config(|s| s.memory.changed_at = Some(at(6))),
            7,
            start,
            None,
        ),
        (
            "a failed pull is shown for a second §4.2",
            one(),
            pull("ErrImagePull"),
            5,
            "",
            Some(6),
        ),
        (
            "then its back-off is told §4.2",
            one(),
            pull("ErrImagePull"),
            6,
            Box::leak(told.into_boxed_str()),
            Some(15),
        ),
        (
            "then it is tried again §4.2",
            one(),
            pull("ImagePullBackOff"),
            15,
            start,
            None,
        ),
        (
            "a volume's image is waited for as well §10.7",
            one().image("other").image_volume("v", image),
            pull("ImagePullBackOff"),
            7,
            "event Normal BackOff: Back-off pulling image \"docker.io/library/busybox:1.36\"\n\
             event Warning Failed spec.containers{a}: Error: ImagePullBackOff",
            Some(15),
        ),
        (
            "another image is tried at once §4.2",
            one().image("other"),
            pull("ImagePullBackOff"),
            7,
            start,
            None,
        ),
        (
            "a failed run is crash back-off's business §4.1",
            one(),
            with(vec![exited("a", 0, 5, 5, 128)], |s| {
                s.memory
                    .start_errors
                    .insert("a".to_owned(), failed("RunContainerError", 5));
            }),
            5,
            "start container a #1",
            None,
        ),
        (
            "an init container that waits holds the rest §1.4",
            pod().init("a").app("b"),
            config(|_| ()),
            14,
            "",
            Some(15),
        ),
        (
            "an app that waits holds nobody §1.4",
            pod().app("a").app("b"),
            config(|_| ()),
            14,
            "start container b #0",
            Some(15),
        ),
    ]);
}
