//! What a Pod's containers need together (spec §12.2).

use std::collections::BTreeMap;

use api::quantity::Quantity;
use serde_json::Value;

use crate::resources;
use crate::view::{dig, get, list, text};

/// Requests or limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// `resources.requests`.
    Requests,
    /// `resources.limits`.
    Limits,
}

impl Which {
    /// Its name in `resources`.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// Amounts by resource.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// Adds `more` to what there is.
pub(crate) fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = total
            .get(name)
            .map_or_else(|| amount.clone(), |have| have.plus(amount));
        total.insert(name.clone(), sum);
    }
}

fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if total.get(name).is_none_or(|have| have < amount) {
            total.insert(name.clone(), amount.clone());
        }
    }
}

/// The sum over app containers and sidecars, or what init needs at its peak if that is more. Overhead is not included.
pub(crate) fn containers(spec: &Value, which: Which) -> Amounts {
    let path = ["resources", which.field()];
    sum(spec, |container, _| resources::list(dig(container, &path)))
}

/// As [`containers`], of other amounts; whether a container lasts, as app containers and sidecars do, is said with it.
fn sum(spec: &Value, amounts: impl Fn(&Value, bool) -> Amounts) -> Amounts {
    let mut total = Amounts::new();
    for container in list(get(spec, "containers")) {
        add(&mut total, &amounts(container, true));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in list(get(spec, "initContainers")) {
        let is_sidecar = super::is_sidecar(container);
        let mut needed = amounts(container, is_sidecar);
        if is_sidecar {
            add(&mut total, &needed);
            add(&mut sidecars, &needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut peak, &needed);
    }
    raise(&mut total, &peak);
    total
}

/// What a Pod stands for while it is resized: of each container the most of what it asks for, what it was granted and what is in
/// force; with the Pod's own resources and overhead.
pub(crate) fn effective(pod: &Value, which: Which) -> Amounts {
    let (spec, status) = (get(pod, "spec"), get(pod, "status"));
    let is_refused = list(get(status, "conditions")).iter().any(|condition| {
        text(get(condition, "type")) == "PodResizePending"
            && text(get(condition, "reason")) == "Infeasible"
    });
    let mut total = sum(spec, |container, lasts| {
        let asked = resources::list(dig(container, &["resources", which.field()]));
        let Some(seen) = seen(status, container).filter(|_| lasts) else {
            return asked;
        };
        let mut most = match is_refused {
            true => Amounts::new(),
            false => asked,
        };
        raise(
            &mut most,
            &resources::list(dig(seen, &["resources", which.field()])),
        );
        if which == Which::Requests {
            raise(&mut most, &resources::list(get(seen, "allocatedResources")));
        }
        most
    });
    let own = resources::list(dig(spec, &["resources", which.field()]));
    total.extend(
        own.into_iter()
            .filter(|(name, _)| resources::is_pod_level(name)),
    );
    let mut overhead = resources::list(get(spec, "overhead"));
    if which == Which::Limits {
        overhead.retain(|name, _| total.get(name).is_some_and(|limit| !limit.is_zero()));
    }
    add(&mut total, &overhead);
    total
}

/// The status of a container, if it says what is in force.
fn seen<'a>(status: &'a Value, container: &Value) -> Option<&'a Value> {
    let all = ["containerStatuses", "initContainerStatuses"].map(|field| list(get(status, field)));
    let name = get(container, "name");
    let mut all = all.into_iter().flatten();
    all.find(|seen| get(seen, "name") == name)
        .filter(|seen| !get(seen, "resources").is_null())
}

/// What the Pod as a whole asks for: its own requests, or those of its containers where it has none, and overhead.
pub(super) fn requests(spec: &Value) -> Amounts {
    let mut total = containers(spec, Which::Requests);
    total.extend(resources::list(dig(spec, &["resources", "requests"])));
    add(&mut total, &resources::list(get(spec, "overhead")));
    total
}

/// The quality of service class (spec §12.1).
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = get(pod, "spec");
    let whole = get(spec, "resources");
    let parts: Vec<&Value> = if whole.is_object() {
        vec![whole]
    } else {
        ["containers", "initContainers"]
            .iter()
            .flat_map(|name| list(get(spec, name)))
            .map(|container| get(container, "resources"))
            .collect()
    };
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut guaranteed = true;
    for part in parts {
        let counted = |name: &str| -> Amounts {
            let all = resources::list(get(part, name));
            all.into_iter()
                .filter(|(name, amount)| {
                    ["cpu", "memory"].contains(&name.as_str()) && amount.signum() > 0
                })
                .collect()
        };
        let limited = counted("limits");
        guaranteed &= limited.len() == 2;
        add(&mut requests, &counted("requests"));
        add(&mut limits, &limited);
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal = requests
        .iter()
        .all(|(name, amount)| limits.get(name) == Some(amount));
    if guaranteed && equal && requests.len() == limits.len() {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// The class a Pod was given when it was made, or would be given now.
pub(crate) fn stored_qos_class(pod: &Value) -> &str {
    match text(dig(pod, &["status", "qosClass"])) {
        "" => qos_class(pod),
        class => class,
    }
}
