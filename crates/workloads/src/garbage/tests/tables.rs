//! Single decisions.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::api::reference;
use crate::garbage::*;

fn map() -> Kind {
    Kind::of("v1", "ConfigMap").unwrap()
}

fn meta(value: Value) -> ObjectMeta {
    serde_json::from_value(value).unwrap()
}

/// A ConfigMap of namespace `ns` whose name is its UID, owned by others of that kind.
fn child(uid: &str, owners: &[(&str, bool)]) -> ObjectMeta {
    let owners = owners.iter();
    let owners = owners.map(|(uid, blocks)| reference(map(), uid, uid, *blocks));
    ObjectMeta {
        owner_references: Some(owners.collect()),
        ..meta(json!({"name": uid, "uid": uid, "namespace": "ns", "resourceVersion": "1"}))
    }
}

fn going(mut object: ObjectMeta, finalizers: &[&str]) -> ObjectMeta {
    let mark = meta(json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": finalizers}));
    object.deletion_timestamp = mark.deletion_timestamp;
    object.finalizers = mark.finalizers;
    object.resource_version = Some("2".into());
    object
}

fn object(uid: &str) -> Arc<Object> {
    Arc::new(Object {
        kind: map(),
        namespace: "ns".into(),
        name: uid.into(),
        uid: uid.into(),
    })
}

fn works(graph: &mut Graph) -> Vec<Work> {
    let works = std::iter::from_fn(|| graph.take());
    let works: Vec<(Key, Work)> = works.collect();
    let done = works.into_iter().map(|(key, work)| {
        graph.landed(key, Outcome::Done);
        work
    });
    done.collect()
}

fn judged(uid: &str, has_dependents: bool, absent: &[&str]) -> Work {
    Work::Judge {
        object: object(uid),
        has_dependents,
        absent: absent.iter().map(|uid| object(uid)).collect(),
    }
}

#[test]
fn verdicts() {
    use Owner::{Absent, Solid, Waiting};
    let delete = Verdict::Delete;
    let leave = |uids: &[&str]| Verdict::Leave(uids.iter().map(|uid| (*uid).into()).collect());
    let own = |finalizer: &str| meta(json!({"finalizers": [finalizer]}));
    let plain = ObjectMeta::default();
    let cases = [
        (&plain, &[][..], false, Verdict::Keep),
        (&plain, &[Solid], false, Verdict::Keep),
        (&plain, &[Solid, Absent], false, leave(&["1"])),
        (&plain, &[Waiting, Solid, Absent], true, leave(&["0", "2"])),
        (&plain, &[Absent], false, delete(Policy::Background)),
        (&plain, &[Absent, Absent], true, delete(Policy::Background)),
        (&plain, &[Waiting], false, delete(Policy::Background)),
        (&plain, &[Waiting], true, delete(Policy::Foreground)),
        (&plain, &[Absent, Waiting], true, delete(Policy::Foreground)),
        (&own(ORPHAN), &[Absent], true, delete(Policy::Orphan)),
        (&own(ORPHAN), &[Waiting], false, delete(Policy::Orphan)),
        (&own(ORPHAN), &[Waiting], true, delete(Policy::Foreground)),
        (
            &own(FOREGROUND),
            &[Absent],
            false,
            delete(Policy::Foreground),
        ),
        (
            &going(plain.clone(), &["x/y"]),
            &[Absent],
            false,
            Verdict::Keep,
        ),
    ];
    for (n, (object, owners, has_dependents, expected)) in cases.into_iter().enumerate() {
        let owners: Vec<(Uid, Owner)> = owners
            .iter()
            .enumerate()
            .map(|(n, owner)| (n.to_string().into(), *owner))
            .collect();
        assert_eq!(judge(object, &owners, has_dependents), expected, "case {n}");
    }
}

#[test]
fn owners_are_who_they_are() {
    let there = child("o", &[]);
    let cases = [
        (None, Owner::Absent),
        (Some(child("other", &[])), Owner::Absent),
        (Some(there.clone()), Owner::Solid),
        (Some(going(there.clone(), &["x/y"])), Owner::Solid),
        (Some(going(there.clone(), &[ORPHAN])), Owner::Solid),
        (Some(going(there.clone(), &[FOREGROUND])), Owner::Waiting),
        (
            Some(ObjectMeta {
                finalizers: Some(vec![FOREGROUND.into()]),
                ..there
            }),
            Owner::Solid,
        ),
    ];
    for (n, (found, expected)) in cases.into_iter().enumerate() {
        assert_eq!(owner("o", found.as_ref()), expected, "case {n}");
    }
}

#[test]
fn references_are_seen_from_their_namespace() {
    let owners = json!([
        {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1"},
        {"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": "2", "blockOwnerDeletion": true},
        {"apiVersion": "v2", "kind": "Secret", "name": "s", "uid": "3"},
        {"apiVersion": "example.com/v1", "kind": "Tree", "name": "t", "uid": "4"},
        {"apiVersion": "v1", "kind": "Binding", "name": "b", "uid": "5"},
    ]);
    let seen = |namespace: Value| {
        let meta = meta(json!({"namespace": namespace, "ownerReferences": owners}));
        let seen = references(&meta).into_iter();
        let seen = seen.map(|r| {
            let object = r.object.map(|o| (o.namespace.clone(), o.is_nowhere()));
            (r.blocks, object)
        });
        seen.collect::<Vec<_>>()
    };
    let some = |namespace: &str, is_nowhere| Some((namespace.to_owned(), is_nowhere));
    let not = (false, None);
    let rest = [not.clone(), not.clone(), not];
    let (node, first) = ((false, some("", false)), seen(json!("ns")));
    assert_eq!(first[..2], [node.clone(), (true, some("ns", false))]);
    assert_eq!(first[2..], rest);
    assert_eq!(seen(Value::Null)[..2], [node, (true, some("", true))]);
}

#[test]
fn all_but_events_are_followed() {
    let followed: Vec<&str> = Kind::followed().map(|k| k.resource().plural).collect();
    for (plural, expected) in [
        ("configmaps", true),
        ("namespaces", true),
        ("pods", true),
        ("leases", true),
        ("events", false),
        ("bindings", false),
        ("tokenreviews", false),
    ] {
        assert_eq!(followed.contains(&plural), expected, "{plural}");
    }
}

#[test]
fn patches_change_what_they_mean() {
    let object = ObjectMeta {
        finalizers: Some(vec!["a".into(), ORPHAN.into()]),
        ..child("c", &[("x", true), ("y", true), ("z", false)])
    };
    let (x, z): (Uid, Uid) = ("x".into(), "z".into());
    assert_eq!(
        without_owners(&object, std::slice::from_ref(&x)),
        json!({"metadata": {"uid": "c", "ownerReferences": [{"$patch": "delete", "uid": "x"}]}})
    );
    assert_eq!(
        loosened(&object, &[x, z]),
        json!({"metadata": {"uid": "c", "ownerReferences": [{"uid": "x", "blockOwnerDeletion": false}]}})
    );
    assert_eq!(
        without_finalizer(&object, ORPHAN),
        Some(json!({"metadata": {"uid": "c", "resourceVersion": "1", "finalizers": ["a"]}}))
    );
    assert_eq!(without_finalizer(&object, FOREGROUND), None);
    let last = without_finalizer(&object, "a").and_then(|_| {
        let last = ObjectMeta {
            finalizers: Some(vec![ORPHAN.into()]),
            ..object.clone()
        };
        without_finalizer(&last, ORPHAN)
    });
    assert_eq!(last.unwrap()["metadata"]["finalizers"], Value::Null);
}

#[test]
fn nothing_is_kept_of_objects_by_themselves() {
    let mut graph = Graph::default();
    graph.hear(
        map(),
        &meta(json!({"name": "a", "uid": "a", "namespace": "ns"})),
    );
    graph.hear(map(), &going(child("b", &[]), &["x/y"]));
    assert!(graph.is_empty());
    graph.hear(map(), &child("c", &[("a", false)]));
    assert_eq!(graph.len(), 2);
    graph.hear(map(), &child("c", &[]));
    assert!(graph.is_empty());
}

#[test]
fn an_unknown_owner_is_looked_up_once() {
    let mut graph = Graph::default();
    graph.hear(map(), &child("b", &[("a", false)]));
    graph.hear(map(), &child("c", &[("a", false)]));
    let (key, work) = graph.take().unwrap();
    assert_eq!((work, graph.take()), (Work::Look(object("a")), None));
    graph.landed(key, Outcome::Found(Box::new(child("a", &[]))));
    graph.hear(map(), &child("d", &[("a", false)]));
    assert_eq!(works(&mut graph), []);
}

#[test]
fn dependents_of_an_absent_owner_are_judged() {
    let mut graph = Graph::default();
    graph.hear(map(), &child("b", &[("a", false)]));
    let (key, _) = graph.take().unwrap();
    graph.landed(key, Outcome::Absent);
    assert_eq!(works(&mut graph), [judged("b", false, &["a"])]);
    // It is remembered.
    graph.hear(map(), &child("c", &[("a", false)]));
    assert_eq!(works(&mut graph), [judged("c", false, &["a"])]);
}

#[test]
fn an_owner_that_goes_leaves_its_dependents_to_judge() {
    let mut graph = Graph::default();
    graph.hear(map(), &child("b", &[("a", false)]));
    graph.hear(map(), &child("c", &[("b", false)]));
    works(&mut graph);
    graph.gone("b");
    assert_eq!(works(&mut graph), [judged("c", false, &["b"])]);
}

#[test]
fn what_a_list_leaves_out_is_looked_up() {
    let mut graph = Graph::default();
    graph.hear(map(), &child("b", &[("a", false)]));
    graph.hear(map(), &child("c", &[("b", false)]));
    works(&mut graph);
    graph.list_begins(map());
    graph.hear(map(), &child("c", &[("b", false)]));
    graph.list_ends(map());
    let (key, work) = graph.take().unwrap();
    assert_eq!(work, Work::Look(object("b")));
    graph.landed(key, Outcome::Absent);
    assert_eq!(works(&mut graph), [judged("c", false, &["b"])]);
}

#[test]
fn in_the_foreground_the_owner_waits_for_those_that_block() {
    let mut graph = Graph::default();
    let owner = going(child("a", &[]), &[FOREGROUND]);
    graph.hear(map(), &child("b", &[("a", true)]));
    graph.hear(map(), &child("c", &[("a", false)]));
    graph.hear(map(), &child("d", &[("b", true)]));
    graph.hear(map(), &owner);
    assert_eq!(
        works(&mut graph),
        [judged("b", true, &[]), judged("c", false, &[])]
    );
    graph.gone("b");
    let (release, judge) = (Work::Release(object("a")), judged("d", false, &["b"]));
    assert_eq!(works(&mut graph), [release, judge]);
}

#[test]
fn dependents_of_which_nobody_told_are_waited_for() {
    let mut graph = Graph::default();
    graph.hear(map(), &going(child("a", &[]), &[FOREGROUND]));
    let (key, work) = graph.take().unwrap();
    assert_eq!(work, Work::Release(object("a")));
    let other = (map(), child("b", &[("a", true)]));
    graph.landed(key, Outcome::Others(vec![other]));
    // It may be gone by now.
    let look = Work::Look(object("b"));
    assert_eq!(works(&mut graph), [judged("b", false, &[]), look]);
}

#[test]
fn a_knot_is_loosened() {
    let mut graph = Graph::default();
    for (uid, owner) in [("a", "c"), ("b", "a"), ("c", "b")] {
        graph.hear(map(), &going(child(uid, &[(owner, true)]), &[FOREGROUND]));
    }
    let loosen = |uid, owner: &str| Work::Loosen {
        object: object(uid),
        owners: vec![owner.into()],
    };
    let found = works(&mut graph);
    assert!(found.contains(&loosen("a", "c")), "{found:?}");
    graph.hear(map(), &going(child("a", &[("c", false)]), &[FOREGROUND]));
    assert_eq!(works(&mut graph), [Work::Release(object("c"))]);
}

#[test]
fn who_names_an_owner_of_another_namespace_is_known() {
    let mut graph = Graph::default();
    let mut apart = child("b", &[("a", false)]);
    apart.namespace = Some("apart".into());
    graph.hear(map(), &child("a", &[("o", false)]));
    graph.hear(map(), &apart);
    let named = Object {
        namespace: "apart".into(),
        ..(*object("a")).clone()
    };
    assert!(works(&mut graph).contains(&Work::Look(Arc::new(named.clone()))));
    let naming: Vec<&str> = graph.naming(&named).map(|o| o.name.as_str()).collect();
    assert_eq!(naming, ["b"]);
}

#[test]
fn old_news_change_nothing() {
    let mut graph = Graph::default();
    let mut late = child("b", &[("a", false)]);
    late.resource_version = Some("7".into());
    graph.hear(map(), &late);
    works(&mut graph);
    graph.hear(map(), &child("b", &[]));
    assert_eq!(graph.len(), 2);
}
