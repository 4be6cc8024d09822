//! What holds of every Pod the server takes (lifecycle specification §16: 34 to 37), over generated Pods and changes.
//!
//! `PROPTEST_CASES` sets how many are tried.

use admission::Subresource::{self, EphemeralContainers, Main};
use admission::pod::{AdmitContext, admit};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

/// Some of `parts`, each as it is generated, in one object.
fn some_of(parts: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let given = parts.into_iter().map(|(key, value)| {
        let value = prop_oneof![2 => Just(None), 1 => value.prop_map(Some)];
        value.prop_map(move |value| value.map(|value| (key.to_owned(), value)))
    });
    let given: Vec<_> = given.collect();
    given
        .prop_map(|entries| Value::Object(entries.into_iter().flatten().collect::<Map<_, _>>()))
        .boxed()
}

fn number(range: std::ops::Range<i64>) -> BoxedStrategy<Value> {
    range.prop_map(Value::from).boxed()
}

fn one_of(choices: &'static [&'static str]) -> BoxedStrategy<Value> {
    select(choices).prop_map(Value::from).boxed()
}

fn list_of(item: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    proptest::collection::vec(item, 0..=most)
        .prop_map(Value::from)
        .boxed()
}

fn probe() -> BoxedStrategy<Value> {
    let handler = select(vec![
        json!({"exec": {"command": ["true"]}}),
        json!({"httpGet": {"port": 80}}),
        json!({"tcpSocket": {"port": 80}}),
        json!({"grpc": {"port": 80}}),
    ]);
    let times = some_of(vec![
        ("periodSeconds", number(1..60)),
        ("timeoutSeconds", number(1..10)),
        ("failureThreshold", number(1..10)),
        ("initialDelaySeconds", number(0..60)),
    ]);
    (handler, times)
        .prop_map(|(handler, times)| merged(handler, times))
        .boxed()
}

fn merged(mut object: Value, more: Value) -> Value {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

fn container(may_probe: bool) -> BoxedStrategy<Value> {
    let amounts = |cpu, memory| json!({"cpu": cpu, "memory": memory});
    let resources = select(vec![
        json!({}),
        json!({"requests": amounts("100m", "64Mi")}),
        json!({"limits": amounts("1", "1Gi")}),
        json!({"requests": amounts("500m", "1M"), "limits": amounts("500m", "1M")}),
    ]);
    let port = (1..1_000_u16).prop_map(|port| json!({"containerPort": port}));
    let variable = ("[A-Z]{1,4}", "[a-z$()]{0,6}")
        .prop_map(|(name, value)| json!({"name": name, "value": value}));
    let mut parts = vec![
        (
            "image",
            one_of(&[
                "a",
                "a:1",
                "r.example/b:latest",
                "c@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            ]),
        ),
        (
            "imagePullPolicy",
            one_of(&["Always", "IfNotPresent", "Never"]),
        ),
        ("resources", resources.boxed()),
        ("ports", list_of(port.boxed(), 1)),
        ("env", list_of(variable.boxed(), 3)),
        (
            "terminationMessagePolicy",
            one_of(&["File", "FallbackToLogsOnError"]),
        ),
        (
            "securityContext",
            some_of(vec![
                ("runAsUser", number(0..2_000)),
                ("privileged", any::<bool>().prop_map(Value::from).boxed()),
            ]),
        ),
        ("tty", any::<bool>().prop_map(Value::from).boxed()),
    ];
    if may_probe {
        parts.extend([
            ("livenessProbe", probe()),
            ("readinessProbe", probe()),
            ("startupProbe", probe()),
            (
                "lifecycle",
                select(vec![
                    json!({"preStop": {"sleep": {"seconds": 1}}}),
                    json!({"postStart": {"exec": {"command": ["x"]}}}),
                ])
                .boxed(),
            ),
        ]);
    }
    some_of(parts)
        .prop_map(|parts| merged(json!({"image": "x"}), parts))
        .boxed()
}

fn named(prefix: &'static str, list: Vec<Value>) -> Vec<Value> {
    let list = list.into_iter().enumerate();
    list.map(|(index, container)| merged(container, json!({"name": format!("{prefix}{index}")})))
        .collect()
}

/// A Pod as a user writes it.
fn pod() -> BoxedStrategy<Value> {
    let volume = select(vec![
        json!({"emptyDir": {}}),
        json!({"configMap": {"name": "c"}}),
        json!({"secret": {"secretName": "s"}}),
        json!({"hostPath": {"path": "/tmp"}}),
        json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
    ]);
    let toleration = select(vec![
        json!({"operator": "Exists"}),
        json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}),
        json!({"key": "k", "value": "v", "effect": "NoSchedule"}),
    ]);
    let spec = some_of(vec![
        ("restartPolicy", one_of(&["Always", "OnFailure", "Never"])),
        ("terminationGracePeriodSeconds", number(1..100)),
        ("activeDeadlineSeconds", number(1..1_000)),
        ("dnsPolicy", one_of(&["ClusterFirst", "Default"])),
        ("hostNetwork", any::<bool>().prop_map(Value::from).boxed()),
        (
            "shareProcessNamespace",
            any::<bool>().prop_map(Value::from).boxed(),
        ),
        ("hostname", one_of(&["h", "h-2"])),
        ("tolerations", list_of(toleration.boxed(), 2)),
        (
            "securityContext",
            some_of(vec![
                ("fsGroup", number(0..2_000)),
                ("runAsNonRoot", any::<bool>().prop_map(Value::from).boxed()),
            ]),
        ),
        (
            "schedulingGates",
            Just(json!([{"name": "g.example/a"}, {"name": "g.example/b"}])).boxed(),
        ),
    ]);
    let init = (container(false), any::<bool>()).prop_map(|(container, is_sidecar)| {
        let policy = if is_sidecar {
            json!({"restartPolicy": "Always"})
        } else {
            json!({})
        };
        merged(container, policy)
    });
    let lists = (
        proptest::collection::vec(init, 0..3),
        proptest::collection::vec(container(true), 1..4),
        proptest::collection::vec(volume, 0..3),
    );
    (spec, lists)
        .prop_map(|(spec, (init, apps, volumes))| {
            let spec = merged(spec, json!({
                "initContainers": named("init", init), "containers": named("app", apps), "volumes": named("v", volumes)}));
            json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
                "resourceVersion": "1"}, "spec": spec})
        })
        .boxed()
}

