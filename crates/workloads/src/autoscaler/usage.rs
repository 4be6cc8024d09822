//! How many Pods keep what they use of a resource near a target (upstream's replica calculator).

use std::collections::BTreeMap;

use api::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::group::{Groups, group};
use super::metric::Tolerance;
use super::{Seen, Target};
use crate::object::name;

/// What a Pod uses.
#[derive(Debug, Clone, PartialEq)]
pub struct PodUse {
    /// The end of the time it was measured over.
    pub at: Timestamp,
    /// How long that was.
    pub window: SignedDuration,
    /// By container and resource.
    pub containers: BTreeMap<String, BTreeMap<String, Quantity>>,
}

/// What Pods use, by their names.
pub type Uses = BTreeMap<String, PodUse>;

/// What a Pod used of one resource.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) at: Timestamp,
    pub(super) window: SignedDuration,
    /// Thousandths.
    value: i64,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// `cpu`.
    pub(super) resource: &'a str,
    /// Of one container; empty for all of a Pod's.
    pub(super) container: &'a str,
    pub(super) tolerance: Tolerance,
}

/// What Pods should use on average.
#[derive(Clone, Copy)]
pub(super) enum Goal {
    /// Percent of what they request.
    Utilization(i32),
    /// Thousandths.
    Value(i64),
}

/// What came of it.
#[derive(Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// Percent of what is requested, where that was asked.
    pub(super) utilization: Option<i32>,
    /// Thousandths that a Pod uses on average.
    pub(super) average: i64,
}

/// How what is used relates to the goal.
struct Ratio {
    ratio: f64,
    utilization: Option<i32>,
    average: i64,
}

/// Thousandths by Pod.
type Values<'a> = BTreeMap<&'a str, i64>;

/// Computes how many Pods there should be.
pub(super) fn propose(
    asked: Asked<'_>,
    goal: Goal,
    target: &Target,
    seen: Seen<'_>,
    now: Timestamp,
) -> Result<Proposal, String> {
    let resource = asked.resource;
    let unable = |why: &str| format!("unable to get metrics for resource {resource}: {why}");
    let uses = seen.uses.map_err(unable)?;
    if uses.is_empty() {
        return Err(unable("no metrics returned from resource metrics API"));
    }
    if seen.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let samples = samples(uses, asked);
    let groups = group(seen.pods, &samples, resource, now);
    let excluded = |name: &str| groups.ignored.contains(name) || groups.unready.contains(name);
    let counted = samples.iter().filter(|(name, _)| !excluded(name));
    let values: Values<'_> = counted.map(|(name, s)| (*name, s.value)).collect();
    if values.is_empty() {
        let why = "did not receive metrics for targeted pods (pods might be unready)";
        return Err(why.to_owned());
    }
    let requests = match goal {
        Goal::Utilization(_) => requests(seen.pods, asked)?,
        Goal::Value(_) => Values::new(),
    };
    let first = ratio(&values, &requests, goal)?;
    let replicas = replicas(
        &first,
        values,
        &groups,
        &requests,
        goal,
        target,
        asked.tolerance,
    )?;
    Ok(Proposal {
        replicas,
        utilization: first.utilization,
        average: first.average,
    })
}

fn replicas<'a>(
    first: &Ratio,
    mut values: Values<'a>,
    groups: &Groups<'a>,
    requests: &Values<'a>,
    goal: Goal,
    target: &Target,
    tolerance: Tolerance,
) -> Result<i32, String> {
    let current = target.replicas;
    let grows = first.ratio > 1.0;
    let with_unready = grows && !groups.unready.is_empty();
    if !with_unready && groups.missing.is_empty() {
        return Ok(match tolerance.allows(first.ratio) {
            true => current,
            false => rounded(first.ratio, groups.ready),
        });
    }
    // Who was not measured uses nothing when there are to be more, and all it may when there are to be fewer.
    let missing = groups.missing.iter();
    if grows {
        values.extend(missing.map(|name| (*name, 0)));
    } else if first.ratio < 1.0 {
        values.extend(missing.map(|name| {
            let all = match goal {
                Goal::Utilization(percent) => {
                    let requested = requests.get(name).copied().unwrap_or(0);
                    requested * i64::from(percent.max(100)) / 100
                }
                Goal::Value(value) => value,
            };
            (*name, all)
        }));
    }
    if with_unready {
        values.extend(groups.unready.iter().map(|name| (*name, 0)));
    }
    let second = ratio(&values, requests, goal)?.ratio;
    let turns = (first.ratio < 1.0 && second > 1.0) || (grows && second < 1.0);
    if tolerance.allows(second) || turns {
        return Ok(current);
    }
    let replicas = rounded(second, values.len());
    let turns = (second < 1.0 && replicas > current) || (second > 1.0 && replicas < current);
    Ok(if turns { current } else { replicas })
}

