//! Reviews: who the requester is, what they and others may do, whom a token is of (spec kubectl-and-api §19.3, §19.6).

use api::field::{Error, Path};
use api::gvk::GroupKind;
use api::status::{self, StatusError};
use http::Response;
use serde_json::{Value, json};

use crate::identity::{self, UserInfo};
use crate::respond::{self, Body};
use crate::rest::Rest;

/// `POST selfsubjectreviews`, `selfsubjectaccessreviews`, `subjectaccessreviews`, `selfsubjectrulesreviews` and `tokenreviews`.
pub(super) fn create(rest: &Rest) -> Result<Response<Body>, StatusError> {
    let gvk = rest.kind.gvk;
    let mut body = rest.decode_as(gvk.group, gvk.version, gvk.kind)?;
    let user = &rest.call.user;
    let verdict = match rest.kind.plural {
        "selfsubjectreviews" => json!({"userInfo": shown(user)}),
        "selfsubjectaccessreviews" => access(user, &body["spec"])?,
        "subjectaccessreviews" => access(&subject(&body["spec"])?, &body["spec"])?,
        "selfsubjectrulesreviews" => rules(user),
        _ => token(rest, &body["spec"])?,
    };
    body["apiVersion"] = rest.kind.group_version().to_string().into();
    body["kind"] = gvk.kind.into();
    body["metadata"]["creationTimestamp"] = rest.now().into();
    body["status"] = verdict;
    Ok(respond::json(201, body.to_string()))
}

/// A user in the words of the API.
pub(super) fn shown(user: &UserInfo) -> Value {
    let mut out = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        out["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}

/// Whom a review is about.
fn subject(spec: &Value) -> Result<UserInfo, StatusError> {
    let groups = spec["groups"].as_array().into_iter().flatten();
    let groups: Vec<String> = groups
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let name = text(spec, "user").to_owned();
    if name.is_empty() && groups.is_empty() {
        let path = Path::new("spec").child("user");
        let why = "at least one of user or group must be specified";
        let kind = GroupKind::new("authorization.k8s.io", "SubjectAccessReview");
        return Err(status::invalid(
            &kind,
            "",
            vec![Error::invalid(&path, "", why)],
        ));
    }
    let uid = text(spec, "uid").to_owned();
    Ok(UserInfo {
        name,
        uid,
        groups,
        ..UserInfo::default()
    })
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn access(user: &UserInfo, spec: &Value) -> Result<Value, StatusError> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() == path.is_object() {
        return Err(status::bad_request(
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    }
    let allowed = if resource.is_object() {
        let words = ["verb", "group", "resource", "subresource"];
        let [verb, group, resource, subresource] = words.map(|word| text(resource, word));
        identity::may_use(user, verb, group, resource, subresource)
    } else {
        identity::may_visit(user, text(path, "verb"), text(path, "path"))
    };
    Ok(json!({"allowed": allowed}))
}

/// What [`access`] allows, as rules.
fn rules(user: &UserInfo) -> Value {
    if user.may_do_everything() {
        return json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        });
    }
    let resources: Vec<Value> = if user.is_anonymous() {
        Vec::new()
    } else {
        let rule = |(group, resources): &(&str, &[&str])| json!({"verbs": ["create"], "apiGroups": [group], "resources": resources});
        identity::SELF_REVIEWS.iter().map(rule).collect()
    };
    let open = identity::OPEN_PATHS.iter().map(|path| (*path).to_owned());
    let known = identity::KNOWN_PATHS
        .iter()
        .filter(|_| !user.is_anonymous());
    let known = known.flat_map(|path| [(*path).to_owned(), format!("{path}/*")]);
    let checks = identity::ISSUER_PATHS
        .iter()
        .filter(|_| user.is_service_account());
    let checks = checks.map(|path| (*path).to_owned());
    let paths: Vec<String> = open.chain(known).chain(checks).collect();
    json!({
        "resourceRules": resources,
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": paths}],
        "incomplete": false,
    })
}

fn token(rest: &Rest, spec: &Value) -> Result<Value, StatusError> {
    let tokens = &rest.inner.tokens;
    let asked: Vec<&str> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    // Tokens for other audiences than this API are known to nobody here.
    if !asked.is_empty() && !asked.contains(&tokens.issuer()) {
        return Ok(
            json!({"authenticated": false, "error": "token audiences are not those of this API"}),
        );
    }
    Ok(
        match tokens.authenticate(&rest.inner, text(spec, "token")) {
            Ok(user) => {
                json!({"authenticated": true, "user": shown(&user), "audiences": [tokens.issuer()]})
            }
            Err(error) => json!({"user": {}, "error": error.message}),
        },
    )
}
