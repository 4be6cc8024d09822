//! One object as it changes.

use std::pin::pin;

use futures::StreamExt;
use serde_json::Value;

use crate::connect::{JSON, Server};
use crate::output::percent;
use crate::select::Item;

/// Shows `look` the object as it is (`None` while there is none) and as it becomes, until `look` has its answer.
pub(crate) async fn until<T>(
    server: &Server,
    item: &Item,
    mut look: impl FnMut(Option<&Value>) -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let named = format!(
        "fieldSelector={}",
        percent(&format!("metadata.name={}", item.name))
    );
    loop {
        let list = server.list(&item.collection(), &named, JSON).await?;
        let mut first = list["items"][0].clone();
        if first.is_object() {
            first["apiVersion"] = item.resource.api_version().into();
            first["kind"] = item.resource.kind.as_str().into();
        }
        if let Some(answer) = look(first.is_object().then_some(&first))? {
            return Ok(answer);
        }
        let version = list["metadata"]["resourceVersion"].as_str();
        let query = format!("{named}&resourceVersion={}", version.unwrap_or_default());
        let mut events = pin!(server.watch(&item.collection(), &query, JSON).await?);
        while let Some(event) = events.next().await {
            let event = event?;
            let object = match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => Some(&event["object"]),
                Some("DELETED") => None,
                // The version is too old: from the beginning.
                Some("ERROR") => break,
                _ => continue,
            };
            if let Some(answer) = look(object)? {
                return Ok(answer);
            }
        }
    }
}