/// The Pod as the server stores it; `None` when it does not take it.
fn stored(mut pod: Value) -> Option<Value> {
    admission::default("pods", &mut pod);
    let account = json!({"metadata": {"name": "default"}, "automountServiceAccountToken": false});
    let context = AdmitContext {
        namespace: "d",
        service_account: Some(&account),
        priority_class: None,
        random_suffix: "x7k2p",
    };
    admit(&mut pod, &context).ok()?;
    admission::prepare_create("pods", &mut pod);
    admission::validate_create("pods", &pod)
        .is_empty()
        .then_some(pod)
}

/// What an update leaves behind; `None` when it is refused.
fn updated(subresource: Subresource, old: &Value, mut new: Value) -> Option<Value> {
    admission::default("pods", &mut new);
    admission::prepare_update("pods", subresource, &mut new, old);
    let errors = admission::validate_update("pods", subresource, &new, old);
    errors.is_empty().then_some(new)
}

/// Paths of everything that is not an object or a list.
fn leaves(value: &Value, path: String, all: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter()
                .for_each(|(key, value)| leaves(value, format!("{path}/{key}"), all));
        }
        Value::Array(list) if !list.is_empty() => {
            let list = list.iter().enumerate();
            list.for_each(|(index, value)| leaves(value, format!("{path}/{index}"), all));
        }
        _ => all.push(path),
    }
}

/// Changes one thing of the spec.
fn change(pod: &mut Value, at: Index, how: u8) {
    let mut paths = Vec::new();
    leaves(&pod["spec"], "/spec".to_owned(), &mut paths);
    let path = paths[at.index(paths.len())].clone();
    let (parent, key) = path.rsplit_once('/').expect("a path");
    match (pod.pointer_mut(parent), how % 4) {
        (Some(Value::Object(map)), 0) => drop(map.remove(key)),
        (Some(Value::Array(list)), 0) => drop(list.pop()),
        (Some(Value::Array(list)), 1) => {
            let first = list.first().cloned().unwrap_or_default();
            list.push(first);
        }
        _ => {
            let value = pod.pointer_mut(&path).expect("it was found");
            *value = match value.take() {
                Value::Bool(is) => (!is).into(),
                Value::Number(n) if how & 4 == 0 => (n.as_i64().unwrap_or(0) - 1).into(),
                Value::Number(n) => (n.as_i64().unwrap_or(0) + 1).into(),
                Value::String(text) if how & 4 == 0 => format!("{text}x").into(),
                Value::String(_) => "Always".into(),
                other => other,
            };
        }
    }
}

