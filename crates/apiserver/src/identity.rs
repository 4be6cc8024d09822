//! Who asks, and whether they may (spec kubectl-and-api §19.1, §19.4, §19.5).
//!
//! Until there is RBAC, the group `system:masters` and the control plane's own users may do everything, nodes what [`node`] says, and
//! everyone may read health and version; the rest is forbidden.

pub(crate) mod node;

use std::collections::BTreeMap;

use api::gvk::GroupResource;
use api::status::{self, StatusError};

use crate::request::RequestInfo;

/// A requester: who they are and which groups they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInfo {
    /// Such as `kubernetes-admin` or `system:serviceaccount:ns:name`.
    pub name: String,
    /// Of a service account; else empty.
    pub uid: String,
    /// Such as `system:masters`.
    pub groups: Vec<String>,
    /// Anything else that identified them.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Members may do everything.
pub(crate) const MASTERS: &str = "system:masters";
const NODES: &str = "system:nodes";
/// What names of their members begin with.
const NODE: &str = "system:node:";
/// The group of all service accounts.
pub(crate) const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
const AUTHENTICATED: &str = "system:authenticated";
/// The control plane's own components.
const COMPONENTS: [&str; 5] = [
    "system:kube-controller-manager",
    "system:kube-dns",
    "system:kube-proxy",
    "system:kube-scheduler",
    "system:apiserver",
];

impl UserInfo {
    /// A user in `groups`, and in `system:authenticated`.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> UserInfo {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        groups.push(AUTHENTICATED.to_owned());
        UserInfo {
            name: name.into(),
            groups,
            ..UserInfo::default()
        }
    }

    /// Someone in `system:masters`.
    pub fn admin(name: impl Into<String>) -> UserInfo {
        UserInfo::new(name, &[MASTERS])
    }

    /// The agent of node `name`.
    pub fn node(name: &str) -> UserInfo {
        UserInfo::new(format!("{NODE}{name}"), &[NODES])
    }

    /// The node whose agent this is.
    pub(crate) fn as_node(&self) -> Option<&str> {
        let is_node = self.groups.iter().any(|group| group == NODES);
        self.name.strip_prefix(NODE).filter(|_| is_node)
    }

    /// Nobody known.
    pub fn anonymous() -> UserInfo {
        UserInfo {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..UserInfo::default()
        }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.name == "system:anonymous"
    }

    pub(crate) fn is_service_account(&self) -> bool {
        self.groups.iter().any(|group| group == SERVICE_ACCOUNTS)
    }

    pub(crate) fn may_do_everything(&self) -> bool {
        let trusted = |group: &String| group == MASTERS;
        self.groups.iter().any(trusted) || COMPONENTS.contains(&self.name.as_str())
    }
}

/// Everyone may read these.
pub(crate) const OPEN_PATHS: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
/// Everyone who is somebody may read these, and what is below them.
pub(crate) const KNOWN_PATHS: [&str; 3] = ["/api", "/apis", "/openapi"];
/// Service accounts may read these: how to check their tokens.
pub(crate) const ISSUER_PATHS: [&str; 2] = [CONFIGURATION, KEYS];
/// Who issues tokens.
pub(crate) const CONFIGURATION: &str = "/.well-known/openid-configuration";
/// The keys that tokens are signed with.
pub(crate) const KEYS: &str = "/openid/v1/jwks";
/// Everyone who is somebody may ask about themselves: group and resources.
pub(crate) const SELF_REVIEWS: [(&str, &[&str]); 2] = [
    ("authentication.k8s.io", &["selfsubjectreviews"]),
    (
        "authorization.k8s.io",
        &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    ),
];

/// Whether `user` may do this to a resource, in any namespace and under any name.
pub(crate) fn may_use(
    user: &UserInfo,
    verb: &str,
    group: &str,
    resource: &str,
    subresource: &str,
) -> bool {
    let about_self = SELF_REVIEWS
        .iter()
        .any(|(g, resources)| *g == group && resources.contains(&resource));
    let self_review = verb == "create" && about_self && subresource.is_empty();
    let as_node = user.as_node().is_some() && node::may_use(verb, group, resource, subresource);
    user.may_do_everything() || as_node || (self_review && !user.is_anonymous())
}

/// Whether `user` may do this to a path that is no resource.
pub(crate) fn may_visit(user: &UserInfo, verb: &str, path: &str) -> bool {
    let under = |root: &&str| {
        path == *root
            || path
                .strip_prefix(*root)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    let known = !user.is_anonymous() && KNOWN_PATHS.iter().any(under);
    let checks = user.is_service_account() && ISSUER_PATHS.contains(&path);
    let may_read = known || checks || OPEN_PATHS.contains(&path);
    user.may_do_everything() || (verb == "get" && may_read)
}

/// Refuses with upstream's 403 text unless `user` may do what `info` says.
pub(crate) fn authorize(user: &UserInfo, info: &RequestInfo) -> Result<(), StatusError> {
    let Some(target) = &info.resource else {
        return authorize_path(user, info);
    };
    if may_use(
        user,
        info.verb,
        &target.group,
        &target.resource,
        &target.subresource,
    ) {
        return Ok(());
    }
    refuse(user, info)
}

/// Upstream's 403 text for a resource.
pub(crate) fn refuse(user: &UserInfo, info: &RequestInfo) -> Result<(), StatusError> {
    let Some(target) = &info.resource else {
        return authorize_path(user, info);
    };
    let resource = if target.subresource.is_empty() {
        target.resource.clone()
    } else {
        format!("{}/{}", target.resource, target.subresource)
    };
    let scope = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", target.namespace)
    };
    let why = format!(
        "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}",
        user.name, info.verb, target.group
    );
    Err(status::forbidden(
        &GroupResource::new(&target.group, &target.resource),
        &target.name,
        why,
    ))
}

