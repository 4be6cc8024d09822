//! A server on a store in a temporary directory, asked without sockets.

use std::net::Ipv4Addr;
use std::sync::Arc;

use apiserver::{ApiServer, Config, NameServer, Router, ServiceRange, UserInfo};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use ports::clock::SystemClock;
use serde_json::Value;
use store::Store;
use tower::ServiceExt;

/// A running server; everything goes away with it.
pub(crate) struct Server {
    /// The server.
    pub(crate) api: ApiServer,
    /// Its store.
    pub(crate) store: Arc<Store>,
    /// The administrator's way in.
    pub(crate) admin: Router,
    dir: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) code: u16,
    /// `Warning` headers.
    pub(crate) warnings: Vec<String>,
    /// The body, `Null` when it is no JSON.
    pub(crate) body: Value,
    /// `Content-Type`.
    pub(crate) media_type: String,
    /// The body as it came.
    pub(crate) text: String,
}

impl Answer {
    /// The Status message.
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// A text field of `metadata`.
    pub(crate) fn meta(&self, field: &str) -> &str {
        self.body["metadata"][field].as_str().unwrap_or_default()
    }
}

pub(crate) fn config(dir: &std::path::Path, port: u16) -> Config {
    Config {
        state_dir: dir.join("pki"),
        address: (Ipv4Addr::LOCALHOST, port).into(),
        advertise: Some((Ipv4Addr::new(192, 0, 2, 1), port).into()),
        extra_addresses: Vec::new(),
        service_range: ServiceRange::new(Ipv4Addr::new(10, 96, 0, 0), 24).unwrap(),
        second_service_range: None,
        name_server: None,
        cluster_domain: "cluster.local".into(),
    }
}

impl Server {
    pub(crate) async fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("state.db")).unwrap());
        let config = config(dir.path(), 6443);
        Server::start_on(store, dir, config).await
    }

    /// Another server on the same store, with a name server at these ports.
    pub(crate) async fn restart(self, (udp, tcp): (u16, u16)) -> Server {
        let ip = Ipv4Addr::new(192, 0, 2, 1);
        let server = NameServer {
            udp: (ip, udp).into(),
            tcp: (ip, tcp).into(),
        };
        self.restart_with(|config| config.name_server = Some(server))
            .await
    }

    /// Another server on the same store, with other settings.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Server {
        let mut config = config(self.dir.path(), 6443);
        change(&mut config);
        self.api.stop();
        Server::start_on(self.store, self.dir, config).await
    }

    async fn start_on(store: Arc<Store>, dir: tempfile::TempDir, config: Config) -> Server {
        let api = ApiServer::new(config, store.clone(), Arc::new(SystemClock))
            .await
            .unwrap();
        let admin = api.router().with_user(UserInfo::admin("admin"));
        Server {
            api,
            store,
            admin,
            dir,
        }
    }

    /// One request by the administrator. A body that is a string goes as it is.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        let kind = if method == "PATCH" {
            "application/strategic-merge-patch+json"
        } else {
            "application/json"
        };
        self.ask_as(method, path, body, &[("content-type", kind)])
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Value::Null).await
    }

    /// A body that is no JSON.
    pub(crate) async fn text(&self, path: &str) -> String {
        let request = Request::get(path).body(Full::new(Bytes::new())).unwrap();
        let response = self.admin.clone().oneshot(request).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    pub(crate) async fn ask_as(
        &self,
        method: &str,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let body = match body {
            Value::Null => Bytes::new(),
            Value::String(text) => Bytes::from(text),
            other => Bytes::from(other.to_string()),
        };
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .admin
            .clone()
            .oneshot(request.body(Full::new(body)).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let warnings = parts
            .headers
            .get_all("warning")
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect();
        let media_type = parts.headers.get("content-type");
        let media_type = media_type.map_or("", |v| v.to_str().unwrap()).to_owned();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            code: parts.status.as_u16(),
            warnings,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            media_type,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// The lines of a watch until it has given `count`.
    pub(crate) async fn watch(&self, path: &str) -> Lines {
        let request = Request::get(path).body(Full::new(Bytes::new())).unwrap();
        let response = self.admin.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        Lines {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }
}

/// A watch being read.
pub(crate) struct Lines {
    body: apiserver::Body,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next event; `None` when the watch has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(20), self.body.frame())
                .await
                .expect("watch event")?;
            self.buffer
                .extend_from_slice(frame.unwrap().data_ref().unwrap());
        }
    }

    /// Type and object name of the next event.
    pub(crate) async fn event(&mut self) -> (String, String) {
        let event = self.next().await.expect("watch ended");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        (
            text(&event["type"]),
            text(&event["object"]["metadata"]["name"]),
        )
    }
}
