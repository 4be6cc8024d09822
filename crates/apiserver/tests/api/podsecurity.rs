//! Pod Security admission: what the labels of a namespace do to its Pods.

use crate::support::{Answer, Server};
use serde_json::{Value, json};

const NAMESPACES: &str = "/api/v1/namespaces";
const ESCALATES: &str = r#"allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#;

/// A server with a namespace `n` that has these labels, and a service account.
async fn start(labels: &[(&str, &str)]) -> Server {
    let server = Server::start().await;
    let made = server.ask("POST", NAMESPACES, namespace(labels)).await;
    assert_eq!((made.code, made.warnings.len()), (201, 0), "{made:?}");
    let account = json!({"metadata": {"name": "default"}});
    let made = server
        .ask("POST", "/api/v1/namespaces/n/serviceaccounts", account)
        .await;
    assert_eq!(made.code, 201);
    server
}

fn namespace(labels: &[(&str, &str)]) -> Value {
    let labels = labels
        .iter()
        .map(|(k, v)| (format!("pod-security.kubernetes.io/{k}"), json!(v)));
    let labels: serde_json::Map<String, Value> = labels.collect();
    json!({"metadata": {"name": "n", "labels": labels}})
}

async fn relabel(server: &Server, labels: &[(&str, &str)]) -> Answer {
    let patch = json!({"metadata": {"labels": namespace(labels)["metadata"]["labels"]}});
    server.ask("PATCH", "/api/v1/namespaces/n", patch).await
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod =
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

async fn create(server: &Server, pod: Value) -> Answer {
    server.ask("POST", "/api/v1/namespaces/n/pods", pod).await
}

fn header(text: &str) -> String {
    format!(
        "299 - \"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"")
    )
}

#[tokio::test]
async fn what_is_enforced_is_refused_and_what_is_warned_of_is_told() {
    let server = start(&[
        ("enforce", "baseline"),
        ("warn", "restricted"),
        ("warn-version", "v1.36"),
    ])
    .await;
    let refused = create(
        &server,
        pod("p", json!({"hostNetwork": true, "hostPID": true})),
    )
    .await;
    assert_eq!((refused.code, refused.warnings.len()), (403, 0));
    assert_eq!(
        refused.message(),
        r#"pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true, hostPID=true)"#
    );
    let invalid = create(
        &server,
        pod("p", json!({"hostNetwork": true, "restartPolicy": "x"})),
    )
    .await;
    assert_eq!(invalid.code, 422);

    let warned = header(&format!(
        "would violate PodSecurity \"restricted:v1.36\": {ESCALATES}"
    ));
    let dry = server
        .ask(
            "POST",
            "/api/v1/namespaces/n/pods?dryRun=All",
            pod("p", json!({})),
        )
        .await;
    assert_eq!((dry.code, &dry.warnings), (201, &vec![warned.clone()]));
    let made = create(&server, pod("p", json!({}))).await;
    assert_eq!((made.code, &made.warnings), (201, &vec![warned.clone()]));

    // Labels and statuses do not matter, images and debuggers do.
    let path = "/api/v1/namespaces/n/pods/p";
    let labelled = server
        .ask("PATCH", path, json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    assert_eq!((labelled.code, labelled.warnings.len()), (200, 0));
    let said = server
        .ask(
            "PATCH",
            &format!("{path}/status"),
            json!({"status": {"message": "m"}}),
        )
        .await;
    assert_eq!((said.code, said.warnings.len()), (200, 0));
    let image = json!({"spec": {"containers": [{"name": "c", "image": "j"}]}});
    let changed = server.ask("PATCH", path, image).await;
    assert_eq!((changed.code, &changed.warnings), (200, &vec![warned]));
    let debugger = json!({"spec": {"ephemeralContainers": [
        {"name": "d", "image": "i", "targetContainerName": "c", "securityContext": {"privileged": true}}
    ]}});
    let refused = server
        .ask("PATCH", &format!("{path}/ephemeralcontainers"), debugger)
        .await;
    assert_eq!(
        refused.message(),
        r#"pods "p" is forbidden: violates PodSecurity "baseline:latest": privileged (container "d" must not set securityContext.privileged=true)"#
    );
}

#[tokio::test]
async fn a_hardened_pod_is_let_in() {
    let server = start(&[("enforce", "restricted")]).await;
    let refused = create(&server, pod("p", json!({}))).await;
    assert_eq!(
        refused.message(),
        format!("pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": {ESCALATES}")
    );
    let mut hardened = pod(
        "p",
        json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}}),
    );
    hardened["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let made = create(&server, hardened).await;
    assert_eq!((made.code, made.warnings.len()), (201, 0), "{made:?}");
    // Who makes Pods is only warned: the Pods will be refused.
    let template = json!({"metadata": {"name": "t"}, "template": pod("", json!({}))});
    let made = server
        .ask("POST", "/api/v1/namespaces/n/podtemplates", template)
        .await;
    let warned = format!("would violate PodSecurity \"restricted:latest\": {ESCALATES}");
    assert_eq!((made.code, made.warnings), (201, vec![header(&warned)]));
}

#[tokio::test]
async fn a_namespace_that_becomes_stricter_tells_of_its_pods() {
    let server = start(&[]).await;
    for name in ["b", "a", "c"] {
        create(&server, pod(name, json!({"hostIPC": true}))).await;
    }
    create(&server, pod("d", json!({}))).await;
    let stricter = relabel(&server, &[("enforce", "baseline")]).await;
    assert_eq!(
        (stricter.code, stricter.warnings),
        (
            200,
            vec![
                header(
                    r#"existing pods in namespace "n" violate the new PodSecurity enforce level "baseline:latest""#
                ),
                header("a (and 2 other pods): host namespaces"),
            ]
        )
    );
    let same = relabel(&server, &[("enforce", "baseline"), ("audit", "restricted")]).await;
    assert_eq!((same.code, same.warnings.len()), (200, 0));
    let wrong = relabel(&server, &[("enforce", "none"), ("warn-version", "1.30")]).await;
    assert_eq!(wrong.code, 422);
    assert_eq!(
        wrong.message(),
        "Namespace \"n\" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"none\": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.30\": must be \"latest\" or \"v1.x\"]"
    );
    let made = server.ask("POST", NAMESPACES, {
        let mut other = namespace(&[("audit", "x")]);
        other["metadata"]["name"] = json!("m");
        other
    });
    assert_eq!(made.await.code, 422);
}
