//! `get` (§14.1): tables as the server computes them, or objects in other forms.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::args::GetArgs;
use crate::connect::{JSON, Server, TABLE};
use crate::discovery::Resources;
use crate::failure::is_not_found;
use crate::output::Format;
use crate::output::table::TableWriter;
use crate::target::{Target, targets};

/// `carob get`
pub(crate) async fn get(server: &Server, args: &GetArgs) -> anyhow::Result<ExitCode> {
    let format = Format::parse(args.output.as_deref().unwrap_or_default())?;
    let resources = Resources::discover(server).await?;
    let targets = targets(&args.words, &resources)?;
    if args.all_namespaces && targets.iter().any(|target| !target.names.is_empty()) {
        bail!("a resource cannot be retrieved by name across all namespaces");
    }
    if args.watch || args.watch_only {
        let [target] = targets.as_slice() else {
            bail!("you may only specify a single resource type")
        };
        return watch(server, args, target, &format).await;
    }
    match &format {
        Format::Table { wide } => tables(server, args, &targets, *wide).await,
        _ => objects(server, args, &targets, &format).await,
    }
}

/// Where to look: a namespace, or everywhere.
fn scope<'s>(server: &'s Server, args: &GetArgs) -> Option<&'s str> {
    (!args.all_namespaces).then_some(server.namespace.as_str())
}

fn selection(args: &GetArgs) -> String {
    let mut query = Vec::new();
    for (name, value) in [
        ("labelSelector", &args.selector),
        ("fieldSelector", &args.field_selector),
    ] {
        query.extend(
            value
                .as_ref()
                .map(|value| format!("{name}={}", crate::output::percent(value))),
        );
    }
    query.join("&")
}

