//! `rollout status`: how far a rollout is, told with each change until it is done.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;

use super::progress::viewer;
use super::{group_kind, items, kind_of_apps};
use crate::args::RolloutStatusArgs;
use crate::connect::{JSON, Server};
use crate::failure;
use crate::verbs::write::print;
use crate::watching;

/// `carob rollout status`
pub(super) async fn status(server: &Server, args: &RolloutStatusArgs) -> anyhow::Result<ExitCode> {
    if args.revision < 0 {
        bail!("revision must be a positive integer: {}", args.revision);
    }
    let limit = match api::duration::parse_go(&args.timeout).map(u64::try_from) {
        Ok(Ok(nanoseconds)) if nanoseconds > 0 => Some(Duration::from_nanos(nanoseconds)),
        Ok(Ok(_)) => None,
        Ok(Err(_)) => Some(Duration::ZERO),
        Err(error) => bail!(
            "invalid argument {:?} for \"--timeout\" flag: {error}",
            args.timeout
        ),
    };
    let (items, mut failures) = items(server, &args.workloads).await?;
    for item in &items {
        let Some(view) = viewer(kind_of_apps(&item.resource)) else {
            failures.push(anyhow!(
                "no status viewer has been implemented for {}",
                group_kind(&item.resource)
            ));
            continue;
        };
        let following = async {
            server.get(&item.path(), JSON).await?;
            let look = |object: Option<&Value>| {
                let object = object.ok_or_else(|| anyhow!("object has been deleted"))?;
                let progress = view(object, args.revision).map_err(anyhow::Error::msg)?;
                print(&format!("{}\n", progress.line))?;
                Ok((progress.is_done || !args.watch).then_some(()))
            };
            watching::until(server, item, look).await
        };
        let end = match limit {
            None => following.await,
            Some(limit) => tokio::time::timeout(limit, following)
                .await
                .unwrap_or_else(|_| Err(anyhow!("timed out waiting for the condition"))),
        };
        failures.extend(end.err());
    }
    Ok(failure::outcome(&failures))
}