/// What is as good as not there.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// What differs between two values.
fn differences(old: &Value, new: &Value, path: String, all: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(one), Value::Object(two)) => {
            let keys: std::collections::BTreeSet<_> = one.keys().chain(two.keys()).collect();
            for key in keys {
                let (one, two) = (one.get(key), two.get(key));
                let (one, two) = (one.unwrap_or(&Value::Null), two.unwrap_or(&Value::Null));
                differences(one, two, format!("{path}/{key}"), all);
            }
        }
        (Value::Array(one), Value::Array(two)) if one.len() == two.len() => {
            for (index, (one, two)) in one.iter().zip(two).enumerate() {
                differences(one, two, format!("{path}/{index}"), all);
            }
        }
        _ if old == new || (is_empty(old) && is_empty(new)) => {}
        _ => all.push(path),
    }
}

/// Whether §15.4 lets an update change this.
fn may_change(path: &str) -> bool {
    let words: Vec<&str> = path.split('/').skip(1).collect();
    match words[..] {
        ["metadata", "generation"] => true,
        ["spec", "containers" | "initContainers", _, "image"] => true,
        ["spec", "activeDeadlineSeconds" | "schedulingGates"] => true,
        // A default that follows from the image of the moment is no change of the user's, and is kept.
        ["spec", "tolerations", ..] => true,
        _ => false,
    }
}

fn generation(pod: &Value) -> i64 {
    pod["metadata"]["generation"].as_i64().unwrap_or(0)
}

#[test]
fn most_generated_pods_are_taken() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let taken = (0..200).filter(|_| {
        let tree = pod().new_tree(&mut runner).expect("a pod");
        stored(proptest::strategy::ValueTree::current(&tree)).is_some()
    });
    assert!(
        taken.count() > 100,
        "the generator makes Pods that nobody takes"
    );
}

proptest! {
    #![proptest_config(testkit::cases(2_000, 16))]

    /// 34: what was taken is taken again, and changes nothing; defaults are filled in once.
    #[test]
    fn a_pod_that_was_taken_is_taken_again(pod in pod()) {
        let mut once = pod.clone();
        admission::default("pods", &mut once);
        let mut twice = once.clone();
        admission::default("pods", &mut twice);
        prop_assert_eq!(&once, &twice);
        let Some(old) = stored(pod) else { return Ok(()) };
        prop_assert_eq!(Some(old.clone()), updated(Main, &old, old.clone()));
        prop_assert_eq!(Some(old.clone()), stored(old));
    }

    /// 35 and 36: an update that is taken changes what may be changed, and counts a generation when that is the spec.
    #[test]
    fn an_update_changes_what_may_be_changed(
        pod in pod(), at in any::<Index>(), how in any::<u8>(), label in any::<bool>(),
    ) {
        let Some(old) = stored(pod) else { return Ok(()) };
        let mut new = old.clone();
        change(&mut new, at, how);
        if label {
            new["metadata"]["labels"] = json!({"a": "b"});
        }
        let Some(new) = updated(Main, &old, new) else { return Ok(()) };
        let mut changed = Vec::new();
        differences(&old, &new, String::new(), &mut changed);
        let is_spec = changed.iter().any(|path| path.starts_with("/spec/"));
        let grown = generation(&new) - generation(&old);
        prop_assert_eq!(grown, i64::from(is_spec), "generations of a change of {:?}", &changed);
        for path in changed {
            let is_label = label && path.starts_with("/metadata/labels");
            prop_assert!(is_label || may_change(&path), "{path} was changed: {} to {}",
                old.pointer(&path).unwrap_or(&Value::Null), new.pointer(&path).unwrap_or(&Value::Null));
        }
    }

    /// 37: ephemeral containers can be added, and stay as they are.
    #[test]
    fn ephemeral_containers_are_only_added(
        pod in pod(), before in 1..4_usize, at in any::<Index>(), how in 0..4_u8,
    ) {
        let Some(old) = stored(pod) else { return Ok(()) };
        let ephemeral = |count: usize| named("debug", vec![json!({"image": "x"}); count]);
        let with = |list: Vec<Value>, of: &Value| {
            let mut new = of.clone();
            new["spec"]["ephemeralContainers"] = list.into();
            new
        };
        let old = updated(EphemeralContainers, &old, with(ephemeral(before), &old));
        let old = old.expect("they can be added");
        let more = updated(EphemeralContainers, &old, with(ephemeral(before + 1), &old));
        let more = more.expect("and another one");
        prop_assert_eq!(generation(&more), generation(&old) + 1);
        let mut list = ephemeral(before);
        let at = at.index(before);
        match how {
            0 => drop(list.remove(at)),
            1 => list[at]["image"] = "another".into(),
            2 => list[at]["command"] = json!(["x"]),
            _ => list[at]["name"] = "other".into(),
        }
        let tampered = updated(EphemeralContainers, &old, with(list, &old));
        prop_assert!(tampered.is_none(), "{}", tampered.unwrap_or_default()["spec"]["ephemeralContainers"]);
    }
}
