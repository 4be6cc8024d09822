//! What LimitRanges do to Pods and claims of their namespace (upstream's plugin LimitRanger): defaults for containers that ask for
//! nothing, and bounds.

use api::gotext;
use api::quantity::Quantity;
use serde_json::Value;

use crate::pod::aggregate::{self, Amounts, Which};
use crate::resources::{self, MAX_MILLI};
use crate::view::{dig, entries, entry, get, list, list_mut, object, text};

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Gives the containers of a Pod what `ranges` have for those that do not say it themselves.
pub fn fill(pod: &mut Value, ranges: &[Value]) {
    for range in ranges {
        let mut said = Vec::new();
        for (field, called) in [
            ("containers", "container"),
            ("initContainers", "init container"),
        ] {
            for container in list_mut(entry(pod, "spec"), field) {
                said.extend(fill_container(container, called, range));
            }
        }
        if !said.is_empty() {
            let text = format!("LimitRanger plugin set: {}", said.join("; "));
            let annotations = entry(entry(pod, "metadata"), "annotations");
            object(annotations).insert(ANNOTATION.to_owned(), text.into());
        }
    }
}

fn fill_container(container: &mut Value, called: &str, range: &Value) -> Vec<String> {
    let name = text(get(container, "name")).to_owned();
    let mut said = Vec::new();
    for (list, source, word) in [
        ("requests", "defaultRequest", "request"),
        ("limits", "default", "limit"),
    ] {
        let mut added = Vec::new();
        for item in items(range, "Container") {
            for (resource, amount) in entries(get(item, source)) {
                if dig(container, &["resources", list, resource]).is_null() {
                    let amounts = entry(entry(container, "resources"), list);
                    object(amounts).insert(resource.to_owned(), amount.clone());
                    added.push(resource);
                }
            }
        }
        if !added.is_empty() {
            said.push(format!("{} {word} for {called} {name}", added.join(", ")));
        }
    }
    said
}

/// What is said of things of one type.
fn items<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let items = list(dig(range, &["spec", "limits"])).iter();
    items.filter(move |item| text(get(item, "type")) == kind)
}

/// Why one of `ranges` does not allow a Pod, of all it has to say.
pub fn check_pod(pod: &Value, ranges: &[Value]) -> Result<(), String> {
    first(ranges, |range| pod_errors(pod, range))
}

/// Why one of `ranges` does not allow a claim for storage.
pub fn check_claim(claim: &Value, ranges: &[Value]) -> Result<(), String> {
    let requests = resources::list(dig(claim, &["spec", "resources", "requests"]));
    first(ranges, |range| {
        let items = items(range, "PersistentVolumeClaim");
        items
            .flat_map(|item| claim_errors(item, &requests))
            .collect()
    })
}

fn first(ranges: &[Value], errors: impl Fn(&Value) -> Vec<String>) -> Result<(), String> {
    let found = ranges.iter().map(errors).find(|errors| !errors.is_empty());
    found.map_or(Ok(()), |errors| Err(gotext::aggregate(errors)))
}

fn claim_errors(item: &Value, requests: &Amounts) -> Vec<String> {
    let asked = Asked {
        kind: "PersistentVolumeClaim",
        requests,
        limits: &Amounts::new(),
    };
    let min = of(item, "min", |name, bound| asked.at_least(name, bound));
    let max = of(item, "max", |name, bound| {
        asked.requests_at_most(name, bound)
    });
    min.into_iter().chain(max).collect()
}

fn pod_errors(pod: &Value, range: &Value) -> Vec<String> {
    let spec = get(pod, "spec");
    let mut errors = Vec::new();
    for item in list(dig(range, &["spec", "limits"])) {
        match text(get(item, "type")) {
            "Container" => {
                let containers =
                    ["containers", "initContainers"].map(|field| list(get(spec, field)));
                for container in containers.into_iter().flatten() {
                    let amounts = |name| resources::list(dig(container, &["resources", name]));
                    let (requests, limits) = (amounts("requests"), amounts("limits"));
                    errors.extend(bounds(
                        item,
                        &Asked {
                            kind: "Container",
                            requests: &requests,
                            limits: &limits,
                        },
                    ));
                }
            }
            "Pod" => {
                let [requests, limits] =
                    [Which::Requests, Which::Limits].map(|which| whole(spec, which));
                errors.extend(bounds(
                    item,
                    &Asked {
                        kind: "Pod",
                        requests: &requests,
                        limits: &limits,
                    },
                ));
            }
            _ => {}
        }
    }
    errors
}

