//! Limits and quotas against what Kubernetes 1.36.3 makes of the same objects: `data/limits.json` holds Pods and claims, the limits of
//! their namespace, and what the plugin LimitRanger fills in and says; `data/charges.json` objects, quotas, what the objects count for,
//! and what the plugin ResourceQuota says or what is used afterwards.
//!
//! And a property: however users and the controller get into each other's way, nothing is used that is not counted.

use std::collections::BTreeMap;

use admission::quota::{self, Request};
use admission::{Subresource, limits};
use api::gotext;
use api::quantity::Quantity;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Amounts as they are written.
type Amounts = BTreeMap<String, String>;

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().expect("a time")
}

fn cases(text: &str, least: usize) -> Vec<Value> {
    let cases: Vec<Value> = serde_json::from_str(text).expect("cases are JSON");
    assert!(cases.len() > least, "cases went missing");
    cases
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn amounts(value: &Value) -> Amounts {
    let fields = value.as_object().into_iter().flatten();
    let read = |value| Quantity::from_json(value).expect("a quantity");
    fields
        .map(|(name, amount)| (name.clone(), read(amount).canonical()))
        .collect()
}

/// One line per difference.
#[derive(Default)]
struct Differences(String);

impl Differences {
    fn note(
        &mut self,
        case: &Value,
        what: &str,
        expected: &dyn std::fmt::Debug,
        found: &dyn std::fmt::Debug,
    ) {
        let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
        if expected != found {
            let name = &case["name"];
            self.0.push_str(&format!(
                "\n== {name}: {what}\nexpected {expected}\nfound    {found}\n"
            ));
        }
    }
}

fn range(limits: &Value) -> Value {
    let mut range = json!({"metadata": {"name": "l"}, "spec": {"limits": limits}});
    admission::default("limitranges", &mut range);
    range
}

#[test]
fn limits_are_what_upstream_makes_of_them() {
    let mut wrong = Differences::default();
    for case in &cases(include_str!("data/limits.json"), 30) {
        let ranges: Vec<Value> = list(&case["limits"]).iter().map(range).collect();
        let said = if case["claim"].is_object() {
            limits::check_claim(&case["claim"], &ranges)
        } else {
            let mut pod = case["pod"].clone();
            admission::default("pods", &mut pod);
            limits::fill(&mut pod, &ranges);
            let containers =
                ["containers", "initContainers"].map(|field| list(&pod["spec"][field]));
            let of =
                |resources: &Value| ["requests", "limits"].map(|list| amounts(&resources[list]));
            let found: Vec<_> = containers
                .into_iter()
                .flatten()
                .map(|c| of(&c["resources"]))
                .collect();
            let expected: Vec<_> = list(&case["resources"]).iter().map(of).collect();
            wrong.note(case, "resources", &expected, &found);
            let annotation = &pod["metadata"]["annotations"]["kubernetes.io/limit-ranger"];
            wrong.note(case, "annotation", &case["annotation"], annotation);
            limits::check_pod(&pod, &ranges)
        };
        let mut expected: Vec<String> = list(&case["errors"])
            .iter()
            .map(|e| e.as_str().expect("text").to_owned())
            .collect();
        let mut found: Vec<String> = Vec::new();
        if let Err(said) = said {
            // Upstream's order is that of chance.
            found = said
                .trim_matches(['[', ']'])
                .split(", m")
                .map(str::to_owned)
                .collect();
            found
                .iter_mut()
                .skip(1)
                .for_each(|text| text.insert(0, 'm'));
            expected = vec![gotext::aggregate(expected)];
            expected = expected[0]
                .trim_matches(['[', ']'])
                .split(", m")
                .map(str::to_owned)
                .collect();
            expected
                .iter_mut()
                .skip(1)
                .for_each(|text| text.insert(0, 'm'));
        }
        expected.sort();
        found.sort();
        wrong.note(case, "errors", &expected, &found);
    }
    assert!(wrong.0.is_empty(), "{}", wrong.0);
}

#[test]
fn charges_are_what_upstream_makes_of_them() {
    let mut wrong = Differences::default();
    for case in &cases(include_str!("data/charges.json"), 200) {
        let (resource, group) = (
            case["resource"].as_str().expect("text"),
            case["group"].as_str(),
        );
        let kind = group.map_or(resource.to_owned(), |group| format!("{resource}.{group}"));
        let filled = |name: &str| {
            let mut object = case.get(name)?.clone();
            admission::default(&kind, &mut object);
            Some(object)
        };
        let (new, old) = (filled("new").expect("an object"), filled("old"));
        let mut quotas = list(&case["quotas"]).to_vec();
        quotas
            .iter_mut()
            .for_each(|quota| admission::default("resourcequotas", quota));
        let part = match case["subresource"].as_str() {
            Some("resize") => Subresource::Resize,
            Some("status") => Subresource::Status,
            _ => Subresource::Main,
        };
        let request = Request {
            kind: &kind,
            part,
            new: &new,
            old: old.as_ref(),
            now: now(),
        };
        if old.is_none() {
            let found = quota::usage(&kind, &new, now()).into_iter();
            let found: Amounts = found
                .map(|(name, amount)| (name, amount.canonical()))
                .collect();
            wrong.note(case, "usage", &amounts(&case["usage"]), &found);
        }
        let charged = match request.is_counted() {
            true => quota::charge(&request, &quotas),
            false => Ok(BTreeMap::new()),
        };
        match (case["error"].as_str(), charged) {
            (Some(expected), found) => {
                let expected = expected
                    .split_once("is forbidden: ")
                    .map(|(_, why)| why.to_owned());
                wrong.note(case, "error", &expected, &found.err());
            }
            (None, Err(error)) => wrong.note(case, "error", &"none", &error),
            (None, Ok(found)) => {
                let name = |index: &usize| {
                    quotas[*index]["metadata"]["name"]
                        .as_str()
                        .expect("a name")
                        .to_owned()
                };
                let found: BTreeMap<String, Amounts> = found
                    .iter()
                    .map(|(index, used)| (name(index), amounts(used)))
                    .collect();
                let expected = case["used"].as_object().expect("quotas").iter();
                let expected: BTreeMap<String, Amounts> = expected
                    .map(|(name, used)| (name.clone(), amounts(used)))
                    .collect();
                wrong.note(case, "used", &expected, &found);
            }
        }
    }
    assert!(wrong.0.is_empty(), "{}", wrong.0);
}

#[test]
fn overdue_pods_count_until_their_time_has_come_twice() {
    let wanted = json!({"spec": {"hard": {"pods": "5", "services": "5", "gold.example.com/x": "1"}}, "status": {"used": {"services": "3"}}});
    let going = |second: &str, grace: i64| {
        let mut pod = pod(1);
        let at = format!("2026-01-02T03:04:{second}Z");
        pod["metadata"] = json!({"deletionTimestamp": at, "deletionGracePeriodSeconds": grace});
        pod
    };
    for (behaviour, pods, used, again) in [
        ("none is going", vec![pod(1), pod(1)], "2", None),
        (
            "one has time",
            vec![pod(1), going("30", 10)],
            "2",
            Some("2026-01-02T03:04:40Z"),
        ),
        (
            "two have time",
            vec![going("09", 5), going("00", 7)],
            "2",
            Some("2026-01-02T03:04:07Z"),
        ),
        (
            "its time is over once",
            vec![going("01", 4)],
            "1",
            Some("2026-01-02T03:04:05Z"),
        ),
        (
            "its time is over twice",
            vec![going("00", 4), pod(1)],
            "1",
            None,
        ),
    ] {
        let objects = BTreeMap::from([("pods".to_owned(), pods)]);
        let (status, found) = quota::count(&wanted, &objects, now());
        let expected =
            json!({"hard": wanted["spec"]["hard"], "used": {"pods": used, "services": "3"}});
        assert_eq!(status, expected, "{behaviour}");
        assert_eq!(
            found.map(|at| at.to_string()).as_deref(),
            again,
            "{behaviour}"
        );
    }
}

#[test]
fn only_what_counts_otherwise_is_news() {
    let with = |path: &str, value: Value| {
        let mut pod = pod(1);
        let (part, field) = path.split_once('.').expect("two words");
        pod[part][field] = value;
        pod
    };
    for (behaviour, kind, new, expected) in [
        ("nothing", "pods", pod(1), false),
        (
            "a label",
            "pods",
            with("metadata.labels", json!({"a": "b"})),
            false,
        ),
        (
            "its end",
            "pods",
            with("status.phase", json!("Failed")),
            true,
        ),
        ("a resize", "pods", pod(2), true),
        (
            "a deadline",
            "pods",
            with("spec.activeDeadlineSeconds", json!(5)),
            true,
        ),
        (
            "a deletion",
            "pods",
            with("metadata.deletionTimestamp", json!("2026-01-02T03:04:35Z")),
            true,
        ),
        (
            "another type",
            "services",
            with("spec.type", json!("NodePort")),
            false,
        ),
        (
            "ports as well",
            "services",
            json!({"spec": {"type": "NodePort", "ports": [{}]}}),
            true,
        ),
        (
            "a class",
            "persistentvolumeclaims",
            with("spec.volumeAttributesClassName", json!("gold")),
            true,
        ),
        ("anything", "secrets", with("spec.x", json!(1)), false),
    ] {
        assert_eq!(
            quota::is_news(kind, &pod(1), &new, now()),
            expected,
            "{behaviour}"
        );
    }
}

/// What may happen next.
#[derive(Debug, Clone)]
enum Op {
    /// A Pod is made that asks for so much.
    Make(u8),
    /// One of the Pods is resized.
    Resize(usize, u8),
    /// One of them is over.
    End(usize),
    /// One of them is deleted.
    Delete(usize),
    /// Somebody wants so many Pods, processors, or both counted, or nothing.
    Want(Option<u8>, Option<u8>),
    /// The controller reads the quota, or the Pods, or writes what it has counted.
    Read,
    List,
    Write,
}

fn op() -> impl Strategy<Value = Op> {
    let amount = || prop::option::of(0..12_u8);
    prop_oneof![
        6 => (0..4_u8).prop_map(Op::Make),
        2 => (any::<usize>(), 0..6_u8).prop_map(|(pod, cpu)| Op::Resize(pod, cpu)),
        1 => any::<usize>().prop_map(Op::End),
        2 => any::<usize>().prop_map(Op::Delete),
        1 => (amount(), amount()).prop_map(|(pods, cpu)| Op::Want(pods, cpu)),
        3 => Just(Op::Read),
        3 => Just(Op::List),
        3 => Just(Op::Write),
    ]
}

fn pod(cpu: u8) -> Value {
    let resources = json!({"requests": {"cpu": cpu.to_string()}});
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}, "status": {"phase": "Running"}})
}

