//! How many Pods controllers want, for budgets that are a share of them.

use api::owner::controller_of;
use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use informer::{Heard, Key, Mirror, Watch, watch_all};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::runtime::watcher::{self, Event};
use lifecycle::budget::Scale;

/// What a controller says.
#[derive(Debug, Clone, PartialEq)]
struct Sized {
    uid: Option<String>,
    replicas: i32,
    /// Its own controller.
    owner: Option<OwnerReference>,
}

impl Sized {
    fn new(meta: ObjectMeta, replicas: Option<i32>) -> Self {
        let owner = controller_of(&meta).cloned();
        Sized {
            uid: meta.uid,
            replicas: replicas.unwrap_or(1),
            owner,
        }
    }
}

/// What a watch has told.
pub(super) enum Change {
    Deployment(Event<Deployment>),
    ReplicaSet(Event<ReplicaSet>),
    StatefulSet(Event<StatefulSet>),
    Controller(Event<ReplicationController>),
}

/// What happens to controllers.
pub(super) fn follow(client: &Client) -> BoxStream<'static, Result<Change, watcher::Error>> {
    fn told<K: Send + 'static>(
        watch: Watch<K>,
        change: fn(Event<K>) -> Change,
    ) -> BoxStream<'static, Result<Change, watcher::Error>> {
        watch.map(move |event| event.map(change)).boxed()
    }
    let all = [
        told(watch_all(client), Change::Deployment),
        told(watch_all(client), Change::ReplicaSet),
        told(watch_all(client), Change::StatefulSet),
        told(watch_all(client), Change::Controller),
    ];
    select_all(all).boxed()
}

/// What is known of controllers.
#[derive(Default)]
pub(super) struct Scales {
    deployments: Mirror<Sized>,
    replica_sets: Mirror<Sized>,
    stateful_sets: Mirror<Sized>,
    controllers: Mirror<Sized>,
}

impl Scales {
    pub(super) fn is_synced(&self) -> bool {
        let workloads = [
            &self.deployments,
            &self.replica_sets,
            &self.stateful_sets,
            &self.controllers,
        ];
        workloads.iter().all(|mirror| mirror.is_synced())
    }

    /// Takes in a change; whose budgets it concerns.
    pub(super) fn hear(&mut self, change: Change) -> Option<News> {
        match change {
            Change::Deployment(event) => {
                let look = |d: Deployment| Sized::new(d.metadata, d.spec.and_then(|s| s.replicas));
                news(self.deployments.hear(event, look), &self.deployments)
            }
            Change::ReplicaSet(event) => {
                let look = |s: ReplicaSet| Sized::new(s.metadata, s.spec.and_then(|s| s.replicas));
                news(self.replica_sets.hear(event, look), &self.replica_sets)
            }
            Change::StatefulSet(event) => {
                let look = |s: StatefulSet| Sized::new(s.metadata, s.spec.and_then(|s| s.replicas));
                news(self.stateful_sets.hear(event, look), &self.stateful_sets)
            }
            Change::Controller(event) => {
                let look = |c: ReplicationController| {
                    Sized::new(c.metadata, c.spec.and_then(|s| s.replicas))
                };
                news(self.controllers.hear(event, look), &self.controllers)
            }
        }
    }

    /// What says how many Pods of this controller there should be: a ReplicaSet's Deployment, where it has one.
    pub(super) fn of(&self, namespace: &str, controller: &OwnerReference) -> Scale {
        let whole = controller.api_version.as_str();
        let (group, version) = whole.split_once('/').unwrap_or(("", whole));
        let found = match (group, &*controller.kind) {
            ("apps", "ReplicaSet") => {
                let set = find(&self.replica_sets, namespace, controller);
                match set.and_then(|set| set.owner.as_ref()) {
                    Some(owner) if owner.kind == "Deployment" => {
                        find(&self.deployments, namespace, owner)
                    }
                    _ => set,
                }
            }
            ("apps", "Deployment") => find(&self.deployments, namespace, controller),
            ("apps", "StatefulSet") => find(&self.stateful_sets, namespace, controller),
            ("", "ReplicationController") => find(&self.controllers, namespace, controller),
            _ => {
                let kind = api::resource::of_kind(group, version, &controller.kind);
                let without = kind.filter(|kind| kind.subresource("scale").is_none());
                return without.map_or(Scale::Unknown, |kind| {
                    Scale::None(kind.group_resource().to_string())
                });
            }
        };
        let Some(found) = found else {
            return Scale::Unknown;
        };
        Scale::Is(found.uid.clone().unwrap_or_default(), found.replicas)
    }
}

