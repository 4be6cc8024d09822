//! `describe` (§14.2): finds the objects and what belongs to them.

use std::process::ExitCode;

use anyhow::bail;
use api::pod::MIRROR;
use jiff::Timestamp;
use serde_json::Value;

use super::write::print;
use crate::args::{DescribeArgs, FileArgs};
use crate::connect::{JSON, Server};
use crate::describe::{Beside, describe as text_of};
use crate::discovery::Resources;
use crate::failure::{self, is_not_found};
use crate::output::percent;
use crate::select::{Item, Selection};
use crate::workloads::{controlled, replica_sets};

/// `carob describe`
pub(crate) async fn describe(server: &Server, args: &DescribeArgs) -> anyhow::Result<ExitCode> {
    if args.words.is_empty() && args.filenames.is_empty() {
        bail!(
            "You must specify the type of resource to describe. Use \"carob api-resources\" for a complete list of supported resources."
        );
    }
    let resources = Resources::discover(server).await?;
    let selection = Selection {
        words: &args.words,
        files: FileArgs {
            filenames: args.filenames.clone(),
            recursive: args.recursive,
        },
        label_selector: args.selector.as_deref(),
        field_selector: None,
        all: args.selector.is_none()
            && !args.words.iter().any(|word| word.contains('/'))
            && args.words.len() == 1,
        all_namespaces: args.all_namespaces,
    };
    let (items, mut failures) = selection.items(server, &resources).await?;
    let mut texts = Vec::new();
    // Many objects are shown without, unless events are asked for.
    let with_events = args.show_events.unwrap_or(items.len() == 1);
    for item in &items {
        match objects(server, item).await {
            Ok(objects) => {
                for object in objects {
                    let beside = Beside {
                        events: match with_events {
                            true => events(server, &object).await?,
                            false => None,
                        },
                        parts: parts(server, &object).await?,
                    };
                    texts.push(text_of(&object, &beside, Timestamp::now()));
                }
            }
            Err(error) => failures.push(error),
        }
    }
    if texts.is_empty() && failures.is_empty() {
        if args.all_namespaces {
            eprintln!("No resources found");
        } else {
            eprintln!("No resources found in {} namespace.", server.namespace);
        }
    }
    print(&texts.join("\n\n"))?;
    Ok(failure::outcome(&failures))
}

/// The object of that name, or every one whose name begins so.
async fn objects(server: &Server, item: &Item) -> anyhow::Result<Vec<Value>> {
    let not_found = match server.get(&item.path(), JSON).await {
        Ok(object) => return Ok(vec![object]),
        Err(error) if is_not_found(&error) => error,
        Err(error) => return Err(error.into()),
    };
    let mut list = server.list(&item.collection(), "", JSON).await?;
    let mut found = Vec::new();
    for mut object in list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default()
    {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if name.starts_with(&item.name) {
            object["apiVersion"] = item.resource.api_version().into();
            object["kind"] = item.resource.kind.as_str().into();
            found.push(object);
        }
    }
    if found.is_empty() {
        return Err(not_found.into());
    }
    Ok(found)
}

async fn events(server: &Server, object: &Value) -> anyhow::Result<Option<Vec<Value>>> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let namespace = match text("namespace") {
        "" => "default",
        namespace => namespace,
    };
    let mirror = &object["metadata"]["annotations"][MIRROR];
    let uid = match object["kind"].as_str() {
        // The node agent names a Node by its name, not by its uid.
        Some("Node") => "",
        // It tells of the static Pod.
        Some("Pod") => mirror.as_str().unwrap_or(text("uid")),
        _ => text("uid"),
    };
    let mut terms = vec![format!("involvedObject.name={}", text("name"))];
    if !uid.is_empty() {
        terms.push(format!("involvedObject.uid={uid}"));
    } else if let Some(kind) = object["kind"].as_str() {
        terms.push(format!("involvedObject.kind={kind}"));
    }
    let query = format!("fieldSelector={}", percent(&terms.join(",")));
    let path = format!("/api/v1/namespaces/{namespace}/events");
    let mut list = server.list(&path, &query, JSON).await?;
    Ok(list["items"].as_array_mut().map(std::mem::take))
}

/// What an object is described with: the EndpointSlices of a Service, the ReplicaSets of a Deployment, the Pods of what makes Pods
/// itself and of claims, the quotas and limits of a namespace.
async fn parts(server: &Server, object: &Value) -> anyhow::Result<Vec<Value>> {
    match (object["apiVersion"].as_str(), object["kind"].as_str()) {
        (Some("v1"), Some("Service")) => slices(server, object).await,
        (Some("v1"), Some("Namespace")) => bounds(server, object).await,
        (Some("v1"), Some("PersistentVolumeClaim")) => users(server, object).await,
        (Some("apps/v1"), Some("Deployment")) => replica_sets(server, object).await,
        (Some("apps/v1"), Some("ReplicaSet" | "StatefulSet" | "DaemonSet")) => {
            controlled(server, object, "/api/v1", "pods").await
        }
        _ => Ok(Vec::new()),
    }
}

/// The Pods that name a claim, or own it.
async fn users(server: &Server, claim: &Value) -> anyhow::Result<Vec<Value>> {
    let text = |field: &str| claim["metadata"][field].as_str().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{}/pods", text("namespace"));
    let mut list = server.list(&path, "", JSON).await?;
    let pods = list["items"].as_array_mut().map(std::mem::take);
    let uses = |pod: &Value| {
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let mut named = volumes.map(|volume| &volume["persistentVolumeClaim"]["claimName"]);
        let owners = claim["metadata"]["ownerReferences"].as_array();
        let mut owners = owners.into_iter().flatten();
        named.any(|named| named == text("name"))
            || owners.any(|o| o["kind"] == "Pod" && o["uid"] == pod["metadata"]["uid"])
    };
    Ok(pods.unwrap_or_default().into_iter().filter(uses).collect())
}

/// The quotas and limits of a namespace.
async fn bounds(server: &Server, namespace: &Value) -> anyhow::Result<Vec<Value>> {
    let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for (plural, kind) in [
        ("resourcequotas", "ResourceQuota"),
        ("limitranges", "LimitRange"),
    ] {
        let path = format!("/api/v1/namespaces/{name}/{plural}");
        let mut list = match server.list(&path, "", JSON).await {
            Ok(list) => list,
            // Not every server has them.
            Err(error) if is_not_found(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        for mut object in list["items"]
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default()
        {
            object["kind"] = kind.into();
            found.push(object);
        }
    }
    Ok(found)
}

async fn slices(server: &Server, object: &Value) -> anyhow::Result<Vec<Value>> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
        text("namespace")
    );
    let selector = format!("kubernetes.io/service-name={}", text("name"));
    let query = format!("labelSelector={}", percent(&selector));
    let mut list = server.list(&path, &query, JSON).await?;
    Ok(list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default())
}
