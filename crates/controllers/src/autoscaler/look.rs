//! A look at the target of an autoscaler: its Scale, its Pods, and what these use.

use std::collections::BTreeMap;

use api::duration;
use api::gvk::GroupVersion;
use api::quantity::Quantity;
use api::resource::{RESOURCES, find};
use api::selector::Selector;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::Value;
use workloads::autoscaler::{self, PodUse, Seen, Target, Uses};

/// Tries to give a target its size that others change at the same time.
const TRIES: usize = 5;

/// What was seen of a target.
pub(super) struct Look {
    target: Result<Target, String>,
    /// Its Scale, and where it is.
    scale: Option<(Api<DynamicObject>, String, Box<Scale>)>,
    pub(super) pods: Vec<Pod>,
    uses: Result<Uses, String>,
}

impl Look {
    fn failed(why: String) -> Self {
        Look {
            target: Err(why),
            scale: None,
            pods: Vec::new(),
            uses: Ok(Uses::new()),
        }
    }

    /// As the rules see it.
    pub(super) fn seen<'a>(&'a self, rivals: &'a [(String, String)]) -> Seen<'a> {
        Seen {
            target: self.target.as_ref().map_err(String::as_str),
            pods: &self.pods,
            uses: self.uses.as_ref().map_err(String::as_str),
            rivals,
        }
    }

    /// Which Pods the target has.
    pub(super) fn selector(&self) -> Option<Selector> {
        let target = self.target.as_ref().ok()?;
        let selector = Selector::parse(&target.selector).ok()?;
        Some(selector).filter(|selector| !selector.is_everything())
    }

    /// Gives the target another size, or says why it cannot be.
    pub(super) async fn resize(&self, replicas: i32) -> Result<(), String> {
        let Some((api, name, scale)) = &self.scale else {
            return Ok(());
        };
        let mut scale = Scale::clone(scale);
        let mut tries = 1;
        loop {
            scale.spec.get_or_insert_default().replicas = Some(replicas);
            let error = match api
                .replace_scale(name, &PostParams::default(), &scale)
                .await
            {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let is_conflict = matches!(&error, kube::Error::Api(e) if e.code == 409);
            if !is_conflict || tries == TRIES {
                return Err(said(&error));
            }
            tries += 1;
            scale = api.get_scale(name).await.map_err(|error| said(&error))?;
        }
    }
}

/// What an error says, as upstream's clients do.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.reason.is_empty() && status.code == 404 => {
            "the server could not find the requested resource".to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Looks at the target of an autoscaler; at its Pods only if they matter.
pub(super) async fn look(client: &Client, autoscaler: &HorizontalPodAutoscaler) -> Look {
    let namespace = autoscaler.metadata.namespace.as_deref().unwrap_or_default();
    let name = &autoscaler.spec.scale_target_ref.name;
    let api = match scales(client, autoscaler, namespace) {
        Ok(api) => api,
        Err(why) => return Look::failed(why),
    };
    let scale = match api.get_scale(name).await {
        Ok(scale) => scale,
        Err(error) => return Look::failed(said(&error)),
    };
    let spec = scale.spec.as_ref().and_then(|spec| spec.replicas);
    let status = scale.status.clone().unwrap_or_default();
    let target = Target {
        replicas: spec.unwrap_or(0),
        present: status.replicas,
        selector: status.selector.unwrap_or_default(),
    };
    let mut look = Look {
        target: Ok(target.clone()),
        scale: Some((api, name.clone(), Box::new(scale))),
        pods: Vec::new(),
        uses: Ok(Uses::new()),
    };
    if !target.selector.is_empty() && autoscaler::measures(autoscaler, &target) {
        let selected = ListParams::default().labels(&target.selector);
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        match pods.list(&selected).await {
            Ok(pods) => look.pods = pods.items,
            Err(error) => {
                return Look {
                    target: Err(format!("unable to list pods: {}", said(&error))),
                    ..look
                };
            }
        }
        look.uses = measured(client, namespace, &selected)
            .await
            .map_err(|error| {
                let error = said(&error);
                format!("unable to fetch metrics from resource metrics API: {error}")
            });
    }
    look
}

/// Where the Scale of a target is: its kind has to be served, in whatever version.
fn scales(
    client: &Client,
    autoscaler: &HorizontalPodAutoscaler,
    namespace: &str,
) -> Result<Api<DynamicObject>, String> {
    let target = &autoscaler.spec.scale_target_ref;
    let version = target.api_version.as_deref().unwrap_or_default();
    let group = GroupVersion::parse(version)
        .map_err(|why| why.to_string())?
        .group;
    let mut all = RESOURCES.iter();
    let found = all.find(|r| r.gvk.group == group && r.gvk.kind == target.kind && r.namespaced);
    let found = found.ok_or_else(|| autoscaler::no_kind(&group, &target.kind))?;
    Ok(Api::namespaced_with(
        client.clone(),
        namespace,
        &crate::words(found),
    ))
}

/// The part of a PodMetrics that matters.
#[derive(Deserialize)]
struct Metrics {
    timestamp: Timestamp,
    window: String,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, Value>,
}

/// What the selected Pods use.
async fn measured(
    client: &Client,
    namespace: &str,
    selected: &ListParams,
) -> Result<Uses, kube::Error> {
    let Some(kind) = find("metrics.k8s.io", "v1beta1", "pods") else {
        return Ok(Uses::new());
    };
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &crate::words(kind));
    let listed = api.list(selected).await?;
    let uses = listed.items.into_iter().filter_map(|item| {
        let name = item.metadata.name?;
        let metrics: Metrics = serde_json::from_value(item.data).ok()?;
        Some((name, use_of(metrics)))
    });
    Ok(uses.collect())
}

fn use_of(metrics: Metrics) -> PodUse {
    let amounts = |usage: BTreeMap<String, Value>| {
        let amounts = usage.into_iter().filter_map(|(resource, amount)| {
            let amount = Quantity::from_json(&amount).ok()?;
            Some((resource, amount))
        });
        amounts.collect()
    };
    let containers = metrics.containers.into_iter();
    PodUse {
        at: metrics.timestamp,
        window: SignedDuration::from_nanos(duration::parse_go(&metrics.window).unwrap_or(0)),
        containers: containers.map(|c| (c.name, amounts(c.usage))).collect(),
    }
}
