//! What namespaces may have, and what their objects may ask for.

use std::collections::BTreeSet;

use api::quantity::{Format, Quantity};
use serde_json::Value;

use super::tabs::Tabs;
use super::{list, name_and_namespace, text};

/// The lists of a limit, as their columns stand.
const LISTS: [&str; 5] = [
    "min",
    "max",
    "defaultRequest",
    "default",
    "maxLimitRequestRatio",
];
const HEADS: &str =
    "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio";
const RULES: &str =
    "----\t--------\t---\t---\t---------------\t-------------\t-----------------------";

/// Limits.
pub(super) fn limits(out: &mut Tabs, limits: &Value) {
    name_and_namespace(out, limits);
    out.line(0, HEADS);
    out.line(0, RULES);
    rows(out, "", limits);
}

fn rows(out: &mut Tabs, prefix: &str, limits: &Value) {
    for limit in list(&limits["spec"]["limits"]) {
        let names = LISTS.iter().flat_map(|list| limit[list].as_object());
        let names: BTreeSet<&String> = names.flat_map(|list| list.keys()).collect();
        for name in names {
            let amounts = LISTS.map(|list| match quantity(&limit[list][name]) {
                Some(amount) => amount.to_string(),
                None => "-".to_owned(),
            });
            let kind = text(&limit["type"]);
            out.line(0, format!("{prefix}{kind}\t{name}\t{}", amounts.join("\t")));
        }
    }
}

/// A quota.
pub(super) fn quota(out: &mut Tabs, quota: &Value) {
    name_and_namespace(out, quota);
    scopes(out, 0, " * ", quota);
    out.line(0, "Resource\tUsed\tHard");
    out.line(0, "--------\t----\t----");
    amounts(out, 0, quota, |used, hard| {
        match (used.format(), hard.format()) {
            (used, hard) if used == hard => None,
            (_, Format::BinarySi) => Some(Quantity::from_bytes(used.value())),
            _ => Some(Quantity::from_i64(used.value())),
        }
    });
}

fn scopes(out: &mut Tabs, level: usize, mark: &str, quota: &Value) {
    let mut scopes: Vec<&str> = list(&quota["spec"]["scopes"]).iter().map(text).collect();
    if scopes.is_empty() {
        return;
    }
    scopes.sort_unstable();
    out.field(level, "Scopes", scopes.join(", "));
    for scope in scopes {
        let help = match scope {
            "Terminating" => {
                "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system."
            }
            "NotTerminating" => {
                "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate."
            }
            "BestEffort" => {
                "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service."
            }
            "NotBestEffort" => {
                "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service."
            }
            _ => continue,
        };
        out.line(level, format!("{mark}{help}"));
    }
}

/// What is used of what, where `shown` may say it otherwise.
fn amounts(
    out: &mut Tabs,
    level: usize,
    quota: &Value,
    shown: impl Fn(&Quantity, &Quantity) -> Option<Quantity>,
) {
    let status = &quota["status"];
    let hard = status["hard"].as_object().into_iter().flatten();
    let mut names: Vec<&String> = hard.map(|(name, _)| name).collect();
    names.sort_unstable();
    for name in names {
        let of = |list: &str| quantity(&status[list][name]).unwrap_or(Quantity::from_i64(0));
        let (used, hard) = (of("used"), of("hard"));
        let used = shown(&used, &hard).unwrap_or(used);
        out.line(level, format!("{name}\t{used}\t{hard}"));
    }
}

/// The quotas and limits of a namespace.
pub(super) fn of_namespace(out: &mut Tabs, parts: &[Value]) {
    let of =
        |kind: &str| -> Vec<&Value> { parts.iter().filter(|part| part["kind"] == kind).collect() };
    out.line(0, "");
    let quotas = of("ResourceQuota");
    match quotas.is_empty() {
        true => out.line(0, "No resource quota."),
        false => out.line(0, "Resource Quotas"),
    }
    for quota in quotas {
        out.field(1, "Name", text(&quota["metadata"]["name"]));
        scopes(out, 1, "* ", quota);
        out.line(1, "Resource\tUsed\tHard");
        out.line(1, "--------\t---\t---");
        amounts(out, 1, quota, |_, _| None);
    }
    out.line(0, "");
    let limits = of("LimitRange");
    if limits.is_empty() {
        out.line(0, "No LimitRange resource.");
        return;
    }
    out.line(0, "Resource Limits");
    out.line(0, format!(" {HEADS}"));
    out.line(0, format!(" {RULES}"));
    for limits in limits {
        rows(out, " ", limits);
    }
}

fn quantity(value: &Value) -> Option<Quantity> {
    Quantity::from_json(value).ok().filter(|_| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quotas_and_limits_are_described() {
        let amounts =
            |cpu: &str, memory: &str| json!({"requests.cpu": cpu, "requests.memory": memory});
        let quota = json!({"kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "n"}, "spec": {"scopes": ["NotBestEffort"]},
            "status": {"hard": amounts("2", "1Gi"), "used": amounts("1500m", "0")}});
        let limits = json!({"kind": "LimitRange", "metadata": {"name": "l", "namespace": "n"},
            "spec": {"limits": [{"type": "Container", "max": {"memory": "1Gi", "cpu": "1"}, "default": {"cpu": "500m"}}]}});
        let described = |describe: fn(&mut Tabs, &Value), object: &Value| {
            let mut out = Tabs::default();
            describe(&mut out, object);
            out.finish()
        };
        assert_eq!(
            described(super::quota, &quota),
            "Name:       q\nNamespace:  n\nScopes:     NotBestEffort\n * Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service.\nResource         Used   Hard\n--------         ----   ----\nrequests.cpu     1500m  2\nrequests.memory  0      1Gi\n"
        );
        assert_eq!(
            described(super::limits, &limits),
            "Name:       l\nNamespace:  n\nType        Resource  Min  Max  Default Request  Default Limit  Max Limit/Request Ratio\n----        --------  ---  ---  ---------------  -------------  -----------------------\nContainer   cpu       -    1    -                500m           -\nContainer   memory    -    1Gi  -                -              -\n"
        );
        let mut out = Tabs::default();
        of_namespace(&mut out, &[]);
        assert_eq!(
            out.finish(),
            "\nNo resource quota.\n\nNo LimitRange resource.\n"
        );
        let mut out = Tabs::default();
        of_namespace(&mut out, &[quota, limits]);
        assert_eq!(
            out.finish(),
            "\nResource Quotas\n  Name:    q\n  Scopes:  NotBestEffort\n  * Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service.\n  Resource         Used   Hard\n  --------         ---    ---\n  requests.cpu     1500m  2\n  requests.memory  0      1Gi\n\nResource Limits\n Type       Resource  Min  Max  Default Request  Default Limit  Max Limit/Request Ratio\n ----       --------  ---  ---  ---------------  -------------  -----------------------\n Container  cpu       -    1    -                500m           -\n Container  memory    -    1Gi  -                -              -\n"
        );
    }
}
