//! One metric of an autoscaler: how many Pods it asks for. Of those that are no resources nobody here can tell: there is neither a custom
//! nor an external metrics API.

use api::gotext;
use api::quantity::Quantity;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricSource, HorizontalPodAutoscaler, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

use super::usage::{Asked, Goal, Proposal, milli, propose};
use super::{Seen, Target};

/// How far from its target what is used may be, as a share of it.
const TOLERANCE: f64 = 0.1;
/// What upstream's client says where there is no such API.
const NO_CUSTOM: &str = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered";

/// What may be off without anything being done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tolerance {
    down: f64,
    up: f64,
}

impl Tolerance {
    fn of(autoscaler: &HorizontalPodAutoscaler) -> Self {
        let behavior = autoscaler.spec.behavior.as_ref();
        let share = |amount: Option<&Amount>| {
            let amount = amount.and_then(|amount| Quantity::try_from(amount).ok());
            amount.map_or(TOLERANCE, |amount| amount.as_f64())
        };
        let down = behavior.and_then(|b| b.scale_down.as_ref()?.tolerance.as_ref());
        let up = behavior.and_then(|b| b.scale_up.as_ref()?.tolerance.as_ref());
        Tolerance {
            down: share(down),
            up: share(up),
        }
    }

    pub(super) fn allows(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What a metric asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) replicas: i32,
    /// How the metric is called.
    pub(super) name: String,
}

/// Why a metric asks for nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    /// The reason of the Event and the condition.
    pub(super) reason: &'static str,
    /// What they say.
    pub(super) why: String,
    /// What is said of it among others.
    pub(super) error: String,
}

/// Looks at one metric.
pub(super) fn look(
    autoscaler: &HorizontalPodAutoscaler,
    spec: &MetricSpec,
    target: &Target,
    seen: Seen<'_>,
    now: Timestamp,
) -> Result<(Found, MetricStatus), Failure> {
    let tolerance = Tolerance::of(autoscaler);
    let look = |resource, container, goal: &MetricTarget| {
        let asked = Asked {
            resource,
            container,
            tolerance,
        };
        of_resource(asked, goal, target, seen, now)
    };
    let mut status = MetricStatus {
        type_: spec.type_.clone(),
        ..MetricStatus::default()
    };
    if let Some(source) = &spec.resource {
        let look = look(&source.name, "", &source.target);
        let (found, current) = look.map_err(|why| Failure {
            reason: "FailedGetResourceMetric",
            error: format!("failed to get {} resource metric value: {why}", source.name),
            why,
        })?;
        let name = source.name.clone();
        status.resource = Some(ResourceMetricStatus { current, name });
        return Ok((found, status));
    }
    if let Some(source) = &spec.container_resource {
        let (name, container) = (source.name.clone(), source.container.clone());
        let look = look(&name, &container, &source.target);
        let (found, current) = look.map_err(|why| Failure {
            reason: "FailedGetContainerResourceMetric",
            error: format!("failed to get {container} container metric value: {why}"),
            why,
        })?;
        status.container_resource = Some(ContainerResourceMetricStatus {
            container,
            current,
            name,
        });
        return Ok((found, status));
    }
    let namespace = autoscaler.metadata.namespace.as_deref().unwrap_or_default();
    Err(unknown(spec, namespace))
}

/// A resource of Pods, or of one of their containers.
fn of_resource(
    asked: Asked<'_>,
    goal: &MetricTarget,
    target: &Target,
    seen: Seen<'_>,
    now: Timestamp,
) -> Result<(Found, MetricValueStatus), String> {
    let resource = asked.resource;
    let (goal, what, name) = match (&goal.average_value, goal.average_utilization) {
        (Some(value), _) => {
            let name = format!("{resource} resource");
            (Goal::Value(milli(value)), "usage", name)
        }
        (None, Some(percent)) => {
            let of = match asked.container {
                "" => "resource",
                _ => "container resource",
            };
            let name = format!("{resource} {of} utilization (percentage of request)");
            (Goal::Utilization(percent), "utilization", name)
        }
        (None, None) => {
            let why = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
            return Err(why.to_owned());
        }
    };
    let proposal = propose(asked, goal, target, seen, now);
    let Proposal {
        replicas,
        utilization,
        average,
    } = proposal.map_err(|why| format!("failed to get {resource} {what}: {why}"))?;
    let average = match resource {
        "memory" => Quantity::from_bytes(Quantity::from_milli(average).value()),
        _ => Quantity::from_milli(average),
    };
    let current = MetricValueStatus {
        average_utilization: utilization,
        average_value: Some(Amount(average.canonical())),
        value: None,
    };
    Ok((Found { replicas, name }, current))
}

/// What is said of a metric that is no resource.
fn unknown(spec: &MetricSpec, namespace: &str) -> Failure {
    if let Some(source) = &spec.object {
        return of_object(source, namespace);
    }
    if let Some(source) = &spec.external {
        return external(source, namespace);
    }
    if let Some(source) = &spec.pods {
        let why = format!("unable to get metric {}: {NO_CUSTOM}", source.metric.name);
        return Failure {
            reason: "FailedGetPodsMetric",
            error: format!("failed to get pods metric value: {why}"),
            why,
        };
    }
    let kind = gotext::quote(&spec.type_);
    let why = format!("unknown metric source type {kind}");
    Failure {
        reason: "InvalidMetricSourceType",
        error: why.clone(),
        why,
    }
}

fn of_object(source: &ObjectMetricSource, namespace: &str) -> Failure {
    let (metric, object) = (&source.metric.name, &source.described_object);
    // In this order upstream says it.
    let why = format!(
        "unable to get metric {metric}: {} on {namespace} {}/{NO_CUSTOM}",
        object.kind, object.name
    );
    let inner = match source.target.type_.as_str() {
        "AverageValue" => format!("failed to get {metric} object metric: {why}"),
        _ => why.clone(),
    };
    Failure {
        reason: "FailedGetObjectMetric",
        error: format!("failed to get object metric value: {inner}"),
        why,
    }
}

fn external(source: &ExternalMetricSource, namespace: &str) -> Failure {
    let metric = &source.metric.name;
    let selector = source.metric.selector.as_ref();
    let selector = selector.map_or_else(|| "nil".to_owned(), gotext::label_selector);
    let why = format!(
        "unable to get external metric {namespace}/{metric}/{selector}: unable to fetch metrics from external metrics API: \
         the server could not find the requested resource (get {metric}.external.metrics.k8s.io)"
    );
    let inner = match source.target.average_value {
        Some(_) => format!("failed to get {metric} external metric: {why}"),
        None => format!("failed to get external metric {metric}: {why}"),
    };
    Failure {
        reason: "FailedGetExternalMetric",
        error: format!("failed to get {metric} external metric value: {inner}"),
        why,
    }
}
