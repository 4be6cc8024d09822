//! Pod Security admission (KEP-2579): what the labels of a namespace allow its Pods to do, with upstream's texts.
//!
//! Looking up namespaces and Pods, and answering with warnings, is the API server's.

mod checks;
mod policy;

pub use policy::{Level, LevelVersion, Policy, Version};

use std::collections::{BTreeMap, BTreeSet};

use api::field::ErrorList;
use serde_json::Value;

use crate::view::{get, list, text};
use checks::{Subject, Violation, violations};

/// Pods of a namespace that are looked at when it begins to enforce something.
pub const MOST_PODS: usize = 3000;

/// What is said about a Pod, or about an object that makes Pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Why it is refused.
    pub refusal: Option<String>,
    /// What its user is warned of.
    pub warning: Option<String>,
    /// What the operator is told.
    pub audit: Option<String>,
}

/// Judges a Pod that is made or changed.
pub fn judge_pod(policy: &Policy, pod: &Value) -> Verdict {
    judge(policy, pod, true)
}

/// Judges the template of Pods to come: nothing is refused, as the Pods will be.
pub fn judge_template(policy: &Policy, template: &Value) -> Verdict {
    judge(policy, template, false)
}

fn judge(policy: &Policy, pod: &Value, enforce: bool) -> Verdict {
    let subject = subject(pod);
    let told = |lv: LevelVersion, word: &str| {
        let found = violations(lv, subject);
        (!found.is_empty()).then(|| format!("{word} PodSecurity \"{lv}\": {}", details(&found)))
    };
    let refusal = match enforce {
        true => told(policy.enforce, "violates"),
        false => None,
    };
    Verdict {
        // Who is refused need not be warned.
        warning: match refusal {
            Some(_) => None,
            None => told(policy.warn, "would violate"),
        },
        audit: told(policy.audit, "would violate"),
        refusal,
    }
}

fn subject(pod: &Value) -> Subject<'_> {
    Subject {
        metadata: get(pod, "metadata"),
        spec: get(pod, "spec"),
    }
}

/// `privileged (container "a" must not …), hostPort (…)`
fn details(found: &[Violation]) -> String {
    let each = found.iter().map(|v| match v.detail.as_str() {
        "" => v.reason.clone(),
        detail => format!("{} ({detail})", v.reason),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Where an object of a resource that makes Pods has the template of them.
pub fn template_of<'a>(resource: &str, object: &'a Value) -> Option<&'a Value> {
    let pointer = match resource {
        "podtemplates" => "/template",
        "replicationcontrollers"
        | "replicasets.apps"
        | "deployments.apps"
        | "statefulsets.apps"
        | "daemonsets.apps"
        | "jobs.batch" => "/spec/template",
        "cronjobs.batch" => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    object.pointer(pointer)
}

/// Whether a change of a Pod is worth another look: containers came or went, or run another image.
pub fn is_significant(new: &Value, old: &Value) -> bool {
    let containers = |pod: &Value, kind: &str| -> Vec<(String, String)> {
        let all = list(get(get(pod, "spec"), kind)).iter();
        all.map(|c| {
            (
                text(get(c, "name")).to_owned(),
                text(get(c, "image")).to_owned(),
            )
        })
        .collect()
    };
    let images = |pod: &Value, kind: &str| -> Vec<String> {
        containers(pod, kind)
            .into_iter()
            .map(|(_, image)| image)
            .collect()
    };
    let changed = |kind: &str| images(new, kind) != images(old, kind);
    let known = containers(old, "ephemeralContainers");
    ["containers", "initContainers"].into_iter().any(changed)
        || containers(new, "ephemeralContainers")
            .iter()
            .any(|c| !known.contains(c))
}

/// What a Namespace newly enforces, if its Pods have to be looked at because of it; what is wrong with its labels.
///
/// # Errors
/// Labels that cannot be read, unless they were there before.
pub fn newly_enforced(new: &Value, old: Option<&Value>) -> Result<Option<LevelVersion>, ErrorList> {
    let (policy, errors) = Policy::of(new);
    let Some(old) = old else {
        return if errors.is_empty() {
            Ok(None)
        } else {
            Err(errors)
        };
    };
    let (before, errors_before) = Policy::of(old);
    if !errors.is_empty() && errors != errors_before {
        return Err(errors);
    }
    let (new, old) = (policy.enforce, before.enforce);
    let no_stricter = new.version == old.version && new.level <= old.level;
    Ok(Some(new).filter(|_| new.level != Level::Privileged && !no_stricter))
}

/// Warnings about Pods that are there and violate what their namespace begins to enforce.
pub fn existing_pods(namespace: &str, lv: LevelVersion, pods: &[Value]) -> Vec<String> {
    let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for pod in one_of_each_controller_first(pods)
        .into_iter()
        .take(MOST_PODS)
    {
        let reasons: Vec<String> = violations(lv, subject(pod))
            .into_iter()
            .map(|v| v.reason)
            .collect();
        if !reasons.is_empty() {
            let names = found.entry(reasons.join(", ")).or_default();
            names.insert(text(get(get(pod, "metadata"), "name")));
        }
    }
    let mut warnings = Vec::new();
    if pods.len() > MOST_PODS {
        let all = pods.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {all} existing pods"
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {} violate the new PodSecurity enforce level \"{lv}\"",
            api::gotext::quote(namespace)
        ));
    }
    let told = found.into_iter().map(|(reason, names)| {
        let first = names.first().copied().unwrap_or_default();
        match names.len() {
            1 => format!("{first}: {reason}"),
            2 => format!("{first} (and 1 other pod): {reason}"),
            count => format!("{first} (and {} other pods): {reason}", count - 1),
        }
    });
    let mut told: Vec<String> = told.collect();
    told.sort();
    warnings.extend(told);
    warnings
}

/// Pods of one controller are alike, so that the others of them can wait.
fn one_of_each_controller_first(pods: &[Value]) -> Vec<&Value> {
    let mut controllers = BTreeSet::new();
    let (first, rest): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(|pod| {
        let owners = list(get(get(pod, "metadata"), "ownerReferences")).iter();
        let mut controller = owners.filter(|owner| *get(owner, "controller") == Value::Bool(true));
        match controller.next() {
            Some(owner) => controllers.insert(text(get(owner, "uid"))),
            None => true,
        }
    });
    first.into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests;
