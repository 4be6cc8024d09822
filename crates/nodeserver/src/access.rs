//! Who asks, and whether they may: both are settled before a path is looked at.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use https::Peer;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use ports::node::NodeError;

use crate::route;
use crate::serve::Inner;

/// The group of everybody who is known.
const AUTHENTICATED: &str = "system:authenticated";

/// Somebody who is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    name: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

impl User {
    fn of_certificate(peer: &Peer) -> User {
        let mut groups = peer.groups.clone();
        groups.push(AUTHENTICATED.to_owned());
        User {
            name: peer.name.clone(),
            groups,
            ..User::default()
        }
    }
}

/// Refuses unless who asks is known and may do this.
pub(crate) async fn check(
    inner: &Inner,
    peer: Option<&Peer>,
    parts: &Parts,
) -> Result<(), NodeError> {
    let user = match peer {
        Some(peer) => User::of_certificate(peer),
        None => of_token(inner, bearer(&parts.headers)).await?,
    };
    let verb = route::verb(&parts.method);
    let subresources = route::subresources(parts.uri.path());
    for subresource in subresources {
        if may(inner, &user, verb, subresource).await? {
            return Ok(());
        }
    }
    let (name, subresources) = (&user.name, subresources.join(" "));
    Err(NodeError {
        code: 403,
        message: format!(
            "Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])\n"
        ),
    })
}

/// The token in the request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Whose token it is, as the API says.
async fn of_token(inner: &Inner, token: Option<&str>) -> Result<User, NodeError> {
    let unknown = || NodeError {
        code: 401,
        message: "Unauthorized".into(),
    };
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.ok_or_else(unknown)?.to_owned(),
            ..TokenReviewSpec::default()
        },
        ..TokenReview::default()
    };
    let reviews = Api::<TokenReview>::all(inner.client.clone());
    let reviewed = reviews.create(&PostParams::default(), &review).await;
    let reviewed = reviewed.map_err(|error| {
        tracing::warn!(%error, "nobody tells whose token it is");
        unknown()
    })?;
    let verdict = reviewed.status.unwrap_or_default();
    let is_known = verdict.authenticated == Some(true);
    let user = verdict.user.filter(|_| is_known).ok_or_else(unknown)?;
    Ok(User {
        name: user.username.unwrap_or_default(),
        uid: user.uid,
        groups: user.groups.unwrap_or_default(),
        extra: user.extra,
    })
}

/// Whether the API lets `user` do this to the node.
async fn may(inner: &Inner, user: &User, verb: &str, subresource: &str) -> Result<bool, NodeError> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: user.uid.clone(),
            groups: Some(user.groups.clone()),
            extra: user.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                version: Some("v1".into()),
                resource: Some("nodes".into()),
                subresource: Some(subresource.to_owned()),
                name: Some(inner.node_name.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews = Api::<SubjectAccessReview>::all(inner.client.clone());
    let reviewed = reviews.create(&PostParams::default(), &review).await;
    let reviewed = reviewed.map_err(|error| {
        tracing::warn!(%error, "nobody tells who may do what");
        let name = &user.name;
        NodeError {
            code: 500,
            message: format!(
                "Authorization error (user={name}, verb={verb}, resource=nodes, subresource={subresource})"
            ),
        }
    })?;
    Ok(reviewed.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found() {
        for (header, want) in [
            (Some("Bearer abc"), Some("abc")),
            (Some("bearer  abc "), Some("abc")),
            (Some("Bearer "), None),
            (Some("Basic abc"), None),
            (Some("abc"), None),
            (None, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(AUTHORIZATION, header.parse().unwrap());
            }
            assert_eq!(bearer(&headers), want, "{header:?}");
        }
    }
}
