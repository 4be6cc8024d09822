//! What `kubectl get pods -w` shows, kept as it comes, so that tests wait for rows instead of asking again and again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::client::{Api, TABLE};

/// What a Pod's row must read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Wait {
    /// Pod name.
    pub pod: String,
    /// STATUS, one of these.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    pub status: Vec<String>,
    /// READY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// RESTARTS, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
    /// The Pod must be gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Seconds to wait at most.
    #[serde(default = "a_minute")]
    pub timeout: u64,
}

fn a_minute() -> u64 {
    60
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(input)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

/// The columns READY, STATUS and RESTARTS of each Pod, as a Table watch tells them; `None` once a Pod is gone.
type Rows = BTreeMap<String, Option<[String; 3]>>;

/// What the watch has shown so far.
#[derive(Debug, Clone)]
pub struct Board {
    seen: Arc<Mutex<Seen>>,
    changed: watch::Sender<Instant>,
}

#[derive(Debug, Default)]
struct Seen {
    rows: Rows,
    history: BTreeMap<String, Vec<String>>,
}

impl Default for Board {
    fn default() -> Self {
        Board {
            seen: Arc::default(),
            changed: watch::Sender::new(Instant::now()),
        }
    }
}

impl Board {
    fn note(&self, event: &Value) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for row in event["object"]["rows"].as_array().into_iter().flatten() {
            let name = row["object"]["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let history = seen.history.entry(name.clone()).or_default();
            if event["type"] == "DELETED" {
                history.push("gone".into());
                seen.rows.insert(name, None);
                continue;
            }
            let columns = [1, 2, 3].map(|column| cell(&row["cells"][column]));
            let line = columns.join(" ");
            if history.last() != Some(&line) {
                history.push(line);
            }
            seen.rows.insert(name, Some(columns));
        }
        drop(seen);
        self.changed.send_replace(Instant::now());
    }

    /// Every distinct row of each Pod so far, in order; `gone` once it was deleted.
    pub fn history(&self) -> BTreeMap<String, Vec<String>> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .history
            .clone()
    }

    /// Until nothing changed for `quiet`, or `most` has passed.
    pub async fn settle(&self, quiet: Duration, most: Option<Duration>) {
        let end = most.map(|most| Instant::now() + most);
        let mut changed = self.changed.subscribe();
        loop {
            let quiet_at = *changed.borrow_and_update() + quiet;
            let until = end.map_or(quiet_at, |end| end.min(quiet_at));
            if timeout_at(until, changed.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Until the Pod's row reads as asked; the last row seen otherwise.
    pub async fn wait(&self, wait: &Wait) -> Result<(), Option<[String; 3]>> {
        let end = Instant::now() + Duration::from_secs(wait.timeout);
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let row = self
                .seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .rows
                .get(&wait.pod)
                .cloned();
            if fits(wait, row.as_ref()) {
                return Ok(());
            }
            if timeout_at(end, changed.changed()).await.is_err() {
                return Err(row.flatten());
            }
        }
    }
}

fn fits(wait: &Wait, row: Option<&Option<[String; 3]>>) -> bool {
    match row {
        Some(None) => wait.gone,
        Some(Some([ready, status, restarts])) if !wait.gone => {
            (wait.status.is_empty() || wait.status.contains(status))
                && wait.ready.as_ref().is_none_or(|wanted| wanted == ready)
                && wait
                    .restarts
                    .is_none_or(|least| restarts.parse::<u64>().is_ok_and(|count| count >= least))
        }
        _ => false,
    }
}

/// A cell's text up to the first blank: `3 (5m ago)` is 3.
fn cell(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Watches the Pods of a namespace from now on.
pub async fn watch_rows(
    api: &Api,
    namespace: &str,
    board: Board,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let version = api.table(&path).await?["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let (api, path) = (
        api.clone(),
        format!("{path}?watch=1&resourceVersion={version}"),
    );
    Ok(tokio::spawn(async move {
        // The watch lives until the case is over; a server that ends it early shows in the rows that are missing.
        let _ = api.watch(&path, TABLE, |event| board.note(&event)).await;
    }))
}
