//! Whom a pull believes, and as whom it comes: TLS with private authorities, token servers, Docker's credentials.

mod common;

use std::fs;
use std::path::Path;

use common::image::sample;
use common::registry::TestRegistry;
use common::tls::Authority;
use common::{open, quick};
use images::{Digest, HostsConfig, Store};
use ports::images::{AuthConfig, ImageError, Images};
use serde_json::{Value, json};

/// A store that reads `root/certs.d` and `root/config.json`.
fn store(root: &Path) -> Store {
    let hosts = HostsConfig {
        certs_dir: Some(root.join("certs.d")),
        docker_config: Some(root.join("config.json")),
        retry: quick(),
    };
    Store::open(&root.join("images"), hosts).unwrap()
}

/// The directory of a registry's settings.
fn directory(root: &Path, registry: &TestRegistry) -> std::path::PathBuf {
    let directory = root.join("certs.d").join(&registry.address);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn hosts_toml(root: &Path, registry: &TestRegistry, text: &str) {
    let text = text.replace("URL", &registry.url());
    fs::write(directory(root, registry).join("hosts.toml"), text).unwrap();
}

fn docker_config(root: &Path, config: &Value) {
    fs::write(root.join("config.json"), config.to_string()).unwrap();
}

fn login(username: &str, password: &str) -> Option<AuthConfig> {
    Some(AuthConfig {
        username: username.into(),
        password: password.into(),
        identity_token: String::new(),
    })
}

/// The error's text with all its causes.
fn told(error: &ImageError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

#[tokio::test]
async fn a_private_authority_is_believed_where_it_is_named() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let rows = [
        ("server = \"URL\"\nca = \"ours.crt\"\n", "127.0.0.1", None),
        (
            "server = \"URL\"\nca = [\"theirs.crt\", \"ours.crt\"]\n",
            "127.0.0.1",
            None,
        ),
        ("[host.\"URL\"]\nca = \"ours.crt\"\n", "127.0.0.1", None),
        // Without a server of its own, an authority says that there is TLS, on loopback too.
        ("ca = \"ours.crt\"\n", "127.0.0.1", None),
        ("server = \"URL\"\n", "127.0.0.1", Some("UnknownIssuer")),
        (
            "server = \"URL\"\nca = \"theirs.crt\"\n",
            "127.0.0.1",
            Some("UnknownIssuer"),
        ),
        (
            "server = \"URL\"\nca = \"ours.crt\"\n",
            "other.test",
            Some("not valid for name"),
        ),
        (
            "server = \"URL\"\nca = \"absent.crt\"\n",
            "127.0.0.1",
            Some("absent.crt"),
        ),
        (
            "server = \"URL\"\nca = \"empty.crt\"\n",
            "127.0.0.1",
            Some("empty.crt"),
        ),
        ("server = \"URL\"\nskip_verify = true\n", "other.test", None),
        ("[host.\"URL\"]\nskip_verify = true\n", "127.0.0.1", None),
        ("skip_verify = true\n", "127.0.0.1", None),
    ];
    for (text, name, refusal) in rows {
        let registry = TestRegistry::start_tls(ours.server(name)).await;
        registry.put("app", "1", &sample());
        let root = tempfile::tempdir().unwrap();
        hosts_toml(root.path(), &registry, text);
        let directory = directory(root.path(), &registry);
        ours.write(&directory.join("ours.crt"));
        theirs.write(&directory.join("theirs.crt"));
        fs::write(directory.join("empty.crt"), "").unwrap();
        let pulled = store(root.path())
            .pull_image(&registry.name("app:1"), None, None)
            .await;
        match (pulled, refusal) {
            (Ok(image), None) => assert_eq!(image.id, sample().id(), "{text}"),
            (Err(error), Some(words)) => {
                assert!(told(&error).contains(words), "{text}{}", told(&error));
                assert_eq!(registry.asked(""), Vec::<String>::new(), "{text}");
            }
            (got, _) => panic!("{text}{name}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn authorities_and_client_certificates_lie_in_dockers_layout_too() {
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let registry = TestRegistry::start_tls(ours.server_for("127.0.0.1", &clients)).await;
    registry.put("app", "1", &sample());
    let root = tempfile::tempdir().unwrap();
    let directory = directory(root.path(), &registry);
    ours.write(&directory.join("ca.crt"));
    let store = store(root.path());
    let name = registry.name("app:1");

    let stranger = store.pull_image(&name, None, None).await.unwrap_err();
    assert!(
        matches!(stranger, ImageError::Unreachable { .. }),
        "{stranger}"
    );
    clients.write_client(
        "node",
        &directory.join("client.cert"),
        &directory.join("client.key"),
    );
    store.pull_image(&name, None, None).await.unwrap();

    store.remove_image(&name).await.unwrap();
    hosts_toml(
        root.path(),
        &registry,
        "[host.\"URL\"]\nca = \"ca.crt\"\nclient = [[\"client.cert\", \"client.key\"]]\n",
    );
    store.pull_image(&name, None, None).await.unwrap();
}

#[tokio::test]
async fn tokens_are_fetched_anew_when_they_expire() {
    let registry = TestRegistry::start().await;
    let image = sample();
    registry.put("app", "1", &image);
    registry.require_login("me:secret");
    for part in ["/manifests/sha256", Digest::of(&image.layers[0]).as_str()] {
        let root = tempfile::tempdir().unwrap();
        let before = registry.asked("/token").len();
        registry.expire_tokens_at(part);
        open(root.path())
            .pull_image(&registry.name("app:1"), login("me", "secret"), None)
            .await
            .unwrap();
        let asked = registry.asked("/token").len() - before;
        assert!(asked >= 2, "{part}: {asked}");
    }
}

#[tokio::test]
async fn an_identity_token_is_posted() {
    let registry = TestRegistry::start().await;
    registry.put("app", "1", &sample());
    registry.require_identity("forever");
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let name = registry.name("app:1");
    for (token, good) in [("never", false), ("forever", true)] {
        let entry = json!({"auth": "PHRva2VuPjo=", "identitytoken": token});
        docker_config(root.path(), &json!({"auths": {&registry.address: entry}}));
        let pulled = store.pull_image(&name, None, None).await;
        assert_eq!(pulled.is_ok(), good, "{token}: {pulled:?}");
    }
    assert!(registry.asked("/token").iter().all(|l| l == "POST /token"));
}

#[tokio::test]
async fn credentials_stay_behind_tls() {
    let ours = Authority::new("ours");
    let (registry, elsewhere) = (
        TestRegistry::start_tls(ours.server("127.0.0.1")).await,
        TestRegistry::start().await,
    );
    registry.put("app", "1", &sample());
    registry.require_login("me:secret");
    let root = tempfile::tempdir().unwrap();
    hosts_toml(root.path(), &registry, "ca = \"ca.crt\"\n");
    ours.write(&directory(root.path(), &registry).join("ca.crt"));
    let store = store(root.path());
    let name = registry.name("app:1");
    store
        .pull_image(&name, login("me", "secret"), None)
        .await
        .unwrap();
    assert_eq!(registry.asked("/token").len(), 1);

    store.remove_image(&name).await.unwrap();
    registry.send_to(&elsewhere.url());
    let error = store
        .pull_image(&name, login("me", "secret"), None)
        .await
        .unwrap_err();
    assert!(matches!(error, ImageError::Unauthorized { .. }), "{error}");
    assert!(
        error.to_string().contains("is not reached over TLS"),
        "{error}"
    );
    assert_eq!(elsewhere.asked(""), Vec::<String>::new());
}

#[tokio::test]
async fn refusals_say_what_is_missing() {
    let registry = TestRegistry::start().await;
    registry.put("app", "1", &sample());
    registry.require_login("me:secret");
    let (good, bad) = (
        json!({"auth": "bWU6c2VjcmV0"}),
        json!({"auth": "bWU6Z3Vlc3M="}),
    );
    let host = registry.address.as_str();
    let helper = "are kept by docker-credential-vault, which is not run";
    let rows = [
        (json!({}), Some("may require authorization")),
        (
            json!({"auths": {host: &bad}}),
            Some("incorrect username or password"),
        ),
        (
            json!({"auths": {format!("http://{host}/v1/"): &good}}),
            None,
        ),
        (
            json!({"auths": {host: {"auth": "%%%"}}}),
            Some("has no usable entry"),
        ),
        (json!({"credHelpers": {host: "vault"}}), Some(helper)),
        (
            json!({"credsStore": "vault", "auths": {host: {}}}),
            Some(helper),
        ),
        (json!({"credsStore": "vault"}), Some(helper)),
        // What the file itself says is used, whoever else might know more.
        (json!({"credsStore": "vault", "auths": {host: &good}}), None),
        (
            json!({"credHelpers": {"other.test": "vault"}}),
            Some("may require authorization"),
        ),
        (json!("auths"), Some("is malformed")),
    ];
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let name = registry.name("app:1");
    for (config, refusal) in rows {
        docker_config(root.path(), &config);
        match (store.pull_image(&name, None, None).await, refusal) {
            (Ok(_), None) => store.remove_image(&name).await.unwrap(),
            (Err(error), Some(words)) => {
                assert!(matches!(error, ImageError::Unauthorized { .. }), "{error}");
                assert!(error.to_string().contains(words), "{config}: {error}");
            }
            (got, _) => panic!("{config}: {got:?}"),
        }
    }
    // A Pod's own credentials need no file.
    docker_config(root.path(), &json!({"credHelpers": {host: "vault"}}));
    store
        .pull_image(&name, login("me", "secret"), None)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_public_needs_no_helper() {
    let registry = TestRegistry::start().await;
    registry.put("app", "1", &sample());
    let root = tempfile::tempdir().unwrap();
    docker_config(root.path(), &json!({"credsStore": "vault"}));
    store(root.path())
        .pull_image(&registry.name("app:1"), None, None)
        .await
        .unwrap();
}
