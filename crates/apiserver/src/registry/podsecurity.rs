//! Pod Security: what the labels of a namespace allow, looked up for `admission::podsecurity`. Refusals are 403, what is only warned of
//! becomes `Warning` headers, and what is audited goes to the log.

use admission::Subresource;
use admission::podsecurity::{self, Policy, Verdict};
use api::status::{self, StatusError};
use serde_json::Value;

use crate::rest::{Rest, Stored, meta};

/// Judges an object that is about to be stored and valid otherwise. On creation there is no `old`.
pub(super) fn review(
    rest: &Rest,
    part: Subresource,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), StatusError> {
    let resource = rest.group_resource().to_string();
    match (resource.as_str(), part) {
        ("namespaces", Subresource::Main) => namespace(rest, new, old),
        ("pods", Subresource::Main | Subresource::EphemeralContainers | Subresource::Resize) => {
            if old.is_some_and(|old| !podsecurity::is_significant(new, old)) {
                return Ok(());
            }
            judge(rest, new, podsecurity::judge_pod, new)
        }
        (_, Subresource::Main) => match podsecurity::template_of(&resource, new) {
            Some(template) => judge(rest, new, podsecurity::judge_template, template),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn judge(
    rest: &Rest,
    object: &Value,
    judge: fn(&Policy, &Value) -> Verdict,
    pod: &Value,
) -> Result<(), StatusError> {
    let key = format!("/registry/namespaces/{}", rest.target.namespace);
    let Some(namespace) = rest.inner.store.get(&key) else {
        return Ok(());
    };
    let (policy, _) = Policy::of(&Stored::decode(namespace)?.object);
    if policy.is_privileged() {
        return Ok(());
    }
    let verdict = judge(&policy, pod);
    let name = meta(object, "name");
    if let Some(why) = verdict.audit {
        let (namespace, user) = (&rest.target.namespace, &rest.call.user.name);
        tracing::info!(target: "audit", namespace, name, user, "{why}");
    }
    if let Some(why) = verdict.refusal {
        return Err(status::forbidden(&rest.group_resource(), name, why));
    }
    verdict.warning.into_iter().for_each(|text| rest.warn(text));
    Ok(())
}

/// Labels must be readable, and Pods that are there should fit them.
fn namespace(rest: &Rest, new: &Value, old: Option<&Value>) -> Result<(), StatusError> {
    let name = meta(new, "name");
    let enforced = podsecurity::newly_enforced(new, old)
        .map_err(|errors| status::invalid(&rest.group_kind(), name, errors))?;
    let Some(level) = enforced else {
        return Ok(());
    };
    let prefix = format!("/registry/pods/{name}/");
    let (_, entries) = rest.inner.store.range(&prefix, None, 0);
    let pods = entries
        .iter()
        .filter_map(|entry| serde_json::from_slice(&entry.value).ok());
    let pods: Vec<Value> = pods.collect();
    let warnings = podsecurity::existing_pods(name, level, &pods);
    warnings.into_iter().for_each(|text| rest.warn(text));
    Ok(())
}
