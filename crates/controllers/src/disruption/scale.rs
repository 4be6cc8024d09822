//! How many Pods controllers want, for budgets that are a share of them.

use futures::StreamExt;
use informer::{Heard, Key, Mirror, Watch, watch_all};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
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
        let owners = meta.owner_references.into_iter().flatten();
        Sized {
            uid: meta.uid,
            replicas: replicas.unwrap_or(1),
            owner: owners.into_iter().find(|o| o.controller == Some(true)),
        }
    }
}

/// The watches; there are some while there is a budget.
pub(super) struct Watches {
    deployments: Watch<Deployment>,
    sets: Watch<ReplicaSet>,
    controllers: Watch<ReplicationController>,
}

impl Watches {
    pub(super) fn open(client: &Client) -> Self {
        Watches {
            deployments: watch_all(client),
            sets: watch_all(client),
            controllers: watch_all(client),
        }
    }
}

/// What a watch has told.
pub(super) enum Change {
    Deployment(Event<Deployment>),
    Set(Event<ReplicaSet>),
    Controller(Event<ReplicationController>),
}

/// The next that one of the watches tells, while they are open.
pub(super) async fn next_of(watches: Option<&mut Watches>) -> Result<Change, watcher::Error> {
    let Some(watches) = watches else {
        return std::future::pending().await;
    };
    tokio::select! {
        Some(event) = watches.deployments.next() => event.map(Change::Deployment),
        Some(event) = watches.sets.next() => event.map(Change::Set),
        Some(event) = watches.controllers.next() => event.map(Change::Controller),
    }
}

/// What is known of controllers.
#[derive(Default)]
pub(super) struct Scales {
    deployments: Mirror<Sized>,
    sets: Mirror<Sized>,
    controllers: Mirror<Sized>,
}

impl Scales {
    pub(super) fn is_synced(&self) -> bool {
        self.deployments.is_synced() && self.sets.is_synced() && self.controllers.is_synced()
    }

    /// Takes in a change; whose budgets it concerns.
    pub(super) fn hear(&mut self, change: Change) -> Option<News> {
        match change {
            Change::Deployment(event) => {
                let look = |d: Deployment| Sized::new(d.metadata, d.spec.and_then(|s| s.replicas));
                news(self.deployments.hear(event, look), &self.deployments)
            }
            Change::Set(event) => {
                let look = |s: ReplicaSet| Sized::new(s.metadata, s.spec.and_then(|s| s.replicas));
                news(self.sets.hear(event, look), &self.sets)
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
                let set = find(&self.sets, namespace, controller);
                match set.and_then(|set| set.owner.as_ref()) {
                    Some(owner) if owner.kind == "Deployment" => {
                        find(&self.deployments, namespace, owner)
                    }
                    _ => set,
                }
            }
            ("apps", "Deployment") => find(&self.deployments, namespace, controller),
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
