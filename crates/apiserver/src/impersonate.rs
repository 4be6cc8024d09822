//! Requests in another's name: the `Impersonate-*` headers (spec kubectl-and-api §2.1, §19.6).
//!
//! Every name in the headers is a resource of verb `impersonate`. Until there is RBAC, only `system:masters` may.

use std::collections::BTreeMap;

use api::query::percent_decode;
use api::status::{self, StatusError};
use http::HeaderMap;

use crate::identity::{self, MASTERS, UserInfo};
use crate::request::{RequestInfo, Target};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Whom the request is to count as; `None` when its headers say nothing about that.
pub(crate) fn impersonated(
    asker: &UserInfo,
    headers: &HeaderMap,
) -> Result<Option<UserInfo>, StatusError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let extra = extra(headers);
    let groups: Vec<String> = headers
        .get_all(GROUP)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    let uid = text(UID).unwrap_or_default();
    let Some(name) = text(USER).filter(|name| !name.is_empty()) else {
        if groups.is_empty() && extra.is_empty() && uid.is_empty() {
            return Ok(None);
        }
        let asked = references(&groups, &extra, uid);
        return Err(status::bad_request(format!(
            "requested [{asked}] without impersonating a user"
        )));
    };
    check(asker, name, &groups, &extra, uid)?;
    Ok(Some(UserInfo {
        name: name.to_owned(),
        uid: uid.to_owned(),
        groups: with_implied(name, groups),
        extra,
    }))
}

/// What was asked for, as Go prints the object references upstream makes of it.
fn references(groups: &[String], extra: &BTreeMap<String, Vec<String>>, uid: &str) -> String {
    let version = "authentication.k8s.io/v1";
    let groups = groups.iter().map(|name| format!("{{Group  {name}    }}"));
    let extra = extra.iter().flat_map(|(key, values)| {
        let one = move |value| format!("{{UserExtra  {value}  {version}  {key}}}");
        values.iter().map(one)
    });
    let uid = (!uid.is_empty()).then(|| format!("{{UID  {uid}  {version}  }}"));
    groups.chain(extra).chain(uid).collect::<Vec<_>>().join(" ")
}

fn extra(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) {
            extra
                .entry(percent_decode(key))
                .or_default()
                .push(value.to_owned());
        }
    }
    extra
}

/// Namespace and name of a service account's user name.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    let valid = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    valid.then_some((namespace, name))
}

/// Refuses with upstream's 403 text unless the asker may impersonate every name.
fn check(
    asker: &UserInfo,
    user: &str,
    groups: &[String],
    extra: &BTreeMap<String, Vec<String>>,
    uid: &str,
) -> Result<(), StatusError> {
    if asker.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let target = |group: &str, resource: &str, name: &str| Target {
        group: group.to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        ..Target::default()
    };
    let first = match service_account(user) {
        Some((namespace, name)) => Target {
            namespace: namespace.to_owned(),
            ..target("", "serviceaccounts", name)
        },
        None => target("", "users", user),
    };
    let groups = groups.iter().map(|name| target("", "groups", name));
    let extra = extra.iter().flat_map(|(key, values)| {
        values.iter().map(move |value| Target {
            subresource: key.clone(),
            ..target("authentication.k8s.io", "userextras", value)
        })
    });
    let uid = (!uid.is_empty()).then(|| target("authentication.k8s.io", "uids", uid));
    for wanted in std::iter::once(first).chain(groups).chain(extra).chain(uid) {
        let info = RequestInfo {
            verb: "impersonate",
            path: String::new(),
            resource: Some(wanted),
        };
        identity::refuse(asker, &info)?;
    }
    Ok(())
}

/// Groups that come with a name: a service account's own, and the one of all who are somebody or nobody.
fn with_implied(user: &str, mut groups: Vec<String>) -> Vec<String> {
    if let (true, Some((namespace, _))) = (groups.is_empty(), service_account(user)) {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let has = |wanted: &str| groups.iter().any(|group| group == wanted);
    if user == ANONYMOUS {
        if !has(UNAUTHENTICATED) {
            groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !has(AUTHENTICATED) && !has(UNAUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().expect("a header value"));
        }
        map
    }

    fn as_whom(asker: &UserInfo, pairs: &[(&'static str, &str)]) -> Result<String, String> {
        let user = impersonated(asker, &headers(pairs)).map_err(|e| e.message.clone())?;
        Ok(user.map_or_else(String::new, |u| {
            format!("{} [{}]", u.name, u.groups.join(" "))
        }))
    }

    #[test]
    fn masters_act_for_others() {
        let admin = UserInfo::admin("root");
        for (pairs, whom) in [
            (&[][..], ""),
            (&[(USER, "bob")], "bob [system:authenticated]"),
            (
                &[(USER, "bob"), (GROUP, "dev"), (GROUP, "ops")],
                "bob [dev ops system:authenticated]",
            ),
            (
                &[(USER, "system:serviceaccount:a:b")],
                "system:serviceaccount:a:b [system:serviceaccounts system:serviceaccounts:a system:authenticated]",
            ),
            (
                &[(USER, "system:serviceaccount:a:b"), (GROUP, "x")],
                "system:serviceaccount:a:b [x system:authenticated]",
            ),
            (
                &[(USER, ANONYMOUS)],
                "system:anonymous [system:unauthenticated]",
            ),
            (
                &[(USER, "bob"), (GROUP, UNAUTHENTICATED)],
                "bob [system:unauthenticated]",
            ),
        ] {
            assert_eq!(as_whom(&admin, pairs).as_deref(), Ok(whom));
        }
        let pairs = [
            (USER, "bob"),
            (UID, "7"),
            ("impersonate-extra-example.com%2fscopes", "read"),
            ("impersonate-extra-example.com%2fscopes", "write"),
        ];
        let bob = impersonated(&admin, &headers(&pairs))
            .ok()
            .flatten()
            .expect("bob");
        assert_eq!((bob.uid.as_str(), bob.extra.len()), ("7", 1));
        assert_eq!(bob.extra["example.com/scopes"], ["read", "write"]);
    }

    #[test]
    fn nobody_else_does() {
        for (asker, pairs, why) in [
            (
                UserInfo::new("eve", &[]),
                &[(USER, "bob")][..],
                r#"users "bob" is forbidden: User "eve" cannot impersonate resource "users" in API group "" at the cluster scope"#,
            ),
            (
                UserInfo::node("n"),
                &[(USER, "system:serviceaccount:a:b")],
                r#"serviceaccounts "b" is forbidden: User "system:node:n" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "a""#,
            ),
        ] {
            assert_eq!(as_whom(&asker, pairs), Err(why.to_owned()));
        }
        let error = impersonated(&UserInfo::admin("root"), &headers(&[(GROUP, "dev")]));
        let refused = error.expect_err("no user");
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (
                400,
                "requested [{Group  dev    }] without impersonating a user"
            )
        );
    }
}
