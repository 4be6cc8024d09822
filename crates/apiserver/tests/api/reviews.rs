//! Reviews: the requester asks about themselves and others, and about tokens.

use apiserver::UserInfo;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::support::Server;

const ACCESS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const OTHERS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
const TOKEN: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

#[tokio::test]
async fn reviews_say_what_authorization_does() {
    let mut server = Server::start().await;
    let pods = json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}}});
    let paths = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/apis/apps"}}});
    for (user, may_list, may_visit) in [
        (UserInfo::admin("boss"), true, true),
        (UserInfo::new("guest", &[]), false, true),
    ] {
        let name = user.name.clone();
        server.admin = server.api.router().with_user(user);
        let who = server.ask("POST", WHO, json!({})).await;
        assert_eq!(
            (who.code, &who.body["status"]["userInfo"]["username"]),
            (201, &json!(name))
        );
        for (body, want) in [(&pods, may_list), (&paths, may_visit)] {
            let answer = server.ask("POST", ACCESS, body.clone()).await;
            assert_eq!(answer.body["status"]["allowed"], want, "{name} {body}");
        }
        let listed = server.get("/api/v1/pods").await;
        assert_eq!(listed.code, if may_list { 200 } else { 403 });
        let rules = server
            .ask("POST", RULES, json!({"spec": {"namespace": "default"}}))
            .await;
        let first = &rules.body["status"]["resourceRules"][0]["verbs"][0];
        assert_eq!(first, if may_list { "*" } else { "create" });
        let token = server
            .ask("POST", TOKEN, json!({"spec": {"token": "x"}}))
            .await;
        assert_eq!(token.code, if may_list { 201 } else { 403 });
    }
    server.admin = server.api.router();
    assert_eq!(server.ask("POST", WHO, json!({})).await.code, 403);
}

#[tokio::test]
async fn tokens_are_reviewed() {
    let server = Server::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": "a"}});
    server.ask("POST", accounts, account).await;
    let issued = server
        .ask("POST", &format!("{accounts}/a/token"), json!({}))
        .await;
    let token = &issued.body["status"]["token"];
    let known = server
        .ask("POST", TOKEN, json!({"spec": {"token": token}}))
        .await;
    assert_eq!(known.body["status"]["authenticated"], true);
    assert_eq!(
        known.body["status"]["user"]["username"],
        "system:serviceaccount:default:a"
    );
    for spec in [
        json!({"token": "x"}),
        json!({"token": token, "audiences": ["vault"]}),
    ] {
        let unknown = server.ask("POST", TOKEN, json!({"spec": spec})).await;
        assert_eq!(unknown.code, 201);
        assert_ne!(unknown.body["status"]["authenticated"], true);
        assert!(unknown.body["status"]["error"].is_string());
    }
    let both = server.ask("POST", ACCESS, json!({"spec": {}})).await;
    assert_eq!(both.code, 400);
}

#[tokio::test]
async fn the_administrator_acts_for_others() {
    let mut server = Server::start().await;
    let as_bob = [("Impersonate-User", "bob"), ("Impersonate-Group", "dev")];
    let who = server.ask_as("POST", WHO, json!({}), &as_bob).await;
    assert_eq!(
        who.body["status"]["userInfo"],
        json!({"username": "bob", "groups": ["dev", "system:authenticated"]})
    );
    let listed = server
        .ask_as("GET", "/api/v1/pods", json!(null), &as_bob)
        .await;
    assert_eq!(
        (listed.code, listed.message()),
        (
            403,
            r#"pods is forbidden: User "bob" cannot list resource "pods" in API group "" at the cluster scope"#
        )
    );
    server.admin = server.api.router().with_user(UserInfo::new("eve", &[]));
    let refused = server.ask_as("POST", WHO, json!({}), &as_bob).await;
    assert_eq!(refused.code, 403);
}

#[tokio::test]
async fn it_is_told_what_others_may_do() {
    let server = Server::start().await;
    let attributes = json!({"verb": "create", "group": "certificates.k8s.io", "version": "*",
        "resource": "certificatesigningrequests", "subresource": "selfnodeclient"});
    for (user, groups, allowed) in [
        ("system:node:n", json!(["system:nodes"]), true),
        ("bob", json!(["dev", "system:authenticated"]), false),
        ("", json!(["system:masters"]), true),
    ] {
        let spec = json!({"user": user, "groups": groups, "resourceAttributes": attributes});
        let review = server.ask("POST", OTHERS, json!({"spec": spec})).await;
        assert_eq!(review.code, 201, "{}", review.message());
        assert_eq!(review.body["status"]["allowed"], allowed, "{user}");
    }
    let nobody = json!({"spec": {"resourceAttributes": attributes}});
    let refused = server.ask("POST", OTHERS, nobody).await;
    assert_eq!(refused.code, 422);
    assert!(
        refused.message().ends_with(
            "spec.user: Invalid value: \"\": at least one of user or group must be specified"
        ),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn others_can_check_tokens_by_themselves() {
    let server = Server::start().await;
    let account = json!({"metadata": {"name": "a"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    server.ask("POST", accounts, account).await;
    let asked = server
        .ask("POST", &format!("{accounts}/a/token"), json!({"spec": {}}))
        .await;
    let token = asked.body["status"]["token"].as_str().expect("a token");
    let parts: Vec<&str> = token.split('.').collect();
    let read = |part: &str| -> Value {
        let part = URL_SAFE_NO_PAD.decode(part).expect("base64");
        serde_json::from_slice(&part).expect("JSON")
    };
    let found = server.get("/.well-known/openid-configuration").await;
    let issuer = &read(parts[1])["iss"];
    assert_eq!(&found.body["issuer"], issuer);
    let keys = found.body["jwks_uri"].as_str().expect("an address");
    let path = keys.strip_prefix(issuer.as_str().unwrap_or_default());
    let keys = server.get(path.expect("a path of the issuer")).await;
    assert_eq!(keys.media_type, "application/jwk-set+json");
    let key = &keys.body["keys"][0];
    let header = read(parts[0]);
    assert_eq!((&key["kid"], &key["alg"]), (&header["kid"], &header["alg"]));
    let number = |name: &str| {
        let text = key[name].as_str().unwrap_or_default();
        URL_SAFE_NO_PAD.decode(text).expect("base64")
    };
    let point = [vec![4], number("x"), number("y")].concat();
    let signed = format!("{}.{}", parts[0], parts[1]);
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &signature)
        .expect("the token is signed by that key");
}
