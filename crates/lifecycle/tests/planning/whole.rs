//! What holds of every plan.

use super::*;

#[test]
fn reasons_say_what_is_awaited() {
    let text = |plan: Plan| {
        plan.reasons
            .iter()
            .map(|r| format!("{}: {}", r.container.as_deref().unwrap_or("-"), r.text))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        text(planned(chain(), &seen(vec![running("one", 0, 1)]), 2)),
        [
            "one: runs; the containers after it wait for it to finish",
            "side: waits for init container one to finish",
            "two: waits for init container one to finish",
            "app: waits for init container one to finish",
        ]
    );
    let crashed = with(vec![exited("a", 1, 20, 21, 1)], |s| {
        s.memory.restarts.insert("a".to_owned(), back_off(10, 20));
    });
    assert_eq!(
        text(planned(one(), &crashed, 25)),
        ["a: is in back-off of 10s and restarts at 2026-01-01T00:00:31Z"]
    );
    let ending = ending(vec![running("side", 0, 1), running("app", 0, 2)], 30);
    let stopping = text(planned(
        pod().sidecar("side").app("app").deleted(100, 30),
        &ending,
        100,
    ));
    assert_eq!(
        stopping[0],
        "-: the pod ends because it was deleted; grace 30 s since 2026-01-01T00:01:40Z"
    );
    assert_eq!(
        stopping[1],
        "side: is stopped after app, at the latest at 2026-01-01T00:02:10Z"
    );
}

#[test]
fn the_same_input_gives_the_same_plan() {
    let seen = seen(vec![exited("one", 0, 1, 2, 0), running("side", 0, 3)]);
    assert_eq!(planned(chain(), &seen, 4), planned(chain(), &seen, 4));
    let mut turned = seen.clone();
    turned.containers.reverse();
    assert_eq!(
        planned(chain(), &seen, 4),
        planned(chain(), &turned, 4),
        "order of records does not matter"
    );
}
