//! What a request is about, from its method and path alone (spec kubectl-and-api §2.5, §19.4).

use http::{Method, Uri};

use api::query::{Query, percent_decode};

/// The parsed request line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// RBAC verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the lower-case method for
    /// paths that are no resource.
    pub(crate) verb: &'static str,
    /// The whole path.
    pub(crate) path: String,
    /// The resource asked for; `None` for discovery, health and the like.
    pub(crate) resource: Option<Target>,
}

/// A resource in a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Target {
    /// API group, empty for core.
    pub(crate) group: String,
    /// API version.
    pub(crate) version: String,
    /// Namespace, empty at cluster scope and for all namespaces.
    pub(crate) namespace: String,
    /// Plural name.
    pub(crate) resource: String,
    /// Object name, empty for collections.
    pub(crate) name: String,
    /// Such as `status`, or empty.
    pub(crate) subresource: String,
    /// What follows the subresource, such as a proxied path.
    pub(crate) rest: String,
}

impl RequestInfo {
    pub(crate) fn parse(method: &Method, uri: &Uri) -> RequestInfo {
        let path = uri.path().to_owned();
        let mut watch_path = false;
        let resource = Target::parse(&path, &mut watch_path);
        let verb = match &resource {
            Some(target) => {
                resource_verb(method, target, watch_path, uri.query().unwrap_or_default())
            }
            None => plain_verb(method),
        };
        RequestInfo {
            verb,
            path,
            resource,
        }
    }
}

fn plain_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "other",
    }
}

fn resource_verb(method: &Method, target: &Target, watch_path: bool, query: &str) -> &'static str {
    match *method {
        Method::GET | Method::HEAD if watch_path => "watch",
        Method::GET | Method::HEAD if !target.name.is_empty() => "get",
        Method::GET | Method::HEAD => {
            if Query::parse(query).bool("watch") {
                "watch"
            } else {
                "list"
            }
        }
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if target.name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => "other",
    }
}

impl Target {
    fn parse(path: &str, watch_path: &mut bool) -> Option<Target> {
        let parts: Vec<String> = path
            .split('/')
            .filter(|p| !p.is_empty())
            .map(percent_decode)
            .collect();
        let (group, version, mut rest) = match parts.split_first()? {
            (root, rest) if root == "api" && rest.len() >= 2 => {
                (String::new(), rest[0].clone(), &rest[1..])
            }
            (root, rest) if root == "apis" && rest.len() >= 3 => {
                (rest[0].clone(), rest[1].clone(), &rest[2..])
            }
            _ => return None,
        };
        if rest[0] == "watch" && rest.len() > 1 {
            *watch_path = true;
            rest = &rest[1..];
        }
        let mut target = Target {
            group,
            version,
            ..Target::default()
        };
        // `namespaces/x/status` is about the Namespace; anything else after the name is inside it.
        let in_namespace = rest[0] == "namespaces"
            && rest.len() > 2
            && !matches!(rest[2].as_str(), "status" | "finalize");
        if in_namespace {
            target.namespace = rest[1].clone();
            rest = &rest[2..];
        } else if rest[0] == "namespaces" && rest.len() > 1 {
            target.namespace = rest[1].clone();
        }
        target.resource = rest[0].clone();
        target.name = rest.get(1).cloned().unwrap_or_default();
        target.subresource = rest.get(2).cloned().unwrap_or_default();
        target.rest = rest.get(3..).map(|r| r.join("/")).unwrap_or_default();
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_targets() {
        for (method, uri, verb, want) in [
            (
                "GET",
                "/api/v1/pods",
                "list",
                ["", "v1", "", "pods", "", ""],
            ),
            (
                "GET",
                "/api/v1/pods?watch=",
                "watch",
                ["", "v1", "", "pods", "", ""],
            ),
            (
                "GET",
                "/api/v1/pods?watch=false",
                "list",
                ["", "v1", "", "pods", "", ""],
            ),
            (
                "GET",
                "/api/v1/watch/namespaces/a/pods",
                "watch",
                ["", "v1", "a", "pods", "", ""],
            ),
            (
                "POST",
                "/api/v1/namespaces/a/pods/x/binding",
                "create",
                ["", "v1", "a", "pods", "x", "binding"],
            ),
            (
                "PUT",
                "/api/v1/namespaces/a/finalize",
                "update",
                ["", "v1", "a", "namespaces", "a", "finalize"],
            ),
            (
                "GET",
                "/api/v1/namespaces/a",
                "get",
                ["", "v1", "a", "namespaces", "a", ""],
            ),
            (
                "POST",
                "/api/v1/namespaces",
                "create",
                ["", "v1", "", "namespaces", "", ""],
            ),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection",
                ["apps", "v1", "a", "deployments", "", ""],
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/x/scale",
                "patch",
                ["apps", "v1", "a", "deployments", "x", "scale"],
            ),
        ] {
            let info = RequestInfo::parse(&method.parse().unwrap(), &uri.parse().unwrap());
            let t = info.resource.expect(uri);
            assert_eq!(
                (
                    info.verb,
                    [
                        &*t.group,
                        &t.version,
                        &t.namespace,
                        &t.resource,
                        &t.name,
                        &t.subresource
                    ]
                ),
                (verb, want),
                "{uri}"
            );
        }
    }

    #[test]
    fn discovery_is_no_resource() {
        for uri in [
            "/",
            "/api",
            "/api/v1",
            "/apis/apps/v1",
            "/version",
            "/healthz/ping",
        ] {
            assert_eq!(
                RequestInfo::parse(&Method::GET, &uri.parse().unwrap()).resource,
                None,
                "{uri}"
            );
        }
    }
}
