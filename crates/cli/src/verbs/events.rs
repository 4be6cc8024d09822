//! `events` (§14.26).

use std::process::ExitCode;

use anyhow::anyhow;
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::write::print;
use crate::args::EventsArgs;
use crate::connect::{JSON, Server};
use crate::describe::{event_age, events_by_time};
use crate::discovery::Resources;
use crate::output::table::TableWriter;
use crate::output::{Format, percent};

/// `carob events`
pub(crate) async fn events(server: &Server, args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let format = args.output.as_deref().map(Format::parse).transpose()?;
    let path = if args.all_namespaces {
        "/api/v1/events".to_owned()
    } else {
        format!("/api/v1/namespaces/{}/events", server.namespace)
    };
    let query = about(server, args).await?;
    let mut list = server.list(&path, &query, JSON).await?;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut events = list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    events.retain(|event| is_wanted(args, event));
    events.sort_by_key(events_by_time);
    if let Some(format) = &format {
        for event in &mut events {
            event["apiVersion"] = "v1".into();
            event["kind"] = "Event".into();
        }
        print(&format.print(&json!({"apiVersion": "v1", "items": events, "kind": "List", "metadata": {"resourceVersion": ""}}))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if events.is_empty() && !args.watch {
        if args.all_namespaces {
            eprintln!("No events found.");
        } else {
            eprintln!("No events found in {} namespace.", server.namespace);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut writer = TableWriter::default();
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !args.no_headers {
        rows.push(head(args));
    }
    rows.extend(
        events
            .iter()
            .map(|event| row(args, event, Timestamp::now())),
    );
    print(&writer.lines(&rows))?;
    if args.watch {
        let query = format!("{query}&resourceVersion={version}");
        let mut changes = std::pin::pin!(
            server
                .watch(&path, query.trim_start_matches('&'), JSON)
                .await?
        );
        while let Some(change) = changes.next().await {
            let change = change?;
            let event = &change["object"];
            if matches!(change["type"].as_str(), Some("ADDED" | "MODIFIED"))
                && is_wanted(args, event)
            {
                print(&writer.lines(&[row(args, event, Timestamp::now())]))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The query for the events of one object.
async fn about(server: &Server, args: &EventsArgs) -> anyhow::Result<String> {
    let Some(word) = &args.about else {
        return Ok(String::new());
    };
    let (kind, name) = word
        .split_once('/')
        .filter(|(kind, name)| !kind.is_empty() && !name.is_empty() && !name.contains('/'))
        .ok_or_else(|| anyhow!("--for must be in resource/name form"))?;
    let resources = Resources::discover(server).await?;
    let resource = resources.find(kind)?;
    let selector = format!(
        "involvedObject.kind={},involvedObject.name={name},involvedObject.apiVersion={}",
        resource.kind,
        resource.api_version()
    );
    Ok(format!("fieldSelector={}", percent(&selector)))
}

fn is_wanted(args: &EventsArgs, event: &Value) -> bool {
    let kind = event["type"].as_str().unwrap_or_default();
    args.types.is_empty()
        || args
            .types
            .iter()
            .any(|wanted| wanted.eq_ignore_ascii_case(kind))
}

fn head(args: &EventsArgs) -> Vec<String> {
    let columns = [
        "NAMESPACE",
        "LAST SEEN",
        "TYPE",
        "REASON",
        "OBJECT",
        "MESSAGE",
    ];
    let skipped = usize::from(!args.all_namespaces);
    columns[skipped..]
        .iter()
        .map(|column| (*column).to_owned())
        .collect()
}

fn row(args: &EventsArgs, event: &Value, now: Timestamp) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &event["involvedObject"];
    let mut row = Vec::new();
    if args.all_namespaces {
        row.push(text(&event["metadata"]["namespace"]));
    }
    row.extend([
        event_age(event, now),
        text(&event["type"]),
        text(&event["reason"]),
        format!("{}/{}", text(&object["kind"]), text(&object["name"])),
        text(&event["message"]).trim().to_owned(),
    ]);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: EventsArgs,
    }

    #[test]
    fn rows_and_choice() {
        let event = json!({"type": "Warning", "reason": "BackOff", "message": "Back-off \n", "count": 3, "firstTimestamp": "2026-11-20T16:20:00Z", "lastTimestamp": "2026-11-20T16:25:00Z",
            "involvedObject": {"kind": "Pod", "name": "web"}, "metadata": {"namespace": "ns"}});
        let now = "2026-11-20T16:27:00Z".parse().expect("a time");
        let args = Only::parse_from(["events", "-A", "--types=Warning"]).args;
        assert_eq!(
            row(&args, &event, now),
            [
                "ns",
                "2m (x3 over 7m)",
                "Warning",
                "BackOff",
                "Pod/web",
                "Back-off"
            ]
        );
        assert_eq!(head(&args)[0], "NAMESPACE");
        assert!(is_wanted(&args, &event));
        assert!(!is_wanted(
            &Only::parse_from(["events", "--types=Normal"]).args,
            &event
        ));
    }
}