/// What a Pod asks for as a whole: here, of its own resources, cpu and memory go before those of its containers.
fn whole(spec: &Value, which: Which) -> Amounts {
    let mut total = aggregate::containers(spec, which);
    let own = resources::list(dig(spec, &["resources", which.field()]));
    total.extend(
        own.into_iter()
            .filter(|(name, _)| ["cpu", "memory"].contains(&&**name)),
    );
    total
}

fn bounds(item: &Value, asked: &Asked<'_>) -> Vec<String> {
    let mut errors = of(item, "min", |name, bound| asked.at_least(name, bound));
    errors.extend(of(item, "max", |name, bound| asked.at_most(name, bound)));
    errors.extend(of(item, "maxLimitRequestRatio", |name, bound| {
        asked.in_ratio(name, bound)
    }));
    errors
}

fn of(item: &Value, list: &str, check: impl Fn(&str, &Quantity) -> Option<String>) -> Vec<String> {
    let bounds = resources::list(get(item, list));
    bounds
        .iter()
        .filter_map(|(name, bound)| check(name, bound))
        .collect()
}

/// What a thing of a type asks for.
struct Asked<'a> {
    kind: &'a str,
    requests: &'a Amounts,
    limits: &'a Amounts,
}

impl Asked<'_> {
    fn at_least(&self, name: &str, bound: &Quantity) -> Option<String> {
        let rule = format!("minimum {name} usage per {} is {bound}", self.kind);
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{rule}.  No request is specified"));
        };
        let limit = self.limits.get(name);
        let [request_is, limit_is, bound] = alike([Some(request), limit, Some(bound)]);
        if request_is < bound {
            return Some(format!("{rule}, but request is {request}"));
        }
        let limit = limit.filter(|_| limit_is < bound)?;
        Some(format!("{rule}, but limit is {limit}"))
    }

    fn at_most(&self, name: &str, bound: &Quantity) -> Option<String> {
        let rule = format!("maximum {name} usage per {} is {bound}", self.kind);
        let Some(limit) = self.limits.get(name) else {
            return Some(format!("{rule}.  No limit is specified"));
        };
        let request = self.requests.get(name);
        let [request_is, limit_is, bound] = alike([request, Some(limit), Some(bound)]);
        if limit_is > bound {
            return Some(format!("{rule}, but limit is {limit}"));
        }
        let request = request.filter(|_| request_is > bound)?;
        Some(format!("{rule}, but request is {request}"))
    }

    fn requests_at_most(&self, name: &str, bound: &Quantity) -> Option<String> {
        let rule = format!("maximum {name} usage per {} is {bound}", self.kind);
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{rule}.  No request is specified"));
        };
        let [request_is, _, bound] = alike([Some(request), None, Some(bound)]);
        (request_is > bound).then(|| format!("{rule}, but request is {request}"))
    }

    fn in_ratio(&self, name: &str, bound: &Quantity) -> Option<String> {
        let rule = format!(
            "{name} max limit to request ratio per {} is {bound}",
            self.kind
        );
        let (request, limit) = (self.requests.get(name), self.limits.get(name));
        let [request, limit, _] = alike([request, limit, Some(bound)]);
        if request == 0 {
            return Some(format!(
                "{rule}, but no request is specified or request is 0"
            ));
        }
        if limit == 0 {
            return Some(format!("{rule}, but no limit is specified or limit is 0"));
        }
        let ratio = limit as f64 / request as f64;
        let is_above = match bound.value() <= MAX_MILLI {
            true => ratio * 1000.0 > bound.milli_value() as f64,
            false => ratio > bound.value() as f64,
        };
        is_above.then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
    }
}

/// Amounts in thousandths, or whole where one of them is too large for that; what is absent is 0.
fn alike(amounts: [Option<&Quantity>; 3]) -> [i64; 3] {
    let all = amounts.iter().flatten();
    let is_small = all
        .map(|amount| amount.value())
        .all(|value| value <= MAX_MILLI);
    amounts.map(|amount| match (amount, is_small) {
        (None, _) => 0,
        (Some(amount), true) => amount.milli_value(),
        (Some(amount), false) => amount.value(),
    })
}
