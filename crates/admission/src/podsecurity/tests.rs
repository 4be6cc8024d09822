use super::*;
use serde_json::json;

fn pod(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

fn namespace(labels: Value) -> Value {
    json!({"metadata": {"name": "n", "labels": labels}})
}

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const VERSION: &str = "pod-security.kubernetes.io/enforce-version";

#[test]
fn who_is_refused_is_not_warned() {
    let host = pod("p", json!({"hostNetwork": true, "containers": []}));
    let (policy, _) = Policy::of(&namespace(json!({
        ENFORCE: "baseline", "pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/audit": "restricted"
    })));
    let verdict = judge_pod(&policy, &host);
    assert_eq!(
        verdict.refusal.unwrap(),
        "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    assert_eq!(verdict.warning, None);
    let told =
        "would violate PodSecurity \"restricted:latest\": host namespaces (hostNetwork=true)";
    assert_eq!(verdict.audit.unwrap(), told);
    let verdict = judge_template(&policy, &host);
    assert_eq!(
        (verdict.refusal, verdict.warning.as_deref()),
        (None, Some(told))
    );
}

#[test]
fn changes_are_looked_at_when_they_matter() {
    let with = |image: &str, debugger: Value| {
        pod(
            "p",
            json!({"containers": [{"name": "a", "image": image}], "ephemeralContainers": debugger, "x": image}),
        )
    };
    let old = with("1", json!([{"name": "d", "image": "1"}]));
    for (new, significant) in [
        (with("1", json!([{"name": "d", "image": "1"}])), false),
        (with("1", json!([])), false),
        (with("2", json!([])), true),
        (with("1", json!([{"name": "d", "image": "2"}])), true),
        (with("1", json!([{"name": "e", "image": "1"}])), true),
        (pod("p", json!({"containers": []})), true),
        (
            pod(
                "p",
                json!({"initContainers": [{"name": "i"}], "containers": [{"name": "b", "image": "1"}]}),
            ),
            true,
        ),
        (
            pod("p", json!({"containers": [{"name": "b", "image": "1"}]})),
            false,
        ),
    ] {
        assert_eq!(is_significant(&new, &old), significant, "{new}");
    }
}

#[test]
fn namespaces_look_at_their_pods_when_they_become_stricter() {
    let labels = |level: &str, version: &str| namespace(json!({ENFORCE: level, VERSION: version}));
    let old = labels("baseline", "v1.30");
    for (new, wanted) in [
        (labels("baseline", "v1.30"), None),
        (labels("privileged", "latest"), None),
        (labels("restricted", "v1.30"), Some("restricted:v1.30")),
        (labels("baseline", "latest"), Some("baseline:latest")),
        (namespace(json!({})), None),
    ] {
        let found = newly_enforced(&new, Some(&old)).unwrap();
        assert_eq!(found.map(|lv| lv.to_string()).as_deref(), wanted, "{new}");
        assert_eq!(newly_enforced(&new, None), Ok(None));
    }
    let wrong = labels("x", "latest");
    assert_eq!(newly_enforced(&wrong, None).unwrap_err().len(), 1);
    assert!(newly_enforced(&wrong, Some(&old)).is_err());
    // What was wrong before does not stand in the way of other changes.
    assert_eq!(newly_enforced(&wrong, Some(&wrong)), Ok(None));
}

#[test]
fn pods_that_are_there_are_told_by_what_they_violate() {
    let lv = LevelVersion {
        level: Level::Baseline,
        version: Version::Latest,
    };
    let host = json!({"hostPID": true});
    let privileged = json!({"hostPID": true, "containers": [{"name": "c", "securityContext": {"privileged": true}}]});
    let pods = [
        pod("d", host.clone()),
        pod("c", host.clone()),
        pod("b", privileged.clone()),
        pod("e", privileged),
        pod("f", host),
        pod("a", json!({"containers": [{"name": "c"}]})),
    ];
    assert_eq!(
        existing_pods("n", lv, &pods),
        [
            "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "b (and 1 other pod): host namespaces, privileged",
            "c (and 2 other pods): host namespaces",
        ]
    );
    assert_eq!(existing_pods("n", lv, &pods[5..]), Vec::<String>::new());
    let many = vec![pods[5].clone(); MOST_PODS + 1];
    assert_eq!(
        existing_pods("n", lv, &many),
        ["new PodSecurity enforce level only checked against the first 3000 of 3001 existing pods"]
    );
}

#[test]
fn templates_are_found() {
    let template = json!({"spec": {}});
    for (resource, object) in [
        ("podtemplates", json!({"template": template})),
        ("deployments.apps", json!({"spec": {"template": template}})),
        (
            "cronjobs.batch",
            json!({"spec": {"jobTemplate": {"spec": {"template": template}}}}),
        ),
    ] {
        assert_eq!(template_of(resource, &object), Some(&template));
    }
    assert_eq!(template_of("configmaps", &template), None);
}
