//! Pod validation against what Kubernetes 1.36.3 says of the same Pods: `data/pods.json` holds, for each behaviour, the Pod (and the
//! one before it), and upstream's errors in upstream's order, repeats dropped.

use admission::Subresource;
use serde_json::Value;

fn subresource(name: &str) -> Subresource {
    match name {
        "status" => Subresource::Status,
        "resize" => Subresource::Resize,
        "ephemeralcontainers" => Subresource::EphemeralContainers,
        _ => Subresource::Main,
    }
}

fn check(case: &Value) -> Vec<String> {
    let mut new = case["new"].clone();
    admission::default("pods", &mut new);
    let errors = match case.get("old") {
        None => admission::validate_create("pods", &new),
        Some(old) => {
            let mut old = old.clone();
            admission::default("pods", &mut old);
            let name = case["subresource"].as_str().unwrap_or("");
            admission::validate_update("pods", subresource(name), &new, &old)
        }
    };
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn pods_are_refused_in_upstreams_words() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("data/pods.json")).expect("cases are JSON");
    assert!(cases.len() > 130, "cases went missing");
    let mut wrong = String::new();
    for case in &cases {
        let expected: Vec<String> =
            serde_json::from_value(case["errors"].clone()).expect("errors are texts");
        let found = check(case);
        if found != expected {
            wrong.push_str(&format!(
                "\n== {}\nexpected:\n  {}\nfound:\n  {}\n",
                case["name"],
                expected.join("\n  "),
                found.join("\n  ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// `data/pod-defaults.json` holds specifications as written and as Kubernetes 1.36.3 fills them in.
#[test]
fn pods_are_filled_in_as_upstream_does() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("data/pod-defaults.json")).expect("cases are JSON");
    assert!(cases.len() >= 10, "cases went missing");
    for case in &cases {
        let mut pod = serde_json::json!({"metadata": {"name": "p", "namespace": "default"}, "spec": case["given"]});
        admission::default("pods", &mut pod);
        assert_eq!(pod["spec"], case["defaulted"], "{}", case["name"]);
        let once = pod.clone();
        admission::default("pods", &mut pod);
        assert_eq!(pod, once, "defaults are stable: {}", case["name"]);
    }
}
