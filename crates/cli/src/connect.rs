//! The server a command talks to, in raw JSON: commands work for every kind, so they know none.

use std::path::{Path, PathBuf};

use anyhow::Context;
use futures::{AsyncBufReadExt, Stream, StreamExt, TryStreamExt};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::args::Global;

/// What `get` accepts for printing.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// Everything else.
pub(crate) const JSON: &str = "application/json";

/// A connection, and the namespace commands work in.
pub(crate) struct Server {
    pub(crate) client: kube::Client,
    pub(crate) namespace: String,
}

impl Server {
    /// Connects as flags, environment and files say: `--kubeconfig`, `KUBECONFIG`, the engine's own below `--root` or
    /// /etc/carob, then `~/.kube/config`.
    pub(crate) async fn connect(global: &Global) -> anyhow::Result<Server> {
        let kubeconfig = read_kubeconfig(global)?;
        let options = KubeConfigOptions {
            context: global.context.clone(),
            ..KubeConfigOptions::default()
        };
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .context("invalid kubeconfig")?;
        // Watches and logs are quiet for as long as nothing happens.
        config.read_timeout = None;
        let namespace = global
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Ok(Server {
            client: kube::Client::try_from(config)?,
            namespace,
        })
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str, accept: &str) -> Result<Value, kube::Error> {
        self.send(Method::GET, path, accept, JSON, Vec::new()).await
    }

    /// Any request with a JSON body.
    pub(crate) async fn write(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        self.send(method, path, JSON, JSON, body.to_string().into_bytes())
            .await
    }

    /// PATCH of the given media type.
    pub(crate) async fn patch(
        &self,
        path: &str,
        media_type: &str,
        body: &Value,
    ) -> Result<Value, kube::Error> {
        self.send(
            Method::PATCH,
            path,
            JSON,
            media_type,
            body.to_string().into_bytes(),
        )
        .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content: &str,
        body: Vec<u8>,
    ) -> Result<Value, kube::Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept)
            .header("content-type", content);
        self.client
            .request(request.body(body).map_err(kube::Error::HttpError)?)
            .await
    }

    /// Every page of a list, as one list.
    pub(crate) async fn list(
        &self,
        path: &str,
        query: &str,
        accept: &str,
    ) -> Result<Value, kube::Error> {
        let mut whole: Option<Value> = None;
        let mut token = String::new();
        loop {
            let page = format!(
                "{path}?limit=500{}{}",
                join(query),
                if token.is_empty() {
                    String::new()
                } else {
                    format!("&continue={token}")
                }
            );
            let mut list = self.get(&page, accept).await?;
            token = list["metadata"]["continue"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let items = if list["rows"].is_array() {
                "rows"
            } else {
                "items"
            };
            match &mut whole {
                None => whole = Some(list),
                Some(whole) => {
                    if let (Some(all), Some(more)) =
                        (whole[items].as_array_mut(), list[items].as_array_mut())
                    {
                        all.append(more);
                    }
                }
            }
            if token.is_empty() {
                return Ok(whole.unwrap_or_default());
            }
        }
    }

    /// The events of a watch, until the server ends it.
    pub(crate) async fn watch(
        &self,
        path: &str,
        query: &str,
        accept: &str,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<Value>> + use<>> {
        let request = Request::get(format!("{path}?watch=true{}", join(query)))
            .header("accept", accept)
            .body(Vec::new())?;
        let lines = self.client.request_stream(request).await?.lines();
        Ok(lines
            .err_into::<anyhow::Error>()
            .map(|line| serde_json::from_str(&line?).context("the server sent no watch event")))
    }

    /// A body that is text, as it comes.
    pub(crate) async fn text(
        &self,
        path: &str,
    ) -> Result<impl futures::AsyncBufRead + use<>, kube::Error> {
        self.client
            .request_stream(
                Request::get(path)
                    .body(Vec::new())
                    .map_err(kube::Error::HttpError)?,
            )
            .await
    }
}

fn join(query: &str) -> String {
    if query.is_empty() {
        String::new()
    } else {
        format!("&{query}")
    }
}

fn read_kubeconfig(global: &Global) -> anyhow::Result<Kubeconfig> {
    if let Some(path) = &global.kubeconfig {
        return read(path);
    }
    if let Some(list) = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        let mut merged = Kubeconfig::default();
        for path in std::env::split_paths(&list).filter(|path| path.exists()) {
            merged = merged.merge(read(&path)?)?;
        }
        return Ok(merged);
    }
    let engine = global.root.as_ref().map_or_else(
        || PathBuf::from("/etc/carob/kubeconfig"),
        |root| root.join("kubeconfig"),
    );
    let home = std::env::home_dir().map(|home| home.join(".kube/config"));
    match [Some(engine), home]
        .into_iter()
        .flatten()
        .find(|path| path.exists())
    {
        Some(path) => read(&path),
        None => {
            anyhow::bail!("no kubeconfig found; is an engine running? `carob up -d` starts one")
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    Kubeconfig::read_from(path)
        .with_context(|| format!("error loading config file \"{}\"", path.display()))
}