fn rounded(ratio: f64, pods: usize) -> i32 {
    (ratio * pods as f64).ceil() as i32
}

fn ratio(values: &Values<'_>, requests: &Values<'_>, goal: Goal) -> Result<Ratio, String> {
    match goal {
        Goal::Value(target) => {
            let total: i64 = values.values().sum();
            let average = total / count(values.len());
            Ok(Ratio {
                ratio: average as f64 / target as f64,
                utilization: None,
                average,
            })
        }
        Goal::Utilization(target) => {
            let known = values
                .iter()
                .filter_map(|(name, value)| Some((*value, *requests.get(name)?)));
            let known: Vec<(i64, i64)> = known.collect();
            let used: i64 = known.iter().map(|(value, _)| value).sum();
            let requested: i64 = known.iter().map(|(_, request)| request).sum();
            if requested == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let percent = i32::try_from(used.saturating_mul(100) / requested).unwrap_or(i32::MAX);
            Ok(Ratio {
                ratio: f64::from(percent) / f64::from(target),
                utilization: Some(percent),
                average: used / count(known.len()),
            })
        }
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX).max(1)
}

/// What Pods used of a resource; a Pod with a container of which that is not known was not measured.
fn samples<'a>(uses: &'a Uses, asked: Asked<'_>) -> BTreeMap<&'a str, Sample> {
    let sample = |(name, used): (&'a String, &'a PodUse)| {
        let of = |container: &BTreeMap<String, Quantity>| {
            container.get(asked.resource).map(Quantity::milli_value)
        };
        let value = match asked.container {
            "" if used.containers.is_empty() => None,
            "" => used.containers.values().map(of).sum(),
            container => used.containers.get(container).and_then(of),
        };
        let (at, window) = (used.at, used.window);
        Some((
            name.as_str(),
            Sample {
                at,
                window,
                value: value?,
            },
        ))
    };
    uses.iter().filter_map(sample).collect()
}

/// What Pods request of a resource, in thousandths.
fn requests<'a>(pods: &'a [Pod], asked: Asked<'_>) -> Result<Values<'a>, String> {
    let request = |pod: &'a Pod| {
        let its_name = name(&pod.metadata);
        Ok((its_name, request(pod, its_name, asked)?))
    };
    pods.iter().map(request).collect()
}

fn request(pod: &Pod, its_name: &str, asked: Asked<'_>) -> Result<i64, String> {
    let resource = asked.resource;
    let Some(spec) = &pod.spec else {
        return Ok(0);
    };
    let of_pod = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    if let Some(amount) = of_pod.and_then(|requests| requests.get(resource))
        && asked.container.is_empty()
    {
        return Ok(milli(amount));
    }
    let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    let mut total = 0;
    for container in spec.containers.iter().chain(sidecars) {
        let is_it = container.name == asked.container;
        if !asked.container.is_empty() && !is_it {
            continue;
        }
        let requests = container.resources.as_ref();
        let requests = requests.and_then(|r| r.requests.as_ref());
        let Some(amount) = requests.and_then(|requests| requests.get(resource)) else {
            return Err(format!(
                "missing request for {resource} in container {} of Pod {its_name}",
                container.name
            ));
        };
        total += milli(amount);
        if is_it {
            return Ok(total);
        }
    }
    match asked.container {
        "" => Ok(total),
        container => Err(format!("container {container} not found in Pod {its_name}")),
    }
}

/// Thousandths; what cannot be read is none, which validation sees to.
pub(super) fn milli(amount: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> i64 {
    Quantity::try_from(amount).map_or(0, |amount| amount.milli_value())
}
