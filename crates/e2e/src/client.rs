//! A client for tests: raw JSON over the server's own HTTPS API.

use std::path::Path;

use anyhow::Context;
use futures::AsyncBufReadExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

/// A client of kube's as the kubeconfig file says; nothing is sent yet.
pub async fn connect(path: &Path) -> anyhow::Result<kube::Client> {
    let kubeconfig =
        Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(kube::Client::try_from(config)?)
}

/// Talks to one server as its kubeconfig says.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
}

impl Api {
    /// Connects as the kubeconfig file says; nothing is sent yet.
    pub async fn from_kubeconfig(path: &Path) -> anyhow::Result<Api> {
        let client = connect(path).await?;
        Ok(Api { client })
    }

    /// GET of a path; any refusal is an error.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = http::Request::get(path)
            .header("accept", "application/json")
            .body(Vec::new())?;
        self.client
            .request(request)
            .await
            .with_context(|| format!("GET {path}"))
    }

    /// POST of an object; any refusal is an error.
    pub async fn create(&self, path: &str, object: &Value) -> anyhow::Result<Value> {
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(object)?)?;
        self.client
            .request(request)
            .await
            .with_context(|| format!("POST {path}"))
    }

    /// PATCH of an object by a merge patch; any refusal is an error.
    pub async fn patch(&self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        let request = http::Request::patch(path)
            .header("content-type", "application/merge-patch+json")
            .body(serde_json::to_vec(patch)?)?;
        self.client
            .request(request)
            .await
            .with_context(|| format!("PATCH {path}"))
    }

    /// DELETE of an object; any refusal is an error.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        let request = http::Request::delete(path).body(Vec::new())?;
        self.client
            .request(request)
            .await
            .with_context(|| format!("DELETE {path}"))
    }

    /// GET of something that is no JSON, such as a log.
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        let request = http::Request::get(path).body(Vec::new())?;
        self.client
            .request_text(request)
            .await
            .with_context(|| format!("GET {path}"))
    }

    /// Watches a path and hands each event to `each` until the server or the caller ends it.
    pub async fn watch(
        &self,
        path: &str,
        accept: &str,
        mut each: impl FnMut(Value),
    ) -> anyhow::Result<()> {
        let request = http::Request::get(path)
            .header("accept", accept)
            .body(Vec::new())?;
        let stream = self
            .client
            .request_stream(request)
            .await
            .with_context(|| format!("watch {path}"))?;
        let mut lines = std::pin::pin!(stream.lines());
        while let Some(line) = futures::StreamExt::next(&mut lines).await {
            each(serde_json::from_str(&line?).context("a watch event is JSON")?);
        }
        Ok(())
    }

    /// A GET whose body is asked for as a Table.
    pub async fn table(&self, path: &str) -> anyhow::Result<Value> {
        let request = http::Request::get(path)
            .header("accept", TABLE)
            .body(Vec::new())?;
        self.client
            .request(request)
            .await
            .with_context(|| format!("GET {path} as a Table"))
    }
}

/// What `kubectl get` accepts.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