/// Whose budgets have to be counted.
pub(super) enum News {
    All,
    Namespace(String),
}

fn news(heard: Heard<Sized>, mirror: &Mirror<Sized>) -> Option<News> {
    match heard {
        Heard::Nothing => None,
        Heard::One { key, old, .. } if old.as_ref() == mirror.get(&key) => None,
        Heard::One { key, .. } => Some(News::Namespace(key.0)),
        Heard::All { .. } => Some(News::All),
    }
}

fn find<'a>(
    mirror: &'a Mirror<Sized>,
    namespace: &str,
    named: &OwnerReference,
) -> Option<&'a Sized> {
    let key: Key = (namespace.to_owned(), named.name.clone());
    let found = mirror.get(&key)?;
    (found.uid.as_ref() == Some(&named.uid)).then_some(found)
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    /// What a watch tells of one object, `name` of namespace `n` with uid `u-name`.
    fn events<K: DeserializeOwned>(
        name: &str,
        replicas: i32,
        owner: Option<&str>,
    ) -> Vec<Event<K>> {
        let owner = owner.map(|name| json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": format!("u-{name}"), "controller": true}));
        let owners: Vec<_> = owner.into_iter().collect();
        let selected = json!({"matchLabels": {"a": "b"}});
        let object = json!({"metadata": {"name": name, "namespace": "n", "uid": format!("u-{name}"), "ownerReferences": owners},
            "spec": {"replicas": replicas, "selector": selected, "serviceName": "s", "template": {}}});
        let object = serde_json::from_value(object).expect("an object");
        vec![Event::Init, Event::InitApply(object), Event::InitDone]
    }

    fn controller(api_version: &str, kind: &str, name: &str, uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
            controller: Some(true),
            ..OwnerReference::default()
        }
    }

    #[test]
    fn workloads_say_how_many_there_should_be() {
        let mut scales = Scales::default();
        for event in events("web", 3, None) {
            scales.hear(Change::Deployment(event));
        }
        for event in events("web-1", 2, Some("web")) {
            scales.hear(Change::ReplicaSet(event));
        }
        let metadata = json!({"name": "rc", "namespace": "n", "uid": "u-rc"});
        let older = json!({"metadata": metadata, "spec": {"replicas": 4}});
        let object = serde_json::from_value(older).expect("an object");
        for event in [Event::Init, Event::InitApply(object), Event::InitDone] {
            scales.hear(Change::Controller(event));
        }
        assert!(!scales.is_synced(), "stateful sets are to come");
        for event in events("db", 5, None) {
            scales.hear(Change::StatefulSet(event));
        }
        assert!(scales.is_synced());

        for (group, kind, name, uid, expected) in [
            ("apps/v1", "StatefulSet", "db", "u-db", "u-db 5"),
            ("apps/v1", "StatefulSet", "db", "another", "unknown"),
            ("apps/v1", "StatefulSet", "other", "u-db", "unknown"),
            ("other/v1", "StatefulSet", "db", "u-db", "unknown"),
            ("apps/v1", "ReplicaSet", "web-1", "u-web-1", "u-web 3"),
            ("apps/v1", "Deployment", "web", "u-web", "u-web 3"),
            ("v1", "ReplicationController", "rc", "u-rc", "u-rc 4"),
            ("apps/v1", "DaemonSet", "agent", "u", "no daemonsets.apps"),
            ("batch/v1", "Job", "j", "u", "no jobs.batch"),
        ] {
            let found = match scales.of("n", &controller(group, kind, name, uid)) {
                Scale::Is(uid, replicas) => format!("{uid} {replicas}"),
                Scale::None(resource) => format!("no {resource}"),
                Scale::Unknown => "unknown".into(),
            };
            assert_eq!(found, expected, "{group} {kind} {name} {uid}");
        }
        let set = controller("apps/v1", "StatefulSet", "db", "u-db");
        assert!(matches!(scales.of("m", &set), Scale::Unknown), "elsewhere");
    }
}
