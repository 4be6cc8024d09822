//! Service-account tokens: JSON Web Tokens signed with ES256 (spec kubectl-and-api §19.3).

use std::sync::Arc;

use api::status::{self, StatusError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use thiserror::Error;

use crate::identity::{KEYS, SERVICE_ACCOUNTS, UserInfo};
use crate::registry;
use crate::server::Inner;

/// Seconds a token's times may be off.
const LEEWAY: i64 = 60;

/// Why tokens cannot be signed.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The key in the state directory is not usable.
    #[error("service-account key: {0}")]
    Key(String),
    /// The signature could not be made.
    #[error("service-account token could not be signed")]
    Sign,
}

/// Whom a token is for.
pub(crate) struct Bound<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) account: &'a str,
    pub(crate) account_uid: &'a str,
    /// Name and uid.
    pub(crate) pod: Option<(&'a str, &'a str)>,
    /// The Pod's node: name and uid, which is empty if the node is not there.
    pub(crate) node: Option<(&'a str, &'a str)>,
}

/// Issues and checks tokens.
pub(crate) struct Tokens {
    key: Arc<EcdsaKeyPair>,
    random: SystemRandom,
    issuer: String,
    /// What the key is known by.
    id: String,
    header: String,
}

impl Tokens {
    /// With a PKCS#8 P-256 key.
    pub(crate) fn new(pkcs8: &[u8], cluster_domain: &str) -> Result<Tokens, TokenError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|e| TokenError::Key(e.to_string()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        let id = URL_SAFE_NO_PAD.encode(digest.as_ref());
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": id}).to_string());
        Ok(Tokens {
            key: Arc::new(key),
            random,
            issuer: format!("https://kubernetes.default.svc.{cluster_domain}"),
            id,
            header,
        })
    }

    /// Who issues; also the audience of tokens for this API.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// How others may check tokens (OpenID Connect Discovery 1.0, section 3).
    pub(crate) fn configuration(&self) -> Value {
        json!({
            "issuer": self.issuer, "jwks_uri": format!("{}{KEYS}", self.issuer), "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The key that tokens are signed with, as others may read it (RFC 7518, section 6.2.1).
    pub(crate) fn keys(&self) -> Value {
        // A byte that says how it is written, and two coordinates.
        let point = self.key.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at(point.len() / 2);
        let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})
    }

    pub(crate) fn issue(
        &self,
        bound: &Bound<'_>,
        audiences: &[String],
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<String, TokenError> {
        let mut own = json!({
            "namespace": bound.namespace,
            "serviceaccount": {"name": bound.account, "uid": bound.account_uid},
        });
        if let Some((name, uid)) = bound.pod {
            own["pod"] = json!({"name": name, "uid": uid});
        }
        if let Some((name, uid)) = bound.node {
            own["node"] = json!({"name": name});
            if !uid.is_empty() {
                own["node"]["uid"] = uid.into();
            }
        }
        let claims = json!({
            "iss": self.issuer, "sub": format!("system:serviceaccount:{}:{}", bound.namespace, bound.account), "aud": audiences,
            "iat": now.as_second(), "nbf": now.as_second(), "exp": expires.as_second(),
            "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": own,
        });
        let signed = format!(
            "{}.{}",
            self.header,
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self
            .key
            .sign(&self.random, signed.as_bytes())
            .map_err(|_| TokenError::Sign)?;
        Ok(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature.as_ref())
        ))
    }

    /// Who holds `token`; 401 unless everything in it holds now.
    pub(crate) fn authenticate(&self, inner: &Inner, token: &str) -> Result<UserInfo, StatusError> {
        let claims = self
            .claims(token, inner.clock.now())
            .ok_or_else(|| status::unauthorized("Unauthorized"))?;
        user(inner, &claims).ok_or_else(|| status::unauthorized("Unauthorized"))
    }

    fn claims(&self, token: &str, now: Timestamp) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        // The key decides the algorithm; what the header says is not asked.
        let public =
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        public.verify(signed.as_bytes(), &signature).ok()?;
        let (_, claims) = signed.split_once('.')?;
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let now = now.as_second();
        let in_time =
            claims["exp"].as_i64()? + LEEWAY > now && claims["nbf"].as_i64()? - LEEWAY <= now;
        let for_us = claims["aud"]
            .as_array()?
            .iter()
            .any(|a| a == self.issuer.as_str());
        (in_time && for_us && claims["iss"] == self.issuer.as_str()).then_some(claims)
    }
}

/// The user of valid claims, if the account and what the token is bound to still exist.
fn user(inner: &Inner, claims: &Value) -> Option<UserInfo> {
    let own = &claims["kubernetes.io"];
    let namespace = own["namespace"].as_str()?;
    let name = own["serviceaccount"]["name"].as_str()?;
    let exists = |resource: &str, object: &Value| -> Option<()> {
        let key = registry::key(
            registry::find("", "v1", resource)?,
            namespace,
            object["name"].as_str()?,
        );
        let stored: Value = serde_json::from_slice(&inner.store.get(&key)?.value).ok()?;
        (stored["metadata"]["uid"] == object["uid"]).then_some(())
    };
    exists("serviceaccounts", &own["serviceaccount"])?;
    let pod = &own["pod"];
    if !pod.is_null() {
        exists("pods", pod)?;
    }
    let all = SERVICE_ACCOUNTS;
    let mut user = UserInfo::new(
        format!("system:serviceaccount:{namespace}:{name}"),
        &[all, &format!("{all}:{namespace}")],
    );
    user.uid = own["serviceaccount"]["uid"].as_str()?.to_owned();
    let mut extra = |key: &str, value: &Value, prefix: &str| {
        if let Some(value) = value.as_str() {
            user.extra.insert(
                format!("authentication.kubernetes.io/{key}"),
                vec![format!("{prefix}{value}")],
            );
        }
    };
    extra("credential-id", &claims["jti"], "JTI=");
    extra("pod-name", &pod["name"], "");
    extra("pod-uid", &pod["uid"], "");
    extra("node-name", &own["node"]["name"], "");
    extra("node-uid", &own["node"]["uid"], "");
    Some(user)
}
