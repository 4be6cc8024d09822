//! `debug` (§14.12): an ephemeral container in a Pod, a copy of a Pod, or a Pod on a node, attached to once it runs; and the end of
//! an ephemeral container, which kubectl has no word for.

mod plan;
mod profile;

use std::collections::BTreeSet;
use std::pin::pin;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use futures::{AsyncReadExt, StreamExt};
use http::Method;
use serde_json::{Value, json};

use super::exec::{attach_to, path_of};
use super::retry::annotate;
use super::write::print;
use crate::args::{DebugArgs, DebugCommand};
use crate::connect::{JSON, Server};
use crate::discovery::Resources;
use crate::output::percent;
use crate::pods;
use crate::select::{Item, Selection};
use crate::session::Streams;

/// Letters of generated names: none that make words (upstream's choice).
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// `carob debug`
pub(crate) async fn debug(server: &Server, args: &DebugArgs) -> anyhow::Result<ExitCode> {
    if let Some(DebugCommand::Rm {
        pod,
        container,
        wait,
    }) = &args.other
    {
        return end(server, pod, container, *wait).await;
    }
    plan::check(args)?;
    if let Some(target) = args.target.as_ref().filter(|_| !args.quiet) {
        println!(
            "Targeting container {target:?}. If you don't see processes from this container it may be because the container runtime doesn't support this feature."
        );
    }
    let custom = args.custom.as_deref().map(read_custom).transpose()?;
    let custom = custom.as_ref();
    for word in in_files(server, args).await?.iter().chain(&args.words) {
        let (pod, container) = match target(server, word).await? {
            Target::Node(node) => on_node(server, args, custom, &node).await?,
            Target::Pod(pod) if args.copy_to.is_some() => {
                by_copy(server, args, custom, &pod).await?
            }
            Target::Pod(pod) => by_ephemeral(server, args, custom, &pod).await?,
        };
        if let Some(container) = container.filter(|_| args.attach.unwrap_or(args.stdin)) {
            follow(server, args, &pod, &container).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read_custom(file: &str) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(file)
        .context("must pass a container spec json file for custom profile")?;
    plan::custom(file, &text)
}

/// What files name, as TYPE/NAME.
async fn in_files(server: &Server, args: &DebugArgs) -> anyhow::Result<Vec<String>> {
    if args.files.filenames.is_empty() {
        return Ok(Vec::new());
    }
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        files: args.files.clone(),
        ..Selection::default()
    };
    let (items, failures) = selection.items(server, &resources).await?;
    match failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(items.iter().map(Item::label).collect()),
    }
}

/// What is to be debugged.
enum Target {
    Pod(Value),
    Node(String),
}

async fn target(server: &Server, word: &str) -> anyhow::Result<Target> {
    let (kind, name) = word.split_once('/').unwrap_or(("pods", word));
    let resources = Resources::discover(server).await?;
    let resource = resources.find(kind)?;
    let object = server
        .get(&resource.object(Some(&server.namespace), name), JSON)
        .await?;
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") => Ok(Target::Pod(object)),
        ("", "Node") => Ok(Target::Node(name.to_owned())),
        (_, kind) => bail!(
            "\"{}, Kind={kind}\" not supported by debug",
            resource.api_version()
        ),
    }
}

fn suffix() -> String {
    let letter = |_| char::from(LETTERS[fastrand::usize(..LETTERS.len())]);
    (0..5).map(letter).collect()
}

/// A name for the debug container that no other has.
fn container_name(args: &DebugArgs, pod: &Value) -> String {
    if let Some(name) = &args.container {
        return name.clone();
    }
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let taken = |name: &str| {
        lists
            .iter()
            .any(|list| pods::names(pod, list).any(|other| other == name))
    };
    let mut name = format!("debugger-{}", suffix());
    while taken(&name) {
        name = format!("debugger-{}", suffix());
    }
    if !args.quiet {
        println!("Defaulting debug container name to {name}.");
    }
    name
}

fn warn_of_vain_rights(pod: &Value, container: &Value) {
    if plan::is_in_vain(pod, container) {
        eprintln!(
            "Warning: Non-root user is configured for the entire target Pod, and some capabilities granted by debug profile may not work."
        );
    }
}

/// The Pod, and the container to attach to.
type Made = (Value, Option<String>);

async fn by_ephemeral(
    server: &Server,
    args: &DebugArgs,
    custom: Option<&Value>,
    pod: &Value,
) -> anyhow::Result<Made> {
    let name = container_name(args, pod);
    let container = plan::ephemeral(args, custom, pod, &name)?;
    warn_of_vain_rights(pod, &container);
    let others = pods::names(pod, "ephemeralContainers");
    let order: Vec<Value> = others
        .chain([name.as_str()])
        .map(|name| json!({"name": name}))
        .collect();
    // Without an order, a patch puts what is new first.
    let patch = json!({"spec": {
        "ephemeralContainers": [container],
        "$setElementOrder/ephemeralContainers": order,
    }});
    let path = format!("{}/ephemeralcontainers", path_of(server, pod));
    let media_type = "application/strategic-merge-patch+json";
    let pod = server.patch(&path, media_type, &patch).await?;
    Ok((pod, Some(name)))
}