async fn tables(
    server: &Server,
    args: &GetArgs,
    targets: &[Target],
    wide: bool,
) -> anyhow::Result<ExitCode> {
    let with_kind = args.show_kind
        || targets.len() > 1
            && targets
                .iter()
                .any(|target| target.resource != targets[0].resource);
    let (mut printed, mut failed) = (0, false);
    let mut out = std::io::stdout().lock();
    for target in targets {
        let mut pages = Vec::new();
        if target.names.is_empty() {
            pages.push(
                server
                    .list(
                        &target.resource.collection(scope(server, args)),
                        &selection(args),
                        TABLE,
                    )
                    .await?,
            );
        }
        for name in &target.names {
            match server
                .get(&target.resource.object(scope(server, args), name), TABLE)
                .await
            {
                Ok(page) => pages.push(page),
                Err(error) if is_not_found(&error) && args.ignore_not_found => {}
                Err(error) if is_not_found(&error) => {
                    crate::failure::report(&error.into());
                    failed = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut sheet = Sheet::new(args, wide, with_kind.then(|| target.resource.qualified()));
        let text: String = pages.iter().map(|page| sheet.rows(page)).collect();
        if !text.is_empty() {
            if printed > 0 && with_kind {
                writeln!(out)?;
            }
            printed += 1;
            out.write_all(text.as_bytes())?;
        }
    }
    if printed == 0 && !failed && !args.ignore_not_found {
        eprintln!("{}", nothing_found(server, args, targets));
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn nothing_found(server: &Server, args: &GetArgs, targets: &[Target]) -> String {
    if args.all_namespaces || targets.iter().all(|target| !target.resource.namespaced) {
        "No resources found".into()
    } else {
        format!("No resources found in {} namespace.", server.namespace)
    }
}

/// Turns the server's tables into lines; headers are printed once.
struct Sheet<'a> {
    args: &'a GetArgs,
    wide: bool,
    kind: Option<String>,
    writer: TableWriter,
    headed: bool,
    columns: Vec<(String, i64)>,
}

impl<'a> Sheet<'a> {
    fn new(args: &'a GetArgs, wide: bool, kind: Option<String>) -> Self {
        Sheet {
            args,
            wide,
            kind,
            writer: TableWriter::default(),
            headed: args.no_headers,
            columns: Vec::new(),
        }
    }

    /// The rows of a table; a watch sends the columns with its first event only.
    fn rows(&mut self, table: &Value) -> String {
        if let Some(columns) = table["columnDefinitions"]
            .as_array()
            .filter(|columns| !columns.is_empty())
        {
            self.columns = columns
                .iter()
                .map(|column| {
                    (
                        column["name"].as_str().unwrap_or_default().to_owned(),
                        column["priority"].as_i64().unwrap_or(0),
                    )
                })
                .collect();
        }
        let rows = table["rows"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut lines: Vec<Vec<String>> = rows.iter().map(|row| self.line(row)).collect();
        if !lines.is_empty() && !self.headed {
            self.headed = true;
            lines.insert(0, self.head());
        }
        self.writer.lines(&lines)
    }

    fn shown(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.columns.len()).filter(|place| self.wide || self.columns[*place].1 == 0)
    }

    fn head(&self) -> Vec<String> {
        let mut head = Vec::new();
        if self.args.all_namespaces {
            head.push("NAMESPACE".to_owned());
        }
        head.extend(
            self.shown()
                .map(|place| self.columns[place].0.to_uppercase()),
        );
        head.extend(
            self.args
                .label_columns
                .iter()
                .map(|key| key.rsplit('/').next().unwrap_or(key).to_uppercase()),
        );
        if self.args.show_labels {
            head.push("LABELS".into());
        }
        head
    }

    fn line(&self, row: &Value) -> Vec<String> {
        let metadata = &row["object"]["metadata"];
        let mut line = Vec::new();
        if self.args.all_namespaces {
            line.push(
                metadata["namespace"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
        for place in self.shown() {
            let cell = cell(&row["cells"][place]);
            let is_name = self.columns[place].0 == "Name";
            line.push(match &self.kind {
                Some(kind) if is_name => format!("{kind}/{cell}"),
                _ => cell,
            });
        }
        let label = |key: &String| {
            metadata["labels"][key.as_str()]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        line.extend(self.args.label_columns.iter().map(label));
        if self.args.show_labels {
            let labels = metadata["labels"]
                .as_object()
                .filter(|labels| !labels.is_empty());
            line.push(labels.map_or_else(
                || "<none>".into(),
                |labels| {
                    labels
                        .iter()
                        .map(|(key, value)| format!("{key}={}", cell(value)))
                        .collect::<Vec<_>>()
                        .join(",")
                },
            ));
        }
        line
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

async fn objects(
    server: &Server,
    args: &GetArgs,
    targets: &[Target],
    format: &Format,
) -> anyhow::Result<ExitCode> {
    let mut found = Vec::new();
    for target in targets {
        if target.names.is_empty() {
            let list = server
                .list(
                    &target.resource.collection(scope(server, args)),
                    &selection(args),
                    JSON,
                )
                .await?;
            found.extend(with_types(list, &target.resource));
        }
        for name in &target.names {
            match server
                .get(&target.resource.object(scope(server, args), name), JSON)
                .await
            {
                Err(error) if is_not_found(&error) && args.ignore_not_found => {}
                object => found.push(object?),
            }
        }
    }
    if !args.show_managed_fields {
        found.iter_mut().for_each(without_managed_fields);
    }
    let single = targets.len() == 1 && targets[0].names.len() == 1;
    let text = match found.as_slice() {
        [] if args.ignore_not_found => String::new(),
        [object] if single => format.print(object)?,
        _ => format.print(&json!({"apiVersion": "v1", "items": found, "kind": "List", "metadata": {"resourceVersion": ""}}))?,
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Items of a list do not name their type; printed alone they must.
fn with_types(mut list: Value, resource: &crate::discovery::Resource) -> Vec<Value> {
    let version = resource.api_version();
    let items = list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    let typed = |mut item: Value| {
        item["apiVersion"] = version.as_str().into();
        item["kind"] = resource.kind.as_str().into();
        item
    };
    items.into_iter().map(typed).collect()
}

fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
}

async fn watch(
    server: &Server,
    args: &GetArgs,
    target: &Target,
    format: &Format,
) -> anyhow::Result<ExitCode> {
    let mut query = vec![selection(args)];
    if let [name] = target.names.as_slice() {
        query.push(format!("fieldSelector=metadata.name%3D{name}"));
    } else if !target.names.is_empty() {
        bail!("you may only specify a single resource name to watch");
    }
    query.retain(|part| !part.is_empty());
    let path = target.resource.collection(scope(server, args));
    let wide = matches!(format, Format::Table { wide: true });
    let as_table = matches!(format, Format::Table { .. });
    let accept = if as_table { TABLE } else { JSON };
    let mut sheet = Sheet::new(
        args,
        wide,
        args.show_kind.then(|| target.resource.qualified()),
    );
    let list = server.list(&path, &query.join("&"), accept).await?;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut show = |event: &Value| -> anyhow::Result<()> {
        let text = if as_table {
            sheet.rows(&event["object"])
        } else {
            format.print(&event["object"])?
        };
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    };
    if !args.watch_only && as_table {
        show(&json!({"object": list}))?;
    } else if !args.watch_only {
        for object in with_types(list, &target.resource) {
            show(&json!({"object": object}))?;
        }
    }
    query.push(format!("resourceVersion={version}"));
    let mut events = std::pin::pin!(server.watch(&path, &query.join("&"), accept).await?);
    while let Some(event) = events.next().await {
        let event = event.context("watch")?;
        match event["type"].as_str() {
            Some("BOOKMARK") => {}
            Some("ERROR") => bail!(
                "{}",
                event["object"]["message"]
                    .as_str()
                    .unwrap_or("the watch failed")
            ),
            _ => show(&event)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
