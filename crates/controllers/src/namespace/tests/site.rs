//! An API that has a namespace, what is in it, and perhaps the next namespace of its name.

use std::collections::{BTreeMap, VecDeque};

use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

/// Kinds there can be in a namespace: two of the core, and one of another group.
pub(super) const KINDS: [&str; 3] = ["pods", "configmaps", "leases"];
/// How much is asked before it is clear that it will be for ever.
const MOST: usize = 5_000;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Fine,
    Refused,
    /// It is done, and its answer is lost.
    Unheard,
    /// Just before, somebody lets the namespace go, and makes the next of its name, with objects of the same names.
    Next,
}

/// Something in a namespace.
struct Object {
    uid: String,
    /// UID of its namespace.
    of: &'static str,
    /// For how many watches it takes its time once it is deleted.
    takes: u8,
    is_leaving: bool,
}

#[derive(Default)]
pub(super) struct Site {
    /// UID of the namespace there is.
    namespace: Option<&'static str>,
    objects: BTreeMap<(&'static str, String), Object>,
    fates: VecDeque<Fate>,
    pub(super) finalize_refusals: usize,
    /// Writes that were carried out.
    pub(super) done: Vec<String>,
    /// What should not have been.
    pub(super) wrong: Vec<String>,
    asked: usize,
}

type Answer = (StatusCode, Value);

impl Site {
    /// The namespace `u` with objects of these kinds, which take their time to leave.
    pub(super) fn new(
        objects: impl IntoIterator<Item = (&'static str, u8)>,
        fates: impl IntoIterator<Item = Fate>,
    ) -> Site {
        let objects = objects.into_iter().enumerate().map(|(n, (kind, takes))| {
            let object = Object {
                uid: format!("u-{n}"),
                of: "u",
                takes,
                is_leaving: false,
            };
            ((kind, n.to_string()), object)
        });
        Site {
            namespace: Some("u"),
            objects: objects.collect(),
            fates: fates.into_iter().collect(),
            ..Site::default()
        }
    }

    /// Whether the namespace has gone with everything in it, and the next has everything.
    pub(super) fn is_ended(&self) -> bool {
        let is_next = |o: &Object| o.of == "next" && !o.is_leaving;
        self.namespace != Some("u") && self.objects.values().all(is_next)
    }

    /// `None` when it has been asked for too long.
    pub(super) fn answer(&mut self, request: &Parts, body: &[u8]) -> Option<Answer> {
        self.asked += 1;
        if self.asked > MOST {
            return None;
        }
        let fate = self.fates.pop_front().unwrap_or(Fate::Fine);
        if fate == Fate::Next {
            self.succeed();
        }
        if fate == Fate::Refused {
            return Some(failure(500));
        }
        let answer = self.carry_out(request, body);
        Some(match fate {
            Fate::Unheard => failure(500),
            _ => answer,
        })
    }

    fn succeed(&mut self) {
        self.namespace = Some("next");
        for object in self.objects.values_mut().filter(|o| o.of == "u") {
            object.uid = format!("next-{}", object.uid);
            object.of = "next";
            object.is_leaving = false;
        }
    }

    fn carry_out(&mut self, request: &Parts, body: &[u8]) -> Answer {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let path: Vec<&str> = request.uri.path().trim_matches('/').split('/').collect();
        let is_watch = request.uri.query().is_some_and(|q| q.contains("watch"));
        match (&request.method, &*path) {
            (&Method::GET, ["api"]) => fine(groups(&["", "pods", "configmaps"])),
            (&Method::GET, ["apis"]) => fine(groups(&["coordination.k8s.io", "leases"])),
            (&Method::GET, ["api", "v1", "namespaces", "n"]) => match self.namespace {
                Some(uid) => fine(namespace(uid)),
                None => failure(404),
            },
            (&Method::PUT, [.., "n", "finalize"]) => self.finalize(&body),
            (&Method::PATCH, [.., "n", "status"]) => self.write("PATCH status", &body),
            (&Method::GET, [.., "n", kind]) if is_watch => self.watch(kind),
            (&Method::GET, [.., "n", kind]) => self.list(kind),
            (&Method::DELETE, [.., "n", kind, name]) => {
                self.delete(kind, name, body["preconditions"]["uid"].as_str())
            }
            (method, path) => {
                self.wrong.push(format!("{method} {path:?}"));
                failure(405)
            }
        }
    }

    /// A write of the namespace itself.
    fn write(&mut self, what: &str, body: &Value) -> Answer {
        let uid = body["metadata"]["uid"].as_str();
        match self.namespace {
            None => failure(404),
            Some(own) if uid.is_some_and(|uid| uid != own) => failure(409),
            Some(own) => {
                if own != "u" {
                    self.wrong.push(format!("{what} of the next"));
                }
                self.done.push(what.to_owned());
                fine(namespace(own))
            }
        }
    }

    fn finalize(&mut self, body: &Value) -> Answer {
        if self.finalize_refusals > 0 {
            self.finalize_refusals -= 1;
            return failure(500);
        }
        let answer = self.write("PUT finalize", body);
        if answer.0 == StatusCode::OK {
            if !self.objects.is_empty() {
                self.wrong.push("something was left".to_owned());
            }
            self.namespace = None;
        }
        answer
    }

    fn list(&self, kind: &str) -> Answer {
        let of_kind = self.objects.iter().filter(|((k, _), _)| *k == kind);
        let items: Vec<Value> = of_kind.map(|((_, name), o)| shown(name, o)).collect();
        fine(
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "7"},
            "items": items}),
        )
    }

    fn delete(&mut self, kind: &str, name: &str, uid: Option<&str>) -> Answer {
        let has_pods = self.objects.keys().any(|(kind, _)| *kind == "pods");
        let entry = self.objects.iter_mut();
        let mut found = entry.filter(|((k, n), _)| *k == kind && n == name);
        let Some((key, object)) = found.next() else {
            return failure(404);
        };
        if uid.is_some_and(|uid| uid != object.uid) {
            return failure(409);
        }
        if object.of != "u" {
            self.wrong.push(format!("{kind}/{name} of the next"));
        }
        if has_pods && kind != "pods" {
            self.wrong.push(format!("{kind}/{name} before the pods"));
        }
        self.done.push(format!("DELETE {kind}/{name}"));
        object.is_leaving = true;
        let answer = fine(shown(name, object));
        if object.takes == 0 {
            let key = key.clone();
            self.objects.remove(&key);
        }
        answer
    }

    /// Tells of one that is being deleted: that it has changed, and then no more, or that it has gone.
    fn watch(&mut self, kind: &str) -> Answer {
        let entry = self.objects.iter_mut();
        let mut leaving = entry.filter(|((k, _), o)| *k == kind && o.is_leaving);
        let Some((key, object)) = leaving.next() else {
            return fine(
                json!({"type": "BOOKMARK", "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "8"}}}),
            );
        };
        object.takes -= 1;
        let told = shown(&key.1, object);
        if object.takes > 0 {
            return fine(json!({"type": "MODIFIED", "object": told}));
        }
        let key = key.clone();
        self.objects.remove(&key);
        fine(json!({"type": "DELETED", "object": told}))
    }
}

fn fine(body: Value) -> Answer {
    (StatusCode::OK, body)
}

fn failure(code: u16) -> Answer {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "no", "reason": reason,
        "code": code});
    (StatusCode::from_u16(code).expect("a code"), body)
}

fn namespace(uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "uid": uid}, "spec": {"finalizers": ["kubernetes"]}})
}

fn shown(name: &str, object: &Object) -> Value {
    let time = object.is_leaving.then_some("2026-01-01T00:00:00Z");
    let meta =
        json!({"name": name, "uid": object.uid, "resourceVersion": "7", "deletionTimestamp": time});
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})
}

/// A group, and its kinds; beside them one that is in no namespace.
fn groups(of: &[&str]) -> Value {
    let kind = |plural: &&str| {
        json!({"resource": plural, "responseKind": {"group": of[0], "version": "v1", "kind": plural}, "scope": "Namespaced",
            "singularResource": plural, "verbs": ["delete", "list", "watch"]})
    };
    let mut resources: Vec<Value> = of[1..].iter().map(kind).collect();
    let mut node = kind(&"nodes");
    node["scope"] = json!("Cluster");
    resources.push(node);
    let versions = json!([{"version": "v1", "resources": resources}]);
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": [{"metadata": {"name": of[0]}, "versions": versions}]})
}
