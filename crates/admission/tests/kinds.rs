//! Validation of the other kinds against what Kubernetes 1.36.3 says of the same objects: `data/kinds.json` and, for the kinds of group
//! networking.k8s.io, `data/networking.json` hold, for each behaviour, the object (and the one before it) and upstream's errors, repeats
//! dropped. On updates upstream's generic metadata checks come first, which find nothing wrong here.

use admission::Subresource;
use serde_json::Value;

fn check(case: &Value) -> Vec<String> {
    let resource = case["resource"].as_str().expect("a resource");
    let mut new = case["new"].clone();
    admission::default(resource, &mut new);
    let errors = match case.get("old") {
        None => admission::validate_create(resource, &new),
        Some(old) => {
            let mut old = old.clone();
            admission::default(resource, &mut old);
            let subresource = match case["subresource"].as_str() {
                Some("status") => Subresource::Status,
                Some("finalize") => Subresource::Finalize,
                _ => Subresource::Main,
            };
            admission::validate_update(resource, subresource, &new, &old)
        }
    };
    errors.iter().map(ToString::to_string).collect()
}

fn check_all(cases: &str) {
    let cases: Vec<Value> = serde_json::from_str(cases).expect("cases are JSON");
    assert!(cases.len() > 60, "cases went missing");
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

#[test]
fn objects_are_refused_in_upstreams_words() {
    check_all(include_str!("data/kinds.json"));
}

#[test]
fn objects_of_the_network_are_refused_in_upstreams_words() {
    check_all(include_str!("data/networking.json"));
}
