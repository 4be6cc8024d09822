use serde_json::{Value, json};

use crate::{
    Subresource, certificate, prepare_create, prepare_update, validate_create, validate_update,
};

const KIND: &str = "certificatesigningrequests.certificates.k8s.io";

fn request(spec: Value, conditions: Value) -> Value {
    let mut object = json!({"metadata": {"name": "jane", "resourceVersion": "1"},
        "spec": {"request": "", "signerName": "example.com/s", "usages": ["client auth"]}, "status": {"conditions": conditions}});
    for (name, value) in spec.as_object().into_iter().flatten() {
        object["spec"][name] = value.clone();
    }
    object
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "r"})
}

fn texts(errors: api::field::ErrorList) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn requests_are_refused_in_upstreams_words() {
    let usages = certificate::USAGES
        .map(|usage| format!("\"{usage}\""))
        .join(", ");
    for (spec, expected) in [
        (json!({}), vec![]),
        (json!({"usages": []}), vec!["spec.usages: Required value".to_owned()]),
        (
            json!({"usages": ["client auth", "flying", "client auth"]}),
            vec![
                format!("spec.usages[1]: Unsupported value: \"flying\": supported values: {usages}"),
                "spec.usages[2]: Duplicate value: \"client auth\"".to_owned(),
            ],
        ),
        (json!({"signerName": ""}), vec!["spec.signerName: Required value".to_owned()]),
        (
            json!({"signerName": "example.com"}),
            vec!["spec.signerName: Invalid value: \"example.com\": must be a fully qualified domain and path of the form 'example.com/signer-name'".to_owned()],
        ),
        (
            json!({"signerName": "example/s"}),
            vec!["spec.signerName: Invalid value: \"example\": should be a domain with at least two segments separated by dots".to_owned()],
        ),
        (
            json!({"signerName": "kubernetes.io/legacy-unknown"}),
            vec!["spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version".to_owned()],
        ),
        (
            json!({"expirationSeconds": 599}),
            vec!["spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)".to_owned()],
        ),
    ] {
        let found = texts(validate_create(KIND, &request(spec.clone(), json!([]))));
        assert_eq!(found, expected, "{spec}");
    }
    let found = texts(validate_create(
        KIND,
        &request(json!({"signerName": "Example.com/s"}), json!([])),
    ));
    assert!(found[0].starts_with("spec.signerName: Invalid value: \"Example.com\": validating label \"Example\": a lowercase RFC 1123 label"), "{found:?}");
}

#[test]
fn approval_and_status_have_their_own_paths() {
    use Subresource::{Approval, Main, Status};
    let path = "status.conditions: Forbidden: ";
    let approved = || json!([condition("Approved")]);
    let both = || json!([condition("Approved"), condition("Denied")]);
    for (part, new, old, expected) in [
        (Approval, approved(), json!([]), vec![]),
        (Main, approved(), json!([]), vec![format!("{path}updates may not add a condition of type \"Approved\"")]),
        (Status, approved(), json!([]), vec![format!("{path}updates may not add a condition of type \"Approved\"")]),
        (Status, json!([condition("Failed")]), json!([]), vec![]),
        (Approval, json!([]), approved(), vec![format!("{path}updates may not remove a condition of type \"Approved\"")]),
        (
            Approval,
            both(),
            approved(),
            vec!["status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive".to_owned()],
        ),
        (Approval, both(), both(), vec![]),
        (
            Approval,
            json!([condition("Mine"), condition("Mine")]),
            json!([]),
            vec!["status.conditions[1].type: Duplicate value: \"Mine\"".to_owned()],
        ),
        (
            Approval,
            json!([{"type": "Approved", "status": "False"}, {"type": ""}]),
            json!([]),
            vec![
                "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"".to_owned(),
                "status.conditions[1].type: Required value".to_owned(),
                "status.conditions[1].status: Required value".to_owned(),
            ],
        ),
    ] {
        let [new_object, old_object] = [&new, &old].map(|list| request(json!({}), list.clone()));
        let found = texts(validate_update(KIND, part, &new_object, &old_object));
        assert_eq!(found, expected, "{part:?} {old} to {new}");
    }
}

#[test]
fn certificates_are_written_once_and_by_status() {
    let with = |certificate: &str| {
        let mut object = request(json!({}), json!([]));
        object["status"]["certificate"] = certificate.into();
        object
    };
    let path = "status.certificate: Forbidden: ";
    for (part, new, old, expected) in [
        (Subresource::Status, "YQ==", "", vec![]),
        (
            Subresource::Approval,
            "YQ==",
            "",
            vec![format!("{path}updates may not set certificate content")],
        ),
        (
            Subresource::Status,
            "Yg==",
            "YQ==",
            vec![format!(
                "{path}updates may not modify existing certificate content"
            )],
        ),
    ] {
        assert_eq!(
            texts(validate_update(KIND, part, &with(new), &with(old))),
            expected
        );
    }
}

#[test]
fn a_write_changes_what_its_path_is_for() {
    let mut new = request(json!({"username": "me"}), json!([condition("Approved")]));
    certificate::ascribe(&mut new, &json!({"username": "jane", "groups": ["team"]}));
    prepare_create(KIND, &mut new);
    assert_eq!(
        (
            &new["spec"]["username"],
            &new["spec"]["groups"],
            &new["status"]
        ),
        (&json!("jane"), &json!(["team"]), &json!({}))
    );
    let old = new.clone();
    let changed = || {
        let mut changed = request(
            json!({"signerName": "other.com/s"}),
            json!([condition("Approved")]),
        );
        changed["status"]["certificate"] = "YQ==".into();
        changed
    };
    for (part, conditions, certificate) in [
        (Subresource::Main, 0, false),
        (Subresource::Approval, 1, false),
        (Subresource::Status, 1, true),
    ] {
        let mut new = changed();
        prepare_update(KIND, part, &mut new, &old);
        assert_eq!(new["spec"], old["spec"], "{part:?}");
        let found = new["status"]["conditions"].as_array().map_or(0, Vec::len);
        assert_eq!(
            (found, new["status"]["certificate"].is_string()),
            (conditions, certificate),
            "{part:?}"
        );
    }
    let mut kept = request(
        json!({}),
        json!([{"type": "Approved", "status": "True", "reason": "other"}]),
    );
    let approved = request(json!({}), json!([condition("Approved")]));
    prepare_update(KIND, Subresource::Status, &mut kept, &approved);
    assert_eq!(kept["status"]["conditions"][0]["reason"], "r");
}

#[test]
fn conditions_are_given_their_times() {
    let old = json!({"status": {"conditions": [{"type": "Mine", "status": "True", "lastTransitionTime": "before"}]}});
    let mut new = json!({"status": {"conditions": [{"type": "Mine", "status": "True"}, {"type": "Yours", "status": "True", "lastUpdateTime": "own"}]}});
    certificate::stamp(&mut new, &old, "now");
    let times = |n: usize| {
        let condition = &new["status"]["conditions"][n];
        (
            condition["lastUpdateTime"].clone(),
            condition["lastTransitionTime"].clone(),
        )
    };
    assert_eq!(times(0), (json!("now"), json!("before")));
    assert_eq!(times(1), (json!("own"), json!("now")));
}