fn authorize_path(user: &UserInfo, info: &RequestInfo) -> Result<(), StatusError> {
    let path = info.path.as_str();
    if may_visit(user, info.verb, path) {
        return Ok(());
    }
    let why = format!(
        "User \"{}\" cannot {} path \"{path}\"",
        user.name, info.verb
    );
    Err(status::failure(
        403,
        "Forbidden",
        format!("forbidden: {why}"),
        Some(status::StatusDetails::default()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn denied(user: &UserInfo, method: Method, target: &str) -> Option<String> {
        let info = RequestInfo::parse(&method, &target.parse().unwrap());
        authorize(user, &info).err().map(|e| e.message.clone())
    }

    #[test]
    fn refusals_read_as_upstream() {
        let u = UserInfo::new("u", &[]);
        for (method, target, text) in [
            (
                Method::GET,
                "/api/v1/namespaces/default/pods",
                r#"pods is forbidden: User "u" cannot list resource "pods" in API group "" in the namespace "default""#,
            ),
            (
                Method::GET,
                "/api/v1/nodes",
                r#"nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope"#,
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods/x/log",
                r#"pods "x" is forbidden: User "u" cannot get resource "pods/log" in API group "" in the namespace "a""#,
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                r#"deployments.apps is forbidden: User "u" cannot deletecollection resource "deployments" in API group "apps" in the namespace "a""#,
            ),
            (
                Method::GET,
                "/metrics",
                r#"forbidden: User "u" cannot get path "/metrics""#,
            ),
        ] {
            assert_eq!(denied(&u, method, target).as_deref(), Some(text));
        }
    }

    #[test]
    fn nodes_may_report_and_read_and_no_more() {
        let node = UserInfo::node("n");
        for (method, target, may) in [
            (Method::GET, "/api/v1/pods", true),
            (Method::PATCH, "/api/v1/namespaces/a/pods/p/status", true),
            (Method::PATCH, "/api/v1/namespaces/a/pods/p", false),
            (Method::POST, "/api/v1/namespaces/a/pods/p/exec", false),
            (Method::POST, "/api/v1/namespaces/a/pods/p/binding", false),
            (
                Method::POST,
                "/api/v1/namespaces/a/serviceaccounts/d/token",
                true,
            ),
            (Method::POST, "/api/v1/namespaces/a/secrets", false),
            (Method::GET, "/apis/apps/v1/deployments", false),
            (
                Method::POST,
                "/apis/certificates.k8s.io/v1/certificatesigningrequests",
                true,
            ),
            (
                Method::PUT,
                "/apis/certificates.k8s.io/v1/certificatesigningrequests/c/approval",
                false,
            ),
            (Method::DELETE, "/api/v1/nodes", false),
            (Method::GET, "/api/v1/nodes/m/proxy/pods", false),
            (Method::GET, "/metrics", false),
        ] {
            let refused = denied(&node, method.clone(), target);
            assert_eq!(refused.is_none(), may, "{method} {target}");
        }
        assert!(may_use(
            &node,
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests",
            "selfnodeclient"
        ));
        assert!(!may_use(
            &node,
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests",
            "nodeclient"
        ));
        // A name alone makes nobody a node.
        let name = UserInfo::new("system:node:n", &[]);
        assert!(denied(&name, Method::GET, "/api/v1/pods").is_some());
    }

    #[test]
    fn who_may() {
        let health = |user: &UserInfo| denied(user, Method::GET, "/readyz");
        assert_eq!(health(&UserInfo::anonymous()), None);
        assert!(denied(&UserInfo::anonymous(), Method::GET, "/apis").is_some());
        assert_eq!(
            denied(&UserInfo::new("u", &[]), Method::GET, "/apis/apps"),
            None
        );
        let account = UserInfo::new("system:serviceaccount:d:a", &[SERVICE_ACCOUNTS]);
        for path in ISSUER_PATHS {
            assert_eq!(denied(&account, Method::GET, path), None);
            assert!(denied(&account, Method::POST, path).is_some());
            assert!(denied(&UserInfo::new("u", &[]), Method::GET, path).is_some());
        }
        assert_eq!(
            denied(&UserInfo::admin("a"), Method::DELETE, "/api/v1/nodes/n"),
            None
        );
        assert_eq!(
            denied(&UserInfo::node("n"), Method::GET, "/api/v1/pods"),
            None
        );
    }
}
