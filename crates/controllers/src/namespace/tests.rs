//! The end of a namespace before an API that refuses, loses answers, takes its time, and may have the next namespace of that name at any
//! time: it ends, the finalizer goes when nothing is left, Pods go first, and nothing of the next is touched.

mod site;

use std::convert::Infallible;
use std::sync::Mutex;

use http::{Request, Response};
use http_body_util::Full;
use kube::client::Body;
use proptest::collection::vec;
use proptest::prelude::*;
use testkit::FakeClock;

use super::*;
use site::{Fate, KINDS, Site};

/// Ends the namespace with UID `u` in virtual time; what there is then.
async fn ended(site: Site) -> Site {
    let site = Arc::new(Mutex::new(site));
    let api = site.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let api = api.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.expect("a body");
            let answer = api.lock().expect("a site").answer(&parts, &body);
            let Some((code, body)) = answer else {
                // It has been asked for too long.
                return std::future::pending().await;
            };
            let answer = Response::builder()
                .status(code)
                .header("content-type", "application/json");
            let answer = answer.body(Full::from(body.to_string()));
            Ok::<_, Infallible>(answer.expect("an answer"))
        }
    });
    let namespace = serde_json::json!({"metadata": {"name": "n", "uid": "u"}});
    let namespace = serde_json::from_value(namespace).expect("a namespace");
    let client = Client::new(service, "default");
    let end = end(client, Arc::new(FakeClock::default()), namespace);
    let day = Duration::from_hours(24);
    let is_over = tokio::time::timeout(day, end).await.is_ok();
    let mut site = std::mem::take(&mut *site.lock().expect("a site"));
    if !is_over {
        site.wrong.push("it never ends".to_owned());
    }
    site
}

fn run(site: Site) -> Site {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(ended(site))
}

#[test]
fn what_is_in_it_goes_first() {
    let site = run(Site::new([("configmaps", 0), ("pods", 1)], []));
    assert_eq!(site.wrong, [""; 0]);
    let expected = [
        "DELETE pods/1",
        "PATCH status",
        "DELETE configmaps/0",
        "PUT finalize",
    ];
    assert_eq!(site.done, expected);
}

#[test]
fn a_finalizer_that_could_not_be_removed_is_removed_later() {
    let mut site = Site::new([], []);
    site.finalize_refusals = 2;
    let site = run(site);
    assert_eq!(site.wrong, [""; 0]);
    assert_eq!(site.done, ["PUT finalize"]);
}

#[test]
fn the_next_of_its_name_is_left_alone() {
    let fates = [Fate::Next];
    let site = run(Site::new([("pods", 1)], fates));
    assert_eq!(site.wrong, [""; 0]);
    assert_eq!(site.done, [""; 0]);
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        40 => Just(Fate::Fine),
        6 => Just(Fate::Refused),
        6 => Just(Fate::Unheard),
        1 => Just(Fate::Next),
    ]
}

proptest! {
    #![proptest_config(testkit::cases(500, 29))]

    #[test]
    fn a_namespace_ends_and_nothing_else_does(
        objects in vec((prop::sample::select(KINDS.to_vec()), 0..4u8), 0..8),
        fates in vec(fate(), 0..80),
    ) {
        let has_next = fates.contains(&Fate::Next);
        let site = run(Site::new(objects, fates));
        prop_assert_eq!(&site.wrong, &[""; 0]);
        prop_assert!(site.is_ended(), "it is still there");
        prop_assert!(has_next || site.done.last().is_some_and(|last| last == "PUT finalize"));
    }
}
