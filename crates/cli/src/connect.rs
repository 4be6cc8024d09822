//! The server a command talks to, in raw JSON: commands work for every kind, so they know none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use futures::{AsyncBufReadExt, Stream, StreamExt, TryStreamExt};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
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
    /// Whether the user named the namespace, so that files may not name another.
    pub(crate) namespace_is_fixed: bool,
    /// Warnings of the server that were printed already.
    warned: Mutex<BTreeSet<String>>,
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
        let mut server = Server::new(kube::Client::try_from(config)?, namespace);
        server.namespace_is_fixed = global.namespace.is_some();
        Ok(server)
    }

    /// A connection that exists already.
    pub(crate) fn new(client: kube::Client, namespace: String) -> Server {
        Server {
            client,
            namespace,
            namespace_is_fixed: false,
            warned: Mutex::default(),
        }
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
            .header("content-type", content)
            .body(kube::client::Body::from(body))
            .map_err(kube::Error::HttpError)?;
        let response = self.client.send(request).await?;
        self.warn(response.headers());
        let code = response.status();
        let bytes = response.into_body().collect_bytes().await?;
        if code.is_success() {
            serde_json::from_slice(&bytes).map_err(kube::Error::SerdeError)
        } else {
            Err(refusal(code.as_u16(), &bytes))
        }
    }

    /// Prints the warnings of an answer, each once (§11.4).
    fn warn(&self, headers: &http::HeaderMap) {
        for header in headers.get_all(http::header::WARNING) {
            let text = header.to_str().ok().and_then(warning_text);
            let Ok(mut warned) = self.warned.lock() else {
                continue;
            };
            if let Some(text) = text
                && warned.insert(text.clone())
            {
                eprintln!("Warning: {text}");
            }
        }
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

/// The text of `299 - "text"`, quotes and backslashes unescaped.
fn warning_text(header: &str) -> Option<String> {
    let (_, quoted) = header.split_once('"')?;
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.extend(characters.next()),
            '"' => return Some(text),
            other => text.push(other),
        }
    }
    None
}

/// The Status a server refused with; bodies that are none become one.
pub(crate) fn refusal(code: u16, body: &[u8]) -> kube::Error {
    let status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body);
        let message = if code == 404 {
            "the server could not find the requested resource".to_owned()
        } else {
            format!(
                "an error on the server ({:?}) has prevented the request from succeeding",
                text.trim()
            )
        };
        let reason = if code == 404 {
            "NotFound"
        } else {
            "InternalError"
        };
        Status::failure(&message, reason).with_code(code)
    });
    kube::Error::Api(status.boxed())
}

fn join(query: &str) -> String {
    if query.is_empty() {
        String::new()
    } else {
        format!("&{query}")
    }
}

/// The kubeconfig that flags, environment and files lead to.
pub(crate) fn read_kubeconfig(global: &Global) -> anyhow::Result<Kubeconfig> {
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
    let engine = engine_kubeconfig(global);
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

/// Where the engine writes its kubeconfig.
pub(crate) fn engine_kubeconfig(global: &Global) -> PathBuf {
    global.root.as_ref().map_or_else(
        || PathBuf::from("/etc/carob/kubeconfig"),
        |root| root.join("kubeconfig"),
    )
}

fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    Kubeconfig::read_from(path)
        .with_context(|| format!("error loading config file \"{}\"", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_unescaped() {
        assert_eq!(
            warning_text(r#"299 - "unknown field \"spec.x\"""#).as_deref(),
            Some(r#"unknown field "spec.x""#)
        );
        assert_eq!(warning_text("299 - none"), None);
    }

    #[test]
    fn a_refusal_without_status_gets_one() {
        let text = |code, body: &str| match refusal(code, body.as_bytes()) {
            kube::Error::Api(status) => (status.code, status.message.clone()),
            other => (0, other.to_string()),
        };
        assert_eq!(
            text(404, "404 page not found"),
            (
                404,
                "the server could not find the requested resource".into()
            )
        );
        assert_eq!(
            text(409, r#"{"kind":"Status","message":"taken","code":409}"#),
            (409, "taken".into())
        );
    }
}