/// A namespace with one quota, and how far its controller has come.
#[derive(Default)]
struct World {
    quota: Value,
    revision: u64,
    pods: Vec<Value>,
    read: Option<(Value, u64)>,
    listed: Option<Vec<Value>>,
}

impl World {
    /// Writes what the API would write, in one step; whether it was allowed.
    fn ask(&mut self, part: Subresource, new: &Value, old: Option<&Value>) -> bool {
        let request = Request {
            kind: "pods",
            part,
            new,
            old,
            now: now(),
        };
        let quotas = [self.quota.clone()];
        let Ok(mut charged) = quota::charge(&request, &quotas) else {
            return false;
        };
        if let Some(used) = charged.remove(&0) {
            quota::set_used(&mut self.quota, used);
            self.revision += 1;
            let status = &self.quota["status"];
            let (hard, used) = (amounts_of(&status["hard"]), amounts_of(&status["used"]));
            let before = amounts_of(&quotas[0]["status"]["used"]);
            for (name, used) in used {
                assert!(
                    used <= hard[&name] || used == before[&name],
                    "{name} is above {:?}",
                    hard[&name]
                );
            }
        } else if quota::is_uncounted(&self.quota, "pods") {
            self.revision += 1;
        }
        true
    }

    fn take(&mut self, op: Op) {
        let count = self.pods.len().max(1);
        match op {
            Op::Make(cpu) => {
                let new = pod(cpu);
                if self.ask(Subresource::Main, &new, None) {
                    self.pods.push(new);
                }
            }
            Op::Resize(n, cpu) if n % count < self.pods.len() => {
                let old = self.pods[n % count].clone();
                let mut new = pod(cpu);
                new["status"] = old["status"].clone();
                if self.ask(Subresource::Resize, &new, Some(&old)) {
                    self.pods[n % count] = new;
                }
            }
            Op::End(n) if n % count < self.pods.len() => {
                self.pods[n % count]["status"]["phase"] = "Succeeded".into();
            }
            Op::Delete(n) if n % count < self.pods.len() => {
                self.pods.remove(n % count);
            }
            Op::Want(pods, cpu) => {
                let wanted = [("pods", pods), ("requests.cpu", cpu)].into_iter();
                let wanted =
                    wanted.filter_map(|(name, n)| Some((name.to_owned(), n?.to_string().into())));
                self.quota["spec"] = json!({"hard": Value::Object(wanted.collect())});
                self.revision += 1;
            }
            Op::Read => {
                (self.read, self.listed) = (Some((self.quota.clone(), self.revision)), None)
            }
            Op::List if self.read.is_some() => self.listed = Some(self.pods.clone()),
            Op::Write => {
                if let (Some((quota, revision)), Some(pods)) =
                    (self.read.take(), self.listed.take())
                    && revision == self.revision
                {
                    self.quota["status"] = counted(&quota, pods);
                    self.revision += 1;
                }
            }
            _ => {}
        }
    }
}

fn counted(quota: &Value, pods: Vec<Value>) -> Value {
    quota::count(quota, &BTreeMap::from([("pods".to_owned(), pods)]), now()).0
}

fn amounts_of(value: &Value) -> BTreeMap<String, Quantity> {
    let fields = value.as_object().into_iter().flatten();
    let read = |value| Quantity::from_json(value).expect("a quantity");
    fields
        .map(|(name, amount)| (name.clone(), read(amount)))
        .collect()
}

proptest! {
    #![proptest_config(testkit::cases(2_000, 16))]
    #[test]
    fn nothing_is_used_that_is_not_counted(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World { quota: json!({"metadata": {"name": "q"}, "spec": {}}), ..World::default() };
        for op in ops {
            world.take(op);
            let mut of_status = world.quota.clone();
            of_status["spec"]["hard"] = world.quota["status"]["hard"].clone();
            let truth = amounts_of(&counted(&of_status, world.pods.clone())["used"]);
            for (name, counted) in amounts_of(&world.quota["status"]["used"]) {
                let there = truth.get(&name);
                prop_assert!(there.is_none_or(|there| *there <= counted), "{name}: {there:?}, counted {counted:?}");
            }
        }
    }
}