async fn by_copy(
    server: &Server,
    args: &DebugArgs,
    custom: Option<&Value>,
    pod: &Value,
) -> anyhow::Result<Made> {
    let (mut copy, container) = plan::copy(args, custom, pod, || container_name(args, pod))?;
    if let Some(container) = &container
        && let Some(container) = profile::container_mut(&mut copy, container).map(|c| c.clone())
    {
        warn_of_vain_rights(&copy, &container);
    }
    let made = create(server, &copy).await?;
    if args.replace {
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
        server
            .write(Method::DELETE, &path_of(server, pod), &options)
            .await?;
    }
    Ok((made, container))
}

async fn on_node(
    server: &Server,
    args: &DebugArgs,
    custom: Option<&Value>,
    node: &str,
) -> anyhow::Result<Made> {
    let pod_name = format!("node-debugger-{node}-{}", suffix());
    let (pod, container) = plan::of_node(args, custom, node, &pod_name)?;
    if !args.quiet {
        println!("Creating debugging pod {pod_name} with container {container} on node {node}.");
    }
    Ok((create(server, &pod).await?, Some(container)))
}

async fn create(server: &Server, pod: &Value) -> anyhow::Result<Value> {
    let path = format!("/api/v1/namespaces/{}/pods", server.namespace);
    Ok(server.write(Method::POST, &path, pod).await?)
}

/// Attaches to the container once it runs; prints its log if it has ended by then, or cannot be attached to.
async fn follow(
    server: &Server,
    args: &DebugArgs,
    pod: &Value,
    container: &str,
) -> anyhow::Result<()> {
    let mut told = BTreeSet::new();
    let pod = watch(server, pod, |pod| {
        let state = &status(pod, container)["state"];
        let message = state["waiting"]["message"].as_str().unwrap_or_default();
        if !args.quiet && !message.is_empty() && told.insert(message.to_owned()) {
            eprintln!("Warning: container {container}: {message}");
        }
        state["running"].is_object() || state["terminated"].is_object()
    })
    .await?;
    if status(&pod, container)["state"]["terminated"].is_object() {
        return log(server, &pod, container).await;
    }
    let asked = Streams {
        stdin: args.stdin,
        tty: args.tty,
    };
    if let Err(error) = attach_to(server, &pod, container, asked, args.quiet).await {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        eprintln!(
            "warning: couldn't attach to pod/{name}, falling back to streaming logs: {error:#}"
        );
        return log(server, &pod, container).await;
    }
    Ok(())
}

/// The Pod as soon as it is as wanted; it must not go meanwhile.
async fn watch(
    server: &Server,
    pod: &Value,
    mut is_wanted: impl FnMut(&Value) -> bool,
) -> anyhow::Result<Value> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{}/pods", server.namespace);
    let query = format!(
        "fieldSelector={}",
        percent(&format!("metadata.name={name}"))
    );
    loop {
        // A watch that the server ends begins anew, with the Pod as it is by then.
        let mut events = pin!(server.watch(&path, &query, JSON).await?);
        while let Some(Ok(mut event)) = events.next().await {
            let object = event["object"].take();
            match event["type"].as_str() {
                Some("DELETED") => bail!("pods {name:?} not found"),
                Some("ADDED" | "MODIFIED") if is_wanted(&object) => return Ok(object),
                _ => {}
            }
        }
    }
}

/// A container's status, of whatever kind it is.
fn status<'p>(pod: &'p Value, container: &str) -> &'p Value {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    lists
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
        .find(|status| status["name"] == container)
        .unwrap_or(&Value::Null)
}

async fn log(server: &Server, pod: &Value, container: &str) -> anyhow::Result<()> {
    let path = format!(
        "{}/log?container={}",
        path_of(server, pod),
        percent(container)
    );
    let mut body = pin!(server.text(&path).await?);
    let mut text = Vec::new();
    body.read_to_end(&mut text).await?;
    print(&String::from_utf8_lossy(&text))
}

/// `carob debug rm`
async fn end(server: &Server, word: &str, container: &str, wait: bool) -> anyhow::Result<ExitCode> {
    let Target::Pod(pod) = target(server, word).await? else {
        bail!("{word} is no pod");
    };
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if !pods::names(&pod, "ephemeralContainers").any(|other| other == container) {
        return Err(anyhow!(
            "container {container} is not an ephemeral container of pod {name} out of: {}",
            pods::all_names(&pod)
        ));
    }
    let stop = |old: Option<&str>| api::asks::stop(old, container);
    let pod = annotate(server, &pod, api::asks::STOP, stop).await?;
    let runs = |pod: &Value| status(pod, container)["state"]["running"].is_object();
    if wait && runs(&pod) {
        watch(server, &pod, |pod| !runs(pod)).await?;
    }
    println!("pod/{name} container {container} stopped");
    Ok(ExitCode::SUCCESS)
}
