//! Pod Security against the verdicts of upstream's own checks: `data/podsecurity.json` has Pods, and what each violates by level and
//! version, empty when nothing.

use admission::podsecurity::{Policy, judge_pod};
use serde_json::{Map, Value, json};

#[test]
fn verdicts_are_upstreams() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("data/podsecurity.json")).unwrap();
    assert!(rows.len() >= 100);
    let mut judged = 0;
    for row in &rows {
        let none = Map::new();
        for (lv, wanted) in row["verdicts"].as_object().unwrap_or(&none) {
            let (level, version) = lv.split_once(':').unwrap();
            let labels = json!({
                "pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/enforce-version": version
            });
            let (policy, errors) = Policy::of(&json!({"metadata": {"labels": labels}}));
            assert_eq!(errors, []);
            let wanted = wanted.as_str().unwrap();
            let wanted =
                (!wanted.is_empty()).then(|| format!("violates PodSecurity \"{lv}\": {wanted}"));
            assert_eq!(
                judge_pod(&policy, &row["pod"]).refusal,
                wanted,
                "{:#}",
                row["pod"]
            );
            judged += 1;
        }
    }
    assert!(judged >= 700, "{judged}");
}
