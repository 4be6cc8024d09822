//! What is asked of the API and written to it, with an API that answers from a list.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::{Value, json};
use testkit::FakeClock;

use super::*;

/// What was written: path and body.
type Written = Arc<Mutex<Vec<(String, Value)>>>;

fn scale() -> Value {
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "web", "namespace": "d"},
        "spec": {"replicas": 1}, "status": {"replicas": 1, "selector": "app=web"}})
}

fn answer(path: &str) -> Value {
    let list = |kind: &str, version: &str, item: Value| json!({"kind": kind, "apiVersion": version, "metadata": {}, "items": [item]});
    let metadata = json!({"name": "web-0", "namespace": "d", "labels": {"app": "web"}});
    match path {
        "/apis/apps/v1/namespaces/d/deployments/web/scale" => scale(),
        "/api/v1/namespaces/d/pods" => {
            let requests = json!({"requests": {"cpu": "100m"}});
            let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let pod = json!({"metadata": metadata, "spec": {"containers": [{"name": "c", "resources": requests}]},
                "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "conditions": [ready]}});
            list("PodList", "v1", pod)
        }
        "/apis/metrics.k8s.io/v1beta1/namespaces/d/pods" => {
            let used = json!([{"name": "c", "usage": {"cpu": "150m", "memory": "1Mi"}}]);
            let metrics = json!({"metadata": metadata, "timestamp": "2026-01-02T00:00:00Z", "window": "500ms", "containers": used});
            list("PodMetricsList", "metrics.k8s.io/v1beta1", metrics)
        }
        other => panic!("nobody asked for {other}"),
    }
}

fn client(written: Written) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let written = written.clone();
        async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path().to_owned();
            let body = if parts.method == Method::PUT {
                let bytes = body.collect().await.expect("a body").to_bytes();
                let body: Value = serde_json::from_slice(&bytes).expect("JSON");
                written.lock().expect("a list").push((path, body.clone()));
                body
            } else {
                answer(&path)
            };
            Ok::<_, Infallible>(Response::new(Full::from(body.to_string())))
        }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn a_target_is_given_its_size_through_its_scale() {
    let written = Written::default();
    let client = client(written.clone());
    let clock = Arc::new(FakeClock::default());
    let now = clock.clone();
    let (recorder, _poster) = events::new(
        client.clone(),
        Arc::new(move || ports::clock::Clock::now(&*now)),
        COMPONENT,
        None,
    );
    let mut autoscalers = Autoscalers {
        recorder,
        client,
        clock,
        known: Mirror::default(),
        kept: BTreeMap::new(),
        due: BTreeMap::new(),
    };
    let target = json!({"type": "Utilization", "averageUtilization": 50});
    let autoscaler = json!({"metadata": {"name": "web", "namespace": "d", "uid": "u", "resourceVersion": "1"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]}});
    let autoscaler = serde_json::from_value(autoscaler).expect("an autoscaler");
    autoscalers.hear(Event::Apply(autoscaler));
    autoscalers.scale().await;
    let written = std::mem::take(&mut *written.lock().expect("a list"));
    let paths: Vec<&str> = written.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/apis/apps/v1/namespaces/d/deployments/web/scale",
            "/apis/autoscaling/v2/namespaces/d/horizontalpodautoscalers/web/status"
        ]
    );
    assert_eq!(written[0].1["spec"]["replicas"], 3);
    let status = &written[1].1["status"];
    assert_eq!(status["desiredReplicas"], 3);
    assert_eq!(
        status["currentMetrics"][0]["resource"]["current"],
        json!({"averageUtilization": 150, "averageValue": "150m"})
    );
    let due: Vec<Instant> = autoscalers.due.values().copied().collect();
    assert_eq!(due.len(), 1, "it is looked at again");
    let key = ("d".to_owned(), "web".to_owned());
    let known = autoscalers.known.get(&key).cloned().expect("it is known");
    autoscalers.hear(Event::Apply(known));
    let same: Vec<Instant> = autoscalers.due.values().copied().collect();
    assert_eq!(same, due, "its own status is no news");
}
