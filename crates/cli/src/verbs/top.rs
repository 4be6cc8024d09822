//! `top` (§14): what Pods and nodes use, in kubectl's columns.

use std::collections::BTreeMap;
use std::process::ExitCode;

use api::quantity::Quantity;
use serde_json::{Value, json};

use super::write::print;
use crate::args::{TopArgs, TopCommand};
use crate::connect::{JSON, Server};
use crate::output::percent;
use crate::output::table::TableWriter;

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

/// Thousandths of a processor, and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    milli: i64,
    bytes: i64,
}

/// A line of the table.
struct Line {
    /// What comes before the figures.
    names: Vec<String>,
    used: Used,
}

/// `carob top`
pub(crate) async fn top(server: &Server, what: &TopCommand) -> anyhow::Result<ExitCode> {
    match what {
        TopCommand::Pod(args) => pods(server, args).await,
        TopCommand::Node(args) => nodes(server, args).await,
    }
}

async fn pods(server: &Server, args: &TopArgs) -> anyhow::Result<ExitCode> {
    let place = if args.all_namespaces {
        format!("{METRICS}/pods")
    } else {
        format!("{METRICS}/namespaces/{}/pods", server.namespace)
    };
    let items = measured(server, args, &place).await?;
    if items.is_empty() {
        if args.all_namespaces {
            eprintln!("No resources found");
        } else {
            eprintln!("No resources found in {} namespace.", server.namespace);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut head = vec!["NAME"];
    if args.containers {
        head.insert(0, "POD");
    }
    if args.all_namespaces {
        head.insert(0, "NAMESPACE");
    }
    head.extend(["CPU(cores)", "MEMORY(bytes)"]);
    let lines = items.iter().flat_map(|pod| lines(args, pod)).collect();
    show(args, &head, sorted(args, lines), |line| {
        vec![cores(line.used), memory(line.used)]
    })
}

/// The lines of a Pod: one, or one for each of its containers.
fn lines(args: &TopArgs, pod: &Value) -> Vec<Line> {
    let text = |field: &str| {
        pod["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let mut names = vec![text("name")];
    if args.all_namespaces {
        names.insert(0, text("namespace"));
    }
    let containers = pod["containers"].as_array().into_iter().flatten();
    if args.containers {
        let line = |container: &Value| {
            let mut names = names.clone();
            names.push(container["name"].as_str().unwrap_or_default().to_owned());
            Line {
                names,
                used: used(&container["usage"]),
            }
        };
        return containers.map(line).collect();
    }
    let each = containers.map(|container| used(&container["usage"]));
    let used = each.fold(Used::default(), |sum, used| Used {
        milli: sum.milli + used.milli,
        bytes: sum.bytes + used.bytes,
    });
    vec![Line { names, used }]
}

async fn nodes(server: &Server, args: &TopArgs) -> anyhow::Result<ExitCode> {
    let items = measured(server, args, &format!("{METRICS}/nodes")).await?;
    let list = server.list("/api/v1/nodes", "", JSON).await?;
    let allocatable: BTreeMap<&str, Used> = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| {
            let name = node["metadata"]["name"].as_str()?;
            Some((name, used(&node["status"]["allocatable"])))
        })
        .collect();
    let lines = items.iter().map(|node| Line {
        names: vec![
            node["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        ],
        used: used(&node["usage"]),
    });
    let head = ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
    show(args, &head, sorted(args, lines.collect()), |line| {
        let whole = line
            .names
            .first()
            .and_then(|name| allocatable.get(name.as_str()));
        let share = |used: i64, whole: Option<i64>| match whole {
            Some(whole) if whole > 0 => format!("{}%", used.saturating_mul(100) / whole),
            _ => "<unknown>".to_owned(),
        };
        vec![
            cores(line.used),
            share(line.used.milli, whole.map(|w| w.milli)),
            memory(line.used),
            share(line.used.bytes, whole.map(|w| w.bytes)),
        ]
    })
}

/// The metrics asked for.
async fn measured(server: &Server, args: &TopArgs, place: &str) -> anyhow::Result<Vec<Value>> {
    if let Some(name) = &args.name {
        return Ok(vec![
            server
                .get(&format!("{place}/{}", percent(name)), JSON)
                .await?,
        ]);
    }
    let selector = args.selector.as_deref().map(percent);
    let query = selector.map_or_else(String::new, |s| format!("labelSelector={s}"));
    let mut list = server.list(place, &query, JSON).await?;
    Ok(match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

fn used(usage: &Value) -> Used {
    let quantity = |name: &str| Quantity::from_json(usage.get(name).unwrap_or(&json!("0"))).ok();
    Used {
        milli: quantity("cpu").map_or(0, |q| q.milli_value()),
        bytes: quantity("memory").map_or(0, |q| q.value()),
    }
}

/// Most first; the order of the list where nothing is asked for.
fn sorted(args: &TopArgs, mut lines: Vec<Line>) -> Vec<Line> {
    match args.sort_by.as_deref() {
        Some("cpu") => lines.sort_by_key(|line| std::cmp::Reverse(line.used.milli)),
        Some(_) => lines.sort_by_key(|line| std::cmp::Reverse(line.used.bytes)),
        None => {}
    }
    lines
}

fn cores(used: Used) -> String {
    format!("{}m", used.milli)
}

fn memory(used: Used) -> String {
    format!("{}Mi", used.bytes >> 20)
}

fn show(
    args: &TopArgs,
    head: &[&str],
    lines: Vec<Line>,
    figures: impl Fn(&Line) -> Vec<String>,
) -> anyhow::Result<ExitCode> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !args.no_headers {
        rows.push(head.iter().map(|&word| word.to_owned()).collect());
    }
    for line in lines {
        let mut row = line.names.clone();
        row.extend(figures(&line));
        rows.push(row);
    }
    // kubectl pads the last column, too.
    rows.iter_mut().for_each(|row| row.push(String::new()));
    print(&TableWriter::default().lines(&rows))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(containers: bool) -> TopArgs {
        TopArgs {
            name: None,
            all_namespaces: false,
            selector: None,
            containers,
            sort_by: Some("cpu".into()),
            no_headers: false,
        }
    }

    #[test]
    fn a_pod_is_the_sum_of_its_containers() {
        let pod = json!({"metadata": {"name": "p"}, "containers": [
            {"name": "a", "usage": {"cpu": "1500000n", "memory": "2048Ki"}},
            {"name": "b", "usage": {"cpu": "250m", "memory": "1Mi"}}]});
        let shown = |containers| -> Vec<(String, String, String)> {
            let args = args(containers);
            let lines = sorted(&args, lines(&args, &pod));
            let row = |l: Line| (l.names.join("/"), cores(l.used), memory(l.used));
            lines.into_iter().map(row).collect()
        };
        let row = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(shown(false), [row("p", "252m", "3Mi")]);
        assert_eq!(
            shown(true),
            [row("p/b", "250m", "1Mi"), row("p/a", "2m", "2Mi")]
        );
    }
}
