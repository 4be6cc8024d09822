//! Quotas as kubectl makes them of flags.

use anyhow::{anyhow, bail};
use api::quantity::Quantity;
use serde_json::{Map, Value, json};

use crate::args::CreateQuotaArgs;

/// A quota of amounts and scopes that are parted by commas.
pub(super) fn quota(args: &CreateQuotaArgs) -> anyhow::Result<Value> {
    let mut hard = Map::new();
    for part in args.hard.split(',').filter(|_| !args.hard.is_empty()) {
        let [name, amount] = part.split('=').collect::<Vec<_>>()[..] else {
            bail!("Invalid argument syntax {part}, expected <resource>=<value>");
        };
        let amount: Quantity = amount.parse().map_err(|why| anyhow!("{why}"))?;
        hard.insert(name.to_owned(), amount.canonical().into());
    }
    let mut spec = Map::new();
    if !hard.is_empty() {
        spec.insert("hard".to_owned(), hard.into());
    }
    if !args.scopes.is_empty() {
        let scopes: Vec<&str> = args.scopes.split(',').collect();
        if scopes.iter().any(|scope| scope.is_empty()) {
            bail!("invalid resource quota scope \"\"");
        }
        spec.insert("scopes".to_owned(), scopes.into());
    }
    Ok(
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": args.name}, "spec": spec, "status": {}}),
    )
}
